"""Configurations: points of a search space, as values of its parameters and of the config."""

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from raydistill.config.space import Choice, Int, SearchSpace, Settings, settings_in
from raydistill.errors import SpaceError

ParameterValue = int | float | str
"""What a parameter has in a configuration: a number of an Int or a Float, the key of a Choice."""
Configuration = dict[str, ParameterValue]
"""Dotted config path of each active parameter -> value: one point of a search space."""
_SCALARS = (bool, int, float, str)
"""What a table has in a cell."""


def active_parameters(space: SearchSpace, configuration: Configuration) -> Configuration:
    """The configuration without the parameters whose when-condition does not hold."""

    def is_active(path: str) -> bool:
        condition = space.when.get(path)
        if condition is None:
            return True
        return is_active(condition.parameter) and configuration[condition.parameter] in condition.keys

    return {path: value for path, value in configuration.items() if is_active(path)}


def depth(space: SearchSpace, path: str) -> int:
    """How many when-conditions stand above a parameter."""
    return 0 if path not in space.when else 1 + depth(space, space.when[path].parameter)


def values_of(space: SearchSpace, configuration: Configuration) -> dict[str, Any]:
    """Dotted path -> value as the config gets it: the keys of choices become their options, and those of
    settings all that they set."""
    values: dict[str, Any] = {}
    for path, value in configuration.items():
        distribution = space.parameters[path]
        if isinstance(distribution, Settings):
            values |= distribution.values[str(value)]
        elif isinstance(distribution, Choice):
            values[path] = distribution.options[str(value)]
        else:
            values[path] = value
    return values


def recorded_values(space: SearchSpace, configuration: Configuration) -> dict[str, Any]:
    """What tables have of a configuration: `values_of`; of `Settings` the key, and what they give as it was
    given, without lists and sections."""
    settings = settings_in(space)
    own = {path: value for path, value in configuration.items() if path not in settings}
    values = values_of(space, own)
    for path, each in settings.items():
        if path in configuration:
            key = str(configuration[path])
            given = each.options[key].items()
            values |= {path: key} | {name: value for name, value in given if isinstance(value, _SCALARS)}
    return values


def settings_label(space: SearchSpace, configuration: Configuration) -> str:
    """The keys of all `Settings`, which name a student; "": the space has none."""
    return ", ".join(str(configuration[path]) for path in settings_in(space) if path in configuration)


def value_in(space: SearchSpace, path: str, value: object, *, by_option: bool = False) -> ParameterValue:
    """What a table says of a parameter, as a value of a configuration.

    Args:
        value: a Choice is given by key or, where there is no such key, by option.
        by_option: a Choice is given by option alone, as in result tables.

    Raises:
        SpaceError: the value lies outside the parameter's range.
    """
    distribution = space.parameters[path]
    if isinstance(distribution, Choice):
        by_option = by_option and not isinstance(distribution, Settings)
        if not by_option and str(value) in distribution.options:
            return str(value)
        for key, option in distribution.options.items():
            if option == value or str(value) in (str(option), json.dumps(option)):
                return key
        raise SpaceError(f"{path} = {value!r} is no option. Options: {', '.join(distribution.options)}")
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever a table has
    except (TypeError, ValueError):
        number = math.nan
    step = distribution.step if isinstance(distribution, Int) else 0
    if not distribution.low <= number <= distribution.high or (step and (number - distribution.low) % step):
        steps = f" in steps of {step}" if step > 1 else ""
        raise SpaceError(f"{path} = {value} lies outside {distribution.low} to {distribution.high}{steps}")
    return int(number) if step else number


def base_settings(space: SearchSpace) -> list[dict[str, Any]]:
    """Path below `student` -> value, of each base distillation that the space chooses, without repeats."""
    chosen: list[dict[str, Any]] = []
    for path, distribution in space.parameters.items():
        if path == "student.base.kind" and isinstance(distribution, Choice):
            chosen += [{"base.kind": kind} for kind in distribution.options.values()]
        elif isinstance(distribution, Settings):
            prefix = "student."
            for values in distribution.values.values():
                own = {path: value for path, value in values.items() if path.startswith(f"{prefix}base.")}
                chosen.append({path.removeprefix(prefix): value for path, value in own.items()})
    return [setting for index, setting in enumerate(chosen) if setting and setting not in chosen[:index]]


def extreme_configuration(
    space: SearchSpace, highest: bool, given: Mapping[str, ParameterValue] = MappingProxyType({})
) -> Configuration:
    """The configuration at one end of every range.

    It is the cheapest or the most expensive network, because costs grow with each width.

    Args:
        given: parameters that have these values instead. The choices that decide whether one exists have a
            key under which it does.
    """
    out: Configuration = {}
    for path, distribution in space.parameters.items():
        if isinstance(distribution, Choice):
            options = distribution.options
            keys = sorted(options, key=lambda key: _order(options[key]))
            out[path] = keys[-1] if highest else keys[0]
        else:
            out[path] = distribution.high if highest else distribution.low
    for path in given:
        while (condition := space.when.get(path)) is not None:
            path = condition.parameter
            if out[path] not in condition.keys:
                out[path] = condition.keys[-1 if highest else 0]
    return active_parameters(space, out | dict(given))


def _order(value: object) -> tuple[bool, float, str]:
    """A sort key: numbers first, by size, settings by the sum of their widths and depths; then the rest, by
    text."""
    if isinstance(value, dict):
        own = [each for path, each in value.items() if path.startswith("student.generator.")]
        value = sum(each for each in own if isinstance(each, int | float))
    number = float(value) if isinstance(value, int | float) else None
    return number is None, number or 0.0, str(value)
