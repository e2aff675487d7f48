"""Which trainings `raydistill ablate` pairs: configurations of a sweep with and without one change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from raydistill import plugins
from raydistill.commands import retrain_jobs
from raydistill.config import renamed, term_presets
from raydistill.config.analysis_options import AblateOptions
from raydistill.config.experiment import Job
from raydistill.config.paths import leaves, parse_assignments
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import read_info
from raydistill.errors import ConfigError, StoreError
from raydistill.models import cost, networks
from raydistill.records import ablated, owners, store, tables
from raydistill.records.retrained import read_retrained
from raydistill.records.trials import Trial, read_trials
from raydistill.sweep import page, rates
from raydistill.trials import own_process

_FIXED = ("seed", "budget_nimg")
"""Parts of a student's config that --set leaves as they are: they have an option."""
_PAIRED = (*tables.FRONT_ROLES, "replicate")
"""Roles of trials that a pair may have. A recheck has its trial's key, and other numbers by its workers."""


class Asked(NamedTuple):
    """What is to be trained, and what it is for."""

    pairs: list[ablated.Pair]
    trainings: list[Trial]
    """Those that the sweep itself does not have; each once."""
    left_out: list[str]
    """Members of the front that the change does not change, with the reason."""


def asked_for(sweep: Path, options: AblateOptions) -> Asked:
    """The pairs of trainings that the options ask for.

    Raises:
        ConfigError: no change is given, its path is no one's, a value cannot be used, or no trial is changed.
        StoreError: the sweep has not ended, a trial is no student of it or has failed, or what its job needs
            is gone.
    """
    change = " ".join(options.set)
    values = _values(options)
    known = {each.trial_key: each for each in read_trials(sweep) if each.is_complete and each.role in _PAIRED}
    qualities = ablated.qualities_of(page.read(sweep).objectives)
    pairs, trainings, left_out = [], dict[str, Trial](), []
    for original in _originals(sweep, options):
        retrain_jobs.require_needed(original.job)
        try:
            job = _changed(original, values)
        except ConfigError as error:
            if options.trials:
                raise
            left_out.append(str(error))
            continue
        images = _images(sweep, original, job, change, options)
        first = original.seed if options.first_seed is None else options.first_seed
        for seed in range(first, first + options.seeds):
            both = {"unchanged": _seeded(original.job, seed), "changed": _seeded(job, seed, images)}
            ids = {}
            for name, each in both.items():
                trial = known.get(each.key)
                if trial is None:
                    trial = _trial(original, each, sweep, seed, change if name == "changed" else "")
                    trainings.setdefault(trial.trial_id, trial)
                ids[name] = trial.trial_id
            named = {"change": change, "equal": options.equal, "trial_id": original.trial_id, "seed": seed}
            pairs.append(ablated.Pair.model_validate(named | ids | {"qualities": qualities}))
    if not pairs:
        raise ConfigError(f"--set {change}: changes no member of the front: {'; '.join(left_out)}")
    return Asked(pairs, list(trainings.values()), left_out)


def _values(options: AblateOptions) -> dict[str, Any]:
    """Config path -> value of the change. Raises ConfigError where none is given, or not of a student."""
    if not options.set:
        raise ConfigError("which change? Give --set PATH=VALUE, such as --set student.terms.mi.weight=0")
    given = term_presets.with_named_terms(parse_assignments(list(options.set)), "--set")
    values = {renamed.in_full(path): value for path, value in given.items()}
    for path in values:
        if not path.startswith("student."):
            raise ConfigError(
                f"--set {path}: an ablation changes students; paths below student are allowed. For what all "
                "trials share run another sweep, and give both to raydistill compare."
            )
        if path.partition(".")[2] in _FIXED:
            raise ConfigError(f"--set {path}: is the same on both sides; there are --seeds and --equal")
    return values


