"""`raydistill retrain`: a trial of a sweep trained again, at full length, with its lineage kept.

It lies in SWEEP/retrained/<trial>-<key>/ as a trial of its own: trial.json, result.json, network, checkpoints. The sweep stays as it is.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt

from raydistill import plugins
from raydistill.config.base import Frozen
from raydistill.config.experiment import Job
from raydistill.errors import BudgetError, StoreError
from raydistill.records import mirror, remote, store, tables
from raydistill.records.trials import read_trials, write_trial
from raydistill.terminal import Terminal
from raydistill.trials.run_job import perform


class RetrainOptions(Frozen):
    """What the command line gives. See `raydistill retrain --help`."""

    sweep: str
    """STORE/sweeps/NAME; of an object store the URL of the same."""
    trial: NonNegativeInt
    nimg: PositiveInt
    seed: NonNegativeInt | None = None
    """None: the trial's own."""


def run(options: RetrainOptions) -> int:
    """Trains, or goes on with, that trial; returns the exit code: 0, or 1 where the training failed."""
    terminal, sweep = Terminal(), mirror.sweep_of(options.sweep)
    _pull(sweep)
    original = _original(sweep, options)
    job = _lengthened(Job.model_validate(original["job"]), options)
    trial = _descendant(original, job, sweep)
    folder = sweep / "retrained" / trial["trial_id"]
    with store.locked(sweep / "retrained" / f"{trial['trial_id']}.lock", what=f"{folder}", wait=False):
        if not (folder / "trial.json").exists():
            write_trial(folder, trial)
        terminal.say(
            f"trial {original['trial_id']}, {original['label']}, at {options.nimg:,} images; in {folder}"
        )
        try:
            result = perform(job, folder, lambda numbers: terminal.say(_line(numbers)))
        except KeyboardInterrupt:
            terminal.say("interrupted; go on: the same command")
            return 130
    if result["status"] != "COMPLETE":
        terminal.say(f"{result['status']}: {result['reason']}")
        return 1
    comparison = _comparison(original["result"], result)
    terminal.rows(f"trial {original['trial_id']} at both lengths", comparison, keys=["images"])
    return 0


def _pull(sweep: Path) -> None:
    """Brings what tells which trials there are; what the training needs follows once it is known to be possible."""
    remote.require_bucket(sweep)
    remote.pull(sweep / "sweep.json")
    for trial in remote.folders(sweep / "trials"):
        for name in ("trial.json", "result.json"):
            remote.pull(trial / name)


def _original(sweep: Path, options: RetrainOptions) -> dict[str, Any]:
    """The trial to train again. Raises StoreError or BudgetError where there is none that could be."""
    trials = {trial["number"]: trial for trial in read_trials(sweep)}
    store.require_same_plugins(sweep, plugins.sweep_record(), str(sweep))
    trial = trials.get(options.trial)
    if trial is None or trial["role"] not in tables.FRONT_ROLES:
        known = ", ".join(
            str(number) for number, known in trials.items() if known["role"] in tables.FRONT_ROLES
        )
        raise StoreError(f"--trial {options.trial}: no student of {sweep}. Students: {known or 'none'}.")
    if trial["result"] is None or trial["result"]["status"] == "FAIL":
        why = (
            "has no result yet; let the sweep end first"
            if trial["result"] is None
            else f"failed: {trial['result']['reason']}"
        )
        raise StoreError(f"--trial {options.trial}: {why}")
    if options.nimg <= (before := trial["result"]["nimg"]):
        raise BudgetError(
            f"--nimg {options.nimg:,}: trial {options.trial} was trained on {before:,} images already; give more"
        )
    return trial


def _lengthened(job: Job, options: RetrainOptions) -> Job:
    changes = {"budget_nimg": options.nimg} | ({} if options.seed is None else {"seed": options.seed})
    for what, needed in (("data", job.data), ("evaluator", job.evaluator), ("teacher", job.teacher)):
        if needed is None:
            continue
        remote.pull(Path(needed.path))
        if not Path(needed.path).exists():
            raise StoreError(
                f"{what} {needed.digest} is no longer at {needed.path}; put the results folder back where the sweep ran"
            )
    return job.model_copy(update={"training": job.training.model_copy(update=changes)})


def _descendant(original: dict[str, Any], job: Job, sweep: Path) -> dict[str, Any]:
    """The trial.json of the new training: what it is, and where it comes from."""
    trial = {
        name: value
        for name, value in original.items()
        if name not in ("result", "schema_version", "configuration")
    }
    lineage = {
        "sweep_id": store.read_sweep(sweep)["sweep_id"],
        "sweep": sweep.name,
        "trial_key": original["trial_key"],
    }
    lineage |= {"trial_id": original["trial_id"], "nimg": original["result"]["nimg"]}
    return trial | {
        "trial_id": f"{original['trial_id']}-{job.key}",
        "role": "retrain",
        "label": f"{original['trial_id']} at {job.training.budget_nimg:,} images",
        "trial_key": job.key,
        "seed": job.training.seed,
        "job": job.model_dump(mode="json"),
        "lineage": lineage,
    }


def _line(numbers: dict[str, Any]) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name.startswith("val/"))
    return f"{numbers['nimg']:,} images: {scores or 'no scores'}"


def _comparison(before: dict[str, Any], after: dict[str, Any]) -> pd.DataFrame:
    rows = [
        {"images": result["nimg"], **{k: v for k, v in result["metrics"].items() if k.startswith("val/")}}
        for result in (before, after)
    ]
    return pd.DataFrame(rows)
