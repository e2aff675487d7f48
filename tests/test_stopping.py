"""Early stopping: the rules one by one, and what they save in a simulated sweep."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import t

from raydistill.config.space import Float, Objective, SearchSpace
from raydistill.records.pareto import hypervolume, members
from raydistill.search import (
    Configuration,
    EarlyStopping,
    Observation,
    Problem,
    random_configuration,
    stopping,
)
from raydistill.search.simulate import Outcome, simulate
from raydistill.search.stopping import RUNGS, expected_end

ERROR, MIOU, MACS = (
    Objective(name="val/kd_evaluator", direction="min", reference=10.0),
    Objective(name="val/miou", direction="max", reference=0.0),
    Objective(name="cost/macs", direction="min"),
)
SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4)


def problem(*objectives: Objective, seed: int = 0) -> Problem:
    parameters = {"width": Float(low=0.0, high=1.0), "other": Float(low=0.0, high=1.0)}
    space = SearchSpace(
        preset="none", parameters=parameters, objectives=objectives or (ERROR, MACS), uniform=(1,)
    )
    return Problem(space, costs_of, seed, 6, "random", 60)


def costs_of(configuration: Configuration) -> dict[str, float]:
    return {"cost/macs": 10 ** (1 + 2 * configuration["width"])}


def observation(
    width: float, end: float, up_to: float = 1.0, state: str | None = None, gain: float = 1.0
) -> Observation:
    """Error that falls to `end` in a straight line, by `gain` in all; stopped or running at the share
    `up_to`."""
    cost = costs_of({"width": width})["cost/macs"]
    curve = [(share, [end + gain * (1 - share), cost]) for share in SHARES if share <= up_to]
    values = [end, cost] if up_to == 1 else None
    return Observation(
        {"width": width, "other": 0.5}, state or ("COMPLETE" if values else "RUNNING"), values, curve
    )


def good(width: float) -> float:
    """The best error of a width: what is cheap is worse."""
    return 3.0 - 2 * width


def history_of_good(count: int = 12) -> list[Observation]:
    return [
        observation(width, good(width) + 0.02 * (index % 3))
        for index, width in enumerate(np.linspace(0.1, 1.0, count).tolist())
    ]


# ---- rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", RUNGS)
def test_the_cheapest_bad_trial_is_stopped_though_nothing_dominates_it(share: float) -> None:
    cheapest = observation(0.0, good(0.0) + 1.0, up_to=share)
    history = [*history_of_good(), cheapest]
    assert all(other.values[1] > cheapest.curve[-1][1][1] for other in history[:-1] if other.values)
    assert EarlyStopping(problem())(history, 12)


@pytest.mark.parametrize("share", RUNGS)
@pytest.mark.parametrize("width", [0.0, 0.3, 0.6, 1.0])
def test_a_good_trial_goes_on_whatever_it_costs(width: float, share: float) -> None:
    """The cheapest has the worst error of all and is good for its cost."""
    assert not EarlyStopping(problem())(
        [*history_of_good(), observation(width, good(width) - 0.01, up_to=share)], 12
    )


@pytest.mark.parametrize("width", [0.0, 0.3, 0.6, 1.0])
def test_a_bad_trial_is_stopped_at_the_first_rung_whatever_it_costs(width: float) -> None:
    assert EarlyStopping(problem())(
        [*history_of_good(), observation(width, good(width) + 0.5, up_to=RUNGS[0])], 12
    )


def test_nobody_is_stopped_before_whole_trainings_tell_what_an_evaluation_says() -> None:
    """One that is worst at a rung, beside many; four whole trainings leave one degree of freedom."""
    many = [observation(0.5, 1.0, up_to=1 / 8) for _ in range(20)]
    for num_whole, is_stopped in ((0, False), (3, False), (4, True)):
        history = [*many, *history_of_good()[:num_whole], observation(0.5, 9.0, up_to=1 / 8)]
        assert EarlyStopping(problem())(history, len(history) - 1) == is_stopped


def test_where_the_order_still_changes_the_worst_goes_on() -> None:
    """The whole trainings, of one cost, ended in an order that has nothing to do with that at the first
    rung."""
    rng = np.random.default_rng(0)
    cost = costs_of({"width": 0.5})["cost/macs"]

    def history(noise: float) -> list[Observation]:
        ends = rng.uniform(1.0, 2.0, 20).tolist()
        full = [observation(0.5, end) for end in ends]
        return [
            one._replace(curve=[(at, [values[0] + noise * rng.normal(), cost]) for at, values in one.curve])
            for one in full
        ]

    worst = observation(0.5, 2.5, up_to=1 / 8)
    assert EarlyStopping(problem())([*history(0.02), worst], 20)
    assert not EarlyStopping(problem())([*history(5.0), worst], 20)


def test_between_the_rungs_a_trial_is_stopped_only_when_it_cannot_reach_the_front() -> None:
    """Every training gains 0.25 from the share 3/4 on, so 0.2 above the front is hopeless, were it not
    cheaper."""
    stopping = EarlyStopping(problem())
    assert stopping([*history_of_good(), observation(0.55, good(0.55) + 0.5, up_to=3 / 4)], 12)
    assert not stopping([*history_of_good(), observation(0.55, good(0.55) - 0.01, up_to=3 / 4)], 12)
    assert not stopping([*history_of_good(), observation(0.0, good(0.0) + 0.5, up_to=3 / 4)], 12)
    slow = [
        *history_of_good(),
        observation(0.9, good(0.9), gain=4.0),
    ]  # gains 1.0 from there on: so might the other
    assert not stopping([*slow, observation(0.55, good(0.55) + 0.5, up_to=3 / 4)], 13)


def test_with_two_qualities_who_is_best_in_one_goes_on() -> None:
    def two(error: float, miou: float, up_to: float = 1.0) -> Observation:
        curve = [(share, [error, miou, 100.0]) for share in SHARES if share <= up_to]
        done = up_to == 1
        return Observation(
            {"width": 0.5, "other": 0.5},
            "COMPLETE" if done else "RUNNING",
            [error, miou, 100.0] if done else None,
            curve,
        )

    stopping = EarlyStopping(problem(ERROR, MIOU, MACS))
    history = [two(1.0, 0.5), two(1.1, 0.6), two(0.9, 0.4), two(1.2, 0.45), two(1.3, 0.44), two(1.4, 0.43)]
    assert not stopping([*history, two(3.0, 0.9, up_to=1 / 4)], 6)
    assert stopping([*history, two(3.0, 0.3, up_to=1 / 4)], 6)


def test_where_no_objective_is_a_cost_the_strata_are_still_those_of_the_cost() -> None:
    def two(width: float, error: float, up_to: float = 1.0) -> Observation:
        full = observation(width, error, up_to)
        turned = [(share, [values[0], -values[0]]) for share, values in full.curve]
        return full._replace(curve=turned, values=None if full.values is None else [error, -error])

    stopping = EarlyStopping(problem(ERROR, MIOU))
    history = [two(width, good(width)) for width in np.linspace(0.1, 1.0, 12).tolist()]
    assert stopping([*history, two(0.0, good(0.0) + 1.0, up_to=1 / 8)], 12)
    assert not stopping([*history, two(1.0, good(1.0) - 0.1, up_to=1 / 8)], 12)


def test_what_a_stopped_trial_would_have_reached() -> None:
    """Of those that gain in proportion to what they have to go, the line through them says the end."""
    space, cost = problem().space, costs_of({"width": 0.5})["cost/macs"]
    history = history_of_good()
    stopped = observation(0.5, 2.0, up_to=1 / 2, state="PRUNED")
    assert expected_end(space, history, stopped) == pytest.approx([2.0, cost])
    halved = [one._replace(values=[one.curve[2][1][0] / 2, one.curve[2][1][1]]) for one in history]
    assert expected_end(space, halved, stopped) == pytest.approx([1.25, cost], rel=1e-3)
    assert expected_end(space, history[:1], stopped) == pytest.approx([2.0, cost])
    assert (
        expected_end(space, [], stopped) is None
        and expected_end(space, history, stopped._replace(curve=())) is None
    )
    assert expected_end(space, [], history[0]) == history[0].values


# ---- a sweep -----------------------------------------------------------------------------------------------


def training(configuration: Configuration, number: int) -> Outcome:
    """Curves that cross: what is dear learns more slowly."""
    rng = np.random.default_rng(number)
    cost = costs_of(configuration)["cost/macs"]
    end = good(configuration["width"]) + 3 * (configuration["other"] - 0.3) ** 2
    slow = 0.3 * (0.5 + configuration["width"]) * np.exp(0.2 * rng.normal())
    curve = [
        (int(800 * share), [float(end + slow * (share**-0.5 - 1) + 0.01 * rng.normal()), cost])
        for share in SHARES
    ]
    return Outcome([end, cost], 1.0 + configuration["width"], 800, curve)


def test_a_third_of_the_images_is_saved_and_hardly_any_of_the_front_is_lost() -> None:
    """Random proposals, of which two in five are on the front and should not be stopped."""
    images, front, lost, share = 0.0, 0, 0, []
    for seed in range(4):
        of = problem(seed=seed)
        trials = simulate(of, training, num_trials=60, num_workers=4, should_stop=EarlyStopping(of))
        assert {trial.status for trial in trials} == {"COMPLETE", "PRUNED"}
        images += sum(trial.steps for trial in trials) / (4 * 60 * 800)
        ends, whole = (
            np.array([t.outcome.values for t in trials if t.status in states])
            for states in (("COMPLETE", "PRUNED"), "COMPLETE")
        )
        is_member = members(ends, ["min", "min"])
        front += int(is_member.sum())
        lost += sum(trial.status == "PRUNED" for trial, member in zip(trials, is_member) if member)
        volumes = [hypervolume(points, ["min", "min"], [6.0, 1e3]) for points in (whole, ends)]
        share.append(volumes[0] / volumes[1])
    print(
        f"{images:.2f} of the images, {lost} of {front} front members stopped, {min(share):.4f} of the "
        "hypervolume at least"
    )
    assert images < 0.67 and lost <= 0.05 * front and min(share) > 0.98


def test_the_verdict_does_not_depend_on_what_runs_behind() -> None:
    """A trial that has not come so far says nothing."""
    stopping, rng = EarlyStopping(problem()), np.random.default_rng(0)
    late: Sequence[Observation] = [observation(0.5, 9.0, up_to=1 / 8) for _ in range(9)]
    for _ in range(10):
        configuration = random_configuration(problem().space, rng)
        mine = observation(configuration["width"], 1 + 3 * configuration["other"], up_to=1 / 2)
        assert stopping([*history_of_good(), mine, *late], 12) == stopping([*history_of_good(), mine], 12)


# ---- what a verdict is made of -----------------------------------------------------------------------------


def test_a_trial_is_looked_at_where_it_passes_an_eighth_a_quarter_or_a_half() -> None:
    """By its newest two evaluations; what lies between two of them is passed at the second."""
    stopping, cost = EarlyStopping(problem()), costs_of({"width": 0.0})["cost/macs"]

    def stops(*shares: float) -> bool:
        end = good(0.0) + 1.0
        curve = [(share, [end + 1 - share, cost]) for share in shares]
        cheapest = Observation({"width": 0.0, "other": 0.5}, "RUNNING", None, curve)
        return stopping([*history_of_good(), cheapest], 12)

    assert stops(1 / 8) and stops(0.2) and stops(1 / 8, 1 / 4) and stops(0.2, 0.3) and stops(0.3, 0.9)
    assert not stops(0.12) and not stops(1 / 8, 0.2) and not stops(1 / 4, 0.49) and not stops(1 / 2, 3 / 4)


def test_a_trial_in_the_lower_half_of_its_stratum_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight of hardly different cost, the cheapest one running: four better ones are too many, three are
    not."""
    monkeypatch.setattr(stopping, "_without_trend", lambda values, costs: values)

    def stops(end: float, number: int) -> bool:
        others = [observation(0.5, 1.0 + index) for index in range(1, number)]
        mine = observation(0.499, end, up_to=1 / 8)
        verdict = EarlyStopping(problem())
        return verdict._loses_its_rung([*others, mine], number - 1, np.array([end, mine.curve[0][1][1]]))

    assert stops(5.5, 8) and not stops(4.5, 8)
    assert stops(5.5, 7) and not stops(4.5, 7)
    assert stops(3.5, 4) and not stops(2.5, 4)
    assert not stops(9.0, 3)


