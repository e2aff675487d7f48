"""Networks from configs, with initial weights from a seed; finished networks as folders that load as data."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from raydistill import models
from raydistill.config.architectures import EnergyNetwork, EvaluatorNetwork, Generator, PatchDiscriminator
from raydistill.config.training import Training
from raydistill.data import DataInfo
from raydistill.models import GENERATORS, patchgan
from raydistill.models.cost import Table
from raydistill.models.energy import EnergyModel
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator
from raydistill.seeds import stream_key

Module = TypeVar("Module", bound=nn.Module)


def generator(config: Generator, info: DataInfo, seed: int, purpose: str = "generator") -> nn.Module:
    """Weights as the family's source draws them: N(0, 0.02) and biases 0 for pix2pix's."""
    family = GENERATORS[config.family]
    init = _init_normal if family.normal_init else lambda module: module
    return _seeded(seed, f"init/{purpose}", lambda: init(family.build(config, info.input_channels)))


def layers(config: Generator, info: DataInfo) -> Table:
    """The generator as a table of layers: for the input's size, or for the picture's where there is no input."""
    family = GENERATORS[config.family]
    return family.layers(config, info.input_channels, *size_for(config, info))


def size_for(config: Generator, info: DataInfo) -> tuple[int, int]:
    """What a family counts and checks its sizes by: the input's, or the picture's where there is none."""
    return info.input_size if GENERATORS[config.family].takes == "picture" else (info.height, info.width)


def discriminator(config: PatchDiscriminator, info: DataInfo, seed: int) -> nn.Module:
    """Sees input and picture together."""
    return _seeded(
        seed, "init/discriminator", lambda: _init_normal(patchgan.build(config, info.input_channels + 3))
    )


def picture_discriminator(config: Any, seed: int, purpose: str = "discriminator") -> nn.Module:
    """Sees pictures alone. Weights as its source draws them: N(0, 0.02) and biases 0 for PatchGANs."""
    init = _init_normal if isinstance(config, PatchDiscriminator) else lambda module: module
    return _seeded(seed, f"init/{purpose}", lambda: init(models.discriminator(config, 3)))


def energy(config: EnergyNetwork, info: DataInfo, seed: int) -> EnergyModel:
    return _seeded(seed, "init/energy", lambda: EnergyModel(config, info.height, info.width))


def critic(config: PatchDiscriminator, seed: int) -> nn.Module:
    """Sees two pictures together."""
    return _seeded(seed, "init/critic", lambda: _init_normal(patchgan.build(config, 6)))


def evaluator_task(info: DataInfo) -> Literal["pixels", "input", "classes", "turns"]:
    """What an evaluator of these data predicts: the class of each pixel, the input picture, the picture's class, or its quarter turns."""
    if info.has_labels:
        return "pixels"
    if info.layout == "aligned":
        return "input"
    return "classes" if info.picture_classes else "turns"


def evaluator(config: EvaluatorNetwork, info: DataInfo, seed: int) -> PixelEvaluator | PictureEvaluator:
    kind = evaluator_task(info)
    if kind in ("pixels", "input"):
        return _seeded(seed, "init/judge", lambda: PixelEvaluator(config, info.num_classes or 3))
    return _seeded(seed, "init/judge", lambda: PictureEvaluator(config, len(info.picture_classes) or 4))


def empty(training: Training, info: DataInfo) -> dict[str, nn.Module]:
    """Generator and discriminators without weights, by the path of what decides about their norm."""
    found: dict[str, nn.Module] = {}
    for path, owner in (("", training), ("mi.", getattr(training, "mi", None))):
        for name in ("generator", "discriminator"):
            if (config := getattr(owner, name, None)) is not None:
                with torch.device("meta"):
                    built = (
                        generator(config, info, 0) if name == "generator" else models.discriminator(config, 3)
                    )
                found[f"{path}{name}{'.norm' * hasattr(config, 'norm')}"] = built
    return found


def _seeded(seed: int, purpose: str, build: Callable[[], Module]) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key(seed, purpose))
        return build()


def _init_normal(module: nn.Module) -> nn.Module:
    for layer in module.modules():
        if (
            isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and not layer.weight.is_meta
        ):  # meta: torch would import its compiler for it
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
