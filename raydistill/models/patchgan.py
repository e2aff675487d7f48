"""The discriminators of pix2pix (Isola et al. 2017): PatchGAN, and the pixel discriminator (`num_layers` 0).

Source: layer facts of junyanz's n-layer and pixel discriminators.
"""

from torch import nn

from raydistill.config.architectures import PatchDiscriminator
from raydistill.errors import ConfigError


def build(config: PatchDiscriminator, in_channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) -> scores (B, 1, h, w), one for each patch or pixel; unbounded.

    The input is a picture, a condition and a picture, or two pictures, concatenated.
    """
    width, bias = config.width, config.norm == "instance"
    if config.num_layers == 0:
        inner = _with_norm(nn.Conv2d(width, 2 * width, 1, bias=bias), config.norm)
        first, last = nn.Conv2d(in_channels, width, 1), nn.Conv2d(2 * width, 1, 1)
        return nn.Sequential(first, nn.LeakyReLU(0.2, True), *inner, last)
    layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    previous = width
    for index in range(1, config.num_layers + 1):
        channels = width * min(2**index, 8)
        stride = 1 if index == config.num_layers else 2
        layers += _with_norm(nn.Conv2d(previous, channels, 4, stride, 1, bias=bias), config.norm)
        previous = channels
    return nn.Sequential(*layers, nn.Conv2d(previous, 1, 4, 1, 1))


def _with_norm(conv: nn.Conv2d, norm: str) -> list[nn.Module]:
    """The convolution, its norm and a leaky ReLU."""
    channels = conv.out_channels
    norm_layer = nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)
    return [conv, norm_layer, nn.LeakyReLU(0.2, True)]


def check(config: PatchDiscriminator, height: int, width: int, where: str) -> None:
    """Raises ConfigError, which names the number of layers as `where`, if pictures are too small for so many.

    A norm needs two values or more per channel, and the scores need one.
    """
    if config.num_layers == 0:
        return
    rows, columns = height // 2, width // 2
    for index in range(1, config.num_layers + 2):
        if index < config.num_layers:
            rows, columns = rows // 2, columns // 2
        else:
            rows, columns = rows - 1, columns - 1
        has_norm = index <= config.num_layers
        if min(rows, columns) < 1 or (has_norm and rows == columns == 1):
            raise ConfigError(
                f"{where}: {config.num_layers} layers leave nothing of pictures of {height}x{width}; "
                "lower it, or use larger pictures"
            )
