"""Proposals: drawn evenly, inside the cost windows and spread over the cost axis."""

import itertools
import math

import numpy as np
import pytest

from raydistill import search
from raydistill.config.base import digest
from raydistill.config.configurations import extreme_configuration, values_of
from raydistill.config.paths import with_unchecked_values
from raydistill.config.presets import shapes32
from raydistill.config.space import Choice, Distribution, Float, Int, When, Window, load_space
from raydistill.errors import BudgetError
from raydistill.models import GENERATORS, cost
from raydistill.search import (
    Configuration,
    Observation,
    Problem,
    candidates,
    feasible_configurations,
    identity,
    is_feasible,
    prove_feasible,
    random_configuration,
)
from raydistill.search.candidates import (
    at_quantile,
    cost_axis,
    grid_configurations,
    new_configurations,
    spread_configurations,
    stratified_proposals,
)
from raydistill.search.problem import CostAxis, new_filter
from raydistill.testing.samplers import KD, MIOU, PARAMS, SMALL, problem, run, space


def test_random_picks_are_uniform_on_each_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_configuration(space(), rng) for _ in range(4000)]
    for values, bins, expected in (
        ([configuration["a"] for configuration in drawn], np.arange(1, 18, 2), 8),
        ([configuration["rate"] for configuration in drawn], np.linspace(-1, 1, 9), 8),
        (
            [math.log10(configuration["step"]) for configuration in drawn if "step" in configuration],
            np.linspace(-1, 2, 9),
            8,
        ),
    ):
        counts, mean = np.histogram(values, bins)[0], len(values) / expected
        assert (abs(counts - mean) < 5 * math.sqrt(mean)).all()


# ---- cost windows ------------------------------------------------------------------------------------------


def test_the_ends_of_a_window_belong_to_it() -> None:
    of = problem(constraints=(Window(cost="cost/macs", low=4000, high=4000),))
    assert is_feasible(of, {"a": 2, "b": 2}) and not is_feasible(of, {"a": 2, "b": 1})


def refusal(*windows: Window) -> str:
    with pytest.raises(BudgetError) as caught:
        prove_feasible(problem(constraints=windows))
    return str(caught.value)


@pytest.mark.parametrize(
    ("window", "printed"),
    [
        (Window(cost="cost/macs", high=1999), "cost/macs of at most 1,999"),
        (Window(cost="cost/macs", low=256_001, high=1e9), "cost/macs between 256,001 and 1,000,000,000"),
    ],
)
def test_an_impossible_window_is_refused_with_the_reachable_range(window: Window, printed: str) -> None:
    assert refusal(window) == f"{printed}: nothing fits. Reachable: 2,000 to 256,000."


def test_windows_that_exclude_each_other_are_refused_with_what_each_cost_reaches_inside_the_other() -> None:
    """a is even up to 16 and b at most 16: 200,000 MACs need a + b of 29 or more, and a + b of 10 allows
    24,000 (4 x 6)."""
    text = refusal(Window(cost="cost/macs", low=200_000, high=256_000), Window(cost="cost/params", high=10))
    assert text.startswith(
        "cost/macs between 200,000 and 256,000 and cost/params of at most 10: none of all 768 "
        "configurations fits."
    )
    assert "Reachable inside the window on cost/params: cost/macs 2,000 to 24,000." in text
    assert "Reachable inside the window on cost/macs: cost/params 29 to 32." in text


def test_two_windows_on_one_cost_are_one_and_may_not_cross() -> None:
    text = refusal(Window(cost="cost/macs", low=100_000, high=1e30), Window(cost="cost/macs", high=50_000))
    assert text == "cost/macs between 100,000 and 50,000: the lower end is above the upper one."


def test_a_window_between_two_neighbours_is_refused_with_both() -> None:
    """None of the products of 2, 4, ..., 16 and 1, ..., 16 lies strictly between 224 and 240."""
    assert "cost/macs 224,000 and, next, 240,000." in refusal(
        Window(cost="cost/macs", low=224_001, high=239_999)
    )


