"""What a search knows before it starts: the space, the costs of every configuration, the windows.

Costs are known before training. So a configuration outside a cost window never becomes a trial, and the first
proposals can be spread over the cost axis.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydistill.config.configurations import Configuration, ParameterValue
from raydistill.config.space import SearchSpace, is_affordable

_ONE_BY_ONE = 4
"""Number of configurations that are compared with a history one by one."""
_LOG_SPAN = (3.0, 1e9)
"""A cost has a logarithmic axis where its highest value over its lowest lies in this range."""
CostsOf = Callable[[Configuration], Mapping[str, float]]
"""Configuration -> {"cost/macs": ..., "cost/params": ...}"""
CostsOfMany = Callable[[Sequence[Configuration]], Mapping[str, NDArray[np.float64]]]
"""Configurations -> what `CostsOf` gives of each, by name, (n,)."""


IsRefused = Callable[[Configuration], bool]


def never(configuration: Configuration) -> bool:
    """False: of a space whose values go together in every way."""
    return False


class Observation(NamedTuple):
    """What the search knows of one trial."""

    configuration: Configuration
    state: str
    """COMPLETE, FAIL, RUNNING, or PRUNED (stopped early: neither measured in full nor failed)."""
    values: list[float] | None
    """The objectives, in the order of the space; None unless COMPLETE."""
    curve: Sequence[tuple[float, list[float]]] = ()
    """The evaluations before the last, in ascending order: (share of the budget, objectives there)."""
    constraints: Mapping[str, float] = MappingProxyType({})
    """What is measured and may not be above 0, by name."""

    @property
    def is_allowed(self) -> bool:
        """Whether no constraint is violated; other trials are no members of the front."""
        return all(value <= 0 for value in self.constraints.values())


class PriorObservation(NamedTuple):
    """A measurement from elsewhere, such as an earlier sweep. It is no trial: it may still be proposed."""

    configuration: Configuration
    values: list[float]
    """The objectives, in the order of the space; the costs are those of this sweep."""
    source: int
    """Number of its source, from 1: observations of one source were measured under the same conditions."""


class Problem(NamedTuple):
    """What is searched, and how."""

    space: SearchSpace
    costs_of: CostsOf
    seed: int
    num_startup: int
    """Number of first proposals that are stratified over the cost, by the samplers that start so."""
    sampler: str = "known-cost"
    """A key of `search.SAMPLERS`."""
    num_trials: int | None = None
    """How many trials the sweep will have; NSGA-II fits its population to it. None: unknown."""
    prior_observations: Sequence[PriorObservation] = ()
    """What is known before the first trial. Only the samplers that model sources apart use it: `known-cost`
    and `modelled-cost`."""
    is_refused: IsRefused = never
    """Whether the config refuses a configuration: its values are allowed, each by itself, but not together.
    What is proposed was asked."""
    refuses_some: bool = False
    """Whether some were refused when the space was checked. Then whoever lists configurations asks for
    each."""
    costs_of_many: CostsOfMany | None = None
    """`costs_of` for many at a time; None: one after the other."""


class CostAxis(NamedTuple):
    """The range of one cost inside the windows."""

    name: str
    low: float
    high: float

    @property
    def is_log(self) -> bool:
        """Whether costs are compared by their logarithm."""
        return self.low > 0 and _LOG_SPAN[0] <= self.high / self.low <= _LOG_SPAN[1]

    def scaled(self, costs: ArrayLike) -> NDArray[np.float64]:
        """Costs on the scale on which they are spread and compared: logarithms where `is_log`."""
        array = np.asarray(costs, dtype=np.float64)
        return np.log(np.maximum(array, 1e-9 * self.low)) if self.is_log else array


def is_feasible(problem: Problem, configuration: Configuration) -> bool:
    """Whether the costs of a configuration lie inside every window, and the config does not refuse it."""
    if problem.refuses_some and problem.is_refused(configuration):
        return False  # before its costs: what is refused may have none
    return is_affordable(problem.space, problem.costs_of(configuration))


def costs_of_each(
    problem: Problem, configurations: Sequence[Configuration], names: Sequence[str]
) -> NDArray[np.float64]:
    """Some of the costs of configurations, (n, names)."""
    if not names or not configurations:
        return np.zeros((len(configurations), len(names)))
    if problem.costs_of_many is not None:
        found = problem.costs_of_many(configurations)
        return np.stack([found[name] for name in names], axis=1)
    costs = [problem.costs_of(configuration) for configuration in configurations]
    return np.array([[float(each[name]) for name in names] for each in costs])


def are_feasible(problem: Problem, configurations: Sequence[Configuration]) -> NDArray[np.bool_]:
    """`is_feasible` of each, (n,)."""
    feasible = np.ones(len(configurations), dtype=bool)
    if problem.refuses_some:
        feasible = np.array([not problem.is_refused(each) for each in configurations], dtype=bool)
    windows = problem.space.constraints
    asked = [each for each, is_one in zip(configurations, feasible) if is_one]
    costs = costs_of_each(problem, asked, [window.name for window in windows])
    inside = np.ones(len(asked), dtype=bool)
    for window, of in zip(windows, costs.T, strict=True):
        inside &= (window.low <= of) & (of <= window.high)
    feasible[feasible] = inside
    return feasible


Identity = frozenset[tuple[str, ParameterValue]]


def identity(configuration: Configuration) -> Identity:
    """A key that is equal for equal configurations, whatever the order of their parameters."""
    return frozenset(configuration.items())


def new_filter(problem: Problem, history: Sequence[Observation]) -> Callable[[Configuration], bool]:
    """A function that says whether a configuration is feasible and not in the history."""
    seen: set[Identity] = set()
    num_asked = itertools.count(1)

    def is_known(configuration: Configuration) -> bool:
        if (
            next(num_asked) <= _ONE_BY_ONE
        ):  # most often the first is new, and a long history takes long to hash
            return any(observation.configuration == configuration for observation in history)
        if not seen:
            seen.update(identity(observation.configuration) for observation in history)
        return identity(configuration) in seen

    return lambda configuration: not is_known(configuration) and is_feasible(problem, configuration)
