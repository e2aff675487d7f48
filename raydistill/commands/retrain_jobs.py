"""Which trainings `raydistill retrain` makes of a sweep's trials: longer, by other values, scored by more."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from raydistill import plugins
from raydistill.config.base import Frozen
from raydistill.config.command_options import RetrainOptions
from raydistill.config.experiment import Job
from raydistill.config.paths import parse_assignments, with_values
from raydistill.config.training import DistillTraining, GeneratorTraining, TeacherTraining
from raydistill.data import read_info
from raydistill.data.prepared import damage_of
from raydistill.errors import BudgetError, ConfigError, StoreError
from raydistill.models import saved
from raydistill.planning import scorers
from raydistill.records import remote, store, stored_paths, tables
from raydistill.records.trials import Trial, TrialResult, read_trials

_NETWORKS = ("evaluator", "teacher", "feature network", "teacher's discriminator")
"""What of `Job.needed` is a network's folder."""
_NOT_INHERITED = ("schema_version", "configuration")
"""What a trial.json of a sweep says and that of a retrained trial does not."""
_FIXED = ("generator", "start", "seed", "budget_nimg")
"""Parts of a student's config that --set leaves as they are: its network, and what has an option."""


class _Distilled(Frozen):
    student: DistillTraining


class _Alone(Frozen):
    student: TeacherTraining


def pull(sweep: Path) -> None:
    """Brings what says which trials there are; the rest follows when a training is known to be possible."""
    remote.require_bucket(sweep)
    for name in ("sweep.json", "tracking.json", "page.json", "trials.parquet", "evaluations.parquet"):
        remote.pull(sweep / name)
    for trial in remote.folders(sweep / "trials"):
        for name in ("trial.json", "result.json"):
            remote.pull(trial / name)


def length_of(sweep: Path, options: RetrainOptions) -> int:
    """Images to train on.

    Raises StoreError where --nimg full is asked for and the sweep's space names no such length.
    """
    if str(options.nimg) != "full":
        return options.nimg
    lengths = store.read_sweep(sweep).get("lengths")
    full = lengths.get("full") if isinstance(lengths, dict) else None
    if not isinstance(full, int) or full < 1:
        raise StoreError(
            f"--nimg full: {sweep / 'sweep.json'} names no length full: its space has none. "
            "Give --nimg IMAGES."
        )
    return full


def originals(sweep: Path, options: RetrainOptions, nimg: int) -> list[Trial]:
    """The trials to train again: the one of --trial, the front of --front, or its --top K.

    Raises:
        ConfigError: not one of the three is given.
        StoreError: a trial is no student of the sweep, has no result yet, or failed; or the sweep has not
            ended, and its front is asked for.
        BudgetError: one had as many images already.
    """
    given = [options.trial is not None, options.front, options.top is not None]
    if sum(given) != 1:
        raise ConfigError("which trials? Give one of --trial N, --front and --top K")
    trials = {trial.number: trial for trial in read_trials(sweep)}
    store.require_same_plugins(sweep, plugins.sweep_record(), str(sweep))
    if options.trial is not None:
        return [_student(trials, options.trial, sweep, nimg)]
    if not (sweep / "trials.parquet").exists():
        raise StoreError(f"{sweep}: has not ended, so its front is not known: let it end, or give --trial N")
    table = tables.read_table(sweep / "trials.parquet")
    front = table[table["front.member"]].sort_values("front.hv_contribution", ascending=False, kind="stable")
    numbers = [int(trial_id) for trial_id in front["trial_id"]][: options.top]
    return [_student(trials, number, sweep, nimg) for number in numbers]


def _student(trials: Mapping[int, Trial], number: int, sweep: Path, nimg: int) -> Trial:
    students = {each: trial for each, trial in trials.items() if trial.role in tables.FRONT_ROLES}
    if (trial := students.get(number)) is None:
        numbers = ", ".join(map(str, students)) or "none"
        raise StoreError(f"--trial {number}: no student of {sweep}. Students: {numbers}.")
    if (result := trial.result) is None:
        raise StoreError(f"--trial {number}: has no result yet; let the sweep end first")
    if result.status == "FAIL":
        raise StoreError(f"--trial {number}: failed: {result.reason}")
    if nimg <= (before := result.nimg):
        raise BudgetError(
            f"--nimg {nimg:,}: trial {number} was trained on {before:,} images already; give more"
        )
    return trial