def test_strata_are_quarters_of_the_cost_range_and_small_ones_join_a_neighbour() -> None:
    def around(costs: list[float], mine: int) -> list[int]:
        return sorted(stopping._stratum(np.array(costs), mine).tolist())

    four = [0.0, 0.5, 0.9, 0.99, 1.0, 1.1, 1.5, 1.9, 2.0, 2.2, 2.5, 2.9, 3.0, 3.3, 3.6, 4.0]
    assert [around(four, mine) for mine in (0, 4, 8, 15)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]
    few = [0.0, 0.1, 0.2, 0.3, 0.4, 1.1, 2.0, 2.1, 2.2, 2.3, 3.2, 3.3, 3.4, 4.0]
    assert around(few, 5) == around(few, 6) == [5, 6, 7, 8, 9]
    assert around(few, 0) == [0, 1, 2, 3, 4] and around(few, 13) == [10, 11, 12, 13]
    assert around([0.0, 1.0, 2.0], 1) == [0, 1, 2] and around([1.0] * 5, 2) == [0, 1, 2, 3, 4]


def test_the_trend_is_the_median_slope_of_all_pairs_of_other_cost() -> None:
    rng = np.random.default_rng(0)
    costs = np.array([1.0, 1.0, 2.0, 3.0, 5.0, 8.0])
    values = 2 - 3 * costs + rng.normal(size=6) + np.array([0, 0, 0, 0, 0, 90])
    slopes = [
        (values[j] - values[i]) / (costs[j] - costs[i])
        for i in range(6)
        for j in range(i)
        if costs[i] != costs[j]
    ]
    assert len(slopes) == 14
    np.testing.assert_allclose(stopping._without_trend(values, costs), values - np.median(slopes) * costs)
    np.testing.assert_array_equal(stopping._without_trend(values, np.ones(6)), values)


