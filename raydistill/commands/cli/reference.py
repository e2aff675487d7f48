"""The page docs/reference/command-line.md, made of the models of the commands' options.

`python -m raydistill.commands.cli.reference > docs/reference/command-line.md` writes it again.
"""

import textwrap
import typing
from collections.abc import Iterator
from typing import Any, Literal

import annotated_types

from raydistill.commands.cli import COMMANDS, Command, help_of
from raydistill.commands.cli.options import Declared, declared
from raydistill.config.options import CommonOptions

REWRITE = "python -m raydistill.commands.cli.reference > docs/reference/command-line.md"
_WIDTH = 120
_INTRODUCTION = (
    "This page is made of the models in `raydistill/config/` that declare the options, as the commands and "
    f"their `--help` are: change it there, and write it again by `{REWRITE}`. Every command has `--help`, "
    "and:"
)
_EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. A path may begin with `~`."


def page() -> str:
    """The whole page in Markdown: a section for each command, in the order of `raydistill --help`."""
    parts = ["# The command line", _wrapped(_INTRODUCTION), *_entries(declared(CommonOptions))]
    parts.append(_EXIT_CODES)
    for command in COMMANDS:
        parts += _section(command)
    return "\n\n".join(parts) + "\n"


def _section(command: Command) -> Iterator[str]:
    """Its paragraphs."""
    yield f"## raydistill {command.name}"
    yield from (_wrapped(paragraph) for paragraph in help_of(command.run).split("\n\n"))
    yield f"```bash\n{command.example}\n```"
    for other in COMMANDS:
        if other.options is not command.options and issubclass(command.options, other.options):
            yield f"Its options are those of `raydistill {other.name}`."
            return
    by_panel: dict[str | None, list[Declared]] = {}
    for option in declared(command.options):
        by_panel.setdefault(option.cli.panel, []).append(option)
    for panel, options in by_panel.items():
        if panel is not None:
            yield f"### {panel}"
        yield from _entries(options)


def _entries(options: list[Declared]) -> Iterator[str]:
    """A list with an entry for each option."""
    shown = [option for option in options if not option.cli.hidden]
    if shown:
        yield "\n".join(_wrapped(_entry(option), first="* ", then="  ") for option in shown)


def _entry(option: Declared) -> str:
    cli, info = option.cli, option.info
    typed = option.name if cli.positional or not cli.metavar else f"{option.name} {cli.metavar}"
    facts = [
        _allowed(info.annotation, info.metadata),
        "required" if info.is_required() else _default(info.default),
    ]
    about = "; ".join(fact for fact in facts if fact)
    return f"`{typed}`{f' ({about})' if about else ''}: {info.description}"


def _default(value: Any) -> str:
    """Empty where there is none to show: of flags, and where the description says what happens without."""
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(f"default `{each}`" for each in values if each not in (None, "") and each is not False)


def _allowed(annotation: Any, metadata: list[Any] | tuple[Any, ...]) -> str:
    """Bounds and choices in words; empty where the type says none."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(f'`{choice}`' for choice in inner)}"
    if bounds := [bound for item in metadata for bound in _bounds(item)]:
        return ", ".join(bounds)
    if origin is typing.Annotated:
        return _allowed(inner[0], inner[1:])
    return next((words for part in inner if (words := _allowed(part, ()))), "")


def _bounds(item: Any) -> Iterator[str]:
    for each in getattr(item, "metadata", [item]):  # pydantic's Field() holds those of its own
        match each:
            case annotated_types.Gt(limit):
                yield f"above {_number(limit)}"
            case annotated_types.Ge(limit):
                yield f"at least {_number(limit)}"
            case annotated_types.Lt(limit):
                yield f"below {_number(limit)}"
            case annotated_types.Le(limit):
                yield f"at most {_number(limit)}"
            case annotated_types.MaxLen(limit):
                yield f"at most {limit} letters"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _wrapped(text: str, *, first: str = "", then: str = "") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    print(page(), end="")
