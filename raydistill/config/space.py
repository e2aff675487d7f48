"""Search spaces: data that names config paths, checked against the config before anything starts.

`search_spaces/<name>.py` exports one frozen `SPACE`. A space is looked for by path, then in
`./search_spaces`, then among the installed ones. `config/space_checks.py` checks it.
"""

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from raydistill.config import renamed
from raydistill.config.base import Frozen
from raydistill.config.bounds import MOST_OPTIONS, MOST_PARAMETERS, Cost, Number, Plain, WholeNumber
from raydistill.config.definitions import load_definition
from raydistill.config.experiment import Experiment
from raydistill.config.paths import leaves, nearest
from raydistill.config.presets import PRESETS
from raydistill.errors import SpaceError

COSTS = ("cost/macs", "cost/params", "cost/memory_gb")
"""Costs of a student, which are known before training. `cost/memory_gb` is the predicted peak memory in GiB
on its GPU of one worker that trains the student (see `planning/memory.py`). It is the same number on a CPU,
so that a sweep may go on elsewhere."""
QUALITIES = {
    "val/miou": "max",
    "val/kd_evaluator": "min",
    "val/fd_evaluator": "min",
    "val/psnr": "max",
    "val/ssim": "max",
}
"""Qualities of a student, which need training -> the direction that is better. Networks from files measure
further ones (`evaluation.file_scorers.quantities`)."""
TEACHER_FACTOR = 4.0
"""A distance that is an objective without a reference counts up to so many times the teacher's."""


# ---- the parts of a space ----------------------------------------------------------------------------------


class Int(Frozen):
    """The integers low, low + step, ..., high."""

    kind: Literal["int"] = "int"
    low: WholeNumber
    high: WholeNumber
    step: Annotated[WholeNumber, Field(gt=0)] = 1


class Float(Frozen):
    """The numbers from low to high, uniform in the value or, with `log`, in its logarithm."""

    kind: Literal["float"] = "float"
    low: Number
    high: Number
    log: bool = False


class Choice(Frozen):
    """`options` by string key: the key is what is searched and shown, the value is what the config gets."""

    kind: Literal["choice"] = "choice"
    options: Annotated[dict[str, Plain], Field(max_length=MOST_OPTIONS)]


Distribution = Annotated[Int | Float | Choice, Field(discriminator="kind")]
"""What one parameter may be."""


class When(Frozen):
    """A condition on a parameter: it exists only while the choice `parameter` has one of these keys.

    In `SearchSpace.needs`: only while the config has one of these values at the path `parameter`.
    """

    parameter: str
    keys: tuple[str, ...]


class Objective(Frozen):
    """A quality or a cost that is searched for."""

    name: Annotated[str, AfterValidator(renamed.objective_now)]
    """One of `QUALITIES` or `COSTS`: "val/miou", "cost/macs"."""
    direction: Literal["min", "max"]
    """Whether less or more of it is better."""
    reference: Number | None = None
    """The worst value that still counts in a hypervolume, fixed before the first trial. None: of a cost, that
    of the widest network of the space; of what a network from a file measures, 0 where it is a share, else
    `TEACHER_FACTOR` times the teacher's."""


class Window(Frozen):
    """A hard window on a cost: a configuration outside `low` to `high` never becomes a trial."""

    cost: str
    """One of `COSTS`: "cost/macs" of one picture, "cost/params", or "cost/memory_gb" in GiB."""
    low: Cost = 0
    high: Cost


class SearchSpace(Frozen):
    """What a sweep varies, what it is searched for, and the config of everything else."""

    preset: str
    """The base config, a key of `PRESETS`."""
    parameters: Annotated[
        dict[Annotated[str, AfterValidator(renamed.path_now)], Distribution],
        Field(max_length=MOST_PARAMETERS),
    ]
    """Dotted config path -> distribution."""
    when: dict[str, When] = {}
    """Parameter -> the keys of another parameter, a Choice, under which it exists."""
    needs: dict[str, When] = {}
    """Parameter -> the value that the config, which `--set` may change, must have at another path."""
    objectives: Annotated[tuple[Objective, ...], Field(max_length=MOST_PARAMETERS)]
    """What is searched for: at least one quality, and any costs."""
    constraints: tuple[Window, ...] = ()
    """Windows on costs, which all hold."""
    fidelity: str = "student.budget_nimg"
    """The config path of the training budget that a trial gets; `--nimg` sets it."""
    uniform: Annotated[tuple[Annotated[WholeNumber, Field(gt=0)], ...], Field(max_length=MOST_PARAMETERS)]
    """Base widths (ngf) of the uniform baselines, which are trained by plain distillation."""

    def of_widths(
        self, preset: str, widths: Mapping[str, Distribution], uniform: tuple[int, ...], **others: Any
    ) -> "SearchSpace":
        """The same space over the generator of another preset.

        Args:
            widths: name of each width of that generator -> distribution. They replace all parameters of the
                generator.
            uniform: the field `uniform` of the new space.
            others: further fields to replace.
        """
        parameters: dict[str, Distribution] = {
            f"student.generator.widths.{name}": distribution for name, distribution in widths.items()
        }
        for path, distribution in self.parameters.items():
            if ".generator." not in path:
                parameters[path] = distribution
        fields = {"preset": preset, "parameters": parameters, "uniform": uniform, **others}
        return SearchSpace(**(dict(self) | fields))


