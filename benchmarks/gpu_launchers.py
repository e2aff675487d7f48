"""Who starts the workers of `benchmarks/gpu_nodes.py`: Ray, as a sweep does, or processes of this machine."""

import contextlib
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from raydistill.config.experiment import Job
from raydistill.trials.run_job import perform

Watch = Callable[[], None]
"""Called every two seconds at least while workers train; what it raises ends the wait."""


class Launcher(Protocol):
    """Trains jobs; results lie in their folders then. A folder that has one is not trained again."""

    def together(self, job: Job, folder: Path, workers: int) -> None:
        """One job by several workers, a GPU each."""

    def at_once(self, jobs: Sequence[Job], folders: Sequence[Path]) -> None:
        """Several jobs of one worker each, on one GPU."""


# ---- Ray ---------------------------------------------------------------------------------------------------


class ByRay:
    """Workers of a TorchTrainer, and tasks."""

    def __init__(self, backend: str, workers: int, watch: Watch):
        from raydistill.cluster.placement import Group

        self.watch, self.gpus = watch, 1.0 if backend == "nccl" else 0.0
        self.cpus = min(4.0, 0.9 * (os.cpu_count() or 1) / workers)
        self.group = Group

    def together(self, job: Job, folder: Path, workers: int) -> None:
        """One job by several workers, a GPU each."""
        from raydistill.cluster.ray_train import perform_sharded

        perform_sharded(job, folder, self.group(workers, self.cpus, self.gpus), self.watch)

    def at_once(self, jobs: Sequence[Job], folders: Sequence[Path]) -> None:
        """Several jobs of one worker each; Ray puts shares of a GPU on one as long as they fit."""
        import ray

        group = self.group(1, self.cpus / len(jobs), self.gpus / len(jobs))

        # A function of a function: Ray's workers get it whole, as they cannot import this file.
        def trial(text: str, folder: str) -> list[Any]:
            from raydistill.cluster.ray_train import set_up_process
            from raydistill.trials.run_job import perform

            set_up_process(group)
            perform(Job.model_validate_json(text), Path(folder), lambda evaluation: None, group.gpus)
            return list(ray.get_gpu_ids())

        task = ray.remote(num_cpus=group.cpus, num_gpus=group.gpus, max_retries=0)(trial)
        running = [task.remote(job.model_dump_json(), str(folder)) for job, folder in zip(jobs, folders)]
        waiting = running
        while waiting:
            self.watch()
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=2)
        if len({tuple(ids) for ids in ray.get(running)}) > 1:
            raise RuntimeError("Ray has put the trials on several GPUs: nothing was packed")


@contextlib.contextmanager
def by_ray(backend: str, workers: int, watch: Watch) -> Iterator[Launcher]:
    """A Ray that listens on loopback, or the cluster of RAY_ADDRESS; left or ended afterwards."""
    from raydistill.cluster import runtime

    runtime.start_ray(dashboard=False)
    try:
        yield ByRay(backend, workers, watch)
    finally:
        runtime.stop_ray()


# ---- processes ---------------------------------------------------------------------------------------------


class ByProcesses:
    """Processes of this machine."""

    def __init__(self, backend: str, workers: int, watch: Watch):
        self.backend, self.watch = backend, watch
        self.threads = max(1, math.floor((os.cpu_count() or 1) / workers))
        self.count = 0
        preloaded = ["raydistill.trials.run_job", "torch._dynamo"]
        multiprocessing.get_context("forkserver").set_forkserver_preload(preloaded)

    def together(self, job: Job, folder: Path, workers: int) -> None:
        """One job by several workers, a GPU each."""
        folder.mkdir(parents=True, exist_ok=True)
        self.count += 1
        file = folder / f"init-{os.getpid()}-{self.count}"
        self._run(
            _in_group,
            (workers, self.backend, self.threads, str(file), job.model_dump_json(), str(folder)),
            workers,
        )

    def at_once(self, jobs: Sequence[Job], folders: Sequence[Path]) -> None:
        """Several jobs of one worker each, on one GPU."""
        texts, names = [job.model_dump_json() for job in jobs], [str(folder) for folder in folders]
        self._run(_alone, (self.backend, self.threads, texts, names), len(jobs))

    def _run(self, function: Callable[..., None], args: tuple[Any, ...], number: int) -> None:
        """`function(rank, *args)` in so many processes, which end with the wait for them."""
        context = mp.start_processes(function, args, number, join=False, start_method="forkserver")
        try:
            while not context.join(timeout=1):
                self.watch()
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()
                process.join()


def _set_up(backend: str, threads: int, gpu: int) -> None:
    torch.set_num_threads(threads)
    if backend == "gloo":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        torch.cuda.set_device(gpu)


def _in_group(rank: int, workers: int, backend: str, threads: int, file: str, text: str, folder: str) -> None:
    """A worker of a process group."""
    _set_up(backend, threads, rank)
    both = "cpu:gloo,cuda:nccl" if backend == "nccl" else "gloo"
    dist.init_process_group(both, init_method=f"file://{file}", rank=rank, world_size=workers)
    perform(Job.model_validate_json(text), Path(folder), lambda evaluation: None)
    dist.destroy_process_group()


def _alone(rank: int, backend: str, threads: int, texts: list[str], folders: list[str]) -> None:
    """A trial on the first GPU, which others may be on."""
    _set_up(backend, threads, 0)
    perform(Job.model_validate_json(texts[rank]), Path(folders[rank]), lambda evaluation: None)


@contextlib.contextmanager
def by_processes(backend: str, workers: int, watch: Watch) -> Iterator[Launcher]:
    """Processes of this machine, without Ray."""
    yield ByProcesses(backend, workers, watch)


LAUNCHERS = {"ray": by_ray, "processes": by_processes}
"""By the value of `--launcher`."""
