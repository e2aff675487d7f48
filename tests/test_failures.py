"""Trials that fail: a reason each, and the tables all the same; and a sweep that is told to end. Without Ray.

With it: the slow tests of tests/test_sweep.py.
"""

import os
import signal
import sys
import time
from pathlib import Path

import mlflow
import pytest
from no_ray import SETTINGS, without_ray

from raydistill.cluster.placement import Node
from raydistill.commands.cli import main
from raydistill.records.trials import read_trials
from raydistill.sweep.tracking_store import default_uri
from raydistill.sweep.watch import signals_interrupt


@pytest.mark.slow  # of every run: a training that diverges, in tests/test_train.py
def test_students_that_diverge_are_failures_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    without_ray(monkeypatch, [Node("here", 2)])
    diverging = ("--set", "student.optimizer.learning_rate=1e30", "--seconds-per-image", "0.01")
    monkeypatch.setattr(
        sys, "argv", ["raydistill", "sweep", "--nimg", "64", "--trials", "2", *SETTINGS, *diverging]
    )
    with pytest.raises(SystemExit) as exit_info:
        main()
    printed = capsys.readouterr()
    trials = read_trials(tmp_path / "runs/sweeps/default-001")
    students = [trial.result for trial in trials if trial.role in ("uniform", "search")]
    assert len(students) == 5 and {result.status for result in students} == {"FAIL"}
    assert all("DivergenceError" in result.reason for result in students)
    assert (
        not exit_info.value.code and "DivergenceError" in printed.out
    )  # the student without a teacher was trained: there is a front
    assert "Traceback" not in printed.out + printed.err


def test_sigterm_ends_a_sweep_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sent as the first trial ends."""
    monkeypatch.chdir(tmp_path)
    without_ray(monkeypatch, [Node("here", 2)], after_trial=lambda: os.kill(os.getpid(), signal.SIGTERM))
    options = ["--nimg", "32", "--trials", "2", "--seconds-per-image", "0.01", *SETTINGS]
    monkeypatch.setattr(sys, "argv", ["raydistill", "sweep", *options])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_info:
        main()
    printed = capsys.readouterr()
    assert exit_info.value.code == 130 and signal.getsignal(signal.SIGTERM) == before
    assert (
        "interrupted; finished trials are kept. Go on: the same command with --resume --name" in printed.out
    )
    assert "Traceback" not in printed.out + printed.err
    trials = read_trials(tmp_path / "runs/sweeps/default-001")
    assert [bool(trial.result) for trial in trials[:3]] == [True, True, False]
    mlflow.set_tracking_uri(default_uri(tmp_path / "runs"))
    runs = mlflow.search_runs(experiment_names=["raydistill"])
    assert "RUNNING" not in set(runs["status"]) and "KILLED" in set(runs["status"])


def test_a_closed_terminal_ends_a_sweep_as_ctrl_c_does_and_nothing_is_printed_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To write to a terminal whose other side is closed is an input/output error."""
    ours, theirs = os.openpty()
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    with os.fdopen(theirs, "w") as terminal, open(os.devnull, "w") as errors:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", errors)
        with pytest.raises(KeyboardInterrupt), signals_interrupt():
            os.close(ours)
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(10)
        print("interrupted", flush=True)
    assert signal.signal(signal.SIGHUP, outside) == signal.SIG_DFL


def test_where_sighup_is_ignored_it_stays_so() -> None:
    """As `nohup` starts a command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
