"""What `raydistill config` prints, and how it is read back: a line `path = value` for each config path.

Values are Python literals. What is searched is said behind the value; it is not read.
"""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raydistill.config import renamed
from raydistill.config.experiment import Experiment
from raydistill.config.paths import leaves, shown, with_values
from raydistill.config.space import SearchSpace
from raydistill.errors import ConfigError
from raydistill.reading import parse_json, read_text, regular

_SEARCHED = "    searched: "
_MOST_BYTES, _MOST_LETTERS = 2**20, 10_000
"""Largest size of a file, and of a value; what is printed has some 10,000 letters in 100 lines."""


def lines(experiment: Experiment, space: SearchSpace) -> list[str]:
    """A line for each config path, with its value and with what the space searches there."""
    searched = {path: f"{_SEARCHED}{values!r}" for path, values in space.parameters.items()}
    return [f"{path} = {value!r}{searched.get(path, '')}" for path, value in leaves(experiment).items()]


def with_file(experiment: Experiment, file: str, fixed: Mapping[str, str]) -> Experiment:
    """A copy of `experiment` with the values that a file gives.

    Args:
        file: what `raydistill config` printed, whole or in part; empty lines and lines that begin with # say
            nothing.
        fixed: paths that the file may name, but not change -> why not, and what to do instead.

    Raises:
        ConfigError: the file cannot be read, a line has another form, there is no such path, its field
            refuses the value, or the path is fixed.
    """
    where = f"--config {file}"
    values = _read(file, where)
    free = {path: value for path, value in values.items() if path not in fixed}
    with_free = with_values(experiment, free, where=where)
    with_all = with_values(with_free, values, where=where)
    before, after = leaves(with_free), leaves(with_all)
    for path in values:
        if path in fixed and before.get(path) != after[path]:
            given, own = shown(after[path]), shown(before.get(path))
            raise ConfigError(f"{where}: {path} = {given}, without the line {own}: {fixed[path]}")
    return with_all


def _read(file: str, where: str) -> dict[str, Any]:
    """Config path -> value as JSON data, as `--set` would give it."""
    advice = "give a file that `raydistill config` printed"
    try:
        text = read_text(regular(Path(file), _MOST_BYTES))
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}; {advice}") from None
    except UnicodeError:
        raise ConfigError(f"{where}: it is no text in UTF-8; {advice}") from None
    values: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        path, equals, rest = line.partition(" = ")
        if not equals:
            raise ConfigError(f"{where}: line {number}: {shown(line)} is not path = value; {advice}")
        if (path := renamed.path_now(path.strip())) in values:
            raise ConfigError(f"{where}: line {number}: {path} is given twice; remove one")
        try:
            values[path] = _value(rest)
        except ValueError:
            raise ConfigError(
                f"{where}: line {number}: {path}: {shown(rest)} is no value; give a number, True, False, "
                "None, a text in quotes, or a tuple of them"
            ) from None
    return values


def _value(text: str) -> Any:
    """The value that a line begins with. Raises ValueError where it is none, or more follows."""
    if len(text) > _MOST_LETTERS:
        raise ValueError("too long")
    end = len(text)
    while True:  # a text in quotes may contain what marks the end: the last mark is tried first
        try:
            value = ast.literal_eval(text[:end].strip())
            return parse_json(json.dumps(value, allow_nan=False))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            end = text.rfind(_SEARCHED, 0, end)
            if end < 0:
                raise ValueError("no literal") from None
