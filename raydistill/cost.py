"""Cost before training. One counter: exact from modules, and the same number from a plain table of layers.

Convention `true`: every multiply-accumulate of convolutions and linear layers is counted where it happens (a transposed
convolution at its INPUT resolution); biases, norms and activations are not counted. Batch 1.
"""

import copy
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MACS_CONVENTION = "true"


class Layer(NamedTuple):
    """A convolution or transposed convolution."""

    in_channels: int
    out_channels: int
    kernel: int
    positions: int
    """Where its arithmetic happens: output pixels of a convolution, input pixels of a transposed one."""
    bias: bool
    affine: bool
    """Whether a norm with two parameters a channel follows."""


def macs(layers: Iterable[Layer]) -> int:
    """Multiply-accumulates of one forward pass, convention `true`."""
    return sum(layer.in_channels * layer.out_channels * layer.kernel**2 * layer.positions for layer in layers)


def params(layers: Iterable[Layer]) -> int:
    """Trainable parameters."""
    return sum(layer.out_channels * (layer.in_channels * layer.kernel**2 + layer.bias + 2 * layer.affine) for layer in layers)


def module_macs(module: nn.Module, *inputs: tuple[int, ...]) -> int:
    """The same count from a module's forward pass on the meta device, for inputs of these shapes. Batch 1."""
    module = copy.deepcopy(module).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.empty(shape, device="meta") for shape in inputs))
    return counter.get_total_flops() // 2


def module_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
