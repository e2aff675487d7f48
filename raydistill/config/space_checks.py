"""Whether a search space fits the config that it varies: checked before any cost."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

from raydistill.config.configurations import Configuration, ParameterValue, extreme_configuration, values_of
from raydistill.config.experiment import Experiment
from raydistill.config.paths import leaves, nearest, validated, with_values
from raydistill.config.space import (
    COSTS,
    QUALITIES,
    Choice,
    Distribution,
    Float,
    Int,
    SearchSpace,
    Settings,
    is_settled,
    searched_paths,
    uniform_names,
    uniform_values,
)
from raydistill.errors import ConfigError, SpaceError


def check_space(
    space: SearchSpace,
    experiment: Experiment,
    where: str,
    further: Mapping[str, Literal["min", "max"]] = MappingProxyType({}),
) -> None:
    """Every check of a space against the config of a sweep.

    Args:
        where: where the space comes from, for error messages.
        further: qualities that networks from files measure -> which way is better.

    Raises:
        SpaceError: the space is not sound, or names what the config does not have.
        ConfigError: the config refuses a value of the space.
    """
    _check_conditions(space, where)
    _check_uniform(space, experiment, where)
    for path, distribution in space.parameters.items():
        if isinstance(distribution, Settings):
            _check_settings(space, path, distribution, where)
        elif why := _why_not_searched(path):
            raise SpaceError(f"{where}: {path!r} cannot be searched: {why}")
        for value in _extremes(distribution, f"{where}: {path}"):
            own = value if isinstance(value, dict) and isinstance(distribution, Settings) else {path: value}
            for setting in _settings(space, path):
                _require_allowed(space, experiment, setting | own, where)
    for highest, what in ((False, "all lowest"), (True, "all highest")):
        values = values_of(space, extreme_configuration(space, highest))
        with_values(experiment, values, where=f"{where}: parameters, {what} together")
    _check_test(space, where)
    _check_objectives(space, where, further)
    for window in space.constraints:
        if window.cost not in COSTS:
            raise SpaceError(f"{where}: constraint on {window.cost!r}. Known costs: {', '.join(COSTS)}.")
    paths = list(leaves(experiment))
    if space.fidelity not in paths:
        raise SpaceError(
            f"{where}: fidelity {space.fidelity!r} is no config path. "
            f"Nearest: {nearest(space.fidelity, paths)!r}."
        )


def _check_uniform(space: SearchSpace, experiment: Experiment, where: str) -> None:
    """Raises SpaceError where there is no baseline of uniform width, or one twice."""
    names, widths = uniform_names(space), experiment.student.generator.widths
    if not (names or is_settled(space)) or len(set(names)) < len(names):
        raise SpaceError(
            f"{where}: uniform {space.uniform}: give one or more different base widths, "
            "for example (4, 8, 12)."
        )
    for ngf in names:
        validated(type(widths), uniform_values(space, widths, ngf), where=f"{where}: uniform {ngf}")


def _check_test(space: SearchSpace, where: str) -> None:
    """Raises SpaceError where all students would be scored on test, although a search chooses them."""
    if space.test == "all" and not is_settled(space):
        searched = [path for path, each in space.parameters.items() if not isinstance(each, Settings)]
        raise SpaceError(
            f"{where}: test: 'all', but {searched[0]} is searched, so scores on test would choose; "
            "leave it out, or let every parameter be Settings."
        )


def _require_allowed(
    space: SearchSpace, experiment: Experiment, values: Mapping[str, object], where: str
) -> None:
    """Raises ConfigError where the config takes values neither alone, nor with all others at one end.

    Some go only with others: StyleGAN2 has no width at 64 pixels without one at 32.
    """
    try:
        with_values(experiment, values, where=f"{where}: parameters")
    except ConfigError:
        for highest in (False, True):
            others = values_of(space, extreme_configuration(space, highest))
            try:
                with_values(experiment, others | dict(values), where=where)
            except ConfigError:
                continue
            return
        raise


def combinations(space: SearchSpace) -> Iterator[Configuration]:
    """The configurations at the ends of all ranges: all lowest, all highest, and each option of a Choice and
    each end of a range with all others lowest or highest."""
    for highest in (False, True):
        yield extreme_configuration(space, highest)
    for path, distribution in space.parameters.items():
        ends: list[ParameterValue]
        if isinstance(distribution, Choice):
            ends = list(distribution.options)
        else:
            ends = [distribution.low, distribution.high]
        for value in ends:
            for highest in (False, True):
                yield extreme_configuration(space, highest, {path: value})


def _settings(space: SearchSpace, path: str) -> list[dict[str, object]]:
    """The values of other parameters with which a parameter is active: all by which `when` has it. A base or
    term of another kind may not have the path.
    """
    if (condition := space.when.get(path)) is None:
        return [{}]
    controller = space.parameters[condition.parameter]
    assert isinstance(controller, Choice)
    return [
        setting | values_of(space, {condition.parameter: key})
        for key in condition.keys
        for setting in _settings(space, condition.parameter)
    ]


def _check_settings(space: SearchSpace, name: str, settings: Settings, where: str) -> None:
    """Raises SpaceError where settings have the name of a path, or set what cannot be searched, or what
    another parameter has, too."""
    if "." in name:
        raise SpaceError(f"{where}: {name!r}: Settings have a name of their own, without a point.")
    others = {other: each for other, each in space.parameters.items() if other != name}
    elsewhere = searched_paths(space.model_copy(update={"parameters": others}))
    for key, values in settings.values.items():
        for path in values:
            why = "it is searched elsewhere, too." if path in elsewhere else _why_not_searched(path)
            if why:
                raise SpaceError(f"{where}: {name}, {key!r}: {path!r} cannot be searched: {why}")


def _why_not_searched(path: str) -> str:
    """Why a config path cannot be a parameter; empty: it can."""
    if not path.startswith("student.") or path == "student.seed":
        return "parameters are paths below 'student.', and the seed is --seed's."
    if path.startswith("student.execution."):
        return "it changes no result; give it by --set."
    if path == "student.generator.family":
        return "it decides which widths there are; make one space for each family."
    return ""


def _check_conditions(space: SearchSpace, where: str) -> None:
    paths = list(space.parameters)
    for path, condition in space.when.items():
        controller = space.parameters.get(condition.parameter)
        if path not in paths:
            raise SpaceError(f"{where}: when[{path!r}] is no parameter. Nearest: {nearest(path, paths)!r}.")
        if not isinstance(controller, Choice):
            raise SpaceError(
                f"{where}: when[{path!r}].parameter is {condition.parameter!r}, "
                "which is no Choice of this space."
            )
        if unknown := set(condition.keys) - set(controller.options):
            raise SpaceError(
                f"{where}: when[{path!r}].keys: {sorted(unknown)} are no options. "
                f"Options: {sorted(controller.options)}."
            )

    for path in space.when:
        chain = [path]
        while chain[-1] in space.when:
            chain.append(space.when[chain[-1]].parameter)
            if chain[-1] in chain[:-1]:
                circle = " -> ".join(chain)
                raise SpaceError(f"{where}: when[{path!r}]: a circle of conditions, {circle}; leave one out.")


def _check_objectives(space: SearchSpace, where: str, further: Mapping[str, Literal["min", "max"]]) -> None:
    qualities = QUALITIES | dict(further)
    known = [*COSTS, *qualities]
    names = [objective.name for objective in space.objectives]
    if len(set(names)) < max(2, len(names)):
        given = ", ".join(names) or "none"
        raise SpaceError(f"{where}: a frontier needs two or more different objectives, given {given}.")
    for objective in space.objectives:
        name = objective.name
        if name not in known:
            if option := _option_of(name):
                raise SpaceError(f"{where}: objective {name} needs {option}.")
            raise SpaceError(
                f"{where}: no objective {name!r}. Known: {', '.join(known)}. "
                f"Nearest: {nearest(name, known)!r}."
            )
        if objective.direction != (better := qualities.get(name, "min")):
            raise SpaceError(
                f"{where}: objective {name} is better towards {better}, given {objective.direction}."
            )
        if objective.reference is None and name in QUALITIES:
            raise SpaceError(
                f"{where}: objective {name} needs a reference, the worst value that still counts."
            )
    if not set(names) & set(qualities):
        raise SpaceError(
            f"{where}: objectives name no quality, so nothing needs training. "
            f"Qualities: {', '.join(qualities)}."
        )


def _option_of(name: str) -> str:
    """The option that gives a quality which a network from a file measures; "": there is none."""
    quantity = name.removeprefix("val/")
    if quantity == name:
        return ""
    if quantity in ("fid", "kid"):
        return "--extractor inception=FILE with the TF-2015 weights; any other file gives fd_ and kd_ names"
    if quantity.startswith("fid_"):
        file = quantity.removeprefix("fid_")
        beside = f"--real-statistics inception={file}.npz"
        return f"--extractor inception=FILE with the TF-2015 weights, and {beside}"
    if quantity == "lpips":
        return "--lpips FILE"
    measure, _, network = quantity.partition("_")
    option = {"miou": "--segmenter"} | dict.fromkeys(("kd", "fd", "precision", "recall"), "--extractor")
    if measure not in option or not network or network == "evaluator":
        return ""
    if network.startswith("script_"):
        return f"{option[measure]} torchscript={network.removeprefix('script_')}.pt"
    return f"{option[measure]} {network}=FILE"


def _extremes(distribution: Distribution, where: str) -> list[object]:
    """Values with which the config is tried: the ends of a range and, of a Float, one inside; every option.

    Raises:
        SpaceError: the range has no value, or its ends are not in it.
    """
    if isinstance(distribution, Choice):
        if not distribution.options:
            raise SpaceError(
                f"{where}: a Choice without options; give at least one, for example {{'off': 0.0}}."
            )
        return list(
            (distribution.values if isinstance(distribution, Settings) else distribution.options).values()
        )
    low, high = distribution.low, distribution.high
    if not low <= high:
        raise SpaceError(f"{where}: low {low} is above high {high}.")
    if isinstance(distribution, Float) and distribution.log and low <= 0:
        raise SpaceError(f"{where}: a log range needs low > 0, given {low}.")
    if isinstance(distribution, Int) and (high - low) % distribution.step:
        raise SpaceError(
            f"{where}: high {high} is not low {low} plus a multiple of step {distribution.step}."
        )
    if isinstance(distribution, Int):
        return [low, high]
    return [
        low,
        high,
        low + (high - low) * 0.381966,
    ]  # the last is no integer, so an integer field refuses it
