"""Trials of a sweep that were trained again on more images: SWEEP/retrained/<trial>-<key>/.

They never compete on the sweep's front. Their tables have the columns of the trials table, and beside them
which trial each repeats, and the scores that it had.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from raydistill.errors import StoreError
from raydistill.records import remote, tables
from raydistill.records.files import write_atomic
from raydistill.records.trials import Trial, another_in_its_place, as_read, read_record, read_result

FOLDER = "retrained"
"""Folder in that of a sweep; also the name of the tables."""
SHORT = "short."
"""What the columns begin with that say what the repeated trial had: `short.nimg`, `short.metric.val/miou`."""


def read_retrained(sweep: Path) -> list[Trial]:
    """The retrained trials of a sweep, by their names, each with its result where it has one.

    Raises:
        StoreError: a file is damaged.
    """
    return [read_one(path.parent) for path in sorted((sweep / FOLDER).glob("*/trial.json"))]


def read_one(folder: Path) -> Trial:
    """The retrained trial of a folder, with its result. Raises StoreError as `read_retrained` does."""
    advice = another_in_its_place(folder)
    trial = as_read(read_record(folder / "trial.json", Trial, advice), folder)
    if trial.lineage is None or "trial_id" not in trial.lineage:
        raise StoreError(f"{folder / 'trial.json'}: damaged: lineage: does not say which trial it repeats")
    return trial.with_result(read_result(folder))


def retrained_table(again: Sequence[Trial], originals: Sequence[Trial], *, sweep_id: str) -> pd.DataFrame:
    """One row for each retrained trial: the columns of the trials table; `retrain_of`, the id of the trial
    that it repeats; and the scores of that in columns that begin with `SHORT`.
    """
    table = tables.trial_table(list(again), sweep_id=sweep_id)
    short = tables.trial_table(list(originals), sweep_id=sweep_id).set_index("trial_id")
    ids = [str(trial.lineage["trial_id"]) for trial in again if trial.lineage is not None]
    names = ["nimg", *(str(name) for name in short if str(name).startswith("metric."))]
    columns = {f"{SHORT}{name}": short[name].reindex(ids).array for name in names}
    return table.assign(retrain_of=ids, **columns)


def below(table: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """The trials table of a sweep with its retrained trials below."""
    return pd.concat([table, again], ignore_index=True) if len(again) else table


def write_table(sweep: Path, originals: Sequence[Trial]) -> pd.DataFrame:
    """Writes retrained.parquet and retrained.csv into a sweep's folder; returns the table.

    Raises StoreError where a file is damaged or the disk refuses.
    """
    table = retrained_table(read_retrained(sweep), originals, sweep_id=sweep.name)
    write_atomic(sweep / f"{FOLDER}.parquet", partial(table.to_parquet, index=False))
    write_atomic(sweep / f"{FOLDER}.csv", partial(table.to_csv, index=False))
    for ending in ("parquet", "csv"):
        remote.push(sweep / f"{FOLDER}.{ending}")
    return table


def facts(sweep: Path) -> dict[str, str]:
    """What a sweep's page says of the trials that were trained again: "0007 again" -> scores before and now.

    Raises StoreError where a file is damaged.
    """
    path = sweep / f"{FOLDER}.parquet"
    remote.pull(path)
    if not path.exists():
        return {}
    table, said = tables.read_table(path), {}
    for _, row in table.iterrows():
        scores = [str(name) for name in table if str(name).startswith("metric.val/")]
        changes = [
            f"{name.removeprefix('metric.')} {row[SHORT + name]:.4g} to {row[name]:.4g}"
            for name in scores
            if SHORT + name in table and not pd.isna(row[SHORT + name]) and not pd.isna(row[name])
        ]
        tests = [
            f"{name.removeprefix('metric.')} {row[name]:.4g}"
            for name in map(str, table)
            if name.startswith("metric.test/") and not pd.isna(row[name])
        ]
        how_long = f"{row[SHORT + 'nimg']:,} to {row['nimg']:,} images"
        said[f"{row['trial_id']}, {row['label']}"] = "; ".join([how_long, *changes, *tests])
    return said
