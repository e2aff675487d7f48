"""Proposals: stateless, new, inside the cost windows and spread over the cost axis."""

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from raydistill import cost, search
from raydistill.config import digest
from raydistill.dotted import with_values
from raydistill.errors import BudgetError
from raydistill.models import GENERATORS
from raydistill.presets import shapes32
from raydistill.search import Picked, Problem, Told, is_feasible, prove_feasible, random_pick
from raydistill.space import Choice, Distribution, Float, Int, Objective, SearchSpace, When, Window, corner, load_space, values_of

OBJECTIVES = (Objective(name="val/miou", direction="max", reference=0.0), Objective(name="cost/macs", direction="min"))
MIXED: dict[str, Distribution] = {
    "step": Float(low=0.1, high=100.0, log=True),
    "a": Int(low=2, high=16, step=2),
    "b": Int(low=1, high=16),
    "weight": Choice(options={"off": 0.0, "low": 0.1, "high": 0.3}),
    "rate": Float(low=-1.0, high=1.0),
}
"""The conditional parameter comes before the one that controls it."""
WHEN = {"step": When(parameter="weight", keys=("low", "high"))}
SMALL: dict[str, Distribution] = {"a": Int(low=1, high=3), "b": Int(low=1, high=2), "weight": Choice(options={"off": 0, "on": 1})}


def space(parameters: dict[str, Distribution] = MIXED, **fields: Any) -> SearchSpace:
    when = WHEN if parameters is MIXED else {}
    return SearchSpace(
        **({"preset": "shapes32", "parameters": parameters, "when": when, "objectives": OBJECTIVES, "uniform": (4,)} | fields)
    )


def costs_of(picked: Picked) -> dict[str, int]:
    return {"cost/macs": 1000 * picked["a"] * picked["b"], "cost/params": picked["a"] + picked["b"]}


def problem(chosen: SearchSpace | None = None, seed: int = 0, num_startup: int = 4) -> Problem:
    return Problem(chosen or space(), costs_of, seed, num_startup)


def quality(picked: Picked) -> float:
    return math.log(picked["a"] * picked["b"]) + (picked.get("weight", "off") != "off")


def told(picked: Picked) -> Told:
    return Told(picked, "COMPLETE", [quality(picked), float(costs_of(picked)["cost/macs"])])


def run(of: Problem, count: int) -> list[Told]:
    """So many proposals, each told before the next."""
    history: list[Told] = []
    for number in range(count):
        history.append(told(search.propose(of, history, number)))
    return history


def picks(history: Sequence[Told]) -> list[Picked]:
    return [entry.picked for entry in history]


# ---- stateless ------------------------------------------------------------------------------------------------------


def test_a_proposal_is_a_function_of_seed_number_and_history() -> None:
    history = run(problem(), 8)
    for number in (*range(8), 20):
        first = search.propose(problem(), history[:number], number)
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        assert search.propose(problem(), list(history[:number]), number) == first
        assert number == 20 or first == history[number].picked


def test_another_seed_gives_other_proposals_before_and_after_the_startup() -> None:
    history = run(problem(), 8)
    for number in (0, 7):
        assert search.propose(problem(seed=1), history[:number], number) != search.propose(problem(), history[:number], number)


def test_another_number_gives_another_proposal_from_the_same_history() -> None:
    history = run(problem(), 6)
    proposed = [digest(search.propose(problem(), history, number)) for number in range(6, 12)]
    assert len(set(proposed)) == 6


def test_what_was_told_changes_the_proposals_after_the_startup() -> None:
    history = run(problem(), 12)
    turned = [Told(entry.picked, "COMPLETE", [-entry.values[0], entry.values[1]]) for entry in history if entry.values]
    assert search.propose(problem(), history, 12) != search.propose(problem(), turned, 12)