def _originals(sweep: Path, options: AblateOptions) -> list[Trial]:
    """The trials whose configurations are trained. Raises StoreError as `asked_for` does."""
    trials = {each.trial_id: each for each in read_trials(sweep)}
    store.require_same_plugins(sweep, plugins.sweep_record(), str(sweep))
    ids: Sequence[str] = options.trials or ()
    if not ids:
        table = tables.read_table(sweep / "trials.parquet")
        ids = list(table[table["front.member"]].sort_values("cost.macs")["trial_id"])
        if not ids:
            raise StoreError(f"{sweep}: its front is empty: no student was trained to its end")
    students = [each for each in trials.values() if each.role in tables.FRONT_ROLES and each.is_complete]
    for trial_id in ids:
        if trials.get(trial_id) not in students:
            there = ", ".join(each.trial_id for each in students) or "none"
            raise StoreError(f"--trials {trial_id}: no trained student of {sweep}. Students: {there}.")
    return [trials[trial_id] for trial_id in ids]


def _changed(original: Trial, values: Mapping[str, Any]) -> Job:
    """The job with the change. Raises ConfigError where a path is no one's, or the job stays the same."""
    where = f"trial {original.trial_id}, {original.label}"
    try:
        job = retrain_jobs.changed_job(original.job, values, _FIXED)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if job.key == original.job.key:
        raise ConfigError(f"{where}: has these values already, so there is nothing to compare")
    return job


def _seeded(job: Job, seed: int, images: int | None = None) -> Job:
    """The job with another seed, and where they are given with so many images."""
    changes = {"seed": seed} | ({} if images is None else {"budget_nimg": images})
    return job.model_copy(update={"training": job.training.model_copy(update=changes)})


def _trial(original: Trial, job: Job, sweep: Path, seed: int, change: str) -> Trial:
    """A training of a pair, with the costs of its own generator."""
    label = f"{original.trial_id} seed {seed}{f', {change}' if change else ''}"
    trial = retrain_jobs.with_job(original, job, sweep, label, **({"change": change} if change else {}))
    training, before = job.training, original.job.training
    assert isinstance(training, DistillTraining | GeneratorTraining)
    assert isinstance(before, DistillTraining | GeneratorTraining)
    if training.generator == before.generator:
        return trial
    layers = networks.layers(training.generator, read_info(job.data))
    costs = {
        "macs": cost.macs(layers),
        "params": cost.params(layers),
        "macs_convention": cost.MACS_CONVENTION,
    }
    widths = "-".join(str(width) for width in leaves(training.generator.widths).values())
    return trial.model_copy(update={"costs": costs, "widths": widths})


# ---- equal time --------------------------------------------------------------------------------------------


def _images(sweep: Path, original: Trial, job: Job, change: str, options: AblateOptions) -> int | None:
    """Images that the changed training sees where both shall take the same time; None: as many as the other.

    They are counted once for a trial and a change, and kept: what goes on later has the same number.
    """
    if options.equal == "images":
        return None
    earlier = {each.trial_id: each for each in read_retrained(sweep)}
    for pair in ablated.read(sweep):
        is_same = (pair.change, pair.equal, pair.trial_id) == (change, "time", original.trial_id)
        if is_same and pair.changed in earlier:
            return earlier[pair.changed].budget_nimg
    seconds = [_seconds_per_image(each, options.workers_per_trial) for each in (original.job, job)]
    batch = job.training.batch_size
    exact = original.job.training.budget_nimg * seconds[0] / seconds[1]
    return max(1, round(exact / batch)) * batch


def _seconds_per_image(job: Job, workers: int) -> float:
    """Seconds that a training takes for an image, without evaluations; on a GPU another process times it."""
    return own_process.call(_timed, job, workers) if torch.cuda.is_available() else _timed(job, workers)


def _timed(job: Job, workers: int) -> float:
    with owners.temporary_folder() as folder:
        return rates.measured_rate(
            job, workers, read_info(job.data).counts["val"], folder / "timed"
        ).image_sec
