"""Whether any configuration of a space fits the cost windows: proved before anything starts."""

import math
from collections.abc import Iterator, Mapping, Sequence

from raydistill.config.configurations import extreme_configuration
from raydistill.config.space import is_affordable
from raydistill.errors import BudgetError
from raydistill.search.candidates import grid_configurations, spread_configurations
from raydistill.search.problem import Problem, is_feasible
from raydistill.seeds import numpy_stream

Windows = Mapping[str, tuple[float, float]]
"""Cost -> the lowest and the highest value that all windows on it allow."""


def prove_feasible(problem: Problem) -> None:
    """Check that the space has a configuration inside all cost windows.

    A space of at most 20,000 configurations is looked at as a whole. Of a larger one the two extreme
    configurations and a spread sample are.

    Raises:
        BudgetError: nothing fits, with the range of costs that can be reached. Where each window could be met
            alone, the message says so.
    """
    cheapest, most_expensive = (
        problem.costs_of(extreme_configuration(problem.space, highest)) for highest in (False, True)
    )
    windows = _joined_windows(problem)
    for name, (low, high) in windows.items():
        if low > high:
            raise BudgetError(
                f"{name} between {_number(low)} and {_number(high)}: the lower end is above the upper one."
            )
        if high < cheapest[name] or low > most_expensive[name]:
            reach = _range([cheapest[name], most_expensive[name]])
            raise BudgetError(f"{_window_text(name, low, high)}: nothing fits. Reachable: {reach}.")
    sample = spread_configurations(problem.space, numpy_stream(problem.seed, "search/proof"))
    if not windows or any(is_feasible(problem, configuration) for configuration in sample):
        return
    rng = numpy_stream(problem.seed, "search/proof")
    grid = grid_configurations(problem.space, rng)
    configurations = grid or spread_configurations(problem.space, rng)
    costs = [problem.costs_of(configuration) for configuration in configurations]
    if any(is_affordable(problem.space, each) for each in costs):
        return
    request = " and ".join(_window_text(name, *window) for name, window in windows.items())
    number = f"{'all ' if grid else ''}{len(costs):,}"
    reached = " ".join(_reached(windows, costs))
    raise BudgetError(f"{request}: none of {number} configurations fits. {reached} Widen a window.")


def _joined_windows(problem: Problem) -> Windows:
    windows: dict[str, tuple[float, float]] = {}
    for window in problem.space.constraints:
        low, high = windows.get(window.name, (0.0, math.inf))
        windows[window.name] = (max(low, window.low), min(high, window.high))
    return windows


def _reached(windows: Windows, costs: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """One sentence a cost: which values it has where the other windows are met.

    Where its own window lies between two of these values, the sentence names the two.
    """
    for name, (low, high) in windows.items():
        others = {other: ends for other, ends in windows.items() if other != name}
        values = [
            each[name]
            for each in costs
            if all(ends[0] <= each[other] <= ends[1] for other, ends in others.items())
        ]
        where = f" inside the window on {' and '.join(others)}" if others else ""
        if values and min(values) <= high and max(values) >= low:
            below = max(value for value in values if value < low)
            above = min(value for value in values if value > high)
            yield f"Reachable{where}: {name} {_number(below)} and, next, {_number(above)}."
        elif values:
            yield f"Reachable{where}: {name} {_range(values)}."


def _window_text(name: str, low: float, high: float) -> str:
    if high >= 1e30:
        return f"{name} of at least {_number(low)}"
    if low:
        return f"{name} between {_number(low)} and {_number(high)}"
    return f"{name} of at most {_number(high)}"


def _range(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"
