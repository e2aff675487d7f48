"""`raydistill list`: the sweeps of a store, a row each, and the folders there that are none."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from raydistill.commands.printed_json import print_json, rows
from raydistill.config.analysis_options import ListOptions
from raydistill.errors import RaydistillError, StoreError
from raydistill.records import mirror, remote, store, sweep_state, tables
from raydistill.records.trials import read_trials
from raydistill.sweep import tracking_record
from raydistill.sweep.sweep_result import load_sweep
from raydistill.terminal import Terminal

_COLUMNS = ("sweep", "state", "trials", "best", "hypervolume", "age", "space")
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


class StoredSweeps(NamedTuple):
    """What is in a store."""

    table: pd.DataFrame
    """A row for each sweep: sweep, state, trials that have ended, best quality of the front with its trial,
    hypervolume, age in seconds, space; the newest last."""
    broken: list[str]
    """What is wrong with each folder that cannot be read, a line each."""


def run(options: ListOptions) -> int:
    """Prints the sweeps of a store; returns the exit code, 0.

    Raises:
        StoreError: the store is not there or cannot be read.
    """
    found = sweeps_of(options.store)
    if options.as_json:
        print_json({"store": options.store, "sweeps": rows(found.table), "broken": found.broken})
        return 0
    terminal = Terminal()
    if len(found.table):
        shown = found.table.assign(age=found.table["age"].map(_age))
        terminal.rows(options.store, shown, keys=["sweep"], texts=["best", "state"])
    elif not found.broken:
        print(f"{options.store}: no sweep yet; raydistill sweep --store {options.store} makes one")
    for line in found.broken:
        terminal.entry("broken: ", line)
    return 0


def sweeps_of(given: str) -> StoredSweeps:
    """The sweeps of a store, and what is wrong with folders that cannot be read.

    Raises:
        StoreError: the store is not there, has another version or cannot be read.
    """
    folder = mirror.folder_of(given)
    remote.require_bucket(folder)
    remote.pull(folder / "store.json")
    if not (folder / "store.json").is_file():
        advice = "give the folder that --store of a sweep named"
        raise StoreError(f"{given}: no raydistill store here (no store.json); {advice}")
    listed, broken = [], []
    for path in remote.folders(folder / "sweeps"):
        if path.name.startswith("."):
            continue
        try:
            listed.append(_row(path))
        except (RaydistillError, OSError) as error:
            text = " ".join(str(error).split())
            broken.append(text if path.name in text else f"{path.name}: {text}")
    listed.sort(key=lambda row: -row["age"])
    table = pd.DataFrame(listed, columns=list(_COLUMNS)).astype({"hypervolume": "float64", "age": "float64"})
    return StoredSweeps(table, broken)


def _row(folder: Path) -> dict[str, Any]:
    """What a sweep's folder says. Raises StoreError where it is damaged or half copied."""
    for name in ("sweep.json", "page.json", "ended.json", "tracking.json", *sweep_state.TABLES):
        remote.pull(folder / name)
    state, facts = sweep_state.state_of(folder), store.read_sweep(folder)
    record = tracking_record.read(folder)
    row: dict[str, Any] = {
        "sweep": folder.name,
        "state": state,
        "best": "",
        "hypervolume": None,
        "age": max(0.0, time.time() - facts["created"]),
        "space": str(record.params.get("space", record.tags.get("raydistill.space", ""))),
    }
    if state != "ended":
        trials = [each for each in read_trials(folder) if each.role == "search"]
        asked = record.tags.get("raydistill.trials", "")
        done = sum(each.result is not None for each in trials)
        return row | {"trials": f"{done} of {asked}" if asked else str(done)}
    sweep = load_sweep(folder)
    num_there = sum((each / "trial.json").exists() for each in remote.folders(folder / "trials"))
    if num_there < len(sweep.trials) and mirror.url_of(folder) is None:
        raise StoreError(
            f"{folder}: half copied: {num_there} of {len(sweep.trials)} trials are in trials/; "
            "copy the whole folder"
        )
    row["trials"] = str(int((sweep.trials["role"] == "search").sum()))
    if (folder / "page.json").exists():
        row |= {"hypervolume": sweep.hypervolume, "best": _best(sweep.front, sweep.objectives)}
    return row


def _best(front: pd.DataFrame, objectives: Any) -> str:
    """The member of the front with the best first quality, and that: "0010: val/miou 0.71"."""
    qualities = [each for each in objectives if not each[0].startswith("cost/")]
    if not qualities or front.empty:
        return ""
    name, direction = qualities[0]
    ordered = front.sort_values(tables.column(name), ascending=direction == "min", kind="stable")
    first = ordered.iloc[0]
    return f"{first['trial_id']}: {name} {first[tables.column(name)]:.4g}"


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
