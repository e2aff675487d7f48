"""The contract of every sampler and every scheduler: what a new line in `SAMPLERS` or `SCHEDULERS` must
hold."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from search_kit import (
    MIXED,
    SMALL,
    WINDOWS,
    assert_valid,
    costs_of,
    miou,
    mixed_outcome,
    observation,
    problem,
    run,
    training,
)

from raydistill import search
from raydistill.config.space import Int
from raydistill.errors import BudgetError
from raydistill.search import (
    SAMPLERS,
    Configuration,
    EarlyStopping,
    Observation,
    Problem,
    identity,
    is_feasible,
    random_configuration,
)
from raydistill.search.simulate import SimulatedTrial, simulate

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


def shaken(number: int) -> None:
    """All global random streams somewhere else."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


# ---- samplers ----------------------------------------------------------------------------------------------


@every_sampler
def test_a_proposal_depends_on_seed_number_and_history_alone(sampler: str) -> None:
    history = run(problem(sampler), 13, mixed_outcome)
    for number in (1, 12):
        shaken(number)
        assert (
            search.propose(problem(sampler), list(history[:number]), number) == history[number].configuration
        )
    assert search.propose(problem(sampler, seed=1), history[:1], 1) != history[1].configuration
    other_number = search.propose(problem(sampler), history, 20) != search.propose(
        problem(sampler), history, 21
    )
    assert other_number or sampler == "sobol"  # which goes on along one sequence, whatever the number


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


@every_sampler
def test_every_state_conditions_windows_and_no_repeats(sampler: str) -> None:
    of = problem(sampler, constraints=WINDOWS)
    assert_valid(of, [entry.configuration for entry in run(of, 18, mixed_outcome)])


@every_sampler
@pytest.mark.parametrize("state", ["COMPLETE", "RUNNING", "FAIL"])
def test_a_space_is_proposed_to_its_last_configuration_and_then_refused(sampler: str, state: str) -> None:
    if sampler in SLOW and state != "COMPLETE":
        pytest.skip("the filter of repeats is the same")
    of = problem(sampler, SMALL)
    history = run(
        of,
        12,
        lambda configuration, number: (
            observation(configuration) if state == "COMPLETE" else Observation(configuration, state, None)
        ),
    )
    assert len({identity(entry.configuration) for entry in history}) == 12
    with pytest.raises(
        BudgetError, match=r"trial 12: .* proposed before or outside the cost windows; ask for fewer trials"
    ):
        search.propose(of, history, 12)


@every_sampler
def test_a_space_of_one_point(sampler: str) -> None:
    of = problem(sampler, {"a": Int(low=2, high=2), "b": Int(low=3, high=3)})
    assert search.propose(of, [], 0) == {"a": 2, "b": 3}
    with pytest.raises(BudgetError):
        search.propose(of, [observation({"a": 2, "b": 3})], 1)


@every_sampler
@pytest.mark.parametrize("values", [None, [0.5, 0.0]], ids=["fails", "measures the same"])
def test_where_every_trial_is_alike_proposals_go_on(sampler: str, values: list[float] | None) -> None:
    def outcome(configuration: Configuration, number: int) -> Observation:
        measured = values and [values[0], float(costs_of(configuration)["cost/macs"])]
        return Observation(configuration, "COMPLETE" if measured else "FAIL", measured)

    assert_valid(problem(sampler), [entry.configuration for entry in run(problem(sampler), 14, outcome)])


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
        shaken(index)
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
