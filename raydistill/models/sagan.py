"""The self-attention GAN (Zhang et al. 2018) at 64x64: generator and discriminator.

Source: layer facts of heykeetae's code, which GCC uses. As there, the spectral norm of a transposed
convolution is that of its weight as a matrix (in, out * k * k). What differs: a width per layer.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization

from raydistill.config.architectures import SaganDiscriminator, SaganGenerator
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.cost import Extra, Layer, Table

SIDE = 64
"""Height and width of pictures."""
_QUERIES = 128
"""Positions that look at all others at a time.

Their similarities then stay in a CPU's cache: at 32x32 this is three
times as fast as all positions at once."""


class _Norm(_SpectralNorm):
    """PyTorch's spectral norm, without power iterations on the meta device, which cost time for nothing."""

    def _power_method(self, weight_mat: Tensor, n_power_iterations: int) -> None:
        if not weight_mat.is_meta:
            super()._power_method(weight_mat, n_power_iterations)


def spectral_norm(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Puts a spectral norm on the layer and returns it.

    The weight is taken as (its first dimension, all others).
    """
    return register_parametrization(layer, "weight", _Norm(layer.weight))


class Generator(nn.Module):
    """z (B, latent), normal -> pictures (B, 3, 64, 64) in [-1, 1]."""

    def __init__(self, config: SaganGenerator):
        super().__init__()
        widths = list(config.widths.__dict__.values())
        self.layers = nn.ModuleList()
        for index, (before, channels) in enumerate(itertools.pairwise([config.latent, *widths])):
            stride, padding = (1, 0) if index == 0 else (2, 1)
            conv = nn.ConvTranspose2d(before, channels, 4, stride, padding)
            self.layers.append(nn.Sequential(spectral_norm(conv), nn.BatchNorm2d(channels), nn.ReLU()))
        self.attention16, self.attention32 = Attention(config.widths.at16), Attention(config.widths.at32)
        self.head = nn.ConvTranspose2d(config.widths.at32, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Pictures of noise z."""
        first, second, third, fourth = self.layers
        h = self.attention16(third(second(first(z[:, :, None, None]))))
        return self.head(self.attention32(fourth(h))).tanh()


class Discriminator(nn.Module):
    """(B, 3, 64, 64) -> scores (B,), unbounded."""

    def __init__(self, config: SaganDiscriminator):
        super().__init__()
        widths = list(config.widths.__dict__.values())
        self.layers = nn.ModuleList(
            nn.Sequential(spectral_norm(nn.Conv2d(before, channels, 4, 2, 1)), nn.LeakyReLU(0.1))
            for before, channels in itertools.pairwise([3, *widths])
        )
        self.attention8, self.attention4 = Attention(config.widths.at8), Attention(config.widths.at4)
        self.head = nn.Conv2d(config.widths.at4, 1, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores of pictures."""
        first, second, third, fourth = self.layers
        h = self.attention8(third(second(first(pictures))))
        return self.head(self.attention4(fourth(h))).flatten()


class Attention(nn.Module):
    """Self-attention: x + gamma * (values, averaged over all positions by the softmax of query times key).

    gamma is learnt and starts at 0.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query, self.key = nn.Conv2d(channels, channels // 8, 1), nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        query, key = self.query(x).flatten(2), self.key(x).flatten(2)
        value = self.value(x).flatten(2).transpose(1, 2).contiguous()
        # the softmax is over the last index of [image, position, position it looks at]
        parts = [(part.transpose(1, 2) @ key).softmax(2) @ value for part in query.split(_QUERIES, 2)]
        return x + self.gamma * torch.cat(parts, 1).transpose(1, 2).reshape(x.shape)


def build(config: SaganGenerator, in_channels: int) -> nn.Module:
    """`Generator`; it takes noise, so `in_channels` has no use."""
    return Generator(config)


def needs(config: SaganGenerator, in_channels: int, height: int, width: int) -> str | None:
    """What the network needs and does not get at this size, in words; None: it fits."""
    return f"pictures of {SIDE}x{SIDE}" if (height, width) != (SIDE, SIDE) else None


def layers(config: SaganGenerator, in_channels: int, height: int, width: int) -> Table:
    """The layers of `Generator` as a table."""
    w = config.widths
    return [
        Layer(config.latent, w.at4, 4, 1, True, 2, growth=16),
        Layer(w.at4, w.at8, 4, 4**2, True, 2, growth=4),
        Layer(w.at8, w.at16, 4, 8**2, True, 2, growth=4),
        *_attention(w.at16, 16**2),
        Layer(w.at16, w.at32, 4, 16**2, True, 2, growth=4),
        *_attention(w.at32, 32**2),
        Layer(w.at32, 3, 4, 32**2, True, growth=4),
    ]


def discriminator_layers(config: SaganDiscriminator) -> Table:
    """The layers of `Discriminator` as a table."""
    w = config.widths
    return [
        Layer(3, w.at32, 4, 32**2, True),
        Layer(w.at32, w.at16, 4, 16**2, True),
        Layer(w.at16, w.at8, 4, 8**2, True),
        *_attention(w.at8, 8**2),
        Layer(w.at8, w.at4, 4, 4**2, True),
        *_attention(w.at4, 4**2),
        Layer(w.at4, 1, 4, 1, True),
    ]


def _attention(channels: int, positions: int) -> Table:
    """`Attention` as a table, for so many pixels."""
    eighth = channels // 8
    return [
        *[Layer(channels, eighth, 1, positions, True)] * 2,
        Layer(channels, channels, 1, positions, True),
        Extra(1, positions * positions * (eighth + channels)),
    ]


def channels(config: SaganGenerator) -> Iterator[LayerChannels]:
    """The layers that pruning touches, see `LayerChannels`."""
    groups = (None, "at4", "at8", "at16", "at32")
    for index, (before, after) in enumerate(itertools.pairwise(groups)):
        inputs = None if before is None else (before,)
        yield LayerChannels(f"layers.{index}.0", after, inputs, transposed=True)
        yield LayerChannels(f"layers.{index}.1", after)
    for side in (16, 32):
        yield from _attention_channels(f"attention{side}", f"at{side}")
    yield LayerChannels("head", None, ("at32",), transposed=True)


def _attention_channels(name: str, group: str) -> Iterator[LayerChannels]:
    """Keys and queries are multiplied channel by channel, so their channels are one group."""
    yield LayerChannels(f"{name}.query", f"{name}.pairs", (group,))
    yield LayerChannels(f"{name}.key", f"{name}.pairs", (group,))
    yield LayerChannels(f"{name}.value", group, (group,))


def taps(config: SaganGenerator) -> dict[str, str]:
    """Tap name -> path of the module: the features at sides of 4, 8, 16 and 32 pixels, after attention where
    there is one.
    """
    return {"at4": "layers.0", "at8": "layers.1", "at16": "attention16", "at32": "attention32"}


def default_taps(config: SaganGenerator) -> tuple[str, ...]:
    """All four."""
    return tuple(taps(config))
