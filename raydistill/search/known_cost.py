"""The sampler `known-cost`: Gaussian processes for what needs training, exact costs for what does not.

A proposal maximises the expected hypervolume improvement over the front that the models believe in, times the probability not to fail.
Running trials count as if they had their predicted mean (kriging believer). Deterministic in (seed, number, told history).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.search.acquisition import hypervolume_improvement
from raydistill.search.encoding import Encoding, distinct
from raydistill.search.problem import Picked, Problem, Told, cost_axis, is_feasible, stratified_picks, uniform_picks
from raydistill.search.stopping import expected_end
from raydistill.search.surrogate import Array, GaussianProcess, Inputs
from raydistill.seeds import numpy_stream
from raydistill.space import Objective

_FEWEST = 3
"""Complete trials that a model needs."""
_DRAWS, _MUTANTS, _ROUNDS, _ROUND_MUTANTS, _ROUND_PARENTS = 2_100, 600, 4, 150, 12
_GRID_AT_MOST = 3_000
"""A space with so few configurations is scored as a whole."""
_MAD_TO_SD = 1.4826
_OUTLIER_SD = 3.0
_SURE_FAILURE = 0.95
"""Nothing is believed to fail more surely than that."""


def known_cost_picks(problem: Problem, history: Sequence[Told], number: int, exact_cost: bool = True) -> Iterator[Picked]:
    """Proposals, best first.

    Args:
        exact_cost: False: the costs among the objectives are modelled like the others, and the start is random. For comparisons.
    """
    history = _with_expected_ends(problem, history)
    complete = [told for told in history if told.values is not None and np.isfinite(told.values).all()]
    if number < problem.num_startup or len(complete) < _FEWEST:
        yield from (stratified_picks if exact_cost else uniform_picks)(problem, history, number)
        return
    belief = _Belief(problem, history, complete, exact_cost)
    rng = numpy_stream(problem.seed, "search/known-cost", number)
    rows = belief.candidates(rng)
    if len(rows) == 0:
        return
    scores = belief.scores(rows)
    for _ in range(_ROUNDS):
        best = rows[np.argsort(-scores, kind="stable")[:_ROUND_PARENTS]]
        new = belief.allowed(distinct(belief.encoding.mutate(best, rng, _ROUND_MUTANTS), np.vstack([belief.told, rows])))
        if len(new):
            rows, scores = np.vstack([rows, new]), np.concatenate([scores, belief.scores(new)])
    for index in np.argsort(-scores, kind="stable"):
        yield belief.encoding.decode(rows[index])


def _with_expected_ends(problem: Problem, history: Sequence[Told]) -> list[Told]:
    """A stopped trial counts as measured at the end that it would probably have had."""
    ends = {index: expected_end(problem.space, history, told) for index, told in enumerate(history) if told.state == "PRUNED"}
    return [told._replace(values=ends.get(index, told.values)) for index, told in enumerate(history)]


class _Warp(NamedTuple):
    """An objective as it is modelled: minimised, perhaps by its logarithm, outliers cut."""

    sign: float
    is_log: bool
    cut: float
    """Observations are at most this."""
    reference: float
    """On the objective's own scale, minimised."""

    def modelled(self, values: Array) -> Array:
        turned = self.sign * values
        return np.minimum(np.log(turned) if self.is_log else turned, self.cut)


