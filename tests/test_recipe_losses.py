"""What every phase of a recipe descends: the weights and signs of its parts, and where no gradient may go."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recipe_kit import begin, phases_of
from torch import Tensor

from raydistill.config.experiment import Job
from raydistill.data import load_split, noise
from raydistill.method.adversarial import hinge_discriminator, hinge_generator
from raydistill.method.similarity import dissimilarity
from raydistill.method.vem import alignment
from raydistill.models import saved
from raydistill.training.assembly import Assembly
from raydistill.training.recipes import Step
from raydistill.training.recipes.distill import pairs_of_term
from raydistill.training.recipes.evaluator import turn_squares, turns_of

CPU = torch.device("cpu")
Begun = Callable[..., tuple[Job, Assembly, Step]]


@pytest.fixture(scope="module")
def begun(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """Assembly -> what `recipe_kit.begin` gives, in a folder of its own."""
    return lambda name, stage="teacher", **values: begin(tmp_path_factory.mktemp(name), name, stage, **values)


def assert_all_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_pix2pix_is_l1_plus_a_hinge_on_pairs_of_input_and_picture(begun: Begun) -> None:
    _, recipe, step = begun("pix2pix", l1_weight=7.0, gan_weight=0.3)
    critic, phases, x = recipe.networks["discriminator"], phases_of(recipe), step.batch.inputs
    assert list(phases) == ["discriminator", "generator"]
    torch.testing.assert_close(step.output, recipe.networks["generator"](x))
    real = critic(torch.cat([x, step.batch.target], 1))
    fake = critic(torch.cat([x, step.output], 1))
    loss, numbers = phases["discriminator"].loss(step)
    torch.testing.assert_close(loss, hinge_discriminator(real, fake), rtol=1e-4, atol=1e-5)
    assert_all_close(numbers, {"train/discriminator_loss": loss})
    assert torch.autograd.grad(loss, step.output, allow_unused=True, retain_graph=True) == (None,)
    loss, numbers = phases["generator"].loss(step)
    l1, gan = (step.output - step.batch.target).abs().mean(), hinge_generator(fake)
    torch.testing.assert_close(loss, 7.0 * l1 + 0.3 * gan, rtol=1e-4, atol=1e-5)
    assert_all_close(numbers, {"train/l1": l1, "train/gan_loss": gan})


def test_pix2pix_has_the_gan_loss_that_its_config_names(begun: Begun) -> None:
    _, recipe, step = begun("pix2pix", gan_loss="vanilla", l1_weight=0.0)
    critic, phases, x = recipe.networks["discriminator"], phases_of(recipe), step.batch.inputs
    real = critic(torch.cat([x, step.batch.target], 1))
    fake = critic(torch.cat([x, step.output], 1))
    loss = phases["discriminator"].loss(step)[0]
    entropies = [
        F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))
        for scores, label in ((real, 1.0), (fake, 0.0))
    ]
    torch.testing.assert_close(loss, sum(entropies) / 2, rtol=1e-4, atol=1e-5)
    expected = F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    torch.testing.assert_close(phases["generator"].loss(step)[0], expected, rtol=1e-4, atol=1e-5)


def test_sagan_is_a_hinge_whose_power_iterations_move_in_the_discriminators_phase(begun: Begun) -> None:
    _, recipe, step = begun("sagan")
    critic, phases = recipe.networks["discriminator"], phases_of(recipe)
    u = critic.layers[1][0].parametrizations.weight[0]._u
    before = u.clone()
    loss, numbers = phases["discriminator"].loss(step)
    moved = u.clone()
    assert not torch.equal(before, moved)
    assert torch.autograd.grad(loss, step.output, allow_unused=True, retain_graph=True) == (None,)
    assert numbers["train/discriminator_loss"] is loss
    loss, numbers = phases["generator"].loss(step)
    assert torch.equal(u, moved) and critic.training
    critic.eval()
    torch.testing.assert_close(loss, -critic(step.output).mean())
    assert_all_close(numbers, {"train/gan_loss": loss})
    critic.train = lambda mode=True: critic  # the power iteration stays where it is
    real, fake = critic(step.batch.target), critic(step.output)
    loss, numbers = phases["discriminator"].loss(step)
    torch.testing.assert_close(loss, hinge_discriminator(real, fake))
    torch.testing.assert_close(numbers["train/discriminator_gap"], real.mean() - fake.mean())


def test_enhancement_is_l1_to_the_target(begun: Begun) -> None:
    _, recipe, step = begun("enhance")
    loss, numbers = recipe.phases[0].loss(step)
    torch.testing.assert_close(loss, (step.output - step.batch.target).abs().mean())
    assert_all_close(numbers, {"train/l1": loss})


@pytest.mark.parametrize("positive", ["teacher", "target"])
def test_a_student_descends_l1_dissimilarity_and_its_term_by_their_weights(
    begun: Begun, positive: str
) -> None:
    job, recipe, step = begun(
        "pix2pix",
        "student",
        l1_weight=3.0,
        ssim_weight=0.7,
        mi__kind="vid",
        mi__weight=0.4,
        mi__positive=positive,
    )
    assert job.teacher is not None and [phase.name for phase in recipe.phases] == ["mi.variance", "generator"]
    s, phases = step.output, phases_of(recipe)
    teacher = saved.load(job.teacher, load_split(job.data, "train").info, CPU)
    with torch.no_grad():
        t = teacher(step.batch.inputs)
    torch.testing.assert_close(step.teacher, t, rtol=1e-4, atol=1e-5)
    pairs = pairs_of_term(step, "mi", job.training.terms["mi"])
    assert pairs.t is step.teacher and pairs.s is s
    assert pairs.positive is (step.teacher if positive == "teacher" else step.batch.target)
    assert pairs.sample is step.sample and pairs.images == step.images
    l1, ssim = (s - t).abs().mean(), dissimilarity(s, t)
    v = recipe.networks["mi.variance"]().detach()[None, :, None, None]
    term = ((pairs.positive - s) ** 2 / (2 * v) + v.log() / 2).mean()
    assert "energy/alignment" not in phases["generator"].loss(step)[1]
    step.is_reported = True
    loss, numbers = phases["generator"].loss(step)
    torch.testing.assert_close(loss, 3.0 * l1 + 0.7 * ssim + 0.4 * term, rtol=1e-4, atol=1e-5)
    expected = {
        "train/l1": l1,
        "train/dissimilarity": ssim,
        "energy/alignment": alignment(term, s, step.teacher),
    }
    for name, value in expected.items():
        torch.testing.assert_close(numbers[name], value, rtol=1e-4, atol=1e-5)
    assert not step.teacher.requires_grad
    plain, recipe, step = begun("pix2pix", "student", l1_weight=3.0, ssim_weight=0.7, mi__weight=0.0)
    (only,) = recipe.phases
    loss, numbers = only.loss(step)
    torch.testing.assert_close(
        loss, 3.0 * numbers["train/l1"] + 0.7 * numbers["train/dissimilarity"], rtol=1e-5, atol=1e-6
    )
    assert plain.training.terms["mi"].weight == 0


def test_a_student_may_start_as_its_teacher(begun: Begun) -> None:
    """At the teacher's widths they are the same."""
    _, recipe, step = begun("pix2pix", "student", init="teacher", mi__weight=0.0)
    torch.testing.assert_close(step.output, step.teacher, rtol=1e-4, atol=1e-5)
    assert recipe.phases[-1].loss(step)[1]["train/l1"].item() < 1e-5


