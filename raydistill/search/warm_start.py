"""What a sweep knows before its first trial: rows of earlier sweeps and of tables, as further sources of the search's models.

Numbers that were measured on other data, by another evaluator, against another teacher or after other numbers of images cannot share a front,
but they may say where to look. So nothing is assumed: rows that were measured alike are one source, every source is apart from the sweep's
own trials, and how far it can be believed is fitted (`search.surrogate`). No row is a trial, and none is on the sweep's front.

The rows are copied into the sweep's folder (`warm_start.json`, with a digest): a resume reads the copy, so the originals may change or go.
"""

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from raydistill.config.base import digest
from raydistill.config.paths import nearest
from raydistill.config.space import SearchSpace, depth, value_in
from raydistill.errors import ConfigError, SpaceError, StoreError
from raydistill.records import pareto, remote, tables
from raydistill.search.problem import Configuration, CostsOf, PriorObservation

FILE = "warm_start.json"
SAMPLERS = ("known-cost", "modelled-cost")
"""They model sources apart. Any other would take a row for a trial of this sweep, or not look at it."""
AT_MOST = 120
"""Rows in all: a proposal costs time with the cube of what is known."""
_ROLES = ("search", "uniform", "replicate")
_CONDITIONS = (
    "digest.data",
    "digest.evaluator",
    "digest.teacher",
    "extractor",
    "split",
    "num_samples",
    "budget_nimg",
)
"""Columns of a result table: rows that differ in one were not measured alike."""


class WarmStart(NamedTuple):
    rows: list[PriorObservation]
    messages: list[str]
    """One line a file: what was taken from it, what was not and why."""


NOTHING_KNOWN = WarmStart([], [])


def read(
    given: Sequence[str], sampler: str, sweeps: Path, space: SearchSpace, costs_of: CostsOf
) -> WarmStart:
    """The rows of every file, sweep's folder or sweep's name that `--warm-start` gives.

    Read are result tables (CSV, parquet or JSON), ledgers, and plain tables (CSV or JSON) with the space's parameters (choices by key or by
    value, empty where inactive) and the objectives that are no costs as columns. Costs are those of this sweep, whatever the table says.

    Raises:
        ConfigError: the sampler is none of `SAMPLERS`; there is no such file or sweep; or no row of it is of any use.
        StoreError: it cannot be read.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(
            f"--warm-start with --sampler {sampler}: only {' and '.join(SAMPLERS)} can tell it from trials; use one of them"
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
        share = max(1, AT_MOST // len(given) // len(groups))
        kept = [_spread(space, found, share) for found in groups.values()]
        first = max((row.source for row in rows), default=0) + 1
        rows += [row._replace(source=first + index) for index, group in enumerate(kept) for row in group]
        left = sum(map(len, groups.values())) - sum(map(len, kept))
        skipped |= {f"more than {AT_MOST} in all": left} if left else {}
        sources = f" ({len(kept)} kinds of measurement, apart from each other)" if len(kept) > 1 else ""
        without = f"; without {_counted(skipped)}" if skipped else ""
        messages.append(f"warm start: {sum(map(len, kept))} rows of {text}{sources}{without}")
    return WarmStart(rows, messages)


def facts(given: Sequence[str], rows: Sequence[PriorObservation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `sweep.json` says of a warm start, and the files beside it."""
    data = [row._asdict() for row in rows]
    return {"warm_start": {"given": list(given), "digest": digest(data)}}, {FILE: {"rows": data}}


def load(folder: Path, record: Mapping[str, Any]) -> list[PriorObservation]:
    """The copied rows of a sweep; `record`: its sweep.json. Raises StoreError where they are not those that it began with."""
    if "warm_start" not in record:
        return []
    path = folder / FILE
    remote.pull(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if digest(data) != record["warm_start"]["digest"]:
            raise ValueError("the digest is not that in sweep.json")
        return [PriorObservation(row["configuration"], row["values"], row["source"]) for row in data]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: damaged or unreadable: {error}. Put the file back, or start a new sweep."
        ) from error


