"""SqueezeNet 1.0 and its deep-compressed ImageNet weights (Han et al. 2016; a 676 kB file)."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.errors import DataError

_FIRES = {
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
"""Number -> (channels after the squeeze, channels of each of the two expansions)."""
MEAN_BGR = (104.0, 117.0, 123.0)


class SqueezeNet(nn.Module):
    """(B, 3, H, W) BGR, 0..255 minus `MEAN_BGR`, H and W >= 28 -> (B, 512): global average of fire9, before the classes."""

    def __init__(self) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(3, 96, 7, 2), nn.ReLU()), pool1=_pool()
        )
        channels = 96
        for number, (squeezed, expanded) in _FIRES.items():
            layers[f"fire{number}"] = Fire(channels, squeezed, expanded)
            channels = 2 * expanded
            if number in (4, 8):
                layers[f"pool{number}"] = _pool()
        self.layers = nn.Sequential(layers)
        self.classifier = nn.Conv2d(channels, 1000, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures).mean((2, 3))


class Fire(nn.Module):
    def __init__(self, in_channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1(x), self.expand3(x)], 1).relu()


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def read_compressed(path: Path) -> SqueezeNet:
    """The network of a deep-compressed file.

    The file: uint32 numbers of entries of 26 layers; then for each layer 256 float32 values, float32 biases, a uint8 index into the
    values for each entry, and the entries' distances minus 1, 4 bits each, low half first.

    Raises:
        DataError: the file ends early, is too long, or has an entry outside a layer.
    """
    network, reader = SqueezeNet(), _Reader(path.read_bytes())
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        for layer, count in zip(layers, reader.take(np.uint32, len(layers)).tolist(), strict=True):
            assert layer.bias is not None
            values, bias, codes, packed = (
                reader.take(kind, number)
                for kind, number in (
                    (np.float32, 256),
                    (np.float32, len(layer.bias)),
                    (np.uint8, count),
                    (np.uint8, (count + 1) // 2),
                )
            )
            gaps = np.stack([packed & 15, packed >> 4], 1).ravel()[:count]
            weight = np.zeros(layer.weight.numel(), np.float32)
            weight[np.cumsum(gaps.astype(np.int64) + 1) - 1] = values[codes]
            layer.weight.data.copy_(torch.from_numpy(weight).view_as(layer.weight))
            layer.bias.data.copy_(torch.from_numpy(bias.copy()))
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}: not a whole deep-compressed SqueezeNet 1.0 ({error}). Give the file as it was published."
        ) from None
    if reader.left:
        raise DataError(
            f"{path}: {reader.left} bytes follow the last layer. Give the deep-compressed SqueezeNet 1.0 as it was published."
        )
    return network


class _Reader:
    def __init__(self, content: bytes):
        self.content, self.place = content, 0

    def take(self, kind: type[np.generic], number: int) -> np.ndarray:
        """The next `number` values. Raises ValueError where the file ends before."""
        taken = np.frombuffer(self.content, kind, number, self.place)
        self.place += taken.nbytes
        return taken

    @property
    def left(self) -> int:
        return len(self.content) - self.place
