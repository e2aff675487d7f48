"""R1, path lengths, cycles and identities: closed forms, plain loops, and what the recipes make of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from recipe_kit import begin, phases_of
from torch import Tensor

from raydistill.config.experiment import Job
from raydistill.method.adversarial import (
    least_squares_discriminator,
    least_squares_generator,
    logistic_discriminator,
    logistic_generator,
)
from raydistill.method.penalties import (
    cycle_loss,
    identity_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from raydistill.models.inputs import latents
from raydistill.training import recipes
from raydistill.training.assembly import Assembly
from raydistill.training.recipes import Step


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ---- R1 ----------------------------------------------------------------------------------------------------


def test_r1_is_the_mean_squared_norm_of_the_gradient_in_the_picture() -> None:
    """D(x) = sum of a x^2 / 2 has the gradient a x; the penalty, sum of a^2 x^2, has the gradient 2 a x^2."""
    a, real = drawn(3, 4, 5, seed=1).requires_grad_(True), drawn(2, 3, 4, 5)
    penalty = r1_penalty(lambda x: (a * x**2 / 2).sum((1, 2, 3)), real)
    expected = sum(float((a.detach() * x).square().sum()) for x in real) / 2
    assert penalty.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(penalty, a)
    torch.testing.assert_close(gradient, (2 * a * real**2).mean(0).detach(), rtol=1e-12, atol=1e-12)


def test_r1_leaves_the_pictures_alone() -> None:
    real = drawn(2, 3, 4, 4).requires_grad_(True)
    r1_penalty(lambda x: x.square().sum((1, 2, 3)), real).backward()
    assert real.grad is None
    given = real.detach()
    r1_penalty(lambda x: x.square().sum((1, 2, 3)), given)
    assert not given.requires_grad


# ---- path lengths ------------------------------------------------------------------------------------------


def test_a_path_length_is_that_of_the_explicit_jacobian_of_each_picture() -> None:
    """|J^T y| with J by `torch.autograd.functional`; squares are added over a style, averaged over layers."""
    numbers, layers, style = 3 * 4 * 6, 2, 5
    mixing = drawn(numbers, layers * style, seed=1)

    def picture(styles: Tensor) -> Tensor:
        """(layers, style) -> (3, 4, 6), not linear."""
        return torch.sin(mixing @ styles.flatten()).view(3, 4, 6)

    styles, normal = drawn(4, layers, style).requires_grad_(True), drawn(4, 3, 4, 6, seed=2)
    got = path_lengths(torch.stack([picture(each) for each in styles]), styles, normal)
    assert got.shape == (4,)
    for length, each, direction in zip(got, styles.detach(), normal):
        jacobian = torch.autograd.functional.jacobian(picture, each).view(numbers, layers, style)
        back = torch.einsum("p,pls->ls", direction.flatten() / (4 * 6) ** 0.5, jacobian)
        expected = sum(float(row.square().sum()) for row in back) / layers
        assert length.item() == pytest.approx(expected**0.5, rel=1e-10)


def test_a_path_length_can_be_differentiated_by_what_makes_the_picture() -> None:
    """Pictures k s have the Jacobian k: the length is k |y|, its derivative by k is |y|."""
    k = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    styles, normal = drawn(2, 1, 12).requires_grad_(True), drawn(2, 3, 2, 2, seed=1)
    found = path_lengths((k * styles).view(2, 3, 2, 2), styles, normal)
    expected = normal.flatten(1).norm(dim=1) / 2
    torch.testing.assert_close(found.detach(), 3 * expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(found.sum(), k)
    assert gradient.item() == pytest.approx(float(expected.sum()), rel=1e-12)


def test_the_path_penalty_is_the_mean_squared_distance_from_the_mean_length() -> None:
    found = path_length_penalty(torch.tensor([1.0, 2.0, 5.0]), torch.tensor(2.0))
    assert found.item() == pytest.approx((1 + 0 + 9) / 3)


# ---- cycles and identities ---------------------------------------------------------------------------------


def test_cycles_and_identities_compare_each_picture_with_its_own_domain() -> None:
    """G(x) = 2 x and F(x) = x + 1, on pictures of another size in each domain: a mix-up does not fit."""
    a, b = drawn(2, 3, 4, 4), drawn(2, 3, 6, 6, seed=1)
    fake_a, fake_b = drawn(2, 3, 6, 6, seed=2), drawn(2, 3, 4, 4, seed=3)

    def forth(x: Tensor) -> Tensor:
        return 2 * x

    def back(x: Tensor) -> Tensor:
        return x + 1

    def apart(x: Tensor, y: Tensor) -> float:
        return float(np.mean([abs(p - q) for p, q in zip(x.flatten().tolist(), y.flatten().tolist())]))

    cycle = cycle_loss(forth, back, a, b, fake_a, fake_b)
    assert cycle.item() == pytest.approx(apart(fake_b + 1, a) + apart(2 * fake_a, b), rel=1e-12)
    identity = identity_loss(forth, back, a, b)
    assert identity.item() == pytest.approx(apart(2 * b, b) + apart(a + 1, a), rel=1e-12)


# ---- in the recipes ----------------------------------------------------------------------------------------


Begun = Callable[..., tuple[Job, Assembly, Step]]


@pytest.fixture(scope="module")
def begun(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """Assembly -> what `recipe_kit.begin` gives, in a folder of its own."""
    return lambda name, **values: begin(tmp_path_factory.mktemp(name), name, **values)


def test_stylegan2_weighs_its_penalties_by_how_seldom_they_come(begun: Begun) -> None:
    job, recipe, step = begun("stylegan2", r1_weight=6.0, r1_every=5, path_weight=3.0, path_every=7)
    phases, discriminator = phases_of(recipe), recipe.networks["discriminator"]
    assert {name: phase.every for name, phase in phases.items()} == {
        "discriminator": 1,
        "r1": 5,
        "generator": 1,
        "path": 7,
    }
    loss, numbers = phases["r1"].loss(step)
    penalty = r1_penalty(discriminator, step.batch.target)
    torch.testing.assert_close(numbers["train/r1"], penalty)
    torch.testing.assert_close(loss, 6.0 / 2 * 5 * penalty)

    lengths_of, mean = path_lengths_of(job, recipe, step), recipe.networks["path_mean"].value
    assert float(mean) == 0
    for moved in (0.01, 0.01 + 0.99 * 0.01):
        loss, numbers = phases["path"].loss(step)
        assert float(mean) == pytest.approx(moved * float(lengths_of.mean()), rel=1e-5)
        torch.testing.assert_close(numbers["train/path_length"], lengths_of.mean())
        penalty = (lengths_of - mean).square().mean()
        torch.testing.assert_close(numbers["train/path_penalty"], penalty)
        torch.testing.assert_close(loss, 3.0 * 7 * penalty)
    assert not mean.requires_grad

    real, fake = discriminator(step.batch.target), discriminator(step.output)
    torch.testing.assert_close(phases["discriminator"].loss(step)[0], logistic_discriminator(real, fake))
    torch.testing.assert_close(phases["generator"].loss(step)[0], logistic_generator(fake))
    gap = phases["discriminator"].loss(step)[1]["train/discriminator_gap"]
    torch.testing.assert_close(gap, real.mean() - fake.mean())
    loss = phases["discriminator"].loss(step)[0]
    assert torch.autograd.grad(loss, step.output, allow_unused=True) == (None,)


def path_lengths_of(job: Job, recipe: Assembly, step: Step) -> Tensor:
    """On latents, noise and directions that are keyed by the step's images."""
    seed, cpu = job.training.seed, torch.device("cpu")
    generator = recipe.networks["generator"]
    draw = recipes.stylegan2.Drawing(generator, seed, job.training.mixing, cpu)
    styles = draw.mixed(latents(seed, "path", step.images, 6, cpu), step, "path")
    pictures = draw.pictures(styles, step, "path")
    normal = latents(seed, "path/direction", step.images, 3 * 16 * 16, cpu).view(4, 3, 16, 16)
    return path_lengths(pictures, styles, normal).detach()


