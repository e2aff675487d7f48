"""What every sampler has to hold, by a formula in place of training. Nothing is trained."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from raydistill import search
from raydistill.config.space import Choice, Distribution, Float, Int, Objective, SearchSpace, When, Window
from raydistill.errors import BudgetError
from raydistill.search import Configuration, Observation, Problem, identity, is_feasible

MIOU, KD = (
    Objective(name="val/miou", direction="max", reference=0.0),
    Objective(name="val/kd_evaluator", direction="min", reference=1.0),
)
MACS, PARAMS = Objective(name="cost/macs", direction="min"), Objective(name="cost/params", direction="min")
MIXED: dict[str, Distribution] = {
    "step": Float(low=0.1, high=100.0, log=True),
    "a": Int(low=2, high=16, step=2),
    "b": Int(low=1, high=16),
    "weight": Choice(options={"off": 0.0, "low": 0.1, "high": 0.3}),
    "kind": Choice(options={"x": "x", "y": "y"}),
    "rate": Float(low=-1.0, high=1.0),
}
"""The conditional parameter comes before the one that controls it."""
WHEN = {"step": When(parameter="weight", keys=("low", "high"))}
SMALL: dict[str, Distribution] = {
    "a": Int(low=1, high=3),
    "b": Int(low=1, high=2),
    "kind": Choice(options={"off": 0, "on": 1}),
}
DEEP: dict[str, Distribution] = {
    "a": Int(low=1, high=8),
    "b": Int(low=1, high=8),
    "kind": Choice(options={"flat": 0, "deep": 1}),
    "depth": Int(low=1, high=4),
}
"""A depth that exists for one kind only; it counts in every cost."""
DEEP_WHEN = {"depth": When(parameter="kind", keys=("deep",))}
WINDOWS = (Window(cost="cost/macs", low=20_000, high=120_000), Window(cost="cost/params", high=26))


def space(parameters: dict[str, Distribution] = MIXED, **fields: Any) -> SearchSpace:
    """A space of these parameters, by mIoU and MACs."""
    when = WHEN if parameters is MIXED else {}
    return SearchSpace(
        **(
            {
                "preset": "shapes32",
                "parameters": parameters,
                "when": when,
                "objectives": (MIOU, MACS),
                "uniform": (4,),
            }
            | fields
        )
    )


def costs_of(configuration: Configuration) -> dict[str, int]:
    """Costs that grow with both widths, as costs of networks do."""
    a, b = int(configuration["a"]), int(configuration["b"])
    depth = int(configuration.get("depth", 1))
    return {"cost/macs": 1000 * a * b * depth, "cost/params": a + b + 4 * (depth - 1)}


def problem(
    sampler: str = "known-cost",
    parameters: dict[str, Distribution] = MIXED,
    seed: int = 0,
    num_startup: int = 4,
    **fields: Any,
) -> Problem:
    """A problem of 40 trials over a space, see `space`."""
    return Problem(space(parameters, **fields), costs_of, seed, num_startup, sampler, num_trials=40)


def miou(configuration: Configuration) -> float:
    """Grows with both widths; best at rate .3 and with the term on at a step size of 10."""
    given: dict[str, Any] = dict(configuration)
    step = math.log10(given["step"]) - 1 if "step" in given else 1.5
    detail = math.exp(-((given.get("rate", 0.3) - 0.3) ** 2) - 0.1 * step**2)
    return detail * (1 - 1.5 / math.sqrt(given["a"] * given["b"]))


def observation(configuration: Configuration) -> Observation:
    """What a trial of this configuration measures."""
    return Observation(
        configuration, "COMPLETE", [miou(configuration), float(costs_of(configuration)["cost/macs"])]
    )


def mixed_outcome(configuration: Configuration, number: int) -> Observation:
    """Every state a trial may be in, one after the other."""
    state = ("COMPLETE", "COMPLETE", "RUNNING", "FAIL", "PRUNED", "COMPLETE")[number % 6]
    return observation(configuration) if state == "COMPLETE" else Observation(configuration, state, None)


def run(
    of: Problem, count: int, outcome: Callable[[Configuration, int], Observation] | None = None
) -> list[Observation]:
    """So many proposals, each told before the next. Told as `told`, they are kept: many tests begin with
    the same ones."""
    history = (
        []
        if outcome or of.costs_of is not costs_of or of.prior_observations
        else _KEPT.setdefault(repr(of), [])
    )
    for number in range(len(history), count):
        configuration = search.propose(of, list(history), number)
        history.append(outcome(configuration, number) if outcome else observation(configuration))
    return history[:count]


_KEPT: dict[str, list[Observation]] = {}


def deep_problem(sampler: str) -> Problem:
    """Of three objectives over `DEEP`. The config refuses the widest `a` with the deepest network."""
    of = problem(sampler, DEEP, when=DEEP_WHEN, objectives=(MIOU, MACS, PARAMS))
    return of._replace(is_refused=is_too_deep, refuses_some=True)


def is_too_deep(configuration: Configuration) -> bool:
    """What the config of `deep_problem` refuses."""
    return int(configuration["a"]) == 8 and configuration.get("depth", 1) == 4


def deep_outcome(configuration: Configuration, number: int) -> Observation:
    """What a trial of `deep_problem` measures: depth helps as width does."""
    costs = costs_of(configuration)
    quality = 1 - 1.5 / math.sqrt(1 + costs["cost/params"])
    return Observation(configuration, "COMPLETE", [quality, float(costs["cost/macs"]), costs["cost/params"]])


def shake(number: int) -> None:
    """All global random streams somewhere else."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def assert_valid(of: Problem, configurations: Sequence[Configuration]) -> None:
    """Of `MIXED`: each once, inside ranges and windows, the conditional parameter exactly while it is
    active."""
    assert len({identity(configuration) for configuration in configurations}) == len(configurations)
    for configuration in configurations:
        assert is_feasible(of, configuration)
        given: dict[str, Any] = dict(configuration)
        conditional = {"step"} if given["weight"] != "off" else set()
        assert set(given) == {"a", "b", "weight", "kind", "rate"} | conditional
        assert given["a"] in range(2, 17, 2) and given["b"] in range(1, 17) and given["kind"] in ("x", "y")
        assert -1 <= given["rate"] <= 1 and 0.1 <= given.get("step", 1) <= 100


