"""Configurations of a search space: drawn at random, spread over the cost axis, or enumerated."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from raydistill.config.configurations import (
    Configuration,
    ParameterValue,
    active_parameters,
    extreme_configuration,
)
from raydistill.config.space import Choice, Distribution, Float, Int, SearchSpace, is_inside
from raydistill.errors import BudgetError
from raydistill.search.problem import CostAxis, Observation, Problem, is_feasible, new_filter
from raydistill.search.threads import one_thread
from raydistill.seeds import numpy_stream

TRIES = 5_000
"""Number of random configurations that are looked at before a search gives up."""
_GRID_AT_MOST = 20_000
"""Largest number of configurations that are enumerated."""
_ENOUGH = 200
"""Number of feasible configurations among which one is chosen."""


def random_configuration(
    space: SearchSpace, rng: np.random.Generator, low: float = 0.0, high: float = 1.0
) -> Configuration:
    """A random configuration: ranges are drawn between quantiles `low` and `high`, choices from all keys."""
    values = {path: _draw(distribution, rng, low, high) for path, distribution in space.parameters.items()}
    return active_parameters(space, values)


def spread_configurations(space: SearchSpace, rng: np.random.Generator) -> Iterator[Configuration]:
    """5,000 configurations that are spread over the cost axis.

    They are the cheapest and the most expensive one, then random ones from lower, upper and whole ranges in
    turn.
    """
    yield extreme_configuration(space, highest=False)
    yield extreme_configuration(space, highest=True)
    for index in range(TRIES - 2):
        reach = rng.random()
        low, high = ((0.0, reach), (1 - reach, 1.0), (0.0, 1.0))[index % 3]
        yield random_configuration(space, rng, low, high)


def grid_configurations(space: SearchSpace, rng: np.random.Generator) -> list[Configuration]:
    """Every configuration of a space of at most 20,000, in order; empty where there are more.

    A Float is drawn at random in each of them. No cost depends on a Float, so all costs of the space are
    covered.
    """
    values: dict[str, Sequence[ParameterValue]] = {}
    floats: dict[str, Float] = {}
    for path, distribution in space.parameters.items():
        if isinstance(distribution, Choice):
            values[path] = list(distribution.options)
        elif isinstance(distribution, Int):
            values[path] = range(distribution.low, distribution.high + 1, distribution.step)
        else:
            floats[path] = distribution
    if math.prod(len(options) for options in values.values()) > _GRID_AT_MOST:
        return []
    out: dict[tuple[tuple[str, ParameterValue], ...], Configuration] = {}
    for row in itertools.product(*values.values()):
        discrete = dict(zip(values, row, strict=True))
        drawn = {path: _draw(distribution, rng, 0.0, 1.0) for path, distribution in floats.items()}
        configuration = active_parameters(space, discrete | drawn)
        key = tuple(item for item in configuration.items() if item[0] in discrete)
        out.setdefault(key, configuration)
    return list(out.values())


def feasible_configurations(problem: Problem) -> Iterator[Configuration]:
    """Configurations inside the windows, from all of the cost axis.

    Where the random ones are all outside, those of the grid of a small space.
    """
    rng, is_empty = numpy_stream(problem.seed, "search/feasible"), True
    for configuration in spread_configurations(problem.space, rng):
        if is_feasible(problem, configuration):
            is_empty = False
            yield configuration
    if is_empty:
        for configuration in grid_configurations(problem.space, rng):
            if is_feasible(problem, configuration):
                yield configuration


def new_configurations(problem: Problem, history: Sequence[Observation], number: int) -> list[Configuration]:
    """Up to 200 random configurations that are feasible and not in the history, from all of the cost axis.

    Args:
        number: number of the trial that they are for.

    Raises:
        BudgetError: there is none.
    """
    rng = numpy_stream(problem.seed, "search/random", number)
    is_new = new_filter(problem, history)
    configurations = list(
        itertools.islice(filter(is_new, spread_configurations(problem.space, rng)), _ENOUGH)
    )
    if configurations:
        return configurations
    grid = grid_configurations(problem.space, rng)
    configurations = list(filter(is_new, grid))
    if not configurations:
        looked_at = f"all {len(grid):,}" if grid else f"{TRIES:,}"
        raise BudgetError(
            f"trial {number}: {looked_at} configurations were proposed before or outside the cost windows; "
            "ask for fewer trials"
        )
    return configurations


def first_new(
    problem: Problem, proposals: Iterable[Configuration], history: Sequence[Observation], number: int
) -> Configuration:
    """The first of the proposals for trial `number` that is feasible and not in the history, of `TRIES` at
    most; where none is, a random one. Raises BudgetError where there is none either."""
    is_new = new_filter(problem, history)
    with one_thread():
        for configuration in itertools.islice(proposals, TRIES):  # those of a plug-in may never end
            if is_new(configuration) and not problem.is_refused(configuration):
                return configuration
        for configuration in reversed(new_configurations(problem, history, number)):
            if not problem.is_refused(configuration):
                return configuration
    raise BudgetError(
        f"trial {number}: the config refuses all that is left of the space; ask for fewer trials"
    )


def uniform_proposals(
    problem: Problem, history: Sequence[Observation], number: int
) -> Iterator[Configuration]:
    """Proposals of plain random search."""
    rng = numpy_stream(problem.seed, "search/uniform", number)
    for _ in range(TRIES):
        yield random_configuration(problem.space, rng)


def stratified_proposals(
    problem: Problem, history: Sequence[Observation], number: int
) -> Iterator[Configuration]:
    """The one new configuration that is nearest to the stratum of the cost axis whose turn it is.

    Each `num_startup` proposals visit every stratum once, in a random order.
    """
    axis = cost_axis(problem)
    low, high = (float(end) for end in axis.scaled([axis.low, axis.high]))
    turn, index = divmod(number, problem.num_startup)
    order = numpy_stream(problem.seed, "search/strata", turn).permutation(problem.num_startup)
    target = low + (high - low) * (order[index] + 0.5) / problem.num_startup
    candidates = new_configurations(problem, history, number)
    costs = [problem.costs_of(configuration)[axis.name] for configuration in candidates]
    distances = [abs(float(axis.scaled(cost)) - target) for cost in costs]
    yield candidates[int(np.argmin(distances))]


def cost_axis(problem: Problem, name: str | None = None) -> CostAxis:
    """The range of a cost over both extreme configurations and a sample of the space, cut to the windows.

    Args:
        name: None: the first objective that is a cost or, where there is none, the first cost.
    """
    rng = numpy_stream(problem.seed, "search/axis")
    spread = spread_configurations(problem.space, rng)
    if problem.refuses_some:
        spread = (each for each in spread if not problem.is_refused(each))
    sample = itertools.islice(spread, _ENOUGH)
    costs = [problem.costs_of(configuration) for configuration in sample]
    counted = [window for window in problem.space.constraints if window.convention != "true"]
    inside = [each for each in costs if all(is_inside(window, each) for window in counted)]
    costs = inside or costs  # another count of MACs bounds the axis, too
    if name is None:
        names = [objective.name for objective in problem.space.objectives if objective.name in costs[0]]
        name = [*names, *costs[0]][0]
    low, high = float(min(each[name] for each in costs)), float(max(each[name] for each in costs))
    for window in problem.space.constraints:
        if window.name == name:
            low, high = max(low, window.low), min(high, window.high)
    return CostAxis(name, low, high)


def free_parameters(problem: Problem) -> list[str]:
    """The parameters that no cost depends on, as far as both ends of the space show it."""
    space = problem.space

    def is_free(path: str, highest: bool) -> bool:
        of = space.parameters[path]
        values = of.options if isinstance(of, Choice) else (of.low, of.high)
        moved = (extreme_configuration(space, highest, {path: value}) for value in values)
        costs = [problem.costs_of(each) for each in moved if not problem.is_refused(each)]
        return all(each == costs[0] for each in costs)

    return [path for path in space.parameters if is_free(path, False) and is_free(path, True)]


def at_quantile(distribution: Int | Float, quantile: float) -> int | float:
    """The value of a range at a quantile in [0, 1) of its uniform, or log-uniform, distribution."""
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Int):
        count = (distribution.high - distribution.low) // distribution.step + 1
        return distribution.low + distribution.step * min(int(quantile * count), count - 1)
    if distribution.log:
        return min(high, low * math.exp(quantile * math.log(high / low)))
    return low + (high - low) * quantile


def _draw(distribution: Distribution, rng: np.random.Generator, low: float, high: float) -> ParameterValue:
    if isinstance(distribution, Choice):
        return list(distribution.options)[rng.integers(len(distribution.options))]
    return at_quantile(distribution, rng.uniform(low, high))
