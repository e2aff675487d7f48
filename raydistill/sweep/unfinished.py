"""A sweep that has not ended, as it is now: its table, front and page, from the ledger on disk.

It may be trained by another process, have been interrupted, or be a copy of either.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from raydistill.config import renamed
from raydistill.errors import RaydistillError, StoreError, say_notice
from raydistill.records import locks, measured, remote, store, tables
from raydistill.records.trials import read_trials
from raydistill.sweep import page

_LEAST_SEC, _SHARE = 30.0, 20
"""A running sweep draws its page at most so often, and takes at most 1/_SHARE of the time for it."""


@dataclass(frozen=True, eq=False)
class Unfinished:
    """What an unfinished sweep has so far."""

    trials: pd.DataFrame
    """The trials table with the front's columns."""
    evaluations: pd.DataFrame
    record: page.PageRecord
    is_running: bool
    """Whether a process of this machine trains it now."""

    @property
    def state(self) -> page.State:
        """As the page says it."""
        return "running" if self.is_running else "unfinished"


def is_unfinished(folder: Path) -> bool:
    """Whether a sweep's tables are absent, or older than its ledger, as after a resume.

    Raises:
        StoreError: there is no sweep.
    """
    if (tables_file := folder / "trials.parquet").exists():
        table = tables.read_table(tables_file)
        return len(list((folder / "trials").glob("*/result.json"))) > int(
            (table["status"] != "RUNNING").sum()
        )
    if not (folder / "sweep.json").exists():
        raise StoreError(f"{folder}: no sweep here (no sweep.json); give STORE/sweeps/NAME")
    return True


def read(folder: Path) -> Unfinished:
    """What a sweep that has not ended has so far.

    Raises:
        StoreError: a file is damaged.
        RunError: a trial lacks an objective, or two were measured under different conditions.
    """
    trials = read_trials(folder)
    table = measured.in_table(tables.trial_table(trials, sweep_id=folder.name), folder)
    record = page.read(folder) if (folder / page.FILE).exists() else _without_page(folder, table)
    table = tables.with_front(table, record.objectives, record.reference)
    evaluations = tables.evaluation_table(trials, sweep_id=folder.name)
    return Unfinished(table, evaluations, record, locks.is_held(folder / "lock"))


def draw(folder: Path, so_far: Unfinished) -> Path:
    """Draws the page of a sweep that has not ended; returns its path.

    Raises StoreError: it cannot be written.
    """
    given = (so_far.trials, so_far.evaluations, so_far.record, page.samples(folder))
    return page.draw(folder, *given, state=so_far.state).html


class LivePage:
    """The page of a sweep that this process trains: drawn again as trials end, but not too often."""

    def __init__(self, folder: Path):
        self._folder, self._next = folder, time.monotonic() + _LEAST_SEC

    def trial_ended(self) -> None:
        """Draws the page where it is due. What goes wrong is said, and does not stop the sweep."""
        begun = time.monotonic()
        if begun < self._next:
            return
        try:
            remote.push(draw(self._folder, read(self._folder)))
        except RaydistillError as error:
            say_notice(f"the page was not drawn while the sweep runs: {error}")
        took = time.monotonic() - begun
        self._next = begun + took + max(_LEAST_SEC, _SHARE * took)


def _without_page(folder: Path, table: pd.DataFrame) -> page.PageRecord:
    """What a page says of a sweep that was begun by a version before, or stopped before its first student.

    The references that the sweep would compute are the worst numbers so far.
    """
    found = store.read_sweep(folder)["space"]["objectives"]
    objectives = tuple((renamed.metric_now(each["name"]), each["direction"]) for each in found)
    rows = table[tables.competitors(table)]
    reference = tuple(
        _worst(rows, name, direction) if each["reference"] is None else float(each["reference"])
        for each, (name, direction) in zip(found, objectives, strict=True)
    )
    title = f"raydistill: {folder.name}"
    return page.PageRecord(title=title, objectives=objectives, reference=reference, facts={}, ceiling=None)


def _worst(rows: pd.DataFrame, name: str, direction: str) -> float:
    """The worst number that a student has; 0 where none has any."""
    values = rows.get(tables.column(name), pd.Series(dtype=float)).astype(float).dropna()
    if values.empty:
        return 0.0
    return float(values.max() if direction == "min" else values.min())