def test_a_trial_buys_something_where_it_beats_a_cheaper_one_and_no_other_as_cheap_is_as_good() -> None:
    def buys(mine: float, cost: float, *others: tuple[float, float]) -> bool:
        points = np.array([[mine], *([value] for value, _ in others)])
        return stopping._buys_something(points, np.array([cost, *(other for _, other in others)]), 0)

    assert buys(1.0, 2.0, (1.5, 1.0))
    assert not buys(1.0, 2.0, (1.0, 1.0)) and not buys(1.0, 2.0, (0.5, 1.0))
    assert not buys(1.0, 2.0, (1.5, 1.0), (0.9, 2.0)) and buys(1.0, 2.0, (1.5, 1.0), (1.1, 2.0))
    assert not buys(1.0, 2.0, (1.5, 2.0)) and not buys(1.0, 2.0, (0.1, 3.0)), "nothing is cheaper"
    assert buys(1.0, 2.0, (1.5, 1.0), (0.1, 3.0))
    points, costs = np.array([[1.0, 1.0], [0.9, 1.1], [1.0, 1.1]]), np.array([2.0, 1.0, 1.0])
    assert stopping._buys_something(points, costs, 0)
    assert not stopping._buys_something(np.array([[1.0, 1.0], [0.9, 0.9]]), np.array([2.0, 1.0]), 0)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_better_layers_are_those_of_non_dominated_sorting(columns: int) -> None:
    points = np.random.default_rng(columns).integers(0, 5, (25, columns)).astype(float)
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    dominates = no_worse & (points[:, None, :] < points[None, :, :]).any(axis=2)
    layers, left = np.full(25, -1), np.ones(25, dtype=bool)
    while left.any():
        first = left & ~dominates[left].any(axis=0)
        layers[first], left = layers.max() + 1, left & ~first
    for index, point in enumerate(points):
        assert stopping._num_in_better_fronts(points, point) == (layers < layers[index]).sum()


