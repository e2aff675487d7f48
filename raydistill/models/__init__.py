"""Networks.

`GENERATORS` has each family of generators: how one is built, and its layers as a table for costs.
"""

from collections.abc import Callable, Iterator, Mapping
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
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.cost import Table


class Family(NamedTuple):
    """A family of generators, as a plug-in may register one. A generator gives pictures (B, 3, H, W)."""

    config: type[Any]
    """The class of its configs."""
    takes: Literal["picture", "noise"]
    """What a generator gets: pictures or label maps (B, C, H, W), or noise (B, latent)."""
    build: Callable[[Any, int], nn.Module]
    """(config, in_channels) -> module. A family that takes noise makes no use of in_channels."""
    layers: Callable[[Any, int, int, int], Table]
    """(config, in_channels, height, width) -> the network as a table.

    Height and width are those of an input, or
    of a picture where the family takes noise."""
    needs: Callable[[Any, int, int, int], str | None]
    """(config, in_channels, height, width) -> what the family needs and does not get; None: it fits."""
    stem: str | None = None
    """Name of the weight (out, in, k, k) that shows the number of input channels; None: these are 3, or
    there are none."""
    normal_init: bool = True
    """Whether weights start as N(0, 0.02) and biases at 0. If False, they start as the modules draw them."""
    latent: Callable[[Any], int] | None = None
    """Config -> how many numbers one input has, for a family that takes noise; None: it takes pictures."""
    size: Callable[[Any], tuple[int, int]] | None = None
    """Config -> (height, width) of its pictures; None: the config alone does not tell."""
    bounded: bool = True
    """Whether outputs lie in [-1, 1].

    If False, they lie about there once trained, and are clamped to be shown.
    """
    channels: Callable[[Any], Iterator[LayerChannels]] | None = None
    """Config -> the layers that pruning touches; None: the family cannot be pruned."""
    taps: Callable[[Any], dict[str, str]] | None = None
    """Config -> the layers whose outputs a base distillation may compare: name -> path of the module.

    A module is called once in a forward, and puts out one tensor (B, C, H, W). See `models.taps`. None: the
    family cannot be distilled by its activations."""
    default_taps: Callable[[Any], tuple[str, ...]] | None = None
    """Config -> names of those that are compared unless a config names others; None: it has to name them."""


GENERATORS: dict[str, Family] = {
    "resnet": Family(
        ResnetGenerator,
        "picture",
        resnet.build,
        resnet.layers,
        resnet.needs,
        "1.weight",
        channels=resnet.channels,
        taps=resnet.taps,
        default_taps=resnet.default_taps,
    ),
    "mobile_resnet": Family(
        MobileResnetGenerator,
        "picture",
        resnet.build,
        resnet.layers,
        resnet.needs,
        "1.weight",
        channels=resnet.channels,
        taps=resnet.taps,
        default_taps=resnet.default_taps,
    ),
    "unet": Family(
        UnetGenerator,
        "picture",
        unet.Unet,
        unet.layers,
        unet.needs,
        "downs.0.0.weight",
        channels=unet.channels,
        taps=unet.taps,
        default_taps=unet.default_taps,
    ),
    "enhance": Family(
        EnhanceGenerator,
        "picture",
        enhance.build,
        enhance.layers,
        enhance.needs,
        normal_init=False,
        channels=enhance.channels,
        taps=enhance.taps,
        default_taps=enhance.default_taps,
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
        channels=sagan.channels,
        taps=sagan.taps,
        default_taps=sagan.default_taps,
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
        channels=stylegan2.channels,
        taps=stylegan2.taps,
        default_taps=stylegan2.default_taps,
    ),
}
"""`family` of a config -> the family."""


def check(config: Generator, in_channels: int, height: int, width: int, where: str) -> None:
    """Raises ConfigError, which names the config as `where`, if a generator cannot be used at this size.

    Height and width are those of an input, or of a picture where the family takes noise.
    """
    if (needs := GENERATORS[config.family].needs(config, in_channels, height, width)) is not None:
        raise ConfigError(
            f"{where}: {config.family} needs {needs}, given {in_channels} channels of {height}x{width}"
        )


def input_channels(config: Generator, state: Mapping[str, Tensor]) -> int:
    """Channels of the inputs of the generator with the weights `state`; 3 for one that takes noise."""
    stem = GENERATORS[config.family].stem
    return 3 if stem is None else state[stem].shape[1]


def input_shape(config: Generator, in_channels: int, height: int, width: int) -> tuple[int, ...]:
    """Shape of one input, without the batch: (in_channels, height, width), or (latent,) for noise."""
    latent = GENERATORS[config.family].latent
    return (in_channels, height, width) if latent is None else (latent(config),)


def discriminator(
    config: PatchDiscriminator | SaganDiscriminator | StyleganDiscriminator, in_channels: int
) -> nn.Module:
    """A discriminator, which gives scores for pictures (B, in_channels, H, W); unbounded.

    A PatchGAN scores every patch, (B, 1, h, w), and may see a condition beside the picture. Those of SAGAN
    and StyleGAN2 score whole pictures of 3 channels, (B,).
    """
    if isinstance(config, PatchDiscriminator):
        return patchgan.build(config, in_channels)
    if isinstance(config, SaganDiscriminator):
        return sagan.Discriminator(config)
    return stylegan2.Discriminator(config)
