"""The bound where the truth is known: quadrature and annealing against closed forms, the gap's gradient,
and trained energies."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from raydistill.method.langevin import langevin
from raydistill.method.truth.bounds import (
    Density,
    _corrected_step,
    _energy_and_gradient,
    controlled_bound,
    levels,
    log_q,
    log_q_bracket,
    log_weights,
    log_z,
    plain_bound,
    tuned_step_sizes,
)
from raydistill.method.truth.fit import Fit, PairEnergy, fit, sample
from raydistill.method.truth.pairs import Pairs, bimodal, draw_s, gaussian, grain, ring, texture
from raydistill.method.truth.temperature import configurational_temperature, slopes_and_curvatures
from raydistill.method.vem import energy_gap
from raydistill.seeds import torch_stream

ALL = [gaussian([0.3, 0.8]), bimodal(), ring(), grain(), texture()]
SHORT = Fit(num_updates=400)


def held_out(pairs: Pairs, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(t, s)"""
    generator = torch_stream(seed, "test-truth")
    s = draw_s(pairs, count, generator)
    return pairs.draw(s, generator), s


def exact(pairs: Pairs, shift: float = 0.0) -> Density:
    """q = p, so log Z = shift."""
    base = Density(lambda t, s: t.sum(1), pairs.marginal_std)
    return Density(lambda t, s: base.log_base(t) - pairs.log_conditional(t, s) - shift, pairs.marginal_std)


def springs(stiffness: Tensor, std: Tensor) -> tuple[Density, Callable[[Tensor], Tensor]]:
    """E = sum stiffness (t - s)^2 / 2 on the base N(0, std^2), and its log Z(s) in closed form."""
    variance = std**2 + 1 / stiffness

    def closed_form(s: Tensor) -> Tensor:
        return 0.5 * ((1 / stiffness / variance).log() - s**2 / variance).sum(1)

    return Density(lambda t, s: (stiffness * (t - s) ** 2).sum(1) / 2, std), closed_form


# ---- the pairs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlations", [[0.3], [0.9, 0.9], [0.1, 0.5, 0.95]])
def test_the_information_of_gaussian_pairs_is_the_closed_form(correlations: list[float]) -> None:
    expected = -0.5 * sum(math.log(1 - rho**2) for rho in correlations)
    assert gaussian(correlations).truth == pytest.approx(expected, rel=1e-10)
    t, s = held_out(gaussian(correlations), 50_000)
    both = torch.cat([t, s], 1).T.cov()
    dims = len(correlations)
    measured = 0.5 * (
        torch.logdet(both[:dims, :dims]) + torch.logdet(both[dims:, dims:]) - torch.logdet(both)
    )
    assert float(measured) == pytest.approx(expected, abs=5 * math.sqrt(dims / 50_000))


@pytest.mark.parametrize("pairs", ALL, ids=lambda pairs: pairs.name)
def test_the_conditional_entropy_and_the_best_factorised_gaussian_are_those_of_the_draws(
    pairs: Pairs,
) -> None:
    t, s = held_out(pairs, 50_000)
    values = -pairs.log_conditional(t, s)
    assert abs(float(values.mean()) - pairs.conditional_entropy) < 5 * float(values.std()) / math.sqrt(len(t))
    assert t.std(0) / pairs.marginal_std == pytest.approx(torch.ones(pairs.dims), abs=0.02)
    if not pairs.name.startswith("rho"):  # there E[t|s] = s
        normal = torch.distributions.Normal(s, pairs.residual_variance.sqrt())
        log_vid = normal.log_prob(t).sum(1)
        expected = pairs.entropy + float(log_vid.mean())
        assert abs(expected - pairs.vid_best) < 5 * float(log_vid.std()) / math.sqrt(len(t))


