"""The energy network E(t, s) of the variational distribution q(t|s) = exp(-E(t, s)) / Z(s).

Here t is the teacher's picture and s is the student's.

Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022) and its
first author's code. What differs: a power iteration happens once per forward, in training mode only. So there
is none in Langevin steps, which run in eval mode as the weights do not change between them, and none in the
student's step.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import EnergyNetwork
from raydistill.errors import ConfigError

_EPSILON = 1e-6
"""Added to the largest singular value before it is divided by."""
_SLOPE = 0.01
"""Of the leaky ReLUs below 0."""
Operands = tuple[Tensor, Tensor]
"""Kernel and bias of a convolution as they are applied."""


class Kernels(NamedTuple):
    """What every convolution of an energy applies."""

    stem: Operands
    blocks: list[tuple[Operands, Operands, Operands | None]]
    """Of each block the first and the second convolution, and that of the shortcut where it has one."""
    head: Operands
    share: Tensor
    """(1, c, 1, 1): the gradient of an energy at what the last ReLU gives, the same at every position."""


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
        small = [(side + 1) // 2 for side in (height, width)]
        self.positions = math.prod(side // 2 ** len(self.blocks) for side in small)
        self._frozen: tuple[list[tuple[int, int]], Kernels] | None = None

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        """Energies (B,) of pictures t and s, each (B, 3, H, W).

        t may have n * B pictures: then there are n * B energies, of each B of them with s. In training
        mode, the power iterations take a step first.
        """
        kernels = self._kernels()
        h = F.leaky_relu(_before_stem(_shrink(t), kernels) + _seen_of_s(_shrink(s), kernels, len(t)), _SLOPE)
        for first, second, shortcut in kernels.blocks:
            branch = F.leaky_relu(F.conv2d(h, *first, padding=1), _SLOPE)
            h = F.leaky_relu(F.conv2d(branch, *second, stride=2, padding=1) + _beside(h, shortcut), _SLOPE)
        return _energies(h, kernels)

    @torch.no_grad()
    def gradient(self, s: Tensor) -> Callable[[Tensor], Tensor]:
        """The function t -> grad_t of the sum of E(t, s), (B, 3, H, W), for a chain that moves t and leaves
        s.

        It is written out by hand, which takes fewer operations than autograd; no power iteration moves.
        """
        kernels = self._frozen_kernels()
        seen_of_s = _seen_of_s(_shrink(s), kernels, len(s))

        @torch.no_grad()
        def gradient(t: Tensor) -> Tensor:
            small = _shrink(t)
            _, at_stem = _through(_before_stem(small, kernels).add_(seen_of_s), kernels)
            return _grown(_input_gradient(at_stem, small, kernels.stem[0][:, :3]), t)

        return gradient

    @torch.no_grad()
    def gap_and_gradient(self, t: Tensor, negatives: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """mean E(t, s) - mean E(t~, s), a scalar, and its gradient in s, (B, 3, H, W); neither has a graph.

        By hand, as `gradient` is; no power iteration moves.

        Args:
            t, negatives, s: (B, 3, H, W).
        """
        kernels, small = self._frozen_kernels(), _shrink(s)
        both = _before_stem(_shrink(torch.cat([t, negatives])), kernels)
        last, at_stem = _through(both.add_(_seen_of_s(small, kernels, len(both))), kernels)
        positive, negative = at_stem.chunk(2)
        of_s = _input_gradient((positive - negative) / len(s), small, kernels.stem[0][:, 3:])
        of_t, of_negatives = _energies(last, kernels).view(2, -1).mean(1).unbind()
        return of_t - of_negatives, _grown(of_s, s)

    def _convs(self) -> list["SpectralConv"]:
        return [module for module in self.modules() if isinstance(module, SpectralConv)]

    def _kernels(self) -> Kernels:
        """With a graph to the weights; in training mode, after a step of the power iterations."""
        convs = self._convs()
        pairs = zip(convs, normalised_weights(convs), strict=True)
        by_conv = {conv: conv.operands(weight) for conv, weight in pairs}
        blocks = []
        for block in self.blocks:
            assert isinstance(block, EnergyBlock)
            beside = None if block.shortcut is None else by_conv[block.shortcut]
            blocks.append((by_conv[block.first], by_conv[block.second], beside))
        head = by_conv[self.head]
        return Kernels(by_conv[self.stem], blocks, head, head[0].detach() / self.positions)

    def _frozen_kernels(self) -> Kernels:
        """Without a graph and without a step of the power iterations: computed once until something moves.

        So the student's step and the chains of the next minibatch share them. What has moved is seen by the
        versions that torch counts.
        """
        moving = [value for conv in self._convs() for value in (conv.weight, conv.bias, conv.u)]
        versions = [(id(value), value._version) for value in moving]
        if self._frozen is None or self._frozen[0] != versions:
            mode = self.training
            self.eval()
            with torch.no_grad():
                self._frozen = versions, self._kernels()
            self.train(mode)
        return self._frozen[1]


def _seen_of_s(small: Tensor, kernels: Kernels, count: int) -> Tensor:
    """What the stem gives of B small pictures s for `count` pictures t; `count` is a multiple of B.

    The first convolution is linear in (t, s), so its part that sees s is computed once.
    """
    weight, bias = kernels.stem
    seen = F.conv2d(small, weight[:, 3:], bias, padding=1)
    return seen if count == len(small) else torch.cat([seen] * (count // len(small)))


def _before_stem(small: Tensor, kernels: Kernels) -> Tensor:
    """What the stem gives of small pictures t."""
    return F.conv2d(small, kernels.stem[0][:, :3], padding=1)


def _beside(h: Tensor, shortcut: Operands | None) -> Tensor:
    """What the shortcut of a block gives."""
    return F.avg_pool2d(h, 2) if shortcut is None else F.conv2d(h, *shortcut, stride=2, padding=1)


def _through(h: Tensor, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """From what the stem gives, (B, c, H, W), which is overwritten: what the last block gives, and the
    gradient at the stem of the sum of energies.
    """
    stem = h = F.leaky_relu_(h, _SLOPE)
    kept = []
    for first, second, shortcut in kernels.blocks:
        branch = F.leaky_relu_(F.conv2d(h, *first, padding=1), _SLOPE)
        after = F.conv2d(branch, *second, stride=2, padding=1).add_(_beside(h, shortcut))
        after = F.leaky_relu_(after, _SLOPE)
        kept.append((h, branch, after))
        h = after
    gradient = torch.ops.aten.threshold_backward(kernels.share.expand(h.shape), h, 0)
    for (before, branch, after), (first, second, shortcut) in zip(reversed(kept), reversed(kernels.blocks)):
        gradient = _below_zero(gradient, after)
        of_branch = _below_zero(_input_gradient(gradient, branch, second[0], 2), branch)
        if shortcut is None:
            of_shortcut = torch.ops.aten.avg_pool2d_backward(
                gradient, before, [2], [2], [0], False, True, None
            )
        else:
            of_shortcut = _input_gradient(gradient, before, shortcut[0], 2)
        gradient = _input_gradient(of_branch, before, first[0]).add_(of_shortcut)
    return h, _below_zero(gradient, stem)


def _energies(h: Tensor, kernels: Kernels) -> Tensor:
    """The energies (B,) of what the last block gives."""
    weight, bias = kernels.head
    return F.linear(F.relu(h).mean((2, 3)), weight.flatten(1), bias).flatten()


def _below_zero(gradient: Tensor, after: Tensor) -> Tensor:
    """The gradient before a leaky ReLU, of that after it and of what it gave, whose sign is that of its
    input.
    """
    return torch.ops.aten.leaky_relu_backward(gradient, after, _SLOPE, True)  # type: ignore[no-any-return]


def _input_gradient(gradient: Tensor, like: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """The gradient at the input of a padded convolution, of the shape of `like`."""
    geometry = [stride, stride], [1, 1], [1, 1], False, [0, 0], 1
    of_input, _, _ = torch.ops.aten.convolution_backward(
        gradient, like, weight, None, *geometry, [True, False, False]
    )
    return of_input  # type: ignore[no-any-return]


def _grown(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient before `_shrink`, of that after it."""
    return torch.ops.aten.avg_pool2d_backward(  # type: ignore[no-any-return]
        gradient, like, [3], [2], [1], False, True, None
    )


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
    """The two convolutions of a residual block, which halves the size, and that of its shortcut.

    The branch starts at about zero, as its second convolution does. The norm of that one is at most 1.
    Where the width stays, the shortcut is the mean of 2x2 pixels and has no convolution.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = SpectralConv(in_channels, in_channels, 3)
        self.second = SpectralConv(in_channels, out_channels, 3, std=1e-10, lower_bounded=True, halves=True)
        self.shortcut = (
            SpectralConv(in_channels, out_channels, 3, halves=True) if in_channels != out_channels else None
        )


class SpectralConv(nn.Module):
    """What a convolution with spectral normalisation applies: W is divided by its largest singular value
    sigma.

    W is the weight as a matrix (out, in * k * k). The power iteration that finds sigma takes one step per
    forward of the energy in training mode; no gradient runs through sigma. See `normalised_weights`.

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
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.normal_(self.weight, 0.0, std)
        self.lower_bounded, self.halves = lower_bounded, halves
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))

    def operands(self, normalised: Tensor) -> Operands:
        """Kernel and bias as they are applied, of W / sigma; the kernel is 4x4 if the convolution also
        halves.
        """
        weight = F.avg_pool2d(normalised, 2, stride=1, padding=1) if self.halves else normalised
        return weight.contiguous(memory_format=torch.channels_last), self.bias