def test_an_end_is_predicted_by_least_squares_with_its_standard_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Student's t around the line: s^2 (1 + x' (X'X)^-1 x), intercept in X, n - 3 degrees of freedom."""
    monkeypatch.setattr(stopping, "_SHRINKAGE", 1e-12)
    rng = np.random.default_rng(0)
    here, point = rng.normal(3, 2, (9, 2)), np.array([4.0, 2.0])
    end = here @ np.array([[0.6, -0.2], [0.1, 0.9]]) + [1.0, -2.0] + 0.3 * rng.normal(size=(9, 2))
    design, mine = np.hstack([np.ones((9, 1)), here]), np.array([1.0, *point])
    coefficients = np.linalg.lstsq(design, end, rcond=None)[0]
    squares = ((end - design @ coefficients) ** 2).sum(axis=0) / 6
    deviation = np.sqrt(squares * (1 + mine @ np.linalg.inv(design.T @ design) @ mine))
    found = stopping._predicted(point, here, end)
    assert found.freedom == 6
    np.testing.assert_allclose(found.mean, mine @ coefficients, rtol=1e-6)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-6)
    np.testing.assert_allclose(found.best(0.05), found.mean + t.ppf(0.05, 6) * deviation, rtol=1e-6)


def test_a_trial_between_the_rungs_is_given_a_smaller_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def best(self: stopping._Prediction, chance: float) -> np.ndarray:
        asked.append(chance)
        return self.mean - 100

    monkeypatch.setattr(stopping._Prediction, "best", best)
    for share in (1 / 8, 3 / 4):
        EarlyStopping(problem())([*history_of_good(), observation(0.5, 2.0, up_to=share)], 12)
    assert asked == [0.01, 0.05, 0.01]


