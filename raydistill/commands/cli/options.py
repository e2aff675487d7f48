"""How options are declared, and the option that every command has.

A name in capitals stands for what is given: its unit, or what it is. Help texts are ASCII, for terminals
that know nothing else, and have no square brackets, which typer would take for markup.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from raydistill.config.base import user_path
from raydistill.errors import ConfigError

_PATHS = {"FILE", "FOLDER", "SWEEP", "TABLE", "PICTURES", "GIVEN", "NETWORK", "DATA", "URL", "URI"}
"""Words for what is given that stand for a path."""


def option(
    metavar: str, text: str, *, name: str | None = None, panel: str | None = None, hidden: bool = False
) -> Any:
    """An option with a value.

    Args:
        metavar: what stands for the value in the help.
        name: with its dashes; None: that of the parameter.
        panel: the heading in the help that it is listed under; None: "Options".
    """
    names = () if name is None else (name,)
    return typer.Option(
        *names,
        metavar=metavar,
        help=text,
        rich_help_panel=panel,
        hidden=hidden,
        callback=_reader_of(metavar, name),
    )


def flag(name: str, text: str, *, panel: str | None = None, hidden: bool = False) -> Any:
    """An option without a value: it is there or not."""
    return typer.Option(name, metavar="", help=text, rich_help_panel=panel, hidden=hidden)


def argument(metavar: str, text: str) -> Any:
    """What is given without a name."""
    return typer.Argument(
        metavar=metavar, help=text, show_default=False, callback=_reader_of(metavar, metavar)
    )


def _reader_of(metavar: str, name: str | None) -> Callable[..., Any] | None:
    """What typer passes a value through: where it is a path, `~` becomes the home folder. None: nothing."""
    if not _PATHS & set(re.findall("[A-Z]+", metavar)):
        return None

    def read(param: typer.CallbackParam, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [read(param, each) for each in value]
        if not isinstance(value, str | Path):
            return value
        kind, equals, path = str(value).partition("=") if "=" in metavar else ("", "", str(value))
        try:
            return type(value)(f"{kind}{equals}{user_path(path)}")
        except ValueError as error:
            raise ConfigError(f"{name or param.opts[0]} {value}: {error}") from None

    return read


Plugins = Annotated[
    list[str] | None,
    option(
        "FILE|MODULE",
        "Import a plug-in first: this RUNS its code. Repeatable; see docs/cookbook.md.",
        name="--plugin",
        panel="Other",
    ),
]