@pytest.mark.parametrize("pairs", [gaussian([0.5]), bimodal(), ring()], ids=lambda pairs: pairs.name)
def test_the_entropy_is_that_of_the_marginal_as_a_mixture_over_s(pairs: Pairs) -> None:
    t, many_s = held_out(pairs, 1000)[0], held_out(pairs, 8000, seed=1)[1]
    rows = [torch.logsumexp(pairs.log_conditional(row.expand(len(many_s), -1), many_s), 0) for row in t]
    values = math.log(len(many_s)) - torch.stack(rows)
    assert abs(float(values.mean()) - pairs.entropy) < 5 * float(values.std()) / math.sqrt(len(t))


@pytest.mark.parametrize("pairs", [bimodal(), ring()], ids=lambda pairs: pairs.name)
def test_a_conditional_density_sums_to_one_on_the_grid(pairs: Pairs) -> None:
    s = held_out(pairs, 4)[1]
    assert log_z(exact(pairs, 0.7), s) == pytest.approx(torch.full((4,), 0.7), abs=1e-6)


@pytest.mark.parametrize("pairs", ALL, ids=lambda pairs: pairs.name)
def test_no_factorised_gaussian_reaches_more_than_the_truth(pairs: Pairs) -> None:
    assert pairs.vid_best <= pairs.truth + 1e-9
    if not pairs.name.startswith("rho"):
        assert pairs.vid_best < 0.8 * pairs.truth


# ---- log Z -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stiffness", "std"), [([2.0], [1.0]), ([0.5, 8.0], [1.5, 0.7])])
def test_the_grid_gives_the_closed_form_of_a_quadratic(stiffness: list[float], std: list[float]) -> None:
    density, closed_form = springs(
        torch.tensor(stiffness, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    )
    s = torch.randn(6, len(std), generator=torch_stream(0, "test-truth"), dtype=torch.float64)
    assert log_z(density, s) == pytest.approx(closed_form(s), rel=1e-9)


def test_the_bracket_holds_the_known_log_z_and_closes_with_more_levels() -> None:
    stiffness, std = (
        torch.tensor([1.0, 4.0, 9.0, 0.2, 2.0]).double(),
        torch.tensor([1.0, 1.0, 1.0, 2.0, 0.5]).double(),
    )
    density, closed_form = springs(stiffness, std)
    generator = torch_stream(0, "test-truth")
    s = torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    variance = 1 / (1 / std**2 + stiffness)
    t = variance * stiffness * s + variance.sqrt() * torch.randn(
        2000, 5, generator=generator, dtype=torch.float64
    )
    truth = density.log_unnormalised(t, s) - closed_form(s)
    gaps = {}
    for num_levels in (3, 200):
        bracket = log_q_bracket(density, t, s, num_levels=num_levels, num_chains=1, generator=generator)
        for below in (truth - bracket.lower, bracket.upper - truth):
            assert float(below.mean()) > -4 * float(below.std()) / math.sqrt(2000)
        gaps[num_levels] = float((bracket.upper - bracket.lower).mean())
    assert gaps[200] < min(0.3, gaps[3] / 10)


def test_forward_weights_average_to_z_itself_even_with_few_levels() -> None:
    density, closed_form = springs(torch.tensor([3.0]).double(), torch.ones(1).double())
    s, generator, betas = torch.full((100_000, 1), 0.5).double(), torch_stream(0, "test-truth"), levels(4)
    steps = tuned_step_sizes(density, s[:1000], betas, generator)
    ratios = (
        log_weights(density, density.draw_base(len(s), generator), s, betas, steps, generator)
        - closed_form(s)
    ).exp()
    assert abs(float(ratios.mean()) - 1) < 5 * float(ratios.std()) / math.sqrt(len(s))


def test_a_corrected_step_leaves_its_density_alone_where_a_plain_one_does_not() -> None:
    density, generator = (
        Density(lambda t, s: 2 * (t**2).sum(1), torch.ones(1).double()),
        torch_stream(0, "test-truth"),
    )
    beta, step_size, count = 0.5, 0.3, 100_000
    variance = 1 / (1 + beta * 4)
    t = math.sqrt(variance) * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    plain_chain = langevin(
        lambda x: beta * density.energy(x, x) - density.log_base(x),
        t,
        num_steps=20,
        step_size=step_size,
        noise_std=math.sqrt(2 * step_size),
        normal=lambda: torch.randn(t.shape, generator=generator, dtype=torch.float64),
    ).samples
    energy, gradient = _energy_and_gradient(density, t, t)
    for _ in range(20):
        t, energy, gradient = _corrected_step(density, t, t, energy, gradient, beta, step_size, generator)
    error = variance * math.sqrt(2 / count)
    assert abs(float(t.var()) - variance) < 5 * error
    assert float(plain_chain.var()) - variance > 50 * error


# ---- the bound ---------------------------------------------------------------------------------------------


def test_the_gaps_gradient_at_stationarity_is_minus_that_of_log_q_by_quadrature() -> None:
    theta = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    density = Density(lambda t, s: theta * ((t**4).sum(1) / 2 - (t * s).sum(1)), torch.ones(1).double())
    generator = torch_stream(0, "test-truth")
    s, grid = torch.full((20_000, 1), 0.7).double(), torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None]
    t = s + 0.3
    log_normaliser = torch.logsumexp(density.log_unnormalised(grid, s[:1].expand(2001, 1)), 0)
    (expected,) = torch.autograd.grad(-(density.log_unnormalised(t, s).mean() - log_normaliser), theta)
    negatives = sample(density, density.draw_base(len(s), generator), s, 800, 0.005, generator)
    (got,) = torch.autograd.grad(energy_gap(density.energy(t, s), density.energy(negatives, s)), theta)
    slopes = (density.energy(negatives, s) / theta).detach()
    assert abs(float(got - expected)) < 5 * float(slopes.std()) / math.sqrt(len(s)) + 0.005
    assert abs(float(expected)) > 0.1


