"""How long trainings take: rates measured by a few real steps, or one that is given.

They are measured on this machine, on the first pictures of the data, by networks of random weights, as the
time of a step does not depend on the weights. Of the students the cheapest and the most expensive are
measured, with the mutual-information term and without it where the space has both; between them time is taken
to be linear in MACs. Where a step takes seconds, one step of the most expensive counts for all of its kind.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from raydistill import distributed
from raydistill.config.base import Stored
from raydistill.config.experiment import Job, student_job
from raydistill.config.paths import leaves
from raydistill.config.training import DistillTraining, StudentTraining, Training
from raydistill.data import DataInfo, load_split, pictures, read_info
from raydistill.data.outputs import chunk_of, store_outputs
from raydistill.errors import RaydistillError, RunError
from raydistill.evaluation.file_scorers import open_files
from raydistill.models import cost, networks, saved
from raydistill.models.inputs import latent_size, num_inputs
from raydistill.planning.plan import Plan
from raydistill.planning.untrained import untrained
from raydistill.records import owners
from raydistill.training import assembly, checkpoint, loop, recording, rows
from raydistill.training.recipes import Setup
from raydistill.trials import own_process

_STEPS = 3
"""Steps that are timed, after one that is not; fewer where they take longer than `_ENOUGH_SEC` together."""
_ENOUGH_SEC = 1.0
_LONG_SEC = 3.0
"""A first step that takes longer is the only one: what it spends on memory that is new counts for little."""
_STEP_PIXELS = 256 * 256
"""Pixels of the pictures of a timed step on a CPU, at most, but for one picture: there a minibatch takes as
long as its pictures one after the other, and one of large networks takes a minute."""
_NUM_SCORED = 4
"""Pictures that networks from files see while they are timed."""
_NUM_VAL, _VAL_PIXELS = 64, 2 * 256 * 256
"""Pictures of val that a timed evaluation scores, at most, and how many pixels they may have together."""
WITHOUT_TEACHER, FEATURES = "without a teacher", "feature network"
RECORDED = ", teachers recorded"
"""Ends the kind of trainings that read a record of their teachers."""
WITH_TERMS = " with MI"
"""Ends the kind of trainings with terms, before `RECORDED`."""
STAGES = ("evaluator", FEATURES, "teacher")
"""Kinds of training before those of students, which `kind_of` names; each kind has a rate."""


class Rate(NamedTuple):
    """How long a training takes on one worker among those that share it."""

    macs: float
    """Multiply-accumulates of the generator for one image; 0 where the training has no generator."""
    image_sec: float
    """Seconds for an image of the whole batch, with its share of the optimiser step."""
    report_sec: float = 0.0
    """Seconds of an evaluation on all of val, with its checkpoint."""
    start_sec: float = 0.0
    """Seconds until the first step."""

    def job_sec(self, training: Training) -> float:
        """Seconds of the whole training."""
        reports = math.ceil(training.budget_nimg / training.report_every_nimg)
        return self.start_sec + training.budget_nimg * self.image_sec + reports * self.report_sec


class Rates(NamedTuple):
    """The rates of every kind of training in a sweep."""

    source: str
    """Where they come from, as a sentence's end."""
    rates: dict[str, list[Rate]]
    """Kind of training, one of `STAGES` or of `kind_of` -> rates in the order of their MACs."""
    scoring_sec: float = 0.0
    """Seconds in which networks from files see all pictures that are scored, on one worker of a trial."""
    scores_reports: bool = False
    """Whether they do so at every report of a trial, and not only at its end."""

    def of(self, kind: str, macs: float) -> Rate:
        """The rate at so many MACs: on a line through the first and the last; never negative."""
        first, last = self.rates[kind][0], self.rates[kind][-1]
        part = 0.0 if last.macs == first.macs else (macs - first.macs) / (last.macs - first.macs)
        return Rate(macs, *(max(0.0, a + part * (b - a)) for a, b in zip(first[1:], last[1:], strict=True)))

    def trial_sec(self, training: StudentTraining, macs: float, is_read: bool = False) -> float:
        """Seconds of a trial whose generator has so many MACs.

        Args:
            is_read: whether it reads a record of the teachers that would train beside it.
        """
        reports = math.ceil(training.budget_nimg / training.report_every_nimg) if self.scores_reports else 1
        kind = kind_of(training)
        if is_read and kind + RECORDED in self.rates:  # one rate may be given for all
            kind += RECORDED
        return self.of(kind, macs).job_sec(training) + reports * self.scoring_sec


