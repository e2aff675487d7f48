"""The temperature that a sampler realises, from the energy's own slopes and curvatures at its samples.

If exp(-E / T) is stationary, T = mean ||grad E||^2 / mean laplacian E (Rugh 1997; Butler et al.
1998). A sampler that is far from stationarity gives another number, or a negative one: then it
realises no temperature at all.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from raydistill.method.truth.bounds import Estimate, standard_error


def slopes_and_curvatures(
    energy: Callable[[Tensor], Tensor], t: Tensor, *, width: float, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """||grad E(t)||^2 and an unbiased estimate of the laplacian of E, each (B,), float64.

    The energy network is piecewise linear, so its second derivative is 0 almost everywhere. Only a difference
    of gradients as far apart as a step's noise sees its kinks.

    Args:
        energy: (B, ...) -> (B,).
        t: (B, ...).
        width: Distance from t, to either side, at which the two gradients are taken.
        signs: +1 or -1 at random, of the shape of t: the direction in which they are taken.
    """
    ahead, here, behind = (_gradient(energy, t + shift * width * signs) for shift in (1, 0, -1))
    squares = here.double().flatten(1).square().sum(1)
    laplacians = ((ahead - behind).double() * signs).flatten(1).sum(1) / (2 * width)
    return squares, laplacians


def configurational_temperature(squares: Tensor, laplacians: Tensor) -> Estimate:
    """mean squares / mean laplacians, each (B,) over independent chains, with the error of a ratio."""
    value = float(squares.mean() / laplacians.mean())
    return Estimate(value, standard_error((squares - value * laplacians) / laplacians.mean()))


def _gradient(energy: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """Of the energy at t, without a graph."""
    t = t.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy(t).sum(), t)
    return gradient
