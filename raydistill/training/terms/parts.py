"""What every mutual-information term is made of: pairs, what it is built with, and its interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from raydistill.data import DataInfo
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers

Numbers = dict[str, Tensor]
"""Scalars to log, by name."""


class TeacherPictures(Protocol):
    """Gives the teacher's outputs for training images."""

    def __call__(self, sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [-1, 1]. `inputs`: those of the images, where the caller has them already."""


class Teacher(TeacherPictures, Protocol):
    """Gives the teacher's outputs for training images, and what leads to them."""

    def inputs(self, sample: SampleIndex) -> Tensor:
        """What a generator gets for training images, on the device."""

    def tapped(self, inputs: Tensor, names: Sequence[str] | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs for these inputs, and the activations of these names; None: the family's four."""

    def move_to(self, nimg: int) -> None:
        """Says how many images the training has seen: a teacher of several states takes the one of now."""


class Check(NamedTuple):
    """What has to hold before an optimizer moves. The loop collects the checks of all workers on the device
    and asks at the next report, so that a loss never waits; nothing moves from the first that does not hold.
    """

    holds: Tensor
    """bool, without dimensions; of this worker alone."""
    what: str
    """What does not hold, and after "; " what to do: as in "an energy is not finite; lower the learning
    rate". The loop adds the phase and the image."""


class OwnLoss(NamedTuple):
    """What a term's own network learns from, on this worker's part of one minibatch."""

    loss: Tensor
    """The scalar to descend."""
    numbers: Numbers
    """To log."""
    shared: Mapping[str, Tensor] = {}
    """What the student's loss of the same pairs is to see, by name, without a graph."""
    checks: tuple[Check, ...] = ()
    """What has to hold before the network moves."""


@dataclass(frozen=True)
class Pairs:
    """What a term sees of this worker's part of one minibatch."""

    s: Tensor
    """The student's outputs (B, 3, H, W), with their graph."""
    t: Tensor
    """The teacher's outputs (B, 3, H, W), without a graph."""
    positive: Tensor
    """What s is paired with, (B, 3, H, W): t, or the target pictures."""
    inputs: Tensor = field(kw_only=True)
    """x, what student and teacher got: (B, C, H, W), or noise (B, latent)."""
    target: Tensor = field(kw_only=True)
    """y, the real pictures (B, 3, H, W); of unpaired data and noise they do not belong to the inputs."""
    sample: SampleIndex
    """Which training images the inputs are, and which of them are mirrored."""
    first_image: int
    """How many images of the whole training come before the first of these.

    It is the same for any number of workers.
    """
    is_reported: bool = False
    """Whether a report follows: numbers that cost something are computed in its step alone."""
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    """`OwnLoss.shared` of the same pairs; empty before the term's own loss."""
    labels: Tensor | None = None
    """Label maps (B, H, W) of the targets; None: there are none."""
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    """The student's, by the names that its base taps, with their graph."""
    teacher_activations: Mapping[str, Tensor] = field(default_factory=dict)
    """The teacher's, by the names that the base taps, without a graph."""

    @property
    def images(self) -> range:
        """The number of each picture in the whole training. Its random numbers are keyed by it."""
        return range(self.first_image, self.first_image + len(self.s))


@dataclass(frozen=True)
class TermSetup:
    """What a term is built with, beside its config."""

    seed: int
    """Seed of the training: every random number of the term comes from it."""
    info: DataInfo
    """What the data are; its height and width are those of the pictures."""
    device: torch.device
    workers: Workers
    teacher: TeacherPictures
    """Gives the teacher's outputs for training images."""
    where: str = "student.terms.mi"
    """Dotted path of the term's config, for messages."""
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    """What `TermKind.networks` gave, by name; the networks may be sharded or compiled."""


class MiTerm(ABC):
    """A mutual-information term, or any loss between student and teacher.

    Everything of it that moves is what `TermKind.networks` gives, so it is in checkpoints, too.
    """

    name: str
    """Name of its phase, and of the network that the phase moves. A term without a network needs no name."""

    def __init__(self, config: Any, setup: TermSetup):
        self.config, self.setup = config, setup

    def own_loss(self, pairs: Pairs) -> OwnLoss:
        """What the term's own network descends.

        It comes before `student_loss` of the same pairs, and gives s no gradient. Collective.
        """
        raise NotImplementedError(f"{type(self).__name__} has a network and no own_loss")

    @abstractmethod
    def student_loss(self, pairs: Pairs) -> Tensor:
        """The scalar that the student descends, before it is multiplied by the term's weight.

        The term's own network is not moved: the gradient flows through s alone.
        """


def num_inputs(info: DataInfo) -> int:
    """Number of training images whose outputs a teacher can be asked for."""
    return (info.input_counts or info.counts)["train"]
