"""The phases of every recipe on the meta device, for the bytes of tensors that live in them.

The order of forwards and backwards is that of `recipes/`; `tests/test_memory.py` holds the two against each other.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.terms import MutualInformation, PairCritic, VariationalInformation
from raydistill.config.training import (
    CycleganTraining,
    DistillTraining,
    GeneratorTraining,
    Pix2pixTraining,
    SaganTraining,
    Stylegan2Training,
)
from raydistill.data import DataInfo, to_float, to_uint8
from raydistill.distributed import Workers
from raydistill.method.adversarial import (
    hinge_discriminator,
    hinge_generator,
    least_squares_discriminator,
    least_squares_generator,
    logistic_discriminator,
    logistic_generator,
)
from raydistill.method.penalties import cycle_loss, identity_loss
from raydistill.method.similarity import dissimilarity
from raydistill.method.vem import alignment, draw_negatives, ebm_loss, pair_energies, student_mi_loss
from raydistill.models import GENERATORS, discriminator, input_shape, networks
from raydistill.models.energy import EnergyModel
from raydistill.models.inputs import BATCH
from raydistill.planning.tensor_bytes import LiveTensorBytes
from raydistill.training import terms

META = torch.device("meta")
History = NDArray[np.int64]
"""Bytes that live after each tensor was made or gone."""


@functools.lru_cache(32)
def _built(number: int, build: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
    with META:
        return build(*arguments)


def _module(build: Callable[..., nn.Module], *arguments: Any, number: int = 0) -> nn.Module:
    """In training mode, without gradients. The same module for the same call: spectral norms take a second to build."""
    module = _built(number, build, *arguments).train().requires_grad_(True)
    module.zero_grad()
    return module


def generator_of(config: Generator, info: DataInfo, number: int = 0) -> nn.Module:
    return _module(GENERATORS[config.family].build, config, info.input_channels, number=number)


def others(training: DistillTraining | GeneratorTraining, info: DataInfo) -> tuple[list[nn.Module], int]:
    """(networks that learn beside the generator, without memory; bytes of what else moves: pools and buffers of pictures)."""
    picture, mi = 4 * 3 * info.height * info.width, getattr(training, "mi", None)
    if isinstance(training, Pix2pixTraining):
        return [_module(discriminator, training.discriminator, info.input_channels + 3)], 0
    if isinstance(training, CycleganTraining):
        critics = [_module(discriminator, training.discriminator, 3, number=number) for number in range(2)]
        return [generator_of(training.generator, info, 1), *critics], 2 * training.pool_size * picture
    if isinstance(training, SaganTraining | Stylegan2Training):
        return [_module(discriminator, training.discriminator, 3)], 0
    if isinstance(mi, MutualInformation) and mi.weight:
        kept = (mi.replay_size or terms.REPLAY_SIZE) * picture if mi.start == "replay" else 0
        return [_module(EnergyModel, mi.energy, info.height, info.width)], kept
    return (
        [_module(discriminator, mi.discriminator, 6)] if isinstance(mi, PairCritic) and mi.weight else []
    ), 0


def inputs_of(config: Generator, info: DataInfo, number: int) -> Tensor:
    return torch.empty(number, *input_shape(config, info.input_channels, *info.input_size), device=META)


def pictures_of(info: DataInfo, number: int) -> Tensor:
    return torch.empty(number, 3, info.height, info.width, device=META)


def num_evaluated(config: Generator, info: DataInfo, num_workers: int) -> int:
    """Pictures that a worker evaluates at once."""
    counts = (
        info.counts
        if info.input_counts is None or GENERATORS[config.family].takes == "noise"
        else info.input_counts
    )
    return min(BATCH, -(-counts["val"] // num_workers))


def evaluation(config: Generator, info: DataInfo, number: int) -> History:
    """A finished generator makes so many pictures."""
    generator, inputs = generator_of(config, info).eval(), inputs_of(config, info, number)
    with torch.no_grad(), LiveTensorBytes() as live:
        generator(inputs)
    return live.history()


def evaluated(config: EvaluatorNetwork, info: DataInfo, number: int) -> int:
    """At most, while the evaluator sees so many pictures, these included."""
    with META:
        evaluator = networks.evaluator(config, info, 0)
    pictures = pictures_of(info, number)
    with torch.no_grad(), LiveTensorBytes() as live:
        evaluator(to_float(to_uint8(pictures)))
    return pictures.nbytes + int(live.history().max())


# ---- a student ------------------------------------------------------------------------------------------------------


class Student(NamedTuple):
    """One minibatch by plain distillation: forward, loss, backward."""

    history: History
    forward: int
    """Where in it the forward has ended."""
    loss: int
    """Where in it the loss is there."""


def student(training: DistillTraining, info: DataInfo, batch: int) -> Student:
    generator, x, t = (
        generator_of(training.generator, info),
        inputs_of(training.generator, info, batch),
        pictures_of(info, batch),
    )
    with LiveTensorBytes() as live:
        s = generator(x)
        forward = live.mark()
        loss = training.l1_weight * F.l1_loss(s, t) + training.ssim_weight * dissimilarity(s, t)
        ended = live.mark()
        loss.backward()
    return Student(live.history(_gradients(generator)), forward, ended)


class Term(NamedTuple):
    """Bytes of a mutual-information term, beside what the student holds."""

    own: int = 0
    """At most, up to the end of its own phase."""
    student: int = 0
    """At most, while it gives the student its loss."""
    left: int = 0
    """What it leaves for the student's backward."""


