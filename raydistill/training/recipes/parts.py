"""What every recipe is made of: a minibatch, phases, and the network that is trained for."""

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.config.base import Frozen, Optimizer
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import Batch, DataInfo
from raydistill.distributed import Workers
from raydistill.evaluation.scorer import Scorer
from raydistill.models import networks, saved
from raydistill.models.inputs import latent_size
from raydistill.training.terms import Numbers, Pairs


@dataclass
class Step:
    """One minibatch as it goes through the phases. All tensors and arrays are this worker's part."""

    batch: Batch
    indices: np.ndarray
    """Which training images the inputs are, (B,)."""
    flips: np.ndarray
    """Which of them are mirrored, bool (B,)."""
    nimg: int
    """Images seen before this minibatch, over all workers."""
    offset: int = 0
    """Position of this worker's first image in the minibatch of all workers."""
    output: Tensor = field(init=False)
    """Output of the network that is trained for, with its graph: s in a distillation, (B, 3, H, W)."""
    teacher: Tensor = field(init=False)
    """t, the teacher's output (B, 3, H, W); only in a distillation."""
    pairs: Pairs | None = None
    """What the mutual-information term sees; None: the recipe is no distillation."""
    shared_tensors: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that one phase stores for a later one, by name."""

    @property
    def positions(self) -> np.ndarray:
        """The number of each image in the whole training, (B,). Its random numbers are keyed by it."""
        return self.nimg + self.offset + np.arange(len(self.indices))


class Phase(NamedTuple):
    """One optimizer step that is taken in a minibatch."""

    name: str
    network: str
    """The network whose parameters it moves; no other is changed.

    Phases of one network share its optimizer.
    """
    config: Optimizer
    optimizer: torch.optim.Optimizer
    loss: Callable[[Step], tuple[Tensor, Numbers]]
    """Step -> (scalar to descend, numbers to log)"""
    also: tuple[str, ...] = ()
    """Names of networks that it moves together with `network`."""
    every: int = 1
    """It takes part in every so many-th minibatch; 1: in each."""


class Recipe(NamedTuple):
    """What the training loop needs to know about a training."""

    kind: str
    """What is trained for: generator or evaluator."""
    network: str
    """Name of the network that is trained for.

    Its moving average, where there is one, is evaluated and stored.
    """
    config: Frozen
    """Config of that network; it is stored beside the weights."""
    networks: dict[str, nn.Module]
    """All networks and buffers that move, by name."""
    phases: tuple[Phase, ...]
    """In the order in which a minibatch goes through them."""
    forward: Callable[[Step], None]
    """Fills in the outputs of a step, once for all phases."""
    evaluate: Callable[[Any], dict[str, float]]
    """Eval network -> its scores on val, by name. Collective."""
    context: dict[str, Any]
    """What the scores are computed with."""
    columns: Callable[[Any], dict[str, Callable[[Batch], Tensor]]]
    """Eval network -> what makes the pictures of each column of the sample grid."""
    latent: int | None = None
    """How many numbers a noise input has; None: the network takes the data's inputs."""


class Setup(NamedTuple):
    """Where a recipe runs, and on what data."""

    info: DataInfo
    device: torch.device
    workers: Workers


def start_of(training: GeneratorTraining, config: Any, setup: Setup) -> nn.Module:
    """The generator of `config` on the device, with the weights of `training.start`, or random
    ones where it is None.
    """
    generator = networks.generator(config, setup.info, training.seed)
    if training.start is not None:
        generator.load_state_dict(saved.load_generator(training.start)[1])
    return generator.to(setup.device)


def phase(
    network: str, module: nn.Module, config: Optimizer, loss: Callable[[Step], tuple[Tensor, Numbers]]
) -> Phase:
    """A phase called `network` that moves all parameters of `module` by Adam, in every minibatch."""
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)
    return Phase(network, network, config, optimizer, loss)


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


def generator_recipe(
    job: Job,
    setup: Setup,
    modules: dict[str, nn.Module],
    phases: tuple[Phase, ...],
    forward: Callable[[Step], None],
) -> Recipe:
    """The recipe of the network called `generator` among `modules`.

    It is scored by the evaluator of the job. In the sample grid its pictures stand beside those of the
    teacher, where there is one. Collective.
    """
    training = job.training
    assert job.evaluator is not None and isinstance(training, GeneratorTraining | DistillTraining)
    config = training.generator
    latent = latent_size(config)
    scorer = Scorer(job.data, job.evaluator, "val", setup.device, setup.workers, latent)

    def evaluate(network: nn.Module) -> dict[str, float]:
        return scorer.score(lambda part: network(part.inputs))

    def columns(network: nn.Module) -> dict[str, Callable[[Batch], Tensor]]:
        pictures: dict[str, Callable[[Batch], Tensor]] = {}
        if job.teacher is not None:
            teacher = saved.load(job.teacher, setup.info, setup.device)
            pictures["teacher"] = lambda part: teacher(part.inputs)
        return pictures | {"output": lambda part: network(part.inputs)}

    return Recipe(
        kind="generator",
        network="generator",
        config=config,
        networks=modules,
        phases=phases,
        forward=forward,
        evaluate=evaluate,
        context=scorer.context,
        columns=columns,
        latent=latent,
    )
