"""The contract of every sampler and every scheduler: what a new line in `SAMPLERS` or `SCHEDULERS` must
hold."""

import math
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import pytest
from search_kit import training

from raydistill import search
from raydistill.search import (
    SAMPLERS,
    Configuration,
    EarlyStopping,
    Observation,
    Problem,
    is_feasible,
    random_configuration,
)
from raydistill.search.simulate import SimulatedTrial, simulate
from raydistill.testing import SamplerContract
from raydistill.testing.samplers import (
    MIXED,
    WINDOWS,
    assert_valid,
    costs_of,
    miou,
    mixed_outcome,
    problem,
    run,
    shake,
)

ShouldStop = Callable[[Sequence[Observation], int], bool]


def stop_bad(of: Problem) -> ShouldStop:
    """A scheduler by a threshold, so that stops are sure to come."""
    return lambda history, number: (
        history[number].curve[-1][0] == 0.5 and history[number].curve[-1][1][0] < 0.3
    )


SCHEDULERS: dict[str, Callable[[Problem], ShouldStop]] = {
    "threshold": stop_bad,
    "early-stopping": EarlyStopping,
}
IGNORE_WHAT_WAS_TOLD = ("random", "sobol", "stratified")
SLOW = ("gp",)
"""A second and more a proposal: shorter histories."""
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
every_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS)


# ---- samplers ----------------------------------------------------------------------------------------------


class TestSampler(SamplerContract):
    @pytest.fixture(params=SAMPLERS)
    def sampler(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)


@every_sampler
def test_another_number_has_other_proposals(sampler: str) -> None:
    """But for sobol, which goes on along one sequence, whatever the number. The number draws candidates of
    models: the best of all may be the same, a corner of the space, but not the next ones."""
    of = problem(sampler)
    history = run(of, 13, mixed_outcome)
    proposals = (islice(search.proposals_of(sampler)(of, history, number), 4) for number in (20, 21, 22))
    distinct = {tuple(tuple(each.items()) for each in first) for first in proposals}
    assert len(distinct) == (1 if sampler == "sobol" else 3)


@every_sampler
def test_what_was_told_and_what_is_running_count_or_do_not(sampler: str) -> None:
    """All qualities turned round change a proposal; so does a trial that runs instead of having failed,
    where samplers look at it."""
    history = run(problem("random"), 13)
    turned = [entry._replace(values=[-entry.values[0], entry.values[1]]) for entry in history if entry.values]
    changes = search.propose(problem(sampler), turned, 13) != search.propose(problem(sampler), history, 13)
    assert changes == (sampler not in IGNORE_WHAT_WAS_TOLD)
    if sampler in ("known-cost", "modelled-cost", "tpe"):
        following = search.propose(problem(sampler), history, 13)
        beside = [
            *history,
            Observation({**following, "rate": min(1.0, following["rate"] + 1e-3)}, "RUNNING", None),
        ]
        assert search.propose(problem(sampler), beside, 13) != following


def test_the_names_of_the_samplers() -> None:
    assert set(SAMPLERS) == {
        "known-cost",
        "modelled-cost",
        "tpe",
        "nsga2",
        "gp",
        "sobol",
        "random",
        "stratified",
    }


# ---- samplers with schedulers ------------------------------------------------------------------------------


