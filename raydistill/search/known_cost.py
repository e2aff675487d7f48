"""The sampler `known-cost`: Gaussian processes for what needs training, exact costs for what does not.

A proposal maximises the expected hypervolume improvement over the front that the models predict, times the
probability that its training does not fail. Running trials count as if they had their predicted mean (kriging
believer). A proposal is a function of (seed, number of the trial, history) alone.

One proposal in three looks around: to its models, values of parameters without a cost, and pairs of them, may
have effects that no other value tells of. The other two trust what was seen. A new width fills a gap of the
front, whose size is known; nothing else would press a search to try another momentum.

What is known from elsewhere (`Problem.prior_observations`) is in the models as further sources, and replaces
the stratified start. The front that is to be improved is that of this sweep alone, so the first proposals are
the best of what is known. "Front" is short for Pareto front.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from raydistill.config.configurations import Configuration, extreme_configuration
from raydistill.records import pareto
from raydistill.search.acquisition import hypervolume_improvement, non_dominated
from raydistill.search.candidates import (
    cost_axis,
    free_parameters,
    stratified_proposals,
    uniform_proposals,
)
from raydistill.search.encoding import Encoding, distinct
from raydistill.search.objective_scale import FEWEST, scale_objective
from raydistill.search.problem import Observation, PriorObservation, Problem, are_feasible, costs_of_each
from raydistill.search.stopping import expected_end
from raydistill.search.surrogate import Array, GaussianProcess, Inputs
from raydistill.seeds import numpy_stream

_DRAWS, _MUTANTS = 2_100, 600
"""Number of random candidates, and of mutations of the predicted front."""
_ROUNDS, _ROUND_MUTANTS, _ROUND_PARENTS = 4, 150, 12
"""Rounds of local search: each mutates the best candidates so far."""
_GRID_AT_MOST = 3_000
"""A space with at most so many configurations is scored as a whole."""
_TOLD_AT_MOST = 400
"""Largest number of ended trials that a model is made of, see `_most_telling`."""
_LOOKS_AROUND = 3
"""One proposal in so many looks around."""
_SURE_FAILURE = 0.95
"""Highest probability of a failure, so that no candidate is excluded for good."""


def known_cost_proposals(
    problem: Problem, history: Sequence[Observation], number: int, exact_cost: bool = True
) -> Iterator[Configuration]:
    """Proposals for trial `number`, best first.

    Args:
        exact_cost: False: the costs among the objectives are modelled like the others, and the start is
            random. This is for comparisons.
    """
    history = _with_expected_ends(problem, history)
    complete = [
        observation
        for observation in history
        if observation.values is not None and np.isfinite(observation.values).all()
    ]
    complete = _most_telling(problem, complete)
    num_prior = len(problem.prior_observations)
    if len(complete) + num_prior < FEWEST or (number < problem.num_startup and not num_prior):
        start = stratified_proposals if exact_cost else uniform_proposals
        yield from start(problem, history, number)
        return
    model = _SearchModel(problem, history, complete, exact_cost, number % _LOOKS_AROUND == 0)
    rng = numpy_stream(problem.seed, "search/known-cost", number)
    rows = model.candidates(rng)
    if len(rows) == 0:
        return
    scores = model.scores(rows)
    for _ in range(_ROUNDS):
        best = rows[np.argsort(-scores, kind="stable")[:_ROUND_PARENTS]]
        mutants = model.encoding.mutate(best, rng, _ROUND_MUTANTS)
        new = model.allowed(distinct(mutants, np.vstack([model.history_rows, rows])))
        if len(new):
            rows, scores = np.vstack([rows, new]), np.concatenate([scores, model.scores(new)])
    for index in np.argsort(-scores, kind="stable"):
        yield model.encoding.decode(rows[index])


def _with_expected_ends(problem: Problem, history: Sequence[Observation]) -> list[Observation]:
    """The history, where a stopped trial counts as measured at the end that it would probably have had."""
    out = []
    for observation in history:
        if observation.state == "PRUNED":
            end = expected_end(problem.space, history, observation)
            observation = observation._replace(values=end)
        out.append(observation)
    return out


def _most_telling(problem: Problem, complete: list[Observation]) -> list[Observation]:
    """At most `_TOLD_AT_MOST` of the observations, in their order: half are those of the best non-dominated
    ranks, so the whole front where it is no larger, half are spread evenly over the others."""
    if len(complete) <= _TOLD_AT_MOST:
        return complete
    directions = [objective.direction for objective in problem.space.objectives]
    values = np.array([each.values for each in complete], dtype=np.float64)
    order = np.argsort(pareto.ranks(values, directions), kind="stable")
    best, others = order[: _TOLD_AT_MOST // 2], np.sort(order[_TOLD_AT_MOST // 2 :])
    kept = np.sort(np.concatenate([best, others[_spread(len(others), _TOLD_AT_MOST - len(best))]]))
    return [complete[index] for index in kept]


def _spread(number: int, at_most: int) -> NDArray[np.int64]:
    """Indices below `number`, at most so many, evenly spread."""
    return np.linspace(0, number - 1, min(number, at_most)).round().astype(np.int64)


class _SearchModel:
    """What the history says: models of objectives and failures, the predicted front, scores of candidates."""

    def __init__(
        self,
        problem: Problem,
        history: Sequence[Observation],
        complete: Sequence[Observation],
        exact_cost: bool,
        looks_around: bool,
    ):
        self.problem = problem
        self.encoding = Encoding(problem.space)
        self.history_rows = self._rows(history)
        self.prior_rows = self._rows(problem.prior_observations)
        costs = problem.costs_of(extreme_configuration(problem.space, highest=False))
        self.cost_axes = [
            cost_axis(problem, objective.name) if exact_cost and objective.name in costs else None
            for objective in problem.space.objectives
        ]
        """The axis of each objective that is a known cost; None for the others, which are modelled."""
        running = [each for each in history if each.state in ("RUNNING", "PRUNED") and each.values is None]
        own_rows = np.vstack([self._rows(complete), self._rows(running)])
        self.running = self._inputs(self._rows(running))
        self.by_value: list[int] = []
        """Columns of the features whose single values have effects of their own in the models."""
        if looks_around:
            free = free_parameters(problem) if exact_cost else self.encoding.paths
            self.by_value = self.encoding.columns(free)
        self.models, self.is_log, self.reference = self._fit_objectives(complete)
        self.failures = self._fit_failures(history)
        self.constraints = self._fit_constraints(complete)
        rows = np.vstack([own_rows, self.prior_rows])
        points = self._expected_points(rows)
        is_allowed = np.array([each.is_allowed for each in complete] + [True] * len(running), dtype=bool)
        own_points = points[: len(own_rows)][is_allowed]
        self.front = own_points[non_dominated(own_points)]
        self.parents = rows[non_dominated(points)]
        self._loosen_reference(points)

    def _rows(self, observations: Sequence[Observation] | Sequence[PriorObservation]) -> Array:
        return self.encoding.encode([observation.configuration for observation in observations])

    def _inputs(self, rows: Array, sources: NDArray[np.int64] | None = None) -> Inputs:
        """Rows as inputs of the models. `sources` None: all are of this sweep."""
        inputs = self.encoding.features(rows)
        if not self.problem.prior_observations:
            return inputs
        names = sorted({prior.source for prior in self.problem.prior_observations})
        flags = (np.zeros(len(rows)) if sources is None else sources)[:, None] == np.array(names)
        return Inputs(inputs.numbers, np.hstack([inputs.categories, flags.astype(np.int64)]), len(names))

    def _fit_objectives(
        self, complete: Sequence[Observation]
    ) -> tuple[list[GaussianProcess | None], list[bool], Array]:
        """Each objective's model (None: a known cost), whether its logarithm is modelled, its reference."""
        prior = self.problem.prior_observations
        sources = np.array([0] * len(complete) + [each.source for each in prior])
        inputs = self._inputs(np.vstack([self._rows(complete), self.prior_rows]), sources)
        values = np.array(
            [*(each.values for each in complete), *(each.values for each in prior)], dtype=np.float64
        )
        models: list[GaussianProcess | None] = []
        is_log: list[bool] = []
        references: list[float] = []
        for column, (objective, axis) in enumerate(zip(self.problem.space.objectives, self.cost_axes)):
            if axis is not None:
                models.append(None)
                is_log.append(False)
                references.append(axis.high if objective.reference is None else objective.reference)
                continue
            scale, modelled = scale_objective(objective, values[:, column], sources, inputs)
            models.append(GaussianProcess(inputs, modelled, self.by_value))
            is_log.append(scale.is_log)
            references.append(scale.reference)
        return models, is_log, np.array(references)

    def _fit_failures(self, history: Sequence[Observation]) -> GaussianProcess | None:
        """The model of whether a training fails; None while none has."""
        ended = [observation for observation in history if observation.state in ("COMPLETE", "FAIL")]
        is_failure = np.array(
            [each.state == "FAIL" or not np.isfinite(each.values or [np.nan]).all() for each in ended]
        )
        if not is_failure.any():
            return None
        kept = np.arange(len(ended))
        if len(ended) > _TOLD_AT_MOST:  # both kinds, each evenly
            kinds = (np.flatnonzero(is_failure), np.flatnonzero(~is_failure))
            kept = np.sort(np.concatenate([kind[_spread(len(kind), _TOLD_AT_MOST // 2)] for kind in kinds]))
        rows = self._rows([ended[index] for index in kept])
        return GaussianProcess(self.encoding.features(rows), is_failure[kept].astype(np.float64))

    def _fit_constraints(self, complete: Sequence[Observation]) -> list[GaussianProcess]:
        """A model of each constraint, of the trials that have measured it."""
        models = []
        for name in sorted({name for each in complete for name in each.constraints}):
            measured = [each for each in complete if name in each.constraints]
            if len(measured) >= FEWEST:
                values = np.array([each.constraints[name] for each in measured], dtype=np.float64)
                models.append(GaussianProcess(self.encoding.features(self._rows(measured)), values))
        return models

    def _expected_points(self, rows: Array) -> Array:
        """Expected objectives (n, m), minimised, no logarithms."""
        mean, _ = self._predict(*self._inputs_and_costs(rows), given_running=False)
        return np.where(self.is_log, np.exp(np.where(self.is_log, mean, 0.0)), mean)

    def _loosen_reference(self, points: Array) -> None:
        """Makes the reference of each modelled objective at least the best expected value plus one deviation.

        Below that no candidate would have a score.
        """
        for column, model in enumerate(self.models):
            if model is not None:
                best = points[:, column].min()
                nearest = best * np.exp(-model.scale) if self.is_log[column] else best - model.scale
                self.reference[column] = max(self.reference[column], nearest)

    def _inputs_and_costs(self, rows: Array) -> tuple[Inputs, Array]:
        """`_inputs` of rows, and their known costs (n, number of known costs)."""
        names = [axis.name for axis in self.cost_axes if axis is not None]
        configurations = self.encoding.decode_all(rows) if names else []
        return self._inputs(rows), costs_of_each(self.problem, configurations, names).reshape(len(rows), -1)

    def _predict(self, inputs: Inputs, costs: Array, given_running: bool = True) -> tuple[Array, Array]:
        """Means and deviations (c, m) of the objectives as they are modelled."""
        known = iter(costs.T)
        columns = []
        for model in self.models:
            if model is None:
                columns.append((next(known), np.zeros(len(costs))))
            elif given_running:
                columns.append(model.predict_given(inputs, self.running))
            else:
                columns.append(model.predict(inputs))
        mean, deviation = (np.stack(part, axis=1) for part in zip(*columns))
        return mean, deviation

    def candidates(self, rng: np.random.Generator) -> Array:
        """Feasible rows that are not in the history.

        They are the whole grid of a small space, else random rows, mutations of the predicted front and the
        configurations that are known from elsewhere.
        """
        rows = self.encoding.grid(_GRID_AT_MOST)
        if rows is None:
            drawn = self.encoding.draw(rng, _DRAWS)
            mutants = self.encoding.mutate(self.parents, rng, _MUTANTS)
            rows = np.vstack([drawn, mutants, self.prior_rows])
        return self.allowed(distinct(rows, self.history_rows))

    def allowed(self, rows: Array) -> Array:
        """The rows inside the cost windows that the config does not refuse."""
        are_all = not self.problem.space.constraints and not self.problem.refuses_some
        if are_all or len(rows) == 0:
            return rows
        return np.asarray(rows[are_feasible(self.problem, self.encoding.decode_all(rows))])

    def scores(self, rows: Array) -> Array:
        """Expected hypervolume improvement times the probability to fail neither in training nor by a
        constraint, (n,)."""
        mean, deviation = self._predict(*self._inputs_and_costs(rows))
        gain = hypervolume_improvement(self.front, self.reference, mean, deviation, self.is_log)
        for model in self.constraints:
            value, spread = model.predict(self.encoding.features(rows))
            gain = gain * ndtr(-value / spread)
        if self.failures is None:
            return gain
        failure, _ = self.failures.predict(self.encoding.features(rows))
        return np.asarray(gain * (1 - np.clip(failure, 0.0, _SURE_FAILURE)))
