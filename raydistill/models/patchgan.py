"""The PatchGAN discriminator of pix2pix.

Source: layer facts of junyanz's n-layer discriminator. Input: condition and picture, concatenated.
"""

from torch import nn

from raydistill.config import PatchDiscriminator
from raydistill.errors import ConfigError


def build(config: PatchDiscriminator, in_channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, 1, h, w), a score a patch; unbounded."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, config.width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    previous = config.width
    for index in range(1, config.num_layers + 1):
        channels = config.width * min(2**index, 8)
        stride = 1 if index == config.num_layers else 2
        norm = nn.InstanceNorm2d(channels) if config.norm == "instance" else nn.BatchNorm2d(channels)
        layers += [nn.Conv2d(previous, channels, 4, stride, 1, bias=config.norm == "instance"), norm, nn.LeakyReLU(0.2, True)]
        previous = channels
    return nn.Sequential(*layers, nn.Conv2d(previous, 1, 4, 1, 1))


def check(config: PatchDiscriminator, height: int, width: int, where: str) -> None:
    """Raises ConfigError where a picture is too small: a norm needs two or more values, the scores one."""
    height_left, width_left = height // 2, width // 2
    for index in range(1, config.num_layers + 2):
        halves = index < config.num_layers
        height_left, width_left = ((side // 2 if halves else side - 1) for side in (height_left, width_left))
        if min(height_left, width_left) < 1 or (index <= config.num_layers and height_left == width_left == 1):
            raise ConfigError(
                f"{where}: {config.num_layers} layers leave nothing of pictures of {height}x{width}; lower it, or use larger pictures"
            )
