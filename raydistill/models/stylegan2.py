"""StyleGAN2 (Karras et al. 2020) with skip connections: generator and discriminator.

All operations are plain ones of PyTorch, which can be differentiated twice.

Source: layer facts of rosinality's code. What differs: there is a width per resolution. The discriminator's
groups are of neighbours in the batch, so that workers may share a batch. Styles scale the input of a
convolution and the demodulation scales its output; this is the same function as scaled kernels, with one
convolution for the whole batch.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import STYLEGAN_GROUP, StyleganDiscriminator, StyleganGenerator
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.cost import Extra, Layer, Table
from raydistill.models.tap_names import spread

_MAPPING_RATE = 0.01
"""Factor of the mapping network's learning rate."""


class Generator(nn.Module):
    """z (B, style), normal -> pictures (B, 3, size, size), about in [-1, 1], but not bounded.

    The noise that is added to features is a buffer of the network, unless other noise is given. So a
    generator is a function of z alone.
    """

    mean_style: Tensor

    def __init__(self, config: StyleganGenerator):
        super().__init__()
        sides, style = config.widths.sides, config.style
        self.truncation = config.truncation
        self.mapping = nn.ModuleList(
            EqualLinear(style, style, rate=_MAPPING_RATE) for _ in range(config.num_mapping_layers)
        )
        self.constant = nn.Parameter(torch.randn(1, sides[4], 4, 4))
        self.convs = nn.ModuleList([StyledConv(sides[4], sides[4], style, 4)])
        self.rgbs = nn.ModuleList([ToRgb(sides[4], style)])
        for side in list(sides)[1:]:
            self.convs.append(StyledConv(sides[side // 2], sides[side], style, side, doubles=True))
            self.convs.append(StyledConv(sides[side], sides[side], style, side))
            self.rgbs.append(ToRgb(sides[side], style))
        self.register_buffer("mean_style", torch.zeros(style))

    def forward(self, z: Tensor, truncation: float | None = None) -> Tensor:
        """Pictures of z.

        `truncation` below 1 pulls every style towards `mean_style`. None: that of the config in eval mode,
        and 1 in training mode.
        """
        styles = self.styles(z)
        if truncation is None:
            truncation = 1.0 if self.training else self.truncation
        if truncation != 1:
            styles = torch.lerp(self.mean_style.expand_as(styles), styles, truncation)
        return self.synthesis([styles] * self.num_styles)

    @property
    def num_styles(self) -> int:
        """Number of styles of a picture: one for each convolution, and one for the last picture."""
        return len(self.convs) + 1

    def styles(self, z: Tensor) -> Tensor:
        """The mapping network: z (B, style) -> styles w (B, style)."""
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = _activate(layer(w))
        return w

    @property
    def noise_sides(self) -> list[int]:
        """Height and width of the noise of each convolution."""
        return [int(noise.shape[-1]) for name, noise in self.named_buffers() if name.endswith("noise")]

    def synthesis(self, styles: list[Tensor], noise: list[Tensor] | None = None) -> Tensor:
        """Pictures (B, 3, size, size) of styles.

        Args:
            styles: `num_styles` of them, each (B, style), from coarse to fine.
            noise: (B, 1, side, side), normal, for each of `noise_sides`; None: the network's own.
        """
        given = [None] * len(self.convs) if noise is None else noise
        h = self.convs[0](self.constant.expand(styles[0].shape[0], -1, -1, -1), styles[0], given[0])
        picture = self.rgbs[0](h, styles[1])
        for index, rgb in enumerate(list(self.rgbs)[1:]):
            h = self.convs[2 * index + 1](h, styles[2 * index + 1], given[2 * index + 1])
            h = self.convs[2 * index + 2](h, styles[2 * index + 2], given[2 * index + 2])
            picture = rgb(h, styles[2 * index + 3]) + _double(picture)
        return picture


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, which may double height and width, then noise, bias and a leaky ReLU."""

    noise: Tensor

    def __init__(self, in_channels: int, out_channels: int, style: int, side: int, doubles: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.affine = EqualLinear(style, in_channels, bias=1.0)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.register_buffer("noise", torch.randn(1, 1, side, side))
        self.doubles = doubles

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """x (B, in, H, W) and style (B, style) -> (B, out, side, side).

        `noise` (B, 1, side, side); None: its own.
        """
        scales = self.affine(style)
        weight = self.weight / math.sqrt(self.weight[0].numel())
        demodulation = (F.linear(scales.square(), weight.square().sum((2, 3))) + 1e-8).rsqrt()
        x = x * scales[:, :, None, None]
        x = _double_by(x, weight) if self.doubles else F.conv2d(x, weight, padding=1)
        x = x * demodulation[:, :, None, None]
        return _activate(
            x + self.noise_strength * (self.noise if noise is None else noise) + self.bias[:, None, None]
        )


class ToRgb(nn.Module):
    """Modulated 1x1 convolution to a picture, without demodulation."""

    def __init__(self, in_channels: int, style: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.affine = EqualLinear(style, in_channels, bias=1.0)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B, in, H, W) and style (B, style) -> pictures (B, 3, H, W)."""
        weight = self.weight / math.sqrt(self.weight.shape[1])
        return F.conv2d(x * self.affine(style)[:, :, None, None], weight, self.bias)


class Discriminator(nn.Module):
    """Pictures (B, 3, size, size) -> scores (B,), unbounded; B is at most 4, or a multiple of 4."""

    def __init__(self, config: StyleganDiscriminator):
        super().__init__()
        sides = config.widths.sides
        falling = list(reversed(sides))
        self.stem = EqualConv(3, sides[falling[0]], 1)
        self.blocks = nn.ModuleList(Halving(sides[side], sides[side // 2]) for side in falling[:-1])
        self.last = EqualConv(sides[4] + 1, sides[4], 3)
        self.linear, self.head = EqualLinear(sides[4] * 16, sides[4]), EqualLinear(sides[4], 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores of pictures."""
        h = _activate(self.stem(pictures))
        for block in self.blocks:
            h = block(h)
        h = _activate(self.last(torch.cat([h, _deviation(h)], 1)))
        return self.head(_activate(self.linear(h.flatten(1)))).flatten()


class Halving(nn.Module):
    """Two 3x3 convolutions beside a 1x1 convolution; both ways halve height and width."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first, self.second = (
            EqualConv(in_channels, in_channels, 3),
            EqualConv(in_channels, out_channels, 3),
        )
        self.shortcut = EqualConv(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / 2, W / 2)."""
        h = _activate(self.second(_blur(_activate(self.first(x)), 2), stride=2, padding=0))
        return (h + self.shortcut(_blur(x, 1), stride=2)) / math.sqrt(2)


class EqualConv(nn.Module):
    """A convolution with an equalised learning rate: normal weights, scaled by 1 / sqrt(fan-in) when used."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        """(B, in, H, W) -> (B, out, ...).

        `padding` None: half the kernel, which keeps the size at stride 1.
        """
        padding = self.weight.shape[-1] // 2 if padding is None else padding
        return F.conv2d(x, self.weight / math.sqrt(self.weight[0].numel()), self.bias, stride, padding)


class EqualLinear(nn.Module):
    """A linear layer with an equalised learning rate; `rate` is a factor of that of weight and bias."""

    def __init__(self, in_features: int, out_features: int, bias: float = 0.0, rate: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / rate)
        self.bias = nn.Parameter(torch.full((out_features,), bias))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return F.linear(x, self.weight * (self.rate / math.sqrt(self.weight.shape[1])), self.bias * self.rate)


def _activate(x: Tensor) -> Tensor:
    """Leaky ReLU, scaled so that the variance stays about the same."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _kernel(like: Tensor, gain: float) -> Tensor:
    """A blur for each of the C channels of `like`: (C, 1, 4, 4), binomial, and its sum is `gain`."""
    channels = int(like.shape[1])  # a constant in an exported graph
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=like.dtype, device=like.device)
    return (torch.outer(line, line) * (gain / 64)).expand(channels, 1, 4, 4)


def _blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    return F.conv2d(x, _kernel(x, gain), padding=padding, groups=x.shape[1])


def _double_by(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution of stride 2, then a blur."""
    return _blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, gain=4.0)


def _double(picture: Tensor) -> Tensor:
    """The picture at twice its height and width, interpolated by the blur."""
    return F.conv_transpose2d(picture, _kernel(picture, 4.0), stride=2, padding=1, groups=picture.shape[1])


def _deviation(x: Tensor) -> Tensor:
    """(B, 1, H, W): the mean deviation within a group of neighbours in the batch, the same at every pixel."""
    size = min(len(x), STYLEGAN_GROUP)
    grouped = x.view(-1, size, *x.shape[1:])
    deviation = (grouped.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat_interleave(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])


def build(config: StyleganGenerator, in_channels: int) -> nn.Module:
    """`Generator`; it takes noise, so `in_channels` has no use."""
    return Generator(config)


def needs(config: StyleganGenerator, in_channels: int, height: int, width: int) -> str | None:
    """What the network needs and does not get at this size, in words; None: it fits."""
    side = max(config.widths.sides)
    return (
        f"pictures of {side}x{side} (the last width that is given)"
        if (height, width) != (side, side)
        else None
    )


def layers(config: StyleganGenerator, in_channels: int, height: int, width: int) -> Table:
    """The layers of `Generator` as a table."""
    style, table = config.style, [Layer(config.style, config.style, 1, 1, True)] * config.num_mapping_layers
    rows: Table = [*table, Extra(16 * config.widths.at4, 0)]
    given = config.widths.at4
    for side, channels in config.widths.sides.items():
        places = side * side
        if side > 4:
            blurs = 16 * places * channels + 16 * (places // 4) * 3
            rows += (
                Layer(style, given, 1, 1, True),
                Layer(given, channels, 3, places // 4, True, growth=4),
                Extra(1, given * channels + blurs),
            )
        rows += (
            Layer(style, channels, 1, 1, True),
            Layer(channels, channels, 3, places, True),
            Extra(1, channels * channels),
            Layer(style, channels, 1, 1, True),
            Layer(channels, 3, 1, places, True),
        )
        given = channels
    return rows


def channels(config: StyleganGenerator) -> Iterator[LayerChannels]:
    """The layers that pruning touches, see `LayerChannels`.

    An affine layer's outputs scale the input channels of its convolution.
    """
    yield LayerChannels("constant", "at4", transposed=True)
    index = 0
    for number, side in enumerate(config.widths.sides):
        here, before = f"at{side}", f"at{max(4, side // 2)}"
        for inputs in [here] if side == 4 else [before, here]:
            yield LayerChannels(f"convs.{index}", here, (inputs,), equalised=True)
            yield LayerChannels(f"convs.{index}.affine", inputs, None)
            index += 1
        yield LayerChannels(f"rgbs.{number}", None, (here,), equalised=True)
        yield LayerChannels(f"rgbs.{number}.affine", here, None)


def taps(config: StyleganGenerator) -> dict[str, str]:
    """Tap name -> path of the module: `at4`, `at8`, ..., the features after the last convolution at a side
    of so many pixels.
    """
    return {f"at{side}": f"convs.{2 * number}" for number, side in enumerate(config.widths.sides)}


def default_taps(config: StyleganGenerator) -> tuple[str, ...]:
    """Four sides at even distances, the largest among them; all where there are no more."""
    return spread(list(taps(config)), 4)
