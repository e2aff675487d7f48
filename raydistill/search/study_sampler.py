"""`known-cost` as a sampler for anybody's Optuna study: `KnownCostSampler`.

A proposal is a function of (seed, number of the trial, trials of the study) alone, so several processes may
work on one storage. Inside, every objective is minimised, and a study's distributions are those of a space.
"""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raydistill.config.configurations import Configuration, ParameterValue
from raydistill.config.space import Choice, Distribution, Float, Int, Objective, SearchSpace
from raydistill.errors import BudgetError, SpaceError
from raydistill.search.candidates import at_quantile, first_new, random_configuration
from raydistill.search.known_cost import known_cost_proposals
from raydistill.search.problem import Identity, Observation, Problem, identity
from raydistill.seeds import numpy_stream, stream_key

CostsOfParams = Callable[[dict[str, Any]], Mapping[int | str, float]]
"""Parameters of a trial -> the objectives that are known without running it, by position (from 0) or by
`study.metric_names`."""
_REMEMBERED = 100_000
"""Number of configurations whose costs are remembered."""
_log = optuna.logging.get_logger("optuna.raydistill")


class KnownCostSampler(BaseSampler):
    """Samples where some objectives are known without running a trial, such as sizes, prices and weights.

        def costs(params):
            return {1: params["width"] ** 2 * params["depth"]}

        study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(costs))

    Objectives that are not known are modelled by Gaussian processes; a proposal maximises the expected
    hypervolume improvement (for one objective: the expected improvement) with the known ones exact, times the
    probability that the trial neither fails nor violates a constraint (`trial.set_constraint`: above 0 it is
    violated). The first proposals are spread over the first known cost.

    Spaces may be defined by run: parameters that not every trial of the study has are drawn at random.
    """

    def __init__(
        self,
        costs: CostsOfParams | None = None,
        *,
        seed: int | None = None,
        num_startup: int = 10,
        search_space: Mapping[str, BaseDistribution] | None = None,
    ):
        """
        Args:
            costs: None: nothing is known before. It is asked for parameters of the search space alone.
            seed: of all proposals and random values. None: another one for each sampler.
            num_startup: number of first trials that are spread over the cost, or drawn at random where
                nothing is known. At least 1.
            search_space: the parameters that are proposed together, where a trial may lack some. None: those
                that all trials of the study have.

        Raises:
            SpaceError: `num_startup` is below 1.
        """
        if num_startup < 1:
            raise SpaceError(f"num_startup {num_startup}: give at least 1")
        self._costs, self._num_startup, self._given = costs, num_startup, search_space
        self._seed = int.from_bytes(os.urandom(4)) if seed is None else seed
        self._intersection = IntersectionSearchSpace(include_pruned=True)
        self._remembered: dict[Identity, Mapping[str, float]] = {}
        self._is_said = False

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are proposed together; those with a single value are left out."""
        space = self._given if self._given is not None else self._intersection.calculate(study)
        return {name: each for name, each in space.items() if not each.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for a trial, from all other trials of the study.

        Raises:
            SpaceError: `costs` gives what is no objective of the study, other objectives than before, or no
                finite number.
        """
        if not search_space:
            return {}
        axes = {name: _axis(each) for name, each in search_space.items()}
        known = self._known(study, axes)
        problem = self._problem(study, axes, known)
        history = _history(study, trial, axes)
        proposals = known_cost_proposals(problem, history, trial.number, exact_cost=bool(known))
        try:
            proposed = first_new(problem, proposals, history, trial.number)
        except BudgetError:  # everything was tried, and Optuna's studies may repeat
            rng = numpy_stream(self._seed, "search/repeated", trial.number)
            proposed = random_configuration(problem.space, rng)
        return _params(axes, proposed)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, for a parameter outside of the search space."""
        seed = stream_key(self._seed, f"search/{param_name}", trial.number) % 2**32
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def _problem(self, study: Study, axes: Mapping[str, "_Axis"], known: frozenset[int]) -> Problem:
        objectives = tuple(
            Objective(name=_name(index, known), direction="min") for index in range(len(study.directions))
        )
        parameters = {name: axis.ours for name, axis in axes.items()}
        space = SearchSpace(preset="none", parameters=parameters, objectives=objectives, uniform=(1,))

        def costs_of(configuration: Configuration) -> Mapping[str, float]:
            if not known:
                return {}
            key = identity(configuration)
            if key not in self._remembered:
                if len(self._remembered) >= _REMEMBERED:
                    self._remembered.clear()
                signs = _signs(study)
                found = self._asked(study, _params(axes, configuration), known)
                self._remembered[key] = {
                    _name(index, known): signs[index] * value for index, value in found.items()
                }
            return self._remembered[key]

        return Problem(space, costs_of, self._seed, self._num_startup)

    def _known(self, study: Study, axes: Mapping[str, "_Axis"]) -> frozenset[int]:
        """The objectives that `costs` gives, by position; once, which are modelled is said."""
        if self._costs is None:
            return frozenset()
        first = {name: _lowest(axis.ours) for name, axis in axes.items()}
        known = frozenset(self._asked(study, _params(axes, first), None))
        modelled = [index for index in range(len(study.directions)) if index not in known]
        if modelled and not self._is_said:
            names = ", ".join(str(_said(study, index)) for index in modelled)
            _log.info(f"KnownCostSampler: no cost is known of objective {names}: modelled")
            self._is_said = True
        return known

    def _asked(
        self, study: Study, params: dict[str, Any], expected: frozenset[int] | None
    ) -> dict[int, float]:
        """What `costs` says of these parameters, by position. `expected` None: any objectives."""
        assert self._costs is not None
        try:
            given = self._costs(dict(params))
        except Exception as error:
            raise SpaceError(
                f"costs({params}) raised {type(error).__name__}: {error}. It is asked for the parameters "
                "that all trials have; give search_space= if it needs others"
            ) from error
        if not isinstance(given, Mapping):
            raise SpaceError(f"costs({params}) gave {given!r}: return a mapping from objective to number")
        found = {_position(study, key): float(value) for key, value in given.items()}
        if bad := [index for index, value in found.items() if not math.isfinite(value)]:
            raise SpaceError(
                f"costs({params}): objective {_said(study, bad[0])} is {found[bad[0]]}; give a finite number"
            )
        if expected is not None and found.keys() != expected:
            names = [
                ", ".join(str(_said(study, index)) for index in sorted(each)) for each in (found, expected)
            ]
            raise SpaceError(
                f"costs({params}) gave {names[0]}, and {names[1]} for others; give the same always"
            )
        return found


# ---- objectives --------------------------------------------------------------------------------------------


def _name(index: int, known: frozenset[int]) -> str:
    """Name of an objective inside."""
    return f"cost/{index}" if index in known else f"val/{index}"


def _said(study: Study, index: int) -> int | str:
    """What the user calls an objective."""
    return study.metric_names[index] if study.metric_names else index


def _signs(study: Study) -> list[float]:
    """-1 for each objective that is maximised, else 1."""
    return [-1.0 if each == StudyDirection.MAXIMIZE else 1.0 for each in study.directions]


def _position(study: Study, key: object) -> int:
    """The position of the objective that a key of `costs` names."""
    number, names = len(study.directions), study.metric_names or []
    if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < number:
        return key
    if isinstance(key, str) and key in names:
        return names.index(key)
    allowed = f"positions 0 to {number - 1}" + (f" or the names {', '.join(names)}" if names else "")
    hint = "" if names else "; names are those of study.set_metric_names, which this study has not"
    raise SpaceError(f"costs: {key!r} is no objective of the study. Allowed: {allowed}{hint}")


# ---- parameters --------------------------------------------------------------------------------------------


class _Axis(NamedTuple):
    """A parameter: its distribution as ours, and values there and back."""

    ours: Distribution
    inward: Callable[[Any], ParameterValue]
    outward: Callable[[Any], Any]
    optunas: BaseDistribution


def _axis(distribution: BaseDistribution) -> _Axis:
    """Choices that are numbers are ordered; a logarithmic integer is a logarithmic number that is rounded;
    steps are counted."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        options = {str(index): _option(index, choice) for index, choice in enumerate(choices)}
        return _Axis(
            Choice(options=options),
            lambda value: str(int(distribution.to_internal_repr(value))),
            lambda key: choices[int(key)],
            distribution,
        )
    if isinstance(distribution, IntDistribution) and not distribution.log:
        ours = Int(low=distribution.low, high=distribution.high, step=distribution.step)
        return _Axis(ours, int, int, distribution)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return _Axis(
            Float(low=low - 0.5, high=high + 0.5, log=True),
            float,
            lambda value: min(high, max(low, round(value))),
            distribution,
        )
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is None:
        ours_float = Float(low=distribution.low, high=distribution.high, log=distribution.log)
        return _Axis(ours_float, float, float, distribution)
    start, step = distribution.low, distribution.step
    return _Axis(
        Int(low=0, high=round((distribution.high - start) / step)),
        lambda value: round((value - start) / step),
        lambda index: min(distribution.high, start + index * step),
        distribution,
    )


