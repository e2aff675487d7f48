"""One job, trained with the promise that the ledger relies on.

The promise: `result.json` is in the job's folder before the end of the job is reported, and a folder that has
one is never trained again.
"""

import functools
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import raydistill
from raydistill import distributed
from raydistill.config.base import Stored
from raydistill.config.experiment import Job
from raydistill.errors import CheckpointError, DivergenceError, RunError, say_notice
from raydistill.models import saved
from raydistill.records import remote
from raydistill.records.trials import Evaluation, Network, TrialResult, read_result, write_result
from raydistill.training.given import score_given
from raydistill.training.loop import Report, train

_SOURCE = Path(raydistill.__file__).parent


def perform(job: Job, folder: Path, report: Report, gpus: float = 1.0) -> TrialResult:
    """Trains `job` in `folder`, or returns the result that is there. All workers of a process group call it.

    Where that result's network is damaged, it is made again, from the last checkpoint where there is one. A
    divergence, which every worker sees alike, is a result, too: FAIL with a reason. So is the lack of
    memory of a single worker.

    Args:
        report: is given each evaluation; the last one after the result is on disk.
        gpus: GPUs of each worker, where there are any; a fraction is a share of one.

    Returns:
        the result, as it is on disk.

    Raises:
        CheckpointError: the folder has the result or a checkpoint of another job.
        RunError: a damaged network could not be made again; the result stays as it is.
    """
    for needed in job.needed.values():
        remote.pull(Path(needed.path))
    remote.pull(folder)
    workers = distributed.current()
    if (earlier := _own_result(job, folder)) is not None and is_network_whole(folder, earlier):
        return earlier
    folder.mkdir(parents=True, exist_ok=True)

    def log_and_report(evaluation: Evaluation) -> None:
        if workers.is_main:
            _log(folder, " ".join(f"{name}={value:.5g}" for name, value in evaluation.to_json().items()))
            remote.push(folder)
        report(evaluation)

    def say(line: str) -> None:
        if workers.is_main:
            _log(folder, line)
            say_notice(line)

    if earlier is not None:
        say(f"{folder}: the network is missing or damaged; it is made again")
    result = TrialResult(
        trial_key=job.key,
        budget_nimg=0 if job.is_given else job.training.budget_nimg,
        hardware=_hardware(workers.number),
        git_revision=git_revision(),
        **_outcome(job, folder, log_and_report, say, workers.number, gpus),
    )
    if earlier is not None:
        result = _made_again(earlier, result, folder)
    # A trial that was stopped too late to notice it is PRUNED by now, and stays so.
    if workers.is_main and result is not earlier and read_result(folder) == earlier:
        write_result(folder, result)
    if result.evaluations:
        log_and_report(result.evaluations[-1])
    else:  # Ray Tune demands a report of every trial
        report(Evaluation(nimg=result.nimg, wall_sec=result.wall_sec, numbers={}))
    return result


def _own_result(job: Job, folder: Path) -> TrialResult | None:
    """The result in a job's folder. Raises CheckpointError where it is that of another job."""
    result = read_result(folder)
    if result is not None and result.trial_key != job.key:
        raise CheckpointError(
            f"{folder}: holds the result of job {result.trial_key}, not of {job.key}; "
            "remove result.json and checkpoint-* there: it is then trained"
        )
    return result


def _made_again(earlier: TrialResult, result: TrialResult, folder: Path) -> TrialResult:
    """The result of a folder whose network was damaged: the earlier one, if the network is the same again.

    Raises:
        RunError: the training failed this time. The earlier result stays.
    """
    if result.status != "COMPLETE":
        raise RunError(f"{folder}: its network, which is damaged, was not made again: {result.reason}")
    is_same = earlier.network == result.network and earlier.discriminator in (None, result.discriminator)
    return earlier if is_same else result


def _log(folder: Path, line: str) -> None:
    with (folder / "log.txt").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def is_network_whole(folder: Path, result: TrialResult) -> bool:
    """Whether the networks of a trial's result are in its folder, undamaged; True where it has none to have.

    They are the one that was trained for, and a generator's discriminator where the result names it.
    """
    if result.status != "COMPLETE":
        return True
    if result.network is None or not saved.is_whole(network_of(folder, result)):
        return False
    discriminator = discriminator_of(folder, result)
    return discriminator is None or saved.is_whole(discriminator)


def network_of(folder: Path, result: TrialResult) -> Stored:
    """The network that a COMPLETE trial left in its folder."""
    assert result.network is not None
    return Stored(path=str(folder / result.network.path), digest=result.network.digest)


def discriminator_of(folder: Path, result: TrialResult) -> Stored | None:
    """The discriminator that a trial left in its folder; None: it has left none."""
    if (written := result.discriminator) is None:
        return None
    return Stored(path=str(folder / written.path), digest=written.digest)


def _outcome(
    job: Job, folder: Path, report: Report, say: Callable[[str], None], num_workers: int, gpus: float
) -> dict[str, Any]:
    """How the training ended: its fields of the result."""
    try:
        if job.is_given:
            trained = score_given(job, state_dir=folder)
        else:
            trained = train(job, report=report, state_dir=folder, say=say)
    except (DivergenceError, MemoryError, torch.OutOfMemoryError) as error:
        if num_workers > 1 and not isinstance(error, DivergenceError):
            raise  # the other workers wait for this one: Ray Train ends them all
        return {"status": "FAIL", "reason": f"{type(error).__name__}: {error}"} | NOTHING_MEASURED
    discriminator = {}
    if (written := trained.beside.get("discriminator")) is not None:
        discriminator = {"discriminator": Network(path="discriminator", digest=written.digest)}
    return {
        "status": "COMPLETE",
        "reason": "",
        "nimg": trained.nimg,
        "metrics": trained.metrics,
        "evaluations": trained.evaluations,
        "wall_sec": trained.wall_sec,
        "gpu_sec": trained.wall_sec * num_workers * gpus if torch.cuda.is_available() else 0.0,
        "peak_memory_gb": trained.peak_memory_gb,
        "context": trained.context,
        "network": Network(path="network", digest=trained.network.digest),
        **discriminator,
    }


NOTHING_MEASURED: dict[str, Any] = {
    "nimg": 0,
    "metrics": {},
    "evaluations": [],
    "wall_sec": 0.0,
    "gpu_sec": 0.0,
    "context": {},
}
"""Fields of the result of a job that ended before its first evaluation."""


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
