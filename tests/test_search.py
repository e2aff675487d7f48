"""Proposals: drawn evenly, inside the cost windows and spread over the cost axis."""

import math

import numpy as np
import pytest
from search_kit import problem, run, space

from raydistill import search
from raydistill.config.base import digest
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.space import (
    Choice,
    Distribution,
    Int,
    Window,
    extreme_configuration,
    load_space,
    values_of,
)
from raydistill.errors import BudgetError
from raydistill.models import GENERATORS, cost
from raydistill.search import (
    Configuration,
    Observation,
    Problem,
    is_feasible,
    prove_feasible,
    random_configuration,
)


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


# ---- cost windows ---------------------------------------------------------------------------------------------------


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
    """a is even up to 16 and b at most 16: 200,000 MACs need a + b of 29 or more, and a + b of 10 allows 24,000 (4 x 6)."""
    text = refusal(Window(cost="cost/macs", low=200_000, high=256_000), Window(cost="cost/params", high=10))
    assert text.startswith(
        "cost/macs between 200,000 and 256,000 and cost/params of at most 10: none of all 768 configurations fits."
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


# ---- startup --------------------------------------------------------------------------------------------------------


def shapes_problem(num_startup: int, seed: int, share: float = 1.0) -> tuple[Problem, float, float]:
    """The default space, with the ends of its log cost axis; only the lower `share` of the axis is allowed."""
    chosen, preset = load_space("default"), shapes32()

    def real_costs(configuration: Configuration) -> dict[str, int]:
        widths = {
            path: value for path, value in values_of(chosen, configuration).items() if ".widths." in path
        }
        generator = with_values(preset, widths, where="test").student.generator
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
