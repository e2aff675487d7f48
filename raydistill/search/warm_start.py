"""What a sweep knows before its first trial: prior observations from earlier sweeps and from tables.

Numbers that were measured on other data, by another evaluator, against another teacher or after other numbers
of images cannot share a front, but they may say where to look. So nothing is assumed about them: rows that
were measured under the same conditions are one source, every source is modelled apart from the sweep's own
trials, and how much it says about them is fitted (`search/surrogate.py`). No row becomes a trial, and none is
on the sweep's front.

The rows are copied into the sweep's folder (`warm_start.json`, with a digest). A resume reads the copy, so
the originals may change or go.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from raydistill.config.base import digest
from raydistill.config.configurations import Configuration, depth, value_in
from raydistill.config.paths import nearest
from raydistill.config.space import SearchSpace
from raydistill.errors import ConfigError, SpaceError, StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records import pareto, remote, tables
from raydistill.search.problem import CostsOf, PriorObservation

FILE = "warm_start.json"
"""Name of the copy in a sweep's folder."""
SAMPLERS = ("known-cost", "modelled-cost")
"""The samplers that model sources apart. Others would take a row for a trial of this sweep, or ignore it."""
AT_MOST = 120
"""Largest number of rows in all: the time of a proposal grows with the cube of this number."""
_ROLES = ("search", "uniform", "replicate")
"""Roles of the trials that are of use: students."""
_CONDITIONS = (
    "digest.data",
    "digest.evaluator",
    "digest.teacher",
    "extractor",
    "split",
    "num_samples",
    "budget_nimg",
)
"""Columns of a result table: rows that differ in one of them were measured under different conditions."""


class WarmStart(NamedTuple):
    """What `--warm-start` gives a sweep."""

    rows: list[PriorObservation]
    messages: list[str]
    """One line per file: what was taken from it, what was not, and why."""


NO_WARM_START = WarmStart([], [])


