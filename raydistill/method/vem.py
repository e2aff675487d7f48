"""The variational energy-based model (VEM): a bound on the mutual information of teacher and student outputs.

x is the input, t = G_T(x) the teacher's output picture and s = G_S(x) the student's.
With q(t|s) = exp(-E(t, s)) / Z(s), the bound

    I(T; S) >= H(T) + E[log q(t|s)]                                                (Barber and Agakov)

is tightened in the energy's parameters and raised in the student's. Both gradients are those of E(t, s) -
E(t~, s), with t~ ~ q(.|s) from Langevin chains. Only that GRADIENT belongs to the bound: the value is an
energy gap, not a mutual information.

Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022).
What differs: `models/energy.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.config.terms import MutualInformation
from raydistill.method.langevin import langevin
from raydistill.models.energy import EnergyModel

ENERGY_LIMIT = 1e4
"""An energy whose absolute value is above it has diverged.

With the published l2 weight of 0.05, energies that tell all pairs apart are -10 and 10.
"""


class Negatives(NamedTuple):
    """The negatives t~ of a minibatch, with numbers about the chains that they come from."""

    samples: Tensor
    """t~: (B, 3, H, W), without a graph; in [-1, 1] unless `clamp` is off in the config."""
    clamped: Tensor
    """Scalar: share of values that the last clamp changed."""
    grad_norm: Tensor
    """Scalar: mean over the batch of ||grad_t E(t~, s)|| at the last step."""


def draw_negatives(
    energy: EnergyModel,
    s: Tensor,
    config: MutualInformation,
    normal: Callable[[], Tensor],
    start: Tensor | None = None,
) -> Negatives:
    """Draws t~ ~ q(.|s) by Langevin chains, clamped to [-1, 1] once, after the last step.

    Args:
        s: (B, 3, H, W), the student's outputs; detached before use.
        normal: draws the noise of one step, see `langevin`.
        start: (B, 3, H, W), where the chains start; None: at s itself, as published.
    """
    # channels last, as the energy's convolutions are fastest: the whole chain stays in this order
    s = s.detach().contiguous(memory_format=torch.channels_last)
    chains = langevin(
        lambda t: energy(t, s),
        start=s if start is None else start,
        num_steps=config.num_steps,
        step_size=config.step_size,
        noise_std=config.noise_std,
        normal=normal,
        gradient=energy.gradient(s),
    )
    raw = chains.samples
    samples = raw.clamp(-1, 1) if config.clamp else raw
    return Negatives(samples, (samples != raw).float().mean(), chains.gradient.flatten(1).norm(dim=1).mean())


def pair_energies(energy: EnergyModel, t: Tensor, negatives: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(E(t, s), E(t~, s)), each (B,), from one forward. t and t~ are detached; a gradient may
    reach s and the energy.
    """
    both = energy(torch.cat([t.detach(), negatives.detach()]), s)
    return both[: len(s)], both[len(s) :]


def is_within(energies: Tensor) -> Tensor:
    """Whether all energies are finite and none is beyond `ENERGY_LIMIT`: a bool tensor without dimensions."""
    return (energies.abs() <= ENERGY_LIMIT).all()


def energy_gap(positive: Tensor, negative: Tensor) -> Tensor:
    """mean E(t, s) - mean E(t~, s), of energies (B,).

    Its gradient is that of the bound; its value is no mutual information.
    """
    return positive.mean() - negative.mean()


def ebm_loss(positive: Tensor, negative: Tensor, l2_weight: float) -> Tensor:
    """L_EBM = mean e+ - mean e- + l2 * mean(e+^2 + e-^2), which the energy descends.

    Args:
        positive: e+ = E(t, s), (B,).
        negative: e- = E(t~, s), (B,).
        l2_weight: l2 >= 0, which keeps the energies bounded; 0.05 as published.

    Returns:
        a scalar with a graph.

    Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022).
    """
    return energy_gap(positive, negative) + l2_weight * (positive**2 + negative**2).mean()


def student_mi_loss(energy: EnergyModel, t: Tensor, negatives: Tensor, s: Tensor) -> Tensor:
    """The student's term, mean E(t, s) - mean E(t~, s), whose gradient flows through s alone.

    Value and gradient are computed at once, and s is linked to them linearly. So the energy is differentiated
    once, however often the term is. Its power iterations, which belong to its own step, do not move.

    Args:
        energy: E(t, s), whose parameters get no gradient.
        t, negatives, s: (B, 3, H, W); s has a graph.

    Returns:
        a scalar: an energy gap, not a mutual information.

    Source: "Information-Theoretic GAN Compression with Variational Energy-based Model" (NeurIPS 2022).
    """
    gap, gradient = energy.gap_and_gradient(t, negatives, s.detach())
    return gap + ((s - s.detach()) * gradient).sum()


def alignment(term: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Mean cosine of the term's negative gradient at s with t - s, in [-1, 1].

    Above 0, the term pulls the student towards the teacher.
    """
    (gradient,) = torch.autograd.grad(term, s, retain_graph=True)
    return torch.cosine_similarity(-gradient.flatten(1), (t - s).detach().flatten(1), dim=1).mean()


def displacement(negatives: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Mean over the batch of ||t~ - s|| / ||t - s||: how far the chains went, in units of ||t - s||."""
    moved, apart = ((a - s).detach().flatten(1).norm(dim=1) for a in (negatives, t))
    return (moved / apart.clamp_min(1e-12)).mean()
