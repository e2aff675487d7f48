"""What a sweep will take: time from the rates of its trainings, memory and disk by counting."""

import heapq
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from raydistill.config.architectures import Generator
from raydistill.config.paths import message_of
from raydistill.config.training import StudentTraining
from raydistill.data import DataInfo
from raydistill.data.source import SPLITS
from raydistill.data.tensors import num_bytes
from raydistill.errors import StoreError
from raydistill.planning import memory, rehearsal
from raydistill.planning.plan import Plan
from raydistill.records import mirror
from raydistill.records.files import write_json_atomic
from raydistill.sweep.rates import FEATURES, Rates, kind_of, student_trainings
from raydistill.training import checkpoint

STAGES_START_SEC, FIRST_TRIAL_SEC, TRAINER_SEC, END_SEC = 17.0, 7.0, 16.0, 10.0
"""Seconds, measured once on two cores.

They are those of the start of evaluator and teacher, of the first inline trial, and of each trial by a
TorchTrainer, and those of the sweep's end.
"""
_FILES_BYTES = 100_000
"""Log and JSON of a trial."""
_SHEET, _AT_REPORT, _PNG_BYTES_A_PIXEL = 24, 6, 1.5
"""Pictures on the sheet of a trial and on that of each report, at most; bytes of a PNG's pixel, of photos."""


class Replicates(NamedTuple):
    """What replicates take at most: all that are allowed, each as expensive as the most expensive student."""

    total_sec: float
    device_hours: float
    disk_bytes: int


class Forecast(NamedTuple):
    """What one sweep will take."""

    source: str
    """Where the rates come from, as a sentence's end."""
    stages_sec: float
    """Seconds of evaluator and teacher; 0 where they are in the store."""
    trial_sec: tuple[float, float, float]
    """Seconds of a searched trial: the shortest, the mean and the longest."""
    trials_sec: float
    """Seconds of all trials, one after the other, with the recheck and all replicates."""
    total_sec: float
    """Seconds of the whole sweep, with as many trials at a time as are placed."""
    device_hours: float
    """GPU-hours where the trials use GPUs, else CPU-hours; evaluator and teacher included."""
    memory_bytes: int
    """Memory of one worker, at most."""
    disk_bytes: int
    replicates: "Replicates"
    """The part of the replicates in total, hours and disk."""


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
    """What the sweep of a plan will take.

    Args:
        at_a_time: trials that run at once.
        devices: GPUs, or CPUs where it uses none, of a trial.
        stage_devices: the same of evaluator and teacher.
        memory_bytes: memory of one worker of a trial.
        is_inline: whether trials run in Tune actors, not by a TorchTrainer each.
        stages_there: whether evaluator and teacher are in the store.
    """
    start_sec = 0.0 if is_inline else TRAINER_SEC
    students = [(training, macs, plan.may_read(training)) for training, macs in plan.students]
    choices = [rates.trial_sec(*each) + start_sec for each in students]
    mean = statistics.fmean(choices)
    trials = [
        rates.trial_sec(training, plan.costs_of(training)["cost/macs"], plan.may_read(training)) + start_sec
        for _, _, training in plan.baselines
    ]
    trials += [mean] * plan.options.trials
    trials = _with_first(plan, rates, trials, start_sec, at_a_time)
    _, recheck_workers = plan.sharing
    recheck = 0.0 if plan.options.skip_recheck else mean / recheck_workers + TRAINER_SEC
    recheck_devices = max(devices, recheck_workers * min(devices, 1))
    stages_sec = 0.0 if stages_there else _stages_sec(plan, rates)
    end_sec = END_SEC + _test_scoring_sec(plan, rates)
    repeated = [max(choices + trials)] * plan.options.replicates
    disk = disk_bytes(plan, at_a_time)
    replicates = Replicates(makespan(repeated, at_a_time), sum(repeated) * devices / 3600, disk.replicates)
    first_sec = FIRST_TRIAL_SEC if is_inline else 0.0
    total = stages_sec + first_sec + makespan(trials, at_a_time) + recheck + end_sec
    hours = (sum(trials) * devices + stages_sec * stage_devices + recheck * recheck_devices) / 3600
    return Forecast(
        source=rates.source,
        stages_sec=stages_sec,
        trial_sec=(min(choices), mean, max(choices)),
        trials_sec=sum(trials) + recheck + sum(repeated),
        total_sec=total + replicates.total_sec,
        device_hours=hours + replicates.device_hours,
        memory_bytes=memory_bytes,
        disk_bytes=disk.total,
        replicates=replicates,
    )


