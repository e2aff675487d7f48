"""How options are declared, and the option that every command has.

A name in capitals stands for what is given: its unit, or what it is. Help texts are ASCII, for terminals
that know nothing else, and have no square brackets, which typer would take for markup.
"""

from typing import Annotated, Any

import typer


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
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, hidden=hidden)


def flag(name: str, text: str, *, panel: str | None = None, hidden: bool = False) -> Any:
    """An option without a value: it is there or not."""
    return typer.Option(name, metavar="", help=text, rich_help_panel=panel, hidden=hidden)


def argument(metavar: str, text: str) -> Any:
    """What is given without a name."""
    return typer.Argument(metavar=metavar, help=text, show_default=False)


Plugins = Annotated[
    list[str] | None,
    option(
        "FILE|MODULE",
        "Import a plug-in first: this RUNS its code. Repeatable; see docs/cookbook.md.",
        name="--plugin",
        panel="Other",
    ),
]
