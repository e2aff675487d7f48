"""GAN losses against the formula of one score, added up in a plain loop, and by what descending them does."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from raydistill.method.adversarial import (
    hinge_discriminator,
    hinge_generator,
    least_squares_discriminator,
    least_squares_generator,
    logistic_discriminator,
    logistic_generator,
    vanilla_discriminator,
)


class Losses(NamedTuple):
    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    of_real: Callable[[float], float]
    """What one real score adds to the discriminator's loss, before the mean."""
    of_fake: Callable[[float], float]
    of_fooled: Callable[[float], float]
    """What one fake score adds to the generator's loss, before the mean."""
    share: float
    """Of each of the two means in the discriminator's loss."""


LOSSES = {
    "hinge": Losses(
        hinge_discriminator,
        hinge_generator,
        lambda score: max(0.0, 1 - score),
        lambda score: max(0.0, 1 + score),
        lambda score: -score,
        0.5,
    ),
    "logistic": Losses(
        logistic_discriminator,
        logistic_generator,
        lambda score: math.log(1 + math.exp(-score)),
        lambda score: math.log(1 + math.exp(score)),
        lambda score: math.log(1 + math.exp(-score)),
        1.0,
    ),
    "vanilla": Losses(
        vanilla_discriminator,
        logistic_generator,
        lambda score: math.log(1 + math.exp(-score)),
        lambda score: math.log(1 + math.exp(score)),
        lambda score: math.log(1 + math.exp(-score)),
        0.5,
    ),
    "least squares": Losses(
        least_squares_discriminator,
        least_squares_generator,
        lambda score: (score - 1) ** 2,
        lambda score: score**2,
        lambda score: (score - 1) ** 2,
        0.5,
    ),
}
all_losses = pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
REAL, FAKE = [2.5, 1.0, 0.25, -0.5, -3.0, 0.0], [-2.0, -1.0, 0.75, 1.5]
"""On both sides of every bend, and not as many of one as of the other."""


def scores(values: list[float]) -> Tensor:
    """As a discriminator of patches gives them: (B, 1, h, w)."""
    return torch.tensor(values, dtype=torch.float64).view(2, 1, -1, 1).requires_grad_(True)


def mean(function: Callable[[float], float], values: list[float]) -> float:
    return sum(map(function, values)) / len(values)


@all_losses
def test_a_discriminators_loss_is_the_mean_over_the_real_and_the_mean_over_the_fake_scores(
    losses: Losses,
) -> None:
    expected = losses.share * (mean(losses.of_real, REAL) + mean(losses.of_fake, FAKE))
    assert losses.discriminator(scores(REAL), scores(FAKE)).item() == pytest.approx(expected, rel=1e-12)


@all_losses
def test_a_generators_loss_is_a_mean_over_the_fake_scores(losses: Losses) -> None:
    assert losses.generator(scores(FAKE)).item() == pytest.approx(mean(losses.of_fooled, FAKE), rel=1e-12)


@all_losses
def test_the_discriminator_tells_the_two_apart_and_the_generator_works_against_it(losses: Losses) -> None:
    """From scores of .5, which lie between the targets of all losses: descending moves them the right way."""
    real, fake, fooled = (scores([0.5] * 4) for _ in range(3))
    (losses.discriminator(real, fake) + losses.generator(fooled)).backward()
    assert real.grad is not None and fake.grad is not None and fooled.grad is not None
    assert bool((real.grad < 0).all() and (fake.grad > 0).all() and (fooled.grad < 0).all())


@all_losses
def test_far_scores_give_a_finite_loss_and_no_force_where_the_discriminator_is_right(losses: Losses) -> None:
    """exp(800) is no number; a hinge and a logistic loss have nothing to say about scores so far out."""
    real, fake = (torch.full((4,), value, requires_grad=True) for value in (800.0, -800.0))
    right = losses.discriminator(real, fake)
    right.backward()
    assert right.isfinite() and losses.discriminator(fake, real).isfinite()
    if losses.discriminator is not least_squares_discriminator:
        assert right.item() == 0 and not real.grad.any() and not fake.grad.any()
    assert losses.generator(real).isfinite() and losses.generator(fake).isfinite()
