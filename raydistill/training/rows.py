"""Tensors of a minibatch side by side in one row of numbers, and back: the same bits."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Layout = Mapping[str, tuple[int, ...]]
"""Name -> shape of each tensor in a row, in order."""
_ALIGNED = 16
"""Numbers at whose multiples tensors begin: 64 bytes, as torch aligns tensors of their own."""


def width(layout: Layout) -> int:
    """How many numbers a row has, with the zeros between tensors."""
    return sum(map(_padded, layout.values()))


def packed(tensors: Mapping[str, Tensor], layout: Layout) -> Tensor:
    """A new row, float32 (width,) without a graph, of what has the names and shapes of `layout`.

    Numbers of a narrower type, such as bfloat16, keep their values.
    """
    parts = []
    for name, shape in layout.items():
        assert tensors[name].shape == shape, (name, tensors[name].shape, shape)
        flat = tensors[name].detach().float().flatten()
        parts.append(F.pad(flat, (0, _padded(shape) - len(flat))))
    return torch.cat(parts)


def unpacked(row: Tensor, layout: Layout) -> dict[str, Tensor]:
    """The tensors of a row by name: contiguous views, float32."""
    parts = row.split([_padded(shape) for shape in layout.values()])
    of_names = zip(layout.items(), parts, strict=True)
    return {name: part[: math.prod(shape)].view(shape) for (name, shape), part in of_names}


def _padded(shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) // _ALIGNED) * _ALIGNED
