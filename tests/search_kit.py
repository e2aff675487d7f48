"""For the tests of the search: a space, a formula in place of training, told histories."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from raydistill import search
from raydistill.config.space import Choice, Distribution, Float, Int, Objective, SearchSpace, When, Window
from raydistill.search import Configuration, Observation, Problem, identity, is_feasible
from raydistill.search.simulate import Outcome

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
WINDOWS = (Window(cost="cost/macs", low=20_000, high=120_000), Window(cost="cost/params", high=26))


def space(parameters: dict[str, Distribution] = MIXED, **fields: Any) -> SearchSpace:
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
    return {
        "cost/macs": 1000 * configuration["a"] * configuration["b"],
        "cost/params": configuration["a"] + configuration["b"],
    }


def problem(
    sampler: str = "known-cost",
    parameters: dict[str, Distribution] = MIXED,
    seed: int = 0,
    num_startup: int = 4,
    **fields: Any,
) -> Problem:
    return Problem(space(parameters, **fields), costs_of, seed, num_startup, sampler, num_trials=40)


def miou(configuration: Configuration) -> float:
    """Grows with both widths; best at rate .3 and with the term on at a step size of 10."""
    step = math.log10(configuration["step"]) - 1 if "step" in configuration else 1.5
    detail = math.exp(-((configuration.get("rate", 0.3) - 0.3) ** 2) - 0.1 * step**2)
    return detail * (1 - 1.5 / (configuration["a"] * configuration["b"]) ** 0.5)


def values_of(of: Problem, configuration: Configuration) -> list[float]:
    known = {
        "val/miou": miou(configuration),
        "val/kd_evaluator": 1 - miou(configuration) ** 2,
        **costs_of(configuration),
    }
    return [float(known[objective.name]) for objective in of.space.objectives]


def observation(configuration: Configuration) -> Observation:
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


def training(configuration: Configuration, number: int) -> Outcome:
    """For `simulate`: two evaluations before the last, dear ones take longer, number 5 fails."""
    end, cost = miou(configuration), float(costs_of(configuration)["cost/macs"])
    curve = [(100, [end / 4, cost]), (200, [end / 2, cost])]
    return Outcome(None if number == 5 else [end, cost], 1.0 + cost / 1e5 + 0.01 * number, 400, curve)


def assert_valid(of: Problem, configurations: Sequence[Configuration]) -> None:
    """Of `MIXED`: each once, inside ranges and windows, the conditional parameter exactly while it is
    active."""
    assert len({identity(configuration) for configuration in configurations}) == len(configurations)
    for configuration in configurations:
        assert is_feasible(of, configuration)
        assert set(configuration) == {"a", "b", "weight", "kind", "rate"} | (
            {"step"} if configuration["weight"] != "off" else set()
        )
        assert (
            configuration["a"] in range(2, 17, 2)
            and configuration["b"] in range(1, 17)
            and configuration["kind"] in ("x", "y")
        )
        assert -1 <= configuration["rate"] <= 1 and 0.1 <= configuration.get("step", 1) <= 100