def _with_first(
    plan: Plan, rates: Rates, trials: Sequence[float], start_sec: float, at_a_time: int
) -> list[float]:
    """The seconds of all trials, where the first of each record train their teachers: as many as begin
    together, each as long as the mean of students that do."""
    if not plan.records.are_made:
        return [*trials]
    number = min(len(trials), at_a_time * len(plan.records.names))
    training_sec = statistics.fmean(rates.trial_sec(*each) for each in plan.students) + start_sec
    return [*(max(each, training_sec) for each in trials[:number]), *trials[number:]]


def _stages_sec(plan: Plan, rates: Rates) -> float:
    """Seconds of evaluator, teacher, and the feature network where it is trained."""
    evaluator, teacher = plan.experiment.evaluator, plan.experiment.teacher
    teacher_sec = rates.of("teacher", 0).job_sec(teacher) if plan.experiment.given_teacher is None else 0.0
    scoring_sec = 2 * rates.scoring_sec  # of the real pictures, once for all trials, and of the teacher's
    features_sec = 0.0
    if plan.experiment.trains_features:
        features_sec = rates.of(FEATURES, 0).job_sec(plan.experiment.features)
    trained_sec = rates.of("evaluator", 0).job_sec(evaluator) + features_sec + teacher_sec
    return STAGES_START_SEC + trained_sec + scoring_sec


def _test_scoring_sec(plan: Plan, rates: Rates) -> float:
    """Seconds in which networks from files score baselines, teacher and a front of a quarter of the trials on
    test, by one worker, where the real pictures are seen, too."""
    if plan.scoring is None:
        return 0.0
    counts, most = plan.info.counts, plan.scoring.num
    test, val = (min(counts[split], most or counts[split]) for split in ("test", "val"))
    sets = len(plan.baselines) + 2 + plan.options.trials / 4
    return sets * rates.scoring_sec * plan.options.workers_per_trial * test / val


def makespan(seconds: Sequence[float], at_a_time: int) -> float:
    """When the last one ends, in seconds, if each starts as soon as one of `at_a_time` places is free."""
    free = [0.0] * at_a_time
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


# ---- disk --------------------------------------------------------------------------------------------------


_COUNTED = 6
"""Students from the cheapest to the most expensive whose folders are counted."""


class Disk(NamedTuple):
    """Bytes that a sweep leaves on disk."""

    total: int
    """All trials, with their last checkpoints and a network each, the replicates, and the teacher's
    outputs, or records of teachers that train beside students."""
    replicates: int
    """The part of the replicates."""


def disk_bytes(plan: Plan, at_a_time: int) -> Disk:
    """Bytes that the sweep of a plan leaves on disk, by counting what a trial stores.

    Args:
        at_a_time: trials that run at once. So many have teachers in their checkpoints for each record of
            them; those that come later read it.
    """
    by_macs = [training for training, _ in sorted(plan.students, key=lambda student: student[1])]
    few = np.linspace(0, len(by_macs) - 1, min(_COUNTED, len(by_macs))).round().astype(int)
    records = plan.records
    counted = [by_macs[index] for index in few]
    students = _trials_bytes(plan, counted, reads=True)
    alone = _trials_bytes(plan, counted, reads=False) if records.are_made else students
    baselines = _trials_bytes(plan, [training for _, _, training in plan.baselines], reads=True)
    num_first = min(at_a_time * len(records.names), plan.options.trials) if records.are_made else 0
    first = int(num_first * (statistics.fmean(alone) - statistics.fmean(students)))
    beside = records.largest if records.are_made else 0  # another seed has another record
    replicates = plan.options.replicates * (max(alone + baselines) + beside)
    searched = int((plan.options.trials + 1) * statistics.fmean(students))
    stored = plan.outputs_bytes + records.num_bytes
    return Disk(searched + first + sum(baselines) + replicates + stored, replicates)


