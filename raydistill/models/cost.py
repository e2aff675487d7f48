"""Cost before training. One counter: exact from modules, and the same number from a plain table of layers.

A count carries its convention, of `CONVENTIONS`. The default, `true`: every multiply-accumulate of convolutions, linear layers and
matrix products is counted where it happens (a transposed convolution at its INPUT resolution); biases, norms and activations are not
counted. Batch 1.
"""

import copy
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MACS_CONVENTION = "true"
CONVENTIONS = {
    "true": "the arithmetic that is done",
    "conv_out": "convolutions alone, a transposed one at its output resolution: several times too many",
    "conv_out+norm": "conv_out, and one for each value that a norm puts out",
    "cagc": "convolutions and linear layers where they are done; no blurs, no demodulation",
}
"""Name -> what is counted. All but the first are others', for comparison with what they published."""


class Layer(NamedTuple):
    """A convolution, transposed convolution or linear layer."""

    in_channels: int
    out_channels: int
    kernel: int
    positions: int
    """Where its arithmetic happens: output pixels of a convolution, input pixels of a transposed one, 1 for a linear layer."""
    bias: bool
    norm: int | None = None
    """Parameters a channel of the norm that follows, 0 or 2; None: no norm."""
    groups: int = 1
    growth: int = 1
    """Output pixels for each input pixel of a transposed convolution."""


class Extra(NamedTuple):
    """Parameters and arithmetic outside of layers: attention, blurs, noise strengths. Of the conventions, `true` alone counts it."""

    params: int
    macs: int


Table = list[Layer | Extra]


def macs(table: Iterable[Layer | Extra], convention: str = MACS_CONVENTION) -> int:
    """Multiply-accumulates of one forward pass."""
    total, out, norm, extra = (
        0,
        convention.startswith("conv_out"),
        convention == "conv_out+norm",
        convention == "true",
    )
    for row in table:
        if isinstance(row, Layer):
            of_channels = row.in_channels * row.out_channels // row.groups * row.kernel * row.kernel
            total += of_channels * row.positions * (row.growth if out else 1)
            if norm and row.norm is not None:
                total += row.out_channels * row.positions * row.growth
        elif extra:
            total += row.macs
    return total


def params(table: Iterable[Layer | Extra]) -> int:
    """Trainable parameters."""
    total = 0
    for row in table:
        if isinstance(row, Layer):
            total += row.out_channels * (
                row.in_channels // row.groups * row.kernel * row.kernel + row.bias + (row.norm or 0)
            )
        else:
            total += row.params
    return total


def module_macs(module: nn.Module, *inputs: tuple[int, ...]) -> int:
    """The same count, convention `true`, from a module's forward pass on the meta device, for inputs of these shapes. Batch 1."""
    module = copy.deepcopy(module).to("meta").requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.empty(shape, device="meta") for shape in inputs))
    return counter.get_total_flops() // 2


def module_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
