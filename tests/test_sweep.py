"""Whole sweeps, tiny, as a user starts them: a process, an empty folder, the command line.

One sweep serves most of these tests: submitted as a job to a cluster that wants a token, killed there, and
gone on with on this
machine alone. What starts it is the longest part of the short suite.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import psutil
import pytest
from head import Head, job_command, plain_environment
from no_ray import without_ray

from raydistill.cluster.placement import Node
from raydistill.commands.cli import main
from raydistill.records import locks, tables
from raydistill.records.trials import read_trials
from raydistill.sweep.tracking_store import default_uri

WIDTHS = ("stem", "down", "trunk", "hidden", "up", "head")
TINY = {
    **{"data.num_train": 48, "data.num_val": 16, "data.num_test": 16},
    **{"evaluator.network.width": 4, "evaluator.budget_nimg": 160, "evaluator.report_every_nimg": 80},
    **{f"teacher.generator.widths.{width}": 8 for width in WIDTHS},
    **{"teacher.discriminator.width": 4, "teacher.budget_nimg": 160, "teacher.report_every_nimg": 80},
    **{
        "student.report_every_nimg": 80,
        "student.terms.mi.energy.channels": 2,
        "student.terms.mi.num_steps": 3,
    },
}


def command(folder: Path | str, *options: str) -> list[str]:
    settings = [text for path, value in TINY.items() for text in ("--set", f"{path}={value}")]
    planned = ("--seconds-per-image", "0.01")
    return [
        sys.executable,
        "-m",
        "raydistill",
        "sweep",
        "--store",
        str(folder),
        "--nimg",
        "160",
        *planned,
        *settings,
        *options,
    ]


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=400)


class Killed(NamedTuple):
    """A sweep whose driver, a submitted job, was killed once two students had a result."""

    store: Path
    command: list[str]
    """Of the sweep, without --resume."""
    exit_code: int
    """Of `ray job submit`, which follows the job to its end."""
    printed: str
    results: list[Path]
    """Of the trials that had ended when the driver was killed."""
    proposed: dict[Path, Any]
    """The file of each trial that was there when the driver was killed, and what was in it."""


@pytest.fixture(scope="module")
def killed(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    store = tmp_path_factory.mktemp("sweep") / "runs"
    sweep, sweep_dir = command(store, "--trials", "3"), store / "sweeps/default-001"
    submit = job_command(head, "submit", "--submission-id", "killed", "--", *sweep)
    with subprocess.Popen(
        submit, env=head.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as job:
        wait_for_results(sweep_dir, 2, job)
        (driver,) = (
            process
            for process in psutil.Process(head.pid).children(recursive=True)
            if process.cmdline()[1:4] == sweep[1:4]
        )
        driver.kill()
        printed, _ = job.communicate(timeout=120)
    return Killed(store, sweep, job.returncode, printed, *ledger_of(sweep_dir))


def wait_for_results(sweep_dir: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Returns once so many students have a result; `process` must run until then."""
    deadline = time.monotonic() + 400
    while len(list(sweep_dir.glob("trials/000[1-9]/result.json"))) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def ledger_of(sweep_dir: Path) -> tuple[list[Path], dict[Path, Any]]:
    """The results of students, and the content of every trial's file."""
    results = list(sweep_dir.glob("trials/000[1-9]/result.json"))
    return results, {path: json.loads(path.read_text()) for path in sweep_dir.glob("trials/*/trial.json")}