# ---- reading -----------------------------------------------------------------------------------------------


def load_space(name: str) -> SearchSpace:
    """A space by file path or by name.

    Raises:
        SpaceError: there is no such space, or the file does not define one.
    """
    folders = [Path("search_spaces"), *_installed()]
    candidates = [Path(name)] if name.endswith(".py") else [folder / f"{name}.py" for folder in folders]
    for path in candidates:
        if path.is_file():
            return load_definition(path, "SPACE", SearchSpace, SpaceError)
    known = sorted({path.stem for folder in folders for path in folder.glob("[!_]*.py")})
    raise SpaceError(
        f"--space {name}: no such search space. Known: {', '.join(known)}; or the path of a .py file. "
        f"Nearest: {nearest(name, known)!r}."
    )


def _installed() -> list[Path]:
    spec = importlib.util.find_spec("search_spaces")
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def preset_of(space: SearchSpace, where: str) -> Experiment:
    """The base config of a space.

    Raises:
        SpaceError: the space names no preset.
    """
    if space.preset not in PRESETS:
        raise SpaceError(
            f"{where}: no preset {space.preset!r}. Known: {', '.join(PRESETS)}. "
            f"Nearest: {nearest(space.preset, list(PRESETS))!r}."
        )
    return PRESETS[space.preset]()


def without_unmet_needs(space: SearchSpace, experiment: Experiment, where: str) -> SearchSpace:
    """The space without the parameters that need another value than this config has.

    Raises:
        SpaceError: `needs` names something that is no parameter, a path that is searched, or no config path.
    """
    values, unmet = leaves(experiment), set()
    paths = list(space.parameters)
    for path, condition in space.needs.items():
        needed = condition.parameter
        if path not in paths:
            raise SpaceError(f"{where}: needs[{path!r}] is no parameter. Nearest: {nearest(path, paths)!r}.")
        if needed in space.parameters or needed not in values:
            why = "is searched; use `when`" if needed in space.parameters else "is no config path"
            raise SpaceError(f"{where}: needs[{path!r}].parameter: {needed!r} {why}.")
        if str(values[needed]) not in condition.keys:
            unmet.add(path)
    parameters = {path: each for path, each in space.parameters.items() if path not in unmet}
    when = {path: condition for path, condition in space.when.items() if path not in unmet}
    return space.model_copy(update={"parameters": parameters, "when": when, "needs": {}})


def without(space: SearchSpace, sections: Sequence[str]) -> SearchSpace:
    """The space without the parameters below these config paths, which `--set` gives whole."""
    below = tuple(f"{section}." for section in sections)

    def remaining(named: Mapping[str, Any]) -> dict[str, Any]:
        return {path: each for path, each in named.items() if not path.startswith(below)}

    if below and any(each.parameter.startswith(below) for each in remaining(space.when).values()):
        controls = ", ".join(sorted(path for path in space.when if not path.startswith(below)))
        raise SpaceError(
            f"--set {', '.join(sections)}: what is searched there decides about {controls}; leave it out"
        )
    parts = (
        {name: remaining(getattr(space, name)) for name in ("parameters", "when", "needs")} if below else {}
    )
    return space.model_copy(update=parts)


# ---- configurations ----------------------------------------------------------------------------------------

ParameterValue = int | float | str
"""What a parameter has in a configuration: a number of an Int or a Float, the key of a Choice."""
Configuration = dict[str, ParameterValue]
"""Dotted config path of each active parameter -> value: one point of a search space."""


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


def is_affordable(space: SearchSpace, costs: Mapping[str, float]) -> bool:
    """Whether costs lie inside every window of the space."""
    return all(window.low <= costs[window.cost] <= window.high for window in space.constraints)


def values_of(space: SearchSpace, configuration: Configuration) -> dict[str, Any]:
    """Dotted path -> value as the config gets it: the keys of choices become their options."""
    values: dict[str, Any] = dict(configuration)
    for path, value in configuration.items():
        distribution = space.parameters[path]
        if isinstance(distribution, Choice):
            values[path] = distribution.options[str(value)]
    return values


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


def extreme_configuration(space: SearchSpace, highest: bool) -> Configuration:
    """The configuration at one end of every range.

    It is the cheapest or the most expensive network, because costs grow with each width.
    """
    out: Configuration = {}
    for path, distribution in space.parameters.items():
        if isinstance(distribution, Choice):
            options = distribution.options
            keys = sorted(options, key=lambda key: _order(options[key]))
            out[path] = keys[-1] if highest else keys[0]
        else:
            out[path] = distribution.high if highest else distribution.low
    return active_parameters(space, out)


def _order(value: object) -> tuple[bool, float, str]:
    """A sort key: numbers first, by size; then the rest, by text."""
    number = float(value) if isinstance(value, int | float) else None
    return number is None, number or 0.0, str(value)
