"""What is measured of a trial after its sweep: `measured.json` in the trial's folder.

`raydistill evaluate` and `raydistill latency` write it. The result tables, and with them page and MLflow,
take it in; the search never reads it: it is no part of `trial.json` and `result.json`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import AfterValidator, Field

from raydistill.errors import StoreError, say_notice
from raydistill.records import locks, remote
from raydistill.records.base import Number, Record
from raydistill.records.files import write_json_atomic
from raydistill.records.schema import MEASURED, typed_trials
from raydistill.records.trials import SCHEMA_VERSION, read_record, read_result

FILE = "measured.json"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LOCK = ".measured.lock"
"""In the sweep's folder: held while a measurement is written, and while tables are renewed."""
_MOST, _LONGEST = 1000, 2000
"""Measurements of a trial, and characters of one's text."""


def _is_time(text: str) -> str:
    if datetime.strptime(text, _TIME).year < 2000:
        raise ValueError("a time before the year 2000")
    return text


class Measurement(Record):
    """One number that was measured of a trial's network after its training."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", max_length=150)]
    """What was measured: "test/kd_squeezenet", "latency_ms_p50/cpu_1_threads_batch_1"."""
    value: Number | None
    """The number; None: infinite."""
    low: Number | None = None
    """Lower end of its 95 % interval; None: it has none."""
    high: Number | None = None
    """Upper end of it."""
    conditions: dict[str, Number | Annotated[str, Field(max_length=_LONGEST)]] = Field(max_length=50)
    """What decides which numbers of this name it may be compared with: condition -> value."""
    network: Annotated[str, Field(max_length=100)]
    """Digest of the network that was measured. The tables leave out what is of another than the trial's."""
    when: Annotated[str, AfterValidator(_is_time)]
    """Time in UTC, such as 2026-11-29T09:10:00Z."""
    how: Annotated[str, Field(max_length=_LONGEST)]
    """The command that measured it, with its options and without passwords."""

    @property
    def same_conditions(self) -> str:
        """The conditions as JSON: equal where two measurements of one name may be compared."""
        return json.dumps(self.conditions, sort_keys=True, separators=(",", ":"))


class MeasuredLater(Record):
    """What was measured of a trial after its training: a measured.json."""

    schema_version: int = SCHEMA_VERSION
    measurements: list[Measurement] = Field(max_length=_MOST)
    """At most one of each name and conditions; the newest stands last."""


def now() -> str:
    """This moment, as `Measurement.when` has it."""
    return datetime.now(UTC).strftime(_TIME)


def milliseconds(when: str) -> int:
    """Milliseconds from 1970 to a `Measurement.when`."""
    return int(datetime.strptime(when, _TIME).replace(tzinfo=UTC).timestamp()) * 1000


def name_of(text: str) -> str:
    """A name that `Measurement` allows: other characters become `_`."""
    return re.sub(r"[^A-Za-z0-9_/-]", "_", text)[:150]


def read(trial_dir: Path) -> list[Measurement]:
    """What was measured of a trial later; empty where nothing was.

    Raises:
        StoreError: the file is damaged or of another version.
    """
    path = trial_dir / FILE
    if not path.exists():
        return []
    advice = f"Remove {path}: what it says can be measured again"
    return MeasuredLater.model_validate(read_record(path, MeasuredLater, advice)).measurements


def locked(sweep_dir: Path) -> AbstractContextManager[None]:
    """Lets one process at a time write what was measured in a sweep. It waits for the others.

    Raises:
        StoreError: the lock cannot be written.
    """
    return locks.locked(sweep_dir / _LOCK, what=f"{sweep_dir / _LOCK}", wait=True)


def add(trial_dir: Path, new: Sequence[Measurement]) -> None:
    """Writes measurements into the trial's file, in place of older ones of the same names and conditions.

    Raises:
        StoreError: the file is damaged, or cannot be read or written.
    """
    path = trial_dir / FILE
    with locked(trial_dir.parent.parent):
        remote.pull(path)
        merged = {(each.name, each.same_conditions): each for each in read(trial_dir)}
        for each in new:
            merged.pop((each.name, each.same_conditions), None)
            merged[each.name, each.same_conditions] = each
        record = MeasuredLater(measurements=list(merged.values())[-_MOST:])
        write_json_atomic(path, {"schema_version": SCHEMA_VERSION, **record.to_json()})
        remote.push(path)


# ---- in the trials table -----------------------------------------------------------------------------------


def in_table(table: pd.DataFrame, sweep_dir: Path) -> pd.DataFrame:
    """The trials table with what was measured later, in place of what it had of it.

    Of several measurements of one name it has the newest. A trial whose file is damaged is left out, and a
    warning says so; so is what was measured of another network than that of the trial's result.
    """
    table = table.drop(columns=[name for name in map(str, table) if name.startswith(MEASURED)])
    folders = {folder.name: folder for folder in remote.folders(sweep_dir / "trials")}
    ids = table["trial_id"]
    rows = [_cells(folders[trial_id]) if trial_id in folders else {} for trial_id in ids]
    columns = sorted({name for row in rows for name in row})
    if not columns:
        return table
    measured = pd.DataFrame(rows, columns=columns, index=table.index)
    return typed_trials(pd.concat([table, measured], axis=1))


def _cells(trial_dir: Path) -> dict[str, object]:
    """Column -> value of what was measured of one trial."""
    remote.pull(trial_dir / FILE)
    try:
        if not (measurements := read(trial_dir)):
            return {}
        remote.pull(trial_dir / "result.json")
        result = read_result(trial_dir)
    except StoreError as error:
        say_notice(f"{error}. Left out of the tables")
        return {}
    if result is None or result.network is None:
        return {}
    digest = result.network.digest
    cells: dict[str, object] = {}
    for each in _by_time(one for one in measurements if one.network == digest):
        column = f"{MEASURED}{each.name}"
        said = {"conditions": each.same_conditions, "when": each.when, "how": each.how}
        interval = {"low": each.low, "high": each.high} if each.low is not None else {}
        cells |= {
            column: each.value,
            **{f"{column}.{part}": cell for part, cell in (interval | said).items()},
        }
    return cells


def _by_time(measurements: Iterable[Measurement]) -> list[Measurement]:
    return sorted(measurements, key=lambda each: each.when)


def names_in(columns: Iterable[object]) -> list[str]:
    """The names of what was measured later, by the columns of a trials table."""
    names = [name.removeprefix(MEASURED) for name in map(str, columns) if name.startswith(MEASURED)]
    return [name for name in names if "." not in name]
