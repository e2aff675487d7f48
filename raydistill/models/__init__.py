"""Networks. `GENERATORS` registers each generator family: how it is built, and its layers as a table for costs."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from raydistill.config.architectures import (
    EnhanceGenerator,
    Generator,
    MobileResnetGenerator,
    PatchDiscriminator,
    ResnetGenerator,
    SaganDiscriminator,
    SaganGenerator,
    StyleganDiscriminator,
    StyleganGenerator,
    UnetGenerator,
)
from raydistill.errors import ConfigError
from raydistill.models import enhance, patchgan, resnet, sagan, stylegan2, unet
from raydistill.models.cost import Table


class Family(NamedTuple):
    config: type[Any]
    takes: Literal["picture", "noise"]
    build: Callable[[Any, int], nn.Module]
    """(config, in_channels) -> module; a family that takes noise has no use for in_channels."""
    layers: Callable[[Any, int, int, int], Table]
    """(config, in_channels, height, width) -> layer table"""
    needs: Callable[[Any, int, int, int], str | None]
    """(config, in_channels, height, width) -> what the family needs and these lack; None: they fit"""
    stem: str | None = None
    """The weight that the input channels are read from; None: they are 3, or there are none."""
    normal_init: bool = True
    """Whether weights start as N(0, 0.02) and biases at 0; else as the modules themselves draw them."""
    latent: Callable[[Any], int] | None = None
    """config -> numbers of one input, of a family that takes noise."""
    size: Callable[[Any], tuple[int, int]] | None = None
    """config -> (height, width) of its pictures, where the config alone tells."""
    bounded: bool = True
    """Whether outputs lie in [-1, 1]; else they do once trained, about, and are clamped to be shown."""


GENERATORS: dict[str, Family] = {
    "resnet": Family(ResnetGenerator, "picture", resnet.build, resnet.layers, resnet.needs, "1.weight"),
    "mobile_resnet": Family(
        MobileResnetGenerator, "picture", resnet.build, resnet.layers, resnet.needs, "1.weight"
    ),
    "unet": Family(UnetGenerator, "picture", unet.Unet, unet.layers, unet.needs, "downs.0.0.weight"),
    "enhance": Family(
        EnhanceGenerator, "picture", enhance.build, enhance.layers, enhance.needs, normal_init=False
    ),
    "sagan": Family(
        SaganGenerator,
        "noise",
        sagan.build,
        sagan.layers,
        sagan.needs,
        normal_init=False,
        latent=lambda config: config.latent,
        size=lambda config: (64, 64),
    ),
    "stylegan2": Family(
        StyleganGenerator,
        "noise",
        stylegan2.build,
        stylegan2.layers,
        stylegan2.needs,
        normal_init=False,
        latent=lambda config: config.style,
        size=lambda config: (max(config.widths.sides),) * 2,
        bounded=False,
    ),
}


def check(config: Generator, in_channels: int, height: int, width: int, where: str) -> None:
    """Raises ConfigError where a generator cannot take pictures of this size."""
    if (needed := GENERATORS[config.family].needs(config, in_channels, height, width)) is not None:
        raise ConfigError(
            f"{where}: {config.family} needs {needed}, given {in_channels} channels of {height}x{width}"
        )


def input_channels(config: Generator, state: Mapping[str, Tensor]) -> int:
    """Of the generator that these weights belong to; 3 for one that takes noise."""
    stem = GENERATORS[config.family].stem
    return 3 if stem is None else state[stem].shape[1]


def input_shape(config: Generator, in_channels: int, height: int, width: int) -> tuple[int, ...]:
    """Of one input, without the batch."""
    latent = GENERATORS[config.family].latent
    return (in_channels, height, width) if latent is None else (latent(config),)


def discriminator(
    config: PatchDiscriminator | SaganDiscriminator | StyleganDiscriminator, in_channels: int
) -> nn.Module:
    """Scores pictures of `in_channels`, which is 3 for those that see no condition."""
    if isinstance(config, PatchDiscriminator):
        return patchgan.build(config, in_channels)
    return (
        sagan.Discriminator(config)
        if isinstance(config, SaganDiscriminator)
        else stylegan2.Discriminator(config)
    )
