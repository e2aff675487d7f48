"""Pairs (t, s) whose log p(t|s), entropies and mutual information I(T; S) = H(T) - H(T|S) are known.

All numbers are float64 and in nats. s is always standard normal. Entropies are closed forms, or
one-dimensional sums over a grid.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.seeds import torch_stream

LOG_2PI = math.log(2 * math.pi)


class Pairs(NamedTuple):
    """A joint density of t and s, both of `dims` dimensions, with s standard normal."""

    name: str
    dims: int
    draw: Callable[[Tensor, torch.Generator], Tensor]
    """(s (B, dims), random numbers) -> t ~ p(.|s), (B, dims)"""
    log_conditional: Callable[[Tensor, Tensor], Tensor]
    """(t, s), each (B, dims) -> log p(t|s), (B,)"""
    entropy: float
    """H(T)"""
    conditional_entropy: float
    """H(T|S)"""
    marginal_std: Tensor
    """Standard deviations of t, (dims,); the mean of t is 0."""
    residual_variance: Tensor
    """(dims,): mean over s of Var(t_j | s)."""
    finest_variance: float
    """The smallest variance of the noise in any direction, which sets the step size of the sampler."""

    @property
    def truth(self) -> float:
        """I(T; S)"""
        return self.entropy - self.conditional_entropy

    @property
    def vid_best(self) -> float:
        """The highest bound that VID can reach, in nats.

        VID is a factorised Gaussian with one variance for each dimension; here it knows E[t|s]
        and the best variances.
        """
        return self.entropy - 0.5 * float((LOG_2PI + 1 + self.residual_variance.log()).sum())


def draw_s(pairs: Pairs, count: int, generator: torch.Generator) -> Tensor:
    """`count` standard normal s, (count, dims)."""
    return torch.randn(count, pairs.dims, generator=generator, dtype=torch.float64)


def gaussian(correlations: list[float], seed: int = 0) -> Pairs:
    """t and s jointly Gaussian with unit variances: I(T; S) = -1/2 sum log(1 - rho^2).

    Args:
        correlations: The canonical correlations rho, each in (-1, 1), one for each
            dimension, along random axes.
        seed: Of the axes.
    """
    rho, dims = torch.tensor(correlations, dtype=torch.float64), len(correlations)
    generator = torch_stream(seed, "truth-axes")
    matrices = [torch.randn(dims, dims, generator=generator, dtype=torch.float64) for _ in range(2)]
    axes_t, axes_s = (torch.linalg.qr(matrix).Q for matrix in matrices)
    covariance = axes_t @ torch.diag(1 - rho**2) @ axes_t.T
    low, high = min(correlations), max(correlations)
    name = f"rho {low:g}" if low == high else f"rho {low:g} to {high:g}"
    return _linear(name, axes_t @ torch.diag(rho) @ axes_s.T, covariance)


def grain(height: int = 2, width: int = 4, length: float = 2.0, noise_std: float = 0.5) -> Pairs:
    """A picture of height x width pixels: t = s + correlated noise of deviation `noise_std`.

    The correlation of two pixels falls with their distance as exp(-distance / length), both in pixels.
    """
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([rows.flatten(), columns.flatten()], 1).double()
    covariance = noise_std**2 * torch.exp(-torch.cdist(positions, positions) / length)
    identity = torch.eye(height * width, dtype=torch.float64)
    return _linear(f"correlated grain, {height}x{width}", identity, covariance)


def bimodal(offset: float = 1.2, noise_std: float = 0.5) -> Pairs:
    """One dimension: t = s +- `offset`, at even odds, + noise.

    E[t|s] = s says nothing about the two modes.
    """
    return _two_phases("two modes", torch.tensor([offset], dtype=torch.float64), noise_std)


def texture(height: int = 2, width: int = 4, amplitude: float = 0.45, noise_std: float = 0.5) -> Pairs:
    """A picture of height x width pixels: t = s + a checkerboard in one of its two phases, at even
    odds, + white noise.
    """
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    board = amplitude * (1 - 2 * ((rows + columns) % 2)).flatten().double()
    return _two_phases(f"texture of two phases, {height}x{width}", board, noise_std)


def ring(radius: float = 1.2, noise_std: float = 0.3) -> Pairs:
    """Two dimensions: t = s + a uniform point on a circle of `radius` + noise of deviation `noise_std`."""

    def log_density(offset: Tensor, variance: float) -> Tensor:
        """Of a point `offset` (B, 2) of the noisy circle: (B,)."""
        distance = offset.norm(dim=1)
        bessel = torch.special.i0e(distance * radius / variance).log()
        return -LOG_2PI - math.log(variance) - (distance - radius) ** 2 / (2 * variance) + bessel

    def entropy(variance: float) -> float:
        """-sum 2 pi r p log p over radii r."""
        step = (radius + 12 * math.sqrt(variance)) / 100_000
        distance = (torch.arange(100_000, dtype=torch.float64) + 0.5) * step
        log_p = log_density(torch.stack([distance, torch.zeros_like(distance)], 1), variance)
        return -float((2 * math.pi * distance * log_p.exp() * log_p).sum() * step)

    def draw(s: Tensor, generator: torch.Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(len(s), generator=generator, dtype=torch.float64)
        noise = torch.randn(s.shape, generator=generator, dtype=torch.float64)
        return s + radius * torch.stack([angle.cos(), angle.sin()], 1) + noise_std * noise

    variance = torch.full((2,), radius**2 / 2 + noise_std**2, dtype=torch.float64)
    return _shape_and_noise("ring", draw, log_density, entropy, variance, noise_std)


def _shape_and_noise(
    name: str,
    draw: Callable[[Tensor, torch.Generator], Tensor],
    log_density: Callable[[Tensor, float], Tensor],
    entropy: Callable[[float], float],
    variance: Tensor,
    noise_std: float,
) -> Pairs:
    """t = s + a point of a shape + N(0, noise_std^2 I), s ~ N(0, I).

    `log_density` and `entropy` are those of the shape with noise of a given variance. `variance` (dims,)
    is that of t given s.
    """
    return Pairs(
        name=name,
        dims=len(variance),
        draw=draw,
        log_conditional=lambda t, s: log_density(t - s, noise_std**2),
        entropy=entropy(1 + noise_std**2),
        conditional_entropy=entropy(noise_std**2),
        marginal_std=(1 + variance).sqrt(),
        residual_variance=variance,
        finest_variance=noise_std**2,
    )


def _linear(name: str, matrix: Tensor, covariance: Tensor) -> Pairs:
    """t = matrix s + N(0, covariance), with matrix and covariance (dims, dims)."""
    dims = len(matrix)
    root = torch.linalg.cholesky(covariance)
    marginal = matrix @ matrix.T + covariance
    noise = torch.distributions.MultivariateNormal(torch.zeros(dims, dtype=torch.float64), scale_tril=root)

    def entropy(matrix: Tensor) -> float:
        """Of a Gaussian with this covariance."""
        return 0.5 * (dims * (LOG_2PI + 1) + float(torch.logdet(matrix)))

    def draw(s: Tensor, generator: torch.Generator) -> Tensor:
        return s @ matrix.T + torch.randn(s.shape, generator=generator, dtype=torch.float64) @ root.T

    def log_conditional(t: Tensor, s: Tensor) -> Tensor:
        return noise.log_prob(t - s @ matrix.T)

    return Pairs(
        name=name,
        dims=dims,
        draw=draw,
        log_conditional=log_conditional,
        entropy=entropy(marginal),
        conditional_entropy=entropy(covariance),
        marginal_std=marginal.diagonal().sqrt(),
        residual_variance=covariance.diagonal(),
        finest_variance=float(torch.linalg.eigvalsh(covariance)[0]),
    )


def _two_phases(name: str, offset: Tensor, noise_std: float) -> Pairs:
    """t = s +- offset (dims,) + N(0, noise_std^2 I): two modes along the offset, a Gaussian across it."""
    dims, length = len(offset), float(offset.norm())

    def log_density(x: Tensor, variance: float) -> Tensor:
        """Of x (B, dims), with covariance variance * I around +- offset: (B,)."""
        along = x @ offset / variance
        log_cosh = along.abs() + torch.log1p(torch.exp(-2 * along.abs())) - math.log(2)
        exponent = ((x**2).sum(1) + length**2) / (2 * variance)
        return log_cosh - exponent - x.shape[1] / 2 * (LOG_2PI + math.log(variance))

    def entropy(variance: float) -> float:
        reach = length + 12 * math.sqrt(variance)
        points = torch.linspace(-reach, reach, 100_001, dtype=torch.float64)
        along = points[:, None] * offset / length
        # Across the offset the Gaussian factor is that of the origin: it is taken out of the density, and its
        # entropy is added.
        log_p = log_density(along, variance) + (dims - 1) / 2 * (LOG_2PI + math.log(variance))
        across = (dims - 1) / 2 * (LOG_2PI + 1 + math.log(variance))
        return -float((log_p.exp() * log_p).sum() * (points[1] - points[0])) + across

    def draw(s: Tensor, generator: torch.Generator) -> Tensor:
        sign = 2.0 * torch.randint(0, 2, (len(s), 1), generator=generator) - 1
        return s + sign * offset + noise_std * torch.randn(s.shape, generator=generator, dtype=torch.float64)

    variance = offset**2 + noise_std**2
    return _shape_and_noise(name, draw, log_density, entropy, variance, noise_std)
