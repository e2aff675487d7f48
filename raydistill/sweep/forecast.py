"""What a sweep will take, before it starts: time by a few real steps, or by a rate that is given; memory and disk by counting.

Measured on this machine, on the first pictures of the data, by networks of random weights: a step's time does not depend on them. One
student at each end of the space is measured, with the mutual-information term and without it where the space has both; between them time
is linear in MACs.
"""

import copy
import heapq
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from raydistill import distributed, plugins
from raydistill.config.base import Stored
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, GeneratorTraining, Training
from raydistill.data import load_split, read_info
from raydistill.data.outputs import chunk_of, outputs_bytes, store_outputs
from raydistill.errors import StoreError
from raydistill.models import cost, networks, saved
from raydistill.models.inputs import latent_size, repeats
from raydistill.planning.meta_networks import other_networks
from raydistill.planning.plan import RECHECK_WORKERS, Plan
from raydistill.records.files import write_json_atomic
from raydistill.training import checkpoint, loop, recipes
from raydistill.training.recipes import Setup

_STEPS, _ENOUGH_SEC = 3, 1.0
"""After one that is not counted, so many steps are timed, or fewer where they take long."""
_NUM_VAL = 64
STAGES_START_SEC, FIRST_TRIAL_SEC, TRAINER_SEC, END_SEC = 17.0, 7.0, 16.0, 10.0
"""Start of evaluator and teacher; of the first inline trial; of each trial by a TorchTrainer; the end: measured once on two cores."""
_FILES_BYTES = 150_000
"""Log, samples and JSON of a trial."""


class Rate(NamedTuple):
    """Of one worker among those that share a training."""

    macs: float
    """Of the generator; 0: it has none."""
    image_sec: float
    """Of an image of the whole batch, with its share of the optimiser step."""
    report_sec: float = 0.0
    """Of an evaluation on all of val, with its checkpoint."""
    start_sec: float = 0.0

    def job_sec(self, training: Training) -> float:
        reports = math.ceil(training.budget_nimg / training.report_every_nimg)
        return self.start_sec + training.budget_nimg * self.image_sec + reports * self.report_sec


class Rates(NamedTuple):
    source: str
    """Where they come from, for people."""
    rates: dict[str, list[Rate]]
    """evaluator, teacher, student, student with MI, without a teacher -> rates in the order of MACs."""

    def of(self, kind: str, macs: float) -> Rate:
        """Linear in MACs between the first and the last, and on beyond them; no time is negative."""
        first, last = self.rates[kind][0], self.rates[kind][-1]
        part = 0.0 if last.macs == first.macs else (macs - first.macs) / (last.macs - first.macs)
        return Rate(macs, *(max(0.0, a + part * (b - a)) for a, b in zip(first[1:], last[1:], strict=True)))

    def trial_sec(self, training: DistillTraining | GeneratorTraining, macs: float) -> float:
        return self.of(kind_of(training), macs).job_sec(training)


def kind_of(training: DistillTraining | GeneratorTraining) -> str:
    if not isinstance(training, DistillTraining):
        return "without a teacher"
    return "student with MI" if training.mi.weight else "student"


class Replicates(NamedTuple):
    """An upper bound: as many as are allowed, each as expensive as the most expensive student there may be."""

    total_sec: float
    device_hours: float
    disk_bytes: int


class Forecast(NamedTuple):
    """Seconds, bytes and hours of one sweep."""

    source: str
    stages_sec: float
    """Evaluator and teacher; 0: they are in the store."""
    trial_sec: tuple[float, float, float]
    """Least, mean and most of a searched trial."""
    trials_sec: float
    """Of all trials, one after the other, with the recheck and all replicates."""
    total_sec: float
    """Of the whole sweep, with so many trials at a time as are placed."""
    device_hours: float
    """GPU-hours where the trials use GPUs, else CPU-hours; evaluator and teacher included."""
    memory_bytes: int
    """Of one worker, at most."""
    disk_bytes: int
    replicates: "Replicates"
    """Their part of total, hours and disk."""


