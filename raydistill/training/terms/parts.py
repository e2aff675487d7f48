"""What every mutual-information term is made of: pairs, what it is built with, and its interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.data import DataInfo
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers

Numbers = dict[str, Tensor]
"""Scalars to log, by name."""
TeacherPictures = Callable[[SampleIndex], Tensor]
"""Training images -> the teacher's outputs for them, (B, 3, H, W) in [-1, 1]"""


class Check(NamedTuple):
    """What has to hold before an optimizer moves. The loop asks all checks of a phase at once, after the
    backward, so that a loss never waits for the device, and raises DivergenceError where one does not hold.
    """

    holds: Tensor
    """bool, without dimensions; the same on every worker."""
    message: Callable[[], str]
    """What the error says; called where the check does not hold."""


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
    indices: np.ndarray
    """Which training images the inputs are, (B,)."""
    flips: np.ndarray
    """Which of them are mirrored, bool (B,)."""
    first_image: int
    """How many images of the whole training come before the first of these.

    It is the same for any number of workers.
    """
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    """`OwnLoss.shared` of the same pairs; empty before the term's own loss."""

    @property
    def positions(self) -> np.ndarray:
        """The number of each picture in the whole training, (B,)."""
        return np.arange(self.first_image, self.first_image + len(self.s))


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