def term(training: DistillTraining, info: DataInfo, batch: int, teacher: Generator) -> Term:
    """Nothing is known of a term of a plug-in: it counts nothing."""
    mi = training.mi
    if not mi.weight or not isinstance(mi, MutualInformation | VariationalInformation | PairCritic):
        return Term()
    s, t = pictures_of(info, batch).requires_grad_(True), pictures_of(info, batch)
    if isinstance(mi, MutualInformation):
        return _energy_term(mi, info, s, t, teacher)
    with META:
        built = terms.build(mi, terms.TermSetup(0, info, META, Workers(0, 1), lambda shown: t))
    network = built.networks[built.name]
    pairs = terms.Pairs(s, t, t, np.arange(batch), np.zeros(batch, bool), 0)
    with LiveTensorBytes() as live:
        built.own_loss(pairs)[0].backward()
        owned = live.mark()
        network.requires_grad_(False)
        loss = built.student_loss(pairs)
        alignment(loss, s, t)
    return _term(live, owned, network)


def _energy_term(mi: MutualInformation, info: DataInfo, s: Tensor, t: Tensor, teacher: Generator) -> Term:
    energy: Any = _module(EnergyModel, mi.energy, info.height, info.width)
    config = mi.model_copy(
        update={"num_steps": min(mi.num_steps, 2)}
    )  # further steps hold what the second one holds
    with LiveTensorBytes() as live:
        start = None if mi.start == "student" else torch.empty_like(t)
        if mi.start == "other" and runs_in_the_loop(teacher, info):
            start = shown_by_teacher(teacher, info, len(t))
        negatives = draw_negatives(energy, s, config, lambda: torch.empty_like(t), start)
        energy.train()
        ebm_loss(*pair_energies(energy, t, negatives.samples, s.detach()), mi.l2_weight).backward()
        owned = live.mark()
        energy.requires_grad_(False)
        loss = student_mi_loss(energy, t, negatives.samples, s)
        alignment(loss, s, t)
    return _term(live, owned, energy)


def _term(live: LiveTensorBytes, owned: int, network: nn.Module) -> Term:
    history = live.history(_gradients(network))
    return Term(int(history[: owned + 1].max()), int(history[owned:].max()), int(history[-1]))


def runs_in_the_loop(teacher: Generator, info: DataInfo) -> bool:
    """Where inputs never repeat, the teacher makes its pictures in every minibatch; elsewhere they are stored, or made by fours."""
    return GENERATORS[teacher.family].takes == "noise" or info.degrade.is_on or info.load_size is not None


def shown_by_teacher(teacher: Generator, info: DataInfo, number: int) -> Tensor:
    network = generator_of(teacher, info).eval()
    with torch.no_grad():
        return network(inputs_of(teacher, info, number)).clamp(-1, 1)


def taught(teacher: Generator, info: DataInfo, number: int) -> int:
    """At most, while the teacher makes so many pictures."""
    with LiveTensorBytes() as live:
        shown_by_teacher(teacher, info, number)
    return int(live.history().max())


