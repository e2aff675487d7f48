"""The U-Net generator of pix2pix, and OMGD's deeper one with residual bottlenecks at each level.

Source: layer facts of junyanz's and OMGD's U-Net generators. What differs: a width per stage, and no dropout (it is the identity in a
finished network, and its random numbers would belong to no image).
"""

from torch import Tensor, cat, nn
from torch.nn.functional import leaky_relu

from raydistill.config.architectures import UnetGenerator
from raydistill.models.cost import Layer, Table


class Unet(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, 3, H, W) in [-1, 1]; H and W divisible by 2 ** num_levels."""

    def __init__(self, config: UnetGenerator, in_channels: int):
        super().__init__()
        down, up, norm, number = *level_widths(config), config.norm, config.blocks_per_level
        bias, last = norm == "instance", config.num_levels - 1
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(down):
            outer, edge = level == 0, level in (0, last)
            conv = nn.Conv2d(in_channels if outer else down[level - 1], channels, 4, 2, 1, bias=bias)
            blocks = () if level == last else (Bottleneck(channels, norm) for _ in range(number))
            self.downs.append(nn.Sequential(conv, *(() if edge else (_norm(channels, norm),)), *blocks))
        for level in reversed(range(config.num_levels)):
            outer = level == 0
            given, channels = up[level] + (down[level] if level < last else 0), 3 if outer else up[level - 1]
            conv_up = nn.ConvTranspose2d(given, channels, 4, 2, 1, bias=bias or outer)
            blocks = (
                ()
                if level == last
                else (Bottleneck(given if outer else channels, norm) for _ in range(number))
            )
            parts = (
                (*blocks, nn.ReLU(), conv_up, nn.Tanh())
                if outer
                else (nn.ReLU(), conv_up, _norm(channels, norm), *blocks)
            )
            self.ups.append(nn.Sequential(*parts))

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for index, down in enumerate(self.downs):
            x = down(x) if index == 0 else down(seen[-1])
            seen.append(leaky_relu(x, 0.2))
        for index, up in enumerate(self.ups):
            x = up(x) if index == 0 else up(cat([seen[-1 - index], x], 1))
        return x


class Bottleneck(nn.Module):
    """1x1 to four times the width, 3x3, 1x1 back, then 3x3, beside a shortcut."""

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
        return x + self.conv_block(x)


def level_widths(config: UnetGenerator) -> tuple[list[int], list[int]]:
    """Channels after the halving to each level, and of what comes up to it from below (at the last: the halving's own)."""
    w, deep = config.widths, [config.widths.deep] * (config.num_levels - 3)
    return [w.down1, w.down2, w.down3, *deep], [w.up1, w.up2, w.up3, *deep]


def layers(config: UnetGenerator, in_channels: int, height: int, width: int) -> Table:
    """The convolutions of `Unet` as a table."""
    down, up = level_widths(config)
    bias, norm, last = config.norm == "instance", 2 if config.norm == "batch" else 0, config.num_levels - 1
    table: Table = []
    for level, channels in enumerate(down):
        h, w = height >> level + 1, width >> level + 1
        edge, number = level in (0, last), 0 if level == last else config.blocks_per_level
        given, out = up[level] + (down[level] if level < last else 0), 3 if level == 0 else up[level - 1]
        table += (
            Layer(
                in_channels if level == 0 else down[level - 1],
                channels,
                4,
                h * w,
                bias,
                None if edge else norm,
            ),
            Layer(given, out, 4, h * w, bias or level == 0, None if level == 0 else norm, growth=4),
        )
        if number:
            table += number * _bottleneck(channels, h, w, bias, norm)
            table += number * (
                _bottleneck(given, h, w, bias, norm)
                if level == 0
                else _bottleneck(out, 2 * h, 2 * w, bias, norm)
            )
    return table


def needs(config: UnetGenerator, in_channels: int, height: int, width: int) -> str | None:
    multiple = 2**config.num_levels
    return (
        f"heights and widths divisible by {multiple} (2 ** num_levels)"
        if height % multiple or width % multiple
        else None
    )


def _bottleneck(channels: int, height: int, width: int, bias: bool, norm: int) -> Table:
    wide, positions = 4 * channels, height * width
    return [
        Layer(channels, wide, 1, (height + 2) * (width + 2), bias, norm),  # on the padded picture
        Layer(wide, wide, 3, positions, bias, norm),
        Layer(wide, channels, 1, positions, bias, norm),
        Layer(channels, channels, 3, positions, bias, norm),
    ]


def _norm(channels: int, norm: str) -> nn.Module:
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)
