"""What every recipe is made of: a minibatch, phases, and the entry that registers it."""

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from raydistill.config.base import Optimizer
from raydistill.config.training import Training
from raydistill.data import Batch, DataInfo
from raydistill.data.augment import SampleIndex
from raydistill.data.source import Pairing
from raydistill.distributed import Workers
from raydistill.models.features import FeatureNetwork
from raydistill.training.terms import Check, Numbers, Teacher

Networks = dict[str, nn.Module]
"""Networks and buffers by name."""


@dataclass
class Step:
    """One minibatch as it goes through the phases: the record that the forward and they fill in.

    All tensors and arrays are this worker's part.
    """

    batch: Batch
    sample: SampleIndex
    """Which training images the inputs are, and which of them are mirrored."""
    nimg: int
    """Images seen before this minibatch, over all workers."""
    offset: int = 0
    """Position of this worker's first image in the minibatch of all workers."""
    stored: Tensor | None = None
    """The teacher's stored outputs for the images, (B, 3, H, W) in [-1, 1]; None: it makes them."""
    is_reported: bool = False
    """Whether a report follows: numbers that cost something are computed in its step alone."""
    recorded: Tensor | None = None
    """What teachers beside the student gave for this minibatch, a row of `training.recording`; None:
    they train."""
    output: Tensor = field(init=False)
    """Output of the network that is trained for, with its graph: s in a distillation, (B, 3, H, W)."""
    teacher: Tensor = field(init=False)
    """t, the teacher's output (B, 3, H, W) without a graph, in a distillation."""
    activations: dict[str, Tensor] = field(default_factory=dict)
    teacher_activations: dict[str, Tensor] = field(default_factory=dict)
    """Of student and teacher, by name, in a distillation whose base taps them."""
    shared_tensors: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that one phase stores for a later one, by name."""
    checks: list[Check] = field(default_factory=list)
    """What has to hold before the optimizer moves, see `Check`. A loss adds to it."""

    def __len__(self) -> int:
        """The number of this worker's images."""
        return len(self.sample.indices)

    @property
    def images(self) -> range:
        """The number of each image in the whole training. Its random numbers are keyed by it."""
        return range(self.nimg + self.offset, self.nimg + self.offset + len(self))

    def part(self, images: slice) -> "Step":
        """The step of these images alone; views."""
        stored = None if self.stored is None else self.stored[images]
        offset = self.offset + images.start
        return Step(
            self.batch.part(images), self.sample.part(images), self.nimg, offset, stored, self.is_reported
        )


class Phase(NamedTuple):
    """One optimizer step that is taken in a minibatch."""

    name: str
    moves: tuple[str, ...]
    """Names of the networks whose parameters it moves together; no other is changed.

    Phases with the same first name share an optimizer.
    """
    config: Optimizer
    loss: Callable[[Step], tuple[Tensor, Numbers]]
    """Step -> (scalar to descend, numbers to log). It asks no tensor for its value: on the meta device, where
    memory is predicted, there is none."""
    every: int = 1
    """It takes part in every so many-th minibatch; 1: in each."""

    @property
    def network(self) -> str:
        """The name of its optimizer: that of the first network that it moves."""
        return self.moves[0]


Recorded = Callable[[Step, Numbers], Mapping[str, Tensor]]
"""(step after its phases, the numbers that they logged) -> what `BaseDistillation.recorded` gives."""


class Schedule(NamedTuple):
    """What happens to one minibatch."""

    forward: Callable[[Step], None]
    """Fills in `output` of a step, once for all phases."""
    phases: tuple[Phase, ...]
    """In the order in which a minibatch goes through them."""
    recorded: Recorded | None = None
    """What is recorded of a minibatch after its phases; None: nothing."""


class Setup(NamedTuple):
    """Where a recipe runs, and beside whom."""

    info: DataInfo
    device: torch.device
    workers: Workers
    teacher: Teacher | None = None
    """Gives the teacher's outputs for training images; None: the training has no teacher."""
    features: FeatureNetwork | None = None
    """What losses compare features by, frozen; None: no loss of the training does."""


class RecipeKind(NamedTuple):
    """What is registered for a recipe.

    The loop brings everything else: data, teacher, initial weights, scores, optimizers, precision, sharding,
    averages and checkpoints. The prediction of memory runs the same networks and phases on the meta device.
    """

    config: type[Training]
    """The class of its training's config."""
    networks: Callable[[Any, DataInfo], Networks]
    """(config, what the data are) -> all networks and buffers that move, by name, with random weights from
    the config's seed."""
    schedule: Callable[[Any, Networks, Setup], Schedule]
    """(config, the networks, where they run) -> what happens to a minibatch. The networks may be sharded,
    compiled or on another device by then, and have the same names."""
    pairing: Pairing | None = None
    """How inputs and targets of the data must belong together; None: it trains on any pictures."""
    network: Literal["generator", "evaluator", "features"] = "generator"
    """What it trains for, and the name of that network among `networks`. Its moving average, where there is
    one, is evaluated and stored."""
    stored_beside: tuple[Literal["discriminator"], ...] = ()
    """Other networks that are stored at the end, by name, which is also that of the config's field for it. A
    student's discriminator may start from one."""


def phase(network: str, config: Optimizer, loss: Callable[[Step], tuple[Tensor, Numbers]]) -> Phase:
    """A phase called `network` that moves the network of this name in every minibatch."""
    return Phase(network, (network,), config, loss)


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """In this context the network is in eval mode: its buffers do not move."""
    mode = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(mode)


def weighted_sum(
    losses: Mapping[str, tuple[float, Callable[[], Tensor]]], output: Tensor
) -> tuple[Tensor, Numbers]:
    """The sum of weight * loss, and the losses by name, to log.

    A loss whose weight is 0 is neither computed nor logged. Where all weights are 0, so is the gradient.

    Args:
        losses: Name -> (weight, function that computes the loss: a scalar).
        output: Output of the network that descends the sum, with its graph.
    """
    numbers = {name: loss() for name, (weight, loss) in losses.items() if weight}
    if not numbers:
        return 0.0 * output.sum(), {}
    terms = [losses[name][0] * number for name, number in numbers.items()]
    return functools.reduce(operator.add, terms), numbers