def kind_of(training: StudentTraining) -> str:
    """What kind of training a student's is: by its base, where that is not plain, and whether it has
    terms."""
    if not isinstance(training, DistillTraining):
        return WITHOUT_TEACHER
    base = training.base.kind
    name = "student" if base == "plain" else f"student of base {base}"
    return f"{name}{WITH_TERMS}" if training.active_terms else name


def rates_of(plan: Plan, *, stage_workers: int, cpus: float) -> Rates:
    """The rates of a plan's trainings: the one that --seconds-per-image gives, or measured here and now.

    On a GPU a process of its own measures them, whose memory is free again afterwards.

    Args:
        stage_workers: workers that share the training of evaluator and teacher.
        cpus: CPUs of a worker of a trial.
    """
    given = plan.options.seconds_per_image
    scores_reports = plan.scoring is not None and plan.scoring.at_reports
    if given is not None:
        source = f"--seconds-per-image {given:g}, for every network"
        kinds = [*STAGES, *map(kind_of, student_trainings(plan))]
        return Rates(source, {kind: [Rate(0, given)] for kind in kinds}, 0.0, scores_reports)
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        by_kind, scoring_sec = own_process.call(_measure_all, plan, stage_workers, cpus)
    else:
        by_kind, scoring_sec = _measure_all(plan, stage_workers, cpus)
    where = torch.cuda.get_device_name() if has_gpu else "a CPU"
    source = f"up to {_STEPS} real steps of each kind of training on this machine ({where})"
    return Rates(source, by_kind, scoring_sec, scores_reports)


# ---- measuring ---------------------------------------------------------------------------------------------