# ---- a generator without a teacher ----------------------------------------------------------------------------------


def alone(training: GeneratorTraining, info: DataInfo, batch: int) -> int:
    """At most, in one minibatch with all phases."""
    generator = generator_of(training.generator, info)
    critics, _ = others(training, info)
    x, real = inputs_of(training.generator, info, batch), pictures_of(info, batch)
    rehearse = next((each for kind, each in _PHASES.items() if isinstance(training, kind)), _regression)
    with LiveTensorBytes() as live:
        rehearse(training, generator, critics, x, real)
    return int(live.history(_gradients(generator, *critics)).max())


def _regression(
    training: GeneratorTraining, generator: nn.Module, critics: list[nn.Module], x: Tensor, real: Tensor
) -> None:
    F.l1_loss(generator(x), real).backward()


def _pix2pix(
    training: Pix2pixTraining, generator: nn.Module, critics: list[nn.Module], x: Tensor, real: Tensor
) -> None:
    (critic,), fake = critics, generator(x)
    pairs = torch.cat([torch.cat([x, real], 1), torch.cat([x, fake.detach()], 1)])
    hinge_discriminator(*critic(pairs).chunk(2)).backward()
    critic.requires_grad_(False)
    l1 = F.l1_loss(fake, real)
    (l1 + hinge_generator(critic(torch.cat([x, fake], 1)))).backward()


def _sagan(
    training: SaganTraining, generator: nn.Module, critics: list[nn.Module], z: Tensor, real: Tensor
) -> None:
    (critic,), fake = critics, generator(z)
    hinge_discriminator(critic(real), critic(fake.detach())).backward()
    critic.requires_grad_(False).eval()
    hinge_generator(critic(fake)).backward()


def _stylegan2(
    training: Stylegan2Training, generator: Any, critics: list[nn.Module], z: Tensor, real: Tensor
) -> None:
    (critic,) = critics

    def drawn() -> tuple[Tensor, Tensor]:
        """Styles of two latents, and their pictures."""
        is_second = torch.empty(len(z), generator.num_styles, 1, dtype=torch.bool, device=META)
        styles = torch.where(is_second, generator.styles(z)[:, None], generator.styles(z)[:, None])
        noise = [torch.empty(len(z), 1, side, side, device=META) for side in generator.noise_sides]
        return styles, generator.synthesis(list(styles.unbind(1)), noise)

    fake = drawn()[1]
    logistic_discriminator(critic(real), critic(fake.detach())).backward()
    if training.r1_weight:
        shown = real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(shown).sum(), shown, create_graph=True)
        gradient.square().sum((1, 2, 3)).mean().backward()
        del gradient
    critic.requires_grad_(False)
    logistic_generator(critic(fake)).backward()
    if training.path_weight:
        styles, pictures = drawn()
        (gradient,) = torch.autograd.grad(
            (pictures * torch.empty_like(pictures)).sum(), styles, create_graph=True
        )
        lengths = gradient.square().sum(2).mean(1).sqrt()
        (lengths - lengths.detach().mean()).square().mean().backward()


def _cyclegan(
    training: CycleganTraining, forth: nn.Module, critics: list[nn.Module], a: Tensor, b: Tensor
) -> None:
    back, of_targets, of_inputs = critics
    of_targets.requires_grad_(False), of_inputs.requires_grad_(False)
    fake_b, fake_a = forth(a), back(b)
    cycle = cycle_loss(forth, back, a, b, fake_a, fake_b)
    loss = cycle + least_squares_generator(of_targets(fake_b)) + least_squares_generator(of_inputs(fake_a))
    if training.identity_weight:
        loss = loss + identity_loss(forth, back, a, b)
    loss.backward()
    del loss, cycle
    for critic, fake in ((of_targets, fake_b), (of_inputs, fake_a)):
        critic.requires_grad_(True)
        least_squares_discriminator(critic(b), critic(fake.detach().clone())).backward()


_PHASES: dict[type[GeneratorTraining], Callable[..., None]] = {
    Pix2pixTraining: _pix2pix,
    SaganTraining: _sagan,
    Stylegan2Training: _stylegan2,
    CycleganTraining: _cyclegan,
}


def _gradients(*modules: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for module in modules for parameter in module.parameters()]