def test_after_the_startup_proposals_are_better_than_random_ones() -> None:
    space_of_one = space(objectives=(OBJECTIVES[0], Objective(name="val/kd_judge", direction="min", reference=1.0)))
    history: list[Told] = []
    for number in range(40):
        picked = search.propose(problem(space_of_one, num_startup=8), history, number)
        history.append(Told(picked, "COMPLETE", [quality(picked), -quality(picked)]))
    at_random = [quality(random_pick(space(), np.random.default_rng(number))) for number in range(200)]
    late = [quality(entry.picked) for entry in history[20:]]
    assert np.mean(late) > np.mean(at_random) + np.std(at_random) / 2


# ---- new and inside the ranges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_startup", [4, 12])
def test_nothing_is_proposed_twice_until_the_space_is_exhausted(num_startup: int) -> None:
    of = problem(space(SMALL), num_startup=num_startup)
    history = run(of, 12)
    assert len({digest(picked) for picked in picks(history)}) == 12
    with pytest.raises(BudgetError, match=r"trial 12: .* proposed before or outside the cost windows; ask for fewer trials"):
        search.propose(of, history, 12)


@pytest.mark.parametrize("state", ["RUNNING", "FAIL"])
def test_running_and_failed_trials_are_not_proposed_again(state: Any) -> None:
    of = problem(space(SMALL))
    history: list[Told] = []
    for number in range(12):
        history.append(Told(search.propose(of, history, number), state, None))
    assert len({digest(picked) for picked in picks(history)}) == 12


def test_a_history_of_every_state_gives_a_new_proposal() -> None:
    history = run(problem(), 12)
    mixed = [Told(entry.picked, "RUNNING" if i % 3 == 0 else "FAIL", None) if i % 3 else entry for i, entry in enumerate(history)]
    mixed += [Told(search.propose(problem(), mixed, 12), "RUNNING", None)]
    assert search.propose(problem(), mixed, 13) not in picks(mixed)


def test_every_proposal_lies_in_its_ranges() -> None:
    for picked in picks(run(problem(), 30)):
        assert picked["a"] in range(2, 17, 2) and picked["b"] in range(1, 17)
        assert picked["weight"] in MIXED["weight"].options  # type: ignore[union-attr]
        assert -1 <= picked["rate"] <= 1 and 0.1 <= picked.get("step", 1.0) <= 100


def test_a_conditional_parameter_is_there_exactly_while_it_is_active() -> None:
    proposed = picks(run(problem(), 30))
    assert {"off", "low", "high"} == {picked["weight"] for picked in proposed}
    for picked in proposed:
        assert set(picked) == {"a", "b", "weight", "rate"} | ({"step"} if picked["weight"] != "off" else set())


def test_random_picks_are_uniform_on_each_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_pick(space(), rng) for _ in range(4000)]
    for values, bins, expected in (
        ([picked["a"] for picked in drawn], np.arange(1, 18, 2), 8),
        ([picked["rate"] for picked in drawn], np.linspace(-1, 1, 9), 8),
        ([math.log10(picked["step"]) for picked in drawn if "step" in picked], np.linspace(-1, 2, 9), 8),
    ):
        counts, mean = np.histogram(values, bins)[0], len(values) / expected
        assert (abs(counts - mean) < 5 * math.sqrt(mean)).all()


# ---- cost windows ---------------------------------------------------------------------------------------------------


def test_no_proposal_leaves_the_cost_windows() -> None:
    windows = (Window(cost="cost/macs", low=20_000, high=60_000), Window(cost="cost/params", high=17))
    of = problem(space(constraints=windows), num_startup=10)
    prove_feasible(of)
    for picked in picks(run(of, 14)):
        assert 20_000 <= costs_of(picked)["cost/macs"] <= 60_000 and costs_of(picked)["cost/params"] <= 17


def test_the_ends_of_a_window_belong_to_it() -> None:
    of = problem(space(constraints=(Window(cost="cost/macs", low=4000, high=4000),)))
    assert is_feasible(of, {"a": 2, "b": 2}) and not is_feasible(of, {"a": 2, "b": 1})


