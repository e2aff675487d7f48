"""Early stopping: the rules one by one, and what they save in a simulated sweep."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import t

from raydistill.config.space import Float, Objective, SearchSpace
from raydistill.records.pareto import hypervolume
from raydistill.search import (
    Configuration,
    EarlyStopping,
    Observation,
    Problem,
    random_configuration,
    stopping,
)
from raydistill.search.simulate import Outcome, simulate
from raydistill.search.stopping import expected_end

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

EVERY_SHARE = pytest.mark.parametrize("share", SHARES)
WIDTHS = pytest.mark.parametrize("width", [0.0, 0.3, 0.6, 1.0])


def same_cost(ends: Sequence[float]) -> list[Observation]:
    return [observation(0.5, end) for end in ends]


@EVERY_SHARE
@pytest.mark.parametrize("width", [0.2, 0.3, 0.6, 1.0])
def test_a_trial_that_others_dominate_is_stopped_whatever_it_costs(width: float, share: float) -> None:
    assert EarlyStopping(problem())(
        [*history_of_good(), observation(width, good(width) + 0.5, up_to=share)], 12
    )


@EVERY_SHARE
@WIDTHS
def test_a_good_trial_goes_on_whatever_it_costs(width: float, share: float) -> None:
    """The cheapest has the worst error of all and is good for its cost."""
    assert not EarlyStopping(problem())(
        [*history_of_good(), observation(width, good(width) - 0.3, up_to=share)], 12
    )


def test_nobody_is_stopped_before_whole_trainings_tell_what_an_evaluation_says() -> None:
    """One that is worst, beside many; six whole trainings leave three degrees of freedom."""
    many = [observation(0.5, 1.0, up_to=1 / 8) for _ in range(20)]
    for num_whole, is_stopped in ((0, False), (5, False), (6, True)):
        history = [*many, *history_of_good()[:num_whole], observation(0.5, 9.0, up_to=1 / 8)]
        assert EarlyStopping(problem())(history, len(history) - 1) == is_stopped


def test_where_the_order_still_changes_the_worst_goes_on() -> None:
    """The whole trainings, of one cost, ended in an order that has nothing to do with that at the first
    evaluation."""
    rng = np.random.default_rng(0)
    cost = costs_of({"width": 0.5})["cost/macs"]

    def history(noise: float) -> list[Observation]:
        return [
            one._replace(curve=[(at, [values[0] + noise * rng.normal(), cost]) for at, values in one.curve])
            for one in same_cost(rng.uniform(1.0, 2.0, 20).tolist())
        ]

    worst = observation(0.5, 2.5, up_to=1 / 8)
    assert EarlyStopping(problem())([*history(0.02), worst], 20)
    assert not EarlyStopping(problem())([*history(5.0), worst], 20)


def test_the_less_is_left_of_a_training_the_less_it_has_to_be_worth() -> None:
    """It will surely be better by .004, which is .002 of the hypervolume between the best and the worst."""
    history = same_cost(np.linspace(1.0, 3.0, 12).tolist())
    worth = 0.004 / 2
    for share in SHARES:
        is_stopped = EarlyStopping(problem())([*history, observation(0.5, 0.996, up_to=share)], 12)
        assert is_stopped == (worth < 0.25 * (1 - share) / 60)
    assert 0.25 * (1 - SHARES[0]) / 60 > worth > 0.25 * (1 - SHARES[-1]) / 60
    unknown = problem()._replace(num_trials=None)
    assert not EarlyStopping(unknown)([*history, observation(0.5, 0.9, up_to=1 / 8)], 12)
    assert EarlyStopping(unknown)([*history, observation(0.5, 0.996, up_to=1 / 8)], 12), "of 13 trials"


def test_a_reference_far_away_does_not_make_all_gains_small() -> None:
    far = Objective(name="val/kd_evaluator", direction="min", reference=1e9)
    history = same_cost(np.linspace(1.0, 3.0, 12).tolist())
    assert not EarlyStopping(problem(far, MACS))([*history, observation(0.5, 0.5, up_to=1 / 8)], 12)
    none = Objective(name="val/kd_evaluator", direction="min")
    assert not EarlyStopping(problem(none, MACS))([*history, observation(0.5, 0.5, up_to=1 / 8)], 12)


def test_what_is_worse_than_all_so_far_and_much_cheaper_goes_on() -> None:
    """The hypervolume that a sweep is measured by counts it."""
    history = same_cost(np.linspace(1.0, 3.0, 12).tolist())
    assert not EarlyStopping(problem())([*history, observation(0.1, 4.0, up_to=1 / 8)], 12)
    assert EarlyStopping(problem())([*history, observation(0.1, 11.0, up_to=1 / 8)], 12), (
        "not even the reference"
    )


def test_a_trial_that_violates_a_constraint_is_no_reason_to_stop_another() -> None:
    better = [each._replace(constraints={"memory": 1.0}) for each in same_cost([0.5, 0.6])]
    history = [*same_cost(np.linspace(1.0, 3.0, 12).tolist()), *better]
    mine = observation(0.5, 0.7, up_to=1 / 8)
    assert not EarlyStopping(problem())([*history, mine], 14)
    allowed = [each._replace(constraints={"memory": -1.0}) for each in better]
    assert EarlyStopping(problem())([*history[:12], *allowed, mine], 14)


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
    history.append(two(1.5, 0.42))
    assert not stopping([*history, two(3.0, 0.9, up_to=1 / 4)], 7)
    assert stopping([*history, two(3.0, 0.3, up_to=1 / 4)], 7)


def test_a_single_objective_is_enough() -> None:
    def one(end: float, up_to: float = 1.0) -> Observation:
        full = observation(0.5, end, up_to)
        return full._replace(
            curve=[(share, values[:1]) for share, values in full.curve], values=full.values and [end]
        )

    stopping = EarlyStopping(problem(ERROR))
    history = [one(end) for end in np.linspace(1.0, 3.0, 12).tolist()]
    assert stopping([*history, one(2.0, up_to=1 / 8)], 12)
    assert not stopping([*history, one(0.9, up_to=1 / 8)], 12)


def test_where_no_objective_is_a_cost_the_qualities_decide() -> None:
    def two(width: float, error: float, up_to: float = 1.0) -> Observation:
        full = observation(width, error, up_to)
        turned = [(share, [values[0], 5 - values[0]]) for share, values in full.curve]
        return full._replace(curve=turned, values=None if full.values is None else [error, 5 - error])

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


def test_half_of_the_images_is_saved_at_equal_hypervolume() -> None:
    """Random proposals, of which two in five are on the front; many of these add hardly anything."""
    images, share = 0.0, []
    for seed in range(4):
        of = problem(seed=seed)
        trials = simulate(of, training, num_trials=60, num_workers=4, should_stop=EarlyStopping(of))
        assert {trial.status for trial in trials} == {"COMPLETE", "PRUNED"}
        images += sum(trial.steps for trial in trials) / (4 * 60 * 800)
        ends, whole = (
            np.array([t.outcome.values for t in trials if t.status in states])
            for states in (("COMPLETE", "PRUNED"), "COMPLETE")
        )
        volumes = [hypervolume(points, ["min", "min"], [6.0, 1e3]) for points in (whole, ends)]
        share.append(volumes[0] / volumes[1])
    print(f"{images:.2f} of the images, {min(share):.4f} of the hypervolume at least")
    assert images < 0.5 and min(share) > 0.99


def test_the_verdict_does_not_depend_on_what_runs_behind() -> None:
    """A trial that has not come so far says nothing."""
    stopping, rng = EarlyStopping(problem()), np.random.default_rng(0)
    late: Sequence[Observation] = [observation(0.5, 9.0, up_to=1 / 8) for _ in range(9)]
    for _ in range(10):
        configuration = random_configuration(problem().space, rng)
        mine = observation(configuration["width"], 1 + 3 * configuration["other"], up_to=1 / 2)
        assert stopping([*history_of_good(), mine, *late], 12) == stopping([*history_of_good(), mine], 12)


# ---- what a verdict is made of -----------------------------------------------------------------------------


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
    np.testing.assert_allclose(found.standard_deviation, deviation * t(6).std(), rtol=1e-6)


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