def normalised_weights(convs: Sequence[SpectralConv]) -> tuple[Tensor, ...]:
    """W / sigma, (out, in, k, k), of each convolution, with a graph to W.

    In training mode, in which all are or none is, they take a step of the power iteration first.
    """
    weights: list[Tensor] = [conv.weight for conv in convs]
    with torch.no_grad():
        matrices = [weight.flatten(1) for weight in weights]
        vectors = [matrix.mT @ conv.u for matrix, conv in zip(matrices, convs, strict=True)]
        norms = torch._foreach_norm(vectors)  # = u W v, as v is the direction of the vector
        if convs[0].training:
            torch._foreach_div_(vectors, torch._foreach_clamp_min(norms, 1e-30))
            vectors = [matrix @ vector for matrix, vector in zip(matrices, vectors, strict=True)]
            norms = torch._foreach_norm(vectors)
            torch._foreach_div_(vectors, torch._foreach_clamp_min(norms, 1e-30))
            torch._foreach_copy_([conv.u for conv in convs], vectors)
        sigmas = torch._foreach_add(norms, _EPSILON)
        factors = list(torch._foreach_reciprocal(sigmas))
        capped = [place for place, conv in enumerate(convs) if conv.lower_bounded]
        if capped:
            some = [sigmas[place] for place in capped]
            torch._foreach_mul_([factors[place] for place in capped], torch._foreach_clamp_max(some, 1.0))
    return torch._foreach_mul(weights, factors)  # type: ignore[arg-type]


def _shrink(picture: Tensor) -> Tensor:
    """(B, 3, H, W) at half the size, channels last: convolutions of few channels are faster like this."""
    return F.avg_pool2d(picture, 3, 2, 1).contiguous(memory_format=torch.channels_last)
