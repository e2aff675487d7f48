"""The energy network E(t, s) of the variational distribution q(t|s) = exp(-E(t, s)) / Z(s).

Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022) and its first author's code.
What differs: a power iteration happens once per forward in training mode only, so not in Langevin steps (which run in eval mode:
the weights do not change between them) and not in the student's step.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config import EnergyNetwork

_EPSILON = 1e-6


class EnergyModel(nn.Module):
    """(t, s), each (B, 3, H, W) in [-1, 1] -> energies (B,), unbounded."""

    def __init__(self, config: EnergyNetwork, height: int, width: int):
        super().__init__()
        c = config.channels
        num_blocks = config.num_blocks or int(math.log2(min(height, width))) - 1
        widths = [c, *(min(2 ** (index + 1), 4) * c for index in range(num_blocks))]
        self.stem = SpectralConv(6, c, 3)
        self.blocks = nn.ModuleList(EnergyBlock(i, o) for i, o in itertools.pairwise(widths))
        self.head = SpectralConv(widths[-1], 1, 1)

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        h = torch.cat([F.avg_pool2d(t, 3, 2, 1), F.avg_pool2d(s, 3, 2, 1)], 1)
        h = F.leaky_relu(self.stem(h), 0.01)
        for block in self.blocks:
            h = block(h)
        h = F.relu(h).mean((2, 3), keepdim=True)
        return self.head(h).flatten()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Eval mode, with the normalised weights computed once and without a graph: for Langevin chains, which leave them alone."""
        convs = [module for module in self.modules() if isinstance(module, SpectralConv)]
        self.eval()
        try:
            for conv in convs:
                conv.frozen_weight = conv.normalised_weight().detach()
            yield
        finally:
            for conv in convs:
                conv.frozen_weight = None


class EnergyBlock(nn.Module):
    """Two convolutions beside a shortcut; the branch starts at zero and its last convolution is capped at norm 1."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = SpectralConv(in_channels, in_channels, 3)
        self.second = SpectralConv(in_channels, out_channels, 3, std=1e-10, lower_bounded=True)
        self.shortcut = SpectralConv(in_channels, out_channels, 3) if in_channels != out_channels else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        branch = self.second(F.leaky_relu(self.first(h), 0.01))
        return F.leaky_relu(F.avg_pool2d(branch + self.shortcut(h), 2), 0.01)


class SpectralConv(nn.Conv2d):
    """A convolution divided by the largest singular value sigma of its weight matrix (out, in * k * k).

    `lower_bounded`: W / (sigma + 1e-6) * min(sigma + 1e-6, 1), so a weight of norm below 1 is left as it is.
    sigma comes from the detached weight by one power iteration a forward in training mode; no gradient runs through it.
    """

    u: Tensor
    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, std: float = 1.0, lower_bounded: bool = False):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.normal_(self.weight, 0.0, std)
        nn.init.zeros_(self.bias)
        self.lower_bounded = lower_bounded
        self.frozen_weight: Tensor | None = None
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))

    def normalised_weight(self) -> Tensor:
        with torch.no_grad():
            matrix = self.weight.detach().flatten(1)
            v = F.normalize(matrix.mT @ self.u, dim=0, eps=1e-30)
            if self.training:
                self.u.copy_(F.normalize(matrix @ v, dim=0, eps=1e-30))
            sigma = self.u @ matrix @ v + _EPSILON
            factor = (torch.clamp(sigma, max=1.0) if self.lower_bounded else 1.0) / sigma
        return self.weight * factor

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen_weight is not None:
            return F.conv2d(x, self.frozen_weight, self.bias.detach(), padding=self.padding)
        return F.conv2d(x, self.normalised_weight(), self.bias, padding=self.padding)
