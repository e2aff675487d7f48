"""Whether a sweep runs, has ended, has failed or was interrupted, by its folder. Nothing is written."""

from pathlib import Path
from typing import Literal

from raydistill.errors import StoreError
from raydistill.records import locks, mirror, store
from raydistill.records.trials import read_trials

State = Literal["running", "ended", "failed", "interrupted"]
"""running: a process holds its lock. ended: its tables are written. failed: no student was trained.
interrupted: anything else, as after a crash; the sweep goes on with --resume."""
FORECAST = "forecast.json"
"""File in a sweep's folder with the estimate that it began with."""
TABLES = ("trials.parquet", "evaluations.parquet")
"""Files that a sweep writes at its end."""


def require_sweep(folder: Path) -> None:
    """Raises StoreError where a folder is no sweep's, or its sweep.json is missing or damaged."""
    if not folder.is_dir():
        near = sorted(path.name for path in folder.parent.glob("[!.]*") if (path / "sweep.json").exists())
        there = f"sweeps there: {', '.join(near[:8])}" if near else "give STORE/sweeps/NAME"
        raise StoreError(f"{folder}: there is no such folder; {there}")
    if not (folder / "sweep.json").exists():
        is_store = (folder / "store.json").exists()
        advice = f"a store; give one of {folder / 'sweeps'}" if is_store else "give STORE/sweeps/NAME"
        raise StoreError(f"{folder}: no sweep here (no sweep.json); {advice}")
    store.read_sweep(folder)


def state_of(folder: Path) -> State:
    """The state of the sweep in `folder`.

    Whether it runs is known of processes that share its file system. In the local copy of an object store it
    is taken to run until its tables are there.

    Raises:
        StoreError: a file of it is missing or damaged.
    """
    require_sweep(folder)
    if locks.is_held(folder / "lock"):
        return "running"
    missing = _missing(folder)
    if not missing:
        return "ended"
    if len(missing) < len(TABLES):
        raise StoreError(
            f"{folder}: half of it was copied, or it was killed as it ended: no {missing[0]}; copy the whole "
            "folder, or go on with --resume"
        )
    if mirror.url_of(folder) is not None:
        return "running"
    students = [trial for trial in read_trials(folder) if trial.role != "teacher"]
    results = [trial.result for trial in students if trial.result is not None]
    has_failed = results and all(result.status == "FAIL" for result in results)
    return "failed" if has_failed and len(results) == len(students) else "interrupted"


def require_ended(folder: Path) -> None:
    """Raises StoreError where the sweep in `folder` has no tables yet; it says why, and what to do."""
    if not (missing := _missing(folder)):
        return
    require_sweep(folder)
    begin, state = f"{folder}: no finished sweep here (no {missing[0]})", state_of(folder)
    advice = {
        "running": f"it is running now: raydistill watch {folder}",
        "failed": f"no student was trained: raydistill watch {folder} says why",
    }
    raise StoreError(f"{begin}; {advice.get(state, 'an interrupted one goes on with --resume')}")


def _missing(folder: Path) -> list[str]:
    """The tables that a sweep's folder does not have."""
    return [name for name in TABLES if not (folder / name).exists()]
