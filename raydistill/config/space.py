"""Search spaces: data that names config paths, checked against the config before anything starts.

`search_spaces/<name>.py` exports one frozen `SPACE`. A space is looked for by path, then in
`./search_spaces`, then among the installed ones. `config/space_checks.py` checks it.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from raydistill.config import renamed
from raydistill.config.architectures import Widths
from raydistill.config.base import Frozen
from raydistill.config.bounds import (
    MOST_OPTIONS,
    MOST_PARAMETERS,
    Cost,
    MacsConvention,
    Number,
    Plain,
    WholeNumber,
)
from raydistill.config.definitions import definition_folders, load_definition
from raydistill.config.experiment import Experiment
from raydistill.config.lengths import Lengths
from raydistill.config.paths import leaves, nearest, with_values
from raydistill.config.presets import PRESETS
from raydistill.config.term_presets import with_named_terms
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


class Settings(Choice):
    """A Choice whose options set any number of config paths at once, such as whole ways to train.

    The parameter has a name of its own, `recipe` for example, instead of a config path. What `options` holds
    by key are values by dotted config path, as `--set` takes them: a named term may stand for a whole one.
    """

    kind: Literal["settings"] = "settings"  # type: ignore[assignment]  # a kind of its own in JSON
    options: Annotated[dict[str, dict[str, Plain]], Field(max_length=MOST_OPTIONS)]

    @cached_property
    def values(self) -> dict[str, dict[str, Any]]:
        """Key -> the values of all its config paths, in full."""
        return {key: with_named_terms(set_by, f"settings {key}") for key, set_by in self.options.items()}


Distribution = Annotated[Int | Float | Choice | Settings, Field(discriminator="kind")]
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
    convention: Annotated[MacsConvention, Field(exclude_if=lambda name: name == "true")] = "true"
    """Of "cost/macs": how multiply-accumulates are counted, see `models.cost.CONVENTIONS`. The published
    counts of translation GANs are of conv_out."""

    @model_validator(mode="after")
    def _conventions_are_of_macs(self) -> "Window":
        if self.convention != "true" and self.cost != "cost/macs":
            raise ValueError(f"convention {self.convention!r} is for cost/macs, given {self.cost}")
        return self

    @property
    def name(self) -> str:
        """The cost with its convention, where that is not the one of objectives: "cost/macs:conv_out"."""
        return self.cost if self.convention == "true" else f"{self.cost}:{self.convention}"


class SearchSpace(Frozen):
    """What a sweep varies, what it is searched for, and the config of everything else."""

    preset: str
    """The base config, a key of `PRESETS`."""
    parameters: Annotated[
        dict[Annotated[str, AfterValidator(renamed.path_now)], Distribution],
        Field(max_length=MOST_PARAMETERS),
    ]
    """Dotted config path -> distribution. Only `Settings` have a name of their own in place of the path."""
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
    """Base widths (ngf) of the uniform baselines, which are trained by plain distillation; none are needed
    where every parameter is `Settings`."""
    uniform_widths: Annotated[
        dict[str, dict[str, WholeNumber]],
        Field(max_length=MOST_PARAMETERS, exclude_if=lambda widths: not widths),
    ] = {}
    """Name -> widths of further baselines of the same kind, for published networks of no whole base width."""
    fixed: Annotated[dict[str, Plain], Field(exclude_if=lambda values: not values)] = {}
    """Dotted config path -> value that differs from the preset's; --set overrules it."""
    test: Annotated[Literal["front", "all"], Field(exclude_if=lambda which: which == "front")] = "front"
    """Which students are scored on test, once, after the search, beside teacher and baselines: members of the
    front, or all of them. All is for students that were settled before, by `Settings` alone, such as the rows
    of a table."""
    lengths: Annotated[Lengths | None, Field(exclude_if=lambda lengths: lengths is None)] = None
    """How long trainings are by the data's count of pictures. None: as the preset says."""

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
    folders = definition_folders()
    candidates = [Path(name)] if name.endswith(".py") else [folder / f"{name}.py" for folder in folders]
    for path in candidates:
        if path.is_file():
            return load_definition(path, "SPACE", SearchSpace, SpaceError)
    known = known_spaces(folders)
    raise SpaceError(
        f"--space {name}: no such search space. Known: {', '.join(known)}; or the path of a .py file. "
        f"Nearest: {nearest(name, known)!r}."
    )


def known_spaces(folders: Sequence[Path] | None = None) -> list[str]:
    """Names of the spaces in these folders and one level below; None: where they are looked for."""
    files = {
        path.relative_to(folder).with_suffix("").as_posix()
        for folder in (definition_folders() if folders is None else folders)
        for pattern in ("[!_]*.py", "[!_.]*/[!_]*.py")
        for path in folder.glob(pattern)
        if path.parent.name != "batches"
    }
    return sorted(files)


def preset_of(space: SearchSpace, where: str) -> Experiment:
    """The base config of a space: its preset with its fixed values.

    Raises:
        SpaceError: the space names no preset.
        ConfigError: the config refuses a fixed value.
    """
    if space.preset not in PRESETS:
        raise SpaceError(
            f"{where}: no preset {space.preset!r}. Known: {', '.join(PRESETS)}. "
            f"Nearest: {nearest(space.preset, list(PRESETS))!r}."
        )
    return with_values(PRESETS[space.preset](), space.fixed, where=f"{where}: fixed")


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


def uniform_names(space: SearchSpace) -> list[int | str]:
    """The uniform baselines: base widths, then the names of given widths."""
    return [*space.uniform, *space.uniform_widths]


def uniform_values(space: SearchSpace, widths: Widths, ngf: int | str) -> Mapping[str, int]:
    """The widths of a uniform baseline, for a network of the shape that has `widths`."""
    return widths.values_at(ngf) if isinstance(ngf, int) else space.uniform_widths[ngf]


# ---- what a space says of itself ---------------------------------------------------------------------------


def is_inside(window: Window, costs: Mapping[str, float]) -> bool:
    """Whether costs lie inside one window."""
    return window.low <= costs[window.name] <= window.high


def is_affordable(space: SearchSpace, costs: Mapping[str, float]) -> bool:
    """Whether costs lie inside every window of the space."""
    return all(is_inside(window, costs) for window in space.constraints)


def settings_in(space: SearchSpace) -> dict[str, Settings]:
    """The parameters that are `Settings`, by name."""
    return {name: each for name, each in space.parameters.items() if isinstance(each, Settings)}


def is_settled(space: SearchSpace) -> bool:
    """Whether all students were settled beforehand: every parameter is `Settings`."""
    return len(settings_in(space)) == len(space.parameters)


def searched_paths(space: SearchSpace) -> set[str]:
    """Every config path that a configuration may set."""
    paths = set[str]()
    for path, distribution in space.parameters.items():
        if isinstance(distribution, Settings):
            paths |= {each for values in distribution.values.values() for each in values}
        else:
            paths.add(path)
    return paths
