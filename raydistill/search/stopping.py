"""Which running trials to stop, where several objectives are wanted and costs among them are known. No framework, no state.

A cost is no merit here: it says with which others a trial is compared. So the cheapest trial, which nothing can dominate, is stopped when
it is bad. Two rules, asked at each evaluation but the last:

1. Successive halving. At each rung, a share of the budget, the qualities of all trials that have come so far are freed of their common
   trend with the cost, and the trials are split into strata of the cost; strata with too few are merged with a neighbour. Whoever is not in
   the better part of its stratum is stopped, unless it is on the front there and shows what its cost buys: it beats a cheaper trial. With
   several qualities "better" is the layer of non-dominated sorting.
2. What it may still reach. Its end is at best what it is now and the largest gain that any trial made from here to its end. Where a
   finished trial is no dearer and no worse than that in any quality, the running one is stopped.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.search.problem import Problem, Told, cost_axis
from raydistill.space import SearchSpace, corner

Array = NDArray[np.float64]
RUNGS = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the budget."""
_KEPT = 0.5
"""Of a stratum, at each rung."""
_STRATA = 4
_FEWEST = 4
"""Trials of a stratum."""
_FEWEST_COMPLETE = 10
"""Whole trainings, before a gain counts as the largest."""


class EarlyStopping:
    """Says which running trials to stop.

    Args:
        problem: the objectives that are costs are known; the others are the qualities.
    """

    def __init__(self, problem: Problem):
        self.problem, self.axis = problem, cost_axis(problem)
        names = [objective.name for objective in problem.space.objectives]
        costs = problem.costs_of(corner(problem.space, highest=False))
        self.qualities = [index for index, name in enumerate(names) if name not in costs]
        self.column = names.index(self.axis.name) if self.axis.name in names else None

    def __call__(self, history: Sequence[Told], number: int) -> bool:
        """Whether trial `number` of the history, RUNNING with an evaluation, should stop at its newest one."""
        share = history[number].curve[-1][0]
        return self._loses_its_rung(history, number, share) or self._cannot_reach_the_front(history, number, share)

    def _loses_its_rung(self, history: Sequence[Told], number: int, share: float) -> bool:
        before = max((earlier for earlier, _ in history[number].curve[:-1]), default=0.0)
        if not any(before < rung <= share for rung in RUNGS):
            return False
        reached = {index: _signed(self.problem.space, at) for index, told in enumerate(history) if (at := _at(told, share)) is not None}
        points, mine = np.array(list(reached.values())), list(reached).index(number)
        costs = self.axis.scaled([self._cost(history[index], point) for index, point in reached.items()])
        merit = np.stack([_without_trend(points[:, column], costs) for column in self.qualities], axis=1)
        rivals = merit[_stratum(costs, mine)]
        if len(rivals) < _FEWEST or _buys_something(points[:, self.qualities], costs, mine):
            return False
        return _num_in_better_layers(rivals, merit[mine]) >= math.ceil(_KEPT * len(rivals))

    def _cannot_reach_the_front(self, history: Sequence[Told], number: int, share: float) -> bool:
        here, end = _whole_trainings(self.problem.space, history, share)
        if len(end) < _FEWEST_COMPLETE:
            return False
        reachable = _extrapolated(_signed(self.problem.space, history[number].curve[-1][1]), here, end, np.min)
        return bool((end <= reachable).all(axis=1).any())

    def _cost(self, told: Told, point: Array) -> float:
        return float(self.problem.costs_of(told.picked)[self.axis.name] if self.column is None else point[self.column])


def expected_end(space: SearchSpace, history: Sequence[Told], told: Told) -> list[float] | None:
    """What a stopped trial would probably have reached, by the median gain of the finished ones from there. None: nobody knows."""
    if not told.curve:
        return None
    share, values = told.curve[-1]
    here, end = _whole_trainings(space, history, share)
    if len(end) == 0:
        return None
    return _signed(space, _extrapolated(_signed(space, values), here, end, np.median)).tolist()


def _signed(space: SearchSpace, values: Sequence[float] | Array) -> Array:
    """All minimised; twice: as before."""
    return np.array([value if o.direction == "min" else -value for o, value in zip(space.objectives, values)], dtype=np.float64)


def _at(told: Told, share: float) -> list[float] | None:
    """The first evaluation at or after a share of the budget; None: the trial has not come so far, or nobody looked."""
    return next((values for at, values in told.curve if at >= share), told.values if told.curve else None)


def _whole_trainings(space: SearchSpace, history: Sequence[Told], share: float) -> tuple[Array, Array]:
    """Of the finished trials with evaluations on the way: objectives (n, m) at this share and at the end, minimised."""
    pairs = [(_signed(space, at), _signed(space, told.values)) for told in history if told.values and (at := _at(told, share))]
    here, end = (np.array([pair[side] for pair in pairs]).reshape(len(pairs), len(space.objectives)) for side in (0, 1))
    return here, end


def _extrapolated(point: Array, here: Array, end: Array, chosen: Callable[..., Any]) -> Array:
    """A point (m,) moved by the chosen gain of others from `here` to `end` (n, m): a factor where all are positive, else a difference."""
    is_ratio = (here > 0).all(axis=0) & (end > 0).all(axis=0) & (point > 0)
    factors = chosen(end / np.where(is_ratio, here, 1.0), axis=0)
    return np.where(is_ratio, point * factors, point + chosen(end - here, axis=0))


def _without_trend(values: Array, costs: Array) -> Array:
    """Values (n,) less the line through the costs by Theil and Sen: the median of all slopes, which a few bad trials do not turn."""
    left, right = np.triu_indices(len(values), k=1)
    apart = costs[left] != costs[right]
    if not apart.any():
        return values
    left, right = left[apart], right[apart]
    return values - float(np.median((values[right] - values[left]) / (costs[right] - costs[left]))) * costs


def _stratum(costs: Array, mine: int) -> NDArray[np.int64]:
    """Those in the stratum of trial `mine`. Strata are equal parts of the range; the smallest joins its smaller neighbour until all do."""
    edges = np.linspace(costs.min(), costs.max(), _STRATA + 1)[1:-1]
    place = np.searchsorted(edges, costs, side="right")
    strata = [np.flatnonzero(place == index) for index in range(_STRATA)]
    while len(strata) > 1 and min(map(len, strata)) < _FEWEST:
        smallest = min(range(len(strata)), key=lambda index: len(strata[index]))
        beside = [index for index in (smallest - 1, smallest + 1) if 0 <= index < len(strata)]
        low, high = sorted((smallest, min(beside, key=lambda index: len(strata[index]))))
        strata[low : high + 1] = [np.concatenate(strata[low : high + 1])]
    return next(stratum for stratum in strata if mine in stratum)


def _buys_something(qualities: Array, costs: Array, mine: int) -> bool:
    """Whether a trial is on the front, and better in a quality than a cheaper one."""
    no_dearer = costs <= costs[mine]
    no_dearer[mine] = False
    dominated = (qualities[no_dearer] <= qualities[mine]).all(axis=1).any()
    return bool(not dominated and (costs < costs[mine]).any())


def _num_in_better_layers(points: Array, mine: Array) -> int:
    """How many points (n, m) lie in layers of non-dominated sorting before that of `mine`, one of them."""
    left, before = points, 0
    while True:
        no_worse = (left[:, None, :] <= left[None, :, :]).all(axis=2)
        better = (left[:, None, :] < left[None, :, :]).any(axis=2)
        first = ~(no_worse & better).any(axis=0)
        if (left[first] == mine).all(axis=1).any():
            return before
        before += int(first.sum())
        left = left[~first]
