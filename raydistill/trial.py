"""Ray Train: the same jobs, sharded over the workers of a TorchTrainer."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from raydistill import results
from raydistill.config import Experiment, Job, Stored
from raydistill.errors import ConfigError, RunError
from raydistill.perform import perform, train_stages


def train_stages_sharded(experiment: Experiment, data: Stored, cache: Path, num_workers: int, watch: Callable[[], None]) -> None:
    """`train_stages` by a TorchTrainer; the caller finds the results in the cache. `watch` is called every two seconds meanwhile."""
    config = {"experiment": experiment.model_dump_json(), "data": data.model_dump_json(), "cache": str(cache)}
    _fit(_stages_loop, config, cache / "ray", num_workers, watch=watch)


def perform_sharded(job: Job, folder: Path, num_workers: int, *, worker_cpus: float = 1.0, in_tune: bool = False) -> dict[str, Any]:
    """`perform` on several workers, by a TorchTrainer. `in_tune`: pass the workers' reports on to Ray Tune."""
    config = {"job": job.model_dump_json(), "folder": str(folder)}
    _fit(_trial_loop, config, folder / "ray", num_workers, worker_cpus, [TuneReportCallback()] if in_tune else [])
    result = results.read_result(folder)
    if result is None:
        raise RunError(f"{folder}: Ray Train ended without a result; see the logs below {folder / 'ray'}")
    return result


def _trial_loop(config: dict[str, str]) -> None:
    _set_up_worker()
    perform(Job.model_validate_json(config["job"]), Path(config["folder"]), _report_to_train)


def _stages_loop(config: dict[str, str]) -> None:
    _set_up_worker()
    experiment, data = Experiment.model_validate_json(config["experiment"]), Stored.model_validate_json(config["data"])
    train_stages(experiment, data, Path(config["cache"]), _report_to_train)


def _set_up_worker() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())
    torch.set_num_threads(1)


def _report_to_train(numbers: dict[str, Any]) -> None:
    ray.train.report(numbers)


def _fit(
    loop: Callable[[dict[str, str]], None],
    config: dict[str, str],
    storage: Path,
    num_workers: int,
    worker_cpus: float = 1.0,
    callbacks: Sequence[UserCallback] = (),
    watch: Callable[[], None] = lambda: None,
) -> None:
    available = ray.cluster_resources().get("CPU", 0)
    if num_workers * worker_cpus > available:
        raise ConfigError(f"{num_workers} workers need {num_workers * worker_cpus:g} CPUs, Ray has {available:g}; ask for fewer workers")
    use_gpu = ray.cluster_resources().get("GPU", 0) >= num_workers
    trainer = TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": worker_cpus, "GPU": 1} if use_gpu else {"CPU": worker_cpus},
        ),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo"),
        run_config=RunConfig(
            name=f"attempt-{len(list(storage.glob('*'))) + 1}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=1),
            callbacks=list[Any](callbacks),
        ),
    )
    # On the main thread Ray Train would replace the handler of Ctrl-C, for good; in a thread of its own it leaves it alone.
    pool = ThreadPoolExecutor(1)
    try:
        fit = pool.submit(trainer.fit)
        while not wait([fit], timeout=2).done:
            watch()
        fit.result()
    except TrainingFailedError as error:
        raise RunError(f"{storage.parent}: Ray Train gave up: {_cause(error)}; see log.txt and {storage}") from error
    finally:
        pool.shutdown(wait=False)


def _cause(error: TrainingFailedError) -> str:
    """The last line of what the first worker raised."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    return str(failures[0]).strip().splitlines()[-1]
