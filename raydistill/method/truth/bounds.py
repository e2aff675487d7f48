"""log q(t|s) of a trained energy, where its normaliser can be computed, and the bound that follows.

    q(t|s) = base(t) exp(-E(t, s)) / Z(s), with the base measure N(0, diag(std^2))
    I(T; S) >= H(T) + E[log q(t|s)]                                                (Barber and Agakov)

In one or two dimensions, Z(s) is a sum over a grid. In more, log q is bracketed by annealed importance
sampling along base(t) exp(-beta E(t, s)). Forward chains start at the base. On average they give log Z from
below, so the bound from ABOVE. Reverse chains start at a held-out pair's own t and give the bound from BELOW,
without exact samples of q: base and kernels are a normalised density of their own, which goes to q with more
levels, and the lower end bounds the log density of THAT, on average. So the lower end is never above I(T; S)
itself, whatever the energy and however few the levels.

Sources: Neal 2001 (annealed importance sampling); Grosse, Ancha and Roy 2016 (both directions); Brekelmans
et al. 2022 (the lower end).
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.method.truth.pairs import LOG_2PI, Pairs


class Density(NamedTuple):
    """q(t|s) up to its normaliser: an energy and a Gaussian base measure."""

    energy: Callable[[Tensor, Tensor], Tensor]
    """(t, s), each (B, dims) -> E(t, s), (B,)"""
    std: Tensor
    """Standard deviations of the base measure, (dims,)."""

    def log_base(self, t: Tensor) -> Tensor:
        """log base(t) of t (B, dims): (B,)."""
        return -(((t / self.std) ** 2 + LOG_2PI).sum(1) / 2 + self.std.log().sum())

    def log_unnormalised(self, t: Tensor, s: Tensor) -> Tensor:
        """log base(t) - E(t, s) of t and s, each (B, dims): (B,)."""
        return self.log_base(t) - self.energy(t, s)

    def draw_base(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` draws from the base, (count, dims)."""
        return self.std * torch.randn(count, len(self.std), generator=generator, dtype=torch.float64)


class Bracket(NamedTuple):
    """log q(t|s) of pairs, bracketed."""

    lower: Tensor
    """(B,): on average below the log density at t of the reverse chains' end, which goes to q(t|s)."""
    upper: Tensor
    """(B,): on average above log q(t|s)."""


class Estimate(NamedTuple):
    """A mean over held-out pairs."""

    value: float
    """Nats."""
    error: float
    """Standard error over the pairs, in nats, too."""


@torch.no_grad()
def log_z(density: Density, s: Tensor, num_points: int = 161, span: float = 6.0) -> Tensor:
    """log Z(s) of s (B, dims), by a sum over a grid: (B,). For one or two dimensions.

    Args:
        num_points: Points of the grid in each dimension.
        span: The grid reaches so many deviations of the base to either side of 0.
    """
    assert len(density.std) <= 2, "a grid has too many points in more than two dimensions"
    axes = [torch.linspace(-span, span, num_points, dtype=torch.float64) * std for std in density.std]
    grid = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    log_cell = sum(math.log(float(axis[1] - axis[0])) for axis in axes)
    rows = [torch.logsumexp(density.log_unnormalised(grid, row.expand(len(grid), -1)), 0) for row in s]
    return torch.stack(rows) + log_cell


def log_q(density: Density, t: Tensor, s: Tensor) -> Tensor:
    """log q(t|s) of t and s, each (B, dims), normalised by `log_z`: (B,)."""
    with torch.no_grad():
        return density.log_unnormalised(t, s) - log_z(density, s)


def levels(count: int, power: float = 1.5) -> list[float]:
    """`count` + 1 rising values of beta from 0 to 1, denser near 0, where the base is much wider than q."""
    return [(level / count) ** power for level in range(count + 1)]


def tuned_step_sizes(
    density: Density, s: Tensor, betas: list[float], generator: torch.Generator
) -> dict[float, float]:
    """The Langevin step size for each beta between 0 and 1, at which about 70 % of the steps are accepted.

    They come from a run of its own, with one chain for each s (B, dims), so that the kernels of the
    measuring chains are fixed.
    """
    t = density.draw_base(len(s), generator)
    energy, gradient = _energy_and_gradient(density, t, s)
    step_size, step_sizes = float(density.std.min()) ** 2, {}
    for beta in betas:
        if 0 < beta < 1:
            new_t, energy, gradient = _corrected_step(
                density, t, s, energy, gradient, beta, step_size, generator
            )
            share_accepted = float((new_t != t).any(1).double().mean())
            step_size *= 1.1 if share_accepted > 0.7 else 0.9
            t, step_sizes[beta] = new_t, step_size
    return step_sizes


