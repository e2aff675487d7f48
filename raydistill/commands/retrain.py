"""`raydistill retrain`: trains a student of a sweep again, on more images, and records where it comes from.

It is in SWEEP/retrained/<trial>-<key>/, as a trial of its own: trial.json, result.json, network, checkpoints.
The sweep stays as it is.
"""

from pathlib import Path

import pandas as pd

from raydistill import plugins
from raydistill.config.command_options import RetrainOptions
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import read_info
from raydistill.errors import BudgetError, StoreError
from raydistill.planning import scorers
from raydistill.records import locks, mirror, owners, remote, store, tables
from raydistill.records.trials import Evaluation, Trial, TrialResult, read_trials, write_trial
from raydistill.terminal import Terminal
from raydistill.trials.run_job import perform

_NOT_INHERITED = ("schema_version", "configuration")
"""What a trial.json of a sweep says and that of a retrained trial does not."""


def run(options: RetrainOptions) -> int:
    """Trains that trial, or goes on with it.

    Returns:
        the exit code: 0, 1 where the training failed, 130 where it was interrupted.

    Raises:
        InputError: there is no such student, or it had as many images already.
    """
    terminal, sweep = Terminal(), mirror.sweep_of(options.sweep)
    _pull(sweep)
    original = _original(sweep, options)
    job = _scored(_lengthened(original.job, options), options, sweep.parent.parent)
    trial = _descendant(original, job, sweep)
    folder = sweep / "retrained" / trial.trial_id
    with locks.locked(sweep / "retrained" / f"{trial.trial_id}.lock", what=f"{folder}", wait=False):
        owners.remove_left(folder, below=True)
        if not (folder / "trial.json").exists():
            write_trial(folder, trial)
        terminal.say(f"trial {original.trial_id}, {original.label}, at {options.nimg:,} images; in {folder}")
        try:
            result = perform(job, folder, lambda evaluation: terminal.say(_line(evaluation)))
        except KeyboardInterrupt:
            terminal.say("interrupted; go on: the same command")
            return 130
    if result.status != "COMPLETE":
        terminal.say(f"{result.status}: {result.reason}")
        return 1
    assert original.result is not None
    comparison = _comparison(original.result, result)
    terminal.rows(f"trial {original.trial_id} at both lengths", comparison, keys=["images"])
    return 0


def _pull(sweep: Path) -> None:
    """Brings what says which trials there are; the rest follows when the training is known to be possible."""
    remote.require_bucket(sweep)
    remote.pull(sweep / "sweep.json")
    for trial in remote.folders(sweep / "trials"):
        for name in ("trial.json", "result.json"):
            remote.pull(trial / name)


def _original(sweep: Path, options: RetrainOptions) -> Trial:
    """The trial to train again.

    Raises:
        StoreError: it is no student of the sweep, has no result yet, or failed.
        BudgetError: it had as many images already.
    """
    trials = {trial.number: trial for trial in read_trials(sweep)}
    store.require_same_plugins(sweep, plugins.sweep_record(), str(sweep))
    students = {number: trial for number, trial in trials.items() if trial.role in tables.FRONT_ROLES}
    if (trial := students.get(options.trial)) is None:
        numbers = ", ".join(map(str, students)) or "none"
        raise StoreError(f"--trial {options.trial}: no student of {sweep}. Students: {numbers}.")
    if (result := trial.result) is None:
        raise StoreError(f"--trial {options.trial}: has no result yet; let the sweep end first")
    if result.status == "FAIL":
        raise StoreError(f"--trial {options.trial}: failed: {result.reason}")
    if options.nimg <= (before := result.nimg):
        raise BudgetError(
            f"--nimg {options.nimg:,}: trial {options.trial} was trained on {before:,} images already; "
            "give more"
        )
    return trial


def _lengthened(job: Job, options: RetrainOptions) -> Job:
    """The same job on more images. Raises StoreError where the data or a network that it needs is gone."""
    changes = {"budget_nimg": options.nimg} | ({} if options.seed is None else {"seed": options.seed})
    for what, needed in job.needed.items():
        remote.pull(Path(needed.path))
        if not Path(needed.path).exists():
            raise StoreError(
                f"{what} {needed.digest} is no longer at {needed.path}; "
                "put the results folder back where the sweep ran"
            )
    return job.model_copy(update={"training": job.training.model_copy(update=changes)})


def _scored(job: Job, options: RetrainOptions, store: Path) -> Job:
    """The job with the scorers of the options; without any, with those of the sweep.

    Raises:
        InputError: one cannot be used.
    """
    training = job.training
    assert isinstance(training, DistillTraining | GeneratorTraining)
    scoring = scorers.scoring_of(
        options,
        scorers.given_files(options),
        read_info(job.data),
        store,
        generator=training.generator,
        losses=[training, *(each for each in (job.teacher, job.features) if each is not None)],
        workers=1,
    )
    return job if scoring is None else job.model_copy(update={"scoring": scoring})


def _descendant(original: Trial, job: Job, sweep: Path) -> Trial:
    """The new training as a trial: what it is, and where it comes from."""
    assert original.result is not None
    kept = {name: value for name, value in original.to_json().items() if name not in _NOT_INHERITED}
    lineage = {
        "sweep_id": store.read_sweep(sweep)["sweep_id"],
        "sweep": sweep.name,
        "trial_key": original.trial_key,
        "trial_id": original.trial_id,
        "nimg": original.result.nimg,
    }
    changes = {
        "trial_id": f"{original.trial_id}-{job.key}",
        "role": "retrain",
        "label": f"{original.trial_id} at {job.training.budget_nimg:,} images",
        "trial_key": job.key,
        "seed": job.training.seed,
        "job": job.model_dump(mode="json"),
        "lineage": lineage,
    }
    return Trial.model_validate(kept | changes)


def _line(evaluation: Evaluation) -> str:
    scores = [(name, value) for name, value in evaluation.numbers.items() if name.startswith("val/")]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in scores)
    return f"{evaluation.nimg:,} images: {shown or 'no scores'}"


def _comparison(before: TrialResult, after: TrialResult) -> pd.DataFrame:
    """Two results as rows: images, and the scores on val."""
    rows = []
    for result in (before, after):
        scores = {name: value for name, value in result.metrics.items() if name.startswith("val/")}
        rows.append({"images": result.nimg, **scores})
    return pd.DataFrame(rows)
