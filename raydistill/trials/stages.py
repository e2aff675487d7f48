"""What every trial of a sweep shares: the evaluator and the teacher, each trained once and kept in the cache."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from raydistill import distributed
from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment, Job
from raydistill.config.training import DistillTraining
from raydistill.data import load_split, read_info
from raydistill.data.outputs import LIMIT_GB, chunk_of, load_outputs, store_outputs
from raydistill.errors import RunError
from raydistill.models import saved
from raydistill.models.inputs import latent_size, repeats
from raydistill.records import remote
from raydistill.records.trials import read_result
from raydistill.training.loop import Report
from raydistill.trials.run_job import perform


class Stages(NamedTuple):
    """What every trial of a sweep shares."""

    evaluator: Stored
    teacher: Stored
    evaluator_result: dict[str, Any]
    teacher_result: dict[str, Any]


def network_of(folder: Path, result: dict[str, Any]) -> Stored:
    """The network that a COMPLETE trial left in its folder."""
    return Stored(path=str(folder / result["network"]["path"]), digest=result["network"]["digest"])


def train_stages(
    experiment: Experiment, data: Stored, cache: Path, report: Report, outputs_gb: float = LIMIT_GB
) -> Stages:
    """Evaluator, then teacher, then the teacher's outputs where they need no more than `outputs_gb`: each once, under the key of what made it.

    Raises:
        RunError: one of them failed.
    """
    evaluator, evaluator_result = train_evaluator(experiment, data, cache, report)
    teacher_job = Job(training=experiment.teacher, data=data, evaluator=evaluator)
    teacher_folder = cache / "teacher" / teacher_job.key
    teacher_result = _completed(perform(teacher_job, teacher_folder, report), teacher_folder)
    teacher = network_of(teacher_folder, teacher_result)
    _store_outputs_once(teacher, data, experiment.student, outputs_gb)
    return Stages(evaluator, teacher, evaluator_result, teacher_result)


def train_evaluator(
    experiment: Experiment, data: Stored, cache: Path, report: Report
) -> tuple[Stored, dict[str, Any]]:
    """The evaluator and its result: trained once and cached, as `train_stages` does. Raises RunError where it failed."""
    job = Job(training=experiment.evaluator, data=data)
    folder = cache / "evaluator" / job.key
    result = _completed(perform(job, folder, report), folder)
    return network_of(folder, result), result


def stages_done(experiment: Experiment, data: Stored, cache: Path) -> bool:
    """Whether `train_stages` would find everything there."""
    evaluator_job = Job(training=experiment.evaluator, data=data)
    evaluator_folder = cache / "evaluator" / evaluator_job.key
    remote.pull(evaluator_folder)
    evaluator_result = read_result(evaluator_folder)
    if evaluator_result is None or evaluator_result["status"] != "COMPLETE":
        return False
    evaluator = network_of(evaluator_folder, evaluator_result)
    teacher_folder = cache / "teacher" / Job(training=experiment.teacher, data=data, evaluator=evaluator).key
    remote.pull(teacher_folder)
    return read_result(teacher_folder) is not None


def _store_outputs_once(
    teacher: Stored, data: Stored, student: DistillTraining, limit_gb: float = LIMIT_GB
) -> None:
    workers, flip, chunk = distributed.current(), student.flip, chunk_of(student.batch_size)
    latent = latent_size(saved.generator_config(teacher))
    if (
        workers.is_main
        and repeats(load_split(data, "train"), latent)
        and load_outputs(teacher, data, flip, chunk) is None
    ):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        store_outputs(
            teacher, data, saved.load(teacher, read_info(data), device), flip, device, limit_gb, chunk=chunk
        )
        remote.push(Path(teacher.path))
    distributed.barrier(workers)


def _completed(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    if result["status"] != "COMPLETE":
        raise RunError(
            f"{folder}: {result['reason']}; correct the config, or remove that folder to try again"
        )
    return result
