"""The discriminators of pix2pix: PatchGAN, and the pixel discriminator where `num_layers` is 0.

Source: layer facts of junyanz's n-layer and pixel discriminators. Input: condition and picture, concatenated.
"""

from torch import nn

from raydistill.config.architectures import PatchDiscriminator
from raydistill.errors import ConfigError


def build(config: PatchDiscriminator, in_channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, 1, h, w), a score a patch or pixel; unbounded."""
    if config.num_layers == 0:
        inner = _normed(
            nn.Conv2d(config.width, 2 * config.width, 1, bias=config.norm == "instance"), config.norm
        )
        return nn.Sequential(
            nn.Conv2d(in_channels, config.width, 1),
            nn.LeakyReLU(0.2, True),
            *inner,
            nn.Conv2d(2 * config.width, 1, 1),
        )
    layers: list[nn.Module] = [nn.Conv2d(in_channels, config.width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    previous = config.width
    for index in range(1, config.num_layers + 1):
        channels = config.width * min(2**index, 8)
        stride = 1 if index == config.num_layers else 2
        layers += _normed(
            nn.Conv2d(previous, channels, 4, stride, 1, bias=config.norm == "instance"), config.norm
        )
        previous = channels
    return nn.Sequential(*layers, nn.Conv2d(previous, 1, 4, 1, 1))


def _normed(conv: nn.Conv2d, norm: str) -> list[nn.Module]:
    channels = conv.out_channels
    return [
        conv,
        nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.2, True),
    ]


def check(config: PatchDiscriminator, height: int, width: int, where: str) -> None:
    """Raises ConfigError where a picture is too small: a norm needs two or more values, the scores one."""
    if config.num_layers == 0:
        return
    height_left, width_left = height // 2, width // 2
    for index in range(1, config.num_layers + 2):
        halves = index < config.num_layers
        height_left, width_left = ((side // 2 if halves else side - 1) for side in (height_left, width_left))
        if min(height_left, width_left) < 1 or (
            index <= config.num_layers and height_left == width_left == 1
        ):
            raise ConfigError(
                f"{where}: {config.num_layers} layers leave nothing of pictures of {height}x{width}; lower it, or use larger pictures"
            )