def test_the_one_configuration_in_a_window_is_found_however_rare() -> None:
    """1 of 10,000: 5,000 random picks may miss it."""
    wide: dict[str, Distribution] = {"a": Int(low=1, high=100), "b": Int(low=1, high=100)}
    of = problem(parameters=wide, constraints=(Window(cost="cost/macs", low=9_409_000, high=9_409_000),))
    prove_feasible(of)
    history = run(of, 1, lambda configuration, number: Observation(configuration, "RUNNING", None))
    assert history[0].configuration == {"a": 97, "b": 97}
    with pytest.raises(
        BudgetError,
        match="trial 1: all 10,000 configurations were proposed before or outside the cost windows",
    ):
        search.propose(of, history, 1)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"a": Int(low=4, high=4), "b": Int(low=3, high=3), "weight": Choice(options={"on": 0.1})}],
)
@pytest.mark.parametrize("sampler", list(search.SAMPLERS))
def test_a_space_of_one_point_gives_it_once(parameters: dict[str, Distribution], sampler: str) -> None:
    of = Problem(
        space(parameters), lambda configuration: {"cost/macs": 12_000, "cost/params": 7}, 0, 4, sampler, 20
    )
    prove_feasible(of)
    only = search.propose(of, [], 0)
    assert set(only) == set(parameters)
    with pytest.raises(BudgetError, match="all 1 configurations were proposed before"):
        search.propose(of, [Observation(only, "COMPLETE", [0.5, 12_000.0])], 1)


def test_a_window_that_only_the_cheapest_configuration_fits_is_feasible() -> None:
    wide: dict[str, Distribution] = {"a": Int(low=1, high=2000), "b": Int(low=1, high=2000)}
    prove_feasible(problem(parameters=wide, constraints=(Window(cost="cost/macs", high=1000),)))


def test_a_window_that_passed_the_proof_gives_proposals() -> None:
    wide: dict[str, Distribution] = {"a": Int(low=1, high=64), "b": Int(low=1, high=64)}
    of = problem(parameters=wide, constraints=(Window(cost="cost/macs", high=3000),))
    prove_feasible(of)
    assert len({digest(entry.configuration) for entry in run(of, 5)}) == 5


# ---- startup -----------------------------------------------------------------------------------------------


def shapes_problem(num_startup: int, seed: int, share: float = 1.0) -> tuple[Problem, float, float]:
    """The default space, with the ends of its log cost axis; only the lower `share` of the axis is
    allowed."""
    chosen, preset = load_space("default"), shapes32()

    def real_costs(configuration: Configuration) -> dict[str, int]:
        prefix = "student.generator."
        widths = {
            path.removeprefix(prefix): value
            for path, value in values_of(chosen, configuration).items()
            if ".widths." in path
        }
        generator = with_unchecked_values(preset.student.generator, widths)
        layers = GENERATORS["resnet"].layers(generator, 8, 32, 32)
        return {"cost/macs": cost.macs(layers), "cost/params": cost.params(layers)}

    low, high = (
        math.log(real_costs(extreme_configuration(chosen, highest))["cost/macs"]) for highest in (False, True)
    )
    high = low + share * (high - low)
    windowed = chosen.model_copy(update={"constraints": (Window(cost="cost/macs", high=math.exp(high)),)})
    return Problem(windowed if share < 1 else chosen, real_costs, seed, num_startup), low, high


def strata(of: Problem, low: float, high: float) -> list[int]:
    """In which of `num_startup` equal parts of the log cost axis each startup proposal lies."""
    costs: list[float] = []
    history: list[Observation] = []
    for number in range(of.num_startup):
        configuration = search.propose(of, history, number)
        history.append(Observation(configuration, "RUNNING", None))
        costs.append(math.log(of.costs_of(configuration)["cost/macs"]))
    return sorted(
        min(of.num_startup - 1, int((value - low) / (high - low) * of.num_startup)) for value in costs
    )


@pytest.mark.parametrize(("num_startup", "seed"), [(4, 0), (4, 1), (8, 0)])
def test_the_startup_proposals_of_the_default_space_lie_one_in_each_stratum_of_the_cost_axis(
    num_startup: int, seed: int
) -> None:
    assert strata(*shapes_problem(num_startup, seed)) == list(range(num_startup))


def test_with_a_window_the_startup_proposals_cover_the_part_of_the_cost_axis_inside_it() -> None:
    assert strata(*shapes_problem(4, 0, share=0.6)) == [0, 1, 2, 3]