def _trials_bytes(plan: Plan, trainings: Sequence[StudentTraining], reads: bool) -> list[int]:
    """Bytes of each trial's folder: the networks of the result, the last checkpoints, and small files.

    A checkpoint has, in float32, weights and Adam's two moments of each network that learns, and the average;
    and pools of pictures.

    Args:
        reads: whether those that may read a record of their teachers do, and so have none.
    """
    folders = []
    buffers = _buffer_bytes(trainings[0].generator, plan.info) if trainings else 0  # widths hardly change it
    for training in trainings:
        beside = memory.beside(training, plan.info, reads and plan.may_read(training))
        generator = int(plan.costs_of(training)["cost/params"])
        moving = generator * (4 if training.ema_nimg else 3) + 3 * beside.learning
        every = max(training.report_every_nimg, training.batch_size)
        num_reports = math.ceil(training.budget_nimg / every)
        of_networks = (2 if training.ema_nimg else 1) * buffers
        checkpoints = min(checkpoint.KEPT, num_reports) * (4 * moving + of_networks + beside.resting)
        networks = 4 * generator + buffers + rehearsal.stored_beside_bytes(training, plan.info)
        folders.append(networks + checkpoints + _pictures_bytes(plan.info, num_reports) + _FILES_BYTES)
    return folders


def _buffer_bytes(config: Generator, info: DataInfo) -> int:
    """Bytes of what a generator stores beside its parameters, such as StyleGAN2's noise."""
    generator = rehearsal.generator_of(config, info)
    stored = sum(tensor.nbytes for tensor in generator.state_dict().values())
    return stored - sum(parameter.nbytes for parameter in generator.parameters())


def _pictures_bytes(info: DataInfo, num_reports: int) -> int:
    """Bytes of the pictures that a trial draws at its end and at its reports."""
    side = max(1, 96 // info.height)
    return int((_SHEET + num_reports * _AT_REPORT) * info.height * info.width * side**2 * _PNG_BYTES_A_PIXEL)


# ---- the file in the sweep's folder ------------------------------------------------------------------------


class _Content(NamedTuple):
    rates: Rates
    forecast: Forecast


_FILE = TypeAdapter(_Content, config=ConfigDict(allow_inf_nan=False))


def write(file: Path, rates: Rates, expected: Forecast) -> None:
    """Writes what a sweep began with, so that its end and a resume are set against the same numbers."""
    write_json_atomic(file, {"rates": rates._asdict(), "forecast": expected._asdict()})


def read(file: Path, plan: Plan) -> tuple[Rates, Forecast]:
    """What `write` wrote.

    Raises:
        StoreError: the file is damaged, of another shape, or lacks the rate of a training that the plan may
            have.
    """
    try:
        content = _FILE.validate_json(file.read_bytes())
    except OSError as error:
        raise StoreError(f"{file}: unreadable: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        where = f"{path}: " if path else ""
        raise StoreError(f"{file}: damaged or of another version: {where}{message_of(first)}") from error
    needed = {kind_of(training) for training in student_trainings(plan)}
    if missing := sorted(kind for kind in needed if not content.rates.rates.get(kind)):
        raise StoreError(f"{file}: damaged or of another version: no rate of {missing[0]!r}")
    return content.rates, content.forecast


def data_line(plan: Plan, num_nodes: int) -> str:
    """How the decoded data reach the nodes: from a folder that all see, or as a copy on each."""
    size = sum(num_bytes(plan.info, split) for split in SPLITS) / 2**30
    if (mirrored := mirror.mirrored_path(plan.store)) is None:
        return f"plan: {num_nodes} nodes read {size:.2f} GiB of decoded data in {plan.store}: all see it"
    return (
        f"plan: each of {num_nodes} nodes that gets a trial copies {size:.2f} GiB of decoded data from "
        f"{mirrored.url} to {mirrored.root}, once: {num_nodes * size:.2f} GiB at most"
    )