# ---- measuring ---------------------------------------------------------------------------------------------


def rates(plan: Plan, *, stage_workers: int, cpus: float) -> Rates:
    """Given by --seconds-per-image, else measured: on a GPU by a process of its own, whose memory is free again afterwards."""
    given = plan.options.seconds_per_image
    if given is not None:
        kinds = ("evaluator", "teacher", "student", "student with MI", "without a teacher")
        return Rates(
            f"--seconds-per-image {given:g}, for every network", {kind: [Rate(0, given)] for kind in kinds}
        )
    if not torch.cuda.is_available():
        found = _measure_all(plan, stage_workers, cpus)
    else:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(_measure_apart, plugins.to_json(), plan, stage_workers, cpus).result()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    return Rates(f"up to {_STEPS} real steps of each kind of training on this machine ({where})", found)


def _measure_apart(plugins_json: str, plan: Plan, stage_workers: int, cpus: float) -> dict[str, list[Rate]]:
    plugins.load_json(plugins_json)
    return _measure_all(plan, stage_workers, cpus)


def _measure_all(plan: Plan, stage_workers: int, cpus: float) -> dict[str, list[Rate]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, math.ceil(cpus - 1e-9)))
    try:
        with tempfile.TemporaryDirectory(prefix="raydistill-") as temporary:
            folder, found = Path(temporary), dict[str, list[Rate]]()
            for kind, (jobs, workers) in _jobs(plan, stage_workers, folder).items():
                measured = [
                    _measure(job, workers, plan.info.counts["val"], folder / f"{kind}-{n}")
                    for n, job in enumerate(jobs)
                ]
                found[kind] = sorted(measured)
            return found
    finally:
        torch.set_num_threads(threads)


def _jobs(plan: Plan, stage_workers: int, folder: Path) -> dict[str, tuple[list[Job], int]]:
    """Kind -> (jobs to measure, workers that share each)."""
    experiment, options = plan.experiment, plan.options
    data = _first_pictures(plan, folder / "data")
    info = read_info(data)
    evaluator = saved.save(
        folder / "evaluator",
        "evaluator",
        networks.evaluator(experiment.evaluator.network, info, 0),
        experiment.evaluator.network,
    )
    config = experiment.teacher.generator
    teacher = saved.save(folder / "teacher", "generator", networks.generator(config, info, 0), config)
    if _outputs_bytes(plan):
        device, student = torch.device("cuda" if torch.cuda.is_available() else "cpu"), experiment.student
        network, chunk = saved.load(teacher, info, device), chunk_of(student.batch_size)
        store_outputs(teacher, data, network, student.flip, device, chunk=chunk)
    jobs: dict[str, tuple[list[Job], int]] = {
        "evaluator": ([Job(training=experiment.evaluator, data=data)], stage_workers)
    }
    if experiment.teacher.budget_nimg:
        jobs["teacher"] = ([Job(training=experiment.teacher, data=data, evaluator=evaluator)], stage_workers)
    for training in [training for training, _ in _ends(plan)]:
        needed = teacher if isinstance(training, DistillTraining) else None
        jobs.setdefault(kind_of(training), ([], options.workers_per_trial))[0].append(
            Job(training=training, data=data, evaluator=evaluator, teacher=needed)
        )
    return jobs


def _ends(plan: Plan) -> list[tuple[DistillTraining | GeneratorTraining, float]]:
    """Of each kind of trial the cheapest and the most expensive that there may be, with their MACs."""
    ends: list[tuple[DistillTraining | GeneratorTraining, float]] = []
    found = [
        *plan.students,
        *((training, plan.costs_of(training)["cost/macs"]) for _, _, training in plan.baselines),
    ]
    for kind in dict.fromkeys(kind_of(training) for training, _ in found):
        same = sorted((pair for pair in found if kind_of(pair[0]) == kind), key=lambda pair: pair[1])
        ends += [same[0], same[-1]] if same[0][1] < same[-1][1] else same[:1]
    return ends


