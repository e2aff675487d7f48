"""A sweep as Python reads it: its tables, how it ended, its networks and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from raydistill.errors import DataError, RunError, StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records import mirror, pareto, remote, retrained, sweep_state, tables
from raydistill.records.files import write_json_atomic
from raydistill.records.tables import NamedDirection, read_table
from raydistill.sweep import page

if TYPE_CHECKING:
    from PIL.Image import Image
    from plotly.graph_objects import Figure

    from raydistill.exchange.student import Student

ENDED = "ended.json"
"""File in a sweep's folder that says what ended it."""


@dataclass(frozen=True, eq=False)
class SweepResult:
    """A sweep that has ended. What it holds is read from its folder when it is asked for the first time.

    The columns of its tables are listed in the reference of tables and files. In all of them `cost.macs`
    counts multiply-accumulates of one picture, times are in seconds, `nimg` counts images, `peak_memory_gb`
    is in GiB, and a metric's column is `metric.<split>/<name>`. A table that is damaged raises StoreError.
    """

    path: Path
    """The sweep's folder: STORE/sweeps/NAME, for an object store that of the local copy."""
    ended_by: str
    """Which limit ended the sweep, in words: "--trials 8"; "" where an earlier version stored none."""

    @property
    def name(self) -> str:
        """The sweep's name, which is that of its folder."""
        return self.path.name

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial and seed, in the order of their numbers: what was searched, the baselines,
        the teacher, replicates and the recheck."""
        return read_table(self.path / "trials.parquet")

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """What each trial measured during its training, one number a row: trial_id, nimg, metric, value."""
        return read_table(self.path / "evaluations.parquet")

    @property
    def front(self) -> pd.DataFrame:
        """The rows of `trials` that are on the Pareto front, the cheapest first."""
        members = self.trials[self.trials["front.member"]]
        return members.sort_values("cost.macs").reset_index(drop=True)

    @cached_property
    def retrained(self) -> pd.DataFrame:
        """What was trained again after the sweep, by `raydistill retrain` and `ablate`, a row each, in the
        columns of `trials`; `retrain_of` is the trial that a row repeats. Empty: nothing was."""
        path = self.path / f"{retrained.FOLDER}.parquet"
        remote.pull(path)
        return read_table(path) if path.exists() else self.trials.head(0).assign(retrain_of="")

    @cached_property
    def _page(self) -> page.PageRecord:
        if not (self.path / page.FILE).exists():
            raise StoreError(
                f"{self.path}: no {page.FILE}, so its objectives are not known: an earlier version of "
                "raydistill ran it, or half of it was copied"
            )
        return page.read(self.path)

    @property
    def objectives(self) -> Sequence[NamedDirection]:
        """(name, "min" or "max") of each objective, such as ("val/miou", "max").

        Raises:
            StoreError: the sweep's folder does not say them.
        """
        return self._page.objectives

    @property
    def reference(self) -> Sequence[float]:
        """Reference point of the hypervolume, a number for each objective. Raises StoreError as above."""
        return self._page.reference

    @property
    def ceiling(self) -> float | None:
        """mIoU of the evaluator on real pictures; None: it has none. Raises StoreError as above."""
        return self._page.ceiling

    @cached_property
    def hypervolume(self) -> float:
        """Volume that the front dominates up to `reference`, qualities as means over the seeds.

        Raises:
            StoreError: as above, or a student lacks an objective or was measured under other conditions.
        """
        directions = [direction for _, direction in self.objectives]
        try:
            points = tables.objective_points(tables.mean_over_seeds(self.trials), self.objectives)
        except RunError as error:
            raise StoreError(f"{self.path}: {error}") from None
        return pareto.hypervolume(points, directions, self.reference)

    def student(self, trial_id: str) -> "Student":
        """A trial's network, which maps pictures to pictures, both uint8: see `Student`.

        Args:
            trial_id: such as "0010"; also the teacher's, "0000", and those of `retrained`.

        Raises:
            StoreError: there is no such trial, or it has no network, as where it failed.
        """
        from raydistill.exchange.student import load_student  # torch, for which tables have no need

        return load_student(self._folder_of(trial_id), trial_id)

    def samples(self, trial_id: str) -> "Image":
        """The grid of sample pictures that a trial drew at its end, as a PIL image, 8-bit RGB.

        A row is a picture of val; the columns are the input, where it is a picture, the target, the teacher's
        output and the student's.

        Args:
            trial_id: such as "0010".

        Raises:
            StoreError: there is no such trial, or it drew none.
        """
        from raydistill.data.picture_files import opened  # torch, for which tables have no need

        file = self._folder_of(trial_id) / "samples.png"
        remote.pull(file)
        try:
            return opened(file.read_bytes(), str(file)).image
        except (OSError, DataError) as error:
            raise StoreError(f"{file}: trial {trial_id} has no samples: {error}") from None

    def plot(self) -> "Figure":
        """The trials and their front as a plotly figure, with the axes and marks of the sweep's page.

        Raises:
            StoreError: the sweep's folder does not say its objectives.
        """
        from analysis.figures import front_figure

        return front_figure(
            tables.mean_over_seeds(self.trials), self.objectives, title=self.name, ceiling=self.ceiling
        )

    def _folder_of(self, trial_id: str) -> Path:
        """A trial's folder. Raises StoreError where there is none."""
        for parent in ("trials", retrained.FOLDER):
            folder = self.path / parent / trial_id
            remote.pull(folder)
            if Path(trial_id).name == trial_id and (folder / "trial.json").exists():
                return folder
        known = ", ".join(self.trials["trial_id"])
        raise StoreError(f"{self.path}: there is no trial {trial_id!r}. Trials: {known}")

    def __repr__(self) -> str:
        ended = f", ended by {self.ended_by}" if self.ended_by else ""
        return (
            f"SweepResult({str(self.path)!r}: {len(self.trials)} trials, "
            f"{int(self.trials['front.member'].sum())} on the front{ended})"
        )


def load_sweep(path: str | Path) -> SweepResult:
    """Opens a sweep that has ended, from its folder. It is the record that `run_sweep` returned.

    Args:
        path: STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME, of which a local copy is made.

    Raises:
        StoreError: there is no sweep that has ended: it runs, was interrupted, has failed or was half copied;
            or the file that says how it ended is damaged.
    """
    folder = mirror.sweep_of(str(path))
    if "://" in str(path):
        remote.require_bucket(folder)
        remote.pull(folder)
    sweep_state.require_ended(folder)
    return SweepResult(folder, _ended_by(folder))


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
