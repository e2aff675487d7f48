"""Distillation: one base distillation of `bases`, plus any number of mutual-information terms of `terms`.

The loss of the student is that of the base + the sum over terms of weight * term. A minibatch is a forward of
the student and of what the base needs of its teacher, a step of the base's own networks, of each term's own
network, and a step of the student with the UPDATED networks: the schedule of the paper's code. Teacher and
student get the same inputs: the same label map, picture, degraded picture or noise.
"""

import dataclasses
from functools import partial

from torch import Tensor, nn

from raydistill.config.terms import LearntTerm, Term
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.errors import ConfigError
from raydistill.method.vem import alignment
from raydistill.models import networks, taps
from raydistill.models.inputs import latent_size
from raydistill.training import bases, terms
from raydistill.training.bases import BaseDistillation
from raydistill.training.steps import Networks, Phase, RecipeKind, Schedule, Setup, Step
from raydistill.training.terms import MiTerm, Numbers, Pairs


def initial_student(config: DistillTraining, info: DataInfo) -> nn.Module:
    """The student with random weights, from a stream of its own.

    From the teacher's stream, a student of the teacher's seed would begin with weights of the untrained
    teacher: a StyleGAN2 with its whole mapping network, which students of other seeds must learn first.
    """
    return networks.generator(config.generator, info, config.seed, "student")


def build(config: DistillTraining, info: DataInfo) -> Networks:
    """The student, and the networks of its base and of its terms; a term's are named `TERM.NETWORK`.

    Raises:
        ConfigError: data, base and terms do not fit together.
    """
    terms.check_all(config, info.height, info.width)
    require_paired_target(config, info)
    found: Networks = {"generator": initial_student(config, info)}
    found |= bases.networks(config, info)
    for name, term in config.active_terms.items():
        own = terms.networks(term, info, terms.seed_of(config.seed, name))
        found |= {f"{name}.{network}": module for network, module in own.items()}
    return found


def schedule(config: DistillTraining, modules: Networks, setup: Setup) -> Schedule:
    """The networks of the base move first, where it has some, then those of the terms, then the student."""
    student = modules["generator"]
    own = {name: module for name, module in modules.items() if name != "generator" and "." not in name}
    base = bases.build(config, setup, own)
    active = {
        name: terms.build(term, _term_setup(config, name, modules, setup, base))
        for name, term in config.active_terms.items()
    }

    def forward(step: Step) -> None:
        with taps.tapped(student, base.student_taps) as activations:
            step.output = student(step.batch.inputs)
        step.activations = activations
        base.see_teacher(step)

    def student_loss(step: Step) -> tuple[Tensor, Numbers]:
        loss, numbers = base.student_loss(pairs_of(step))
        for name, term in active.items():
            of_term = term.student_loss(pairs_of_term(step, name, term.config))
            if step.is_reported:
                cosine = alignment(of_term, step.output, step.teacher)
                numbers |= terms.numbers_of(name, {"energy/alignment": cosine})
            loss = loss + terms.weight_at(term.config, step.nimg) * of_term
        return loss, numbers

    phases = [
        Phase(each.name, each.moves, each.config, partial(_loss_of_base, each), each.every)
        for each in base.phases()
    ]
    for name, term in active.items():
        if isinstance(term.config, LearntTerm):
            network = f"{name}.{term.name}"
            loss = partial(_loss_of_term, name, term)
            phases.append(Phase(network, (network,), term.config.optimizer, loss))
    phases.append(Phase("generator", ("generator", *base.moves), config.optimizer, student_loss))
    return Schedule(forward, tuple(phases), base.recorded)


def _term_setup(
    config: DistillTraining, name: str, modules: Networks, setup: Setup, base: BaseDistillation
) -> terms.TermSetup:
    """What the term of this name is built with."""
    prefix = f"{name}."
    own: dict[str, nn.Module] = {
        each.removeprefix(prefix): module for each, module in modules.items() if each.startswith(prefix)
    }
    return terms.TermSetup(
        seed=terms.seed_of(config.seed, name),
        info=setup.info,
        device=setup.device,
        workers=setup.workers,
        teacher=base.teacher_of(name),
        where=f"student.terms.{name}",
        networks=own,
    )


def _loss_of_base(own: bases.OwnPhase, step: Step) -> tuple[Tensor, Numbers]:
    return own.loss(pairs_of(step))


def _loss_of_term(name: str, term: MiTerm, step: Step) -> tuple[Tensor, Numbers]:
    loss, numbers, shared, checks = term.own_loss(pairs_of_term(step, name, term.config))
    step.shared_tensors |= {f"{name}.{each}": tensor for each, tensor in shared.items()}
    step.checks += checks
    return loss, terms.numbers_of(name, numbers)


def pairs_of(step: Step) -> Pairs:
    """What the base sees of a step whose outputs are computed."""
    return Pairs(
        s=step.output,
        t=step.teacher,
        positive=step.teacher,
        sample=step.sample,
        first_image=step.images.start,
        is_reported=step.is_reported,
        shared=step.shared_tensors,
        inputs=step.batch.inputs,
        target=step.batch.target,
        labels=step.batch.labels,
        activations=step.activations,
        teacher_activations=step.teacher_activations,
    )


def pairs_of_term(step: Step, name: str, config: Term) -> Pairs:
    """What a term of this name sees: its own shared tensors alone, and what it pairs s with."""
    prefix = f"{name}."
    shared = {
        each.removeprefix(prefix): tensor
        for each, tensor in step.shared_tensors.items()
        if each.startswith(prefix)
    }
    positive = step.teacher if config.positive == "teacher" else step.batch.target
    return dataclasses.replace(pairs_of(step), positive=positive, shared=shared)


def require_paired_target(training: DistillTraining, info: DataInfo) -> None:
    """Raises ConfigError where outputs are to be paired with target pictures that do not
    belong to the inputs.
    """
    is_paired = info.pairing == "pairs" and latent_size(training.generator) is None
    for name, term in training.active_terms.items():
        if term.positive == "target" and not is_paired:
            raise ConfigError(
                f"student.terms.{name}.positive: 'target' needs pictures that belong to the inputs; "
                "use 'teacher'"
            )


KIND = RecipeKind(DistillTraining, build, schedule)
