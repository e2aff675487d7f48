"""What the loop trains: a recipe's networks and phases with everything that no recipe has to know.

Data, teacher, initial weights, optimizers and scores are the same for all recipes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.config.base import Frozen
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, EvaluatorTraining, GeneratorTraining, Training
from raydistill.data import Batch, load_split
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.evaluation.task_scorer import TaskScorer
from raydistill.models import saved
from raydistill.models.inputs import latent_size
from raydistill.training import recipes, teacher
from raydistill.training.divergence import Divergence
from raydistill.training.minibatches import Minibatches, TrainingData, held
from raydistill.training.recipes import Networks, Phase, RecipeKind, Setup, Step

Columns = dict[str, Callable[[Batch], Tensor]]
"""What makes the pictures of each column of the sample grid, by the column's name."""


@dataclass(frozen=True)
class Movers:
    """Networks, and what happens to them in a minibatch: all that the prediction of memory goes through."""

    kind: RecipeKind
    networks: Networks
    """All networks and buffers that move, by name."""
    forward: Callable[[Step], None]
    """Fills in the outputs of a step, the teacher's too, once for all phases."""
    phases: tuple[Phase, ...]
    """In the order in which a minibatch goes through them."""

    @property
    def network(self) -> str:
        """Name of the network that is trained for."""
        return self.kind.network


@dataclass(frozen=True)
class Stepping(Movers):
    """All that a step of a training goes through; what a step asks of a device is counted with it."""

    optimizers: dict[str, torch.optim.Optimizer]
    """`network` of a phase -> its optimizer."""
    minibatches: Minibatches
    """Of this worker."""
    divergence: Divergence
    """Whether it has diverged."""


@dataclass(frozen=True)
class Assembly(Stepping):
    """What the training loop needs to know about a training."""

    config: Frozen
    """Config of the network that is trained for; it is stored beside the weights."""
    evaluate: Callable[[nn.Module], dict[str, float]]
    """Eval network at the end of the training -> its scores on val, by name. Collective."""
    evaluate_report: Callable[[nn.Module], dict[str, float]]
    """The same at a report before: networks from files may be left out, see `config.scoring.Scoring`."""
    context: dict[str, Any]
    """What the scores are computed with."""
    columns: Callable[[nn.Module], Columns]
    """Eval network -> columns of the sample grid; none: no grid is made."""
    latent: int | None
    """How many numbers a noise input has; None: the network takes the data's inputs."""


def movers(training: Training, networks: Networks, setup: Setup) -> Movers:
    """A recipe's phases of these networks, with the teacher's outputs filled in where there is a teacher."""
    kind = recipes.kind_of(training)
    schedule = kind.schedule(training, networks, setup)

    def with_teacher(step: Step) -> None:
        if setup.teacher is not None:
            stored = step.stored
            step.teacher = setup.teacher(step.sample, step.batch.inputs) if stored is None else stored
        schedule.forward(step)

    return Movers(kind, networks, with_teacher, schedule.phases)


def stepping(training: Training, networks: Networks, data: TrainingData, setup: Setup) -> Stepping:
    """A recipe's phases of these networks, with minibatches of these data and new optimizers."""
    moving = movers(training, networks, setup)
    return Stepping(
        **vars(moving),
        optimizers={phase.network: _adam(phase, networks) for phase in moving.phases},
        minibatches=Minibatches(data, training, setup.device, setup.workers),
        divergence=Divergence([phase.name for phase in moving.phases], setup.device),
    )


def build(job: Job, setup: Setup) -> Assembly:
    """The networks of a job with their initial weights, and all that moves and scores them.

    Collective where a generator is scored.

    Args:
        setup: where it runs. Its teacher is not looked at, but that of the job.

    Raises:
        ConfigError: student, teacher, term and data do not fit together.
    """
    training, kind = job.training, recipes.kind_of(job.training)
    networks = {name: module.to(setup.device) for name, module in kind.networks(training, setup.info).items()}
    _start(networks[kind.network], job)
    data = held(load_split(job.data, "train"), teacher.stored_outputs(job), training, setup.device)
    if job.teacher is not None:
        pictures = teacher.teacher_pictures(job, data, setup.device, setup.workers)
        setup = setup._replace(teacher=pictures)
        if isinstance(training, DistillTraining):
            teacher.require_outputs(networks[kind.network], pictures, data, job)
    running = vars(stepping(training, networks, data, setup))
    if isinstance(training, EvaluatorTraining):
        scorer = TaskScorer(job.data, "val", setup.device, setup.workers)
        return Assembly(
            **running,
            config=training.network,
            evaluate=scorer.score,
            evaluate_report=scorer.score,
            context=scorer.context,
            columns=lambda network: {},
            latent=None,
        )
    assert job.evaluator is not None and isinstance(training, GeneratorTraining | DistillTraining)
    latent = latent_size(training.generator)
    of_pictures = EvaluatorScorer(
        job.data, job.evaluator, "val", setup.device, setup.workers, latent, scoring=job.scoring
    )
    return Assembly(
        **running,
        config=training.generator,
        evaluate=of_pictures.generator,
        evaluate_report=partial(of_pictures.generator, is_last=False),
        context=of_pictures.context,
        columns=lambda network: _columns(network, job, setup),
        latent=latent,
    )


def _start(network: nn.Module, job: Job) -> None:
    """Gives the network that is trained for the weights that its config names; else they stay random."""
    training = job.training
    if isinstance(training, GeneratorTraining) and training.start is not None:
        network.load_state_dict(saved.load_generator(training.start)[1])
    if isinstance(training, DistillTraining):
        teacher.start_at_teacher(network, job)


def _adam(phase: Phase, networks: Networks) -> torch.optim.Optimizer:
    parameters = [parameter for name in phase.moves for parameter in networks[name].parameters()]
    config = phase.config
    adam = torch.optim.Adam(parameters, lr=config.learning_rate, betas=config.betas, fused=True)
    for group in adam.param_groups:
        group["lr"] = torch.full((), config.learning_rate, device=parameters[0].device)
    return adam


def _columns(network: nn.Module, job: Job, setup: Setup) -> Columns:
    """The pictures of a generator, beside those of the teacher where there is one."""
    pictures: Columns = {}
    if job.teacher is not None:
        loaded = saved.load(job.teacher, setup.info, setup.device)
        pictures["teacher"] = lambda part: loaded(part.inputs)
    return pictures | {"output": lambda part: network(part.inputs)}
