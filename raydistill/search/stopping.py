"""Which running trials to stop, where several objectives are searched and the costs among them are known.

No framework, no state. Below, "front" is the Pareto front, and a quality is an objective that is no cost.

A training is worth what it adds to the front. At each evaluation but the last the end of the trial is
predicted from the trainings that ended: the gain from this share of the budget to the end, regressed on all
objectives at this share. From that, and from its cost, follows the expected hypervolume improvement over the
front so far. Where it is less than what is left of the training costs, the trial is stopped.

The price: all trainings of a sweep together cost `_PRICE` of its hypervolume, so one of them costs that share
divided by their number, and half of one half of that. Where the order of trials still changes after a share
of the budget, the prediction is wide, the expected improvement large, and nothing is stopped.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.config.configurations import extreme_configuration
from raydistill.config.space import SearchSpace
from raydistill.records import pareto
from raydistill.search.acquisition import hypervolume_improvement, non_dominated
from raydistill.search.candidates import cost_axis
from raydistill.search.problem import Observation, Problem

Array = NDArray[np.float64]
_PRICE = 0.25
"""Share of the hypervolume that all trainings of a sweep together have to be worth."""
_LEAST_FREEDOM = 3
"""Degrees of freedom from which on the variance of Student's t exists."""
_SHRINKAGE = 1e-3
"""Weight of the prior that all trainings gain the same, in pseudo observations."""


class EarlyStopping:
    """Says which running trials to stop, by what the front is expected to gain from them."""

    def __init__(self, problem: Problem):
        """The objectives of `problem` that are costs are known; the others are the qualities."""
        self.problem = problem
        objectives = problem.space.objectives
        costs = problem.costs_of(extreme_configuration(problem.space, highest=False))
        self.is_cost = np.array([objective.name in costs for objective in objectives])
        worst = [
            _beyond(problem, objective.name)
            if objective.reference is None and is_cost
            else objective.reference
            for objective, is_cost in zip(objectives, self.is_cost)
        ]
        self.reference = _signed(problem.space, [np.nan if each is None else each for each in worst])
        """(m,), minimised; NaN where a quality has none."""

    def __call__(self, history: Sequence[Observation], number: int) -> bool:
        """Whether trial `number` of the history, which is RUNNING, should stop at its newest evaluation."""
        space = self.problem.space
        share, values = history[number].curve[-1]
        here, end = _whole_trainings(space, history, share)
        if len(end) == 0:
            return False
        point = _signed(space, values)
        predicted = _predicted(point, here, end)
        if predicted.freedom < _LEAST_FREEDOM:
            return False
        mean = np.where(self.is_cost, point, predicted.mean)
        deviation = np.where(self.is_cost, 0.0, predicted.standard_deviation)
        ended = [each.values for each in history if each.values is not None and each.is_allowed]
        points = np.array([_signed(space, each) for each in ended]).reshape(-1, len(mean))
        front = points[non_dominated(points)]
        left = _PRICE * (1 - share) / (self.problem.num_trials or len(history))
        return all(
            _gain(front, reference, mean, deviation) < left * _volume(front, reference)
            for reference in self._references(end)
        )

    def _references(self, end: Array) -> list[Array]:
        """The reference that the sweep is measured by, and the worst qualities so far where they are better:
        a reference far away would make every gain look small.

        Args:
            end: (n, m) ends of trainings, minimised.
        """
        worst = end.max(axis=0)
        given = np.where(np.isnan(self.reference), worst, self.reference)
        return [given, np.where(self.is_cost, given, np.minimum(given, worst))]


def _beyond(problem: Problem, cost: str) -> float:
    """A reference for a cost that has none: a tenth of its range beyond it, so that its high end counts."""
    axis = cost_axis(problem, cost)
    return axis.high + 0.1 * (axis.high - axis.low)


def _gain(front: Array, reference: Array, mean: Array, deviation: Array) -> float:
    """The expected hypervolume improvement of one point, whose objectives (m,) are normal."""
    return float(hypervolume_improvement(front, reference, mean[None], deviation[None])[0])


def _volume(front: Array, reference: Array) -> float:
    """The hypervolume of points (n, m), minimised; with one objective, a length."""
    if len(reference) == 1:
        return float(np.maximum(reference - front, 0.0).max(initial=0.0))
    directions: list[pareto.Direction] = ["min"] * len(reference)
    return pareto.hypervolume(front, directions, reference)


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

    @property
    def standard_deviation(self) -> Array:
        """(m,); `deviation` is the scale of the distribution. For at least 3 degrees of freedom."""
        return np.asarray(self.deviation * math.sqrt(self.freedom / (self.freedom - 2)))


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
