"""Search spaces: data that names config paths, checked against the config before anything starts.

`search_spaces/<name>.py` exports one frozen `SPACE`. It is found by path, then in `./search_spaces`, then among the installed ones.
"""

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PositiveInt, ValidationError

from raydistill.config import renamed
from raydistill.config.base import Frozen
from raydistill.config.experiment import Experiment
from raydistill.config.paths import leaves, nearest, validated, with_values
from raydistill.config.presets import PRESETS
from raydistill.errors import InputError, SpaceError

Defined = TypeVar("Defined")

COSTS = ("cost/macs", "cost/params", "cost/memory_gb")
"""Known before training. `memory_gb`: predicted peak memory on its GPU of one worker that trains the student, GiB (see `memory.py`);
on a CPU the same number, so that a sweep may go on elsewhere."""
QUALITIES = {
    "val/miou": "max",
    "val/kd_evaluator": "min",
    "val/fd_evaluator": "min",
    "val/psnr": "max",
    "val/ssim": "max",
}
"""What a student can be judged by, with the direction that is better."""


class Int(Frozen):
    """low, low + step, ..., high."""

    kind: Literal["int"] = "int"
    low: int
    high: int
    step: PositiveInt = 1


class Float(Frozen):
    kind: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False


class Choice(Frozen):
    """Options by string key: the key is what is searched and shown, the value is what the config gets."""

    kind: Literal["choice"] = "choice"
    options: dict[str, Any]


class When(Frozen):
    """The parameter exists only while the choice `parameter` has one of these keys; in `needs`: while the config has such a value."""

    parameter: str
    keys: tuple[str, ...]


class Objective(Frozen):
    """What is searched for. `reference`: the worst value that still counts in a hypervolume, fixed before the sweep.

    None (costs only): the cost of the widest network of the space.
    """

    name: Annotated[str, AfterValidator(renamed.objective_now)]
    direction: Literal["min", "max"]
    reference: float | None = None


class Window(Frozen):
    """A hard window on a cost: what lies outside never becomes a trial."""

    cost: str
    low: float = 0
    high: float


Distribution = Annotated[Int | Float | Choice, Field(discriminator="kind")]


class SearchSpace(Frozen):
    preset: str
    """Base config, a key of `PRESETS`."""
    parameters: dict[Annotated[str, AfterValidator(renamed.path_now)], Distribution]
    """Dotted config path -> distribution."""
    when: dict[str, When] = {}
    needs: dict[str, When] = {}
    """Parameters that are searched only where the config has a value, at a path that is not searched: `--set` may have changed it."""
    objectives: tuple[Objective, ...]
    constraints: tuple[Window, ...] = ()
    fidelity: str = "student.budget_nimg"
    """The config path of the training budget a trial gets; `--nimg` sets it."""
    uniform: tuple[PositiveInt, ...]
    """Base widths of the uniform baselines, trained by plain distillation."""

    def of_widths(
        self, preset: str, widths: Mapping[str, Distribution], uniform: tuple[int, ...], **others: Any
    ) -> "SearchSpace":
        """The same space over another preset's generator, by its own widths. `others`: more fields to replace."""
        rest = {path: kind for path, kind in self.parameters.items() if ".generator." not in path}
        parameters = {f"student.generator.widths.{name}": kind for name, kind in widths.items()} | rest
        return self.model_copy(
            update={"preset": preset, "parameters": parameters, "uniform": uniform, **others}
        )


def load_space(name: str) -> SearchSpace:
    """A space by file path or by name. Raises SpaceError where there is none or it is no space."""
    if name.endswith(".py"):
        candidates = [Path(name)]
    else:
        candidates = [
            Path("search_spaces") / f"{name}.py",
            *(folder / f"{name}.py" for folder in _installed()),
        ]
    for path in candidates:
        if path.is_file():
            return defined_in(path, "SPACE", SearchSpace, SpaceError)
    known = sorted(
        {path.stem for folder in [Path("search_spaces"), *_installed()] for path in folder.glob("[!_]*.py")}
    )
    raise SpaceError(
        f"--space {name}: no such search space. Known: {', '.join(known)}; or the path of a .py file. Nearest: {nearest(name, known)!r}."
    )


