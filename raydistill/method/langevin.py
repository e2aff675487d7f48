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
    gradient: Callable[[Tensor], Tensor] | None = None,
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
        gradient: (B, ...) -> the gradient of the sum of energies, (B, ...); None: by autograd.

    Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022),
    where q(t|s) is sampled.
    """
    t = start.detach().clone()
    last = torch.zeros_like(t)
    for _ in range(num_steps):
        last = _by_autograd(energy, t) if gradient is None else gradient(t)
        t.add_(last, alpha=-step_size).add_(normal(), alpha=noise_std)
    return Chains(t, last)


def _by_autograd(energy: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    with torch.enable_grad():
        here = t.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(here).sum(), here)
    return gradient


def temperature(step_size: float, noise_std: float) -> float:
    """sigma^2 / (2 eta): T of the sampled density exp(-E / T), for small eta times curvature of E."""
    return noise_std**2 / (2 * step_size)
