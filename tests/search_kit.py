"""For the tests of the search: two formulas beside those of the kit of samplers."""

from raydistill.search import Configuration, Problem
from raydistill.search.simulate import Outcome
from raydistill.testing.samplers import costs_of, miou


def values_of(of: Problem, configuration: Configuration) -> list[float]:
    known = {
        "val/miou": miou(configuration),
        "val/kd_evaluator": 1 - miou(configuration) ** 2,
        **costs_of(configuration),
    }
    return [float(known[objective.name]) for objective in of.space.objectives]


def training(configuration: Configuration, number: int) -> Outcome:
    """For `simulate`: two evaluations before the last, dear ones take longer, number 5 fails."""
    end, cost = miou(configuration), float(costs_of(configuration)["cost/macs"])
    curve = [(100, [end / 4, cost]), (200, [end / 2, cost])]
    return Outcome(None if number == 5 else [end, cost], 1.0 + cost / 1e5 + 0.01 * number, 400, curve)