@pytest.mark.parametrize("pairs", ALL, ids=lambda pairs: pairs.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_untrained_energys_bound_is_below_the_truth_and_its_ends_are_in_order(
    pairs: Pairs, seed: int
) -> None:
    generator = torch_stream(seed, "test-truth-energy")
    density = Density(PairEnergy(pairs.dims, 8, generator).requires_grad_(False), pairs.marginal_std)
    t, s = held_out(pairs, 400)
    bracket = log_q_bracket(density, t, s, num_levels=60, num_chains=2, generator=generator)
    lower, gap = plain_bound(pairs, bracket.lower), bracket.upper - bracket.lower
    assert lower.value <= pairs.truth + 4 * lower.error
    assert float(gap.mean()) > -4 * float(gap.std()) / math.sqrt(len(t))


@pytest.mark.parametrize("pairs", ALL, ids=lambda pairs: pairs.name)
def test_the_energy_that_is_log_p_has_the_truth_within_its_bracket(pairs: Pairs) -> None:
    t, s = held_out(pairs, 200)
    bracket = log_q_bracket(
        exact(pairs), t, s, num_levels=150, num_chains=2, generator=torch_stream(0, "test-truth-chains")
    )
    lower = controlled_bound(pairs, bracket.lower, t, s, normalised=True)
    upper = controlled_bound(pairs, bracket.upper, t, s, normalised=False)
    assert lower.value <= pairs.truth <= upper.value + 4 * upper.error
    assert lower.value > 0.96 * pairs.truth and upper.value < 1.04 * pairs.truth + 4 * upper.error


def test_control_variates_change_the_error_and_not_the_expectation() -> None:
    pairs = gaussian([0.6])
    t, s = held_out(pairs, 20_000)
    tilted = Density(lambda t, s: exact(pairs).energy(t, s) + 0.2 * t[:, 0] ** 2, pairs.marginal_std)
    normaliser = log_z(tilted, s[:200])
    values = tilted.log_unnormalised(t[:200], s[:200]) - normaliser
    bare, better = (
        plain_bound(pairs, values),
        controlled_bound(pairs, values, t[:200], s[:200], normalised=True),
    )
    assert abs(bare.value - better.value) < 4 * bare.error and better.error < bare.error / 3
    assert better.value < pairs.truth


class Errors(NamedTuple):
    """As shares of the truth."""

    below: float
    """The bound's lower end; on the grid where there is one."""
    upper: float
    """The bound's upper end by annealing."""
    upper_error: float


def errors_of(pairs: Pairs, config: Fit) -> Errors:
    density, (t, s) = fit(pairs, config), held_out(pairs, 512)
    bracket = log_q_bracket(
        density, t, s, num_levels=400, num_chains=4, generator=torch_stream(0, "test-truth-chains")
    )
    values = log_q(density, t, s) if pairs.dims <= 2 else bracket.lower
    below = controlled_bound(pairs, values, t, s, normalised=True)
    upper = controlled_bound(pairs, bracket.upper, t, s, normalised=False)
    return Errors(below.value / pairs.truth - 1, upper.value / pairs.truth - 1, upper.error / pairs.truth)


def test_a_trained_energys_bound_is_within_2_percent_of_the_information_of_a_gaussian_pair() -> None:
    below, upper, upper_error = errors_of(gaussian([0.8]), SHORT)
    assert -0.02 < below <= 0.001 and upper > -3 * upper_error


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.3, 0.9])
@pytest.mark.parametrize("dims", range(1, 9))
def test_in_one_to_eight_dimensions_the_bound_is_within_2_percent_and_its_upper_end_not_below_the_truth(
    dims: int, rho: float
) -> None:
    below, upper, upper_error = errors_of(gaussian([rho] * dims), Fit())
    assert -0.02 < below <= 0.001 and -3 * upper_error < upper < 0.02 + 3 * upper_error


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [bimodal(), ring(), texture()], ids=lambda pairs: pairs.name)
def test_on_pairs_that_are_not_gaussian_the_energy_gets_most_of_what_the_factorised_gaussian_misses(
    pairs: Pairs,
) -> None:
    below = errors_of(pairs, Fit(hidden=32)).below
    missed, left = pairs.truth - pairs.vid_best, -below * pairs.truth
    assert 0 <= left < missed / 3