# ---- the evaluator -----------------------------------------------------------------------------------------


def test_the_evaluator_of_labelled_pixels_descends_the_cross_entropy_over_all_pixels(begun: Begun) -> None:
    _, recipe, step = begun("pix2pix", "evaluator")
    labels, network = step.batch.labels, recipe.networks["evaluator"]
    assert labels is not None
    logs = network(step.batch.target).prediction.log_softmax(1)
    expected = -logs.gather(1, labels.long()[:, None]).mean()
    loss, numbers = recipe.phases[0].loss(step)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert_all_close(numbers, {"train/evaluator_loss": loss})


def test_the_evaluator_of_plain_pictures_predicts_their_quarter_turns(begun: Begun) -> None:
    _, recipe, step = begun("cyclegan", "evaluator")
    network, turns = recipe.networks["evaluator"], turns_of(0, step.images, CPU).tolist()
    shown = torch.stack([torch.rot90(each, turn, (1, 2)) for each, turn in zip(step.batch.target, turns)])
    torch.testing.assert_close(step.output, network(shown).prediction)
    logs = step.output.log_softmax(1)
    expected = -sum(logs[row, turn] for row, turn in enumerate(turns)) / len(turns)
    torch.testing.assert_close(recipe.phases[0].loss(step)[0], expected)
    assert 0 <= recipe.evaluate(network)["val/accuracy"] <= 1


def test_turns_are_of_the_middle_square_and_as_likely_each() -> None:
    turns = turns_of(0, range(4000), CPU)
    assert torch.equal(turns, noise.integers(noise.image_keys(0, "turns", range(4000)), 4))
    assert torch.equal(turns_of(0, range(7, 9), CPU), turns[7:9])
    counts = torch.bincount(turns)
    assert counts.shape == (4,) and int((counts - 1000).abs().max()) < 5 * 27.4
    for height, width in ((4, 7), (7, 4)):
        picture = torch.arange(3.0 * height * width).view(1, 3, height, width)
        square = picture[:, :, :, 1:5] if width > height else picture[:, :, 1:5]
        for turn in range(4):
            found, expected = turn_squares(picture, torch.tensor([turn])), square
            for _ in range(turn):
                expected = expected.transpose(2, 3).flip(2)
            assert torch.equal(found, expected)
        both = turn_squares(picture.repeat(2, 1, 1, 1), torch.tensor([3, 1]))
        assert torch.equal(both[:1], found) and torch.equal(both[1:], square.transpose(2, 3).flip(2))


class Sure(torch.nn.Module):
    """Says of every picture that it was turned so often."""

    def __init__(self, turn: int):
        super().__init__()
        self.turn = turn

    def forward(self, pictures: Tensor) -> Any:
        class Output:
            prediction = F.one_hot(torch.full((len(pictures),), self.turn), 4).float()

        return Output()


def test_an_evaluators_accuracy_is_over_all_four_turns_of_every_picture(begun: Begun) -> None:
    _, recipe, _ = begun("cyclegan", "evaluator")
    assert [recipe.evaluate(Sure(turn))["val/accuracy"] for turn in range(4)] == [0.25] * 4
