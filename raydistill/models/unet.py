"""The U-Net generator of pix2pix, and OMGD's deeper one with residual bottlenecks at each level.

Source: layer facts of junyanz's and OMGD's U-Net generators. What differs: a width per stage, and the random
numbers of dropout belong to images.
"""

from collections.abc import Iterator

from torch import Tensor, cat, nn

from raydistill.config.architectures import UnetGenerator
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.cost import Layer, Table
from raydistill.models.dropout import ImageDropout


class Unet(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, 3, H, W) in [-1, 1]; H and W divisible by 2 ** num_levels.

    `downs[level]` halves the picture of that level, and ends with the leaky ReLU that comes before the next
    convolution and the shortcut. `ups` double it again, from the deepest level to level 0.
    """

    def __init__(self, config: UnetGenerator, in_channels: int):
        super().__init__()
        down, up = level_widths(config)
        norm, bias = config.norm, config.norm == "instance"
        last = config.num_levels - 1
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(down):
            above = in_channels if level == 0 else down[level - 1]
            parts: list[nn.Module] = [nn.Conv2d(above, channels, 4, 2, 1, bias=bias)]
            if 0 < level < last:
                parts.append(_norm(channels, norm))
            if level < last:
                parts += (Bottleneck(channels, norm) for _ in range(config.blocks_per_level))
                parts.append(nn.LeakyReLU(0.2))
            self.downs.append(nn.Sequential(*parts))
        for level in reversed(range(config.num_levels)):
            # what comes from below, and the shortcut from the way down
            below = up[level] + (down[level] if level < last else 0)
            channels = 3 if level == 0 else up[level - 1]
            double = nn.ConvTranspose2d(below, channels, 4, 2, 1, bias=bias or level == 0)
            blocks: list[nn.Module] = []
            if level < last:
                width = below if level == 0 else channels
                blocks += (Bottleneck(width, norm) for _ in range(config.blocks_per_level))
            if level == 0:
                self.ups.append(nn.Sequential(*blocks, nn.ReLU(), double, nn.Tanh()))
            else:
                if config.dropout and 4 <= level < last:
                    blocks.append(ImageDropout(config.dropout, level))
                self.ups.append(nn.Sequential(nn.ReLU(), double, _norm(channels, norm), *blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Pictures of the inputs' size."""
        shortcuts: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            shortcuts.append(x)
        for index, up in enumerate(self.ups):
            x = up(x) if index == 0 else up(cat([shortcuts[-1 - index], x], 1))
        return x


class Bottleneck(nn.Module):
    """Beside a shortcut: 1x1 to four times the width, 3x3, 1x1 back, and another 3x3."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        wide, bias = 4 * channels, norm == "instance"
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            *(nn.Conv2d(channels, wide, 1, bias=bias), _norm(wide, norm), nn.ReLU(True)),
            *(nn.Conv2d(wide, wide, 3, bias=bias), _norm(wide, norm), nn.ReLU(True)),
            *(nn.Conv2d(wide, channels, 1, bias=bias), _norm(channels, norm), nn.ReLU(True)),
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), _norm(channels, norm)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        return x + self.conv_block(x)


def level_widths(config: UnetGenerator) -> tuple[list[int], list[int]]:
    """Channels of each level on the way down, and on the way up.

    On the way up they are those of what comes from the level below; the deepest level has the same as on the
    way down.
    """
    w, deep = config.widths, [config.widths.deep] * (config.num_levels - 3)
    return [w.down1, w.down2, w.down3, *deep], [w.up1, w.up2, w.up3, *deep]


def layers(config: UnetGenerator, in_channels: int, height: int, width: int) -> Table:
    """The convolutions of `Unet` as a table."""
    down, up = level_widths(config)
    bias, norm, last = config.norm == "instance", 2 if config.norm == "batch" else 0, config.num_levels - 1
    table: Table = []
    for level, channels in enumerate(down):
        h, w = height >> level + 1, width >> level + 1
        above = in_channels if level == 0 else down[level - 1]
        below = up[level] + (down[level] if level < last else 0)
        out = 3 if level == 0 else up[level - 1]
        table.append(Layer(above, channels, 4, h * w, bias, norm if 0 < level < last else None))
        table.append(Layer(below, out, 4, h * w, bias or level == 0, norm if level else None, growth=4))
        if level < last:
            blocks = _bottleneck(channels, h, w, bias, norm)
            if level == 0:
                blocks += _bottleneck(below, h, w, bias, norm)
            else:
                blocks += _bottleneck(out, 2 * h, 2 * w, bias, norm)
            table += config.blocks_per_level * blocks
    return table


def needs(config: UnetGenerator, in_channels: int, height: int, width: int) -> str | None:
    """What the network needs and does not get at this size, in words; None: it fits."""
    multiple = 2**config.num_levels
    fits = height % multiple == width % multiple == 0
    return None if fits else f"heights and widths divisible by {multiple} (2 ** num_levels)"


def _bottleneck(channels: int, height: int, width: int, bias: bool, norm: int) -> Table:
    """`Bottleneck` as a table, for its own input's height and width."""
    wide, positions = 4 * channels, height * width
    return [
        Layer(channels, wide, 1, (height + 2) * (width + 2), bias, norm),  # on the padded picture
        Layer(wide, wide, 3, positions, bias, norm),
        Layer(wide, channels, 1, positions, bias, norm),
        Layer(channels, channels, 3, positions, bias, norm),
    ]


