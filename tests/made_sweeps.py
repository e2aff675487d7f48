"""Sweeps that have ended, written without a training: the trials of test_results, in folders of a store."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from test_results import OBJECTIVES, REFERENCE, scored, synthetic_trials, write

from raydistill.records import store, tables
from raydistill.sweep import page
from raydistill.sweep.sweep_result import write_ended_by


def made_sweep(
    root: Path,
    name: str,
    *,
    seed: int = 0,
    sampler: str = "known-cost",
    gain: float = 0.0,
    change: Any = None,
    label: str = "stem 8",
    has_trials: bool = False,
) -> Path:
    """The folder of a sweep.

    Args:
        root: the store, which is made where there is none.
        gain: is added to the mIoU of every student, with a little of the seed's own.
        change: is given the trials table and returns another one, before the front is known.
        label: of one of its trials.
        has_trials: whether the trials are on disk, too, and not in the tables alone.
    """
    store.open_store(root)
    facts: dict[str, Any] = {"definition": f"{sampler}-{seed}", "seed": seed, "sampler": sampler}
    facts |= {"data": "aa11bb22cc33dd44", "space": {"preset": "shapes32"}, "experiment": {}, "plugins": {}}
    folder = store.create_sweep(root, name, "made", facts)
    shift = gain + 0.001 * ((seed * 7919) % 11 - 5)
    trials = [_shifted(trial, shift) for trial in synthetic_trials()]
    if has_trials:
        for trial in trials:
            write(folder / "trials" / trial.trial_id, trial)
    table = tables.trial_table(trials, sweep_id=name)
    table["label"] = table["label"].replace("stem 12", label)
    table = tables.with_front(table if change is None else change(table), OBJECTIVES, REFERENCE)
    evaluations = tables.evaluation_table(trials, sweep_id=name)
    tables.write_tables(folder, table, evaluations)
    write_ended_by(folder, "--trials 8")
    record = page.PageRecord(
        title=name, objectives=tuple(OBJECTIVES), reference=tuple(REFERENCE), facts={}, ceiling=0.9
    )
    (folder / page.FILE).write_text(json.dumps(record.model_dump(mode="json")))
    return folder


def _shifted(trial: Any, shift: float) -> Any:
    """The trial with another mIoU, where it is a trained student."""
    if not trial.is_complete or "val/miou" not in trial.result.metrics:
        return trial
    metrics = trial.result.metrics | {"val/miou": trial.result.metrics["val/miou"] + shift}
    return scored(trial, metrics=metrics)


def without_students(table: pd.DataFrame) -> pd.DataFrame:
    """A change for `made_sweep`: every trial but the teacher has failed."""
    return table.assign(status=table["status"].where(table["role"] == "teacher", "FAIL"))
