"""What a search knows before it starts: the space, the costs of every configuration, the windows. No framework.

Costs are known before training, so what lies outside a cost window never becomes a trial, and a start can be spread over the cost axis.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydistill.config.space import (
    Choice,
    Distribution,
    Float,
    Int,
    SearchSpace,
    active,
    extreme_configuration,
    is_affordable,
)
from raydistill.errors import BudgetError
from raydistill.seeds import numpy_stream

_TRIES = 5_000
_GRID_AT_MOST = 20_000
_ENOUGH = 200
"""So many new, feasible candidates are looked at where one is chosen at random."""
_LOG_SPAN = (3.0, 1e9)
"""A cost has a log axis where all are positive and the most expensive is so many times the cheapest; below it matters little."""
Configuration = dict[str, Any]
"""Active parameters of a candidate; choices as keys."""
CostsOf = Callable[[Configuration], Mapping[str, float]]
"""Configuration -> {"cost/macs": ..., "cost/params": ...}"""


class Observation(NamedTuple):
    """What the search knows of one trial."""

    configuration: Configuration
    state: str
    """COMPLETE, FAIL, RUNNING, or PRUNED (stopped early: neither measured in full nor failed)."""
    values: list[float] | None
    """The objectives, in the order of the space; None unless COMPLETE."""
    curve: Sequence[tuple[float, list[float]]] = ()
    """(share of the budget, objectives there), ascending: the evaluations before the last."""


class PriorObservation(NamedTuple):
    """A measurement from elsewhere, such as an earlier sweep. It is no trial: it is on no front and may be proposed."""

    configuration: Configuration
    values: list[float]
    """The objectives, in the order of the space; costs are those of this sweep."""
    source: int
    """From 1; those of one source were measured alike."""


class Problem(NamedTuple):
    space: SearchSpace
    costs_of: CostsOf
    seed: int
    num_startup: int
    """So many first proposals are stratified over the cost, by the samplers that have such a start."""
    sampler: str = "known-cost"
    """A key of `search.SAMPLERS`."""
    num_trials: int | None = None
    """How many trials the sweep shall have, where that is known: NSGA-II fits its population to it."""
    prior_observations: Sequence[PriorObservation] = ()
    """What is known before the first trial. Only samplers that tell sources apart look at it: `known-cost` and `modelled-cost`."""


class CostAxis(NamedTuple):
    """The range of one cost inside the windows."""

    name: str
    low: float
    high: float

    @property
    def is_log(self) -> bool:
        return self.low > 0 and _LOG_SPAN[0] <= self.high / self.low <= _LOG_SPAN[1]

    def scaled(self, costs: ArrayLike) -> NDArray[np.float64]:
        """The axis on which a cost is spread and compared: log where `is_log`."""
        array = np.asarray(costs, dtype=np.float64)
        return np.log(np.maximum(array, 1e-9 * self.low)) if self.is_log else array


def is_feasible(problem: Problem, configuration: Configuration) -> bool:
    return is_affordable(problem.space, problem.costs_of(configuration))


def new_filter(problem: Problem, history: Sequence[Observation]) -> Callable[[Configuration], bool]:
    """Whether a candidate is feasible and was not proposed before."""
    seen = {identity(observation.configuration) for observation in history}
    return lambda configuration: identity(configuration) not in seen and is_feasible(problem, configuration)


def identity(configuration: Configuration) -> tuple[tuple[str, Any], ...]:
    """Equal for equal configurations, whatever the order of the names."""
    return tuple(sorted(configuration.items()))


def prove_feasible(problem: Problem) -> None:
    """Raises BudgetError, with the range that can be reached, where no configuration fits the cost windows: before launch.

    A space of at most 20,000 configurations is looked at as a whole. Of a larger one both corners and a spread sample are: where all
    of them miss windows that each could be met, that is said as what it is.
    """
    cheapest, most_expensive = (
        problem.costs_of(extreme_configuration(problem.space, highest)) for highest in (False, True)
    )
    windows: dict[str, tuple[float, float]] = {}
    for window in problem.space.constraints:
        before = windows.get(window.cost, (0.0, math.inf))
        windows[window.cost] = (max(before[0], window.low), min(before[1], window.high))
    for name, (low, high) in windows.items():
        if low > high:
            raise BudgetError(
                f"{name} between {_number(low)} and {_number(high)}: the lower end is above the upper one."
            )
        if high < cheapest[name] or low > most_expensive[name]:
            raise BudgetError(
                f"{_said(name, low, high)}: nothing fits. Reachable: {_range([cheapest[name], most_expensive[name]])}."
            )
    sample = spread_configurations(problem.space, numpy_stream(problem.seed, "search/proof"))
    if not windows or any(is_feasible(problem, configuration) for configuration in sample):
        return
    rng = numpy_stream(problem.seed, "search/proof")
    grid = grid_configurations(problem.space, rng)
    known = [
        problem.costs_of(configuration) for configuration in grid or spread_configurations(problem.space, rng)
    ]
    if any(is_affordable(problem.space, costs) for costs in known):
        return
    asked = " and ".join(_said(name, *window) for name, window in windows.items())
    raise BudgetError(
        f"{asked}: none of {'all ' if grid else ''}{len(known):,} configurations fits. {' '.join(_reached(windows, known))} Widen a window."
    )


def _reached(
    windows: Mapping[str, tuple[float, float]], known: Sequence[Mapping[str, float]]
) -> Iterator[str]:
    """What each cost reaches where the other windows are met; of one that is met alone but lies between two values: those."""
    for name, (low, high) in windows.items():
        others = [(other, ends) for other, ends in windows.items() if other != name]
        within = [
            costs[name]
            for costs in known
            if all(ends[0] <= costs[other] <= ends[1] for other, ends in others)
        ]
        where = f" inside the window on {' and '.join(other for other, _ in others)}" if others else ""
        if within and min(within) <= high and max(within) >= low:
            below, above = (
                max(value for value in within if value < low),
                min(value for value in within if value > high),
            )
            yield f"Reachable{where}: {name} {_number(below)} and, next, {_number(above)}."
        elif within:
            yield f"Reachable{where}: {name} {_range(within)}."


def _said(name: str, low: float, high: float) -> str:
    if high >= 1e30:
        return f"{name} of at least {_number(low)}"
    return (
        f"{name} between {_number(low)} and {_number(high)}" if low else f"{name} of at most {_number(high)}"
    )


def _range(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"


def cost_axis(problem: Problem, name: str | None = None) -> CostAxis:
    """The range of a cost over both corners and a sample of the space, cut to the windows.

    Without a name: the first objective that is a cost; where there is none, the first cost there is.
    """
    rng = numpy_stream(problem.seed, "search/axis")
    sample = [
        problem.costs_of(configuration)
        for configuration in itertools.islice(spread_configurations(problem.space, rng), _ENOUGH)
    ]
    if name is None:
        name = next(
            (objective.name for objective in problem.space.objectives if objective.name in sample[0]),
            next(iter(sample[0])),
        )
    low, high = (float(end(costs[name] for costs in sample)) for end in (min, max))
    for window in problem.space.constraints:
        if window.cost == name:
            low, high = max(low, window.low), min(high, window.high)
    return CostAxis(name, low, high)


def random_configuration(
    space: SearchSpace, rng: np.random.Generator, low: float = 0.0, high: float = 1.0
) -> Configuration:
    """Each range drawn between its quantiles `low` and `high`; choices from all their keys."""
    return active(
        space, {path: _draw(distribution, rng, low, high) for path, distribution in space.parameters.items()}
    )


def spread_configurations(space: SearchSpace, rng: np.random.Generator) -> Iterator[Configuration]:
    """The cheapest and the most expensive configuration, then random ones from lower, upper and whole ranges: all of the cost axis."""
    yield extreme_configuration(space, highest=False)
    yield extreme_configuration(space, highest=True)
    for index in range(_TRIES - 2):
        reach = rng.random()
        yield random_configuration(space, rng, *((0.0, reach), (1 - reach, 1.0), (0.0, 1.0))[index % 3])


def grid_configurations(space: SearchSpace, rng: np.random.Generator) -> list[Configuration]:
    """Every configuration of a space of at most 20,000, in order; empty where there are more.

    A Float is drawn anew in each: no cost depends on one, so these are all costs that there are.
    """
    values: dict[str, Sequence[Any]] = {}
    for path, distribution in space.parameters.items():
        if isinstance(distribution, Choice):
            values[path] = list(distribution.options)
        elif isinstance(distribution, Int):
            values[path] = range(distribution.low, distribution.high + 1, distribution.step)
    if math.prod(len(options) for options in values.values()) > _GRID_AT_MOST:
        return []
    floats = {
        path: distribution
        for path, distribution in space.parameters.items()
        if isinstance(distribution, Float)
    }
    found: dict[Any, Configuration] = {}
    for row in itertools.product(*values.values()):
        discrete = dict(zip(values, row, strict=True))
        configuration = active(
            space,
            discrete | {path: _draw(distribution, rng, 0.0, 1.0) for path, distribution in floats.items()},
        )
        found.setdefault(tuple(item for item in configuration.items() if item[0] in discrete), configuration)
    return list(found.values())


def feasible_configurations(problem: Problem) -> Iterator[Configuration]:
    """Configurations that fit the windows, from all of the cost axis; of a small space all of them, where the sample has none."""
    rng, found = numpy_stream(problem.seed, "search/feasible"), False
    for configuration in filter(
        lambda configuration: is_feasible(problem, configuration), spread_configurations(problem.space, rng)
    ):
        found = True
        yield configuration
    if not found:
        yield from filter(
            lambda configuration: is_feasible(problem, configuration), grid_configurations(problem.space, rng)
        )


def uniform_proposals(
    problem: Problem, history: Sequence[Observation], number: int
) -> Iterator[Configuration]:
    """Plain random search."""
    rng = numpy_stream(problem.seed, "search/uniform", number)
    for _ in range(_TRIES):
        yield random_configuration(problem.space, rng)


def new_configurations(problem: Problem, history: Sequence[Observation], number: int) -> list[Configuration]:
    """Up to 200 random candidates that are feasible and new, from all of the cost axis.

    Raises:
        BudgetError: there is none.
    """
    rng = numpy_stream(problem.seed, "search/random", number)
    is_new = new_filter(problem, history)
    candidates = list(itertools.islice(filter(is_new, spread_configurations(problem.space, rng)), _ENOUGH))
    if not candidates:
        grid = grid_configurations(problem.space, rng)
        candidates = list(filter(is_new, grid))
    if not candidates:
        looked_at = f"all {len(grid):,}" if grid else f"{_TRIES:,}"
        raise BudgetError(
            f"trial {number}: {looked_at} configurations were proposed before or outside the cost windows; ask for fewer trials"
        )
    return candidates


def stratified_proposals(
    problem: Problem, history: Sequence[Observation], number: int
) -> Iterator[Configuration]:
    """The candidate that is nearest to this proposal's stratum of the cost axis.

    Each `num_startup` proposals visit every stratum once, in an order of their own.
    """
    axis = cost_axis(problem)
    low, high = (float(end) for end in axis.scaled([axis.low, axis.high]))
    turn, place = divmod(number, problem.num_startup)
    order = numpy_stream(problem.seed, "search/strata", turn).permutation(problem.num_startup)
    target = low + (high - low) * (order[place] + 0.5) / problem.num_startup
    candidates = new_configurations(problem, history, number)
    away = [
        abs(float(axis.scaled(problem.costs_of(configuration)[axis.name])) - target)
        for configuration in candidates
    ]
    yield candidates[int(np.argmin(away))]


def _draw(distribution: Distribution, rng: np.random.Generator, low: float, high: float) -> Any:
    if isinstance(distribution, Choice):
        return list(distribution.options)[rng.integers(len(distribution.options))]
    quantile = rng.uniform(low, high)
    return at_quantile(distribution, quantile)


def at_quantile(distribution: Int | Float, quantile: float) -> Any:
    """The value of a range at a quantile in [0, 1) of its uniform, or log-uniform, distribution."""
    if isinstance(distribution, Int):
        count = (distribution.high - distribution.low) // distribution.step + 1
        return distribution.low + distribution.step * min(int(quantile * count), count - 1)
    if distribution.log:
        return min(
            distribution.high,
            distribution.low * math.exp(quantile * math.log(distribution.high / distribution.low)),
        )
    return distribution.low + (distribution.high - distribution.low) * quantile
