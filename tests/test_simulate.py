"""Simulated sweeps: the clock, early stopping, recorded tables. A kill at any time is in
`test_search_kit`."""

import itertools
import math
from collections.abc import Sequence

import pandas as pd
import pytest

from raydistill.config.space import Choice, Distribution, Float, Int, Objective, SearchSpace
from raydistill.errors import SpaceError
from raydistill.search import Configuration, Observation, Problem
from raydistill.search.simulate import Outcome, outcomes_from_table, simulate
from raydistill.testing.samplers import deep_outcome, deep_problem, is_too_deep

PARAMETERS: dict[str, Distribution] = {
    "a": Int(low=1, high=8),
    "b": Int(low=1, high=8),
    "kind": Choice(options={"x": 1, "y": 2}),
}


def space(parameters: dict[str, Distribution] = PARAMETERS) -> SearchSpace:
    objectives = (
        Objective(name="val/error", direction="min", reference=1.0),
        Objective(name="cost/macs", direction="min"),
    )
    return SearchSpace(preset="none", parameters=parameters, objectives=objectives, uniform=(1,))


def costs_of(configuration: Configuration) -> dict[str, float]:
    return {"cost/macs": float(configuration["a"] * configuration["b"])}


def problem(sampler: str = "random", seed: int = 0) -> Problem:
    return Problem(space(), costs_of, seed, 4, sampler, 20)


def outcome_of(configuration: Configuration, number: int) -> Outcome:
    """Cost grows the time; number 5 fails; two evaluations before the last."""
    cost = costs_of(configuration)["cost/macs"]
    error = 1 / (1 + cost) + (0.1 if configuration["kind"] == "y" else 0.0)
    curve = [(100, [4 * error, cost]), (200, [2 * error, cost])]
    return Outcome(None if number == 5 else [error, cost], 1.0 + cost / 10 + 0.01 * number, 400, curve)


def stop_bad(history: Sequence[Observation], number: int) -> bool:
    share, values = history[number].curve[-1]
    return share == 0.5 and values[0] > 0.3


def test_workers_are_never_idle_and_never_more_than_there_are() -> None:
    trials = simulate(problem(), outcome_of, num_trials=20, num_workers=3)
    assert len(trials) == 20
    for at in sorted(trial.started_sec for trial in trials):
        running = sum(trial.started_sec <= at < trial.ends_sec for trial in trials)
        assert running <= 3 and (running == 3 or at == 0)
    starts = sorted(trial.started_sec for trial in trials)[3:]
    assert set(starts) <= {trial.ends_sec for trial in trials}


def test_more_workers_end_a_sweep_sooner_and_know_less() -> None:
    one, four = (
        simulate(problem("known-cost"), outcome_of, num_trials=20, num_workers=workers) for workers in (1, 4)
    )
    ends = [max(trial.ends_sec for trial in trials) for trials in (one, four)]
    assert ends[1] < 0.5 * ends[0] and [t.configuration for t in one] != [t.configuration for t in four]


def test_a_stopped_trial_is_pruned_and_frees_its_worker_at_once() -> None:
    trials = simulate(problem(), outcome_of, num_trials=20, num_workers=2, should_stop=stop_bad)
    pruned = [trial for trial in trials if trial.status == "PRUNED"]
    assert pruned and {trial.status for trial in trials} <= {"PRUNED", "COMPLETE", "FAIL"}
    for trial in pruned:
        assert trial.steps == 200 and trial.observation.values is None and trial.observation.state == "PRUNED"
        assert trial.ends_sec == pytest.approx(trial.started_sec + trial.outcome.wall_sec / 2)
        assert any(other.started_sec == trial.ends_sec for other in trials) or trial.number >= 18
    assert trials[5].status == ("FAIL" if trials[5] not in pruned else "PRUNED")
    assert all(trial.outcome.curve[1][1][0] <= 0.3 for trial in trials if trial.status == "COMPLETE")


