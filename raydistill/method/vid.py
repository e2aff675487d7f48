"""Variational information distillation (VID) on output pictures.

q(t|s) is a Gaussian around the student's picture s, with one learnt variance v_c for each channel
c. Up to a constant,

    -log q(t|s) = mean over values of (t - s)^2 / (2 v_c) + log(v_c) / 2.

Source: Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer", with the Gaussian q
and softplus variances. What differs: the pairs are output pictures of one shape, so the Gaussian's mean is s
itself and needs no regressor, and the mean over values replaces their sum.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALLEST = 1e-5
"""The least variance."""


class ChannelVariance(nn.Module):
    """The learnt variances v_c = softplus(raw_c) + 1e-5 of `channels` channels; each starts
    at `initial_variance`.
    """

    def __init__(self, channels: int, initial_variance: float):
        super().__init__()
        start = max(initial_variance - _SMALLEST, 1e-12)
        inverse_softplus = start + math.log(-math.expm1(-start))
        self.raw = nn.Parameter(torch.full((channels,), inverse_softplus))

    def forward(self) -> Tensor:
        """The variances, (channels,), above 0."""
        return F.softplus(self.raw) + _SMALLEST


def gaussian_nll(t: Tensor, s: Tensor, variance: Tensor) -> Tensor:
    """-log q(t|s) without the constant log(2 pi) / 2, the mean over all values: a scalar.

    Args:
        t: (B, C, H, W), detached before use.
        s: (B, C, H, W); a gradient may reach it.
        variance: (C,), above 0; a gradient may reach it.
    """
    v = variance[None, :, None, None]
    return ((t.detach() - s) ** 2 / (2 * v) + v.log() / 2).mean()
