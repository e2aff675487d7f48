"""What is wrong with this machine or cluster, and what to do about it. It looks, and leaves nothing behind.

Facts are gathered on every node by one plain function; each check is a function from facts to findings.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil

from raydistill import ray_address
from raydistill.cluster import nodes, runtime
from raydistill.cluster.nodes import Answer
from raydistill.errors import ConfigError, StoreError
from raydistill.records import remote, store
from raydistill.sweep import tracking
from raydistill.terminal import Terminal

_DASHBOARD_PORT = 8265
_SKEW_WARN_SEC, _SKEW_FAIL_SEC = 2.0, 60.0
_DISK_WARN_GB = 10.0
_SHM_WARN_GB = 2.0
_FACTS_SEC = 120.0
_ASK_TORCH = "import json, torch; print(json.dumps([torch.cuda.device_count(), torch.__version__, torch.version.cuda]))"


class Finding(NamedTuple):
    check: str
    where: str
    """Which node; "driver" for what is looked at once, where the command runs."""
    state: Literal["ok", "warn", "fail"]
    what: str
    advice: str = ""


def run(folder: Path, mlflow: str | None, *, as_json: bool) -> int:
    """Prints every finding; returns 1 where one fails, else 0."""
    findings = examine(folder, mlflow)
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        terminal = Terminal()
        for finding in findings:
            terminal.entry(f"{finding.state:6}{finding.check:16}", f"{finding.where}: {finding.what}")
            if finding.advice:
                terminal.entry(f"{'':22}-> ", finding.advice)
        states = [finding.state for finding in findings]
        counts = [f"{states.count(state)} {state}" for state in ("ok", "warn", "fail")]
        terminal.console.print(", ".join(counts))
    return int(any(finding.state == "fail" for finding in findings))


def examine(folder: Path, mlflow: str | None) -> list[Finding]:
    """Every finding, on the cluster that RAY_ADDRESS names or else on an embedded one."""
    folder = folder.absolute()
    embedded = ray_address() is None
    findings = [check_authentication(embedded)]
    with _probed(folder) as (probe, trouble):
        findings.append(
            Finding("store", "driver", "fail" if trouble else "ok", trouble or f"{folder} can be written")
        )
        try:
            runtime.start_ray(dashboard=False)
        except Exception as error:  # whatever Ray raises: that is what the doctor is asked about
            findings.append(check_start(error, embedded))
            answers = [Answer("this machine", "", node_facts(str(folder), probe, ""), "")]
            skews: list[Answer] = []
            uncertain_sec = 0.0
        else:
            answers = nodes.on_every_node(
                node_facts, str(folder), probe, nodes.cluster_address(), timeout_sec=_FACTS_SEC
            )
            findings.append(
                Finding(
                    "ray",
                    "driver",
                    "ok",
                    f"{'an embedded Ray' if embedded else 'connected'}, {len(answers)} nodes",
                )
            )
            before = time.time()
            skews = nodes.on_every_node(_now, timeout_sec=_FACTS_SEC)
            uncertain_sec = (time.time() - before) / 2
            skews = [
                skew if skew.error else skew._replace(value=skew.value - before - uncertain_sec)
                for skew in skews
            ]
        finally:
            runtime.stop_ray()
        findings += check_versions(answers) + [check_clock(skew, uncertain_sec) for skew in skews]
        for answer in answers:
            if not answer.error:
                findings += check_gpus(answer) + check_space(answer) + check_ports(answer, embedded)
                findings += [] if trouble else check_storage(answer, folder)
    findings.append(_check_tracking(mlflow or tracking.default_uri(folder), None if mlflow else folder))
    if embedded:
        findings.append(check_dashboard_port())
    return findings


# ---- facts, on every node ----------------------------------------------------------------------------------


def node_facts(folder: str, probe: str, cluster: str) -> dict[str, Any]:
    """What a node sees. `probe`: the name of a file in `folder` that the driver wrote, which this node answers with another."""
    shm = Path("/dev/shm")
    return {
        "versions": nodes.versions(),
        "gpus": _devices(),
        "torch": _torch_sees(),
        "storage": _answer_probe(Path(folder), probe),
        "disk_gb": _free_gb(Path(folder)),
        "temporary_gb": _free_gb(Path(tempfile.gettempdir())),
        "shm_gb": shutil.disk_usage(shm).total / 2**30 if shm.exists() else None,
        "listening": _listening(cluster),
    }


def _now() -> float:
    return time.time()


def _devices() -> list[str]:
    """Name, memory and driver of each GPU, as `nvidia-smi` says; none where there is no such command."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
            .stdout.strip()
            .splitlines()
        )
    except (OSError, subprocess.SubprocessError):
        return []