@every_sampler
@pytest.mark.parametrize(("workers", "scheduler"), [(1, "threshold"), (4, "early-stopping")])
def test_a_killed_sweep_goes_on_to_the_same_end(
    sampler: str, workers: int, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a proposal depends on what is told alone is tested above: here, what was asked before is
    answered as before."""
    if sampler in SLOW and workers > 1:
        pytest.skip("once is enough")
    propose, answered = search.propose, dict[str, Configuration]()

    def once(of: Problem, history: Sequence[Observation], number: int) -> Configuration:
        question = repr((history, number))
        if question not in answered:
            answered[question] = propose(of, history, number)
        return dict(answered[question])

    monkeypatch.setattr(search, "propose", once)
    of = problem(sampler, parameters={name: MIXED[name] for name in ("a", "b", "kind", "rate")})
    count = 13 if sampler in SLOW else 20

    def swept(**given: object) -> list[SimulatedTrial]:
        return simulate(
            of,
            training,
            num_trials=count,
            num_workers=workers,
            should_stop=SCHEDULERS[scheduler](of),
            **given,
        )  # type: ignore[arg-type]

    whole = swept()
    assert {"PRUNED", "COMPLETE", "FAIL"} >= {trial.status for trial in whole} >= {"PRUNED", "COMPLETE"}
    for share in (0.05, 0.9) if workers == 1 else (0.05, 0.4, 0.9):
        killed = swept(until_sec=share * max(trial.ends_sec for trial in whole))
        assert any(trial.status == "RUNNING" for trial in killed)
        assert swept(trials=killed) == whole


# ---- schedulers --------------------------------------------------------------------------------------------


def histories() -> list[list[Observation]]:
    """Random trials in every state, the last one running with an evaluation at a half."""
    rng, out = np.random.default_rng(0), []
    for count in range(1, 40):
        configurations = [random_configuration(problem().space, rng) for _ in range(count)]
        history = []
        for number, configuration in enumerate(configurations):
            end, cost = miou(configuration), float(costs_of(configuration)["cost/macs"])
            curve = [(share, [end * share**0.5, cost]) for share in (1 / 8, 1 / 4, 1 / 2)]
            state = (
                "RUNNING"
                if number == count - 1
                else ("COMPLETE", "COMPLETE", "FAIL", "PRUNED", "RUNNING")[number % 5]
            )
            history.append(
                Observation(
                    configuration,
                    state,
                    [end, cost] if state == "COMPLETE" else None,
                    curve[: 1 + number % 3],
                )
            )
        history[-1] = history[-1]._replace(curve=curve)
        out.append(history)
    return out


@every_scheduler
def test_a_verdict_depends_on_the_history_alone(scheduler: str) -> None:
    make, asked = SCHEDULERS[scheduler], histories()
    stopping = make(problem())
    before = [list(history) for history in asked]
    first = [stopping(history, len(history) - 1) for history in asked]
    assert set(first) == {True, False}
    assert asked == before
    again = {}
    for index in reversed(range(len(asked))):  # another instance, another order, other random streams
        shake(index)
        again[index] = make(problem(seed=0))(list(asked[index]), len(asked[index]) - 1)
    assert [again[index] for index in range(len(asked))] == first


@every_scheduler
def test_the_first_trial_and_a_trial_as_good_as_any_go_on(scheduler: str) -> None:
    stopping = SCHEDULERS[scheduler](problem())
    for history in histories():
        best = max(entry.curve[-1][1][0] for entry in history)
        cheapest = min(costs_of(entry.configuration)["cost/macs"] for entry in history)
        star = {**history[-1].configuration, "a": 2, "b": 1}
        curve = [(share, [best + 1, float(min(cheapest, 2000))]) for share in (1 / 8, 1 / 4, 1 / 2)]
        assert not stopping([*history[:-1], Observation(star, "RUNNING", None, curve)], len(history) - 1)


@every_scheduler
@pytest.mark.parametrize("sampler", ["known-cost", "random"])
def test_stopped_trials_count_as_proposed_and_windows_hold(sampler: str, scheduler: str) -> None:
    of = problem(sampler, constraints=WINDOWS)
    trials = simulate(of, training, num_trials=20, num_workers=3, should_stop=SCHEDULERS[scheduler](of))
    assert_valid(of, [trial.configuration for trial in trials])
    assert all(is_feasible(of, trial.configuration) and not math.isnan(trial.ends_sec) for trial in trials)
    assert {trial.status for trial in trials} <= {"COMPLETE", "PRUNED", "FAIL"}
