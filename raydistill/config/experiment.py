"""What one sweep needs, `Experiment`, and what one training needs, `Job`.

A preset is a function that returns a full `Experiment`. Only the canonical JSON of a config is sent to
workers.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from raydistill.config import renamed
from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.data import Data
from raydistill.config.scoring import Scoring
from raydistill.config.training import (
    AnyTraining,
    DistillTraining,
    EvaluatorTraining,
    GeneratorTraining,
    OutputKind,
    TeacherTraining,
)

JOB_VERSION: Literal[4] = 4


class Experiment(Frozen):
    """All that one sweep needs: the data, and how evaluator, teacher and students are trained."""

    data: Data
    evaluator: EvaluatorTraining
    teacher: TeacherTraining
    student: DistillTraining
    given_teacher: Stored | None = None
    """A trained generator of the config `teacher.generator`: the teacher as it is. None: one is trained."""

    @property
    def teacher_itself(self) -> GeneratorTraining:
        """The teacher's training without `outputs`, which is about students and no part of its job."""
        return self.teacher.model_copy(update={"outputs": "float32"})


class Job(Frozen):
    """Everything that one training needs, as JSON. Two jobs with the same key give the same result."""

    version: Literal[2, 3, 4] = JOB_VERSION
    """Raised when a training gives another result for the same config, or when names in the config change, so
    that older results are not reused. A job of an older version can be read, but not trained."""
    training: AnyTraining
    data: Stored
    evaluator: Stored | None = None
    teacher: Stored | None = None
    """What a student learns from. In the job of a teacher itself: the given network, see `is_given`."""
    teacher_outputs: Annotated[OutputKind, Field(exclude_if=lambda kind: kind == "float32")] = "float32"
    """`teacher.outputs` of the experiment, of a student's job."""
    scoring: Annotated[Scoring | None, Field(exclude_if=lambda scoring: scoring is None)] = None
    """What scores it beside the evaluator; None: nothing, and the JSON has no such key."""

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
        if self.scoring is not None:
            require_strangers(self.scoring, [self.training, *([teacher] if teacher else [])])
        return self

    @property
    def needed(self) -> dict[str, Stored]:
        """What must be there to train it: what it is, in words -> where it lies."""
        found = {"data": self.data, "evaluator": self.evaluator, "teacher": self.teacher}
        files = () if self.scoring is None else self.scoring.files
        found |= {f"{each.role} {each.name}": each.file for each in files}
        return {what: stored for what, stored in found.items() if stored is not None}

    @property
    def is_given(self) -> bool:
        """Whether nothing is trained: the generator is the teacher that was given, and it is scored once."""
        return self.teacher is not None and isinstance(self.training, GeneratorTraining)

    @property
    def key(self) -> str:
        """trial_key: the digest of the resolved config, seed, data, teacher, evaluator and scorers."""
        return digest(self)


def require_strangers(scoring: Scoring, losses: Sequence[BaseModel]) -> None:
    """Raises ValueError where a file that scores is one that gives a loss.

    Args:
        losses: What losses are made of: every `Stored` in them counts.
    """
    of_losses = {stored.digest[:16] for part in losses for stored in _stored_in(part)}
    for each in scoring.files:
        if each.file.digest[:16] in of_losses:
            raise ValueError(
                f"{each.role} {each.name}: a loss uses the file of digest {each.file.digest[:16]}: "
                "what gives a loss never scores; give another file"
            )


def _stored_in(value: object) -> Iterator[Stored]:
    """Every `Stored` in a config."""
    if isinstance(value, Stored):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _stored_in(getattr(value, name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _stored_in(item)