def test_the_end_of_an_objective_that_is_to_be_high_is_expected_as_high() -> None:
    def one(end: float, up_to: float = 1.0) -> Observation:
        curve = [(share, [end * share, 100.0]) for share in SHARES if share <= up_to]
        done = up_to == 1
        return Observation(
            {"width": 0.5}, "COMPLETE" if done else "PRUNED", [end, 100.0] if done else None, curve
        )

    space, history = problem(MIOU, MACS).space, [one(0.1 * index) for index in range(1, 9)]
    assert expected_end(space, history, one(0.65, up_to=1 / 2)) == pytest.approx([0.65, 100.0], rel=1e-3)
    early = one(0.65, up_to=1 / 2)
    assert expected_end(space, history, early, share=1 / 4) == pytest.approx([0.65, 100.0], rel=1e-3)
    assert expected_end(space, history, early, share=3 / 4) is None


def test_an_evaluation_at_a_share_is_the_first_from_there_on() -> None:
    running = Observation({}, "RUNNING", None, [(0.25, [1.0]), (0.5, [2.0])])
    at = [stopping._at(running, share) for share in (0.2, 0.25, 0.26, 0.5, 0.51)]
    assert at == [[1.0], [1.0], [2.0], [2.0], None]
    ended = running._replace(values=[3.0])
    assert stopping._at(ended, 0.51) == [3.0] and stopping._at(ended._replace(curve=()), 0.51) is None
