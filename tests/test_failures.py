"""Trials that fail: a reason each, and the tables all the same. Without Ray; with it: `pytest -m slow
tests/test_sweep.py -k diverge`."""

import sys
from pathlib import Path

import pytest
from no_ray import SETTINGS, without_ray

from raydistill.cluster.placement import Node
from raydistill.commands.cli import main
from raydistill.records.trials import read_trials


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
    students = [trial["result"] for trial in trials if trial["role"] in ("uniform", "search")]
    assert len(students) == 5 and {result["status"] for result in students} == {"FAIL"}
    assert all("DivergenceError" in result["reason"] for result in students)
    assert (
        not exit_info.value.code and "DivergenceError" in printed.out
    )  # the student without a teacher was trained: there is a front
    assert "Traceback" not in printed.out + printed.err
