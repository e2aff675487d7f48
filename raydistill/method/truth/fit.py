"""Training of an energy on pairs whose mutual information is known.

The energy has no spectral norm. It is trained by `vem.ebm_loss` without the l2 term, on negatives of
`langevin` at temperature 1.
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydistill.method.langevin import langevin
from raydistill.method.truth.bounds import Density
from raydistill.method.truth.pairs import Pairs, draw_s
from raydistill.method.vem import ebm_loss
from raydistill.seeds import torch_stream


class Fit(NamedTuple):
    """How an energy is trained."""

    hidden: int = 0
    """Width of the two hidden layers beside the quadratic form; 0: the energy is the quadratic form alone."""
    num_updates: int = 1200
    batch_size: int = 512
    num_chains: int = 4096
    """Persistent chains, each with its own s.

    An update moves `batch_size` of them and draws new t for their s.
    """
    num_steps: int = 8
    """Langevin steps in an update."""
    step_share: float = 0.06
    """Step size in units of the pairs' finest variance, which is step size times curvature.

    The sampled variance is off by half of it.
    """
    learning_rate: float = 1e-2
    seed: int = 0


class PairEnergy(nn.Module):
    """E(t, s) = ||W [t; s] + b||^2 / 2 + f([t; s]).

    f has two softplus layers of width `hidden`; where `hidden` is 0 there is no f.
    """

    def __init__(self, dims: int, hidden: int, generator: torch.Generator):
        super().__init__()
        sizes = [(2 * dims, dims)] + ([(2 * dims, hidden), (hidden, hidden), (hidden, 1)] if hidden else [])
        layers = [nn.Linear(*size, dtype=torch.float64) for size in sizes]
        for layer in layers:
            nn.init.normal_(layer.weight, 0.0, 1 / math.sqrt(layer.in_features), generator=generator)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        """E(t, s) of t and s, each (B, dims): (B,)."""
        both = torch.cat([t, s], 1)
        quadratic, *network = self.layers
        energy = (quadratic(both) ** 2).sum(1) / 2
        if not network:
            return energy
        for layer in network[:-1]:
            both = nn.functional.softplus(layer(both))
        return energy + network[-1](both).flatten()


def fit(pairs: Pairs, config: Fit) -> Density:
    """The density of an energy that is trained on fresh pairs.

    The learning rate falls to 0 by a cosine, and the weights are averaged over the second
    half of the updates.
    """
    generator = torch_stream(config.seed, f"truth-fit/{pairs.name}/{pairs.dims}")
    energy = PairEnergy(pairs.dims, config.hidden, generator)
    density = Density(energy, pairs.marginal_std)
    optimizer = torch.optim.Adam(energy.parameters(), lr=config.learning_rate, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.num_updates)
    average, num_averaged = copy.deepcopy(energy), 0
    all_s = draw_s(pairs, config.num_chains, generator)
    chains, step_size = pairs.draw(all_s, generator), config.step_share * pairs.finest_variance
    for update in range(config.num_updates):
        first = update * config.batch_size % config.num_chains
        rows = slice(first, first + config.batch_size)
        s = all_s[rows]
        chains[rows] = negatives = sample(density, chains[rows], s, config.num_steps, step_size, generator)
        t = pairs.draw(s, generator)
        loss = ebm_loss(energy(t, s), energy(negatives, s), l2_weight=0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if 2 * update >= config.num_updates:
            num_averaged += 1
            with torch.no_grad():
                for mean, weight in zip(average.parameters(), energy.parameters(), strict=True):
                    mean.lerp_(weight, 1 / num_averaged)
    return Density(average.requires_grad_(False), pairs.marginal_std)


def sample(
    density: Density, start: Tensor, s: Tensor, num_steps: int, step_size: float, generator: torch.Generator
) -> Tensor:
    """t~ ~ q(.|s), (B, dims), by the project's sampler at temperature 1, from chains that begin
    at `start` (B, dims).
    """
    return langevin(
        lambda t: -density.log_unnormalised(t, s),
        start,
        num_steps=num_steps,
        step_size=step_size,
        noise_std=math.sqrt(2 * step_size),
        normal=lambda: torch.randn(start.shape, generator=generator, dtype=torch.float64),
    ).samples