class SamplerContract:
    """The contract of a sampler. A subclass, whose name begins with Test, has a fixture `sampler`, its name:

    class TestNearest(SamplerContract):
        @pytest.fixture
        def sampler(self):
            return "nearest"
    """

    def test_a_proposal_depends_on_seed_number_and_history_alone(self, sampler: str) -> None:
        """And on no random stream of the process, so that a resume proposes what was proposed before."""
        history = run(problem(sampler), 13, mixed_outcome)
        for number in (1, 12):
            shake(number)
            again = search.propose(problem(sampler), list(history[:number]), number)
            assert again == history[number].configuration
        assert search.propose(problem(sampler, seed=1), history[:1], 1) != history[1].configuration

    def test_every_state_conditions_windows_and_no_repeats(self, sampler: str) -> None:
        """Proposals are of the space and new, whatever became of the trials before."""
        of = problem(sampler, constraints=WINDOWS)
        assert_valid(of, [entry.configuration for entry in run(of, 18, mixed_outcome)])

    @pytest.mark.parametrize("state", ["COMPLETE", "RUNNING", "FAIL"])
    def test_a_space_is_proposed_to_its_last_configuration_and_then_refused(
        self, sampler: str, state: str
    ) -> None:
        """Twelve configurations, and no thirteenth."""

        def outcome(configuration: Configuration, number: int) -> Observation:
            if state == "COMPLETE":
                return observation(configuration)
            return Observation(configuration, state, None)

        of = problem(sampler, SMALL)
        history = run(of, 12, outcome)
        assert len({identity(entry.configuration) for entry in history}) == 12
        says = r"trial 12: .* proposed before or outside the cost windows; ask for fewer trials"
        with pytest.raises(BudgetError, match=says):
            search.propose(of, history, 12)

    def test_three_objectives_a_conditional_depth_and_what_the_config_refuses(self, sampler: str) -> None:
        """The depth is there exactly while its kind is, and no refused combination is proposed."""
        of = deep_problem(sampler)
        configurations = [entry.configuration for entry in run(of, 12, deep_outcome)]
        assert len({identity(configuration) for configuration in configurations}) == 12
        for configuration in configurations:
            assert ("depth" in configuration) == (configuration["kind"] == "deep")
            assert not is_too_deep(configuration)

    def test_a_space_of_one_point(self, sampler: str) -> None:
        """It is proposed once."""
        of = problem(sampler, {"a": Int(low=2, high=2), "b": Int(low=3, high=3)})
        assert search.propose(of, [], 0) == {"a": 2, "b": 3}
        with pytest.raises(BudgetError):
            search.propose(of, [observation({"a": 2, "b": 3})], 1)

    @pytest.mark.parametrize("values", [None, [0.5, 0.0]], ids=["fails", "measures the same"])
    def test_where_every_trial_is_alike_proposals_go_on(
        self, sampler: str, values: list[float] | None
    ) -> None:
        """All fail, or all measure the same."""

        def outcome(configuration: Configuration, number: int) -> Observation:
            measured = values and [values[0], float(costs_of(configuration)["cost/macs"])]
            return Observation(configuration, "COMPLETE" if measured else "FAIL", measured)

        assert_valid(problem(sampler), [entry.configuration for entry in run(problem(sampler), 14, outcome)])
