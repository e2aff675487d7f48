"""Parameters and multiply-accumulates of a network, known before training.

They are counted from a plain table of layers, without building the network; `module_macs` and `module_params`
count the same numbers from a module.

A count of multiply-accumulates is for one picture and has a convention. The default, `true`, counts every one
of convolutions, linear layers and matrix products where it happens, which for a transposed convolution is at
its INPUT resolution. Biases, norms and activations are not counted.
"""

import copy
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MACS_CONVENTION = "true"
"""The convention of all counts, unless another one is said."""
CONVENTIONS = {
    "true": "the arithmetic that is done",
    "conv_out": "convolutions alone, a transposed one at its output resolution: several times too many",
    "conv_out+norm": "conv_out, and one for each value that a norm puts out",
    "cagc": "convolutions and linear layers where they are done; no blurs, no demodulation",
}
"""Name -> what is counted. All but the first are there to compare with what others have published."""


class Layer(NamedTuple):
    """A convolution, transposed convolution or linear layer."""

    in_channels: int
    out_channels: int
    kernel: int
    positions: int
    """How many times its kernel is applied.

    That is the output pixels of a convolution, the input pixels of a transposed one, and 1 for a linear
    layer.
    """
    bias: bool
    """Whether it has a bias."""
    norm: int | None = None
    """Parameters per channel of the norm that follows it, 0 or 2; None: no norm follows."""
    groups: int = 1
    growth: int = 1
    """Output pixels for each input pixel of a transposed convolution; 1 for other layers."""


class Extra(NamedTuple):
    """Parameters and multiply-accumulates outside of layers: attention, blurs, noise strengths.

    The convention `true` alone counts these multiply-accumulates.
    """

    params: int
    macs: int


Table = list[Layer | Extra]
"""A network as the list of its layers."""


def macs(table: Iterable[Layer | Extra], convention: str = MACS_CONVENTION) -> int:
    """Multiply-accumulates of one forward of one picture, by one of `CONVENTIONS`."""
    total = 0
    for row in table:
        if isinstance(row, Extra):
            if convention == "true":
                total += row.macs
            continue
        outputs = row.positions * row.growth
        per_position = row.in_channels * row.out_channels // row.groups * row.kernel * row.kernel
        total += per_position * (outputs if convention.startswith("conv_out") else row.positions)
        if convention == "conv_out+norm" and row.norm is not None:
            total += row.out_channels * outputs
    return total


def params(table: Iterable[Layer | Extra]) -> int:
    """Number of trainable parameters."""
    total = 0
    for row in table:
        if isinstance(row, Extra):
            total += row.params
        else:
            weights = row.in_channels // row.groups * row.kernel * row.kernel
            total += row.out_channels * (weights + row.bias + (row.norm or 0))
    return total


def module_macs(module: nn.Module, *inputs: tuple[int, ...]) -> int:
    """Multiply-accumulates of a forward of `module`, by the convention `true`.

    Args:
        module: any network; a copy of it runs on the meta device.
        inputs: shape of each of its inputs, with a batch dimension of 1.
    """
    module = copy.deepcopy(module).to("meta").requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.empty(shape, device="meta") for shape in inputs))
    return counter.get_total_flops() // 2


def module_params(module: nn.Module) -> int:
    """Number of parameters of `module`, without buffers."""
    return sum(parameter.numel() for parameter in module.parameters())