def _first_pictures(plan: Plan, folder: Path) -> Stored:
    """A copy of the data that ends after a batch of training pictures and 64 of val."""
    info, most = (
        plan.info,
        max(getattr(plan.experiment, stage).batch_size for stage in ("evaluator", "teacher", "student")),
    )
    counts: dict[Any, int] = {
        "train": min(most, info.counts["train"]),
        "val": min(_NUM_VAL, info.counts["val"]),
        "test": 1,
    }
    folder.mkdir()
    for split in ("train", "val"):
        for path in Path(plan.data.path).glob(f"{split}_*.npy"):
            np.save(folder / path.name, np.load(path, mmap_mode="r")[: counts[split]])
    given = info.input_counts and {
        split: min(number, info.input_counts[split]) for split, number in counts.items()
    }
    few = info.model_copy(update={"counts": counts, "input_counts": given, "digest": "calibration"})
    (folder / "info.json").write_text(few.model_dump_json())
    return Stored(path=str(folder), digest="calibration")


def _measure(job: Job, num_workers: int, num_val: int, folder: Path) -> Rate:
    """Steps of one worker's share of the batch, an evaluation and a checkpoint, as `train` has them."""
    started = time.perf_counter()
    batch = job.training.batch_size
    training = job.training.model_copy(update={"batch_size": max(1, batch // num_workers)})
    job = job.model_copy(update={"training": training})
    split = load_split(job.data, "train")
    setup = Setup(
        split.info, torch.device("cuda" if torch.cuda.is_available() else "cpu"), distributed.Workers(0, 1)
    )
    recipe = recipes.build(job, setup)
    finished = copy.deepcopy(recipe.networks[recipe.network]).requires_grad_(False).eval()
    loop.apply_execution(recipe, training, setup)
    start_sec = time.perf_counter() - started
    steps: list[float] = []
    while len(steps) <= _STEPS and (len(steps) < 2 or sum(steps) < _ENOUGH_SEC):
        steps.append(
            _timed(
                lambda: loop.take_step(
                    recipe, loop.next_step(split, training, 0, setup), training, setup.workers
                )
            )
        )
    recipe.evaluate(finished)
    evaluation_sec = _timed(lambda: recipe.evaluate(finished)) * num_val / split.info.counts["val"]
    optimizers = {phase.network: phase.optimizer for phase in recipe.phases}
    state = distributed.gather_state(recipe.networks, optimizers)
    checkpoint_sec = _timed(lambda: checkpoint.save(folder, job.key, checkpoint.Progress(0, []), state))
    generator = getattr(training, "generator", None)
    macs = 0 if generator is None else cost.macs(networks.layers(generator, split.info))
    return Rate(macs, statistics.median(steps[1:]) / batch, evaluation_sec + checkpoint_sec, start_sec)


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


# ---- adding up ---------------------------------------------------------------------------------------------


def forecast(
    plan: Plan,
    rates: Rates,
    *,
    at_a_time: int,
    devices: float,
    stage_devices: float,
    memory_bytes: int,
    is_inline: bool,
    stages_there: bool,
) -> Forecast:
    """Args:
    memory_bytes: of one worker.
    at_a_time: trials.
    devices: GPUs, or CPUs, of a trial; `stage_devices`: of evaluator and teacher.
    stages_there: evaluator and teacher are in the store.
    """
    experiment = plan.experiment
    start_sec = 0.0 if is_inline else TRAINER_SEC
    choices = [rates.trial_sec(training, macs) + start_sec for training, macs in plan.students]
    mean = statistics.fmean(choices)
    trials = [
        rates.trial_sec(training, plan.costs_of(training)["cost/macs"]) + start_sec
        for _, _, training in plan.baselines
    ]
    trials += [mean] * plan.options.trials
    recheck = mean / RECHECK_WORKERS + TRAINER_SEC
    stages_sec = 0.0
    if not stages_there:
        teacher = (
            rates.of("teacher", 0).job_sec(experiment.teacher) if experiment.teacher.budget_nimg else 0.0
        )
        stages_sec = STAGES_START_SEC + rates.of("evaluator", 0).job_sec(experiment.evaluator) + teacher
    repeated = [max(choices + trials)] * plan.options.replicates
    disk = disk_bytes(plan)
    replicates = Replicates(makespan(repeated, at_a_time), sum(repeated) * devices / 3600, disk.replicates)
    total = (
        stages_sec + (FIRST_TRIAL_SEC if is_inline else 0.0) + makespan(trials, at_a_time) + recheck + END_SEC
    )
    hours = (
        sum(trials) * devices
        + stages_sec * stage_devices
        + recheck * max(devices, RECHECK_WORKERS * min(devices, 1))
    ) / 3600
    return Forecast(
        rates.source,
        stages_sec,
        (min(choices), mean, max(choices)),
        sum(trials) + recheck + sum(repeated),
        total + replicates.total_sec,
        hours + replicates.device_hours,
        memory_bytes,
        disk.total,
        replicates,
    )


def makespan(seconds: Sequence[float], at_a_time: int) -> float:
    """When the last ends, if each starts in its turn as soon as one of `at_a_time` places is free."""
    free = [0.0] * at_a_time
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


class Disk(NamedTuple):
    total: int
    """What trials, baselines, recheck and at most all replicates leave, a checkpoint and a network each, and the teacher's outputs."""
    replicates: int
    """Of that, at most."""


def disk_bytes(plan: Plan) -> Disk:
    students = [_trial_bytes(plan, training) for training, _ in plan.students]
    baselines = [_trial_bytes(plan, training) for _, _, training in plan.baselines]
    replicates = plan.options.replicates * max(students + baselines)
    searched = int((plan.options.trials + 1) * statistics.fmean(students))
    return Disk(searched + sum(baselines) + replicates + _outputs_bytes(plan), replicates)


def _trial_bytes(plan: Plan, training: DistillTraining | GeneratorTraining) -> int:
    """float32: weights and Adam's two moments of each network that learns, the average, the finished network, pools of pictures."""
    learning, pools = other_networks(training, plan.info)
    generator = int(plan.costs_of(training)["cost/params"]) * (5 if training.ema_nimg else 4)
    return 4 * (generator + 3 * sum(map(cost.module_params, learning))) + pools + _FILES_BYTES


def _outputs_bytes(plan: Plan) -> int:
    """Of the teacher's stored outputs; 0: they are not stored."""
    split = load_split(plan.data, "train")
    latent = latent_size(plan.experiment.teacher.generator)
    needed = outputs_bytes(split, plan.experiment.student.flip) if repeats(split, latent) else 0
    return needed if needed <= plan.options.teacher_cache_gb * 2**30 else 0


# ---- kept with the sweep -----------------------------------------------------------------------------------


class _Kept(NamedTuple):
    rates: Rates
    forecast: Forecast


_KEPT = TypeAdapter(_Kept, config=ConfigDict(allow_inf_nan=False))


def write(file: Path, rates: Rates, expected: Forecast) -> None:
    write_json_atomic(file, {"rates": rates._asdict(), "forecast": expected._asdict()})


def read(file: Path, plan: Plan) -> tuple[Rates, Forecast]:
    """What `write` wrote. Raises StoreError where the file is damaged, of another shape, or lacks the rate of a training that may come."""
    try:
        found = _KEPT.validate_json(file.read_bytes())
    except OSError as error:
        raise StoreError(f"{file}: unreadable: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"{file}: damaged or of another version: {path}{': ' if path else ''}{first['msg']}"
        ) from error
    needed = {
        kind_of(training)
        for training in [*(each for each, _ in plan.students), *(each for _, _, each in plan.baselines)]
    }
    if missing := sorted(kind for kind in needed if not found.rates.rates.get(kind)):
        raise StoreError(f"{file}: damaged or of another version: no rate of {missing[0]!r}")
    return found.rates, found.forecast
