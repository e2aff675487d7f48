"""InceptionV3 as TensorFlow published it on 2015-12-05: the network of FID (Heusel et al. 2017).

Its parameters have the names of the published PyTorch file. What differs from torchvision's: average pools
leave out the padding, the pool of the last block takes maxima, there are 1008 classes and no auxiliary head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299
"""Height and width of pictures."""
Path = tuple[str | tuple[str, str], ...]
"""The units of a path through a block, in order.

A pair of units is a fork, whose two outputs are concatenated. "average", "maximum" and "halve" are 3x3 pools;
the last one takes maxima with stride 2.
"""


class Inception(nn.Module):
    """Pictures (B, 3, 299, 299) in [-1, 1) -> features (B, 2048).

    They are the global average before the classes, TensorFlow's "pool3".
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3, padded=False)
        self.Mixed_5b = _mixed_5(192, 32)
        self.Mixed_5c = _mixed_5(256, 64)
        self.Mixed_5d = _mixed_5(288, 64)
        self.Mixed_6a = _mixed_6a(288)
        self.Mixed_6b = _mixed_6(768, 128)
        self.Mixed_6c = _mixed_6(768, 160)
        self.Mixed_6d = _mixed_6(768, 160)
        self.Mixed_6e = _mixed_6(768, 192)
        self.Mixed_7a = _mixed_7a(768)
        self.Mixed_7b = _mixed_7(1280, "average")
        self.Mixed_7c = _mixed_7(2048, "maximum")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of pictures."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pictures)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))


class Unit(nn.Module):
    """A convolution, a batch norm and a ReLU.

    With stride 1, `padded` says whether the size stays the same. Stride 2 has no padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padded: bool = True,
    ):
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(in_channels, out_channels, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, h, w)."""
        return self.bn(self.conv(x)).relu_()


class Mixed(nn.Module):
    """A block of several paths, whose outputs are concatenated in order."""

    def __init__(self, units: dict[str, Unit], *paths: Path):
        super().__init__()
        self.paths = paths
        for name, unit in units.items():
            self.add_module(name, unit)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, h, w)."""
        return torch.cat([self._along(path, x) for path in self.paths], 1)

    def _along(self, path: Path, x: Tensor) -> Tensor:
        for step in path:
            if isinstance(step, tuple):
                x = torch.cat([self.get_submodule(half)(x) for half in step], 1)
            else:
                x = self._step(step, x)
        return x

    def _step(self, name: str, x: Tensor) -> Tensor:
        if name == "average":
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        if name == "maximum":
            return F.max_pool2d(x, 3, 1, 1)
        if name == "halve":
            return F.max_pool2d(x, 3, 2)
        return self.get_submodule(name)(x)


def _chain(name: str, number: int) -> Path:
    return tuple(f"{name}_{index + 1}" for index in range(number))


def _mixed_5(width: int, pooled: int) -> Mixed:
    units = {
        "branch1x1": Unit(width, 64, 1),
        "branch5x5_1": Unit(width, 48, 1),
        "branch5x5_2": Unit(48, 64, 5),
        "branch3x3dbl_1": Unit(width, 64, 1),
        "branch3x3dbl_2": Unit(64, 96, 3),
        "branch3x3dbl_3": Unit(96, 96, 3),
        "branch_pool": Unit(width, pooled, 1),
    }
    return Mixed(
        units, ("branch1x1",), _chain("branch5x5", 2), _chain("branch3x3dbl", 3), ("average", "branch_pool")
    )


def _mixed_6a(width: int) -> Mixed:
    units = {
        "branch3x3": Unit(width, 384, 3, stride=2),
        "branch3x3dbl_1": Unit(width, 64, 1),
        "branch3x3dbl_2": Unit(64, 96, 3),
        "branch3x3dbl_3": Unit(96, 96, 3, stride=2),
    }
    return Mixed(units, ("branch3x3",), _chain("branch3x3dbl", 3), ("halve",))


def _mixed_6(width: int, inner: int) -> Mixed:
    units = {
        "branch1x1": Unit(width, 192, 1),
        "branch7x7_1": Unit(width, inner, 1),
        "branch7x7_2": Unit(inner, inner, (1, 7)),
        "branch7x7_3": Unit(inner, 192, (7, 1)),
        "branch7x7dbl_1": Unit(width, inner, 1),
        "branch7x7dbl_2": Unit(inner, inner, (7, 1)),
        "branch7x7dbl_3": Unit(inner, inner, (1, 7)),
        "branch7x7dbl_4": Unit(inner, inner, (7, 1)),
        "branch7x7dbl_5": Unit(inner, 192, (1, 7)),
        "branch_pool": Unit(width, 192, 1),
    }
    return Mixed(
        units, ("branch1x1",), _chain("branch7x7", 3), _chain("branch7x7dbl", 5), ("average", "branch_pool")
    )


def _mixed_7a(width: int) -> Mixed:
    units = {
        "branch3x3_1": Unit(width, 192, 1),
        "branch3x3_2": Unit(192, 320, 3, stride=2),
        "branch7x7x3_1": Unit(width, 192, 1),
        "branch7x7x3_2": Unit(192, 192, (1, 7)),
        "branch7x7x3_3": Unit(192, 192, (7, 1)),
        "branch7x7x3_4": Unit(192, 192, 3, stride=2),
    }
    return Mixed(units, _chain("branch3x3", 2), _chain("branch7x7x3", 4), ("halve",))


def _mixed_7(width: int, pool: str) -> Mixed:
    units = {
        "branch1x1": Unit(width, 320, 1),
        "branch3x3_1": Unit(width, 384, 1),
        "branch3x3_2a": Unit(384, 384, (1, 3)),
        "branch3x3_2b": Unit(384, 384, (3, 1)),
        "branch3x3dbl_1": Unit(width, 448, 1),
        "branch3x3dbl_2": Unit(448, 384, 3),
        "branch3x3dbl_3a": Unit(384, 384, (1, 3)),
        "branch3x3dbl_3b": Unit(384, 384, (3, 1)),
        "branch_pool": Unit(width, 192, 1),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b"))
    return Mixed(
        units,
        ("branch1x1",),
        ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
        double,
        (pool, "branch_pool"),
    )
