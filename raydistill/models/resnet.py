"""The ResNet generator of CycleGAN and pix2pix, and GAN Compression's mobile one with separable convolutions.

Source: layer facts of junyanz's ResNet generator and of GAN Compression's mobile one. What differs: the width
of each stage and the width inside residual blocks are free, and the input may have any number of channels.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from raydistill.config.architectures import MobileResnetGenerator, ResnetGenerator
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.cost import Layer, Table
from raydistill.models.tap_names import spread

AnyResnet = ResnetGenerator | MobileResnetGenerator


def build(config: AnyResnet, in_channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) in [-1, 1] -> (B, 3, H, W) in [-1, 1]; H and W divisible by 4."""
    w, norm = config.widths, config.norm
    is_mobile = config.family == "mobile_resnet"
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        *_conv(nn.Conv2d(in_channels, w.stem, 7, bias=norm == "instance"), norm),
        *_conv(nn.Conv2d(w.stem, w.down, 3, 2, 1, bias=norm == "instance"), norm),
        *_conv(nn.Conv2d(w.down, w.trunk, 3, 2, 1, bias=norm == "instance"), norm),
        *(ResnetBlock(w.trunk, hidden, norm, is_mobile) for hidden in hidden_widths(config)),
        *_conv(nn.ConvTranspose2d(w.trunk, w.up, 3, 2, 1, 1, bias=norm == "instance"), norm),
        *_conv(nn.ConvTranspose2d(w.up, w.head, 3, 2, 1, 1, bias=norm == "instance"), norm),
        nn.ReflectionPad2d(3),
        nn.Conv2d(w.head, 3, 7),
        nn.Tanh(),
    )


def layers(config: AnyResnet, in_channels: int, height: int, width: int) -> Table:
    """The convolutions of `build` as a table: what `cost.macs` and `cost.params` add up."""
    w = config.widths
    bias, norm = config.norm == "instance", 2 if config.norm == "batch" else 0
    full, half, quarter = height * width, height * width // 4, height * width // 16
    table: Table = [
        Layer(in_channels, w.stem, 7, full, bias, norm),
        Layer(w.stem, w.down, 3, half, bias, norm),
        Layer(w.down, w.trunk, 3, quarter, bias, norm),
        Layer(w.trunk, w.up, 3, quarter, bias, norm, growth=4),
        Layer(w.up, w.head, 3, half, bias, norm, growth=4),
        Layer(w.head, 3, 7, full, True),
    ]
    convolution = _separable if config.family == "mobile_resnet" else _full
    for hidden, count in _alike_blocks(config):
        first = convolution(w.trunk, hidden, quarter, norm)
        table += count * [*first, *convolution(hidden, w.trunk, quarter, norm)]
    return table


def needs(config: AnyResnet, in_channels: int, height: int, width: int) -> str | None:
    """What the network needs and does not get at this size, in words; None: it fits."""
    fits = height % 4 == width % 4 == 0 and min(height, width) >= 8
    return None if fits else "heights and widths divisible by 4, 8 or more"


def hidden_widths(config: AnyResnet) -> list[int]:
    """The width inside each block.

    GAN Compression's network has one width for each third of its blocks; blocks that do not divide by three
    belong to the last third.
    """
    return [hidden for hidden, count in _alike_blocks(config) for _ in range(count)]


def _alike_blocks(config: AnyResnet) -> list[tuple[int, int]]:
    """The width inside the blocks that follow each other and are alike, and how many there are."""
    if isinstance(config, ResnetGenerator):
        return [(config.widths.hidden, config.num_blocks)]
    third, w = config.num_blocks // 3, config.widths
    return [(w.hidden1, third), (w.hidden2, third), (w.hidden3, config.num_blocks - 2 * third)]


def _full(in_channels: int, out_channels: int, positions: int, norm: int) -> Table:
    return [Layer(in_channels, out_channels, 3, positions, norm == 0, norm)]