def _measure_all(plan: Plan, stage_workers: int, cpus: float) -> tuple[dict[str, list[Rate]], float]:
    """Kind of training -> rates in the order of their MACs; and `Rates.scoring_sec`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, math.ceil(cpus - 1e-9)))
    try:
        with owners.temporary_folder() as folder:
            num_val, by_kind = plan.info.counts["val"], dict[str, list[Rate]]()
            by_jobs = _jobs(plan, stage_workers, folder)
            for kind, (jobs, workers) in by_jobs.items():
                by_kind[kind] = []
                if _is_a_sum(kind, by_jobs):
                    continue
                for number, job in enumerate(jobs):
                    own = folder / f"{kind}-{number}"
                    by_kind[kind].append(measured := _measure_or_name(kind, job, workers, num_val, own))
                    if measured.image_sec * job.training.batch_size > _LONG_SEC:
                        break
                by_kind[kind].sort()
            for kind, (jobs, _) in by_jobs.items():
                if not by_kind[kind]:
                    by_kind[kind] = [_summed(kind, job, plan.info, by_kind) for job in jobs]
                    by_kind[kind].sort()
            return by_kind, _scoring_sec(plan)
    finally:
        torch.set_num_threads(threads)


def _is_a_sum(kind: str, kinds: Container[str]) -> bool:
    """Whether a kind is not measured, because three others say what it takes: teachers beside a student with
    terms take what they take beside one without, and terms what they take beside a record."""
    base = kind.removesuffix(WITH_TERMS)
    return base != kind and all(each in kinds for each in (base, base + RECORDED, kind + RECORDED))


def _summed(kind: str, job: Job, info: DataInfo, by_kind: dict[str, list[Rate]]) -> Rate:
    """The rate of a kind that `_is_a_sum`."""
    base, rates = kind.removesuffix(WITH_TERMS), Rates("", by_kind)
    macs = cost.macs(networks.layers(job.training.generator, info))  # type: ignore[attr-defined]
    parts = (rates.of(each, macs) for each in (base, kind + RECORDED, base + RECORDED))
    return Rate(
        macs, *(max(0.0, alone + terms - read) for alone, terms, read in zip(*(p[1:] for p in parts)))
    )


def _scoring_sec(plan: Plan) -> float:
    """`Rates.scoring_sec`, measured on a few pictures after one that is not timed."""
    if plan.scoring is None:
        return 0.0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    split, opened = load_split(plan.data, "val"), open_files(plan.scoring.files, device)
    total = num_inputs(split, latent_size(plan.experiment.student.generator))
    number = total if plan.scoring.num is None else min(total, plan.scoring.num)
    few = min(_NUM_SCORED, number)

    def see(count: int) -> None:
        shown = pictures(split.targets, np.arange(count) % len(split), device=device)
        with torch.no_grad():
            for extractor in opened.extractors:
                extractor.network(shown)
            for segmenter in opened.segmenters:
                segmenter.scores(shown)
            if opened.lpips is not None:
                opened.lpips.distance(shown, shown)

    see(1)
    return _timed(lambda: see(few)) / few * number / plan.options.workers_per_trial


def _jobs(plan: Plan, stage_workers: int, folder: Path) -> dict[str, tuple[list[Job], int]]:
    """Kind of training -> (jobs to measure, workers that share each)."""
    experiment, options = plan.experiment, plan.options
    data = _first_pictures(plan, folder / "data")
    info = read_info(data)
    shared = untrained(folder, experiment, info)
    if plan.outputs_bytes:
        device, student = torch.device("cuda" if torch.cuda.is_available() else "cpu"), experiment.student
        loaded, chunk = saved.load(shared.teacher, info, device), chunk_of(student.batch_size)
        kind = experiment.teacher.outputs
        store_outputs(shared.teacher, data, loaded, student.flip, device, chunk=chunk, kind=kind)
    jobs: dict[str, tuple[list[Job], int]] = {
        "evaluator": ([Job(training=experiment.evaluator, data=data)], stage_workers)
    }
    if experiment.given_teacher is None:
        jobs["teacher"] = (
            [Job(training=experiment.teacher, data=data, evaluator=shared.evaluator)],
            stage_workers,
        )
    if experiment.trains_features:
        jobs[FEATURES] = ([Job(training=experiment.features, data=data)], stage_workers)
    for training in _extreme_trainings(plan):
        of_kind, _ = jobs.setdefault(kind_of(training), ([], options.workers_per_trial))
        job = student_job(training, experiment, data, shared)
        of_kind.append(job)
        if plan.may_read(training):
            of_kind, _ = jobs.setdefault(kind_of(training) + RECORDED, ([], options.workers_per_trial))
            of_kind.append(job)
    return jobs


def student_trainings(plan: Plan) -> list[StudentTraining]:
    """Those of students from the whole range of costs, and of the baselines."""
    students: list[StudentTraining] = [training for training, _ in plan.students]
    return students + [training for _, _, training in plan.baselines]


def _extreme_trainings(plan: Plan) -> list[StudentTraining]:
    """Of each kind of training of students the most expensive and the cheapest that there may be."""
    pairs: list[tuple[StudentTraining, float]] = [*plan.students]
    pairs += [(training, plan.costs_of(training)["cost/macs"]) for _, _, training in plan.baselines]
    extremes: list[StudentTraining] = []
    for kind in dict.fromkeys(kind_of(training) for training, _ in pairs):
        by_macs = sorted((pair for pair in pairs if kind_of(pair[0]) == kind), key=lambda pair: pair[1])
        (cheapest, low), (most_expensive, high) = by_macs[0], by_macs[-1]
        extremes += [most_expensive, cheapest] if low < high else [cheapest]
    return extremes


def _first_pictures(plan: Plan, folder: Path) -> Stored:
    """A copy of the data that ends after a batch of training pictures and 64 of val, or fewer large ones."""
    info, stages = plan.info, ("evaluator", "features", "teacher", "student")
    largest_batch = max(getattr(plan.experiment, stage).batch_size for stage in stages)
    counts: dict[Any, int] = {
        "train": min(largest_batch, info.counts["train"]),
        "val": min(_NUM_VAL, max(2, _VAL_PIXELS // (info.height * info.width)), info.counts["val"]),
        "test": 1,
    }
    folder.mkdir()
    for split in ("train", "val"):
        for path in Path(plan.data.path).glob(f"{split}_*.npy"):
            np.save(folder / path.name, np.load(path, mmap_mode="r")[: counts[split]])
    inputs = info.input_counts and {
        split: min(number, info.input_counts[split]) for split, number in counts.items()
    }
    few = info.model_copy(update={"counts": counts, "input_counts": inputs, "digest": "calibration"})
    (folder / "info.json").write_text(few.model_dump_json())
    return Stored(path=str(folder), digest="calibration")


def _measure_or_name(kind: str, job: Job, num_workers: int, num_val: int, folder: Path) -> Rate:
    """What `measured_rate` returns. Raises RunError, with what it was that failed."""
    try:
        return measured_rate(job, num_workers, num_val, folder, kind.endswith(RECORDED))
    except (RaydistillError, RuntimeError, MemoryError) as error:
        widths = getattr(getattr(job.training, "generator", None), "widths", None)
        of_widths = "" if widths is None else f" of widths {'-'.join(map(str, leaves(widths).values()))}"
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(f"{kind}{of_widths}: {reason[0]}") from error


def measured_rate(job: Job, num_workers: int, num_val: int, folder: Path, is_read: bool = False) -> Rate:
    """Times steps of one worker's share of the batch, an evaluation and a checkpoint, as `train` has them.

    `is_read`: without its own teachers, from a row of zeros in place of a record of them.
    """
    started = time.perf_counter()
    info = read_info(job.data)
    share = max(1, job.training.batch_size // num_workers)
    if not torch.cuda.is_available():
        share = max(1, min(share, _STEP_PIXELS // (info.height * info.width)))
    batch = share * num_workers
    training = job.training.model_copy(update={"batch_size": share})
    job = job.model_copy(update={"training": training})
    split = load_split(job.data, "train")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setup = Setup(split.info, device, distributed.Workers(0, 1))
    recorded = None
    if is_read:
        assert isinstance(training, DistillTraining)
        layout = recording.layout_of(training, split.info, setup.workers)
        recorded = torch.zeros(1, rows.width(layout))
    trained = assembly.build(job, setup, recorded)
    eval_network = copy.deepcopy(trained.networks[trained.network]).requires_grad_(False).eval()
    loop.apply_execution(trained, training, setup)
    start_sec = time.perf_counter() - started

    def step() -> None:
        loop.take_step(trained, trained.minibatches.step(0), training, setup.workers)

    steps: list[float] = []
    while len(steps) <= _STEPS and (sum(steps) < _ENOUGH_SEC or (len(steps) < 2 and sum(steps) < _LONG_SEC)):
        steps.append(_timed(step))
    evaluation_sec = _timed(lambda: trained.evaluate(eval_network))
    if evaluation_sec < _LONG_SEC:  # what the first spends on what is new counts
        evaluation_sec = _timed(lambda: trained.evaluate(eval_network))
    evaluation_sec *= num_val / split.info.counts["val"]
    state = distributed.gather_state(trained.networks, trained.optimizers)
    checkpoint_sec = _timed(lambda: checkpoint.save(folder, job.key, checkpoint.Progress(0, []), state))
    generator = getattr(training, "generator", None)
    macs = 0 if generator is None else cost.macs(networks.layers(generator, split.info))
    return Rate(
        macs, statistics.median(steps[1:] or steps) / batch, evaluation_sec + checkpoint_sec, start_sec
    )


def _timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes, until the GPU has done its part, too."""
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
