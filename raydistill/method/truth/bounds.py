"""log q(t|s) of a trained energy, where its normaliser can be had, and the bound that follows.

q(t|s) = base(t) exp(-E(t, s)) / Z(s), with base = N(0, diag(std^2)): the stated base measure.
    I(T; S) >= H(T) + E[log q(t|s)]                                                         (Barber and Agakov)

One or two dimensions: Z(s) by a sum over a grid. More: bracketed by annealed importance sampling along base(t) exp(-beta E(t, s)).
Forward chains, from the base, give log Z from below on average, so the bound from ABOVE. Reverse chains, from a held-out pair's own t, give
it from BELOW, without exact samples of q: base and kernels are a normalised density of their own, which goes to q with more levels, and the
lower end bounds ITS log density, on average. So that end is never above I(T; S) itself, whatever the energy and however few the levels.

Sources: Neal 2001 (annealed importance sampling); Grosse, Ancha and Roy 2016 (both directions); Brekelmans et al. 2022 (the lower end).
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.method.truth.pairs import LOG_2PI, Pairs


class Density(NamedTuple):
    """q(t|s)."""

    energy: Callable[[Tensor, Tensor], Tensor]
    """(t, s), each (B, dims) -> (B,)"""
    std: Tensor
    """(dims,), of the base measure."""

    def log_base(self, t: Tensor) -> Tensor:
        return -(((t / self.std) ** 2 + LOG_2PI).sum(1) / 2 + self.std.log().sum())

    def log_unnormalised(self, t: Tensor, s: Tensor) -> Tensor:
        """log base(t) - E(t, s)"""
        return self.log_base(t) - self.energy(t, s)

    def draw_base(self, count: int, generator: torch.Generator) -> Tensor:
        return self.std * torch.randn(count, len(self.std), generator=generator, dtype=torch.float64)


class Bracket(NamedTuple):
    lower: Tensor
    """(B,): the log density of the chains' end at t, which goes to q(t|s), from below, on average."""
    upper: Tensor
    """(B,): log q(t|s) from above, on average."""


class Estimate(NamedTuple):
    value: float
    """Nats."""
    error: float
    """Standard error over the held-out pairs."""


@torch.no_grad()
def log_z(density: Density, s: Tensor, num_points: int = 161, span: float = 6.0) -> Tensor:
    """log Z(s), (B,), by a sum over a grid of num_points a dimension, out to span base deviations; one or two dimensions."""
    assert len(density.std) <= 2, "a grid has too many points in more than two dimensions"
    axes = [torch.linspace(-span, span, num_points, dtype=torch.float64) * std for std in density.std]
    grid = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    log_cell = sum(math.log(float(axis[1] - axis[0])) for axis in axes)
    rows = [torch.logsumexp(density.log_unnormalised(grid, row.expand(len(grid), -1)), 0) for row in s]
    return torch.stack(rows) + log_cell


def log_q(density: Density, t: Tensor, s: Tensor) -> Tensor:
    """log q(t|s), (B,), normalised by `log_z`."""
    with torch.no_grad():
        return density.log_unnormalised(t, s) - log_z(density, s)


def levels(count: int, power: float = 1.5) -> list[float]:
    """count + 1 values of beta from 0 to 1, denser near 0, where the base is much wider than q."""
    return [(level / count) ** power for level in range(count + 1)]


def tuned_step_sizes(
    density: Density, s: Tensor, betas: list[float], generator: torch.Generator
) -> dict[float, float]:
    """beta -> Langevin step size, from a run of its own so that the measuring chains' kernels are fixed: 65 to 75 % accepted."""
    t = density.draw_base(len(s), generator)
    energy, gradient = _energy_and_gradient(density, t, s)
    step_size, chosen = float(density.std.min()) ** 2, {}
    for beta in betas:
        if 0 < beta < 1:
            moved, energy, gradient = _corrected_step(
                density, t, s, energy, gradient, beta, step_size, generator
            )
            accepted = float((moved != t).any(1).double().mean())
            step_size *= 1.1 if accepted > 0.7 else 0.9
            t, chosen[beta] = moved, step_size
    return chosen


def log_weights(
    density: Density,
    start: Tensor,
    s: Tensor,
    betas: list[float],
    step_sizes: dict[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Sum over the levels of -|change of beta| E(t, s), (B,), with one Metropolis-corrected Langevin step at each level between.

    betas from 0 to 1 and start ~ base: log weights of Z(s). From 1 to 0: of the reverse path, whose weight enters with a minus.
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
    """log q(t|s) of held-out pairs from both sides; num_chains chains a pair and a direction, averaged before the logarithm."""
    betas, many_s, many_t = levels(num_levels), s.repeat(num_chains, 1), t.repeat(num_chains, 1)
    steps = tuned_step_sizes(density, s, betas, generator)
    forward = log_weights(density, density.draw_base(len(many_s), generator), many_s, betas, steps, generator)
    reverse = log_weights(density, many_t, many_s, betas[::-1], steps, generator)
    with torch.no_grad():
        unnormalised = density.log_unnormalised(t, s)
    return Bracket(
        unnormalised + _log_mean_exp(-reverse, num_chains), unnormalised - _log_mean_exp(forward, num_chains)
    )


def plain(pairs: Pairs, log_q_values: Tensor) -> Estimate:
    """H(T) + mean log q(t|s): the bound as it stands."""
    return Estimate(pairs.entropy + float(log_q_values.mean()), standard_error(log_q_values))


def controlled(pairs: Pairs, log_q_values: Tensor, t: Tensor, s: Tensor, *, normalised: bool) -> Estimate:
    """The same expectation with exact facts as control variates, so that most of the sampling error drops out.

    mean log p(t|s) = -H(T|S) is known; where q is normalised (on the grid, and the lower end), so is mean q/p = 1 under p.
    """
    log_ratio = log_q_values - pairs.log_conditional(t, s)
    difference = log_ratio - torch.expm1(log_ratio) if normalised else log_ratio
    return Estimate(pairs.truth + float(difference.mean()), standard_error(difference))


def _log_mean_exp(values: Tensor, num_chains: int) -> Tensor:
    return torch.logsumexp(values.reshape(num_chains, -1), 0) - math.log(num_chains)


def standard_error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values))


def _energy_and_gradient(density: Density, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
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
    """One Langevin step at temperature 1 on base(t) exp(-beta E(t, s)), accepted by Metropolis: it leaves that density exactly alone."""
    slope = beta * gradient + t / density.std**2
    proposal = (
        t
        - step_size * slope
        + math.sqrt(2 * step_size) * torch.randn(t.shape, generator=generator, dtype=torch.float64)
    )
    new_energy, new_gradient = _energy_and_gradient(density, proposal, s)
    new_slope = beta * new_gradient + proposal / density.std**2
    there = ((proposal - t + step_size * slope) ** 2).sum(1)
    back = ((t - proposal + step_size * new_slope) ** 2).sum(1)
    log_ratio = (
        beta * (energy - new_energy)
        + density.log_base(proposal)
        - density.log_base(t)
        + (there - back) / (4 * step_size)
    )
    accepted = torch.rand(len(t), generator=generator, dtype=torch.float64).log() < log_ratio
    wide = accepted[:, None]
    return (
        torch.where(wide, proposal, t),
        torch.where(accepted, new_energy, energy),
        torch.where(wide, new_gradient, gradient),
    )
