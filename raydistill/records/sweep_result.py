"""A sweep as Python reads it: its tables and how it ended, from the sweep's folder."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from raydistill.errors import StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records import mirror, remote
from raydistill.records.files import write_json_atomic
from raydistill.records.tables import read_table

ENDED = "ended.json"
"""File in a sweep's folder that says what ended it."""


@dataclass(frozen=True, eq=False)
class SweepResult:
    """A sweep that has ended. The columns of its tables are listed in the reference of tables and files.

    In all tables `cost.macs` counts multiply-accumulates of one picture, times are in seconds, `nimg` counts
    images, `peak_memory_gb` is in GiB, and a metric's column is `metric.<split>/<name>`.
    """

    path: Path
    """The sweep's folder: STORE/sweeps/NAME, for an object store that of the local copy."""
    trials: pd.DataFrame
    """One row for each trial and seed, in the order of their numbers: what was searched, the baselines, the
    teacher, replicates and the recheck."""
    evaluations: pd.DataFrame
    """What each trial measured during its training, one number a row: trial_id, nimg, metric, value."""
    ended_by: str
    """Which limit ended the sweep, in words: "--trials 8"; "" where an earlier version stored none."""

    @property
    def name(self) -> str:
        """The sweep's name, which is that of its folder."""
        return self.path.name

    @property
    def front(self) -> pd.DataFrame:
        """The rows of `trials` that are on the Pareto front, the cheapest first."""
        members = self.trials[self.trials["front.member"]]
        return members.sort_values("cost.macs").reset_index(drop=True)

    def __repr__(self) -> str:
        ended = f", ended by {self.ended_by}" if self.ended_by else ""
        return (
            f"SweepResult({str(self.path)!r}: {len(self.trials)} trials, "
            f"{int(self.trials['front.member'].sum())} on the front{ended})"
        )


def load_sweep(path: str | Path) -> SweepResult:
    """Reads a sweep that has ended from its folder. It is the record that `run_sweep` returned.

    Args:
        path: STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME, of which a local copy is made.

    Raises:
        StoreError: there is no sweep that has ended, or a file of it is damaged.
    """
    folder = mirror.sweep_of(str(path))
    if "://" in str(path):
        remote.require_bucket(folder)
        remote.pull(folder)
    if not (folder / "trials.parquet").exists():
        raise StoreError(
            f"{path}: no finished sweep here (no trials.parquet); an interrupted one goes on with --resume"
        )
    trials, evaluations = (read_table(folder / f"{name}.parquet") for name in ("trials", "evaluations"))
    return SweepResult(folder, trials, evaluations, _ended_by(folder))


def write_ended_by(folder: Path, ended_by: str) -> None:
    """Stores which limit ended the sweep in `folder`, in words. Raises StoreError where the disk refuses."""
    write_json_atomic(folder / ENDED, {"ended_by": ended_by})


def _ended_by(folder: Path) -> str:
    """What `write_ended_by` stored; "" where it was never called. Raises StoreError: the file is damaged."""
    path = folder / ENDED
    if not path.exists():
        return ""
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: damaged or unreadable: {error}; remove it") from error
    if not isinstance(content, dict) or not isinstance(ended_by := content.get("ended_by"), str):
        raise StoreError(f"{path}: damaged: no text under ended_by; remove it")
    return ended_by
