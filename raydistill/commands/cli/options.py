"""Makes typer's options of a command out of the command's model, and the model out of what is typed.

The model declares everything (see `raydistill.config.options`); nothing is declared here.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from raydistill.config.base import user_path
from raydistill.config.options import Cli, Options
from raydistill.config.paths import validated
from raydistill.errors import ConfigError, say_renamed

Given = TypeVar("Given", bound=Options)

_PATHS = {"FILE", "FOLDER", "SWEEP", "TABLE", "PICTURES", "GIVEN", "NETWORK", "DATA", "URL", "URI"}
"""Words for what is given that stand for a path."""


_NOTHING: tuple[object, ...] = (None, (), [])
"""What stands for an option that was not typed, by itself and repeatable."""


class Declared(NamedTuple):
    """One option of a model."""

    field: str
    cli: Cli
    info: FieldInfo

    @property
    def name(self) -> str:
        """As it is typed: --dashes; of a positional one, what stands for it in the help."""
        if self.cli.positional:
            return self.cli.metavar
        return self.cli.name or f"--{self.field.replace('_', '-')}"


def declared(model: type[Options]) -> list[Declared]:
    """The options of a model, in the order of its fields."""
    found = []
    for field, info in model.model_fields.items():
        cli = next(each for each in info.metadata if isinstance(each, Cli))
        found.append(Declared(field, cli, info))
    return found


def parameters_of(model: type[Options]) -> list[inspect.Parameter]:
    """The parameters of a function that typer makes a command of whose options are those of the model."""
    parameters = []
    for option in declared(model):
        parameters.append(_parameter(option, option.field, option.name, hidden=option.cli.hidden))
        if option.cli.old_name is not None:
            parameters.append(_parameter(option, _old(option.field), option.cli.old_name, hidden=True))
    return parameters


def options_from(model: type[Given], typed: Mapping[str, Any]) -> Given:
    """The model of what was typed.

    Args:
        typed: for each of `parameters_of(model)` its value; one of `_NOTHING`, where nothing was typed and
            there is no default to show.

    Raises:
        ConfigError: a value that its field refuses.
    """
    values = {}
    for field, cli, _ in declared(model):
        value = typed[field]
        if cli.old_name is not None and typed[_old(field)] is not None:
            say_renamed(cli.old_name, Declared(field, cli, model.model_fields[field]).name)
            value = value or typed[_old(field)]
        if value not in _NOTHING:
            values[field] = cli.read(value) if cli.read is not None else value
    return validated(model, values, where="command line")


def _old(field: str) -> str:
    """The parameter for the old name of an option."""
    return f"old_{field}"


def _parameter(option: Declared, field: str, name: str, *, hidden: bool) -> inspect.Parameter:
    cli, info = option.cli, option.info
    kind, is_repeatable = (str, False) if cli.read is not None else _kind(info.annotation)
    default = None if is_repeatable or field != option.field else info.default
    if info.is_required():
        default = inspect.Parameter.empty
    texts: dict[str, Any] = {"metavar": cli.metavar, "help": "" if hidden else info.description}
    texts["callback"] = _reader_of(cli.metavar, name)
    if cli.positional:
        declaration = typer.Argument(**texts, show_default=False)
    else:
        declaration = typer.Option(name, **texts, rich_help_panel=cli.panel, hidden=hidden)
    typed: Any = list[kind] if is_repeatable else kind  # type: ignore[valid-type]
    if default is None:
        typed = typed | None
    return inspect.Parameter(
        field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[typed, declaration]
    )


def _kind(annotation: Any) -> tuple[type, bool]:
    """What typer makes of the word that is typed, and whether the option is repeatable.

    typer refuses what is no number; bounds, choices and whatever else pydantic knows are left to it.
    """
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = (each for each in get_args(annotation) if each is not type(None))
        return _kind(inner)
    if get_origin(annotation) is tuple:
        return _kind(get_args(annotation)[0])[0], True
    if get_origin(annotation) is Literal:
        return str, False
    assert annotation in (str, int, float, bool, Path), annotation
    return annotation, False


def _reader_of(metavar: str, name: str) -> Callable[..., Any] | None:
    """What typer passes a value through: where it is a path, `~` becomes the home folder. None: nothing."""
    if not _PATHS & set(re.findall("[A-Z]+", metavar)):
        return None

    def read(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [read(each) for each in value]
        if not isinstance(value, str | Path):
            return value
        kind, equals, path = str(value).partition("=") if "=" in metavar else ("", "", str(value))
        if value == "":
            raise ConfigError(f"{name}: an empty path was given. Give a path, or leave the option out.")
        try:
            return type(value)(f"{kind}{equals}{user_path(path)}")
        except ValueError as error:
            raise ConfigError(f"{name} {value}: {error}") from None

    return read