class _Belief:
    """What the told history says: models, the believed front, and how candidates score."""

    def __init__(self, problem: Problem, history: Sequence[Told], complete: Sequence[Told], exact_cost: bool):
        self.problem = problem
        self.encoding = Encoding(problem.space)
        self.told = self.encoding.encode([told.picked for told in history])
        objectives = problem.space.objectives
        costs = problem.costs_of(complete[0].picked)
        self.cost_axes = [cost_axis(problem, o.name) if exact_cost and o.name in costs else None for o in objectives]
        waiting = [told for told in history if told.state in ("RUNNING", "PRUNED") and told.values is None]
        rows, running = (self.encoding.encode([told.picked for told in group]) for group in (complete, waiting))
        inputs, _ = self._features(rows)
        self.running, _ = self._features(running)
        values = np.array([told.values for told in complete], dtype=np.float64)
        self.models: list[GaussianProcess | None] = []
        self.is_log: list[bool] = []
        references: list[float] = []
        for column, (objective, axis) in enumerate(zip(objectives, self.cost_axes)):
            if axis is not None:
                self.models.append(None)
                self.is_log.append(False)
                references.append(axis.high if objective.reference is None else objective.reference)
                continue
            warp = _warp(objective, values[:, column])
            self.models.append(GaussianProcess(inputs, warp.modelled(values[:, column])))
            self.is_log.append(warp.is_log)
            references.append(warp.reference)
        self.reference = np.array(references)
        self.failures = self._failure_model(history)
        seen = np.vstack([rows, running])
        mean, _ = self._predict(*self._features(seen), given_running=False)
        points = np.where(self.is_log, np.exp(np.where(self.is_log, mean, 0.0)), mean)
        is_best = _nondominated(points)
        self.front, self.parents = points[is_best], seen[is_best]
        self._loosen_reference(points)

    def _features(self, rows: Array) -> tuple[Inputs, Array]:
        """What the models see of these rows, and their known costs (n, known costs)."""
        inputs = self.encoding.features(rows)
        axes = [axis for axis in self.cost_axes if axis is not None]
        if not axes:
            return inputs, np.zeros((len(rows), 0))
        all_costs = [self.problem.costs_of(self.encoding.decode(row)) for row in rows]
        costs = np.array([[float(costs[axis.name]) for axis in axes] for costs in all_costs]).reshape(len(rows), len(axes))
        return inputs, costs

    def _failure_model(self, history: Sequence[Told]) -> GaussianProcess | None:
        """None while nothing failed."""
        ended = [told for told in history if told.state in ("COMPLETE", "FAIL")]
        labels = np.array([float(told.state == "FAIL" or not np.isfinite(told.values or [np.nan]).all()) for told in ended])
        if not labels.any():
            return None
        return GaussianProcess(self._features(self.encoding.encode([told.picked for told in ended]))[0], labels)

    def _loosen_reference(self, points: Array) -> None:
        """A modelled objective's reference is at least the best believed value less one spread of all: below that nothing would score."""
        for column, model in enumerate(self.models):
            if model is not None:
                best = points[:, column].min()
                nearest = best * np.exp(-model.scale) if self.is_log[column] else best - model.scale
                self.reference[column] = max(self.reference[column], nearest)

    def _predict(self, inputs: Inputs, costs: Array, given_running: bool = True) -> tuple[Array, Array]:
        """Means and deviations (c, m) of the objectives as they are modelled."""
        known = iter(costs.T)
        columns = []
        for model in self.models:
            if model is None:
                columns.append((next(known), np.zeros(len(costs))))
            else:
                columns.append(model.predict_given(inputs, self.running) if given_running else model.predict(inputs))
        mean, deviation = (np.stack(part, axis=1) for part in zip(*columns))
        return mean, deviation

    def candidates(self, rng: np.random.Generator) -> Array:
        """Feasible rows that were not told: the whole grid where it is small, else random ones and mutations of the believed front."""
        rows = self.encoding.grid(_GRID_AT_MOST)
        if rows is None:
            rows = np.vstack([self.encoding.draw(rng, _DRAWS), self.encoding.mutate(self.parents, rng, _MUTANTS)])
        return self.allowed(distinct(rows, self.told))

    def allowed(self, rows: Array) -> Array:
        """Those inside the cost windows."""
        if not self.problem.space.constraints or len(rows) == 0:
            return rows
        return rows[np.array([is_feasible(self.problem, self.encoding.decode(row)) for row in rows])]

    def scores(self, rows: Array) -> Array:
        inputs, costs = self._features(rows)
        mean, deviation = self._predict(inputs, costs)
        gain = hypervolume_improvement(self.front, self.reference, mean, deviation, self.is_log)
        if self.failures is not None:
            gain = gain * (1 - np.clip(self.failures.predict(inputs)[0], 0.0, _SURE_FAILURE))
        return gain


def _warp(objective: Objective, values: Array) -> _Warp:
    """How an objective is modelled: by its logarithm where that makes positive values more normal; the bad tail cut.

    The choice is that of Box and Cox (1964) between the powers 0 and 1. The cut lies three robust deviations above the median, so that one
    diverged training does not flatten all the others.
    """
    sign = 1.0 if objective.direction == "min" else -1.0
    turned = sign * values
    is_log = bool(turned.min() > 0 and _log_is_more_normal(turned))
    modelled = np.log(turned) if is_log else turned
    middle = float(np.median(modelled))
    cut = max(middle + _OUTLIER_SD * _MAD_TO_SD * float(np.median(np.abs(modelled - middle))), float(np.quantile(modelled, 0.75)))
    highest = min(float(modelled.max()), cut)
    reference = float(np.exp(highest)) if is_log else highest
    return _Warp(sign, is_log, cut, reference if objective.reference is None else min(reference, sign * objective.reference))


def _log_is_more_normal(positive: Array) -> bool:
    logs = np.log(positive)
    if logs.std() == 0:
        return False
    return float(np.log(logs.std()) + logs.mean()) < float(np.log(positive.std()))


def _nondominated(points: Array) -> NDArray[np.bool_]:
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))
