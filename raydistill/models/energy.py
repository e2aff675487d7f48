"""The energy network E(t, s) of the variational distribution q(t|s) = exp(-E(t, s)) / Z(s).

Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022) and its first author's code.
What differs: a power iteration happens once per forward in training mode only, so not in Langevin steps (which run in eval mode:
the weights do not change between them) and not in the student's step.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import EnergyNetwork
from raydistill.errors import ConfigError

_EPSILON = 1e-6


class EnergyModel(nn.Module):
    """(t, s), each (B, 3, H, W) in [-1, 1] -> energies (B,), unbounded."""

    def __init__(self, config: EnergyNetwork, height: int, width: int):
        super().__init__()
        c = config.channels
        widths = [c, *(min(2 ** (index + 1), 4) * c for index in range(num_blocks(config, height, width)))]
        self.stem = SpectralConv(6, c, 3)
        self.blocks = nn.ModuleList(EnergyBlock(i, o) for i, o in itertools.pairwise(widths))
        self.head = SpectralConv(widths[-1], 1, 1)

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        return self.given(s)(t)

    def given(self, s: Tensor) -> Callable[[Tensor], Tensor]:
        """t -> E(t, s). The first convolution is linear, so its half that sees s is computed once: for chains that share one s."""
        weight, bias = self.stem.operands()
        seen_of_s = F.conv2d(_shrink(s), weight[:, 3:], bias, padding=1)

        def energy(t: Tensor) -> Tensor:
            h = F.leaky_relu(F.conv2d(_shrink(t), weight[:, :3], padding=1) + seen_of_s, 0.01)
            for block in self.blocks:
                h = block(h)
            weight_of_mean, bias_of_mean = self.head.operands()
            return F.linear(F.relu(h).mean((2, 3)), weight_of_mean.flatten(1), bias_of_mean).flatten()

        return energy

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Eval mode, with the kernels computed once and without a graph: for Langevin chains, which leave them alone."""
        convs = [module for module in self.modules() if isinstance(module, SpectralConv)]
        self.eval()
        try:
            for conv in convs:
                weight, bias = conv.operands()
                conv.frozen = weight.detach(), bias.detach()
            yield
        finally:
            for conv in convs:
                conv.frozen = None


def num_blocks(config: EnergyNetwork, height: int, width: int, where: str = "energy.num_blocks") -> int:
    """The number of residual blocks at a picture size. Raises ConfigError where so many halvings leave nothing of a picture."""
    size = min(height, width)
    most = int(math.log2((size + 1) // 2)) if size > 2 else 0
    asked = config.num_blocks or int(math.log2(size)) - 1
    if not 1 <= asked <= most:
        raise ConfigError(
            f"{where}: {asked} residual blocks do not fit pictures of {height}x{width}, "
            + (
                f"at most {most} do; lower it"
                if most
                else "which are too small for any; 3 pixels or more are needed"
            )
        )
    return asked


class EnergyBlock(nn.Module):
    """Two convolutions beside a shortcut, then the mean of 2x2; the branch starts at zero and its last convolution is capped at norm 1."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = SpectralConv(in_channels, in_channels, 3)
        self.second = SpectralConv(in_channels, out_channels, 3, std=1e-10, lower_bounded=True, halves=True)
        self.shortcut = (
            SpectralConv(in_channels, out_channels, 3, halves=True)
            if in_channels != out_channels
            else nn.AvgPool2d(2)
        )

    def forward(self, h: Tensor) -> Tensor:
        branch = self.second(F.leaky_relu(self.first(h), 0.01))
        return F.leaky_relu(branch + self.shortcut(h), 0.01)


class SpectralConv(nn.Conv2d):
    """A convolution divided by the largest singular value sigma of its weight matrix (out, in * k * k).

    `lower_bounded`: W / (sigma + 1e-6) * min(sigma + 1e-6, 1), so a weight of norm below 1 is left as it is.
    `halves`: followed by the mean of 2x2. Both are linear, so they are one convolution of stride 2 whose 4x4 kernel is the mean of the
    3x3 kernel in its four places: 4 multiplications for each input value instead of 9.
    sigma comes from the detached weight by one power iteration a forward in training mode; no gradient runs through it.
    """

    u: Tensor
    bias: nn.Parameter

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        std: float = 1.0,
        lower_bounded: bool = False,
        halves: bool = False,
    ):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.normal_(self.weight, 0.0, std)
        nn.init.zeros_(self.bias)
        self.lower_bounded, self.halves = lower_bounded, halves
        self.frozen: tuple[Tensor, Tensor] | None = None
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))

    def normalised_weight(self) -> Tensor:
        with torch.no_grad():
            matrix = self.weight.detach().flatten(1)
            back = matrix.mT @ self.u
            norm = back.norm()  # = u W v, as v is its direction
            if self.training:
                forth = matrix @ (back / norm.clamp_min(1e-30))
                norm = forth.norm()
                self.u.copy_(forth / norm.clamp_min(1e-30))
            sigma = norm + _EPSILON
            factor = (torch.clamp(sigma, max=1.0) if self.lower_bounded else 1.0) / sigma
        return self.weight * factor

    def operands(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias as they are applied."""
        if self.frozen is not None:
            return self.frozen
        weight = self.normalised_weight()
        if self.halves:
            weight = F.avg_pool2d(weight, 2, stride=1, padding=1)
        return weight.contiguous(memory_format=torch.channels_last), self.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.operands(), stride=2 if self.halves else 1, padding=self.padding)


def _shrink(picture: Tensor) -> Tensor:
    """(B, 3, H, W) at half the size, laid out pixel by pixel: convolutions of few channels are then faster."""
    return F.avg_pool2d(picture, 3, 2, 1).contiguous(memory_format=torch.channels_last)
