"""The ResNet generator of CycleGAN and pix2pix, with a width per stage.

Source: layer facts of junyanz's ResNet generator. What differs: the six stage widths are free, `hidden` is the width inside
a residual block, and the input may have any number of channels. `layers` is the same network as a table, for costs without
modules.
"""

from torch import Tensor, nn

from raydistill.config import ResnetGenerator
from raydistill.cost import Layer


def build(config: ResnetGenerator, in_channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) in [-1, 1] -> (B, 3, H, W) in [-1, 1]; H and W divisible by 4."""
    w, norm = config.widths, config.norm
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        *_conv(nn.Conv2d(in_channels, w.stem, 7, bias=norm == "instance"), norm),
        *_conv(nn.Conv2d(w.stem, w.down, 3, 2, 1, bias=norm == "instance"), norm),
        *_conv(nn.Conv2d(w.down, w.trunk, 3, 2, 1, bias=norm == "instance"), norm),
        *(ResnetBlock(w.trunk, w.hidden, norm) for _ in range(config.num_blocks)),
        *_conv(nn.ConvTranspose2d(w.trunk, w.up, 3, 2, 1, 1, bias=norm == "instance"), norm),
        *_conv(nn.ConvTranspose2d(w.up, w.head, 3, 2, 1, 1, bias=norm == "instance"), norm),
        nn.ReflectionPad2d(3),
        nn.Conv2d(w.head, 3, 7),
        nn.Tanh(),
    )


def layers(config: ResnetGenerator, in_channels: int, height: int, width: int) -> list[Layer]:
    """The convolutions of `build` as a table: what `cost.macs` and `cost.params` add up."""
    w = config.widths
    bias = config.norm == "instance"
    affine = config.norm == "batch"
    full, half, quarter = height * width, height * width // 4, height * width // 16
    block = [
        Layer(w.trunk, w.hidden, 3, quarter, bias, affine),
        Layer(w.hidden, w.trunk, 3, quarter, bias, affine),
    ]
    return [
        Layer(in_channels, w.stem, 7, full, bias, affine),
        Layer(w.stem, w.down, 3, half, bias, affine),
        Layer(w.down, w.trunk, 3, quarter, bias, affine),
        *block * config.num_blocks,
        Layer(w.trunk, w.up, 3, quarter, bias, affine),
        Layer(w.up, w.head, 3, half, bias, affine),
        Layer(w.head, 3, 7, full, True, False),
    ]


class ResnetBlock(nn.Module):
    def __init__(self, trunk: int, hidden: int, norm: str):
        super().__init__()
        bias = norm == "instance"
        first = [nn.ReflectionPad2d(1), *_conv(nn.Conv2d(trunk, hidden, 3, bias=bias), norm)]
        second = [nn.ReflectionPad2d(1), nn.Conv2d(hidden, trunk, 3, bias=bias), _norm(trunk, norm)]
        self.conv_block = nn.Sequential(*first, *second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _conv(conv: nn.Conv2d | nn.ConvTranspose2d, norm: str) -> list[nn.Module]:
    return [conv, _norm(conv.out_channels, norm), nn.ReLU(True)]


def _norm(channels: int, norm: str) -> nn.Module:
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)
