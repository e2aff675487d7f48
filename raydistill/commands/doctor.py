"""`raydistill doctor`: what is wrong with this machine or cluster, and what to do about it.

It looks, and leaves nothing behind.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from raydistill import ray_address
from raydistill.cluster import nodes, runtime
from raydistill.cluster.nodes import Answer
from raydistill.commands import doctor_checks, doctor_step
from raydistill.commands.doctor_checks import Finding
from raydistill.commands.doctor_facts import FACTS_SEC, node_facts
from raydistill.config.command_options import DoctorOptions
from raydistill.errors import ConfigError, StoreError
from raydistill.records import mirror, owners, remote, store
from raydistill.sweep import tracking_store
from raydistill.terminal import Terminal


def run(options: DoctorOptions) -> int:
    """Prints every finding; returns the exit code: 1 where a check fails, else 0."""
    if options.step is not None:
        return doctor_step.run(options)
    if options.set or options.stage != "student" or options.resident:
        raise ConfigError("--set, --stage, --resident: they are about --step, which is not given; add it")
    findings = examine(mirror.folder_of(options.store), options.mlflow, options.experiment)
    states = [finding.state for finding in findings]
    if options.as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        terminal = Terminal()
        for finding in findings:
            terminal.entry(f"{finding.state:6}{finding.check:16}", f"{finding.where}: {finding.what}")
            if finding.advice:
                terminal.entry(f"{'':22}-> ", finding.advice)
        counts = [f"{states.count(state)} {state}" for state in ("ok", "warn", "fail")]
        terminal.console.print(", ".join(counts))
    return int("fail" in states)


def examine(folder: Path, mlflow: str | None, experiment: str = "raydistill") -> list[Finding]:
    """Every finding, on the cluster that RAY_ADDRESS names or else on an embedded one.

    Args:
        folder: the results folder that sweeps will be given.
        mlflow: tracking URI that they will be given; None: the default, in the results folder.
        experiment: name of the MLflow experiment that they will be given.
    """
    folder, embedded = folder.absolute(), ray_address() is None
    findings = [doctor_checks.check_authentication(embedded)]
    with _probe(folder) as (probe, trouble):
        what = trouble or f"{folder} can be written"
        findings.append(Finding("store", "driver", "fail" if trouble else "ok", what))
        try:
            runtime.start_ray(dashboard=False)
        except Exception as error:  # whatever Ray raises: that is what the doctor is asked about
            findings.append(doctor_checks.check_start(error, embedded))
            answers = [Answer("this machine", "", node_facts(str(folder), probe, ""), "")]
            skews, uncertain_sec = list[Answer](), 0.0
        else:
            address = nodes.cluster_address()
            answers = nodes.on_every_node(node_facts, str(folder), probe, address, timeout_sec=FACTS_SEC)
            how = "an embedded Ray" if embedded else "connected"
            findings.append(Finding("ray", "driver", "ok", f"{how}, {len(answers)} nodes"))
            skews, uncertain_sec = _skews()
        finally:
            runtime.stop_ray()
        findings += doctor_checks.check_versions(answers)
        findings += [doctor_checks.check_clock(skew, uncertain_sec) for skew in skews]
        for answer in answers:
            if not answer.error:
                findings += doctor_checks.check_gpus(answer) + doctor_checks.check_space(answer)
                findings += doctor_checks.check_ports(answer, embedded)
                findings += [] if trouble else doctor_checks.check_storage(answer, folder)
    uri, its_folder = (mlflow, None) if mlflow else (tracking_store.default_uri(folder), folder)
    findings.append(doctor_checks.check_tracking(uri, its_folder, experiment))
    if embedded:
        findings.append(doctor_checks.check_dashboard_port())
    return findings


def _now() -> float:
    return time.time()


def _skews() -> tuple[list[Answer], float]:
    """By how many seconds the clock of each node is ahead of the driver's, and how far that may be off."""
    before = time.time()
    answers = nodes.on_every_node(_now, timeout_sec=FACTS_SEC)
    uncertain_sec = (time.time() - before) / 2
    skews = [
        answer if answer.error else answer._replace(value=answer.value - before - uncertain_sec)
        for answer in answers
    ]
    return skews, uncertain_sec


@contextlib.contextmanager
def _probe(folder: Path) -> Iterator[tuple[str, str]]:
    """Inside, a file is in the store: its name, and "" or why it could not be written.

    What was made is removed, the store, too, where there was none.
    """
    probe, trouble = f".doctor-{owners.mark()}", ""
    was_there, had_version = folder.exists(), (folder / "store.json").exists()
    try:
        store.open_store(folder)
        (folder / probe).write_text(probe)
        remote.push(folder / probe)
    except (StoreError, OSError) as error:
        trouble = str(error)
    try:
        yield probe, trouble
    finally:
        if folder.is_dir():
            for path in folder.glob(f"{probe}*"):
                remote.remove(path)
            if not had_version and [path.name for path in folder.iterdir()] == ["store.json"]:
                remote.remove(folder / "store.json")
            if not was_there:
                with contextlib.suppress(OSError):  # it is not empty: somebody uses it by now
                    folder.rmdir()
