"""What one sweep needs, `Experiment`, and what one training needs, `Job`.

A preset is a function that returns a full `Experiment`. Only the canonical JSON of a config is sent to
workers.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field, model_validator

from raydistill.config import renamed
from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.bases import AnyBase, Base
from raydistill.config.data import Data
from raydistill.config.features import FeaturesTraining
from raydistill.config.scoring import Scoring
from raydistill.config.training import (
    TEACHER_VARIANTS,
    DistillTraining,
    EvaluatorTraining,
    GeneratorTraining,
    OutputKind,
    StudentTraining,
    TeacherTraining,
    Training,
)
from raydistill.config.variants import Variants

JOB_VERSION: Literal[6] = 6
AnyTraining = Annotated[
    Training,
    Variants("recipe", EvaluatorTraining, FeaturesTraining, DistillTraining, TEACHER_VARIANTS),
]


class Experiment(Frozen):
    """All that one sweep needs: the data, and how evaluator, teacher and students are trained."""

    data: Data
    evaluator: EvaluatorTraining
    teacher: TeacherTraining
    student: DistillTraining
    given_teacher: Stored | None = None
    """A trained generator of the config `teacher.generator`: the teacher as it is. None: one is trained."""
    other_bases: Annotated[tuple[AnyBase, ...], Field(exclude_if=lambda bases: not bases)] = ()
    """Base distillations that a search may give students in place of `student.base`."""
    features: FeaturesTraining = FeaturesTraining()
    """The feature network that is trained where losses of students look at features and no file is given."""
    given_features: Annotated[Stored | None, Field(exclude_if=lambda file: file is None)] = None
    """A file of VGG16's weights: the feature network. None: one is trained where losses need it."""

    def resolved(self, student: DistillTraining) -> DistillTraining:
        """A student's training with what its base distillation has from the teacher's filled in.

        Raises:
            ConfigError: the base needs what the teacher's training does not have.
        """
        return student.model_copy(update={"base": student.base.resolved(self.teacher)})

    @property
    def bases(self) -> tuple[Base, ...]:
        """The base distillations that students may have."""
        return (self.student.base, *self.other_bases)

    @property
    def needs_features(self) -> bool:
        """Whether a student's losses may look at features."""
        return any(base.needs_features for base in self.bases)

    @property
    def trains_features(self) -> bool:
        """Whether the feature network is trained: a loss may look at features, and no file is given."""
        return self.needs_features and self.given_features is None

    @property
    def teacher_itself(self) -> GeneratorTraining:
        """The teacher's training without `outputs`, which is about students and no part of its job, and with
        what students' bases want of it kept.
        """
        keeps_reports = any(base.follows_slabs for base in self.bases)
        return self.teacher.model_copy(update={"outputs": "float32", "keeps_reports": keeps_reports})


class Shared(NamedTuple):
    """What all trials of a sweep share."""

    evaluator: Stored
    teacher: Stored
    features: Stored | None = None
    """What losses compare features by; None: no loss does."""
    discriminator: Stored | None = None
    """What the teacher was trained with; None: it was given, or its recipe has none."""
    slabs: tuple[Stored, ...] = ()
    """For each report of the teacher's training the best network so far; empty: they were not kept."""


class Job(Frozen):
    """Everything that one training needs, as JSON. Two jobs with the same key give the same result."""

    version: Literal[2, 3, 4, 5, 6] = JOB_VERSION
    """Raised when a training gives another result for the same config, or when names in the config change, so
    that older results are not reused. A job of an older version can be read, but not trained."""
    training: AnyTraining
    data: Stored
    evaluator: Stored | None = None
    teacher: Stored | None = None
    """What a student learns from. In the job of a teacher itself: the given network, see `is_given`."""
    slabs: Annotated[tuple[Stored, ...], Field(exclude_if=lambda slabs: not slabs)] = ()
    """Of a student that follows its teacher's training: for each report of it, the best network so far."""
    features: Annotated[Stored | None, Field(exclude_if=lambda network: network is None)] = None
    """What losses of a student compare features by: the folder of a trained network, or a file of VGG16."""
    teacher_discriminator: Annotated[Stored | None, Field(exclude_if=lambda stored: stored is None)] = None
    """What the discriminator of a student starts from; None: random weights, and the JSON has no such key."""
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
        if evaluator is not None and self.features is not None and _are_same(evaluator, self.features):
            raise ValueError(
                f"network {evaluator.digest} gives features to a loss, so it cannot be the evaluator too: "
                "what gives a loss never scores"
            )
        if self.scoring is not None:
            given = [each for each in (teacher, self.features) if each is not None]
            require_strangers(self.scoring, [self.training, *given])
        return self

    @property
    def needed(self) -> dict[str, Stored]:
        """What must be there to train it: what it is, in words -> where it lies."""
        found: dict[str, Stored | None] = {
            "data": self.data,
            "evaluator": self.evaluator,
            "teacher": self.teacher,
        }
        found["feature network"] = self.features
        found["teacher's discriminator"] = self.teacher_discriminator
        files = () if self.scoring is None else self.scoring.files
        found |= {f"{each.role} {each.name}": each.file for each in files}
        found |= {f"teacher at report {number}": slab for number, slab in enumerate(self.slabs, 1)}
        return {what: stored for what, stored in found.items() if stored is not None}

    @property
    def is_given(self) -> bool:
        """Whether nothing is trained: the generator is the teacher that was given, and it is scored once."""
        return self.teacher is not None and isinstance(self.training, GeneratorTraining)

    @property
    def key(self) -> str:
        """trial_key: the digest of the resolved config, seed, data, teacher, evaluator and scorers."""
        return digest(self)


def student_job(
    training: StudentTraining,
    experiment: Experiment,
    data: Stored,
    shared: Shared,
    scoring: Scoring | None = None,
) -> Job:
    """The job of a student, or of the baseline without a teacher, with what its training needs of the rest.

    Args:
        training: A student's base is resolved, see `Experiment.resolved`.
        data: The prepared data.
        scoring: What scores it beside the evaluator.
    """
    if not isinstance(training, DistillTraining):
        return Job(training=training, data=data, evaluator=shared.evaluator, scoring=scoring)
    base = training.base
    return Job(
        training=training,
        data=data,
        evaluator=shared.evaluator,
        teacher=shared.teacher,
        slabs=shared.slabs if base.follows_slabs else (),
        features=shared.features if base.needs_features else None,
        teacher_discriminator=shared.discriminator if base.starts_at_teacher else None,
        teacher_outputs=experiment.teacher.outputs,
        scoring=scoring,
    )


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


def _are_same(one: Stored, other: Stored) -> bool:
    """Whether two digests are of one content: that of a file may be whole, or its first 16 digits."""
    return one.digest[:16] == other.digest[:16]


def _stored_in(value: object) -> Iterator[Stored]:
    """Every `Stored` in a config."""
    if isinstance(value, Stored):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _stored_in(getattr(value, name))
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _stored_in(item)
