"""What one sweep needs, `Experiment`, and what one training needs, `Job`.

A preset is a function that returns a full `Experiment`. Only the canonical JSON of a config is sent to
workers.
"""

from typing import Literal

from pydantic import model_validator

from raydistill.config import renamed
from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.data import Data
from raydistill.config.training import (
    AnyTraining,
    DistillTraining,
    EvaluatorTraining,
    GeneratorTraining,
    TeacherTraining,
)

JOB_VERSION: Literal[3] = 3


class Experiment(Frozen):
    """All that one sweep needs: the data, and how evaluator, teacher and students are trained."""

    data: Data
    evaluator: EvaluatorTraining
    teacher: TeacherTraining
    student: DistillTraining
    given_teacher: Stored | None = None
    """A trained generator of the config `teacher.generator`: the teacher as it is. None: one is trained."""


class Job(Frozen):
    """Everything that one training needs, as JSON. Two jobs with the same key give the same result."""

    version: Literal[2, 3] = JOB_VERSION
    """Raised when a training gives another result for the same config, or when names in the config change, so
    that older results are not reused. A job of an older version can be read, but not trained."""
    training: AnyTraining
    data: Stored
    evaluator: Stored | None = None
    teacher: Stored | None = None
    """What a student learns from. In the job of a teacher itself: the given network, see `is_given`."""

    @model_validator(mode="before")
    @classmethod
    def _names_of_before(cls, data: object) -> object:
        return renamed.job_now(data)

    @model_validator(mode="after")
    def _evaluator_gives_no_loss(self) -> "Job":
        evaluator, teacher = self.evaluator, self.teacher
        if evaluator is not None and teacher is not None and evaluator.digest == teacher.digest:
            raise ValueError(
                f"network {evaluator.digest} is the teacher, so it cannot be the evaluator too: "
                "what gives a loss never scores"
            )
        return self

    @property
    def is_given(self) -> bool:
        """Whether nothing is trained: the generator is the teacher that was given, and it is scored once."""
        return self.teacher is not None and isinstance(self.training, GeneratorTraining)

    @property
    def key(self) -> str:
        """trial_key: the digest of the resolved config, seed, data, teacher and evaluator."""
        return digest(self)