def descendant(original: Trial, options: RetrainOptions, sweep: Path, nimg: int) -> Trial:
    """The new training as a trial: what it is, and where it comes from.

    Raises:
        InputError: a value of --set or a scorer cannot be used, or data or a network that it needs is gone.
    """
    changes: dict[str, Any] = {"budget_nimg": nimg} | ({} if options.seed is None else {"seed": options.seed})
    require_needed(original.job)
    try:
        job = changed_job(original.job, parse_assignments(list(options.set)), _FIXED)
    except ConfigError as error:
        raise ConfigError(f"trial {original.trial_id}, {original.label}: {error}") from None
    job = job.model_copy(update={"training": job.training.model_copy(update=changes)})
    job = _scored(job, options, stored_paths.store_of(sweep))
    return with_job(original, job, sweep, f"{original.trial_id} at {nimg:,} images")


def with_job(original: Trial, job: Job, sweep: Path, label: str, **lineage: str) -> Trial:
    """A trial of another job, which repeats `original`. `lineage`: what else its lineage says."""
    assert original.result is not None
    kept = {name: value for name, value in original.to_json().items() if name not in _NOT_INHERITED}
    comes_from = {
        "sweep_id": store.read_sweep(sweep)["sweep_id"],
        "sweep": sweep.name,
        "trial_key": original.trial_key,
        "trial_id": original.trial_id,
        "nimg": original.result.nimg,
    }
    changes = {
        "trial_id": f"{original.trial_id}-{job.key}",
        "role": "retrain",
        "label": label,
        "trial_key": job.key,
        "seed": job.training.seed,
        "job": job.model_dump(mode="json"),
        "lineage": comes_from | lineage,
    }
    return Trial.model_validate(kept | changes)


def require_needed(job: Job) -> None:
    """Brings the data and networks that a job needs. Raises StoreError where one is gone or damaged."""
    for what, needed in job.needed.items():
        remote.pull(Path(needed.path))
        if not Path(needed.path).exists():
            raise StoreError(
                f"{what} {needed.digest} is not at {needed.path}: copy the folder cache of the sweep's "
                "results folder, too"
            )
        if what in _NETWORKS and not saved.is_whole(needed):
            raise StoreError(f"{what} {needed.digest} at {needed.path} is not whole: copy that folder again")
    if (damage := damage_of(Path(job.data.path))) is not None:
        raise StoreError(damage)


def changed_job(job: Job, values: Mapping[str, Any], fixed: Collection[str]) -> Job:
    """A student's job by other values.

    Args:
        values: config path below student -> value.
        fixed: sections and values of student that may not be set.

    Raises:
        ConfigError: a path is no one's, or is fixed; or a value cannot be used.
    """
    for path in values:
        parts = path.split(".")
        if parts[0] != "student" or len(parts) < 2 or parts[1] in fixed:
            raise ConfigError(
                f"--set {path}: cannot be set when a student is trained again. Allowed: paths below student, "
                f"without {', '.join(f'student.{name}' for name in fixed)}"
            )
    if not values:
        return job
    holder = _Distilled if isinstance(job.training, DistillTraining) else _Alone
    training = with_values(holder(student=job.training), values, where="--set").student
    return job.model_copy(update={"training": training})


def _scored(job: Job, options: RetrainOptions, results: Path) -> Job:
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
        results,
        generator=training.generator,
        losses=[training, *(each for each in (job.teacher, job.features) if each is not None)],
        workers=options.workers_per_trial,
    )
    return job if scoring is None else job.model_copy(update={"scoring": scoring})


def comparison(before: TrialResult, after: TrialResult) -> pd.DataFrame:
    """Two results as rows: images, and the scores on val."""
    rows = []
    for result in (before, after):
        scores = {name: value for name, value in result.metrics.items() if name.startswith("val/")}
        rows.append({"images": result.nimg, **scores})
    return pd.DataFrame(rows)
