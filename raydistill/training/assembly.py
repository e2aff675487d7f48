"""What the loop trains: a recipe's networks and phases with everything that no recipe has to know.

Data, teacher, initial weights, optimizers and scores are the same for all recipes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.config.base import Frozen
from raydistill.config.experiment import Job
from raydistill.config.features import FeaturesTraining, needs_features
from raydistill.config.training import DistillTraining, EvaluatorTraining, GeneratorTraining, Training
from raydistill.data import Batch, load_split
from raydistill.errors import ConfigError
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.evaluation.task_scorer import TaskScorer
from raydistill.models import saved
from raydistill.models.features import FeatureNetwork
from raydistill.models.inputs import latent_size
from raydistill.records.trials import Evaluation
from raydistill.training import kept_reports, recipes, recording, teacher
from raydistill.training.divergence import Divergence
from raydistill.training.minibatches import Minibatches, TrainingData, held
from raydistill.training.recipes import Networks, Phase, RecipeKind, Setup, Step
from raydistill.training.recipes.features import measure_rms
from raydistill.training.steps import Recorded

Columns = dict[str, Callable[[Batch], Tensor]]
"""What makes the pictures of each column of the sample grid, by the column's name."""


@dataclass(frozen=True)
class Movers:
    """Networks, and what happens to them in a minibatch: all that the prediction of memory goes through."""

    kind: RecipeKind
    networks: Networks
    """All networks and buffers that move, by name."""
    forward: Callable[[Step], None]
    """Fills in the outputs of a step, once for all phases."""
    phases: tuple[Phase, ...]
    """In the order in which a minibatch goes through them."""
    recorded: Recorded | None = field(default=None, kw_only=True)
    """What may be recorded of a minibatch after them; None: nothing."""

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
    columns: Callable[[nn.Module, bool], Columns]
    """(Eval network, whether with the teacher's) -> columns of the sample grid; none: no grid is made."""
    latent: int | None
    """How many numbers a noise input has; None: the network takes the data's inputs."""
    keep: Callable[[nn.Module, Sequence[Evaluation], Path], None] = lambda network, history, folder: None
    """(eval network of a report, evaluations up to it, folder of the training): keeps what is wanted
    later."""
    finish: Callable[[nn.Module], None] = lambda network: None
    """Fills in, before it is stored, what the eval network has from all of the training. Collective."""


def movers(training: Training, networks: Networks, setup: Setup) -> Movers:
    """A recipe's phases of these networks."""
    kind = recipes.kind_of(training)
    schedule = kind.schedule(training, networks, setup)

    return Movers(kind, networks, schedule.forward, schedule.phases, recorded=schedule.recorded)


def stepping(training: Training, networks: Networks, data: TrainingData, setup: Setup) -> Stepping:
    """A recipe's phases of these networks, with minibatches of these data and new optimizers."""
    moving = movers(training, networks, setup)
    return Stepping(
        **vars(moving),
        optimizers={phase.network: _adam(phase, networks) for phase in moving.phases},
        minibatches=Minibatches(data, training, setup.device, setup.workers),
        divergence=Divergence([phase.name for phase in moving.phases], setup.device),
    )


