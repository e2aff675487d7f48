"""What every base distillation is made of: what it is built with, its phases, and its interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raydistill.config.base import Optimizer
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.data.source import Pairing
from raydistill.distributed import Workers
from raydistill.models.features import FeatureNetwork
from raydistill.training.rows import Layout
from raydistill.training.steps import Networks, Step
from raydistill.training.terms import Numbers, Pairs, Teacher, TeacherPictures


class OwnPhase(NamedTuple):
    """A step of networks of the base itself, before the student's."""

    name: str
    moves: tuple[str, ...]
    """Names of the base's networks that it moves together."""
    config: Optimizer
    loss: Callable[[Pairs], tuple[Tensor, Numbers]]
    """Pairs -> (scalar to descend, numbers to log)."""
    every: int = 1
    """It takes part in every so many-th minibatch."""


@dataclass(frozen=True)
class BaseSetup:
    """What a base is built with, beside its config."""

    info: DataInfo
    device: torch.device
    workers: Workers
    student: Any
    """Config of the student's generator."""
    batch_size: int
    """Images of a minibatch over all workers."""
    teacher: Teacher | None = None
    """The trained teacher. Where the base trains teachers of its own, it gives inputs alone."""
    features: FeatureNetwork | None = None
    """The feature network; None: the base needs none."""
    asking_terms: tuple[str, ...] = ()
    """Names of the terms whose questions to the teacher are recorded, see `DistillTraining.asking_terms`."""
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    """What `BaseKind.networks` gave, by name; the networks may be sharded or compiled."""

    @property
    def is_unpaired(self) -> bool:
        """Whether targets do not belong to the inputs."""
        return self.info.pairing == "unpaired"


class BaseDistillation(ABC):
    """A base distillation: the student's loss beside its terms.

    Everything of it that moves is what `BaseKind.networks` gives, so it is in checkpoints and predictions of
    memory, too.
    """

    moves: tuple[str, ...] = ()
    """Those of its networks that the student's optimizer moves together with the student: adaptors."""
    student_taps: Mapping[str, str] = {}
    """Name -> module of the student, whose activations it sees."""

    def __init__(self, config: Any, setup: BaseSetup):
        self.config, self.setup = config, setup

    def see_teacher(self, step: Step) -> None:
        """Fills in `step.teacher`, and the activations of the teacher that the base sees: once for all
        phases.

        Here: the stored pictures, or those of the trained teacher.
        """
        assert self.setup.teacher is not None
        stored = step.stored
        step.teacher = self.setup.teacher(step.sample, step.batch.inputs) if stored is None else stored

    @property
    def teacher(self) -> TeacherPictures:
        """Gives the teacher's outputs for other training images, for terms."""
        assert self.setup.teacher is not None
        return self.setup.teacher

    def teacher_of(self, term: str) -> TeacherPictures:
        """`teacher`, for the term of this name."""
        return self.teacher

    def phases(self) -> tuple[OwnPhase, ...]:
        """Steps of the base's own networks, in the order in which a minibatch goes through them."""
        return ()

    def recorded(self, step: Step, numbers: Numbers) -> Mapping[str, Tensor]:
        """What teachers that train beside the student gave in a step: see `BaseKind.record`.

        Args:
            step: after its phases.
            numbers: what they logged.
        """
        raise NotImplementedError(f"{type(self).__name__} trains no teachers that can be recorded")

    @abstractmethod
    def student_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """The scalar that the student descends beside its terms, and numbers to log.

        No network but the student and those in `moves` gets a gradient.
        """


class RecordKind(NamedTuple):
    """How all that a base's own teachers give is recorded, see `training.recording`."""

    decides: Callable[[Any], Mapping[str, Any]]
    """Config -> what of it decides about the record, beside the options that all trainings have."""
    networks: tuple[str, ...]
    """Networks that are not built where a record is read: the teachers, and what only they need."""
    layout: Callable[[Any, DataInfo, int], Layout]
    """(config, what the data are, a worker's images of a minibatch) -> what `BaseDistillation.recorded`
    gives, without what terms ask, see `with_asked`. Where those networks are missing, the base takes it from
    `Step.recorded`."""


def with_asked(layout: Layout, asking_terms: tuple[str, ...], info: DataInfo, number: int) -> Layout:
    """A layout of `number` images with the pictures that terms ask for, each named `asked.TERM`."""
    pictures = (number, 3, info.height, info.width)
    return {**layout, **{f"asked.{name}": pictures for name in asking_terms}}


class BaseKind(NamedTuple):
    """What is registered for a kind of base distillation."""

    config: type[Any]
    """The class of its config."""
    build: Callable[[Any, BaseSetup], BaseDistillation]
    """(config, setup) -> the base."""
    networks: Callable[[Any, Any, DataInfo, int], Networks] = lambda config, student, info, seed: {}
    """(config, config of the student's generator, what the data are, seed) -> networks of the base by name,
    with random weights from the seed."""
    check: Callable[[DistillTraining, DataInfo], None] = lambda training, info: None
    """(the student's training, whose `base` is the config; what the data are): raises ConfigError where the
    base cannot be trained."""
    pairings: tuple[Pairing, ...] = ("pairs", "unpaired", "pictures")
    """How inputs and targets may belong together; "pictures": from noise."""
    record: RecordKind | None = None
    """How its teachers are recorded; None: it trains none, or they hear of the student."""
