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
from raydistill.data import Batch
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.evaluation.task_scorer import TaskScorer
from raydistill.models import saved
from raydistill.models.inputs import latent_size
from raydistill.training import recipes, teacher
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
class Assembly(Movers):
    """What the training loop needs to know about a training."""

    config: Frozen
    """Config of the network that is trained for; it is stored beside the weights."""
    optimizers: dict[str, torch.optim.Optimizer]
    """`network` of a phase -> its optimizer."""
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
            step.teacher = setup.teacher(step.sample)
        schedule.forward(step)

    return Movers(kind, networks, with_teacher, schedule.phases)


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
    if job.teacher is not None:
        pictures = teacher.teacher_pictures(job, setup.info, setup.device, setup.workers)
        setup = setup._replace(teacher=pictures)
        if isinstance(training, DistillTraining):
            teacher.require_outputs(networks[kind.network], pictures, job, setup.device)
    moving = movers(training, networks, setup)
    optimizers = {phase.network: _adam(phase, networks) for phase in moving.phases}
    if isinstance(training, EvaluatorTraining):
        scorer = TaskScorer(job.data, "val", setup.device, setup.workers)
        return Assembly(
            **vars(moving),
            config=training.network,
            optimizers=optimizers,
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
        **vars(moving),
        config=training.generator,
        optimizers=optimizers,
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
    return torch.optim.Adam(parameters, lr=config.learning_rate, betas=config.betas, fused=True)


def _columns(network: nn.Module, job: Job, setup: Setup) -> Columns:
    """The pictures of a generator, beside those of the teacher where there is one."""
    pictures: Columns = {}
    if job.teacher is not None:
        loaded = saved.load(job.teacher, setup.info, setup.device)
        pictures["teacher"] = lambda part: loaded(part.inputs)
    return pictures | {"output": lambda part: network(part.inputs)}
