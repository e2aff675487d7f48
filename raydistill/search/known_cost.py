"""The sampler `known-cost`: Gaussian processes for what needs training, exact costs for what does not.

A proposal maximises the expected hypervolume improvement over the front that the models believe in, times the probability not to fail.
Running trials count as if they had their predicted mean (kriging believer). Deterministic in (seed, number, told history).

What is known from elsewhere (`Problem.prior`) is in the models as further sources, and takes the place of the stratified start. The front
that is to be improved is this sweep's alone, so the first proposals are the best of what is known.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.config.space import Objective, extreme_configuration
from raydistill.search.acquisition import hypervolume_improvement
from raydistill.search.encoding import Encoding, distinct
from raydistill.search.problem import (
    Configuration,
    Observation,
    Problem,
    cost_axis,
    is_feasible,
    stratified_proposals,
    uniform_proposals,
)
from raydistill.search.stopping import expected_end
from raydistill.search.surrogate import Array, GaussianProcess, Inputs
from raydistill.seeds import numpy_stream

_FEWEST = 3
"""Complete trials that a model needs."""
_DRAWS, _MUTANTS, _ROUNDS, _ROUND_MUTANTS, _ROUND_PARENTS = 2_100, 600, 4, 150, 12
_GRID_AT_MOST = 3_000
"""A space with so few configurations is scored as a whole."""
_MAD_TO_SD = 1.4826
_OUTLIER_SD = 3.0
_SURE_FAILURE = 0.95
"""Nothing is believed to fail more surely than that."""


def known_cost_proposals(
    problem: Problem, history: Sequence[Observation], number: int, exact_cost: bool = True
) -> Iterator[Configuration]:
    """Proposals, best first.

    Args:
        exact_cost: False: the costs among the objectives are modelled like the others, and the start is random. For comparisons.
    """
    history = _with_expected_ends(problem, history)
    complete = [
        observation
        for observation in history
        if observation.values is not None and np.isfinite(observation.values).all()
    ]
    if len(complete) + len(problem.prior_observations) < _FEWEST or (
        number < problem.num_startup and not problem.prior_observations
    ):
        yield from (stratified_proposals if exact_cost else uniform_proposals)(problem, history, number)
        return
    belief = _Belief(problem, history, complete, exact_cost)
    rng = numpy_stream(problem.seed, "search/known-cost", number)
    rows = belief.candidates(rng)
    if len(rows) == 0:
        return
    scores = belief.scores(rows)
    for _ in range(_ROUNDS):
        best = rows[np.argsort(-scores, kind="stable")[:_ROUND_PARENTS]]
        new = belief.allowed(
            distinct(belief.encoding.mutate(best, rng, _ROUND_MUTANTS), np.vstack([belief.observation, rows]))
        )
        if len(new):
            rows, scores = np.vstack([rows, new]), np.concatenate([scores, belief.scores(new)])
    for index in np.argsort(-scores, kind="stable"):
        yield belief.encoding.decode(rows[index])


def _with_expected_ends(problem: Problem, history: Sequence[Observation]) -> list[Observation]:
    """A stopped trial counts as measured at the end that it would probably have had."""
    ends = {
        index: expected_end(problem.space, history, observation)
        for index, observation in enumerate(history)
        if observation.state == "PRUNED"
    }
    return [
        observation._replace(values=ends.get(index, observation.values))
        for index, observation in enumerate(history)
    ]


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

    def __init__(
        self,
        problem: Problem,
        history: Sequence[Observation],
        complete: Sequence[Observation],
        exact_cost: bool,
    ):
        self.problem = problem
        self.encoding = Encoding(problem.space)
        self.observation = self.encoding.encode([observation.configuration for observation in history])
        self.prior_observations = self.encoding.encode(
            [prior_observations.configuration for prior_observations in problem.prior_observations]
        )
        objectives = problem.space.objectives
        costs = problem.costs_of(extreme_configuration(problem.space, highest=False))
        self.cost_axes = [
            cost_axis(problem, o.name) if exact_cost and o.name in costs else None for o in objectives
        ]
        waiting = [
            observation
            for observation in history
            if observation.state in ("RUNNING", "PRUNED") and observation.values is None
        ]
        rows, running = (
            self.encoding.encode([observation.configuration for observation in group])
            for group in (complete, waiting)
        )
        sources = np.array(
            [0] * len(rows) + [prior_observations.source for prior_observations in problem.prior_observations]
        )
        inputs = self._inputs(np.vstack([rows, self.prior_observations]), sources)
        self.running = self._inputs(running)
        values = np.array(
            [
                *(observation.values for observation in complete),
                *(prior_observations.values for prior_observations in problem.prior_observations),
            ],
            dtype=np.float64,
        )
        self.models: list[GaussianProcess | None] = []
        self.is_log: list[bool] = []
        references: list[float] = []
        for column, (objective, axis) in enumerate(zip(objectives, self.cost_axes)):
            if axis is not None:
                self.models.append(None)
                self.is_log.append(False)
                references.append(axis.high if objective.reference is None else objective.reference)
                continue
            warp, modelled = _modelled(objective, values[:, column], sources)
            self.models.append(GaussianProcess(inputs, modelled))
            self.is_log.append(warp.is_log)
            references.append(warp.reference)
        self.reference = np.array(references)
        self.failures = self._failure_model(history)
        known = np.vstack([rows, running, self.prior_observations])
        mean, _ = self._predict(*self._features(known), given_running=False)
        points, seen = (
            np.where(self.is_log, np.exp(np.where(self.is_log, mean, 0.0)), mean),
            len(rows) + len(running),
        )
        self.front, self.parents = points[:seen][_nondominated(points[:seen])], known[_nondominated(points)]
        self._loosen_reference(points)

    def _inputs(self, rows: Array, sources: NDArray[np.int64] | None = None) -> Inputs:
        """What the models see of these rows; sources None: of this sweep."""
        inputs = self.encoding.features(rows)
        if not self.problem.prior_observations:
            return inputs
        names = sorted({prior_observations.source for prior_observations in self.problem.prior_observations})
        flags = (np.zeros(len(rows)) if sources is None else sources)[:, None] == np.array(names)
        return Inputs(inputs.numbers, np.hstack([inputs.categories, flags.astype(np.int64)]), len(names))

    def _features(self, rows: Array) -> tuple[Inputs, Array]:
        """`_inputs`, and their known costs (n, known costs)."""
        inputs = self._inputs(rows)
        axes = [axis for axis in self.cost_axes if axis is not None]
        if not axes:
            return inputs, np.zeros((len(rows), 0))
        all_costs = [self.problem.costs_of(self.encoding.decode(row)) for row in rows]
        costs = np.array([[float(costs[axis.name]) for axis in axes] for costs in all_costs]).reshape(
            len(rows), len(axes)
        )
        return inputs, costs

    def _failure_model(self, history: Sequence[Observation]) -> GaussianProcess | None:
        """None while nothing failed."""
        ended = [observation for observation in history if observation.state in ("COMPLETE", "FAIL")]
        labels = np.array(
            [
                float(observation.state == "FAIL" or not np.isfinite(observation.values or [np.nan]).all())
                for observation in ended
            ]
        )
        if not labels.any():
            return None
        return GaussianProcess(
            self.encoding.features(
                self.encoding.encode([observation.configuration for observation in ended])
            ),
            labels,
        )

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
                columns.append(
                    model.predict_given(inputs, self.running) if given_running else model.predict(inputs)
                )
        mean, deviation = (np.stack(part, axis=1) for part in zip(*columns))
        return mean, deviation

    def candidates(self, rng: np.random.Generator) -> Array:
        """Feasible rows that were not told: the whole grid where it is small, else random ones and mutations of the believed front."""
        rows = self.encoding.grid(_GRID_AT_MOST)
        if rows is None:
            rows = np.vstack(
                [
                    self.encoding.draw(rng, _DRAWS),
                    self.encoding.mutate(self.parents, rng, _MUTANTS),
                    self.prior_observations,
                ]
            )
        return self.allowed(distinct(rows, self.observation))

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
            gain = gain * (
                1 - np.clip(self.failures.predict(self.encoding.features(rows))[0], 0.0, _SURE_FAILURE)
            )
        return gain


def _modelled(objective: Objective, values: Array, sources: NDArray[np.int64]) -> tuple[_Warp, Array]:
    """How this sweep's values (source 0) are modelled, and all values (n,) as they are: those of other sources are moved to its median.

    Until this sweep has enough values, the first source says whether by the logarithm; while it has none, that source stands for it.
    """
    groups = {int(source): sources == source for source in np.unique(sources)}
    first = min(groups, key=lambda source: (source == 0, source))
    is_log = _warp(
        objective, values[groups[0 if groups.get(0, sources < 0).sum() >= _FEWEST else first]]
    ).is_log
    is_log = is_log and bool((values > 0).all() and objective.direction == "min")
    warp = _warp(objective, values[groups[min(groups)]], is_log)
    out = warp.modelled(values)
    for source in groups.keys() - {min(groups)}:
        modelled = _warp(objective, values[groups[source]], is_log).modelled(values[groups[source]])
        out[groups[source]] = modelled - np.median(modelled) + np.median(out[groups[min(groups)]])
    return warp, out


def _warp(objective: Objective, values: Array, is_log: bool | None = None) -> _Warp:
    """How an objective is modelled: by its logarithm where that makes positive values more normal (None), or as is said; the bad tail cut.

    The choice is that of Box and Cox (1964) between the powers 0 and 1. The cut lies three robust deviations above the median, so that one
    diverged training does not flatten all the others.
    """
    sign = 1.0 if objective.direction == "min" else -1.0
    turned = sign * values
    is_log = bool(turned.min() > 0 and _log_is_more_normal(turned)) if is_log is None else is_log
    modelled = np.log(turned) if is_log else turned
    middle = float(np.median(modelled))
    cut = max(
        middle + _OUTLIER_SD * _MAD_TO_SD * float(np.median(np.abs(modelled - middle))),
        float(np.quantile(modelled, 0.75)),
    )
    highest = min(float(modelled.max()), cut)
    reference = float(np.exp(highest)) if is_log else highest
    return _Warp(
        sign,
        is_log,
        cut,
        reference if objective.reference is None else min(reference, sign * objective.reference),
    )


def _log_is_more_normal(positive: Array) -> bool:
    logs = np.log(positive)
    if logs.std() == 0:
        return False
    return float(np.log(logs.std()) + logs.mean()) < float(np.log(positive.std()))


def _nondominated(points: Array) -> NDArray[np.bool_]:
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))
