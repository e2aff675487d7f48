"""How long trainings are, in epochs: the data's count of pictures makes images of them."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raydistill.config.base import Frozen
from raydistill.config.bounds import AmountAboveZero, Interval, NumImages
from raydistill.config.experiment import Experiment

LengthName = Literal["full", "search"]
"""full: as published. search: students have `Lengths.search_share` of it; it is what a sweep takes."""
STAGES = ("evaluator", "features", "teacher", "student")


class Length(Frozen):
    """The length of a training, and how many reports it has, at equal distances."""

    epochs: AmountAboveZero | None = None
    """Passes over the training pictures; of unpaired data, over the larger one of the two domains."""
    nimg: NumImages | None = None
    """Images, whatever the number of pictures. One of the two is given."""
    reports: Interval = 10

    @model_validator(mode="after")
    def _has_one_unit(self) -> Self:
        if (self.epochs is None) == (self.nimg is None):
            raise ValueError("give one of epochs and nimg")
        return self

    def images(self, num_pictures: int, share: float = 1.0) -> int:
        """The length in images, for so many training pictures; `share` of it."""
        whole = self.epochs * num_pictures if self.epochs is not None else self.nimg or 0
        return max(1, round(share * whole))


class Lengths(Frozen):
    """The lengths of an experiment's trainings. None: as the config says."""

    evaluator: Length | None = None
    features: Length | None = None
    teacher: Length | None = None
    student: Length | None = None
    search_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the student's length that each trial of a search has. Teacher and evaluator have their whole
    length, so that a student that is trained again in full learns from the same teacher."""

    def values(
        self, num_pictures: int, name: LengthName, budgets: dict[str, int] | None = None
    ) -> dict[str, int]:
        """Config path -> images, of every length that is given.

        Args:
            num_pictures: of train, see `Length.epochs`.
            budgets: stage -> budget in images that somebody has chosen, over which its reports are spread.
        """
        found: dict[str, int] = {}
        for stage in STAGES:
            length: Length | None = getattr(self, stage)
            if length is None:
                continue
            share = self.search_share if stage == "student" and name == "search" else 1.0
            budget = (budgets or {}).get(stage, length.images(num_pictures, share))
            found[f"{stage}.budget_nimg"] = budget
            found[f"{stage}.report_every_nimg"] = math.ceil(budget / length.reports)
        return found


def with_lengths(
    experiment: Experiment,
    lengths: Lengths | None,
    num_pictures: int,
    name: LengthName,
    by_hand: frozenset[str] = frozenset(),
) -> Experiment:
    """The experiment with these lengths, in images.

    Args:
        by_hand: config paths that somebody has set; they stay as they are.
    """
    if lengths is None:
        return experiment
    budgets = {
        stage: getattr(experiment, stage).budget_nimg for stage in STAGES if f"{stage}.budget_nimg" in by_hand
    }
    changes: dict[str, dict[str, Any]] = {}
    for path, value in lengths.values(num_pictures, name, budgets).items():
        stage, _, field = path.partition(".")
        if path not in by_hand:
            changes.setdefault(stage, {})[field] = value
    stages = {
        stage: getattr(experiment, stage).model_copy(update=update) for stage, update in changes.items()
    }
    return experiment.model_copy(update=stages)