def _norm(channels: int, norm: str) -> nn.Module:
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)


def channels(config: UnetGenerator) -> Iterator[LayerChannels]:
    """The layers that pruning touches, see `LayerChannels`."""
    last = config.num_levels - 1
    for level in range(last + 1):
        down, up = f"downs.{level}", f"ups.{last - level}"
        blocks = range(0 if level == last else config.blocks_per_level)
        # what the layer that doubles gets: the shortcut, and what comes from the level below
        below = (f"down{level}",) if level == last else (f"down{level}", f"up{level}")
        yield LayerChannels(f"{down}.0", f"down{level}", (f"down{level - 1}",) if level else None)
        if 0 < level < last:
            yield LayerChannels(f"{down}.1", f"down{level}")
        for index in blocks:
            yield from _bottleneck_channels(f"{down}.{index + (2 if level else 1)}", (f"down{level}",))
        if level == 0:
            yield LayerChannels(f"{up}.{len(blocks) + 1}", None, below, transposed=True)
            for index in blocks:
                yield from _bottleneck_channels(f"{up}.{index}", below)
        else:
            yield LayerChannels(f"{up}.1", f"up{level - 1}", below, transposed=True)
            yield LayerChannels(f"{up}.2", f"up{level - 1}")
            for index in blocks:
                yield from _bottleneck_channels(f"{up}.{index + 3}", (f"up{level - 1}",))


def _bottleneck_channels(name: str, groups: tuple[str, ...]) -> Iterator[LayerChannels]:
    """Its shortcut adds what goes in to what comes out, so both are the same groups."""
    convolutions = {1: groups, 4: (f"{name}.first",), 7: (f"{name}.second",), 11: (f"{name}.third",)}
    outputs_of_each = (*list(convolutions.values())[1:], groups)
    for (index, inputs), outputs in zip(convolutions.items(), outputs_of_each):
        group = outputs[0] if len(outputs) == 1 else outputs
        yield LayerChannels(f"{name}.conv_block.{index}", group, inputs)
        yield LayerChannels(f"{name}.conv_block.{index + 1}", group)


def taps(config: UnetGenerator) -> dict[str, str]:
    """Tap name -> path of the module, counted from outside, where the picture is.

    `down1` to `down{num_levels}` follow the down-convolutions 1, 2, ... with their norms and leaky ReLUs; the
    last has neither. `up1`, `up2`, ... are what goes into up-convolution 1, 2, ..., after its ReLU: the
    shortcut and what comes from below, concatenated. Up-convolution 0 makes the picture. So `down{n + 1}` and
    `up{n}` have one height and width, that of the picture halved n + 1 times.

    Source: OMGD taps the modules `model.model.1.model.3.model.0`, `...3.model.3.model.3.model.0`,
    `...3.model.3.model.4` and `model.model.1.model.4` of junyanz' U-Net: `down2`, `down4`, `up3` and `up1`.
    """
    last = config.num_levels - 1
    downs = {f"down{level + 1}": f"downs.{level}" for level in range(last + 1)}
    return downs | {f"up{level}": f"ups.{last - level}.0" for level in range(1, last)}


def default_taps(config: UnetGenerator) -> tuple[str, ...]:
    """OMGD's four taps.

    A U-Net of four levels has no shortcut as deep as two of them are: there, `down3` and `up2` stand for
    `down4` and `up3`, the deepest that have one.
    """
    last = config.num_levels - 1
    return "down2", f"down{min(4, last)}", f"up{min(3, last - 1)}", "up1"
