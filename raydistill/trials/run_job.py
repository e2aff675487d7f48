"""One job, trained with the promise that the ledger relies on.

The promise: `result.json` is in the job's folder before the end of the job is reported, and a folder that has
one is never trained again.
"""

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import raydistill
from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.errors import CheckpointError, DivergenceError
from raydistill.planning import memory
from raydistill.records import remote
from raydistill.records.trials import read_result, write_result
from raydistill.training.loop import Report, train

_SOURCE = Path(raydistill.__file__).parent


def perform(job: Job, folder: Path, report: Report, gpus: float = 1.0) -> dict[str, Any]:
    """Trains `job` in `folder`, or returns the result that is there. All workers of a process group call it.

    A divergence, which every worker sees alike, is a result, too: FAIL with a reason. So is the lack of
    memory of a single worker.

    Args:
        report: is given the numbers of each evaluation; the last one after the result is on disk.
        gpus: GPUs of each worker, where there are any; a fraction is a share of one.

    Returns:
        the content of result.json.

    Raises:
        CheckpointError: the folder has the result of another job, or a damaged checkpoint.
    """
    for needed in (job.data, job.evaluator, job.teacher):
        if needed is not None:
            remote.pull(Path(needed.path))
    remote.pull(folder)
    if (earlier := read_result(folder)) is not None:
        if earlier["trial_key"] != job.key:
            raise CheckpointError(
                f"{folder}: holds the result of job {earlier['trial_key']}, not of {job.key}; "
                "remove the folder"
            )
        return earlier
    workers = distributed.current()
    folder.mkdir(parents=True, exist_ok=True)

    def log_and_report(numbers: dict[str, Any]) -> None:
        if workers.is_main:
            with (folder / "log.txt").open("a") as file:
                file.write(" ".join(f"{name}={value:.5g}" for name, value in numbers.items()) + "\n")
            remote.push(folder)
        report(numbers)

    result = {
        "trial_key": job.key,
        "budget_nimg": job.training.budget_nimg,
        "hardware": _hardware(workers.number),
        "git_revision": git_revision(),
        **_outcome(job, folder, log_and_report, workers.number, gpus),
    }
    # A trial that was stopped too late to notice it is PRUNED by now, and stays so.
    if workers.is_main and read_result(folder) is None:
        write_result(folder, result)
    if result["evaluations"]:
        log_and_report(result["evaluations"][-1])
    else:
        report({"nimg": result["nimg"]})  # Ray Tune demands a report of every trial
    return result


def _outcome(job: Job, folder: Path, report: Report, num_workers: int, gpus: float) -> dict[str, Any]:
    """How the training ended: its part of the result."""
    memory.start_peak()
    try:
        trained = train(job, report=report, state_dir=folder)
    except (DivergenceError, MemoryError, torch.OutOfMemoryError) as error:
        if num_workers > 1 and not isinstance(error, DivergenceError):
            raise  # the other workers wait for this one: Ray Train ends them all
        return {"status": "FAIL", "reason": f"{type(error).__name__}: {error}"} | NOTHING_MEASURED
    return {
        "status": "COMPLETE",
        "reason": "",
        "nimg": trained.nimg,
        "metrics": trained.metrics,
        "evaluations": trained.evaluations,
        "wall_sec": trained.wall_sec,
        "gpu_sec": trained.wall_sec * num_workers * gpus if torch.cuda.is_available() else 0.0,
        "peak_memory_gb": memory.peak_gb(),
        "context": trained.context,
        "network": trained.network.model_dump() | {"path": "network"},
    }


NOTHING_MEASURED: dict[str, Any] = {
    "nimg": 0,
    "metrics": {},
    "evaluations": [],
    "wall_sec": 0.0,
    "gpu_sec": 0.0,
    "context": {},
}
"""Part of the result of a job that ended before its first evaluation."""


@functools.cache
def git_revision() -> str:
    """Commit of the checkout that the package runs from, `+` where it has changes; "" outside a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changes = _git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=_SOURCE, capture_output=True, text=True, check=True).stdout.strip()


def _hardware(num_workers: int) -> str:
    device = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return f"{num_workers} x {device}"
