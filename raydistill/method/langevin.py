"""Langevin sampling from an energy."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Chains(NamedTuple):
    samples: Tensor
    """(B, ...), without a graph; not clamped."""
    gradient: Tensor
    """(B, ...): the energy's gradient at the start of the last step."""


def langevin(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    num_steps: int,
    step_size: float,
    noise_std: float,
    normal: Callable[[], Tensor],
) -> Chains:
    """t <- t - eta * grad_t E(t) + sigma * eps, eps ~ N(0, I), num_steps >= 1 times.

    Args:
        energy: (B, ...) -> (B,); the gradient is that of the SUM over the batch, so chains do not see each other.
        start: (B, ...), detached before use.
        step_size: eta > 0, noise_std: sigma >= 0; set independently, so the temperature is sigma^2 / (2 eta), not 1.
        normal: draws eps, of the shape of `start`; the sampler has no randomness of its own.

    Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022), sampling of q(t|s).
    """
    t, gradient = start.detach(), torch.zeros_like(start)
    for _ in range(num_steps):
        t = t.requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(t).sum(), t)
        t = t.detach() - step_size * gradient + noise_std * normal()
    return Chains(t, gradient)


def temperature(step_size: float, noise_std: float) -> float:
    """sigma^2 / (2 eta): the T of the sampled density exp(-E / T), for small eta times curvature."""
    return noise_std**2 / (2 * step_size)
