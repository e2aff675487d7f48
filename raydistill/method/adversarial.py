"""The losses of GANs, each for the discriminator and for the generator. `GAN_LOSSES` has them by name.

Arguments are scores D(picture) of any shape, with their graphs: `real` of real pictures, `fake` of generated
ones. Each function returns the scalar to descend.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2.

    Source: Lim and Ye 2017. What differs: the sum is halved, as in pix2pix.
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def hinge_generator(fake: Tensor) -> Tensor:
    """-mean D(fake). Source: Lim and Ye 2017."""
    return -fake.mean()


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(-D(real)) + mean softplus(D(fake)). Source: Goodfellow et al. 2014."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """mean softplus(-D(fake)), the non-saturating loss. Source: Goodfellow et al. 2014."""
    return F.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(mean (D(real) - 1)^2 + mean D(fake)^2) / 2. Source: Mao et al. 2017; as in CycleGAN."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator(fake: Tensor) -> Tensor:
    """mean (D(fake) - 1)^2. Source: Mao et al. 2017. What differs: it is not halved, as in CycleGAN."""
    return (fake - 1).square().mean()


def vanilla_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Half of `logistic_discriminator`: the mean of two cross-entropies, as pix2pix and CycleGAN have it."""
    return logistic_discriminator(real, fake) / 2


class GanLoss(NamedTuple):
    """The two losses of a GAN."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """(real, fake) -> the scalar that the discriminator descends."""
    generator: Callable[[Tensor], Tensor]
    """fake -> the scalar that the generator descends."""


GAN_LOSSES = {
    "hinge": GanLoss(hinge_discriminator, hinge_generator),
    "least_squares": GanLoss(least_squares_discriminator, least_squares_generator),
    "vanilla": GanLoss(vanilla_discriminator, logistic_generator),
}
"""`gan_loss` of a config -> its losses."""
