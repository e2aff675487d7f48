"""Langevin sampling from an energy."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Chains(NamedTuple):
    """Where Langevin chains have ended."""

    samples: Tensor
    """(B, ...), without a graph; not clamped."""
    gradient: Tensor
    """(B, ...): gradient of the energy at the start of the last step; zeros where there was no step."""


def langevin(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    num_steps: int,
    step_size: float,
    noise_std: float,
    normal: Callable[[], Tensor],
) -> Chains:
    """Repeats t <- t - eta * grad_t E(t) + sigma * eps, eps ~ N(0, I), `num_steps` times.

    Args:
        energy: (B, ...) -> (B,). Its gradient is that of the SUM over the batch: chains
            do not see each other.
        start: (B, ...), where the chains start; detached before use.
        num_steps: 0 or more.
        step_size: eta > 0.
        noise_std: sigma >= 0, set independently of eta: the temperature is sigma^2 / (2 eta), not 1.
        normal: draws eps, of the shape of `start`. The sampler has no randomness of its own.

    Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022),
    where q(t|s) is sampled.
    """
    t, gradient = start.detach(), torch.zeros_like(start)
    for _ in range(num_steps):
        t = t.requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(t).sum(), t)
        t = t.detach() - step_size * gradient + noise_std * normal()
    return Chains(t, gradient)


def temperature(step_size: float, noise_std: float) -> float:
    """sigma^2 / (2 eta): T of the sampled density exp(-E / T), for small eta times curvature of E."""
    return noise_std**2 / (2 * step_size)