def _torch_sees() -> dict[str, Any]:
    """Asked in a process of its own: Ray hides the GPUs from a worker that reserves none."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_FACTS_SEC / 2,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["torch cannot be imported"])[-1]}
    num_gpus, version, cuda = json.loads(done.stdout.splitlines()[-1])
    return {"num_gpus": num_gpus, "version": version, "cuda": cuda, "error": ""}


def _answer_probe(folder: Path, probe: str) -> dict[str, str]:
    name = f"{probe}-{secrets.token_hex(4)}"
    try:
        remote.pull(folder / probe)
        (folder / probe).read_text()
        (folder / name).write_text(name)
        remote.push(folder / name)
    except (StoreError, OSError) as error:
        return {"name": name, "error": str(error)}
    return {"name": name, "error": ""}


def _free_gb(path: Path) -> float:
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(there).free / 2**30


def _listening(cluster: str) -> list[str]:
    """host:port of every socket on which this cluster's own servers listen on this node.

    They have the cluster's address on their command lines; its control service, `gcs_server`, listens there.
    """
    found: set[str] = set()
    for process in psutil.process_iter() if cluster else ():
        with contextlib.suppress(psutil.Error):
            is_control, is_ours = (
                process.name() == "gcs_server",
                any(word.endswith(cluster) for word in process.cmdline()),
            )
            if is_control or is_ours:
                places = [
                    connection.laddr
                    for connection in process.net_connections("tcp")
                    if connection.status == psutil.CONN_LISTEN
                ]
                if is_ours or any(str(each.port) == cluster.rpartition(":")[2] for each in places):
                    found |= {f"{each.ip.removeprefix('::ffff:')}:{each.port}" for each in places}
    return sorted(found)


# ---- checks ------------------------------------------------------------------------------------------------


def check_authentication(embedded: bool) -> Finding:
    mode = os.environ.get("RAY_AUTH_MODE")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray/auth_token")
    if embedded:
        return Finding(
            "authentication",
            "driver",
            "ok",
            "an embedded Ray listens on loopback alone and makes its own token",
        )
    if mode == "disabled":
        advice = "whoever reaches the ports runs code as you; use RAY_AUTH_MODE=token"
        return Finding("authentication", "driver", "warn", "RAY_AUTH_MODE=disabled", advice)
    if mode != "token":
        return Finding(
            "authentication",
            "driver",
            "warn",
            f"RAY_AUTH_MODE is {mode or 'not set'}: what Ray then does depends on its history on each machine",
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, the same on all nodes and where you submit from",
        )
    if "RAY_AUTH_TOKEN" in os.environ:
        return Finding(
            "authentication", "driver", "ok", "RAY_AUTH_MODE=token, the token is in RAY_AUTH_TOKEN"
        )
    try:
        is_empty, readable_by_others = not path.read_text().strip(), path.stat().st_mode & 0o077
    except OSError as error:
        return Finding(
            "authentication",
            "driver",
            "fail",
            f"no token: {error}",
            "copy the head's token file there, mode 600",
        )
    if is_empty:
        return Finding(
            "authentication",
            "driver",
            "fail",
            f"{path} is empty",
            "copy the head's token file there, mode 600",
        )
    if readable_by_others:
        return Finding(
            "authentication", "driver", "warn", f"others may read the token {path}", f"chmod 600 {path}"
        )
    return Finding("authentication", "driver", "ok", f"RAY_AUTH_MODE=token, token in {path}")


def check_start(error: Exception, embedded: bool) -> Finding:
    """Why Ray could not be started or joined."""
    if isinstance(error, ConfigError):  # joining says itself what is wrong, then what to do
        what, _, advice = str(error).partition("; ")
        return Finding("ray", "driver", "fail", what, advice)
    advice = (
        "look into /tmp/ray/session_latest/logs"
        if embedded
        else "is the head up, and is RAY_ADDRESS its host:port?"
    )
    return Finding(
        "ray", "driver", "fail", f"{type(error).__name__}: {str(error).strip().splitlines()[0]}", advice
    )


def check_versions(answers: Sequence[Answer]) -> list[Finding]:
    expected = nodes.versions()
    shown = ", ".join(f"{name} {version}" for name, version in expected.items())
    asked = [
        answer if answer.error else answer._replace(value=answer.value["versions"]) for answer in answers
    ]
    findings = [Finding("versions", "driver", "ok", shown)]
    for node, name, what in nodes.differences(expected, asked):
        if name in nodes.MUST_MATCH:
            findings.append(
                Finding(
                    "versions",
                    node,
                    "fail",
                    what,
                    "install the driver's versions there, or set PYTHONPATH to the same tree",
                )
            )
        else:
            findings.append(
                Finding(
                    "versions",
                    node,
                    "warn",
                    what,
                    "only the driver uses it; a driver on that node would differ",
                )
            )
    return findings


def check_clock(skew: Answer, uncertain_sec: float) -> Finding:
    """`skew.value`: seconds by which the node's clock is ahead of the driver's, known to within `uncertain_sec`."""
    if skew.error:
        return Finding("clock", skew.node, "fail", skew.error, "look at that node: it does not run tasks")
    certain_sec = abs(skew.value) - uncertain_sec
    state: Literal["ok", "warn", "fail"] = (
        "fail" if certain_sec > _SKEW_FAIL_SEC else "warn" if certain_sec > _SKEW_WARN_SEC else "ok"
    )
    advice = "" if state == "ok" else "synchronise the clocks (chrony or systemd-timesyncd on every node)"
    return Finding(
        "clock",
        skew.node,
        state,
        f"{skew.value:+.2f} s from the driver's (to within {uncertain_sec:.2f} s)",
        advice,
    )


def check_gpus(answer: Answer) -> list[Finding]:
    devices, torch = answer.value["gpus"], answer.value["torch"]
    if torch["error"]:
        return [Finding("gpus", answer.node, "fail", torch["error"], "install torch there")]
    build = f"torch {torch['version']}, CUDA {torch['cuda']}"
    if len(devices) > torch["num_gpus"]:
        what = f"{len(devices)} GPUs ({'; '.join(devices)}), torch sees {torch['num_gpus']} ({build})"
        return [
            Finding("gpus", answer.node, "fail", what, "install a CUDA build of torch that fits the driver")
        ]
    if answer.num_gpus != torch["num_gpus"]:
        what = f"Ray was told of {answer.num_gpus} GPUs, torch sees {torch['num_gpus']} ({build})"
        state: Literal["warn", "fail"] = "fail" if answer.num_gpus > torch["num_gpus"] else "warn"
        return [
            Finding(
                "gpus",
                answer.node,
                state,
                what,
                "start Ray there with the right --num-gpus, or none: it then counts itself",
            )
        ]
    shown = "; ".join(devices) or f"{torch['num_gpus'] or 'no'} GPUs"
    return [Finding("gpus", answer.node, "ok", f"{shown} ({build})")]


def check_space(answer: Answer) -> list[Finding]:
    """Disk of the store, of the temporary folder (Ray's logs and spilled objects), and shared memory (Ray's objects)."""
    findings = []
    for what, free_gb in (
        ("the store", answer.value["disk_gb"]),
        ("the temporary folder", answer.value["temporary_gb"]),
    ):
        state: Literal["ok", "warn", "fail"] = (
            "fail" if free_gb < store.NEEDED_GB else "warn" if free_gb < _DISK_WARN_GB else "ok"
        )
        advice = (
            "" if state == "ok" else f"free some space; below {store.NEEDED_GB} GiB a sweep does not start"
        )
        findings.append(Finding("disk", answer.node, state, f"{free_gb:.1f} GiB free for {what}", advice))
    if (shm_gb := answer.value["shm_gb"]) is not None:
        advice = (
            "Ray then keeps objects on disk, slowly; give a container --shm-size=8g"
            if shm_gb < _SHM_WARN_GB
            else ""
        )
        findings.append(
            Finding(
                "shared memory",
                answer.node,
                "warn" if advice else "ok",
                f"/dev/shm of {shm_gb:.1f} GiB",
                advice,
            )
        )
    return findings


def check_storage(answer: Answer, folder: Path) -> list[Finding]:
    """Whether the node sees what the driver writes, and the driver what the node wrote."""
    storage = answer.value["storage"]
    advice = "mount one shared folder at the same path on every node, and give sweeps a --store in it"
    if storage["error"]:
        return [
            Finding(
                "storage",
                answer.node,
                "fail",
                f"does not share {folder} with the driver: {storage['error']}",
                advice,
            )
        ]
    remote.pull(folder / storage["name"])
    if not (folder / storage["name"]).exists():
        return [
            Finding(
                "storage",
                answer.node,
                "fail",
                f"the driver does not see what this node writes in {folder}",
                advice,
            )
        ]
    return [Finding("storage", answer.node, "ok", f"reads and writes {folder} as the driver does")]


def check_ports(answer: Answer, embedded: bool) -> list[Finding]:
    listening = answer.value["listening"]
    if not listening:
        return []
    outside = [address for address in listening if not address.startswith(("127.", "::1:"))]
    if not outside:
        return [Finding("ports", answer.node, "ok", f"{len(listening)} ports of Ray, on loopback alone")]
    what = f"{len(outside)} of Ray's {len(listening)} ports are open to other machines ({', '.join(outside[:4])}, ...)"
    if embedded or os.environ.get("RAY_AUTH_MODE") != "token":
        return [
            Finding(
                "ports",
                answer.node,
                "warn",
                what,
                "use RAY_AUTH_MODE=token, and let only the cluster's machines reach them",
            )
        ]
    return [Finding("ports", answer.node, "ok", f"{what}; a token is asked for")]


def check_dashboard_port() -> Finding:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", _DASHBOARD_PORT)) == 0
    if taken:
        advice = "another Ray runs here: its dashboard is there, and a new one takes the next free port"
        return Finding("dashboard port", "driver", "warn", f"127.0.0.1:{_DASHBOARD_PORT} is taken", advice)
    return Finding("dashboard port", "driver", "ok", f"127.0.0.1:{_DASHBOARD_PORT} is free")


def _check_tracking(uri: str, folder: Path | None) -> Finding:
    """`folder`: the store where the default tracking store will be made; not there yet, it is checked as the store."""
    if folder is not None and not folder.exists():
        return Finding("tracking", "driver", "ok", f"{uri} will be made with the store")
    try:
        tracking.probe(uri)
    except StoreError as error:
        return Finding("tracking", "driver", "fail", str(error))
    return Finding("tracking", "driver", "ok", uri)


@contextlib.contextmanager
def _probed(folder: Path) -> Iterator[tuple[str, str]]:
    """The name of a file in the store, and "" or why there is none. What was made is removed: the store too, if it was not there."""
    probe, trouble = f".doctor-{secrets.token_hex(4)}", ""
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
                with contextlib.suppress(OSError):  # not empty any more: somebody uses it
                    folder.rmdir()
