"""Image enhancement: a residual network without norms, for denoising (scale 1) and super-resolution (2 or 4).

Source: Lim et al. 2017 (EDSR). What differs: the input, enlarged bilinearly, is added to the output of the
network, and the sum is clamped to [-1, 1].
"""

import math
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import EnhanceGenerator
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.cost import Layer, Table
from raydistill.models.tap_names import spread


class Enhance(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 3, scale * H, scale * W) in [-1, 1]."""

    def __init__(self, config: EnhanceGenerator):
        super().__init__()
        w = config.widths
        self.scale = config.scale
        self.stem = nn.Conv2d(3, w.trunk, 3, padding=1)
        self.blocks = nn.ModuleList(EnhanceBlock(w.trunk, w.hidden) for _ in range(config.num_blocks))
        self.fuse = nn.Conv2d(w.trunk, w.trunk, 3, padding=1)
        self.doublings = nn.ModuleList()
        channels = w.trunk
        for _ in range(num_doublings(config)):
            self.doublings.append(
                nn.Sequential(nn.Conv2d(channels, 4 * w.up, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(True))
            )
            channels = w.up
        self.head = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enhanced pictures."""
        first = h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        h = first + self.fuse(h)
        for double in self.doublings:
            h = double(h)
        large = x if self.scale == 1 else F.interpolate(x, scale_factor=float(self.scale), mode="bilinear")
        return (large + self.head(h)).clamp(-1, 1)


class EnhanceBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between them, beside a shortcut."""

    def __init__(self, trunk: int, hidden: int):
        super().__init__()
        self.first = nn.Conv2d(trunk, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, trunk, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, trunk, H, W) -> the same shape."""
        return x + self.second(self.first(x).relu())


def build(config: EnhanceGenerator, in_channels: int) -> nn.Module:
    """`Enhance`, whose inputs have 3 channels."""
    return Enhance(config)


def needs(config: EnhanceGenerator, in_channels: int, height: int, width: int) -> str | None:
    """What the network needs and does not get at this size, in words; None: it fits."""
    return "pictures of 3 channels" if in_channels != 3 else None


def num_doublings(config: EnhanceGenerator) -> int:
    """How often the network doubles height and width: 0, 1 or 2."""
    return int(math.log2(config.scale))


def layers(config: EnhanceGenerator, in_channels: int, height: int, width: int) -> Table:
    """The convolutions of `Enhance` as a table, for inputs of this height and width."""
    w, positions, channels = config.widths, height * width, config.widths.trunk
    block: Table = [
        Layer(w.trunk, w.hidden, 3, positions, True),
        Layer(w.hidden, w.trunk, 3, positions, True),
    ]
    table: Table = [
        Layer(3, w.trunk, 3, positions, True),
        *block * config.num_blocks,
        Layer(w.trunk, w.trunk, 3, positions, True),
    ]
    for _ in range(num_doublings(config)):
        table.append(Layer(channels, 4 * w.up, 3, positions, True))
        channels, positions = w.up, 4 * positions
    return [*table, Layer(channels, 3, 3, positions, True)]


def channels(config: EnhanceGenerator) -> Iterator[LayerChannels]:
    """The layers that pruning touches, see `LayerChannels`."""
    yield LayerChannels("stem", "trunk", None)
    yield LayerChannels("fuse", "trunk", ("trunk",))
    for index in range(config.num_blocks):
        yield LayerChannels(f"blocks.{index}.first", f"hidden{index}", ("trunk",))
        yield LayerChannels(f"blocks.{index}.second", "trunk", (f"hidden{index}",))
    before = "trunk"
    for index in range(num_doublings(config)):
        yield LayerChannels(f"doublings.{index}.0", f"up{index}", (before,), per_channel=4)
        before = f"up{index}"
    yield LayerChannels("head", None, (before,))


def taps(config: EnhanceGenerator) -> dict[str, str]:
    """Tap name -> path of the module: `block1` to `block{num_blocks}`, the outputs of the residual blocks,
    then `up1` and `up2` after the doublings that the scale asks for.
    """
    blocks = {f"block{index + 1}": f"blocks.{index}" for index in range(config.num_blocks)}
    return blocks | {f"up{index + 1}": f"doublings.{index}" for index in range(num_doublings(config))}


def default_taps(config: EnhanceGenerator) -> tuple[str, ...]:
    """Four blocks at even distances, the last one among them; all where there are no more."""
    return spread([name for name in taps(config) if name.startswith("block")], 4)
