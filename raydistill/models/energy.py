"""The energy network E(t, s) of the variational distribution q(t|s) = exp(-E(t, s)) / Z(s).

Here t is the teacher's picture and s is the student's.

Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022) and its
first author's code. What differs: a power iteration happens once per forward, in training mode only. So there
is none in Langevin steps, which run in eval mode as the weights do not change between them, and none in the
student's step.
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
"""Added to the largest singular value before it is divided by."""


class EnergyModel(nn.Module):
    """The energies E(t, s), (B,) and unbounded, of pictures t and s, each (B, 3, H, W) in [-1, 1].

    Raises ConfigError when built, where the network is too deep for pictures of this size.
    """

    def __init__(self, config: EnergyNetwork, height: int, width: int):
        super().__init__()
        c = config.channels
        widths = [c, *(min(2 ** (index + 1), 4) * c for index in range(num_blocks(config, height, width)))]
        self.stem = SpectralConv(6, c, 3)
        self.blocks = nn.ModuleList(EnergyBlock(i, o) for i, o in itertools.pairwise(widths))
        self.head = SpectralConv(widths[-1], 1, 1)

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        """Energies (B,) of pictures t and s, each (B, 3, H, W)."""
        return self.given(s)(t)

    def given(self, s: Tensor) -> Callable[[Tensor], Tensor]:
        """The function t -> E(t, s), for a chain that moves t and leaves s.

        The first convolution is linear in (t, s), so its part that sees s is computed once.
        """
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
        """In this context the kernels are computed once, without a graph, and no power iteration moves.

        Langevin chains and a student's loss do not change them.
        """
        convs = [module for module in self.modules() if isinstance(module, SpectralConv)]
        mode = self.training
        self.eval()
        try:
            for conv in convs:
                weight, bias = conv.operands()
                conv.frozen = weight.detach(), bias.detach()
            yield
        finally:
            for conv in convs:
                conv.frozen = None
            self.train(mode)


def num_blocks(config: EnergyNetwork, height: int, width: int, where: str = "energy.num_blocks") -> int:
    """The number of residual blocks for pictures of this size.

    Raises:
        ConfigError: so many halvings leave nothing of a picture. The message names the number as `where`.
    """
    size = min(height, width)
    most = int(math.log2((size + 1) // 2)) if size > 2 else 0
    number = config.num_blocks or int(math.log2(size)) - 1
    if not 1 <= number <= most:
        advice = f"at most {most} do; lower it"
        if not most:
            advice = "which are too small for any; 3 pixels or more are needed"
        raise ConfigError(
            f"{where}: {number} residual blocks do not fit pictures of {height}x{width}, {advice}"
        )
    return number


class EnergyBlock(nn.Module):
    """Two convolutions beside a shortcut, which halve the size.

    The branch starts at about zero, as its last convolution does. The norm of that one is at most 1.
    """

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
        """(B, in_channels, H, W) -> (B, out_channels, H // 2, W // 2)."""
        branch = self.second(F.leaky_relu(self.first(h), 0.01))
        return F.leaky_relu(branch + self.shortcut(h), 0.01)


class SpectralConv(nn.Conv2d):
    """A convolution with spectral normalisation: W is divided by its largest singular value sigma.

    W is the weight as a matrix (out, in * k * k). The power iteration that finds sigma takes one step per
    forward in training mode; no gradient runs through sigma.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: k, the side of the kernel.
        std: standard deviation of the initial weights; biases start at 0.
        lower_bounded: if True, W / (sigma + 1e-6) is multiplied by min(sigma + 1e-6, 1). So a weight of norm
            below 1 is used as it is.
        halves: if True, the mean of 2x2 pixels follows. Both are linear, so together they are one convolution
            of stride 2, whose 4x4 kernel is the mean of the 3x3 kernel at its four positions. This takes 4
            multiplications for each input value instead of 9.
    """

    u: Tensor
    """(out,): the power iteration's estimate of the first left singular vector."""
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
        """W / sigma, (out, in, k, k). In training mode, takes a step of the power iteration first."""
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
        """Kernel and bias as they are applied; the kernel is 4x4 if the convolution also halves."""
        if self.frozen is not None:
            return self.frozen
        weight = self.normalised_weight()
        if self.halves:
            weight = F.avg_pool2d(weight, 2, stride=1, padding=1)
        return weight.contiguous(memory_format=torch.channels_last), self.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), or half of this height and width."""
        return F.conv2d(x, *self.operands(), stride=2 if self.halves else 1, padding=self.padding)


def _shrink(picture: Tensor) -> Tensor:
    """(B, 3, H, W) at half the size, channels last: convolutions of few channels are faster like this."""
    return F.avg_pool2d(picture, 3, 2, 1).contiguous(memory_format=torch.channels_last)
