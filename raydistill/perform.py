"""One job: the ledger's promise around `train`, and judge and teacher as jobs that are trained once.

The promise: `result.json` is in the job's folder before its end is reported; a folder that has one is never trained again.
"""

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from raydistill import feed, memory, mirror, networks, parallel, results
from raydistill.config import DistillTraining, Experiment, Job, Stored
from raydistill.data import load_split, read_info
from raydistill.data.outputs import LIMIT_GB, chunk_of, load_outputs, store_outputs
from raydistill.errors import CheckpointError, DivergenceError, RunError
from raydistill.train import Report, train


class Stages(NamedTuple):
    """What every trial of a sweep shares."""

    judge: Stored
    teacher: Stored
    judge_result: dict[str, Any]
    teacher_result: dict[str, Any]


def perform(job: Job, folder: Path, report: Report, gpus: float = 1.0) -> dict[str, Any]:
    """Trains `job` in `folder`, or returns the result that is there. With a process group, called on every worker.

    `gpus`: what each worker has where there is a GPU.

    Divergence, which every worker sees alike, and one worker's lack of memory are results too (FAIL with a reason); any other error
    is raised.
    """
    for needed in (job.data, job.judge, job.teacher):
        if needed is not None:
            mirror.pull(Path(needed.path))
    mirror.pull(folder)
    if (found := results.read_result(folder)) is not None:
        if found["trial_key"] != job.key:
            raise CheckpointError(f"{folder}: holds the result of job {found['trial_key']}, not of {job.key}; remove the folder")
        return found
    workers = parallel.current()
    folder.mkdir(parents=True, exist_ok=True)

    def log_and_report(numbers: dict[str, Any]) -> None:
        if workers.is_main:
            with (folder / "log.txt").open("a") as file:
                file.write(" ".join(f"{name}={value:.5g}" for name, value in numbers.items()) + "\n")
            mirror.push(folder)
        report(numbers)

    result: dict[str, Any] = {
        "trial_key": job.key,
        "budget_nimg": job.training.budget_nimg,
        "hardware": _hardware(workers.number),
        "git_revision": git_revision(),
    }
    memory.start_peak()
    try:
        trained = train(job, report=log_and_report, state_dir=folder)
    except (DivergenceError, MemoryError, torch.OutOfMemoryError) as error:
        if workers.number > 1 and not isinstance(error, DivergenceError):
            raise  # the others wait for this worker: Ray Train ends them all
        result |= {"status": "FAIL", "reason": f"{type(error).__name__}: {error}"} | NOTHING_MEASURED
    else:
        result |= {
            "status": "COMPLETE",
            "reason": "",
            "nimg": trained.nimg,
            "metrics": trained.metrics,
            "evaluations": trained.evaluations,
            "wall_sec": trained.wall_sec,
            "gpu_sec": trained.wall_sec * workers.number * gpus if torch.cuda.is_available() else 0.0,
            "peak_memory_gb": memory.peak_gb(),
            "context": trained.context,
            "network": trained.network.model_dump() | {"path": "network"},
        }
    if workers.is_main and results.read_result(folder) is None:  # one that was stopped too late to notice is PRUNED, and stays so
        results.write_result(folder, result)
    if result["evaluations"]:
        log_and_report(result["evaluations"][-1])
    else:
        report({"nimg": result["nimg"]})  # Tune wants something of every trial
    return result


NOTHING_MEASURED: dict[str, Any] = {"nimg": 0, "metrics": {}, "evaluations": [], "wall_sec": 0.0, "gpu_sec": 0.0, "context": {}}


def network_of(folder: Path, result: dict[str, Any]) -> Stored:
    """The network that a COMPLETE trial left in its folder."""
    return Stored(path=str(folder / result["network"]["path"]), digest=result["network"]["digest"])


def train_stages(experiment: Experiment, data: Stored, cache: Path, report: Report, outputs_gb: float = LIMIT_GB) -> Stages:
    """Judge, then teacher, then the teacher's outputs where they need no more than `outputs_gb`: each once, under the key of what made it.

    Raises:
        RunError: one of them failed.
    """
    judge, judge_result = train_judge(experiment, data, cache, report)
    teacher_job = Job(training=experiment.teacher, data=data, judge=judge)
    teacher_folder = cache / "teacher" / teacher_job.key
    teacher_result = _completed(perform(teacher_job, teacher_folder, report), teacher_folder)
    teacher = network_of(teacher_folder, teacher_result)
    _store_outputs_once(teacher, data, experiment.student, outputs_gb)
    return Stages(judge, teacher, judge_result, teacher_result)


def train_judge(experiment: Experiment, data: Stored, cache: Path, report: Report) -> tuple[Stored, dict[str, Any]]:
    """The judge and its result: trained once and cached, as `train_stages` does. Raises RunError where it failed."""
    job = Job(training=experiment.judge, data=data)
    folder = cache / "judge" / job.key
    result = _completed(perform(job, folder, report), folder)
    return network_of(folder, result), result


def stages_done(experiment: Experiment, data: Stored, cache: Path) -> bool:
    """Whether `train_stages` would find everything there."""
    judge_job = Job(training=experiment.judge, data=data)
    judge_folder = cache / "judge" / judge_job.key
    mirror.pull(judge_folder)
    judge_result = results.read_result(judge_folder)
    if judge_result is None or judge_result["status"] != "COMPLETE":
        return False
    judge = network_of(judge_folder, judge_result)
    teacher_folder = cache / "teacher" / Job(training=experiment.teacher, data=data, judge=judge).key
    mirror.pull(teacher_folder)
    return results.read_result(teacher_folder) is not None


def _store_outputs_once(teacher: Stored, data: Stored, student: DistillTraining, limit_gb: float = LIMIT_GB) -> None:
    workers, flip, chunk = parallel.current(), student.flip, chunk_of(student.batch_size)
    latent = feed.latent_of(networks.generator_config(teacher))
    if workers.is_main and feed.repeats(load_split(data, "train"), latent) and load_outputs(teacher, data, flip, chunk) is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        store_outputs(teacher, data, networks.load(teacher, read_info(data), device), flip, device, limit_gb, chunk=chunk)
        mirror.push(Path(teacher.path))
    parallel.barrier(workers)


def _completed(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    if result["status"] != "COMPLETE":
        raise RunError(f"{folder}: {result['reason']}; correct the config, or remove that folder to try again")
    return result


@functools.cache
def git_revision() -> str:
    """Commit of the checkout the package runs from, `+` where it has changes; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain", "--", "."], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def _hardware(num_workers: int) -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{num_workers} x {device}"