@pytest.fixture(scope="module")
def finished(killed: Killed) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A store with one finished sweep, the killed one, and what was printed as it went on."""
    done = run([*killed.command, "--resume", "--max-concurrent", "1"], killed.store.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return killed.store, done


def test_a_submitted_job_is_followed_and_fails_where_its_driver_is_killed(killed):
    assert killed.exit_code == 1 and "Job 'killed' failed" in killed.printed
    for part in ("training once, by a TorchTrainer of 2 workers", "7 trials to train, 2 at a time, inline"):
        assert part in killed.printed
    assert "Traceback" not in killed.printed
    assert 2 <= len(killed.results) < 7 and len(killed.proposed) > len(killed.results)


@pytest.mark.slow  # of every run: what doctor says of each token, in tests/test_doctor.py
def test_doctor_says_that_a_token_is_wrong_and_what_to_do(head, tmp_path):
    (tmp_path / "token").write_text("another-token-of-another-cluster")
    (tmp_path / "token").chmod(0o600)
    environment = {"RAY_ADDRESS": head.address, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    doctor = subprocess.run(
        [sys.executable, "-m", "raydistill", "doctor", "--store", "runs"],
        cwd=tmp_path,
        env=head.environment | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert doctor.returncode == 1
    for part in (
        f"RAY_ADDRESS={head.address}: the cluster refuses the token",
        "RAY_AUTH_TOKEN_PATH to a file with the cluster's token",
        "this machine",
    ):
        assert part in doctor.stdout
    assert "Traceback" not in doctor.stdout + doctor.stderr


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_a_killed_sweep_goes_on_without_repeating_or_losing_a_trial(killed, finished):
    folder, done = finished
    assert_nothing_was_repeated_or_lost(folder / "sweeps/default-001", killed.results, killed.proposed)
    assert "RUNNING" not in statuses(folder) and "KILLED" not in statuses(folder)
    assert "training once, by a TorchTrainer" not in done.stdout


def assert_nothing_was_repeated_or_lost(
    sweep_dir: Path, results: list[Path], proposed: dict[Path, Any]
) -> None:
    """A sweep that has gone on to its end keeps the trials and the results, of students, that were there
    before."""
    assert {path: json.loads(path.read_text()) for path in proposed} == proposed
    table = tables.read_table(sweep_dir / "trials.parquet")
    assert set(table["status"]) == {"COMPLETE"} and (table["role"] == "search").sum() == 3
    for path in results:  # trained again, its log would have grown: two reports a trial
        assert len((path.parent / "log.txt").read_text().splitlines()) == 2


def statuses(folder: Path) -> set[str]:
    mlflow.set_tracking_uri(default_uri(folder))
    return set(mlflow.search_runs(experiment_names=["raydistill"])["status"])


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_a_sweep_trains_everything_it_promises(finished):
    folder, _ = finished
    table = tables.read_table(folder / "sweeps/default-001/trials.parquet")
    assert table["role"].value_counts().to_dict() == {
        "search": 3,
        "uniform": 3,
        "teacher": 1,
        "no_teacher": 1,
        "recheck": 1,
    }
    assert set(table["status"]) == {"COMPLETE"}
    assert table["front.member"].any()
    assert table["metric.val/miou"].between(0, 1).all()


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_test_scores_are_there_for_front_members_baselines_and_teacher_only(finished):
    folder, _ = finished
    table = tables.read_table(folder / "sweeps/default-001/trials.parquet")
    scored = table["metric.test/miou"].notna()
    expected = table["front.member"] | table["role"].isin(["teacher", "uniform", "no_teacher"])
    assert (scored == expected).all()


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_two_workers_of_a_torch_trainer_reach_the_inline_result(finished):
    """Same global batch; float32 sums in another order, over 10 steps of student and energy together."""
    folder, _ = finished
    table = tables.read_table(folder / "sweeps/default-001/trials.parquet").set_index("trial_id")
    again = table[table["role"] == "recheck"].iloc[0]
    inline = table.loc[again["label"].split()[0]]
    assert inline["param.student.terms.mi.weight"] > 0
    assert again["hardware"].startswith("2 x") and inline["hardware"].startswith("1 x")
    for name in ("metric.train/l1", "metric.energy/gap", "metric.val/miou", "metric.val/fd_evaluator"):
        np.testing.assert_allclose(again[name], inline[name], rtol=0.02, atol=2e-4, err_msg=name)


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_the_tables_read_back_from_mlflow(finished):
    folder, _ = finished
    mlflow.set_tracking_uri(default_uri(folder))
    runs = mlflow.search_runs(experiment_names=["raydistill"])
    parents = runs[runs["tags.raydistill.role"] == "sweep"]
    assert parents["tags.raydistill.space"].tolist() == ["default"]
    children = runs[runs["tags.mlflow.parentRunId"] == parents.iloc[0]["run_id"]].set_index(
        "tags.raydistill.trial_id"
    )
    table = tables.read_table(folder / "sweeps/default-001/trials.parquet").set_index("trial_id")
    assert set(runs["status"]) == {"FINISHED"}
    assert set(children.index) == set(table.index)
    for trial_id, row in table.iterrows():
        assert children.loc[trial_id, "metrics.final/miou"] == row["metric.val/miou"]
        assert children.loc[trial_id, "metrics.cost/macs"] == row["cost.macs"]
        assert bool(children.loc[trial_id, "metrics.front/member"]) == row["front.member"]


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_a_child_run_has_few_metrics_with_the_settled_names(finished):
    folder, _ = finished
    mlflow.set_tracking_uri(default_uri(folder))
    runs = mlflow.search_runs(experiment_names=["raydistill"])
    names = [name.removeprefix("metrics.") for name in runs.columns if name.startswith("metrics.")]
    prefixes = {"train", "val", "final", "test", "cost", "front", "time", "energy"}
    assert {name.split("/")[0] for name in names} <= prefixes
    searched = runs[runs["tags.raydistill.role"] == "search"]
    assert searched[[f"metrics.{name}" for name in names]].notna().sum(axis=1).max() <= 27


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_what_is_printed_ends_with_the_frontier_the_page_and_the_mlflow_line(finished):
    folder, done = finished
    text = done.stdout
    assert "Pareto front of default-001" in text
    assert f"page: {folder}/sweeps/default-001/frontier.html" in text
    assert f"mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db" in text
    last, all_trials = re.findall(r"trial (\d) of (\d): ", text)[-1]
    assert "ceiling" in text and last == all_trials and "all trained" in text
    assert "Warning" not in text + done.stderr and "Traceback" not in text + done.stderr


def stop_after_results(
    arguments: list[str], cwd: Path, sweep_dir: Path, count: int, signal_number: int
) -> tuple[int, str]:
    """Starts a sweep, sends it a signal once it has so many students' results; its exit code and what it
    said."""
    with subprocess.Popen(
        arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        wait_for_results(sweep_dir, count, driver)
        os.kill(driver.pid, signal_number)
        printed, _ = driver.communicate(timeout=60)
    return driver.returncode, printed


@pytest.mark.slow  # of every run: the killed job above, and SIGTERM without Ray in tests/test_failures.py
def test_an_interrupted_and_a_killed_sweep_resume_without_repeating_or_losing_a_trial(finished, tmp_path):
    folder, _ = finished
    sweep_dir = folder / "sweeps/stopped"
    first = command(folder, "--trials", "3", "--name", "stopped", "--set", "student.ema_nimg=100")
    code, printed = stop_after_results(first, tmp_path, sweep_dir, 1, signal.SIGTERM)
    assert code == 130 and "--resume --name stopped" in printed and "RUNNING" not in statuses(folder)
    code, _ = stop_after_results([*first, "--resume"], tmp_path, sweep_dir, 3, signal.SIGKILL)
    assert code == -signal.SIGKILL
    before = ledger_of(sweep_dir)
    done = run([*first, "--resume"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_was_repeated_or_lost(sweep_dir, *before)
    assert "RUNNING" not in statuses(folder) and "KILLED" not in statuses(folder)


@pytest.mark.slow  # of every run: what a sweep without Ray leaves, in tests/test_file_scorers.py
def test_a_finished_sweep_resumed_trains_nothing_and_rebuilds_a_lost_tracking_store_from_the_ledger(
    finished, tmp_path, monkeypatch
):
    """In this process and without Ray: there is nothing for it to do."""
    folder, _ = finished
    before = sorted(
        (path, path.stat().st_mtime_ns) for path in folder.glob("sweeps/default-001/trials/*/result.json")
    )
    elsewhere = f"sqlite:///{tmp_path}/other.db"
    without_ray(monkeypatch, [Node("here", 2)], after_trial=lambda: pytest.fail("a trial was trained"))
    monkeypatch.setattr(sys, "argv", command(folder, "--trials", "3", "--resume", "--mlflow", elsewhere)[2:])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 0
    assert (
        sorted(
            (path, path.stat().st_mtime_ns) for path in folder.glob("sweeps/default-001/trials/*/result.json")
        )
        == before
    )
    mlflow.set_tracking_uri(elsewhere)
    runs = mlflow.search_runs(experiment_names=["raydistill"])
    table = tables.read_table(folder / "sweeps/default-001/trials.parquet").set_index("trial_id")
    children = runs[runs["tags.mlflow.parentRunId"].notna()].set_index("tags.raydistill.trial_id")
    assert set(children.index) == set(table.index) and set(runs["status"]) == {"FINISHED"}
    assert (children["metrics.final/miou"].loc[table.index] == table["metric.val/miou"]).all()


@pytest.mark.slow
def test_students_that_diverge_are_failures_with_a_reason(finished, tmp_path):
    folder, _ = finished
    done = run(
        command(
            folder, "--trials", "2", "--name", "diverged", "--set", "student.optimizer.learning_rate=1e30"
        ),
        tmp_path,
    )
    trials = [
        trial for trial in read_trials(folder / "sweeps/diverged") if trial.role in ("uniform", "search")
    ]
    assert {trial.result.status for trial in trials} == {"FAIL"} and len(trials) == 5
    assert all("DivergenceError" in trial.result.reason for trial in trials)
    assert (
        done.returncode == 0 and "DivergenceError" in done.stdout
    )  # the student without a teacher was trained: there is a front
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow  # of every run: the ports that doctor finds, without a dashboard, in tests/test_doctor.py
def test_every_server_of_the_embedded_cluster_listens_on_loopback_alone(tmp_path):
    script = """
