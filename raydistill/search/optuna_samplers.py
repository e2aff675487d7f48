"""Optuna's samplers as streams of proposals: four by name, any other by its dotted path.

A stream has no state: the study is built anew from the history, and the sampler is seeded by (seed, number).
"""

import ast
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, TPESampler
from optuna.samplers._ga import BaseGASampler
from optuna.study import Study, StudyDirection
from optuna.trial import BaseTrial, TrialState

from raydistill.config.configurations import Configuration, ParameterValue, active_parameters, depth
from raydistill.config.space import Choice, Distribution, SearchSpace
from raydistill.errors import ConfigError
from raydistill.search.problem import Observation, Problem
from raydistill.seeds import stream_key

_TRIES = 64
"""Number of Optuna's proposals that are looked at before a random one takes their place."""
_GP_TRIES = 4
"""The same for the Gaussian process, which takes a second for each."""
_GENERATIONS = 5
"""Number of NSGA-II's generations in a sweep, within the limits of the population."""
_SMALLEST_POPULATION, _LARGEST_POPULATION = 8, 50


def tpe_proposals(problem: Problem, history: Sequence[Observation], number: int) -> Iterator[Configuration]:
    """Proposals of Optuna's TPE, which keeps away from running trials."""
    return _asked(problem, history, TPESampler(constant_liar=True, seed=_seed(problem, number)), _TRIES)


def nsga2_proposals(problem: Problem, history: Sequence[Observation], number: int) -> Iterator[Configuration]:
    """Proposals of Optuna's NSGA-II, with a population of a fifth of the trials, between 8 and 50."""
    fifth = (problem.num_trials or _GENERATIONS * _LARGEST_POPULATION) // _GENERATIONS
    population = min(_LARGEST_POPULATION, max(_SMALLEST_POPULATION, fifth))
    sampler = NSGAIISampler(population_size=population, seed=_seed(problem, number))
    return _asked(problem, history, sampler, _TRIES)


def gp_proposals(problem: Problem, history: Sequence[Observation], number: int) -> Iterator[Configuration]:
    """Proposals of Optuna's Gaussian process.

    It models the costs too, and draws conditional parameters at random.
    """
    sampler = GPSampler(seed=_seed(problem, number), warn_independent_sampling=False)
    return _asked(problem, history, sampler, _GP_TRIES)


