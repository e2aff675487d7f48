"""The temperature that a sampler realises, from the energy's own slopes and curvatures at its samples.

If exp(-E / T) is stationary, T = mean ||grad E||^2 / mean laplacian E (Rugh 1997; Butler et al. 1998). A sampler far from stationarity
gives another number, or a negative one: then it realises no temperature at all.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from raydistill.method.truth.bounds import Estimate, standard_error


def slopes_and_curvatures(
    energy: Callable[[Tensor], Tensor], t: Tensor, *, width: float, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """||grad E(t)||^2 and an unbiased estimate of the laplacian, each (B,), for t (B, ...).

    The curvature is that of gradients `width` apart to either side, along random `signs` (+-1, of t's shape): the energy network is
    piecewise linear, so its second derivative is 0 almost everywhere and only a difference of the size of a step's noise sees its kinks.
    """
    ahead, here, behind = (_gradient(energy, t + shift * width * signs) for shift in (1, 0, -1))
    return here.double().flatten(1).square().sum(1), ((ahead - behind).double() * signs).flatten(1).sum(1) / (
        2 * width
    )


def configurational_temperature(squares: Tensor, laplacians: Tensor) -> Estimate:
    """mean squares / mean laplacians, each (B,) over independent chains, with the error of a ratio."""
    value = float(squares.mean() / laplacians.mean())
    return Estimate(value, standard_error((squares - value * laplacians) / laplacians.mean()))


def _gradient(energy: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    t = t.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy(t).sum(), t)
    return gradient