# ---- what a proposal is made of ----------------------------------------------------------------------------


def test_a_configuration_is_the_same_whatever_the_order_of_its_names() -> None:
    assert identity({"a": 1, "b": "x"}) == identity({"b": "x", "a": 1})
    assert len({identity(each) for each in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": 1})}) == 4
    of = problem(parameters=SMALL)
    turned = [Observation({"kind": "on", "b": 1, "a": 1}, "COMPLETE", [0.5, 1000.0])]
    is_new = new_filter(of, turned)
    assert not is_new({"a": 1, "b": 1, "kind": "on"}) and is_new({"a": 1, "b": 1, "kind": "off"})


@pytest.mark.parametrize("axis", [(1.0, 100.0), (1.0, 2.0), (0.0, 8.0)])
def test_a_startup_proposal_is_the_candidate_nearest_to_the_middle_of_its_stratum(
    axis: tuple[float, float],
) -> None:
    """On a log axis; of a narrow range of costs, or one that begins at 0, on a linear one."""
    low, high = axis
    values = np.linspace(low, high, 100).tolist()
    of = Problem(space({"a": Int(low=0, high=99)}), lambda picked: {"cost/macs": values[picked["a"]]}, 3, 4)
    scale = math.log if low > 0 and high >= 3 * low else float
    middles = [scale(low) + (scale(high) - scale(low)) * (place + 0.5) / 4 for place in range(4)]
    strata = []
    for number in range(24):
        candidates = [values[each["a"]] for each in new_configurations(of, [], number)]
        nearest = [min(candidates, key=lambda value: abs(scale(value) - middle)) for middle in middles]
        (found,) = stratified_proposals(of, [], number)
        strata.append(nearest.index(values[found["a"]]))
    turns = [tuple(strata[start : start + 4]) for start in range(0, 24, 4)]
    assert all(sorted(turn) == [0, 1, 2, 3] for turn in turns) and len(set(turns)) > 2


def test_the_cost_axis_is_the_range_inside_its_own_windows() -> None:
    of = problem(
        constraints=(Window(cost="cost/macs", low=9000, high=70_000), Window(cost="cost/params", high=20))
    )
    assert cost_axis(of) == ("cost/macs", 9000, 70_000) and cost_axis(of).is_log
    assert cost_axis(of, "cost/params") == ("cost/params", 3, 20)
    wide = problem(constraints=(Window(cost="cost/macs", low=1, high=1e9),))
    assert cost_axis(wide) == ("cost/macs", 2000, 256_000)
    qualities = problem(objectives=(MIOU, KD))
    assert cost_axis(qualities).name == "cost/macs"
    assert cost_axis(problem(objectives=(MIOU, PARAMS))).name == "cost/params"


def test_a_cost_has_a_log_axis_from_a_factor_of_three_on() -> None:
    assert [
        CostAxis("c", low, high).is_log for low, high in ((1, 3), (1, 2.99), (0, 9), (1, 1e9), (1, 1e10))
    ] == [
        True,
        False,
        False,
        True,
        False,
    ]
    np.testing.assert_allclose(CostAxis("c", 2, 20).scaled([2, 20]), np.log([2, 20]))
    np.testing.assert_allclose(CostAxis("c", 2, 4).scaled([2, 20]), [2, 20])
    assert np.isfinite(CostAxis("c", 2, 20).scaled([0.0])).all()


def test_a_drawn_value_lies_between_the_quantiles_that_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_configuration(space(), rng, 0.25, 0.5) for _ in range(400)]
    assert {each["a"] for each in drawn} == {6, 8} and {each["b"] for each in drawn} == {5, 6, 7, 8}
    rates = [each["rate"] for each in drawn]
    assert -0.5 <= min(rates) < -0.49 and -0.01 < max(rates) <= 0
    steps = [each["step"] for each in drawn if "step" in each]
    assert 10**-0.25 <= min(steps) < 0.58 and 3.0 < max(steps) <= 10**0.5
    assert {each["weight"] for each in drawn} == {"off", "low", "high"}


def test_quantiles_are_of_the_uniform_or_log_uniform_distribution() -> None:
    four = Int(low=3, high=12, step=3)
    at = [at_quantile(four, quantile) for quantile in (0, 0.249, 0.25, 0.5, 0.75, 0.999, 1.0)]
    assert at == [3, 3, 6, 9, 12, 12, 12]
    log = Float(low=0.01, high=100, log=True)
    assert [at_quantile(log, quantile) for quantile in (0, 0.25, 0.5)] == pytest.approx([0.01, 0.1, 1])
    assert at_quantile(Float(low=-1, high=3), 0.25) == 0 and at_quantile(log, 1.0) == 100


def test_the_sample_of_a_space_begins_at_both_ends_and_meets_lower_upper_and_whole_ranges() -> None:
    wide = space({"a": Int(low=1, high=1000), "b": Int(low=1, high=1000)})
    sample = list(spread_configurations(wide, np.random.default_rng(0)))
    assert len(sample) == 5000 and sample[:2] == [{"a": 1, "b": 1}, {"a": 1000, "b": 1000}]
    thirds = [np.array([[each["a"], each["b"]] for each in sample[2 + start :: 3]]) for start in range(3)]
    means = [float(part.mean()) for part in thirds]
    assert means == pytest.approx([250, 750, 500], abs=25)
    correlation = [float(np.corrcoef(part.T)[0, 1]) for part in thirds]
    assert correlation[0] > 0.2 and correlation[1] > 0.2 and abs(correlation[2]) < 0.1


def test_a_grid_is_every_configuration_once_with_inactive_parameters_left_out() -> None:
    chosen = space(
        SMALL | {"step": Float(low=0.1, high=1.0)}, when={"step": When(parameter="kind", keys=("on",))}
    )
    grid = grid_configurations(chosen, np.random.default_rng(0))
    assert [(each["a"], each["b"], each["kind"]) for each in grid] == list(
        itertools.product((1, 2, 3), (1, 2), ("off", "on"))
    )
    assert [set(each) - {"a", "b", "kind"} for each in grid] == [set(), {"step"}] * 6
    assert len({each["step"] for each in grid if "step" in each}) == 6
    limit = {"a": Int(low=1, high=200), "b": Int(low=1, high=100)}
    assert len(grid_configurations(space(limit), np.random.default_rng(0))) == 20_000
    more = limit | {"b": Int(low=1, high=101)}
    assert grid_configurations(space(more), np.random.default_rng(0)) == []


RARE: dict[str, Distribution] = {"a": Int(low=1, high=60), "b": Int(low=1, high=60)}
ONE = (Window(cost="cost/macs", low=59 * 47 * 1000, high=59 * 47 * 1000),)


@pytest.fixture
def corners_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of a space are its cheapest and its most expensive configuration."""
    monkeypatch.setattr(candidates, "TRIES", 2)


@pytest.mark.usefixtures("corners_alone")
def test_where_the_sample_has_nothing_the_whole_grid_is_looked_at() -> None:
    """59 and 47 are primes: one product of two numbers up to 60, in either order."""
    of, both = problem(parameters=RARE, constraints=ONE), [{"a": 47, "b": 59}, {"a": 59, "b": 47}]
    prove_feasible(of)
    assert list(feasible_configurations(of)) == both
    assert new_configurations(of, [], 0) == both
    known = [Observation(both[0], "COMPLETE", [0.5, 1.0])]
    assert new_configurations(of, known, 1) == both[1:]
    assert search.propose(of, known, 1) == both[1]


@pytest.mark.usefixtures("corners_alone")
def test_what_lies_inside_the_windows_and_was_not_proposed_is_a_candidate() -> None:
    of = problem(parameters=RARE)
    ends = [{"a": 1, "b": 1}, {"a": 60, "b": 60}]
    assert list(feasible_configurations(of)) == ends == new_configurations(of, [], 0)
    assert new_configurations(of, [Observation(ends[0], "FAIL", None)], 1) == ends[1:]


def test_at_most_two_hundred_candidates_are_looked_at() -> None:
    assert len(new_configurations(problem(parameters=RARE), [], 0)) == 200


def test_a_window_that_only_meets_one_end_of_the_range_is_feasible() -> None:
    for window in (Window(cost="cost/macs", high=2000), Window(cost="cost/macs", low=256_000, high=1e9)):
        prove_feasible(problem(constraints=(window,)))
