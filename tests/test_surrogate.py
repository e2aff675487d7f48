"""The Gaussian process against dense algebra, and expected improvement against brute-force integration."""

import functools
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import lognorm, multivariate_normal, norm

from raydistill.records.pareto import hypervolume
from raydistill.search import acquisition, surrogate
from raydistill.search.acquisition import expected_below, hypervolume_improvement
from raydistill.search.surrogate import GaussianProcess, Inputs


def inputs(count: int, numbers: int = 2, categories: int = 1, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    return Inputs(rng.random((count, numbers)), rng.integers(3, size=(count, categories)))


def values_at(points: Inputs) -> np.ndarray:
    return np.sin(3 * points.numbers[:, 0]) + points.numbers[:, 1] ** 2 + 0.5 * points.categories[:, 0]


# ---- Gaussian process --------------------------------------------------------------------------------------


BY_VALUE = ((), (1,), (0, 2), (0, 1, 2))
"""Which columns have effects of single values; of the two numbers and one category of `inputs`."""


@pytest.mark.parametrize("by_value", BY_VALUE)
def test_mean_and_deviation_are_those_of_conditioning_the_joint_normal(by_value: tuple[int, ...]) -> None:
    known, asked = inputs(12), inputs(5, seed=1)
    values = values_at(known)
    process = GaussianProcess(known, values, by_value)
    both = known + asked
    pairs = [
        [surrogate._kernel(both.rows([i]), both.rows([j]), process.theta, by_value).item() for j in range(17)]
        for i in range(17)
    ]
    np.testing.assert_allclose(np.diag(pairs), 1.0)
    correlation = np.array(pairs)
    k, cross, rest = correlation[:12, :12], correlation[:12, 12:], correlation[12:, 12:]
    k = k + (math.exp(process.theta[-1]) + surrogate._JITTER) * np.eye(12)
    standard = (values - values.mean()) / values.std()
    ones = np.ones(12)
    level = ones @ np.linalg.solve(k, standard) / (ones @ np.linalg.solve(k, ones))
    mean = values.mean() + values.std() * (level + cross.T @ np.linalg.solve(k, standard - level))
    variance = process.variance * values.var() * np.diag(rest - cross.T @ np.linalg.solve(k, cross))
    got_mean, got_deviation = process.predict(asked)
    np.testing.assert_allclose(got_mean, mean, rtol=1e-7)
    np.testing.assert_allclose(got_deviation, np.sqrt(variance), rtol=1e-5)


def test_the_evidence_is_the_log_density_of_the_values() -> None:
    """Up to a number that depends on how many they are: with the prior of the variance, at its mode."""
    known, beyond = inputs(12), []
    for values in (values_at(known), 40 * np.random.default_rng(1).normal(size=12) + 7):
        process = GaussianProcess(known, values)
        correlation = surrogate._noisy(surrogate._kernel(known, known, process.theta), process.theta)
        level = process.offset + process.scale * process.mean
        density = multivariate_normal(np.full(12, level), process.variance * process.scale**2 * correlation)
        prior = -0.5 * surrogate._VARIANCE_PRIOR * (math.log(process.variance) + 1 / process.variance)
        beyond.append(process.evidence - float(density.logpdf(values)) - prior)
        scaled = GaussianProcess(known, 5 * values + 3)
        assert scaled.evidence == pytest.approx(process.evidence - 12 * math.log(5), abs=1e-6)
    assert beyond[0] == pytest.approx(beyond[1], abs=1e-8)


@pytest.mark.parametrize("by_value", [(), (0, 2, 3, 4)])
def test_the_gradient_of_the_fit_is_that_of_finite_differences(
    by_value: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = {}

    def keep(loss, start, **given):  # type: ignore[no-untyped-def]
        captured["loss"] = loss
        raise StopIteration

    monkeypatch.setattr(surrogate, "minimize", keep)
    with pytest.raises(StopIteration):
        GaussianProcess(inputs(15, 3, 2), np.random.default_rng(0).normal(size=15), by_value)
    theta = np.array([-0.5, 0.3, 1.0, 0.2, -1.0, -3.0])
    gradient = captured["loss"](theta)[1]
    for axis in range(len(theta)):
        step = 1e-6 * np.eye(len(theta))[axis]
        numeric = (captured["loss"](theta + step)[0] - captured["loss"](theta - step)[0]) / 2e-6
        assert gradient[axis] == pytest.approx(numeric, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("columns", [(2,), (0, 2), (1, 0, 2)])
def test_effects_of_values_are_of_one_column_and_of_two(columns: tuple[int, ...]) -> None:
    """Against loops over points, columns and pairs of columns."""

    def alike(a: int, b: int, column: int) -> float:
        if column == 2:
            return float(left.categories[a, 0] == right.categories[b, 0])
        apart = math.sqrt(5) * abs(left.numbers[a, column] - right.numbers[b, column]) / 0.15
        return (1 + apart + apart**2 / 3) * math.exp(-apart)

    def expected(a: int, b: int) -> float:
        single = [alike(a, b, column) for column in columns]
        both = [alike(a, b, one) * alike(a, b, other) for one, other in itertools.combinations(columns, 2)]
        return np.mean([np.mean(single), np.mean(both)]) if both else single[0]

    left, right = inputs(4), inputs(6, seed=1)
    got = surrogate._value_effects(left, right, columns)
    np.testing.assert_allclose(got, [[expected(a, b) for b in range(6)] for a in range(4)], rtol=1e-12)
    both = surrogate._value_effects(left + right, left + right, columns)
    np.testing.assert_allclose(np.diag(both), 1.0)
    assert np.linalg.eigvalsh(both).min() > -1e-12, "covariances"


def test_a_value_that_was_never_tried_is_uncertain_however_sure_its_length_scale_is() -> None:
    """A number without effect, seen up to 0.4."""
    rng = np.random.default_rng(0)
    seen = Inputs(rng.random((60, 2)) * [1.0, 0.4], np.zeros((60, 1), dtype=np.int64))
    values = np.sin(3 * seen.numbers[:, 0]) + 0.01 * rng.normal(size=60)
    at = Inputs(np.array([[0.5, 0.2], [0.5, 1.0]]), np.zeros((2, 1), dtype=np.int64))
    (tried, untried), deviation = GaussianProcess(seen, values).predict(at)
    _, own = GaussianProcess(seen, values, (1, 2)).predict(at)
    assert untried == pytest.approx(tried, abs=0.05) and own[0] < 2 * deviation[0]
    assert own[1] > 2 * deviation[1] and own[1] > 5 * own[0]


def test_noise_is_found_where_there_is_noise_and_not_where_there_is_none() -> None:
    points = inputs(80)
    clean = values_at(points)
    noisy = clean + 0.3 * np.random.default_rng(3).normal(size=80)
    noise = [
        math.sqrt(math.exp(g.theta[-1]) * g.variance) * g.scale
        for g in (GaussianProcess(points, v) for v in (clean, noisy))
    ]
    assert noise[0] < 0.03 and noise[1] == pytest.approx(0.3, rel=0.35)


def test_a_smooth_function_is_learnt_and_the_deviation_is_honest() -> None:
    known, asked = inputs(40), inputs(200, seed=1)
    mean, deviation = GaussianProcess(known, values_at(known)).predict(asked)
    error = mean - values_at(asked)
    assert np.sqrt((error**2).mean()) < 0.1 * values_at(asked).std()
    assert (np.abs(error) < 2 * deviation).mean() > 0.8


def test_a_running_trial_shrinks_the_deviation_around_itself_and_leaves_the_mean() -> None:
    known, asked = inputs(10), inputs(50, seed=1)
    process = GaussianProcess(known, values_at(known))
    running = asked.rows([0])
    mean, before = process.predict(asked)
    mean_given, after = process.predict_given(asked, running)
    np.testing.assert_array_equal(mean, mean_given)
    assert (after <= before + 1e-9).all() and after[0] < 0.6 * before[0]


@pytest.mark.parametrize("values", [np.zeros(4), np.full(4, 1e6), np.array([0.0, 0.0, 0.0, 1e-300])])
def test_equal_values_give_a_flat_model_and_no_error(values: np.ndarray) -> None:
    mean, deviation = GaussianProcess(inputs(4), values).predict(inputs(3, seed=1))
    np.testing.assert_allclose(mean, values[0], atol=1e-6)
    assert np.isfinite(deviation).all()


def test_inputs_without_numbers_or_without_categories() -> None:
    for numbers, categories in ((0, 2), (2, 0)):
        points = inputs(8, numbers, categories)
        mean, _ = GaussianProcess(points, np.arange(8.0)).predict(points)
        assert np.isfinite(mean).all()


Made = Callable[..., Inputs]


def with_sources(count: int, seed: int) -> Inputs:
    """Two numbers, a category, and two sources beside this sweep's own observations."""
    points, source = inputs(count, seed=seed), np.random.default_rng(seed + 9).integers(3, size=count)
    flags = (source[:, None] == [1, 2]).astype(np.int64)
    return Inputs(points.numbers, np.hstack([points.categories, flags]), 2)


def covariance(a: Inputs, b: Inputs, theta: np.ndarray, i: int, j: int) -> float:
    """Matern 5/2 times exp(-weights of what differs), and 1 more where both are of one source."""
    p = a.numbers.shape[1]
    r = math.sqrt(sum(((x - y) / math.exp(s)) ** 2 for x, y, s in zip(a.numbers[i], b.numbers[j], theta[:p])))
    differ = [u != v for u, v in zip(a.categories[i], b.categories[j])]
    apart = sum(math.exp(weight) for weight, is_other in zip(theta[p:-1], differ) if is_other)
    same_source = a.num_sources > 0 and not any(differ[-a.num_sources :])
    return (1 + 5**0.5 * r + 5 / 3 * r**2) * math.exp(-(5**0.5) * r - apart) + float(same_source)


def matrix(a: Inputs, b: Inputs, theta: np.ndarray) -> np.ndarray:
    return np.array(
        [[covariance(a, b, theta, i, j) for j in range(len(b.numbers))] for i in range(len(a.numbers))]
    )


@pytest.mark.parametrize("made", [inputs, with_sources])
def test_the_kernel_is_matern_five_halves_times_what_categories_take_away(made: Made) -> None:
    left, right = made(7, seed=0), made(5, seed=1)
    theta = np.random.default_rng(2).normal(size=left.numbers.shape[1] + left.categories.shape[1] + 1)
    np.testing.assert_allclose(surrogate._kernel(left, right, theta), matrix(left, right, theta), rtol=1e-10)


@pytest.mark.parametrize("made", [inputs, with_sources])
def test_what_runs_is_conditioned_on_as_if_it_had_its_predicted_mean(made: Made) -> None:
    """Mean as without it; deviation from the joint normal of all, with noise on what is observed."""
    known, running, asked = made(12, seed=0), made(3, seed=1), made(6, seed=2)
    values = values_at(known)
    process = GaussianProcess(known, values)
    noise = math.exp(process.theta[-1]) + 1e-8
    for given, got in (
        (known, process.predict(asked)),
        (known + running, process.predict_given(asked, running)),
    ):
        k = matrix(given, given, process.theta) + noise * np.eye(len(given.numbers))
        cross, own = matrix(given, asked, process.theta), np.diag(matrix(asked, asked, process.theta))
        variance = process.variance * values.var() * (own - np.diag(cross.T @ np.linalg.solve(k, cross)))
        np.testing.assert_allclose(got[1], np.sqrt(variance), rtol=1e-5)
        np.testing.assert_array_equal(got[0], process.predict(asked)[0])


def test_the_variance_is_that_of_the_residual_and_of_two_observations_of_variance_one() -> None:
    known = inputs(12)
    values = values_at(known)
    process = GaussianProcess(known, values)
    k = matrix(known, known, process.theta) + (math.exp(process.theta[-1]) + 1e-8) * np.eye(12)
    standard, ones = (values - values.mean()) / values.std(), np.ones(12)
    level = ones @ np.linalg.solve(k, standard) / (ones @ np.linalg.solve(k, ones))
    residual = standard - level
    assert process.mean == pytest.approx(level, rel=1e-6)
    assert process.variance == pytest.approx((residual @ np.linalg.solve(k, residual) + 2) / 14, rel=1e-6)


def fitting(points: Inputs, values: np.ndarray, monkeypatch: pytest.MonkeyPatch, best: int = 0) -> dict:
    """What is minimised and from where; the start number `best` is said to end lowest, where it begins."""
    seen: dict = {"starts": []}

    def run(loss, start, **given):  # type: ignore[no-untyped-def]
        seen["loss"], seen["bounds"] = loss, given["bounds"]
        seen["starts"].append(start)
        return SimpleNamespace(x=start, fun=float(len(seen["starts"]) - 1 != best))

    monkeypatch.setattr(surrogate, "minimize", run)
    seen["process"] = GaussianProcess(points, values)
    return seen


def test_the_fit_maximises_the_posterior_of_lengths_weights_and_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Priors of logarithms: lengths around sqrt 2 + log(D) / 2, weights around -log(D) / 2, noise around log
    .01.

    Lengths share all but a variance of 1 of their variance of 3, weights of their variance of 1.5^2.
    """
    points, values = inputs(9, 3, 2), np.random.default_rng(0).normal(size=9)
    loss = fitting(points, values, monkeypatch)["loss"]
    standard, half = (values - values.mean()) / values.std(), 0.5 * math.log(5)
    middle = np.array([2**0.5 + half] * 3 + [-half] * 2 + [math.log(0.01)])
    spread = np.zeros((6, 6))
    spread[:3, :3], spread[3:5, 3:5], spread[5, 5] = np.full((3, 3), 2.0), np.full((2, 2), 1.25), 1.5**2
    spread[range(5), range(5)] += 1.0
    for seed in range(3):
        theta = middle + np.random.default_rng(seed).normal(size=6)
        k = matrix(points, points, theta) + (math.exp(theta[-1]) + 1e-8) * np.eye(9)
        ones = np.ones(9)
        residual = standard - ones @ np.linalg.solve(k, standard) / (ones @ np.linalg.solve(k, ones))
        variance = (residual @ np.linalg.solve(k, residual) + 2) / 11
        expected = 0.5 * 11 * math.log(variance) + 0.5 * np.linalg.slogdet(k)[1]
        expected += 0.5 * (theta - middle) @ np.linalg.solve(spread, theta - middle)
        assert loss(theta)[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("best", [0, 1])
def test_the_fit_starts_at_the_middle_of_the_prior_and_at_short_lengths_and_keeps_the_better_end(
    best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fitting(inputs(9, 3, 2), np.arange(9.0), monkeypatch, best)
    half = 0.5 * math.log(5)
    np.testing.assert_allclose(seen["starts"][0], [2**0.5 + half] * 3 + [-half] * 2 + [math.log(0.01)])
    np.testing.assert_allclose(seen["starts"][1], [math.log(0.5)] * 3 + [-0.5] * 2 + [math.log(0.01)])
    assert len(seen["starts"]) == 2 and seen["process"].theta is seen["starts"][best]
    assert seen["bounds"] == [(-4.0, 6.0)] * 3 + [(-8.0, 3.0)] * 2 + [(-14.0, 1.0)]


def test_of_many_observations_evenly_spread_ones_are_fitted_to_and_those_from_elsewhere_last() -> None:
    def chosen(own: int, elsewhere: int) -> list[int]:
        flags = np.array([[1]] * elsewhere + [[0]] * own)
        return surrogate._to_fit(Inputs(np.zeros((len(flags), 1)), flags, 1)).tolist()

    assert chosen(4, 3) == [3, 4, 5, 6, 0, 1, 2]
    assert chosen(150, 3) == list(range(3, 153)) and chosen(149, 3)[-1] == 0 and len(chosen(149, 3)) == 150
    assert chosen(299, 0) == np.arange(0, 299, 2).tolist()
    many = chosen(100, 99)
    assert many[:100] == list(range(99, 199)) and many[100:] == np.linspace(0, 98, 50).round().tolist()


# ---- expected improvement ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(("mean", "deviation"), [(0.3, 0.2), (-1.0, 0.05), (0.5, 2.0)])
def test_expected_below_is_the_integral(mean: float, deviation: float, is_log: bool) -> None:
    density = lognorm(deviation, scale=math.exp(mean)).pdf if is_log else norm(mean, deviation).pdf
    for level in (0.1, 0.7, 2.5):
        low = 0.0 if is_log else mean - 12 * deviation
        points = [math.exp(mean)] if is_log and math.exp(mean) < level else None

        def gain(y: float, level: float = level) -> float:
            return (level - y) * float(density(y))

        expected = quad(gain, low, level, points=points, epsabs=1e-12, limit=300)[0] if level > low else 0.0
        got = expected_below(np.array([level]), np.array([mean]), np.array([deviation]), is_log)[0, 0]
        assert got == pytest.approx(expected, abs=1e-8)


FRONT2 = np.array([[0.1, 0.9], [0.4, 0.5], [0.4, 0.7], [0.8, 0.2], [1.5, 0.1]])
FRONT3 = np.array([[0.2, 0.6, 0.7], [0.5, 0.3, 0.6], [0.7, 0.7, 0.1], [0.6, 0.6, 0.65], [0.1, 2.0, 0.1]])


def added(front: np.ndarray, point: np.ndarray) -> float:
    """By the hypervolume of `frontier`, which is another library's."""
    reference, directions = [1.0] * len(point), ["min"] * len(point)
    if not (point < 1).all():
        return 0.0
    return hypervolume(np.vstack([front, point]), directions, reference) - hypervolume(
        front, directions, reference
    )


@pytest.mark.parametrize("front", [FRONT2, FRONT3])
@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("uncertain", [0, 1])
def test_with_one_uncertain_objective_it_is_the_integral_to_1e_6(
    front: np.ndarray, is_log: bool, uncertain: int
) -> None:
    count = front.shape[1]
    logs = [is_log and axis == uncertain for axis in range(count)]
    for middle, spread in ((0.55, 0.15), (0.9, 0.4)):
        known = np.full(count, 0.35)
        mean, deviation = known.copy(), np.zeros(count)
        mean[uncertain], deviation[uncertain] = (math.log(middle) if is_log else middle), spread
        density = lognorm(spread, scale=middle).pdf if is_log else norm(middle, spread).pdf

        def gain(y: float, known: np.ndarray = known, density=density) -> float:  # type: ignore[no-untyped-def]
            point = known.copy()
            point[uncertain] = y
            return added(front, point) * density(y)

        kinks = sorted({*front[:, uncertain].tolist(), middle})
        low = 1e-9 if is_log else middle - 10 * spread
        edges = [low, *(kink for kink in kinks if low < kink < 1), 1.0]
        expected = sum(quad(gain, a, b, epsabs=1e-10)[0] for a, b in itertools.pairwise(edges))
        got = hypervolume_improvement(front, np.ones(count), mean[None], deviation[None], logs)[0]
        assert got == pytest.approx(expected, abs=1e-6) and expected > 1e-3


def integrated(front: np.ndarray, mean: np.ndarray, deviation: np.ndarray, is_log: list[bool]) -> float:
    """The integral of P(y <= z) over the z below 1 that nothing dominates, by brute force: Gauss and
    Legendre in every cell of a grid."""
    nodes, weights, axes = *np.polynomial.legendre.leggauss(16), []
    for axis, (middle, spread, log) in enumerate(zip(mean, deviation, is_log)):
        low, high = (
            (np.exp if log else float)(middle - 9 * spread),
            (np.exp if log else float)(middle + 9 * spread),
        )
        edges = np.unique(
            np.clip(
                [*np.linspace(low, high, 12), *front[:, axis], 1.0, *([np.exp(middle)] if log else [])],
                low,
                1.0,
            )
        )
        edges = np.append(edges, 1.0) if spread == 0 else edges
        left, width = edges[:-1, None], np.diff(edges)[:, None]
        at = (left + width * (nodes + 1) / 2).ravel()
        below = norm.cdf(((np.log(at) if log else at) - middle) / spread) if spread else np.ones(len(at))
        axes.append((at, (width * weights / 2).ravel() * below))
    grid = np.meshgrid(*(at for at, _ in axes), indexing="ij")
    mass = functools.reduce(np.multiply.outer, [share for _, share in axes])
    is_free = ~np.any(
        [np.all([grid[axis] >= point[axis] for axis in range(len(mean))], axis=0) for point in front], axis=0
    )
    return float(mass[is_free].sum())


@pytest.mark.parametrize("front", [FRONT2, FRONT3], ids=["two objectives", "three objectives"])
@pytest.mark.parametrize("spreads", [(0.1, 0.2, 0.3), (0.0, 0.25, 0.4), (0.5, 0.0, 0.05)])
@pytest.mark.parametrize("is_log", [False, True])
def test_with_several_uncertain_objectives_it_is_the_integral_to_1e_6(
    front: np.ndarray, spreads: tuple[float, ...], is_log: bool
) -> None:
    count = front.shape[1]
    deviation, logs = np.array(spreads[:count]), [is_log and axis == 1 for axis in range(count)]
    for middle in (0.3, 0.55):
        mean = np.where(logs, math.log(middle), middle)
        expected = integrated(front, mean, deviation, logs)
        got = hypervolume_improvement(front, np.ones(count), mean[None], deviation[None], logs)[0]
        assert got == pytest.approx(expected, abs=1e-6) and expected > 1e-3


def sampled_gain(
    front: np.ndarray, mean: np.ndarray, deviation: np.ndarray, count: int
) -> tuple[float, float]:
    draws = multivariate_normal(mean, np.diag(deviation**2), allow_singular=True).rvs(count, random_state=0)
    gains = np.array([added(front, draw) for draw in draws])
    return float(gains.mean()), float(gains.std() / math.sqrt(count))


def test_four_objectives_are_integrated_by_sampling() -> None:
    front = np.array([[0.2, 0.6, 0.7, 0.5], [0.5, 0.3, 0.6, 0.4]])
    mean, deviation = np.array([0.4, 0.4, 0.4, 0.4]), np.array([0.0, 0.2, 0.0, 0.1])
    expected, error = sampled_gain(front, mean, deviation, 2000)
    got = hypervolume_improvement(front, np.ones(4), mean[None], deviation[None])[0]
    assert got == pytest.approx(expected, rel=0.1) and error < 0.03 * expected


def product_of(levels: np.ndarray, mean: np.ndarray, deviation: np.ndarray, logs: list[bool]) -> float:
    """Of E max(level - y, 0) over the objectives."""
    return math.prod(
        float(expected_below(levels[[axis]], mean[[axis]], deviation[[axis]], logs[axis])[0, 0])
        for axis in range(len(levels))
    )


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("spreads", [(0.3, 0.2, 0.5, 0.4), (0.0, 0.3, 0.0, 0.6), (0.05, 0.0, 0.0, 0.0)])
def test_four_objectives_over_one_point_are_the_difference_of_two_products(
    is_log: bool, spreads: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """y adds what it dominates below the reference r, less what p does: prod E(r) - prod (E(r) - E(p))."""
    monkeypatch.setattr(acquisition, "_SOBOL_POINTS", 2**16)
    logs, reference = [is_log, False, is_log, False], np.array([1.0, 2.0, 1.5, 1.0])
    point, deviation = np.array([0.6, 1.2, 0.9, 0.8]), np.array(spreads)
    middle = np.array([[0.5, 1.0, 0.7, 0.4], [0.7, 1.5, 0.4, 0.6]])
    mean = np.where(logs, np.log(middle), middle)
    got = hypervolume_improvement(point[None], reference, mean, np.stack([deviation] * 2), logs)
    empty = hypervolume_improvement(np.empty((0, 4)), reference, mean, np.stack([deviation] * 2), logs)
    for each, value, whole in zip(mean, got, empty):
        all_of_it = product_of(reference, each, deviation, logs)
        above = [
            product_of(reference[[axis]], each[[axis]], deviation[[axis]], [logs[axis]])
            - product_of(point[[axis]], each[[axis]], deviation[[axis]], [logs[axis]])
            for axis in range(4)
        ]
        assert whole == pytest.approx(all_of_it, rel=0.01)
        assert value == pytest.approx(all_of_it - math.prod(above), rel=0.01)


def test_four_objectives_beyond_the_reference_add_nothing() -> None:
    for wrong in range(4):
        mean = np.full((1, 4), 0.5)
        mean[0, wrong] = 1.5
        assert hypervolume_improvement(np.empty((0, 4)), np.ones(4), mean, np.zeros((1, 4)))[0] == 0


def test_many_candidates_are_scored_as_each_alone() -> None:
    """Also where the integral is sampled in parts of 64; a box around all of them is another sample."""
    rng = np.random.default_rng(0)
    mean, deviation = rng.random((150, 4)), 0.1 + 0.1 * rng.random((150, 4))
    mean[0], deviation[0] = 0.0, 0.3  # the lowest of all, so that each pair has the same box
    front = np.full((1, 4), 0.7)
    together = hypervolume_improvement(front, np.ones(4), mean, deviation)
    for index in (1, 63, 64, 149):
        pair = hypervolume_improvement(front, np.ones(4), mean[[0, index]], deviation[[0, index]])
        assert together[index] == pytest.approx(pair[1], rel=1e-9)


def test_the_volume_that_known_points_add_is_exact_and_dominated_ones_add_nothing() -> None:
    points = np.array([[0.3, 0.3], [0.4, 0.5], [0.9, 0.95], [1.2, 0.1]])
    got = hypervolume_improvement(FRONT2, np.ones(2), points, np.zeros_like(points))
    np.testing.assert_allclose(got, [added(FRONT2, point) for point in points], atol=1e-12)
    assert got[0] > 0 and (got[1:] == 0).all()


def test_an_empty_front_leaves_the_whole_box() -> None:
    got = hypervolume_improvement(np.empty((0, 2)), np.ones(2), np.array([[0.25, 0.5]]), np.zeros((1, 2)))
    assert got[0] == pytest.approx(0.375)