def log_weights(
    density: Density,
    start: Tensor,
    s: Tensor,
    betas: list[float],
    step_sizes: dict[float, float],
    generator: torch.Generator,
) -> Tensor:
    """The sum over the levels of -|change of beta| E(t, s), (B,), with one corrected step at each level.

    With betas from 0 to 1 and start ~ base these are the log weights of Z(s). With betas from 1 to 0 they are
    those of the reverse path, whose weight enters with a minus.

    Args:
        start, s: (B, dims); the chains start at `start`.
        betas: All levels in order, both ends included.
        step_sizes: See `tuned_step_sizes`.
    """
    energy, gradient = _energy_and_gradient(density, start, s)
    t, total = start, torch.zeros(len(start), dtype=torch.float64)
    for before, beta in pairwise(betas):
        total -= abs(beta - before) * energy
        if 0 < beta < 1:
            t, energy, gradient = _corrected_step(
                density, t, s, energy, gradient, beta, step_sizes[beta], generator
            )
    return total


def log_q_bracket(
    density: Density, t: Tensor, s: Tensor, *, num_levels: int, num_chains: int, generator: torch.Generator
) -> Bracket:
    """log q(t|s) of held-out pairs t, s, each (B, dims), from both sides.

    For each pair and each direction there are `num_chains` chains over `num_levels` levels; their weights are
    averaged before the logarithm.
    """
    betas, many_s, many_t = levels(num_levels), s.repeat(num_chains, 1), t.repeat(num_chains, 1)
    steps = tuned_step_sizes(density, s, betas, generator)
    forward = log_weights(density, density.draw_base(len(many_s), generator), many_s, betas, steps, generator)
    reverse = log_weights(density, many_t, many_s, betas[::-1], steps, generator)
    with torch.no_grad():
        unnormalised = density.log_unnormalised(t, s)
    lower = unnormalised + _log_mean_exp(-reverse, num_chains)
    upper = unnormalised - _log_mean_exp(forward, num_chains)
    return Bracket(lower, upper)


def plain_bound(pairs: Pairs, log_q_values: Tensor) -> Estimate:
    """The bound as it stands: H(T) + mean log q(t|s), from log q(t|s) of held-out pairs, (B,)."""
    return Estimate(pairs.entropy + float(log_q_values.mean()), standard_error(log_q_values))


def controlled_bound(
    pairs: Pairs, log_q_values: Tensor, t: Tensor, s: Tensor, *, normalised: bool
) -> Estimate:
    """What `plain_bound` estimates, with control variates that take out most of the sampling error.

    The mean of log p(t|s) is known, -H(T|S). Where q is normalised, the mean of q/p under p is
    known, too: it is 1.

    Args:
        log_q_values: log q(t|s) of the held-out pairs t, s, (B,).
        normalised: Whether q is a normalised density: it is on the grid and at the bracket's lower end.
    """
    log_ratio = log_q_values - pairs.log_conditional(t, s)
    difference = log_ratio - torch.expm1(log_ratio) if normalised else log_ratio
    return Estimate(pairs.truth + float(difference.mean()), standard_error(difference))


def _log_mean_exp(values: Tensor, num_chains: int) -> Tensor:
    """log mean exp over the chains of each pair: (num_chains * B,), chain by chain -> (B,)."""
    return torch.logsumexp(values.reshape(num_chains, -1), 0) - math.log(num_chains)


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of independent values (B,), B >= 2."""
    return float(values.std()) / math.sqrt(len(values))


def _energy_and_gradient(density: Density, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """E(t, s), (B,), and its gradient at t, (B, dims); neither has a graph."""
    t = t.detach().requires_grad_(True)
    energy = density.energy(t, s)
    (gradient,) = torch.autograd.grad(energy.sum(), t)
    return energy.detach(), gradient


def _corrected_step(
    density: Density,
    t: Tensor,
    s: Tensor,
    energy: Tensor,
    gradient: Tensor,
    beta: float,
    step_size: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """One Langevin step at temperature 1 on base(t) exp(-beta E(t, s)), with a Metropolis test, so that
    exactly this density is stationary.

    `energy` and `gradient` are those at t. Returns t, its energy and its gradient after the step.
    """
    slope = beta * gradient + t / density.std**2
    noise = torch.randn(t.shape, generator=generator, dtype=torch.float64)
    proposal = t - step_size * slope + math.sqrt(2 * step_size) * noise
    new_energy, new_gradient = _energy_and_gradient(density, proposal, s)
    new_slope = beta * new_gradient + proposal / density.std**2
    there = ((proposal - t + step_size * slope) ** 2).sum(1)
    back = ((t - proposal + step_size * new_slope) ** 2).sum(1)
    log_densities = beta * (energy - new_energy) + density.log_base(proposal) - density.log_base(t)
    log_ratio = log_densities + (there - back) / (4 * step_size)
    is_accepted = torch.rand(len(t), generator=generator, dtype=torch.float64).log() < log_ratio
    t = torch.where(is_accepted[:, None], proposal, t)
    energy = torch.where(is_accepted, new_energy, energy)
    return t, energy, torch.where(is_accepted[:, None], new_gradient, gradient)
