"""What every recipe is made of: a minibatch on its way, phases, and the generator that is trained for."""

from collections.abc import Callable
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
    """One minibatch on its way through the phases. All tensors are this worker's part."""

    batch: Batch
    indices: np.ndarray
    """Which training images are the inputs, (B,)."""
    flips: np.ndarray
    """Which of them are mirrored, bool (B,)."""
    nimg: int
    """Images seen before this minibatch, over all workers."""
    offset: int = 0
    """Place of its first image in the global batch."""
    output: Tensor = field(init=False)
    """The trained network's output, with its graph; s in a distillation."""
    teacher: Tensor = field(init=False)
    """t: the teacher's output; only in a distillation."""
    pairs: Pairs | None = None
    """What the mutual-information term sees; only in a distillation."""
    left: dict[str, Tensor] = field(default_factory=dict)
    """What one phase leaves for a later one."""

    @property
    def positions(self) -> np.ndarray:
        """The number of each image in the whole training, (B,): what its noise is keyed by."""
        return self.nimg + self.offset + np.arange(len(self.indices))


class Phase(NamedTuple):
    name: str
    network: str
    """The network whose parameters it moves; no other is changed. Phases of one network share its optimiser."""
    config: Optimizer
    optimizer: torch.optim.Optimizer
    loss: Callable[[Step], tuple[Tensor, Numbers]]
    """Step -> (scalar to descend, numbers to log)"""
    also: tuple[str, ...] = ()
    """Networks that it moves together with that one."""
    every: int = 1
    """It takes part in every so many-th minibatch."""


class Recipe(NamedTuple):
    kind: str
    """What the finished network is: generator or evaluator."""
    network: str
    """The network that is trained for; its average is what is evaluated and kept."""
    config: Frozen
    networks: dict[str, nn.Module]
    phases: tuple[Phase, ...]
    forward: Callable[[Step], None]
    """Fills in the step's outputs, once for all phases."""
    evaluate: Callable[[Any], dict[str, float]]
    """Finished network -> scores on val. Collective."""
    context: dict[str, Any]
    """What the scores were computed with."""
    columns: Callable[[Any], dict[str, Callable[[Batch], Tensor]]]
    """Finished network -> named pictures for the sample grid."""
    latent: int | None = None
    """How many numbers an input of a generator that takes noise is."""


class Setup(NamedTuple):
    """Where a recipe runs."""

    info: DataInfo
    device: torch.device
    workers: Workers


def start_of(training: GeneratorTraining, config: Any, setup: Setup) -> nn.Module:
    """The generator of `config`, at random weights or at those of `training.start`."""
    generator = networks.generator(config, setup.info, training.seed)
    if training.start is not None:
        generator.load_state_dict(saved.load_generator(training.start)[1])
    return generator.to(setup.device)


def phase(
    network: str, module: nn.Module, config: Optimizer, loss: Callable[[Step], tuple[Tensor, Numbers]]
) -> Phase:
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)
    return Phase(network, network, config, optimizer, loss)


def generator_recipe(
    job: Job,
    setup: Setup,
    modules: dict[str, nn.Module],
    phases: tuple[Phase, ...],
    forward: Callable[[Step], None],
) -> Recipe:
    """The recipe of the network `generator` among `modules`: scored by the evaluator, shown beside its teacher."""
    training = job.training
    assert job.evaluator is not None and isinstance(training, GeneratorTraining | DistillTraining)
    config = training.generator
    latent = latent_size(config)
    scorer = Scorer(job.data, job.evaluator, "val", setup.device, setup.workers, latent)

    def evaluate(network: nn.Module) -> dict[str, float]:
        return scorer.score(lambda part: network(part.inputs))

    def columns(network: nn.Module) -> dict[str, Callable[[Batch], Tensor]]:
        shown: dict[str, Callable[[Batch], Tensor]] = {}
        if job.teacher is not None:
            teacher = saved.load(job.teacher, setup.info, setup.device)
            shown["teacher"] = lambda part: teacher(part.inputs)
        return shown | {"output": lambda part: network(part.inputs)}

    return Recipe(
        "generator",
        "generator",
        config,
        modules,
        phases,
        forward,
        evaluate,
        scorer.context,
        columns,
        latent,
    )
