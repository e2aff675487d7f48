"""The mutual-information term: Langevin against closed forms, the gap's gradient against log q, signs and
shares."""

import copy
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raydistill.config.architectures import EnergyNetwork
from raydistill.config.terms import MutualInformation
from raydistill.method.langevin import Chains, langevin, temperature
from raydistill.method.vem import (
    alignment,
    displacement,
    draw_negatives,
    ebm_loss,
    energy_gap,
    is_within,
    pair_energies,
    student_mi_loss,
)
from raydistill.models.energy import EnergyModel


class Formula(nn.Module):
    """An energy given by a formula of (t, s) and one parameter."""

    def __init__(self, formula: Callable[[Tensor, Tensor, Tensor], Tensor]):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.formula = formula

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        """t may have n * B pictures, as an energy takes them."""
        return self.formula(t, torch.cat([s] * (len(t) // len(s))), self.theta).flatten(1).sum(1)

    def gradient(self, s: Tensor) -> Callable[[Tensor], Tensor]:
        def gradient(t: Tensor) -> Tensor:
            t = t.detach().requires_grad_(True)
            return torch.autograd.grad(self(t, s).sum(), t)[0]

        return gradient

    def gap_and_gradient(self, t: Tensor, negatives: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        s = s.detach().requires_grad_(True)
        gap = self(t, s).mean() - self(negatives, s).mean()
        return gap.detach(), torch.autograd.grad(gap, s)[0]


def spring(t: Tensor, s: Tensor, theta: Tensor) -> Tensor:
    """E = ||t - s||^2 / 2: lower where student and teacher agree."""
    return theta * (t - s) ** 2 / 2


def noise(seed: int, *shape: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def small_energy() -> EnergyModel:
    torch.manual_seed(0)
    energy = EnergyModel(EnergyNetwork(channels=4), 16, 16).eval()
    for block in energy.blocks:  # as after some training: the branches take part
        nn.init.normal_(block.second.weight, 0.0, 0.1)
    return energy


@pytest.fixture
def pictures() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """t, s and negatives, (4, 3, 16, 16)."""
    t, s, negatives = torch.rand(3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    yield t, s, negatives


# ---- Langevin ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step_size", "curvature"), [(0.5, 1.0), (1.5, 1.0), (0.02, 10.0)])
def test_the_stationary_variance_on_a_quadratic_is_the_closed_form_within_5_standard_errors(
    step_size: float, curvature: float
) -> None:
    num_chains, noise_std = 200_000, 0.3
    rate = step_size * curvature
    num_steps = math.ceil(math.log(1e-6) / (2 * math.log(abs(1 - rate))))
    chains = langevin(
        lambda t: curvature / 2 * t.square().sum(1),
        torch.zeros(num_chains, 1),
        num_steps=num_steps,
        step_size=step_size,
        noise_std=noise_std,
        normal=noise(0, num_chains, 1),
    )
    expected = noise_std**2 / (rate * (2 - rate))
    values = chains.samples.double()
    assert abs(float(values.var()) - expected) < 5 * expected * math.sqrt(2 / num_chains)
    assert abs(float(values.mean())) < 5 * math.sqrt(expected / num_chains)


def test_the_temperature_is_the_variance_times_the_curvature_for_small_steps() -> None:
    step_size, noise_std, curvature = 1e-4, 0.02, 3.0
    variance = noise_std**2 / (step_size * curvature * (2 - step_size * curvature))
    assert temperature(step_size, noise_std) == pytest.approx(2.0)
    assert variance * curvature == pytest.approx(temperature(step_size, noise_std), rel=2e-4)


def test_a_chain_does_not_depend_on_the_other_chains() -> None:
    start, draws = torch.randn(6, 5), [torch.randn(6, 5) for _ in range(8)]

    def run(rows: slice) -> Tensor:
        left = iter(draws)
        options = {"num_steps": 8, "step_size": 0.1, "noise_std": 0.2, "normal": lambda: next(left)[rows]}
        return langevin(lambda t: (t**4 / 4 + t.roll(1, 1) * t).sum(1), start[rows], **options).samples

    torch.testing.assert_close(run(slice(2, 3)), run(slice(0, 6))[2:3], rtol=1e-6, atol=1e-7)


def test_without_noise_a_chain_is_gradient_descent_and_ends_with_the_gradient_of_its_last_step() -> None:
    start = torch.tensor([[2.0, -1.0], [0.5, 4.0]])
    chains = langevin(
        lambda t: t.square().sum(1), start, num_steps=3, step_size=0.25, noise_std=0.0, normal=noise(0, 2, 2)
    )
    torch.testing.assert_close(chains.samples, start * 0.5**3)
    torch.testing.assert_close(chains.gradient, 2 * start * 0.5**2)


def test_the_sampler_leaves_its_start_alone_and_returns_no_graph() -> None:
    start = torch.ones(2, 3, requires_grad=True)
    chains = langevin(
        lambda t: t.square().sum(1), start, num_steps=2, step_size=0.1, noise_std=0.1, normal=noise(0, 2, 3)
    )
    assert torch.equal(start, torch.ones(2, 3)) and start.grad is None
    assert not chains.samples.requires_grad and not chains.gradient.requires_grad


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_a_start_with_a_graph_is_cut_off_and_a_start_without_one_gets_none(num_steps: int) -> None:
    def run(start: Tensor) -> Chains:
        options = {"num_steps": num_steps, "step_size": 0.1, "noise_std": 0.0, "normal": noise(0, 2, 3)}
        return langevin(lambda t: t.square().sum(1), start, **options)

    start = torch.ones(2, 3)
    for given in (start, 2 * torch.ones(2, 3, requires_grad=True)):
        chains = run(given)
        assert not chains.samples.requires_grad and not chains.gradient.requires_grad
    assert not start.requires_grad and torch.equal(start, torch.ones(2, 3))
    assert num_steps or not chains.gradient.any()


def test_the_noise_of_a_step_is_added_after_it_times_its_deviation() -> None:
    draws = torch.randn(2, 4, 3)
    left = iter(draws)
    chains = langevin(
        lambda t: t.sum(1),
        torch.zeros(4, 3),
        num_steps=2,
        step_size=0.25,
        noise_std=0.5,
        normal=lambda: next(left),
    )
    torch.testing.assert_close(chains.samples, -2 * 0.25 + 0.5 * draws.sum(0))


def test_small_steps_without_noise_descend_the_energy_network(
    pictures: tuple[Tensor, Tensor, Tensor],
) -> None:
    energy, (_, s, _) = small_energy(), pictures
    energies = [energy(s, s).detach()]
    for num_steps in (1, 5, 25):
        options = {"num_steps": num_steps, "step_size": 0.5, "noise_std": 0.0, "normal": noise(0, *s.shape)}
        energies.append(energy(langevin(lambda t: energy(t, s), s, **options).samples, s).detach())
    for before, after in pairwise(energies):
        assert bool((after < before).all())


# ---- losses ------------------------------------------------------------------------------------------------


def test_the_losses_have_the_values_worked_out_by_hand() -> None:
    positive, negative = torch.tensor([1.0, 2.0]), torch.tensor([0.0, -3.0])
    assert float(energy_gap(positive, negative)) == pytest.approx(1.5 + 1.5)
    assert float(ebm_loss(positive, negative, 0.0)) == pytest.approx(3.0)
    assert float(ebm_loss(positive, negative, 0.05)) == pytest.approx(3.0 + 0.05 * ((1 + 0) + (4 + 9)) / 2)


def test_the_energies_of_pairs_are_those_of_two_forwards(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    energy, (t, s, negatives) = small_energy(), pictures
    positive, negative = pair_energies(energy, t, negatives, s)
    torch.testing.assert_close(positive, energy(t, s), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(negative, energy(negatives, s), rtol=1e-5, atol=1e-6)


def test_no_gradient_of_the_energies_reaches_the_pictures_that_the_student_did_not_make(
    pictures: tuple[Tensor, Tensor, Tensor],
) -> None:
    t, s, negatives = (picture.requires_grad_(True) for picture in pictures)
    total = sum(part.sum() for part in pair_energies(small_energy(), t, negatives, s))
    to_t, to_negatives, to_s = torch.autograd.grad(total, (t, negatives, s), allow_unused=True)
    assert to_t is None and to_negatives is None and float(to_s.norm()) > 0


def test_energies_are_within_up_to_the_limit_on_both_sides() -> None:
    for value, expected in ((1e4, True), (-1e4, True), (1.0001e4, False), (-1.0001e4, False)):
        assert bool(is_within(torch.tensor([0.0, value]))) is expected
    for value in (math.nan, math.inf, -math.inf):
        assert not is_within(torch.tensor([value, 0.0]))


LOG_2 = torch.full((7, 1), math.log(2.0), dtype=torch.float64)
OUTCOMES = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
EXACT_NEGATIVES = torch.tensor([[1.0]] * 4 + [[2.0]] * 2 + [[3.0]], dtype=torch.float64)
"""E(t, s) = theta t s with theta = 1 and s = log 2 gives q = 4/7, 2/7, 1/7: these seven are its exact
expectation."""


@pytest.mark.parametrize("outcome", [1.0, 2.0, 3.0])
def test_the_gaps_gradient_with_an_exact_expectation_is_minus_that_of_log_q_in_both_energy_and_student(
    outcome: float,
) -> None:
    energy, t = Formula(lambda t, s, theta: theta * t * s), torch.full((7, 1), outcome, dtype=torch.float64)
    s = LOG_2.clone().requires_grad_(True)
    log_q = -energy(t[:1], s[:1]) - torch.logsumexp(-energy(OUTCOMES, s[:1].expand(3, 1)), 0)
    expected_theta, expected_s = torch.autograd.grad(-log_q.sum(), (energy.theta, s))
    gap = energy_gap(*pair_energies(energy, t, EXACT_NEGATIVES, s))  # type: ignore[arg-type]
    got_theta, got_s = torch.autograd.grad(gap, (energy.theta, s))
    torch.testing.assert_close(got_theta, expected_theta, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got_s.sum(), expected_s.sum(), rtol=1e-12, atol=1e-12)


def test_the_students_gradient_flows_through_s_alone_and_leaves_nothing_in_the_energy(
    pictures: tuple[Tensor, Tensor, Tensor],
) -> None:
    energy, (t, s, negatives) = small_energy(), pictures
    student = nn.Conv2d(3, 3, 1)
    t, negatives = t.requires_grad_(True), negatives.requires_grad_(True)
    term = student_mi_loss(energy, t, negatives, student(s))
    gradients = torch.autograd.grad(term, list(student.parameters()), retain_graph=True)
    assert all(float(gradient.norm()) > 0 for gradient in gradients)
    assert all(parameter.grad is None for parameter in energy.parameters())
    assert torch.autograd.grad(term, (t, negatives), allow_unused=True) == (None, None)


def test_the_students_gradient_is_that_of_the_gap_and_not_a_share_of_it(
    pictures: tuple[Tensor, Tensor, Tensor],
) -> None:
    energy, (t, s, negatives) = small_energy(), pictures
    s = s.requires_grad_(True)
    gap = energy(t, s).mean() - energy(negatives, s).mean()
    (expected,) = torch.autograd.grad(gap, s)
    (found,) = torch.autograd.grad(student_mi_loss(energy, t, negatives, s), s)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)
    assert float(expected.abs().max()) > 1e-6


def test_the_students_term_is_the_gap_without_the_l2_term_and_moves_no_power_iteration(
    pictures: tuple[Tensor, Tensor, Tensor],
) -> None:
    energy, (t, s, negatives) = small_energy(), pictures
    gap = energy(t, s).mean() - energy(negatives, s).mean()
    energy.train()
    before = [value.clone() for value in energy.buffers()]
    torch.testing.assert_close(student_mi_loss(energy, t, negatives, s), gap, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, old) for value, old in zip(energy.buffers(), before, strict=True))


# ---- negatives ---------------------------------------------------------------------------------------------


def test_negatives_are_clamped_once_at_the_end_and_the_clamped_share_is_right() -> None:
    s, config = torch.rand(4, 3, 8, 8) * 2 - 1, MutualInformation(num_steps=5, step_size=1.0, noise_std=0.4)
    draws = [torch.randn(s.shape) for _ in range(5)]
    left = iter(draws)
    flat = Formula(lambda t, s, theta: 0 * theta * t)
    negatives = draw_negatives(flat, s, config, lambda: next(left))  # type: ignore[arg-type]
    raw = s + 0.4 * sum(draws)
    torch.testing.assert_close(negatives.samples, raw.clamp(-1, 1), rtol=1e-6, atol=1e-6)
    assert float(negatives.clamped) == pytest.approx(float((raw.abs() > 1).float().mean()))
    assert 0.1 < float(negatives.clamped) < 0.9 and float(negatives.grad_norm) == 0


def test_negatives_come_from_the_student_along_the_energys_gradient() -> None:
    s, config = torch.rand(4, 3, 8, 8) - 0.5, MutualInformation(num_steps=1, step_size=0.5, noise_std=0.0)
    linear = Formula(lambda t, s, theta: theta * t * 0.2)
    negatives = draw_negatives(linear, s.requires_grad_(True), config, noise(0, *s.shape))  # type: ignore[arg-type]
    torch.testing.assert_close(negatives.samples, (s - 0.1).detach())
    assert float(negatives.grad_norm) == pytest.approx(0.2 * math.sqrt(3 * 8 * 8))
    assert not negatives.samples.requires_grad and s.grad is None and linear.theta.grad is None


def test_drawing_negatives_moves_no_power_iteration(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    energy, (_, s, _) = small_energy().train(), pictures
    before = [value.clone() for value in energy.buffers()]
    draw_negatives(energy, s, MutualInformation(num_steps=2), noise(0, *s.shape))
    assert all(torch.equal(value, old) for value, old in zip(energy.buffers(), before, strict=True))


# ---- what is logged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 1.0), (-1.0, -1.0)])
def test_the_alignment_is_plus_one_where_the_term_pulls_the_student_to_the_teacher(
    pictures: tuple[Tensor, Tensor, Tensor], sign: float, expected: float
) -> None:
    (t, s, _), energy = pictures, Formula(lambda t, s, theta: sign * spring(t, s, theta))
    s = s.requires_grad_(True)
    term = student_mi_loss(energy, t, s.detach(), s)  # type: ignore[arg-type]
    assert float(alignment(term, s, t)) == pytest.approx(expected, abs=1e-6)
    nearer = s - torch.autograd.grad(term, s)[0]
    assert float((t - nearer).detach().norm() - (t - s).detach().norm()) * expected < 0


def test_the_alignment_is_zero_for_a_gradient_at_right_angles() -> None:
    s, t = torch.zeros(1, 2, requires_grad=True), torch.tensor([[1.0, 0.0]])
    assert float(alignment(s[0, 1] * 3, s, t)) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("share", [0.0, 0.25, 2.0])
def test_the_displacement_is_measured_in_distances_between_student_and_teacher(
    pictures: tuple[Tensor, Tensor, Tensor], share: float
) -> None:
    t, s, _ = pictures
    assert float(displacement(s + share * (t - s), s, t)) == pytest.approx(share, rel=1e-5, abs=1e-7)


def test_the_displacement_of_a_student_that_equals_its_teacher_is_a_number(
    pictures: tuple[Tensor, Tensor, Tensor],
) -> None:
    t, s, _ = pictures
    t[0] = s[0]
    assert displacement(s, s, t).item() == 0
    assert float(displacement(t, s, t)) == pytest.approx(0.75, rel=1e-5)


def test_the_alignment_is_a_mean_over_the_pictures_and_keeps_the_graph() -> None:
    """Gradients along t - s, against it and at 60 degrees to it: cosines -1, 1 and -1/2."""
    s = torch.zeros(3, 2, requires_grad=True)
    t = torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    pull = torch.tensor([[2.0, 0.0], [-5.0, 0.0], [0.5, 0.75**0.5]])
    term = (s * pull).sum()
    assert float(alignment(term, s, t)) == pytest.approx((-1 + 1 - 0.5) / 3, abs=1e-6)
    assert not alignment(term, s, t).requires_grad
    term.backward()


# ---- gradients by hand -------------------------------------------------------------------------------------

SHAPES = [(16, 16, 1), (16, 16, 4), (33, 21, 3), (8, 40, 2), (4, 4, 2)]
"""Heights, widths and channels: odd sizes, one block, and a third one, whose width stays."""


def twins(height: int, width: int, channels: int) -> tuple[EnergyModel, Tensor, Tensor, Tensor]:
    """An energy in float64 whose branches take part, and t, negatives and s (3, 3, H, W)."""
    torch.manual_seed(0)
    energy = EnergyModel(EnergyNetwork(channels=channels), height, width).double()
    for block in energy.blocks:
        nn.init.normal_(block.second.weight, 0.0, 0.3)
        nn.init.normal_(block.first.bias, 0.0, 0.3)
        nn.init.normal_(block.second.bias, 0.0, 0.3)
    t, negatives, s = torch.randn(3, 3, 3, height, width, dtype=torch.float64)
    return energy, t, negatives, s


@pytest.mark.parametrize(("height", "width", "channels"), SHAPES)
def test_the_gradients_by_hand_are_those_of_autograd(height: int, width: int, channels: int) -> None:
    """In t along a chain, and in s with the gap; in float64."""
    energy, t, negatives, s = twins(height, width, channels)
    of_t, (gap, of_s) = energy.gradient(s), energy.gap_and_gradient(t, negatives, s)
    energy.eval()
    for picture in (t, negatives, s):
        here = picture.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(energy(here, s).sum(), here)
        assert float((of_t(picture) - expected).abs().max()) < 1e-12 * float(expected.abs().max())
    here = s.clone().requires_grad_(True)
    expected_gap = energy(t, here).mean() - energy(negatives, here).mean()
    (expected,) = torch.autograd.grad(expected_gap, here)
    assert float((of_s - expected).abs().max()) < 1e-12 * float(expected.abs().max())
    scale = float(energy(t, s).detach().abs().max())
    assert abs(float(gap) - float(expected_gap.detach())) < 1e-12 * scale
    assert not gap.requires_grad and not of_s.requires_grad and not of_t(t).requires_grad


def count_kernels(energy: EnergyModel, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A list that grows by the mode of the energy whenever it computes its kernels."""
    computed: list[bool] = []
    original = energy._kernels

    def counted() -> Any:
        computed.append(energy.training)
        return original()

    monkeypatch.setattr(energy, "_kernels", counted)
    return computed


def test_chains_and_the_students_step_share_kernels_until_something_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An optimizer's step, a power iteration, loaded weights."""
    energy, t, negatives, s = twins(8, 8, 2)
    optimizer = torch.optim.Adam(energy.parameters(), lr=0.1, fused=True)
    computed = count_kernels(energy, monkeypatch)

    def used() -> Tensor:
        """Uses them twice."""
        first, _ = energy.gap_and_gradient(t, negatives, s)
        energy.gradient(s)(t)
        return first

    def step() -> None:
        energy(t, s).sum().backward()
        optimizer.step()

    def move_u() -> None:
        with torch.no_grad():
            energy.train()(t, s)

    def load() -> None:
        energy.load_state_dict({name: 0.5 * value for name, value in energy.state_dict().items()})

    before = used()
    assert computed == [False] and energy.training, "once, in eval mode, and the mode is as it was"
    assert torch.equal(used(), before) and computed == [False]
    for move in (step, move_u, load):
        move()
        computed.clear()
        now = used()
        assert computed == [False], move.__name__
        energy.eval()
        expected = energy(t, s).mean() - energy(negatives, s).mean()
        energy.train()
        torch.testing.assert_close(now, expected.detach(), rtol=1e-10, atol=1e-12)
        assert not torch.equal(now, before), move.__name__
        before = now


def test_the_gradients_by_hand_move_no_power_iteration_and_give_the_energy_no_gradient() -> None:
    energy, t, negatives, s = twins(8, 8, 2)
    before = [value.clone() for value in energy.state_dict().values()]
    energy.gradient(s)(t)
    energy.gap_and_gradient(t, negatives, s)
    assert all(torch.equal(a, b) for a, b in zip(energy.state_dict().values(), before, strict=True))
    assert all(parameter.grad is None for parameter in energy.parameters())


def test_a_copy_of_an_energy_has_kernels_of_its_own() -> None:
    energy, t, negatives, s = twins(8, 8, 2)
    gap, _ = energy.gap_and_gradient(t, negatives, s)
    other = copy.deepcopy(energy)
    assert torch.equal(other.gap_and_gradient(t, negatives, s)[0], gap)
    with torch.no_grad():
        other.head.weight.neg_()
    assert float(other.gap_and_gradient(t, negatives, s)[0]) == pytest.approx(-float(gap), rel=1e-10)
    assert torch.equal(energy.gap_and_gradient(t, negatives, s)[0], gap)
