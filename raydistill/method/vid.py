"""Variational information distillation (VID) on output pictures: log q(t|s) of a Gaussian with one learnt variance a channel.

    -log q(t|s) = mean over values of (t - s)^2 / (2 v_c) + log(v_c) / 2                       (up to a constant)

Source: Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer", Gaussian q, softplus variance. What differs:
the pairs are output pictures of one shape, so the Gaussian's mean is s itself, without a regressor, and the mean replaces the sum.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALLEST = 1e-5


class ChannelVariance(nn.Module):
    """v_c = softplus(raw_c) + 1e-5, for `channels` channels."""

    def __init__(self, channels: int, initial_variance: float):
        super().__init__()
        start = max(initial_variance - _SMALLEST, 1e-12)
        self.raw = nn.Parameter(
            torch.full((channels,), start + math.log(-math.expm1(-start)))
        )  # softplus's inverse

    def forward(self) -> Tensor:
        """(channels,), above 0."""
        return F.softplus(self.raw) + _SMALLEST


def gaussian_nll(t: Tensor, s: Tensor, variance: Tensor) -> Tensor:
    """-log q(t|s) a value, without log(2 pi) / 2. t is detached; a gradient may reach s and the variance."""
    v = variance[None, :, None, None]
    return ((t.detach() - s) ** 2 / (2 * v) + v.log() / 2).mean()