def test_early_stopping_sees_every_evaluation_in_the_order_of_the_clock() -> None:
    seen: list[tuple[int, float]] = []

    def should_stop(history: Sequence[Observation], number: int) -> bool:
        assert history[number].state == "RUNNING"
        seen.append((number, history[number].curve[-1][0]))
        return False

    trials = simulate(problem(), outcome_of, num_trials=10, num_workers=4, should_stop=should_stop)
    times = [trials[number].at_sec(int(400 * share)) for number, share in seen]
    assert times == sorted(times) and len(seen) == 20


def test_a_resume_may_ask_for_more_trials() -> None:
    of = problem("known-cost")
    few = simulate(of, outcome_of, num_trials=8, num_workers=1)
    assert simulate(of, outcome_of, num_trials=16, num_workers=1, trials=few) == simulate(
        of, outcome_of, num_trials=16, num_workers=1
    )


def test_an_exhausted_space_ends_the_sweep() -> None:
    small = Problem(
        space({"a": Int(low=1, high=2), "b": Int(low=1, high=2), "kind": Choice(options={"x": 1})}),
        costs_of,
        0,
        4,
    )
    assert len(simulate(small, outcome_of, num_trials=20, num_workers=3)) == 4


# ---- tables of results -------------------------------------------------------------------------------------


def table() -> pd.DataFrame:
    rows = [
        {"a": a, "b": b, "kind": kind, "val/error": 1 / (a * b) + 0.01 * seed}
        for a, b, kind, seed in itertools.product(range(1, 9), range(1, 9), "xy", range(2))
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(**{"cost/macs": frame["a"] * frame["b"], "sec": frame["a"] + frame["b"]})


def test_a_recorded_table_is_swept_and_seeds_are_taken_in_turn() -> None:
    lookup = outcomes_from_table(space(), table(), wall_sec="sec")
    configuration = {"a": 2, "b": 4, "kind": "y"}
    assert lookup(configuration, 0) == Outcome([0.125, 8.0], 6.0) and lookup(
        configuration, 3
    ).values == pytest.approx([0.135, 8.0])
    trials = simulate(problem(), lookup, num_trials=12, num_workers=4)
    assert all(trial.outcome.values == lookup(trial.configuration, trial.number).values for trial in trials)


def test_an_empty_measurement_is_a_failed_training() -> None:
    broken = table()
    broken.loc[0, "val/error"] = math.nan
    assert outcomes_from_table(space(), broken)({"a": 1, "b": 1, "kind": "x"}, 0).values is None


def test_a_table_that_does_not_fit_the_space_is_refused() -> None:
    for broken, message in (
        (table().drop(columns="b"), r"no column 'b'; it needs a, b, kind, val/error, cost/macs"),
        (table().assign(kind="z"), r"kind = 'z' is no option. Options: x, y"),
        (table().assign(a=9), r"a = 9 lies outside 1 to 8"),
    ):
        with pytest.raises(SpaceError, match=message):
            outcomes_from_table(space(), broken)
    with pytest.raises(
        SpaceError, match=r"a is a Float, of which no table holds every value; make it an Int or a Choice"
    ):
        outcomes_from_table(space(PARAMETERS | {"a": Float(low=1, high=8)}), table())
    with pytest.raises(SpaceError, match="must hold every configuration of the space"):
        outcomes_from_table(space(), table()[:4])({"a": 8, "b": 8, "kind": "x"}, 0)


def test_a_space_of_three_objectives_with_a_conditional_depth_is_simulated_and_resumed() -> None:
    """What was killed in the middle goes on to the same eighteen; no refused combination among them."""

    def outcome(configuration: Configuration, number: int) -> Outcome:
        return Outcome(deep_outcome(configuration, number).values, 1.0 + number % 3)

    of = deep_problem("known-cost")
    whole = simulate(of, outcome, num_trials=18, num_workers=2)
    killed = simulate(of, outcome, num_trials=18, num_workers=2, until_sec=8.5)
    assert len(killed) < 18
    resumed = simulate(of, outcome, num_trials=18, num_workers=2, trials=killed)
    assert resumed == whole
    depths = [trial.configuration.get("depth") for trial in whole]
    assert None in depths and len(set(depths)) > 2
    assert not any(is_too_deep(trial.configuration) for trial in whole)
