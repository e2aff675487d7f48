"""Ray Train: the same jobs, sharded over the workers of a TorchTrainer."""

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from raydistill import plugins
from raydistill.cluster import causes
from raydistill.cluster.placement import Group
from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment, Job
from raydistill.config.scoring import Scoring
from raydistill.errors import RunError
from raydistill.records import remote
from raydistill.records.trials import Evaluation, read_result
from raydistill.trials.run_job import perform
from raydistill.trials.stages import train_stages


def train_stages_sharded(
    experiment: Experiment,
    data: Stored,
    cache: Path,
    outputs_gb: float,
    group: Group,
    watch: Callable[[], None],
    scoring: Scoring | None = None,
) -> None:
    """Runs `train_stages` on the workers of `group`, by a TorchTrainer. Its results are in the cache then.

    Args:
        cache: folder of evaluators and teachers in the store.
        outputs_gb: the teacher's outputs are stored where they need no more, in GiB.
        watch: called every two seconds meanwhile; what it raises ends the wait.
        scoring: what scores the teacher beside the evaluator.

    Raises:
        RunError: Ray Train gave up.
    """
    config: dict[str, Any] = {"experiment": experiment.model_dump_json(), "data": data.model_dump_json()}
    config |= {"cache": str(cache), "outputs_gb": outputs_gb}
    config |= {"scoring": None if scoring is None else scoring.model_dump_json()}
    _fit(_stages_loop, config, cache / "ray", group, watch)


def perform_sharded(
    job: Job, folder: Path, group: Group, watch: Callable[[], None] = lambda: None, *, in_tune: bool = False
) -> None:
    """Runs `perform` on the workers of `group`, by a TorchTrainer. Its result is in `folder` then.

    Args:
        watch: called every two seconds meanwhile; what it raises ends the wait.
        in_tune: whether this is a trial of Ray Tune, which the workers' reports are passed on to.

    Raises:
        RunError: Ray Train gave up, or there is no result.
    """
    config = {"job": job.model_dump_json(), "folder": str(folder)}
    if in_tune:
        # Tune starts a trial again itself. A controller that may do so, too, can take the end of the workers
        # of a stopped trial for a failure, and leave behind resources for new ones that nobody gives back.
        _fit(_trial_loop, config, folder / "ray", group, watch, [TuneReportCallback()], max_failures=0)
    else:
        _fit(_trial_loop, config, folder / "ray", group, watch)
    remote.pull(folder)
    if read_result(folder) is None:
        raise RunError(f"{folder}: Ray Train ended without a result; see the logs below {folder / 'ray'}")


def _trial_loop(config: dict[str, Any]) -> None:
    _set_up_worker(config)
    gpus = Group(*config["group"]).gpus
    perform(Job.model_validate_json(config["job"]), Path(config["folder"]), _report_to_train, gpus)


def _stages_loop(config: dict[str, Any]) -> None:
    _set_up_worker(config)
    experiment = Experiment.model_validate_json(config["experiment"])
    data = Stored.model_validate_json(config["data"])
    text = config["scoring"]
    scoring = None if text is None else Scoring.model_validate_json(text)
    train_stages(experiment, data, Path(config["cache"]), _report_to_train, config["outputs_gb"], scoring)


def _set_up_worker(config: dict[str, Any]) -> None:
    plugins.load_json(config["plugins"])
    set_up_process(Group(*config["group"]))
    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())


def set_up_process(group: Group) -> None:
    """Limits a process that trains to the threads and GPUs of a worker of `group`.

    It also lets it keep fewer compiled kernels, as it may train students of many widths.
    """
    # A training has some hundred kernels. Of the default, 1,024, each takes about a MiB.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    torch.set_num_threads(max(1, math.ceil(group.cpus - 1e-9)))
    if group.gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides no GPU from a process that asked for none
    elif group.gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(group.gpus)  # a process that needs more fails alone


def _report_to_train(evaluation: Evaluation) -> None:
    ray.train.report(evaluation.to_json())


def _fit(
    loop: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    storage: Path,
    group: Group,
    watch: Callable[[], None],
    callbacks: Sequence[UserCallback] = (),
    max_failures: int = 1,
) -> None:
    """Runs `loop(config)` on every worker of `group`. `storage`: folder that Ray Train writes to.

    Raises:
        RunError: it failed more than `max_failures` times.
    """
    use_gpu = group.gpus > 0
    resources = {"CPU": group.cpus, "GPU": group.gpus} if use_gpu else {"CPU": group.cpus}
    # nccl refuses two workers on one GPU; gloo takes tensors of either device.
    with_nccl = use_gpu and (group.workers == 1 or group.gpus >= 1)
    trainer = TorchTrainer(
        loop,
        train_loop_config=config | {"group": list(group), "plugins": plugins.to_json()},
        scaling_config=ScalingConfig(
            num_workers=group.workers, use_gpu=use_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if with_nccl else "gloo"),
        run_config=RunConfig(
            name=time.strftime("attempt-%Y-%m-%d-%H-%M-%S"),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=list[Any](callbacks),
            **remote.ray_storage(storage),
        ),
    )
    # On the main thread Ray Train would replace the handler of Ctrl-C for good; in another it does not.
    pool = ThreadPoolExecutor(1)
    try:
        fit = pool.submit(trainer.fit)
        while not wait([fit], timeout=2).done:
            watch()
        fit.result()
    except (TrainingFailedError, RayError) as error:
        message = f"{storage.parent}: Ray Train gave up: {_cause(error)}; see log.txt and {storage}"
        raise RunError(message) from error
    finally:
        pool.shutdown(wait=False)


def _cause(error: TrainingFailedError | RayError) -> str:
    """Why the first worker failed, or the process that leads them, in one line."""
    if isinstance(error, RayError):
        return f"of the process that leads the workers: {causes.reason(error)}"
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    return causes.reason(failures[0])
