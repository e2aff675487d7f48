"""Networks, inputs and pictures on the meta device, where nothing is allocated."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.config.architectures import Generator
from raydistill.config.terms import MutualInformation, PairCritic
from raydistill.config.training import (
    CycleganTraining,
    DistillTraining,
    GeneratorTraining,
    Pix2pixTraining,
    SaganTraining,
    Stylegan2Training,
)
from raydistill.data import DataInfo
from raydistill.models import GENERATORS, discriminator, input_shape
from raydistill.models.energy import EnergyModel
from raydistill.training import terms

META = torch.device("meta")


@functools.lru_cache(32)
def _cached(number: int, build: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
    with META:
        return build(*arguments)


def module_of(build: Callable[..., nn.Module], *arguments: Any, number: int = 0) -> nn.Module:
    """The module that `build` makes of `arguments`, in training mode and without gradients.

    The same call gives the same module, because spectral norms take a second to build. A training with
    several alike tells them apart by `number`.
    """
    module = _cached(number, build, *arguments).train().requires_grad_(True)
    module.zero_grad()
    return module


def generator_of(config: Generator, info: DataInfo, number: int = 0) -> nn.Module:
    """The generator of `config` for these data, see `module_of`."""
    return module_of(GENERATORS[config.family].build, config, info.input_channels, number=number)


def inputs_of(config: Generator, info: DataInfo, number: int) -> Tensor:
    """A batch of `number` inputs of a generator: pictures (B, C, H, W), or noise (B, latent)."""
    return torch.empty(number, *input_shape(config, info.input_channels, *info.input_size), device=META)


def pictures_of(info: DataInfo, number: int) -> Tensor:
    """A batch of `number` pictures of these data, (B, 3, H, W)."""
    return torch.empty(number, 3, info.height, info.width, device=META)


def other_networks(
    training: DistillTraining | GeneratorTraining, info: DataInfo
) -> tuple[list[nn.Module], int]:
    """The networks that learn beside the generator, and the bytes of everything else that moves.

    What else moves are pools and buffers of pictures. A term's networks without much memory, and those of
    plug-ins, count nothing.
    """
    picture, mi = 4 * 3 * info.height * info.width, getattr(training, "mi", None)
    if isinstance(training, Pix2pixTraining):
        return [module_of(discriminator, training.discriminator, info.input_channels + 3)], 0
    if isinstance(training, CycleganTraining):
        critics = [module_of(discriminator, training.discriminator, 3, number=number) for number in range(2)]
        return [generator_of(training.generator, info, 1), *critics], 2 * training.pool_size * picture
    if isinstance(training, SaganTraining | Stylegan2Training):
        return [module_of(discriminator, training.discriminator, 3)], 0
    if isinstance(mi, MutualInformation) and mi.weight:
        buffer = (mi.replay_size or terms.REPLAY_SIZE) * picture if mi.start == "replay" else 0
        return [module_of(EnergyModel, mi.energy, info.height, info.width)], buffer
    if isinstance(mi, PairCritic) and mi.weight:
        return [module_of(discriminator, mi.discriminator, 6)], 0
    return [], 0


def gradients_of(*modules: nn.Module) -> list[Tensor | None]:
    """The gradients of all parameters; None for those that have none."""
    return [parameter.grad for module in modules for parameter in module.parameters()]