def test_stylegan2_mixes_two_styles_and_moves_its_mean_style(begun: Begun) -> None:
    """A picture's styles are those of its first latent up to a layer, and of the second from there on."""
    job, recipe, step = begun("stylegan2", mixing=1.0)
    generator = recipe.networks["generator"]
    draw = recipes.stylegan2.Drawing(generator, job.training.seed, 1.0, torch.device("cpu"))
    first = generator.styles(step.batch.inputs)
    other = latents(job.training.seed, "styles/second", step.images, 6, torch.device("cpu"))
    second = generator.styles(other)
    mixed = draw.mixed(step.batch.inputs, step, "styles")
    assert mixed.shape == (4, generator.num_styles, 6)
    for row, one, two in zip(mixed, first, second, strict=True):
        is_first = [torch.equal(style, one) for style in row]
        is_second = [torch.equal(style, two) for style in row]
        switch = is_first.index(False)
        assert 1 <= switch < len(row) and all(is_first[:switch]) and all(is_second[switch:])
    plain = draw._replace(mixing=0.0).mixed(step.batch.inputs, step, "styles")
    torch.testing.assert_close(plain, first[:, None].expand_as(plain))
    torch.testing.assert_close(generator.mean_style, 0.005 * first.mean(0), rtol=1e-5, atol=1e-8)
    assert not generator.mean_style.requires_grad


def test_cyclegan_adds_up_both_ways_with_their_weights(begun: Begun) -> None:
    _, recipe, step = begun("cyclegan", cycle_weight=4.0, identity_weight=0.25, pool_size=0)
    forth, back = recipe.networks["generator"], recipe.networks["back"]
    of_targets, of_inputs = recipe.networks["discriminator"], recipe.networks["back_discriminator"]
    phases, a, b = phases_of(recipe), step.batch.inputs, step.batch.target
    fake_a, fake_b = back(b), forth(a)
    torch.testing.assert_close(step.output, fake_b)
    loss, numbers = phases["generator"].loss(step)
    gan = least_squares_generator(of_targets(fake_b)) + least_squares_generator(of_inputs(fake_a))
    cycle, identity = cycle_loss(forth, back, a, b, fake_a, fake_b), identity_loss(forth, back, a, b)
    torch.testing.assert_close(loss, gan + 4.0 * cycle + 4.0 * 0.25 * identity)
    for name, value in (("gan_loss", gan), ("cycle", cycle), ("identity", identity)):
        torch.testing.assert_close(numbers[f"train/{name}"], value)
    for name, critic, real, fake in (
        ("discriminator", of_targets, b, fake_b),
        ("back_discriminator", of_inputs, a, fake_a),
    ):
        expected = least_squares_discriminator(critic(real), critic(fake))
        torch.testing.assert_close(phases[name].loss(step)[0], expected)
    assert phases["generator"].moves == ("generator", "back")
    assert not step.shared_tensors["fake_a"].requires_grad


def test_cyclegan_without_identity_logs_none(begun: Begun) -> None:
    _, recipe, step = begun("cyclegan", identity_weight=0.0)
    assert "train/identity" not in phases_of(recipe)["generator"].loss(step)[1]