# ---- the temperature ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_measured_temperature_of_a_quadratic_is_the_closed_form(rate: float) -> None:
    step_size, noise_std, generator = 20.0, 0.005, torch_stream(0, "test-truth")
    stiffness = rate / step_size

    def energy(t: Tensor) -> Tensor:
        return stiffness / 2 * t.square().flatten(1).sum(1)

    start = torch.zeros(64, 3, 8, 8, dtype=torch.float64)
    normal = lambda: torch.randn(start.shape, generator=generator, dtype=torch.float64)  # noqa: E731
    samples = langevin(
        energy, start, num_steps=100, step_size=step_size, noise_std=noise_std, normal=normal
    ).samples
    signs = 2.0 * torch.randint(0, 2, start.shape, generator=generator) - 1
    squares, laplacians = slopes_and_curvatures(energy, samples, width=noise_std, signs=signs.double())
    assert laplacians == pytest.approx(torch.full((64,), stiffness * 192, dtype=torch.float64), rel=1e-9)
    measured = configurational_temperature(squares, laplacians)
    assert abs(measured.value - noise_std**2 / (step_size * (2 - rate))) < 4 * measured.error
    assert measured.error < 0.02 * measured.value


def test_the_curvature_of_a_kink_is_seen_within_its_width_only() -> None:
    layer = nn.LeakyReLU(0.0)
    t, signs = torch.tensor([[0.001], [0.3], [-0.3]]), torch.ones(3, 1)
    squares, laplacians = slopes_and_curvatures(lambda x: layer(x).sum(1), t, width=0.01, signs=signs)
    assert laplacians == pytest.approx(torch.tensor([50.0, 0.0, 0.0])) and squares == pytest.approx(
        torch.tensor([1.0, 1.0, 0.0])
    )