def fitted(space: SearchSpace, experiment: Experiment, where: str) -> SearchSpace:
    """The space without the parameters that need another value than this config has. Raises SpaceError where `needs` names no such path."""
    values, missing = leaves(experiment), set()
    for path, condition in space.needs.items():
        if path not in space.parameters:
            raise SpaceError(
                f"{where}: needs[{path!r}] is no parameter. Nearest: {nearest(path, list(space.parameters))!r}."
            )
        if condition.parameter in space.parameters or condition.parameter not in values:
            why = (
                "is searched; use `when`" if condition.parameter in space.parameters else "is no config path"
            )
            raise SpaceError(f"{where}: needs[{path!r}].parameter: {condition.parameter!r} {why}.")
        if str(values[condition.parameter]) not in condition.keys:
            missing.add(path)
    kept = {path: distribution for path, distribution in space.parameters.items() if path not in missing}
    when = {path: condition for path, condition in space.when.items() if path not in missing}
    return space.model_copy(update={"parameters": kept, "when": when, "needs": {}})


def check(space: SearchSpace, experiment: Experiment, where: str) -> None:
    """Raises SpaceError or ConfigError where the space does not fit the config: before any cost."""
    _check_conditions(space, where)
    if not space.uniform or len(set(space.uniform)) < len(space.uniform):
        raise SpaceError(
            f"{where}: uniform {space.uniform}: give one or more different base widths, for example (4, 8, 12)."
        )
    widths = experiment.student.generator.widths
    for ngf in space.uniform:
        validated(type(widths), widths.values_at(ngf), where=f"{where}: uniform {ngf}")
    for path, distribution in space.parameters.items():
        if not path.startswith("student.") or path == "student.seed":
            raise SpaceError(
                f"{where}: {path!r} cannot be searched: parameters are paths below 'student.', and the seed is --seed's."
            )
        if path.startswith("student.execution."):
            raise SpaceError(f"{where}: {path!r} cannot be searched: it changes no result; give it by --set.")
        if path == "student.generator.family":
            raise SpaceError(
                f"{where}: {path!r} cannot be searched: it decides which widths there are; make one space for each family."
            )
        for value in _extremes(distribution, f"{where}: {path}"):
            with_values(experiment, {path: value}, where=f"{where}: parameters")
    _check_objectives(space, where)
    for window in space.constraints:
        if window.cost not in COSTS:
            raise SpaceError(f"{where}: constraint on {window.cost!r}. Known costs: {', '.join(COSTS)}.")
    if space.fidelity not in leaves(experiment):
        raise SpaceError(
            f"{where}: fidelity {space.fidelity!r} is no config path. Nearest: {nearest(space.fidelity, list(leaves(experiment)))!r}."
        )


def _check_conditions(space: SearchSpace, where: str) -> None:
    for path, condition in space.when.items():
        controller = space.parameters.get(condition.parameter)
        if path not in space.parameters:
            raise SpaceError(
                f"{where}: when[{path!r}] is no parameter. Nearest: {nearest(path, list(space.parameters))!r}."
            )
        if not isinstance(controller, Choice):
            raise SpaceError(
                f"{where}: when[{path!r}].parameter is {condition.parameter!r}, which is no Choice of this space."
            )
        if unknown := set(condition.keys) - set(controller.options):
            raise SpaceError(
                f"{where}: when[{path!r}].keys: {sorted(unknown)} are no options. Options: {sorted(controller.options)}."
            )


def _check_objectives(space: SearchSpace, where: str) -> None:
    known = [*COSTS, *QUALITIES]
    names = [objective.name for objective in space.objectives]
    if len(set(names)) < max(2, len(names)):
        raise SpaceError(
            f"{where}: a frontier needs two or more different objectives, given {', '.join(names) or 'none'}."
        )
    for objective in space.objectives:
        if objective.name not in known:
            raise SpaceError(
                f"{where}: no objective {objective.name!r}. Known: {', '.join(known)}. Nearest: {nearest(objective.name, known)!r}."
            )
        if objective.direction != (better := QUALITIES.get(objective.name, "min")):
            raise SpaceError(
                f"{where}: objective {objective.name} is better towards {better}, given {objective.direction}."
            )
        if objective.reference is None and objective.name not in COSTS:
            raise SpaceError(
                f"{where}: objective {objective.name} needs a reference, the worst value that still counts."
            )
    if not {objective.name for objective in space.objectives} & set(QUALITIES):
        raise SpaceError(
            f"{where}: objectives name no quality, so nothing needs training. Qualities: {', '.join(QUALITIES)}."
        )


def preset_of(space: SearchSpace, where: str) -> Experiment:
    if space.preset not in PRESETS:
        raise SpaceError(
            f"{where}: no preset {space.preset!r}. Known: {', '.join(PRESETS)}. Nearest: {nearest(space.preset, list(PRESETS))!r}."
        )
    return PRESETS[space.preset]()