def _separable(in_channels: int, out_channels: int, positions: int, norm: int) -> Table:
    return [
        Layer(in_channels, in_channels, 3, positions, True, 0, groups=in_channels),
        Layer(in_channels, out_channels, 1, positions, True, norm),
    ]


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions, from `trunk` to `hidden` channels and back, beside a shortcut."""

    def __init__(self, trunk: int, hidden: int, norm: str, is_mobile: bool = False):
        super().__init__()
        conv = SeparableConv if is_mobile else nn.Conv2d
        bias = norm == "instance" or is_mobile
        first = [nn.ReflectionPad2d(1), conv(trunk, hidden, 3, bias=bias), _norm(hidden, norm), nn.ReLU(True)]
        second = [nn.ReflectionPad2d(1), conv(hidden, trunk, 3, bias=bias), _norm(trunk, norm)]
        self.conv_block = nn.Sequential(*first, *second)

    def forward(self, x: Tensor) -> Tensor:
        """(B, trunk, H, W) -> the same shape."""
        return x + self.conv_block(x)


class SeparableConv(nn.Module):
    """A convolution of each channel by itself, then a 1x1 convolution of all.

    The norm between them is an instance norm, whatever the norm of the network is.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, kernel, groups=in_channels, bias=bias),
            nn.InstanceNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H - kernel + 1, W - kernel + 1)."""
        return self.conv(x)


def _conv(conv: nn.Conv2d | nn.ConvTranspose2d, norm: str) -> list[nn.Module]:
    return [conv, _norm(conv.out_channels, norm), nn.ReLU(True)]


def _norm(channels: int, norm: str) -> nn.Module:
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)


def channels(config: AnyResnet) -> Iterator[LayerChannels]:
    """The layers that pruning touches, see `LayerChannels`."""
    number = config.num_blocks
    yield LayerChannels("1", "stem", None)
    yield LayerChannels("2", "stem")
    yield LayerChannels("4", "down", ("stem",))
    yield LayerChannels("5", "down")
    yield LayerChannels("7", "trunk", ("down",))
    yield LayerChannels("8", "trunk")
    for block in range(10, 10 + number):
        hidden = f"hidden{block}"
        first, second = f"{block}.conv_block.1", f"{block}.conv_block.5"
        if isinstance(config, MobileResnetGenerator):
            yield LayerChannels(f"{first}.conv.0", "trunk")
            yield LayerChannels(f"{second}.conv.0", hidden)
            first, second = f"{first}.conv.2", f"{second}.conv.2"
        yield LayerChannels(first, hidden, ("trunk",))
        yield LayerChannels(f"{block}.conv_block.2", hidden)
        yield LayerChannels(second, "trunk", (hidden,))
        yield LayerChannels(f"{block}.conv_block.6", "trunk")
    yield LayerChannels(f"{10 + number}", "up", ("trunk",), transposed=True)
    yield LayerChannels(f"{11 + number}", "up")
    yield LayerChannels(f"{13 + number}", "head", ("up",), transposed=True)
    yield LayerChannels(f"{14 + number}", "head")
    yield LayerChannels(f"{17 + number}", None, ("head",))


def taps(config: AnyResnet) -> dict[str, str]:
    """Tap name -> path of the module: `down`, after the last halving with its norm and ReLU, and `block1` to
    `block{num_blocks}`, the outputs of the residual blocks.
    """
    return {"down": "9"} | {f"block{index + 1}": f"{10 + index}" for index in range(config.num_blocks)}


def default_taps(config: AnyResnet) -> tuple[str, ...]:
    """`down`, and the blocks at one third, at two thirds and at the end; fewer where these are not distinct.

    Source: GAN Compression and OMGD tap `model.9`, `model.12`, `model.15` and `model.18` of nine blocks.
    What differs: thirds of other numbers of blocks are rounded up.
    """
    return "down", *spread([f"block{index + 1}" for index in range(config.num_blocks)], 3)
