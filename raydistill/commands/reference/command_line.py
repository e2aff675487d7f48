"""The page of the command line, made of the models of the commands' options."""

from collections.abc import Iterator
from typing import Any

from raydistill.commands.cli import COMMANDS, Command, help_of
from raydistill.commands.cli.options import Declared, declared
from raydistill.commands.reference.markdown import REWRITE, allowed, wrapped
from raydistill.config.options import CommonOptions

_INTRODUCTION = (
    "This page is made of the models in `raydistill/config/` that declare the options, as the commands and "
    f"their `--help` are: change it there, and write it again by `{REWRITE}`. Every command has `--help`, "
    "and:"
)
_EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. A path may begin with `~`."


def page() -> str:
    """The whole page in Markdown: a section for each command, in the order of `raydistill --help`."""
    parts = ["# The command line", wrapped(_INTRODUCTION), *_entries(declared(CommonOptions))]
    parts.append(_EXIT_CODES)
    for command in COMMANDS:
        parts += _section(command)
    return "\n\n".join(parts) + "\n"


def _section(command: Command) -> Iterator[str]:
    """Its paragraphs."""
    yield f"## raydistill {command.name}"
    yield from (wrapped(paragraph) for paragraph in help_of(command.run).split("\n\n"))
    yield f"```bash\n{command.example}\n```"
    for other in COMMANDS:
        is_other = other.options is not command.options and issubclass(command.options, other.options)
        if is_other and _names(command) <= _names(other):
            yield f"Its options are those of `raydistill {other.name}`."
            return
    by_panel: dict[str | None, list[Declared]] = {}
    for option in declared(command.options):
        by_panel.setdefault(option.cli.panel, []).append(option)
    for panel, options in by_panel.items():
        if panel is not None:
            yield f"### {panel}"
        yield from _entries(options)


def _names(command: Command) -> set[str]:
    """The fields of the options that are listed for a command."""
    return {option.field for option in declared(command.options) if not option.cli.hidden}


def _entries(options: list[Declared]) -> Iterator[str]:
    """A list with an entry for each option."""
    shown = [option for option in options if not option.cli.hidden]
    if shown:
        yield "\n".join(wrapped(_entry(option), first="* ", then="  ") for option in shown)


def _entry(option: Declared) -> str:
    cli, info = option.cli, option.info
    typed = option.name if cli.positional or not cli.metavar else f"{option.name} {cli.metavar}"
    facts = [
        allowed(info.annotation, info.metadata),
        "required" if info.is_required() else _default(info.default),
    ]
    about = "; ".join(fact for fact in facts if fact)
    return f"`{typed}`{f' ({about})' if about else ''}: {info.description}"


def _default(value: Any) -> str:
    """Empty where there is none to show: of flags, and where the description says what happens without."""
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(f"default `{each}`" for each in values if each not in (None, "") and each is not False)
