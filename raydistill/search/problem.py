"""What a search knows before it starts: the space, the costs of every configuration, the windows. No framework.

Costs are known before training, so what lies outside a cost window never becomes a trial, and a start can be spread over the cost axis.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydistill.errors import BudgetError
from raydistill.seeds import numpy_stream
from raydistill.space import Choice, Distribution, Float, Int, SearchSpace, active, corner, is_affordable

_TRIES = 5_000
_ENOUGH = 200
"""So many new, feasible candidates are looked at where one is chosen at random."""
_LOG_SPAN = (3.0, 1e9)
"""A cost has a log axis where all are positive and the dearest is so many times the cheapest; below it matters little."""
Picked = dict[str, Any]
"""Active parameters of a candidate; choices as keys."""
CostsOf = Callable[[Picked], Mapping[str, float]]
"""Picked -> {"cost/macs": ..., "cost/params": ...}"""


class Told(NamedTuple):
    """What the search knows of one trial."""

    picked: Picked
    state: str
    """COMPLETE, FAIL, RUNNING, or PRUNED (stopped early: neither measured in full nor failed)."""
    values: list[float] | None
    """The objectives, in the order of the space; None unless COMPLETE."""
    curve: Sequence[tuple[float, list[float]]] = ()
    """(share of the budget, objectives there), ascending: the evaluations before the last."""


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


def is_feasible(problem: Problem, picked: Picked) -> bool:
    return is_affordable(problem.space, problem.costs_of(picked))


def new_filter(problem: Problem, history: Sequence[Told]) -> Callable[[Picked], bool]:
    """Whether a candidate is feasible and was not proposed before."""
    seen = {identity(told.picked) for told in history}
    return lambda picked: identity(picked) not in seen and is_feasible(problem, picked)


def identity(picked: Picked) -> tuple[tuple[str, Any], ...]:
    """Equal for equal configurations, whatever the order of the names."""
    return tuple(sorted(picked.items()))


def prove_feasible(problem: Problem) -> None:
    """Raises BudgetError, with the reachable range, where no configuration fits the cost windows: before launch."""
    cheapest, dearest = (problem.costs_of(corner(problem.space, highest)) for highest in (False, True))
    for window in problem.space.constraints:
        low, high = cheapest[window.cost], dearest[window.cost]
        if window.low > window.high:
            raise BudgetError(f"{window.cost} between {window.low:,.0f} and {window.high:,.0f}: the lower end is above the upper one.")
        if window.high < low or window.low > high:
            raise BudgetError(
                f"{window.cost} between {window.low:,.0f} and {window.high:,.0f}: nothing fits. Reachable: {low:,} to {high:,}."
            )
    rng = numpy_stream(problem.seed, "search/proof")
    if not any(is_feasible(problem, picked) for picked in spread_picks(problem.space, rng)):
        ranges = "; ".join(f"{cost} {cheapest[cost]:,} to {dearest[cost]:,}" for cost in cheapest)
        raise BudgetError(f"none of {_TRIES} configurations fits the cost windows together. Reachable: {ranges}. Widen a window.")


def cost_axis(problem: Problem, name: str | None = None) -> CostAxis:
    """The range of a cost over both corners and a sample of the space, cut to the windows.

    Without a name: the first objective that is a cost; where there is none, the first cost there is.
    """
    rng = numpy_stream(problem.seed, "search/axis")
    sample = [problem.costs_of(picked) for picked in itertools.islice(spread_picks(problem.space, rng), _ENOUGH)]
    if name is None:
        name = next((objective.name for objective in problem.space.objectives if objective.name in sample[0]), next(iter(sample[0])))
    low, high = (float(end(costs[name] for costs in sample)) for end in (min, max))
    for window in problem.space.constraints:
        if window.cost == name:
            low, high = max(low, window.low), min(high, window.high)
    return CostAxis(name, low, high)


def random_pick(space: SearchSpace, rng: np.random.Generator, low: float = 0.0, high: float = 1.0) -> Picked:
    """Each range drawn between its quantiles `low` and `high`; choices from all their keys."""
    return active(space, {path: _draw(distribution, rng, low, high) for path, distribution in space.parameters.items()})


def spread_picks(space: SearchSpace, rng: np.random.Generator) -> Iterator[Picked]:
    """The cheapest and the dearest configuration, then random ones from lower, upper and whole ranges: all of the cost axis."""
    yield corner(space, highest=False)
    yield corner(space, highest=True)
    for index in range(_TRIES - 2):
        reach = rng.random()
        yield random_pick(space, rng, *((0.0, reach), (1 - reach, 1.0), (0.0, 1.0))[index % 3])


def uniform_picks(problem: Problem, history: Sequence[Told], number: int) -> Iterator[Picked]:
    """Plain random search."""
    rng = numpy_stream(problem.seed, "search/uniform", number)
    for _ in range(_TRIES):
        yield random_pick(problem.space, rng)


def new_picks(problem: Problem, history: Sequence[Told], number: int) -> list[Picked]:
    """Up to 200 random candidates that are feasible and new, from all of the cost axis.

    Raises:
        BudgetError: there is none.
    """
    rng = numpy_stream(problem.seed, "search/random", number)
    candidates = list(itertools.islice(filter(new_filter(problem, history), spread_picks(problem.space, rng)), _ENOUGH))
    if not candidates:
        raise BudgetError(
            f"trial {number}: {_TRIES} configurations were all proposed before or outside the cost windows; ask for fewer trials"
        )
    return candidates


def stratified_picks(problem: Problem, history: Sequence[Told], number: int) -> Iterator[Picked]:
    """The candidate that is nearest to this proposal's stratum of the cost axis.

    Each `num_startup` proposals visit every stratum once, in an order of their own.
    """
    axis = cost_axis(problem)
    low, high = (float(end) for end in axis.scaled([axis.low, axis.high]))
    turn, place = divmod(number, problem.num_startup)
    order = numpy_stream(problem.seed, "search/strata", turn).permutation(problem.num_startup)
    target = low + (high - low) * (order[place] + 0.5) / problem.num_startup
    candidates = new_picks(problem, history, number)
    away = [abs(float(axis.scaled(problem.costs_of(picked)[axis.name])) - target) for picked in candidates]
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
        return min(distribution.high, distribution.low * math.exp(quantile * math.log(distribution.high / distribution.low)))
    return distribution.low + (distribution.high - distribution.low) * quantile
