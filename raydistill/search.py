"""Proposals of configurations, by Optuna. Stateless: a proposal is a function of (seed, number, told history) alone.

Costs are known before training, so what lies outside a cost window or was proposed before never becomes a trial, and the first
proposals are spread over the cost axis.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from raydistill.config import digest
from raydistill.errors import BudgetError
from raydistill.seeds import numpy_stream, stream_key
from raydistill.space import Choice, Distribution, Float, Int, SearchSpace, active, corner, depth, is_affordable

_TRIES = 5_000
_ENOUGH = 200
"""So many new, feasible candidates are looked at where one is chosen at random."""
_TPE_TRIES = 64
Picked = dict[str, Any]
"""Active parameters of a candidate; choices as keys."""
CostsOf = Callable[[Picked], dict[str, int]]
"""Picked -> {"cost/macs": ..., "cost/params": ...}"""


class Told(NamedTuple):
    """What the search knows of one trial."""

    picked: Picked
    state: str
    """COMPLETE, PRUNED, FAIL or RUNNING."""
    values: list[float] | None
    """The objectives, in the order of the space; None unless COMPLETE."""


class Problem(NamedTuple):
    space: SearchSpace
    costs_of: CostsOf
    seed: int
    num_startup: int
    """So many first proposals are stratified over the MACs; then Optuna's TPE."""


def is_feasible(problem: Problem, picked: Picked) -> bool:
    return is_affordable(problem.space, problem.costs_of(picked))


def prove_feasible(problem: Problem) -> None:
    """Raises BudgetError, with the reachable range, where no configuration fits the cost windows: before launch."""
    reachable = {
        cost: [problem.costs_of(corner(problem.space, high))[cost] for high in (False, True)] for cost in ("cost/macs", "cost/params")
    }
    for window in problem.space.constraints:
        low, high = reachable[window.cost]
        if window.high < low or window.low > high:
            raise BudgetError(
                f"{window.cost} between {window.low:,.0f} and {window.high:,.0f}: nothing fits. Reachable: {low:,} to {high:,}."
            )
    rng = numpy_stream(problem.seed, "search/proof")
    if not any(is_feasible(problem, picked) for picked in _spread_picks(problem.space, rng)):
        ranges = "; ".join(f"{cost} {low:,} to {high:,}" for cost, (low, high) in reachable.items())
        raise BudgetError(f"none of {_TRIES} configurations fits the cost windows together. Reachable: {ranges}. Widen a window.")


def propose(problem: Problem, history: Sequence[Told], number: int) -> Picked:
    """The candidate number `number` (from 0): feasible and not in the history.

    Raises:
        BudgetError: the space has no further feasible configuration.
    """
    seen = {digest(told.picked) for told in history}

    def is_new(picked: Picked) -> bool:
        return is_feasible(problem, picked) and digest(picked) not in seen

    if number >= problem.num_startup:
        for picked in _tpe_candidates(problem, history, number):
            if is_new(picked):
                return picked
    rng = numpy_stream(problem.seed, "search/random", number)
    candidates = list(itertools.islice(filter(is_new, _spread_picks(problem.space, rng)), _ENOUGH))
    if not candidates:
        raise BudgetError(
            f"trial {number}: {_TRIES} configurations were all proposed before or outside the cost windows; ask for fewer trials"
        )
    return _nearest_stratum(problem, candidates, number) if number < problem.num_startup else candidates[-1]


def random_pick(space: SearchSpace, rng: np.random.Generator, low: float = 0.0, high: float = 1.0) -> Picked:
    """Each range drawn between its quantiles `low` and `high`; choices from all their keys."""
    return active(space, {path: _draw(distribution, rng, low, high) for path, distribution in space.parameters.items()})


def _spread_picks(space: SearchSpace, rng: np.random.Generator) -> Iterator[Picked]:
    """The cheapest and the dearest configuration, then random ones from lower, upper and whole ranges: all of the cost axis."""
    yield corner(space, highest=False)
    yield corner(space, highest=True)
    for index in range(_TRIES - 2):
        reach = rng.random()
        yield random_pick(space, rng, *((0.0, reach), (1 - reach, 1.0), (0.0, 1.0))[index % 3])


def _nearest_stratum(problem: Problem, candidates: list[Picked], number: int) -> Picked:
    """The candidate whose MACs are nearest to this proposal's stratum of the log cost axis."""
    low, high = (float(problem.costs_of(corner(problem.space, highest))["cost/macs"]) for highest in (False, True))
    for window in problem.space.constraints:
        if window.cost == "cost/macs":
            low, high = max(low, window.low), min(high, window.high)
    low, high = math.log(low), math.log(high)
    order = numpy_stream(problem.seed, "search/strata").permutation(problem.num_startup)
    target = low + (high - low) * (order[number] + 0.5) / problem.num_startup
    return min(candidates, key=lambda picked: abs(math.log(problem.costs_of(picked)["cost/macs"]) - target))


def _tpe_candidates(problem: Problem, history: Sequence[Told], number: int) -> Any:
    """Yields proposals of a TPE sampler that was told the history and is seeded by the number."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = problem.space
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=0, constant_liar=True, seed=stream_key(problem.seed, "search/tpe", number) % 2**32
    )
    directions = [StudyDirection.MAXIMIZE if objective.direction == "max" else StudyDirection.MINIMIZE for objective in space.objectives]
    study = optuna.create_study(directions=directions, sampler=sampler)
    for told in history:
        distributions = {path: _to_optuna(space.parameters[path]) for path in told.picked}
        state = TrialState[told.state]
        study.add_trial(optuna.create_trial(state=state, params=told.picked, distributions=distributions, values=told.values))
    order = sorted(space.parameters, key=lambda path: depth(space, path))
    for _ in range(_TPE_TRIES):
        trial = study.ask()
        picked: Picked = {}
        for path in order:
            condition = space.when.get(path)
            if condition is None or picked.get(condition.parameter) in condition.keys:
                picked[path] = _suggest(trial, path, space.parameters[path])
        yield {path: picked[path] for path in space.parameters if path in picked}
        study.tell(trial, state=TrialState.FAIL)


def _suggest(trial: optuna.Trial, path: str, distribution: Distribution) -> Any:
    if isinstance(distribution, Choice):
        return trial.suggest_categorical(path, list(distribution.options))
    if isinstance(distribution, Int):
        return trial.suggest_int(path, distribution.low, distribution.high, step=distribution.step)
    return trial.suggest_float(path, distribution.low, distribution.high, log=distribution.log)


def _to_optuna(distribution: Distribution) -> BaseDistribution:
    if isinstance(distribution, Choice):
        return CategoricalDistribution(list(distribution.options))
    if isinstance(distribution, Int):
        return IntDistribution(distribution.low, distribution.high, step=distribution.step)
    return FloatDistribution(distribution.low, distribution.high, log=distribution.log)


def _draw(distribution: Distribution, rng: np.random.Generator, low: float, high: float) -> Any:
    if isinstance(distribution, Choice):
        return list(distribution.options)[rng.integers(len(distribution.options))]
    quantile = rng.uniform(low, high)
    if isinstance(distribution, Int):
        count = (distribution.high - distribution.low) // distribution.step + 1
        return distribution.low + distribution.step * min(int(quantile * count), count - 1)
    if isinstance(distribution, Float) and distribution.log:
        return distribution.low * (distribution.high / distribution.low) ** quantile
    return distribution.low + (distribution.high - distribution.low) * quantile
