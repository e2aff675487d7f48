"""A sweep's limits: no trial starts once one is reached, what is there makes the tables, a resume goes on."""

import sys
from pathlib import Path
from typing import Any

import pytest
from no_ray import SETTINGS, without_ray

from raydistill.cluster.placement import Node
from raydistill.commands.cli import main
from raydistill.errors import StoreError
from raydistill.records import budget, tables
from raydistill.records.budget import Clock, Limits
from raydistill.sweep import run as sweep_run


def test_a_clock_counts_over_every_start_and_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    clock = Clock(tmp_path / "spent.json")
    now[0] += 5
    assert clock.sec() == 5
    now[0] += 1000  # killed here: what passed since is not known
    clock = Clock(tmp_path / "spent.json")
    now[0] += 2
    assert clock.sec() == 7
    (tmp_path / "spent.json").write_text("{")
    with pytest.raises(StoreError, match=r"spent\.json: damaged or unreadable: .* Remove it"):
        Clock(tmp_path / "spent.json")


def test_a_limit_is_reached_where_its_amount_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, gpu_sec = [0.0], [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    both = Limits(2.0, 0.5, Clock(tmp_path / "spent.json"), lambda: gpu_sec[0])
    now[0], gpu_sec[0] = 7199, 1799
    assert both.may_start() and both.reached == ""
    gpu_sec[0] = 1800
    assert not both.may_start() and both.reached == "--max-gpu-hours 0.5"
    now[0], gpu_sec[0] = 7200, 0
    assert not both.may_start() and both.reached == "--max-hours 2"
    assert Limits(None, None, both.clock, lambda: 1e9).may_start()


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `raydistill sweep`, where each trial takes an hour; (exit code, what it said)."""
    hours = [0.0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(budget.time, "monotonic", lambda: 3600 * hours[0])
    without_ray(monkeypatch, [Node("here", 2)], after_trial=lambda: hours.__setitem__(0, hours[0] + 1))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "raydistill",
                "sweep",
                "--nimg",
                "32",
                "--trials",
                "2",
                "--seconds-per-image",
                "0.01",
                *SETTINGS,
                *arguments,
            ],
        )
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out + printed.err

    return run


@pytest.mark.slow
def test_a_sweep_ends_at_its_limit_with_tables_and_a_resume_goes_on(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs/sweeps/default-001"
    code, printed = sweep("--max-hours", "2.5")
    assert (
        code == 0
        and "ended by --max-hours 2.5: 3 trials and the recheck were not trained; --resume with a higher "
        "limit"
        in printed
    )
    table = tables.read_table(folder / "trials.parquet").set_index("label")
    assert table["status"].to_dict() == {
        **{
            "teacher": "COMPLETE",
            "uniform 3": "COMPLETE",
            "uniform 5": "COMPLETE",
            "uniform 8": "COMPLETE",
            "no teacher 3": "RUNNING",
        }
    }
    assert table["front.member"].any() and (folder / "frontier.html").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/result.json")}

    code, printed = sweep("--resume", "--max-hours", "6")
    assert code == 0 and "ended by --max-hours 6: the recheck was not trained" in printed
    code, printed = sweep("--resume", "--trials", "3")
    assert code == 0 and "ended by --trials 3" in printed
    table = tables.read_table(folder / "trials.parquet")
    assert (
        set(table["status"]) == {"COMPLETE"}
        and (table["role"] == "search").sum() == 3
        and (table["role"] == "recheck").sum() == 1
    )
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    code, printed = sweep("--resume", "--max-gpu-hours", "1")
    assert (
        code == 2 and "raydistill: --max-gpu-hours 1: the trials use no GPU here; give --max-hours" in printed
    )
    code, printed = sweep("--max-hours", "0")
    assert code == 2 and "max_hours: Input should be greater than 0 (given: 0.0)" in printed
    monkeypatch.setattr("raydistill.sweep.run._train_stages", slow(sweep_run._train_stages, monkeypatch))
    code, printed = sweep("--name", "late", "--max-hours", "9")
    assert (
        code == 1
        and "no student was trained: --max-hours 9: 6 trials and the recheck were not trained" in printed
    )


def slow(train: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Evaluator and teacher, a hundred hours later."""

    def trained(*arguments: Any) -> Any:
        monkeypatch.setattr(budget.time, "monotonic", lambda: 360_000.0)
        return train(*arguments)

    return trained