def _table(text: str, sweeps: Path) -> pd.DataFrame:
    folder = sweeps / text if (sweeps / text / "trials").is_dir() else Path(text)
    if (folder / "trials").is_dir():
        for trial in remote.folders(folder / "trials"):
            for name in ("trial.json", "result.json"):
                remote.pull(trial / name)
        return tables.trial_table(folder, sweep_id=folder.name)
    if folder.is_file() and folder.suffix in (".csv", ".parquet", ".json"):
        try:
            return tables.read_any_table(folder)
        except StoreError as error:
            raise StoreError(f"--warm-start {text}: {error}") from error
    known = sorted(path.parent.name for path in sweeps.glob("[!.]*/sweep.json"))
    raise ConfigError(
        f"--warm-start {text}: no such sweep, and no .csv, .parquet or .json file. Sweeps: {', '.join(known) or 'none'}. "
        f"Nearest: {nearest(text, known)!r}."
    )


def _usable(
    text: str, table: pd.DataFrame, space: SearchSpace, costs_of: CostsOf
) -> tuple[dict[Hashable, list[PriorObservation]], Counter[str]]:
    """The rows by how they were measured, and how many were left out by why."""
    parameters = {path: _column(text, table, path, (path, f"param.{path}")) for path in space.parameters}
    known = [objective.name for objective in space.objectives if not objective.name.startswith("cost/")]
    measured = {name: _column(text, table, name, (name, tables.column(name))) for name in known}
    groups: dict[Hashable, list[PriorObservation]] = {}
    skipped: Counter[str] = Counter()
    for record in table.to_dict("records"):
        if record.get("status", "COMPLETE") != "COMPLETE":
            skipped["not trained to the end"] += 1
        elif record.get("role", "search") not in _ROLES:
            skipped["of no student of a search"] += 1
        elif any(not _is_number(record[name]) for name in measured.values()):
            skipped["without a finite number for every objective"] += 1
        else:
            try:
                configuration = _picked(space, record, parameters)
            except SpaceError:
                skipped["outside the space"] += 1
                continue
            numbers = {name: float(record[column]) for name, column in measured.items()} | dict(
                costs_of(configuration)
            )
            values = [float(numbers[objective.name]) for objective in space.objectives]
            condition = tuple(str(record.get(name, "")) for name in _CONDITIONS)
            groups.setdefault(condition, []).append(PriorObservation(configuration, values, 0))
    return groups, skipped


def _column(text: str, table: pd.DataFrame, name: str, columns: Iterable[str]) -> str:
    found = next((column for column in columns if column in table), None)
    if found is None:
        given = ", ".join(map(str, table))
        raise ConfigError(f"--warm-start {text}: no column {name}. Columns: {given}.")
    return found


def _picked(space: SearchSpace, record: Mapping[Any, Any], columns: Mapping[str, str]) -> Configuration:
    """Raises SpaceError where an active parameter is missing or outside its range."""
    configuration: Configuration = {}
    for path in sorted(space.parameters, key=lambda path: depth(space, path)):
        condition = space.when.get(path)
        if condition is None or configuration.get(condition.parameter) in condition.keys:
            configuration[path] = value_in(
                space, path, record[columns[path]], by_option=columns[path] != path
            )
    return {path: configuration[path] for path in space.parameters if path in configuration}


def _spread(space: SearchSpace, rows: list[PriorObservation], at_most: int) -> list[PriorObservation]:
    """At most so many: half of them the best by rank, the rest evenly from the others."""
    if len(rows) <= at_most:
        return rows
    ranks = pareto.ranks(
        [row.values for row in rows], [objective.direction for objective in space.objectives]
    )
    order = sorted(range(len(rows)), key=lambda index: (ranks[index], index))
    best, others = order[: at_most // 2], order[at_most // 2 :]
    count = at_most - len(best)
    return [
        rows[index]
        for index in sorted([*best, *(others[step * len(others) // count] for step in range(count))])
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _counted(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in skipped.items()) or "it is empty"
