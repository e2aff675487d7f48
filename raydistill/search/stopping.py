"""Which running trials to stop, where several objectives are searched and the costs among them are known.

No framework, no state. Below, "front" is the Pareto front, and a quality is an objective that is no cost.

A low cost is no merit here: the cost says with which other trials a trial is compared. So the cheapest trial,
which nothing can dominate, is stopped when it is bad. How much an evaluation during a training says about its
end is learned from the trainings that ended: the gain from this share of the budget to the end, regressed on
all objectives at this share. Where the order of trials still changes after that share, the prediction is wide
and nothing is stopped.

At each evaluation but the last, two rules look at the best end of a trial: the one that it does not exceed
except with a small probability.

1. Successive halving. At each rung, a share of the budget, take the ends of all trials that have come so far,
   or the expected ends of those that run. Remove their common trend with the cost, and divide the trials into
   strata of the cost; a stratum with too few is merged with a neighbour. A trial that is not in the better
   half of its stratum even by its best end is stopped, unless it would be on the front and its cost buys
   something: a quality better than a cheaper trial has. With several qualities "better" means an earlier
   front of non-dominated sorting.
2. What it may still reach. A trial is stopped where one that ended costs no more, and has no quality worse
   than the best end.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from raydistill.config.configurations import extreme_configuration
from raydistill.config.space import SearchSpace
from raydistill.records import pareto
from raydistill.search.candidates import cost_axis
from raydistill.search.problem import Observation, Problem

Array = NDArray[np.float64]
RUNGS = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the budget at which successive halving stops trials."""
_BETTER_SHARE = 0.5
"""Share of a stratum that goes on, at each rung."""
_STRATA = 4
"""Number of strata, before those with too few trials are merged."""
_FEWEST = 4
"""Smallest number of trials in a stratum."""
_CHANCE_AT_RUNG, _CHANCE_BETWEEN = 0.05, 0.01
"""Probability that a trial ends better than its supposed best end: at a rung, and in the second rule."""
_SHRINKAGE = 1e-3
"""Weight of the prior that all trainings gain the same, in pseudo observations."""


class EarlyStopping:
    """Says which running trials to stop, by the two rules above."""

    def __init__(self, problem: Problem):
        """The objectives of `problem` that are costs are known; the others are the qualities."""
        self.problem, self.axis = problem, cost_axis(problem)
        names = [objective.name for objective in problem.space.objectives]
        costs = problem.costs_of(extreme_configuration(problem.space, highest=False))
        self.qualities = [index for index, name in enumerate(names) if name not in costs]
        self.column = names.index(self.axis.name) if self.axis.name in names else None

    def __call__(self, history: Sequence[Observation], number: int) -> bool:
        """Whether trial `number` of the history, which is RUNNING, should stop at its newest evaluation."""
        share, values = history[number].curve[-1]
        here, end = _whole_trainings(self.problem.space, history, share)
        if len(end) == 0:
            return False
        predicted = _predicted(_signed(self.problem.space, values), here, end)
        if predicted.freedom < 1:
            return False
        if (end <= predicted.best(_CHANCE_BETWEEN)).all(axis=1).any():
            return True
        before = max((earlier for earlier, _ in history[number].curve[:-1]), default=0.0)
        at_rung = any(before < rung <= share for rung in RUNGS)
        return at_rung and self._loses_its_rung(history, number, predicted.best(_CHANCE_AT_RUNG))

    def _loses_its_rung(self, history: Sequence[Observation], number: int, best: Array) -> bool:
        """Whether trial `number` is in the worse part of its stratum, even if it ended at `best` (m,)."""
        space, share = self.problem.space, history[number].curve[-1][0]
        indices = [index for index, observation in enumerate(history) if _at(observation, share)]

        def end_of(index: int) -> Array:
            end = expected_end(space, history, history[index], share)
            return best if index == number else _signed(space, end or [])

        points = np.array([end_of(index) for index in indices])
        mine = indices.index(number)
        costs = self.axis.scaled([self._cost(history[index], point) for index, point in zip(indices, points)])
        merit = np.stack([_without_trend(points[:, column], costs) for column in self.qualities], axis=1)
        rivals = merit[_stratum(costs, mine)]
        if len(rivals) < _FEWEST or _buys_something(points[:, self.qualities], costs, mine):
            return False
        return _num_in_better_fronts(rivals, merit[mine]) >= math.ceil(_BETTER_SHARE * len(rivals))

    def _cost(self, observation: Observation, point: Array) -> float:
        """The cost of the axis, which is an objective or must be computed."""
        if self.column is not None:
            return float(point[self.column])
        return float(self.problem.costs_of(observation.configuration)[self.axis.name])


def expected_end(
    space: SearchSpace, history: Sequence[Observation], observation: Observation, share: float | None = None
) -> list[float] | None:
    """The objectives that a trial ends with, or is expected to end with. None: too little is known.

    Args:
        share: predict from the first evaluation at or after this share of the budget; None: from the newest
            one.
    """
    if observation.values or not observation.curve:
        return observation.values
    share = observation.curve[-1][0] if share is None else share
    here, end = _whole_trainings(space, history, share)
    if len(end) == 0 or (point := _at(observation, share)) is None:
        return None
    expected = _signed(space, _predicted(_signed(space, point), here, end).mean)
    return [float(value) for value in expected]


