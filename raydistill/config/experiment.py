"""Configs: frozen, typed, printable, identified by a digest.

A preset is a function returning a full `Experiment`. Overrides are dotted paths (`dotted.py`). Only the canonical JSON of a
config travels to workers; where a file lies (`Location`) and how a training is carried out (`Execution`) are not part of what it is, so
they are left out of the digest.
"""

from typing import Literal

from pydantic import (
    model_validator,
)

from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.data import Data
from raydistill.config.training import AnyTraining, DistillTraining, EvaluatorTraining, TeacherTraining

# ---- the mutual-information term ------------------------------------------------------------------------------------


# ---- data -----------------------------------------------------------------------------------------------------------


# ---- training -------------------------------------------------------------------------------------------------------


class Experiment(Frozen):
    """All that one sweep needs: the data, and how evaluator, teacher and students are trained."""

    data: Data
    evaluator: EvaluatorTraining
    teacher: TeacherTraining
    student: DistillTraining


class Job(Frozen):
    """Everything `train` needs, as JSON. Two jobs with one key give the same result."""

    version: Literal[2] = 2
    """Raised when `train` gives another result for the same config, so that nothing older is reused."""
    training: AnyTraining
    data: Stored
    evaluator: Stored | None = None
    teacher: Stored | None = None

    @model_validator(mode="after")
    def _evaluator_gives_no_loss(self) -> "Job":
        if (
            self.evaluator is not None
            and self.teacher is not None
            and self.evaluator.digest == self.teacher.digest
        ):
            raise ValueError(
                f"network {self.evaluator.digest} is the teacher, so it cannot be the evaluator too: what gives a loss never scores"
            )
        return self

    @property
    def key(self) -> str:
        """trial_key: digest of resolved config, seed, data, teacher and evaluator."""
        return digest(self)


# ---- digests --------------------------------------------------------------------------------------------------------
