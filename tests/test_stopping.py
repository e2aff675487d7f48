"""Early stopping: the rules one by one, and what they save in a simulated sweep."""

from collections.abc import Sequence

import numpy as np
import pytest

from raydistill.config.space import Float, Objective, SearchSpace
from raydistill.records.pareto import hypervolume, members
from raydistill.search import Configuration, EarlyStopping, Observation, Problem, random_configuration
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
    """Error that falls to `end` in a straight line, by `gain` in all; stopped or running at the share `up_to`."""
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


# ---- rules ----------------------------------------------------------------------------------------------------------


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
    """The whole trainings, of one cost, ended in an order that has nothing to do with that at the first rung."""
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
    """Every training gains 0.25 from the share 3/4 on, so 0.2 above the front is hopeless, were it not cheaper."""
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


# ---- a sweep --------------------------------------------------------------------------------------------------------


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
        f"{images:.2f} of the images, {lost} of {front} front members stopped, {min(share):.4f} of the hypervolume at least"
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