def active(space: SearchSpace, configuration: dict[str, Any]) -> dict[str, Any]:
    """Without the parameters whose when-condition does not hold. `picked` has keys for choices."""

    def is_active(path: str) -> bool:
        condition = space.when.get(path)
        return condition is None or (
            is_active(condition.parameter) and configuration[condition.parameter] in condition.keys
        )

    return {path: value for path, value in configuration.items() if is_active(path)}


def depth(space: SearchSpace, path: str) -> int:
    """How many when-conditions stand above a parameter."""
    return 0 if path not in space.when else 1 + depth(space, space.when[path].parameter)


def is_affordable(space: SearchSpace, costs: Mapping[str, float]) -> bool:
    """Whether costs lie inside every window of the space."""
    return all(window.low <= costs[window.cost] <= window.high for window in space.constraints)


def values_of(space: SearchSpace, configuration: dict[str, Any]) -> dict[str, Any]:
    """Config values of picked parameters: choices' keys become their options."""
    return {
        path: d.options[configuration[path]]
        if isinstance(d := space.parameters[path], Choice)
        else configuration[path]
        for path in configuration
    }


def value_in(space: SearchSpace, path: str, value: Any, *, by_option: bool = False) -> Any:
    """What a table says of a parameter, as a picked value; a Choice is given by key or, where there is no such key, by option.

    `by_option`: by option alone, as in result tables. Raises SpaceError where it lies outside its range.
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
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    step = distribution.step if isinstance(distribution, Int) else 0
    if not distribution.low <= number <= distribution.high or (step and (number - distribution.low) % step):
        steps = f" in steps of {step}" if step > 1 else ""
        raise SpaceError(f"{path} = {value} lies outside {distribution.low} to {distribution.high}{steps}")
    return int(number) if step else number


def extreme_configuration(space: SearchSpace, highest: bool) -> dict[str, Any]:
    """The configuration at one end of every range: the cheapest or the most expensive network, as cost grows with each width."""
    out: dict[str, Any] = {}
    for path, distribution in space.parameters.items():
        if isinstance(distribution, Choice):
            keys = sorted(distribution.options, key=lambda key: _order(distribution.options[key]))
            out[path] = keys[-1] if highest else keys[0]
        else:
            out[path] = distribution.high if highest else distribution.low
    return active(space, out)


def _extremes(distribution: Distribution, where: str) -> list[Any]:
    if isinstance(distribution, Choice):
        if not distribution.options:
            raise SpaceError(
                f"{where}: a Choice without options; give at least one, for example {{'off': 0.0}}."
            )
        return list(distribution.options.values())
    if not distribution.low <= distribution.high:
        raise SpaceError(f"{where}: low {distribution.low} is above high {distribution.high}.")
    if isinstance(distribution, Float) and distribution.log and distribution.low <= 0:
        raise SpaceError(f"{where}: a log range needs low > 0, given {distribution.low}.")
    if isinstance(distribution, Int) and (distribution.high - distribution.low) % distribution.step:
        raise SpaceError(
            f"{where}: high {distribution.high} is not low {distribution.low} plus a multiple of step {distribution.step}."
        )
    inside = (
        distribution.low + (distribution.high - distribution.low) * 0.381966
    )  # no integer: an integer field refuses it
    return [distribution.low, distribution.high, *([inside] if isinstance(distribution, Float) else [])]


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers first, by size; then the rest, by text."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, str(value)


def _installed() -> list[Path]:
    spec = importlib.util.find_spec("search_spaces")
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []


def defined_in(path: Path, name: str, kind: type[Defined], error: type[InputError]) -> Defined:
    """The object `name` of class `kind` that a Python file defines. Raises `error` where the file fails or does not define it."""
    spec = importlib.util.spec_from_file_location(f"defined_in_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ValidationError as raised:
        problems = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg']} (given: {item['input']!r})"
            if item["loc"]
            else f"{name}: {item['msg']}"
            for item in raised.errors()
        ]
        raise error(f"{path}: {'; '.join(problems)}") from raised
    except Exception as raised:  # whatever the file does: it is the user's code
        raise error(f"{path}: {type(raised).__name__}: {raised}") from raised
    found = getattr(module, name, None)
    if not isinstance(found, kind):
        raise error(f"{path}: must define {name} = {kind.__name__}(...), found {type(found).__name__}")
    return found