def read(
    given: Sequence[str], sampler: str, sweeps: Path, space: SearchSpace, costs_of: CostsOf
) -> WarmStart:
    """The rows of everything that `--warm-start` names.

    Result tables (CSV, parquet or JSON) and ledgers are read, and plain tables (CSV or JSON). A plain table
    has as columns the space's parameters (choices by key or by option, empty where inactive) and the
    objectives that are no costs. Costs are those of this sweep, whatever a table says.

    Args:
        given: files, folders of sweeps, or names of sweeps.
        sweeps: the folder in which names of sweeps are looked for.

    Raises:
        ConfigError: the sampler is none of `SAMPLERS`; there is no such file or sweep; or no row of it is of
            use.
        StoreError: a file cannot be read.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(
            f"--warm-start with --sampler {sampler}: "
            f"only {' and '.join(SAMPLERS)} can tell it from trials; use one of them"
        )
    rows: list[PriorObservation] = []
    messages: list[str] = []
    for text in given:
        table = _table(text, sweeps)
        groups, skipped = _usable(text, table, space, costs_of)
        if not groups:
            raise ConfigError(
                f"--warm-start {text}: none of its {len(table)} rows is of use: {_counted(skipped)}"
            )
        at_most = max(1, AT_MOST // len(given) // len(groups))
        sources = [_spread(space, group, at_most) for group in groups.values()]
        first = max((row.source for row in rows), default=0) + 1
        for index, source in enumerate(sources):
            rows += [row._replace(source=first + index) for row in source]
        num_rows = sum(map(len, sources))
        if too_many := sum(map(len, groups.values())) - num_rows:
            skipped[f"more than {AT_MOST} in all"] = too_many
        kinds = f" ({len(sources)} kinds of measurement, apart from each other)" if len(sources) > 1 else ""
        without = f"; without {_counted(skipped)}" if skipped else ""
        messages.append(f"warm start: {num_rows} rows of {text}{kinds}{without}")
    return WarmStart(rows, messages)


def sweep_record(
    given: Sequence[str], rows: Sequence[PriorObservation]
) -> tuple[dict[str, object], dict[str, object]]:
    """What `sweep.json` says of a warm start, and the files beside it: name -> content."""
    data = [row._asdict() for row in rows]
    return {"warm_start": {"given": list(given), "digest": digest(data)}}, {FILE: {"rows": data}}


def load(folder: Path, record: Mapping[str, Any]) -> list[PriorObservation]:
    """The rows that a sweep began with, from the copy in its folder.

    Args:
        record: the sweep's sweep.json.

    Raises:
        StoreError: the copy is damaged, or is not that which the sweep began with.
    """
    if "warm_start" not in record:
        return []
    path = folder / FILE
    remote.pull(path)
    try:
        data = parse_json(read_text(path))["rows"]
        if digest(data) != record["warm_start"]["digest"]:
            raise ValueError("the digest is not that in sweep.json")
        return [PriorObservation(row["configuration"], row["values"], row["source"]) for row in data]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: damaged or unreadable: {error}. Put the file back, or start a new sweep."
        ) from error


def _table(text: str, sweeps: Path) -> pd.DataFrame:
    path = sweeps / text if (sweeps / text / "trials").is_dir() else Path(text)
    if (path / "trials").is_dir():
        for trial in remote.folders(path / "trials"):
            for name in ("trial.json", "result.json"):
                remote.pull(trial / name)
        return tables.trial_table(path, sweep_id=path.name)
    if path.is_file() and path.suffix in (".csv", ".parquet", ".json"):
        try:
            return tables.read_any_table(path)
        except StoreError as error:
            raise StoreError(f"--warm-start {text}: {error}") from error
    known = sorted(path.parent.name for path in sweeps.glob("[!.]*/sweep.json"))
    raise ConfigError(
        f"--warm-start {text}: no such sweep, and no .csv, .parquet or .json file. "
        f"Sweeps: {', '.join(known) or 'none'}. Nearest: {nearest(text, known)!r}."
    )


def _usable(
    text: str, table: pd.DataFrame, space: SearchSpace, costs_of: CostsOf
) -> tuple[dict[Hashable, list[PriorObservation]], Counter[str]]:
    """Values of `_CONDITIONS` -> the rows with these values; and why rows are of no use -> how many."""
    parameters = {path: _column(text, table, path, (path, f"param.{path}")) for path in space.parameters}
    names = [objective.name for objective in space.objectives]
    qualities = [name for name in names if not name.startswith("cost/")]
    columns = {name: _column(text, table, name, (name, tables.column(name))) for name in qualities}
    groups: dict[Hashable, list[PriorObservation]] = {}
    skipped: Counter[str] = Counter()
    for record in table.to_dict("records"):
        if record.get("status", "COMPLETE") != "COMPLETE":
            skipped["not trained to the end"] += 1
            continue
        if record.get("role", "search") not in _ROLES:
            skipped["of no student of a search"] += 1
            continue
        if any(not _is_number(record[column]) for column in columns.values()):
            skipped["without a finite number for every objective"] += 1
            continue
        try:
            configuration = _configuration(space, record, parameters)
        except SpaceError:
            skipped["outside the space"] += 1
            continue
        numbers = {name: float(record[column]) for name, column in columns.items()}
        numbers |= costs_of(configuration)
        values = [float(numbers[name]) for name in names]
        conditions = tuple(str(record.get(name, "")) for name in _CONDITIONS)
        groups.setdefault(conditions, []).append(PriorObservation(configuration, values, 0))
    return groups, skipped


def _column(text: str, table: pd.DataFrame, name: str, columns: Iterable[str]) -> str:
    """The first of `columns` that the table has. Raises ConfigError where it has none."""
    for column in columns:
        if column in table:
            return column
    raise ConfigError(f"--warm-start {text}: no column {name}. Columns: {', '.join(map(str, table))}.")


def _configuration(
    space: SearchSpace, record: Mapping[Hashable, object], columns: Mapping[str, str]
) -> Configuration:
    """The configuration of a row. Raises SpaceError where a value is missing or outside its range.

    Args:
        columns: parameter -> its column.
    """
    configuration: Configuration = {}
    for path in sorted(space.parameters, key=lambda path: depth(space, path)):
        condition = space.when.get(path)
        if condition is None or configuration.get(condition.parameter) in condition.keys:
            column = columns[path]
            configuration[path] = value_in(space, path, record[column], by_option=column != path)
    return {path: configuration[path] for path in space.parameters if path in configuration}


def _spread(space: SearchSpace, rows: list[PriorObservation], at_most: int) -> list[PriorObservation]:
    """At most so many of the rows: half of them the best by rank, the rest evenly from the others."""
    if len(rows) <= at_most:
        return rows
    directions = [objective.direction for objective in space.objectives]
    ranks = pareto.ranks([row.values for row in rows], directions)
    order = sorted(range(len(rows)), key=lambda index: (ranks[index], index))
    best, others = order[: at_most // 2], order[at_most // 2 :]
    count = at_most - len(best)
    even = [others[step * len(others) // count] for step in range(count)]
    return [rows[index] for index in sorted([*best, *even])]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _counted(skipped: Mapping[str, int]) -> str:
    """Why rows are of no use, with their number, as text."""
    return ", ".join(f"{count} {why}" for why, count in skipped.items()) or "it is empty"