import json, psutil
from raydistill.cluster import runtime
runtime.start_ray(dashboard=True)
ours = {psutil.Process().pid, *(child.pid for child in psutil.Process().children(recursive=True))}
connections = psutil.net_connections("tcp")
print(json.dumps([c.laddr.ip for c in connections if c.status == "LISTEN" and c.pid in ours]))
runtime.stop_ray()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=plain_environment(),  # other tests set Ray's variables in this process
        capture_output=True,
        text=True,
        timeout=120,
    )
    addresses = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(addresses) >= 5 and {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}


@pytest.fixture
def refused(monkeypatch, capsys):
    """What a command line writes to stderr in this process; it must end with code 2 before Ray starts."""
    monkeypatch.setattr(
        "raydistill.cluster.runtime.start_ray", lambda **options: pytest.fail("Ray was started")
    )

    def run(arguments: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", arguments[2:])
        with pytest.raises(SystemExit) as exit_info:
            main()
        assert exit_info.value.code == 2
        return capsys.readouterr().err

    return run


def test_a_sweep_under_way_is_not_started_a_second_time(killed, refused):
    folder = killed.store
    with locks.locked(folder / "sweeps/default-001/lock", what="a test", wait=False):
        assert "is being run by another process" in refused(command(folder, "--trials", "3", "--resume"))


@pytest.mark.slow
def test_early_stopping_stops_trials_of_a_sweep_and_a_resume_keeps_them(tmp_path):
    options = (
        *command(tmp_path / "runs", "--trials", "12", "--early-stopping", "--max-concurrent", "1"),
        "--set",
        "student.report_every_nimg=16",
    )
    done = run(options, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = tables.read_table(tmp_path / "runs/sweeps/default-001/trials.parquet")
    stopped, rest = (table[table["status"].isin(kind)] for kind in (["PRUNED"], ["COMPLETE"]))
    print(f"{len(stopped)} of 12 stopped, at {stopped['nimg'].tolist()} images")
    assert len(stopped) >= 2 and len(stopped) + len(rest) == len(table) and set(stopped["role"]) == {"search"}
    assert (stopped["nimg"] < 160).all() and (rest["nimg"] == 160).all() and not stopped["front.member"].any()
    again = run([*options, "--resume"], tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (
        tables.read_table(tmp_path / "runs/sweeps/default-001/trials.parquet")["status"].tolist()
        == table["status"].tolist()
    )


@pytest.mark.slow
def test_replicates_are_trials_of_their_own_and_a_resume_may_ask_for_more(finished, tmp_path):
    folder, _ = finished
    options = command(
        folder, "--trials", "3", "--name", "repeated", "--max-concurrent", "1", "--set", "student.ema_nimg=90"
    )
    done = run([*options, "--replicates", "4"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first = tables.read_table(folder / "sweeps/repeated/trials.parquet")
    again = run([*options, "--replicates", "6", "--resume"], tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    table = tables.read_table(folder / "sweeps/repeated/trials.parquet").set_index("trial_id")
    repeated = table[table["role"] == "replicate"]
    print(
        repeated[["label", "seed", "metric.val/miou"]],
        table[["front.seeds", "front.probability", "mean.val/miou", "se.val/miou"]].dropna(),
    )
    print([line for line in again.stdout.splitlines() if "stability" in line])
    assert (first["role"] == "replicate").sum() == 4 and 4 <= len(repeated) <= 6
    assert repeated["label"].iloc[:4].tolist() == first["label"][first["role"] == "replicate"].tolist()
    for _, row in repeated.iterrows():
        original = table.loc[row["replicate_of"]]
        assert (
            row["seed"] > original["seed"]
            and row["cost.macs"] == original["cost.macs"]
            and row["status"] == "COMPLETE"
        )
        assert row["metric.val/miou"] != original["metric.val/miou"] and not row["front.member"]
        seeds = [
            original["metric.val/miou"],
            *repeated["metric.val/miou"][repeated["replicate_of"] == row["replicate_of"]],
        ]
        assert original["front.seeds"] == len(seeds) and original["mean.val/miou"] == pytest.approx(
            np.mean(seeds)
        )
    assert table["front.probability"].dropna().between(0, 1).all() and "the front's stability" in again.stdout
    assert "RUNNING" not in statuses(folder)


@pytest.mark.slow
def test_a_sweep_begins_with_what_another_one_knows_and_goes_on_without_it(finished, tmp_path):
    folder, _ = finished
    options = command(
        folder,
        "--name",
        "warm",
        "--set",
        "student.optimizer.learning_rate=2e-3",
        "--warm-start",
        str(folder / "old"),
    )
    shutil.copytree(folder / "sweeps/default-001", folder / "old")
    done = run([*options, "--trials", "2", "--max-concurrent", "1"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "warm start: 4 rows of" in done.stdout and "without 3 of no student of a search" in done.stdout
    )  # teacher, no teacher, recheck
    shutil.rmtree(folder / "old")
    again = run([*options, "--trials", "4", "--max-concurrent", "1", "--resume"], tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    proposed = [
        trial.configuration for trial in read_trials(folder / "sweeps/warm") if trial.role == "search"
    ]
    shutil.copytree(folder / "sweeps/default-001", folder / "old")
    whole = run(
        [
            *options[: options.index("warm")],
            "whole",
            *options[options.index("warm") + 1 :],
            "--trials",
            "4",
            "--max-concurrent",
            "1",
        ],
        tmp_path,
    )
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert [
        trial.configuration for trial in read_trials(folder / "sweeps/whole") if trial.role == "search"
    ] == proposed


def test_early_stopping_without_an_early_evaluation_is_refused(tmp_path, refused):
    printed = refused(
        [*command(tmp_path / "runs", "--early-stopping"), "--set", "student.report_every_nimg=160"]
    )
    assert "--set student.report_every_nimg=20" in printed