def _signed(space: SearchSpace, values: Sequence[float] | Array) -> Array:
    """Objectives (m,) with the sign of each "max" changed, so that all are minimised. Its own inverse."""
    return np.array(
        [value if o.direction == "min" else -value for o, value in zip(space.objectives, values)],
        dtype=np.float64,
    )


def _at(observation: Observation, share: float) -> list[float] | None:
    """The first evaluation at or after a share of the budget, or the end.

    None: the trial has not come so far, or was never evaluated on the way.
    """
    later = [values for at, values in observation.curve if at >= share]
    if later:
        return later[0]
    return observation.values if observation.curve else None


def _whole_trainings(space: SearchSpace, history: Sequence[Observation], share: float) -> tuple[Array, Array]:
    """Objectives (n, m), minimised, at this share of the budget and at the end.

    They are those of the n trials that ended and were evaluated on the way.
    """
    here, end = [], []
    for observation in history:
        if observation.values and (point := _at(observation, share)):
            here.append(_signed(space, point))
            end.append(_signed(space, observation.values))
    shape = (len(here), len(space.objectives))
    return np.array(here).reshape(shape), np.array(end).reshape(shape)


class _Prediction(NamedTuple):
    """Student's t distributions of the objectives at the end of a training, minimised."""

    mean: Array
    """(m,)"""
    deviation: Array
    """(m,)"""
    freedom: int
    """Degrees of freedom. Below 1 the trainings are too few for a prediction of the deviation."""

    def best(self, chance: float) -> Array:
        """Objectives (m,), each of which is better with this probability only."""
        return np.asarray(self.mean - stdtrit(self.freedom, 1 - chance) * self.deviation)


def _predicted(point: Array, here: Array, end: Array) -> _Prediction:
    """The end of a training that is at `point` (m,).

    It is predicted by a linear regression of the gains of other trainings, from `here` to `end` (n, m), on
    all their objectives `here`. With hardly any others the prediction is that all gain the same.
    """
    num, columns = here.shape
    spread = here.std(axis=0)
    spread = np.where(spread > 0, spread, 1e-12 * np.maximum(1.0, np.abs(here).max(axis=0)))
    inputs, mine = ((rows - here.mean(axis=0)) / spread for rows in (here, point))
    gains = end - here
    precision = np.linalg.inv(inputs.T @ inputs + _SHRINKAGE * np.eye(columns))
    slopes = precision @ inputs.T @ (gains - gains.mean(axis=0))
    rest = gains - gains.mean(axis=0) - inputs @ slopes
    freedom = num - columns - 1
    leverage = 1 + 1 / num + mine @ precision @ mine
    variance = (rest**2).sum(axis=0) / max(freedom, 1) * leverage
    return _Prediction(point + gains.mean(axis=0) + mine @ slopes, np.sqrt(variance), freedom)


def _without_trend(values: Array, costs: Array) -> Array:
    """Values (n,) without their linear trend with the costs (n,).

    The slope is that of Theil and Sen: the median of the slopes of all pairs, on which a few bad trials have
    no influence.
    """
    left, right = np.triu_indices(len(values), k=1)
    apart = costs[left] != costs[right]
    if not apart.any():
        return values
    left, right = left[apart], right[apart]
    slopes = (values[right] - values[left]) / (costs[right] - costs[left])
    return values - float(np.median(slopes)) * costs


def _stratum(costs: Array, mine: int) -> NDArray[np.int64]:
    """Indices of the trials in the stratum of trial `mine`, itself included.

    Strata are equal parts of the range of the costs (n,). While one has too few trials, the smallest is
    merged with the smaller of its neighbours.
    """
    edges = np.linspace(costs.min(), costs.max(), _STRATA + 1)[1:-1]
    part = np.searchsorted(edges, costs, side="right")
    strata = [np.flatnonzero(part == index) for index in range(_STRATA)]
    while len(strata) > 1 and min(map(len, strata)) < _FEWEST:
        smallest = min(range(len(strata)), key=lambda index: len(strata[index]))
        beside = [index for index in (smallest - 1, smallest + 1) if 0 <= index < len(strata)]
        low, high = sorted((smallest, min(beside, key=lambda index: len(strata[index]))))
        strata[low : high + 1] = [np.concatenate(strata[low : high + 1])]
    return next(stratum for stratum in strata if mine in stratum)


def _buys_something(qualities: Array, costs: Array, mine: int) -> bool:
    """Whether trial `mine` is on the front, and so better in a quality than a cheaper trial that there is.

    Args:
        qualities: (n, number of qualities), minimised.
        costs: (n,)
    """
    costs_no_more = costs <= costs[mine]
    costs_no_more[mine] = False
    dominated = (qualities[costs_no_more] <= qualities[mine]).all(axis=1).any()
    return bool(not dominated and (costs < costs[mine]).any())


def _num_in_better_fronts(points: Array, mine: Array) -> int:
    """How many points (n, m) lie on earlier fronts of non-dominated sorting than `mine`, one of them."""
    twice = np.hstack([points, points])  # sorted alike, and no front has a single objective
    ranks = pareto.ranks(twice, ("min",) * twice.shape[1])
    return int((ranks < ranks[(points == mine).all(axis=1)][0]).sum())
