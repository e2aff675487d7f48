"""SqueezeNet 1.0 and its deep-compressed ImageNet weights (Han et al. 2016; a 676 kB file)."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.errors import DataError
from raydistill.reading import read_bytes

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
"""Mean of the pictures that it was trained on, 0..255."""


class SqueezeNet(nn.Module):
    """Pictures (B, 3, H, W), H and W at least 28 -> features (B, 512): the global average before the classes.

    Pictures are BGR, 0..255 minus `MEAN_BGR`.
    """

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
        """Features of pictures."""
        return self.layers(pictures).mean((2, 3))


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then a 1x1 and a 3x3 one side by side (Iandola et al. 2016)."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 2 * expanded, H, W)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1(x), self.expand3(x)], 1).relu()


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def read_compressed(path: Path) -> SqueezeNet:
    """The network in the deep-compressed file `path`.

    The file holds uint32 numbers of entries of 26 layers. Then it holds for each layer 256 float32 values,
    float32 biases, a uint8 index into the values for each entry, and the distances between entries minus 1, 4
    bits each, low half first. Weights that have no entry are 0.

    Raises:
        DataError: the file ends early, is too long, or has an entry outside of a layer.
    """
    network, reader = SqueezeNet(), _Reader(_content(path))
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        for layer, count in zip(layers, reader.take(np.uint32, len(layers)).tolist(), strict=True):
            assert layer.bias is not None
            values = reader.take(np.float32, 256)
            bias = reader.take(np.float32, len(layer.bias))
            codes = reader.take(np.uint8, count)
            packed = reader.take(np.uint8, (count + 1) // 2)
            gaps = np.stack([packed & 15, packed >> 4], 1).ravel()[:count]
            weight = np.zeros(layer.weight.numel(), np.float32)
            weight[np.cumsum(gaps.astype(np.int64) + 1) - 1] = values[codes]
            layer.weight.data.copy_(torch.from_numpy(weight).view_as(layer.weight))
            layer.bias.data.copy_(torch.from_numpy(bias.copy()))
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}: not a whole deep-compressed SqueezeNet 1.0 ({error}). "
            "Give the file as it was published."
        ) from None
    if reader.num_left:
        raise DataError(
            f"{path}: {reader.num_left} bytes follow the last layer. "
            "Give the deep-compressed SqueezeNet 1.0 as it was published."
        )
    return network


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}. Give the file as it was published."
        ) from None


class _Reader:
    """Takes arrays out of the content of a file, one after the other."""

    def __init__(self, content: bytes):
        self.content, self.offset = content, 0

    def take(self, kind: type[np.generic], number: int) -> np.ndarray:
        """The next `number` values. Raises ValueError where the file ends before."""
        values = np.frombuffer(self.content, kind, number, self.offset)
        self.offset += values.nbytes
        return values

    @property
    def num_left(self) -> int:
        """How many bytes have not been taken."""
        return len(self.content) - self.offset
