"""What the pages of the reference have in common: wrapped text, and types, bounds and docstrings in words."""

import ast
import inspect
import textwrap
import typing
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal

import annotated_types
from pydantic import BaseModel

from raydistill.config.variants import Variants

REWRITE = "python -m raydistill.commands.reference"
"""The command that writes all pages again."""
_WIDTH = 120
_PLAIN: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "True or False",
    str: "text",
    NoneType: "None",
}
"""Type -> what it is called."""


def wrapped(text: str, *, first: str = "", then: str = "") -> str:
    """A paragraph in lines of at most 120 columns; words and names stay whole."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a docstring, each wrapped; what is indented is left as it is, as code."""
    for part in inspect.cleandoc(text).split("\n\n"):
        lines = part.split("\n")
        if any(line.startswith("  ") for line in lines):
            yield f"```text\n{part}\n```"
        else:
            yield wrapped(" ".join(lines))


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(columns), *lines[1:]])


def attribute_docstrings(owner: type) -> dict[str, str]:
    """Attribute -> the text below its assignment in the class, or in a base class of it."""
    out: dict[str, str] = {}
    for each in reversed(owner.__mro__):
        if each.__module__.startswith("raydistill"):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
            out |= dict(_documented(tree.body)) if isinstance(tree, ast.ClassDef) else {}
    return out


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, below in pairwise(body):
        match statement, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(inspect.cleandoc(text).split())


def allowed(annotation: Any, metadata: list[Any] | tuple[Any, ...]) -> str:
    """Bounds and choices of a type in words; empty where it says none."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(f'`{choice}`' for choice in inner)}"
    if bounds := [bound for item in metadata for bound in _bounds(item)]:
        return ", ".join(bounds)
    if origin is typing.Annotated:
        return allowed(inner[0], inner[1:])
    return next((words for part in inner if (words := allowed(part, ()))), "")


def type_of(annotation: Any, metadata: list[Any] | tuple[Any, ...]) -> str:
    """A type in words, such as "whole number" or "a section: `X`"; empty where `allowed` says it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if variants := [item for item in metadata if isinstance(item, Variants)]:
        return f"a section of one {variants[0].tag}: {', '.join(f'`{tag}`' for tag in variants[0].classes)}"
    if origin is typing.Annotated:
        return type_of(inner[0], inner[1:])
    if origin in (typing.Union, UnionType):
        return " or ".join(words for part in inner if (words := type_of(part, ())))
    if origin is tuple:
        return "list"
    if origin is dict:
        return "dictionary"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a section: `{annotation.__name__}`"
    return _PLAIN.get(annotation, "")


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
