"""Which running trials to stop, where several objectives are wanted and costs among them are known. No framework, no state.

A cost is no merit here: it says with which others a trial is compared. So the cheapest trial, which nothing can dominate, is stopped when
it is bad. How much an evaluation on the way says about the end is not taken for granted but learned from the whole trainings so far: the
gain from this share of the budget on, regressed on all objectives here. Where the order still changes, the prediction is
wide and nobody is stopped. Two rules ask what a trial reaches at best, but for a small chance; at each evaluation but the last:

1. Successive halving. At each rung, a share of the budget, the ends of all trials that have come so far, where they are open the expected
   ones, are freed of their common trend with the cost, and the trials are split into strata of the cost; strata with too few are merged
   with a neighbour. Whoever is not in the better part of its stratum even by its best end is stopped, unless it would be on the front and
   show what its cost buys: it beats a cheaper trial. With several qualities "better" is the layer of non-dominated sorting.
2. What it may still reach. Where a finished trial is no dearer and no worse in any quality than the best end, the trial is stopped.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from raydistill.config.space import SearchSpace, extreme_configuration
from raydistill.search.problem import Observation, Problem, cost_axis

Array = NDArray[np.float64]
RUNGS = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the budget."""
_KEPT = 0.5
"""Of a stratum, at each rung."""
_STRATA = 4
_FEWEST = 4
"""Trials of a stratum."""
_CHANCE_AT_RUNG, _CHANCE_BETWEEN = 0.05, 0.01
"""That a trial ends better than the end by which it is judged."""
_SHRINKAGE = 1e-3
"""Pseudo observations of "all gain the same"."""


class EarlyStopping:
    """Says which running trials to stop.

    Args:
        problem: the objectives that are costs are known; the others are the qualities.
    """

    def __init__(self, problem: Problem):
        self.problem, self.axis = problem, cost_axis(problem)
        names = [objective.name for objective in problem.space.objectives]
        costs = problem.costs_of(extreme_configuration(problem.space, highest=False))
        self.qualities = [index for index, name in enumerate(names) if name not in costs]
        self.column = names.index(self.axis.name) if self.axis.name in names else None

    def __call__(self, history: Sequence[Observation], number: int) -> bool:
        """Whether trial `number` of the history, RUNNING with an evaluation, should stop at its newest one."""
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
        """Whether trial `number` would, even if it ended at `best` (m,)."""
        share = history[number].curve[-1][0]
        come_so_far = {
            index: observation for index, observation in enumerate(history) if _at(observation, share)
        }
        ends = {
            index: expected_end(self.problem.space, history, observation, share)
            for index, observation in come_so_far.items()
        }
        points = np.array(
            [
                best if index == number else _signed(self.problem.space, end or [])
                for index, end in ends.items()
            ]
        )
        mine = list(ends).index(number)
        costs = self.axis.scaled([self._cost(history[index], point) for index, point in zip(ends, points)])
        merit = np.stack([_without_trend(points[:, column], costs) for column in self.qualities], axis=1)
        rivals = merit[_stratum(costs, mine)]
        if len(rivals) < _FEWEST or _buys_something(points[:, self.qualities], costs, mine):
            return False
        return _num_in_better_layers(rivals, merit[mine]) >= math.ceil(_KEPT * len(rivals))

    def _cost(self, observation: Observation, point: Array) -> float:
        return float(
            self.problem.costs_of(observation.configuration)[self.axis.name]
            if self.column is None
            else point[self.column]
        )


def expected_end(
    space: SearchSpace, history: Sequence[Observation], observation: Observation, share: float | None = None
) -> list[float] | None:
    """The objectives that a trial probably ends with. None: nobody knows.

    Args:
        share: judged by the first evaluation at or after this share of the budget; None: by its newest one.
    """
    if observation.values or not observation.curve:
        return observation.values
    share = observation.curve[-1][0] if share is None else share
    here, end = _whole_trainings(space, history, share)
    if len(end) == 0 or (at := _at(observation, share)) is None:
        return None
    return _signed(space, _predicted(_signed(space, at), here, end).mean).tolist()


def _signed(space: SearchSpace, values: Sequence[float] | Array) -> Array:
    """All minimised; twice: as before."""
    return np.array(
        [value if o.direction == "min" else -value for o, value in zip(space.objectives, values)],
        dtype=np.float64,
    )


def _at(observation: Observation, share: float) -> list[float] | None:
    """The first evaluation at or after a share of the budget; None: the trial has not come so far, or nobody looked."""
    return next(
        (values for at, values in observation.curve if at >= share),
        observation.values if observation.curve else None,
    )


def _whole_trainings(space: SearchSpace, history: Sequence[Observation], share: float) -> tuple[Array, Array]:
    """Of the finished trials with evaluations on the way: objectives (n, m) at this share and at the end, minimised."""
    pairs = [
        (_signed(space, at), _signed(space, observation.values))
        for observation in history
        if observation.values and (at := _at(observation, share))
    ]
    here, end = (
        np.array([pair[side] for pair in pairs]).reshape(len(pairs), len(space.objectives)) for side in (0, 1)
    )
    return here, end


class _Prediction(NamedTuple):
    """Student's t distributions of the objectives at the end of a training, minimised."""

    mean: Array
    """(m,)"""
    deviation: Array
    """(m,); infinite: so few whole trainings say nothing."""
    freedom: int

    def best(self, chance: float) -> Array:
        """(m,): each is better with this chance only."""
        return self.mean - stdtrit(self.freedom, 1 - chance) * self.deviation


def _predicted(point: Array, here: Array, end: Array) -> _Prediction:
    """The end of a training that is at `point` (m,), by a linear regression of the gains of others from `here` to `end` (n, m) on all that
    is known of them there. With hardly any others, all gain the same."""
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
