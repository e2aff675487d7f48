"""How a command's options are declared: each as one field of the command's model.

The field's type and bounds say what is allowed, its default is the option's, `Field(description=...)` is the
help, and `Cli` says how the option is typed. `raydistill.commands.cli` makes the command line of the models,
and `raydistill.commands.reference` the page docs/reference/command-line.md.

Descriptions are sentences in ASCII, for terminals that know nothing else, and have no square brackets, which
typer would take for markup.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field

from raydistill.config.base import Frozen


@dataclass(frozen=True)
class Cli:
    """How an option is typed and listed; it annotates a field of `Options`."""

    metavar: str = ""
    """What stands for the value in the help, in capitals: its unit, or what it is. Empty: a flag, without a
    value."""
    panel: str | None = None
    """The heading that the option is listed under; None: "Options"."""
    name: str | None = None
    """With its dashes; None: the field's name, with dashes in place of underscores."""
    positional: bool = False
    """Whether it is given without a name."""
    hidden: bool = False
    """Whether it is understood, but not listed."""
    old_name: str | None = None
    """The name of the version before, with its dashes: understood for one release, with a line that says the
    present one."""
    read: Callable[[str], object] | None = None
    """Turns what is typed into the field's value; raises ConfigError. None: pydantic does."""


class Options(Frozen):
    """Base class of what the commands are given.

    Its validation is built when the first command line is checked: the help needs none.
    """

    model_config = ConfigDict(defer_build=True)


class CommonOptions(Options):
    """The option that every command has, beside its own."""

    plugin: Annotated[
        tuple[str, ...],
        Field(
            description="Import a plug-in first: this RUNS its code. Repeatable; see docs/how-to/plug-ins.md."
        ),
        Cli("FILE|MODULE", "Other"),
    ] = ()
