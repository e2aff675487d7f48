"""The page of a sweep, and what it says beside the tables: `page.json`.

With that it is drawn while the sweep runs, at its end, and again when more is measured of a trial.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from raydistill.config.base import Frozen
from raydistill.config.paths import validated
from raydistill.errors import ConfigError, StoreError
from raydistill.reading import read_text
from raydistill.records import ablated, measured, remote, retrained, tables
from raydistill.records.files import write_json_atomic

if TYPE_CHECKING:
    from analysis import Report

FILE = "page.json"
PLANNED = "plan.csv"


State = Literal["ended", "running", "unfinished"]
"""Of a sweep: it has ended, it is trained now, or neither."""


class PageRecord(Frozen):
    """What a sweep's page says beside the tables."""

    title: str
    objectives: tuple[tuple[str, Literal["min", "max"]], ...]
    """Name of each objective, and which way is better."""
    reference: tuple[float, ...]
    """Reference point of the hypervolume, a number for each objective."""
    facts: dict[str, str]
    """Lines of the block of facts: name -> text."""
    ceiling: float | None
    """mIoU of the evaluator on real pictures; None: it has none."""


def write_record(folder: Path, record: PageRecord) -> None:
    """Stores what the page of the sweep in `folder` says. Raises StoreError: the disk refuses."""
    write_json_atomic(folder / FILE, record.model_dump(mode="json"))


def draw(
    folder: Path,
    table: pd.DataFrame,
    evaluations: pd.DataFrame,
    record: PageRecord,
    samples: Mapping[str, Path],
    *,
    state: State = "ended",
) -> "Report":
    """Draws the page of the sweep in `folder`.

    Args:
        table: the trials table with the front's columns.
        evaluations: the evaluations table.
        record: what it says beside them.
        samples: trial id -> PNG file, for the trials that have one.
        state: of the sweep.

    Returns:
        the files that were drawn.

    Raises:
        RunError: the objectives of two trials were measured under different conditions.
        StoreError: a file cannot be written.
    """
    import analysis  # matplotlib and plotly: a second, and only who draws needs them

    return analysis.write_report(
        table,
        evaluations,
        folder,
        title=record.title,
        objectives=record.objectives,
        reference=record.reference,
        facts=record.facts | retrained.facts(folder) | ablated.facts(folder),
        moment=analysis.Moment(drawn=measured.now(), state=state),
        ceiling=record.ceiling,
        samples=samples,
        planned=_planned(folder) if state == "ended" else None,
    )


def renew(folder: Path) -> bool:
    """Brings what was measured later into tables and page of a sweep that has ended.

    The caller holds the sweep's lock.

    Returns:
        whether the page was drawn again; False: the version that ran the sweep stored too little for it.

    Raises:
        StoreError: the sweep has not ended, or a file is damaged or cannot be written.
        RunError: the numbers of two trials were measured under different conditions.
    """
    for name in (FILE, "trials.parquet", "evaluations.parquet"):
        remote.pull(folder / name)
    trials, evaluations = (
        tables.read_table(folder / f"{name}.parquet") for name in ("trials", "evaluations")
    )
    table = measured.in_table(trials, folder)
    tables.write_tables(folder, table, evaluations)
    if (folder / FILE).exists():
        draw(folder, table, evaluations, read(folder), samples(folder))
    remote.push(folder, skip=("trials", "retrained"))
    return (folder / FILE).exists()


def _planned(folder: Path) -> pd.DataFrame | None:
    """What was predicted beside what the sweep took; None: the version that ran it stored none."""
    remote.pull(folder / PLANNED)
    return pd.read_csv(folder / PLANNED) if (folder / PLANNED).exists() else None


def read(folder: Path) -> PageRecord:
    """What `write_record` stored in a sweep's folder. Raises StoreError: the file is damaged."""
    path = folder / FILE
    try:
        record = validated(PageRecord, json.loads(read_text(path)), where=str(path))
        if not 2 <= len(record.objectives) == len(record.reference):
            raise ValueError("needed are two objectives or more, and a reference for each")
        return record
    except (OSError, ValueError, ConfigError) as error:
        raise StoreError(
            f"{path}: damaged: {error}; remove it, and the sweep's command with --resume makes it again"
        ) from None


def samples(folder: Path) -> dict[str, Path]:
    """Trial id -> its grid of samples, where there is one, of the sweep in `folder`."""
    paths = {trial.name: trial / "samples.png" for trial in remote.folders(folder / "trials")}
    for path in paths.values():
        remote.pull(path)
    return {trial_id: path for trial_id, path in paths.items() if path.is_file()}
