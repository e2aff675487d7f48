"""One job: the ledger's promise around `train`, and evaluator and teacher as jobs that are trained once.

The promise: `result.json` is in the job's folder before its end is reported; a folder that has one is never trained again.
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
    """Trains `job` in `folder`, or returns the result that is there. With a process group, called on every worker.

    `gpus`: what each worker has where there is a GPU.

    Divergence, which every worker sees alike, and one worker's lack of memory are results too (FAIL with a reason); any other error
    is raised.
    """
    for needed in (job.data, job.evaluator, job.teacher):
        if needed is not None:
            remote.pull(Path(needed.path))
    remote.pull(folder)
    if (found := read_result(folder)) is not None:
        if found["trial_key"] != job.key:
            raise CheckpointError(
                f"{folder}: holds the result of job {found['trial_key']}, not of {job.key}; remove the folder"
            )
        return found
    workers = distributed.current()
    folder.mkdir(parents=True, exist_ok=True)

    def log_and_report(numbers: dict[str, Any]) -> None:
        if workers.is_main:
            with (folder / "log.txt").open("a") as file:
                file.write(" ".join(f"{name}={value:.5g}" for name, value in numbers.items()) + "\n")
            remote.push(folder)
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
    if (
        workers.is_main and read_result(folder) is None
    ):  # one that was stopped too late to notice is PRUNED, and stays so
        write_result(folder, result)
    if result["evaluations"]:
        log_and_report(result["evaluations"][-1])
    else:
        report({"nimg": result["nimg"]})  # Tune wants something of every trial
    return result


NOTHING_MEASURED: dict[str, Any] = {
    "nimg": 0,
    "metrics": {},
    "evaluations": [],
    "wall_sec": 0.0,
    "gpu_sec": 0.0,
    "context": {},
}


@functools.cache
def git_revision() -> str:
    """Commit of the checkout that the package runs from, with `+` where the package has changes; "" outside a checkout."""
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
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    return f"{num_workers} x {device}"