def build(job: Job, setup: Setup, recorded: Tensor | None = None) -> Assembly:
    """The networks of a job with their initial weights, and all that moves and scores them.

    Collective where a generator is scored.

    Args:
        setup: where it runs. Its teacher and its features are not looked at, but those of the job.
        recorded: this worker's rows of `recording`, in place of teachers that train beside the student;
            None: they train, where the base has some.

    Raises:
        ConfigError: student, teacher, term and data do not fit together, or losses need a feature network and
            the job has none.
    """
    training, kind = job.training, recipes.kind_of(job.training)
    modules = recording.left(kind.networks(training, setup.info), training, recorded)
    networks = {name: module.to(setup.device) for name, module in modules.items()}
    _start(networks, job)
    split, outputs = load_split(job.data, "train"), teacher.stored_outputs(job)
    data = held(split, outputs, training, setup.device, recorded)
    if isinstance(training, DistillTraining):
        own = teacher.trained_teacher(job, data, setup.device, setup.workers)
        setup = setup._replace(teacher=own)
        teacher.require_outputs(networks[kind.network], own, data, job)
    setup = setup._replace(features=_features(job, setup.device))
    running: dict[str, Any] = vars(stepping(training, networks, data, setup))
    if isinstance(training, EvaluatorTraining | FeaturesTraining):
        return _of_pictures(training, job, setup, running)
    assert job.evaluator is not None and isinstance(training, GeneratorTraining | DistillTraining)
    latent = latent_size(training.generator)
    of_pictures = EvaluatorScorer(
        job.data, job.evaluator, "val", setup.device, setup.workers, latent, scoring=job.scoring
    )
    if isinstance(training, GeneratorTraining) and training.keeps_reports:
        running["keep"] = partial(kept_reports.keep, training.generator)
    return Assembly(
        **running,
        config=training.generator,
        evaluate=of_pictures.generator,
        evaluate_report=partial(of_pictures.generator, is_last=False),
        context=of_pictures.context,
        columns=lambda network, beside_teacher: _columns(network, job, setup, beside_teacher),
        latent=latent,
    )


def _of_pictures(
    training: EvaluatorTraining | FeaturesTraining, job: Job, setup: Setup, running: dict[str, Any]
) -> Assembly:
    """Of a network that makes no pictures. Its own task scores an evaluator, nothing a feature network."""
    made: dict[str, Any] = running | {
        "config": training.network,
        "columns": lambda network, beside_teacher: {},
    }
    if isinstance(training, EvaluatorTraining):
        scorer = TaskScorer(job.data, "val", setup.device, setup.workers)
        score, context = scorer.score, scorer.context
        return Assembly(**made, evaluate=score, evaluate_report=score, context=context, latent=None)

    def finish(network: nn.Module) -> None:
        measure_rms(network, job.data, setup.device, setup.workers)

    def no_score(network: nn.Module) -> dict[str, float]:
        return {}

    return Assembly(
        **made, evaluate=no_score, evaluate_report=no_score, context={}, latent=None, finish=finish
    )


def _features(job: Job, device: torch.device) -> FeatureNetwork | None:
    """What losses of a job compare features by. Raises ConfigError where they need it and there is none."""
    if job.features is not None:
        return saved.load_features(job.features, device)
    if needs_features(job.training):
        raise ConfigError(
            "student.base: its losses compare features, and the job names no feature network; set "
            "`Job.features` to what `trials.stages.train_features` returns"
        )
    return None


def _start(networks: Networks, job: Job) -> None:
    """Gives networks the weights that the config names; else they stay random."""
    training = job.training
    if isinstance(training, GeneratorTraining) and training.start is not None:
        networks["generator"].load_state_dict(saved.load_generator(training.start)[1])
    if isinstance(training, DistillTraining):
        teacher.start_at_teacher(networks["generator"], job)
        if training.base.starts_at_teacher:
            base: Any = training.base
            where = "student.base.discriminator"
            teacher.start_discriminator(networks["discriminator"], base.discriminator, job, where)


def _adam(phase: Phase, networks: Networks) -> torch.optim.Optimizer:
    parameters = [parameter for name in phase.moves for parameter in networks[name].parameters()]
    config = phase.config
    adam = torch.optim.Adam(parameters, lr=config.learning_rate, betas=config.betas, fused=True)
    for group in adam.param_groups:
        group["lr"] = torch.full((), config.learning_rate, device=parameters[0].device)
    return adam


def _columns(network: nn.Module, job: Job, setup: Setup, beside_teacher: bool) -> Columns:
    """The pictures of a generator, and those of the teacher where there is one and they are asked for."""
    pictures: Columns = {}
    if job.teacher is not None and beside_teacher:
        loaded = saved.load(job.teacher, setup.info, setup.device)
        pictures["teacher"] = lambda part: loaded(part.inputs)
    return pictures | {"output": lambda part: network(part.inputs)}