def sobol_proposals(problem: Problem, history: Sequence[Observation], number: int) -> Iterator[Configuration]:
    """The points of one scrambled Sobol sequence, from its first."""
    study = _study(problem.space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        seed = stream_key(problem.seed, "search/sobol") % 2**32
        sampler = QMCSampler(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)
    distributions = {path: to_optuna(distribution) for path, distribution in problem.space.parameters.items()}
    for _ in range(_TRIES + 2 * len(history)):
        trial = study.ask()
        configuration = sampler.sample_relative(study, study.trials[-1], distributions)
        yield active_parameters(problem.space, configuration)
        study.tell(trial, state=TrialState.FAIL)


def proposals_of(text: str) -> Callable[[Problem, Sequence[Observation], int], Iterator[Configuration]]:
    """The proposals of an Optuna sampler that is given as `package.module.Class(option=value, ...)`.

    Values are Python's literals. A class that takes a `seed` gets one for each trial.

    Raises:
        ConfigError: there is no such class, it is no sampler, or it does not take these options.
    """
    path, options = _parsed(text)
    found = _found(path)
    allowed = inspect.signature(found).parameters
    if unknown := sorted(name for name in options if name == "seed" or name not in allowed):
        names = ", ".join(name for name in allowed if name != "seed")
        why = ": a sweep seeds it by --seed" if unknown == ["seed"] else ""
        raise ConfigError(f"--sampler {path}: {unknown[0]} cannot be given{why}; options are: {names}")
    given: dict[str, Any] = options | ({"seed": 0} if "seed" in allowed else {})
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        try:
            found(**given)
        except (TypeError, ValueError, ImportError) as error:
            raise ConfigError(f"--sampler {text}: {error}") from error
    return partial(_class_proposals, found, given)


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Dotted path and options of a sampler that is given as text."""
    path, bracket, _ = text.partition("(")
    try:
        call = ast.parse(text if bracket else f"{text}()", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("options need names")
        if ast.unparse(call.func) != path.strip():
            raise ValueError("it is no dotted path")
        named = {str(option.arg): ast.literal_eval(option.value) for option in call.keywords if option.arg}
        if len(named) < len(call.keywords):
            raise ValueError("options need names")
        return path.strip(), named
    except (SyntaxError, ValueError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(
            f"--sampler {text}: {why}; write package.module.Class(option=value, ...), with numbers, texts, "
            "truth values, None and lists of them as values"
        ) from None


def _found(path: str) -> type[BaseSampler]:
    """The sampler at a dotted path."""
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"--sampler {path}: {module_name} cannot be imported: {error}") from None
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, BaseSampler)):
        known = sorted(
            each
            for each, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, BaseSampler) and not inspect.isabstract(value)
        )
        listed = f": it has {', '.join(known)}" if known else ""
        raise ConfigError(f"--sampler {path}: {module_name} has no sampler {name}{listed}")
    return found


def _class_proposals(
    found: type[BaseSampler],
    options: dict[str, Any],
    problem: Problem,
    history: Sequence[Observation],
    number: int,
) -> Iterator[Configuration]:
    own_seed = {"seed": _seed(problem, number)} if "seed" in options else {}
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        sampler = found(**options | own_seed)
    return _asked(problem, history, sampler, _TRIES)


def to_optuna(distribution: Distribution) -> BaseDistribution:
    """A parameter's distribution as Optuna's. The values of a Choice are its keys."""
    if isinstance(distribution, Choice):
        return CategoricalDistribution(list(distribution.options))
    if distribution.kind == "int":
        return IntDistribution(distribution.low, distribution.high, step=distribution.step)
    return FloatDistribution(distribution.low, distribution.high, log=distribution.log)


def suggest(trial: BaseTrial, space: SearchSpace) -> Configuration:
    """Ask an Optuna trial for the active parameters, those that control others first."""
    configuration: Configuration = {}
    for path in sorted(space.parameters, key=lambda path: depth(space, path)):
        condition = space.when.get(path)
        if condition is None or configuration.get(condition.parameter) in condition.keys:
            configuration[path] = _suggested(trial, path, space.parameters[path])
    return {path: configuration[path] for path in space.parameters if path in configuration}


def directions_of(space: SearchSpace) -> list[StudyDirection]:
    """The directions of a study whose objectives are those of the space."""
    return [
        StudyDirection.MAXIMIZE if objective.direction == "max" else StudyDirection.MINIMIZE
        for objective in space.objectives
    ]


def _seed(problem: Problem, number: int) -> int:
    return stream_key(problem.seed, f"search/{problem.sampler}", number) % 2**32


def _study(space: SearchSpace, sampler: BaseSampler | None = None) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=directions_of(space), sampler=sampler)


def _asked(
    problem: Problem, history: Sequence[Observation], sampler: BaseSampler, tries: int
) -> Iterator[Configuration]:
    """Proposals of a sampler that knows the history. To it, each proposal that is not taken has failed."""
    space = problem.space
    study = _study(space, sampler)
    num_complete = 0
    for observation in history:
        distributions = {path: to_optuna(space.parameters[path]) for path in observation.configuration}
        attributes = {}
        if isinstance(sampler, BaseGASampler) and observation.values is not None:
            attributes[sampler._get_generation_key()] = num_complete // (sampler.population_size or 1)
        # without reports, a pruned trial says to Optuna no more than a failed one
        state = TrialState["FAIL" if observation.state == "PRUNED" else observation.state]
        study.add_trial(
            optuna.create_trial(
                state=state,
                params=observation.configuration,
                distributions=distributions,
                values=observation.values,
                system_attrs=attributes,
            )
        )
        num_complete += observation.values is not None
    for _ in range(tries):
        trial = study.ask()
        yield suggest(trial, space)
        study.tell(trial, state=TrialState.FAIL)


def _suggested(trial: BaseTrial, path: str, distribution: Distribution) -> ParameterValue:
    if isinstance(distribution, Choice):
        return str(trial.suggest_categorical(path, list(distribution.options)))
    if distribution.kind == "int":
        return trial.suggest_int(path, distribution.low, distribution.high, step=distribution.step)
    return trial.suggest_float(path, distribution.low, distribution.high, log=distribution.log)