@pytest.mark.parametrize("window", [Window(cost="cost/macs", high=1999), Window(cost="cost/macs", low=256_001, high=1e9)])
def test_an_impossible_window_is_refused_with_the_reachable_range(window: Window) -> None:
    with pytest.raises(BudgetError) as caught:
        prove_feasible(problem(space(constraints=(window,))))
    assert str(caught.value).startswith(f"cost/macs between {window.low:,.0f} and {window.high:,.0f}: nothing fits.")
    assert "2,000 to 256,000" in str(caught.value)


def test_windows_that_exclude_each_other_are_refused_with_the_reachable_ranges() -> None:
    windows = (Window(cost="cost/macs", low=200_000, high=256_000), Window(cost="cost/params", high=10))
    with pytest.raises(BudgetError, match=r"the cost windows together.*cost/macs 2,000 to 256,000; cost/params 3 to 32"):
        prove_feasible(problem(space(constraints=windows)))


def test_a_window_that_only_the_cheapest_configuration_fits_is_feasible() -> None:
    wide: dict[str, Distribution] = {"a": Int(low=1, high=2000), "b": Int(low=1, high=2000)}
    prove_feasible(problem(space(wide, constraints=(Window(cost="cost/macs", high=1000),))))


def test_a_window_that_passed_the_proof_gives_proposals() -> None:
    wide: dict[str, Distribution] = {"a": Int(low=1, high=64), "b": Int(low=1, high=64)}
    of = problem(space(wide, constraints=(Window(cost="cost/macs", high=3000),)))
    prove_feasible(of)
    assert len({digest(picked) for picked in picks(run(of, 5))}) == 5


# ---- startup --------------------------------------------------------------------------------------------------------


def shapes_problem(num_startup: int, seed: int, share: float = 1.0) -> tuple[Problem, float, float]:
    """The default space, with the ends of its log cost axis; only the lower `share` of the axis is allowed."""
    chosen, preset = load_space("default"), shapes32()

    def real_costs(picked: Picked) -> dict[str, int]:
        widths = {path: value for path, value in values_of(chosen, picked).items() if ".widths." in path}
        generator = with_values(preset, widths, where="test").student.generator
        layers = GENERATORS["resnet"].layers(generator, 8, 32, 32)
        return {"cost/macs": cost.macs(layers), "cost/params": cost.params(layers)}

    low, high = (math.log(real_costs(corner(chosen, highest))["cost/macs"]) for highest in (False, True))
    high = low + share * (high - low)
    windowed = chosen.model_copy(update={"constraints": (Window(cost="cost/macs", high=math.exp(high)),)})
    return Problem(windowed if share < 1 else chosen, real_costs, seed, num_startup), low, high


def strata(of: Problem, low: float, high: float) -> list[int]:
    """In which of `num_startup` equal parts of the log cost axis each startup proposal lies."""
    costs: list[float] = []
    history: list[Told] = []
    for number in range(of.num_startup):
        picked = search.propose(of, history, number)
        history.append(Told(picked, "RUNNING", None))
        costs.append(math.log(of.costs_of(picked)["cost/macs"]))
    return sorted(min(of.num_startup - 1, int((value - low) / (high - low) * of.num_startup)) for value in costs)


@pytest.mark.parametrize(("num_startup", "seed"), [(4, 0), (4, 1), (8, 0)])
def test_the_startup_proposals_of_the_default_space_lie_one_in_each_stratum_of_the_cost_axis(num_startup: int, seed: int) -> None:
    assert strata(*shapes_problem(num_startup, seed)) == list(range(num_startup))


def test_with_a_window_the_startup_proposals_cover_the_part_of_the_cost_axis_inside_it() -> None:
    assert strata(*shapes_problem(4, 0, share=0.6)) == [0, 1, 2, 3]