def _option(index: int, choice: Any) -> Any:
    """A choice inside: a number as it is, anything else as a text of its own."""
    is_number = isinstance(choice, int | float) and not isinstance(choice, bool) and math.isfinite(choice)
    return choice if is_number else f"choice {index}"


def _lowest(distribution: Distribution) -> ParameterValue:
    return next(iter(distribution.options)) if isinstance(distribution, Choice) else distribution.low


def _middle(distribution: Distribution) -> ParameterValue:
    """What stands for the value of a parameter that a trial lacks."""
    return _lowest(distribution) if isinstance(distribution, Choice) else at_quantile(distribution, 0.5)


def _params(axes: Mapping[str, _Axis], configuration: Configuration) -> dict[str, Any]:
    """A configuration in the study's own values."""
    return {name: axis.outward(configuration[name]) for name, axis in axes.items()}


def _history(study: Study, trial: FrozenTrial, axes: Mapping[str, _Axis]) -> list[Observation]:
    """What the other trials of the study say; one that has none of the parameters, or a value outside of its
    range, says nothing."""
    signs, history = _signs(study), []
    for other in study.get_trials(deepcopy=False):
        if other.number == trial.number or other.state == TrialState.WAITING:
            continue
        configuration = _configuration(other, axes)
        if configuration is not None:
            is_complete = other.state == TrialState.COMPLETE and len(other.values) == len(signs)
            values = [sign * value for sign, value in zip(signs, other.values)] if is_complete else None
            observation = Observation(configuration, other.state.name, values, constraints=other.constraints)
            history.append(observation)
    return history


def _configuration(trial: FrozenTrial, axes: Mapping[str, _Axis]) -> Configuration | None:
    """A trial's values inside, with middles where it lacks a parameter; None: it says nothing."""
    if not axes.keys() & trial.params.keys():
        return None
    configuration: Configuration = {}
    for name, axis in axes.items():
        if name not in trial.params:
            configuration[name] = _middle(axis.ours)
            continue
        try:
            internal = axis.optunas.to_internal_repr(trial.params[name])
            if not axis.optunas._contains(internal):
                return None
        except ValueError:  # of another kind
            return None
        configuration[name] = axis.inward(trial.params[name])
    return configuration
