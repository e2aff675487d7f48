"""What Ray and several workers cost: `python benchmarks/overhead.py frameworks`, `workers` or `ceiling`.

The same student is trained in several lanes at once that take turns, a chunk of images each, so that a
machine that slows down slows all of them. One thread for each worker.

frameworks  a plain loop over the phases; a trial in a reused Tune actor; a TorchTrainer of one worker
workers     a TorchTrainer of one worker and one of two, with the same batch for each worker
ceiling     two processes without Ray: one alone, both at once, both as a group

A chunk ends with an evaluation in every lane, and with a checkpoint and a report in all but the plain loop.
The first chunk of a lane is not counted. Start-up, imports included, lasts until the first step; for the
later trials of Tune it begins at the end of the trial before.
"""

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from raydistill import distributed
from raydistill.cluster import runtime
from raydistill.config.data import ShapesData
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.data import prepare, read_info
from raydistill.data.outputs import chunk_of, store_outputs
from raydistill.distributed import Workers
from raydistill.models import networks, saved
from raydistill.records.trials import Evaluation
from raydistill.training import assembly, loop
from raydistill.training.recipes import Setup
from raydistill.trials.run_job import perform

ROUNDS = {"frameworks": 7, "workers": 5, "ceiling": 5}
STEPS = 10
"""Of a turn in `ceiling`."""
CHUNK_NIMG = 512
"""A worker and turn."""


class Lane:
    """One training among several, in its own process: it notes what happens, and waits for its turns."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name, self.resumed = folder, name, time.perf_counter()
        self.take_step = loop.take_step
        loop.take_step = self.first_step

    def first_step(self, *args: Any) -> Any:
        """Stands in for `loop.take_step` once, to note when training begins."""
        loop.take_step = self.take_step
        self.note("first step")
        return self.take_step(*args)

    def note(self, event: str, sec: float = 0.0) -> None:
        """Appends an event to the file of the lane. `sec`: how long it took, where it has a length."""
        if distributed.current().is_main:
            with (self.folder / f"{self.name}.jsonl").open("a") as file:
                file.write(json.dumps({"event": event, "time": time.time(), "sec": sec}) + "\n")

    def chunk_ended(self) -> None:
        """Gives the turn back, and waits for the next one."""
        if (
            distributed.current().is_main and (self.folder / "turn").read_text() == self.name
        ):  # at the end the turn is everybody's
            (self.folder / "turn").write_text("nobody")
        self.note("chunk", time.perf_counter() - self.resumed)
        distributed.barrier(distributed.current())  # the turn was given back before any worker looks at it
        while (self.folder / "turn").read_text() not in (self.name, "everybody"):
            time.sleep(0.02)
        self.resumed = time.perf_counter()


def bare(folder: Path, name: str, text: str) -> None:
    """The plain loop: no `train`, no checkpoint, no report. `text`: the job as JSON."""
    torch.set_num_threads(1)
    lane, job = Lane(folder, name), Job.model_validate_json(text)
    setup = Setup(read_info(job.data), torch.device("cpu"), distributed.current())
    recipe = assembly.build(job, setup)
    nimg = 0
    while nimg < job.training.budget_nimg:
        loop.take_step(recipe, recipe.minibatches.step(nimg), job.training, setup.workers)
        nimg += job.training.batch_size
        if loop.is_report_due(nimg, job.training):
            network = recipe.networks[recipe.network]
            recipe.evaluate(network.eval())
            network.train()
            lane.chunk_ended()


def in_tune(config: dict[str, Any]) -> None:
    """A trial of Ray Tune."""
    from ray import tune

    _perform(config["lane"], tune.report)


def in_train(config: dict[str, Any]) -> None:
    """A worker of a TorchTrainer."""
    import ray.train

    _perform(config, ray.train.report)


def _perform(config: dict[str, Any], report: Any) -> None:
    torch.set_num_threads(1)
    lane = Lane(Path(config["folder"]), config["name"])

    def report_and_wait(evaluation: Evaluation) -> None:
        report(evaluation.to_json())
        if config["takes_turns"]:
            lane.chunk_ended()

    perform(Job.model_validate_json(config["job"]), lane.folder / lane.name, report_and_wait)
    lane.note("ended")


class Referee:
    """Starts lanes and gives them their turns, by files in a folder."""

    def __init__(self, folder: Path):
        self.folder, self.pool, self.lanes = folder, ThreadPoolExecutor(4), list[Future[None]]()
        self.turn("nobody")

    def turn(self, name: str) -> None:
        """Says whose turn it is: the name of a lane, "nobody" or "everybody"."""
        (self.folder / "turn").write_text(name)

    def start(self, call: Callable[..., None], *args: Any) -> float:
        """Starts a lane in a thread; returns when, as Unix time."""
        asked = time.time()
        self.lanes.append(self.pool.submit(call, self.folder, *args))
        return asked

    def events(self, name: str, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Events of a lane so far, once there are `count` of them. Raises what a lane has raised."""
        path = self.folder / f"{name}.jsonl"
        while True:
            lines = path.read_text().splitlines() if path.exists() else []
            found = [entry for entry in map(json.loads, lines) if entry["event"] == event]
            if len(found) >= count:
                return found
            for lane in self.lanes:
                if lane.done():
                    lane.result()
                    raise RuntimeError(f"a lane ended before {name}: {event}")
            time.sleep(0.02)

    def when(self, name: str, event: str) -> float:
        """Unix time of the first such event of a lane, once there is one."""
        return float(self.events(name, event)[0]["time"])

    def take_turns(self, names: list[str], rounds: int) -> dict[str, list[float]]:
        """Seconds of the chunks of each lane, which take turns; then lets all lanes run to their ends.

        The first chunk of each lane is left out: it ran alone.
        """
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(2, rounds + 2):
            for name in names:
                self.turn(name)
                seconds[name].append(self.events(name, "chunk", number)[-1]["sec"])
            print("         ", {name: round(chunks[-1], 3) for name, chunks in seconds.items()}, flush=True)
        self.turn("everybody")
        for lane in self.lanes:
            lane.result()
        return seconds


def bare_lane(folder: Path, job: Job) -> None:
    """The plain loop in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(
        target=bare, args=(folder, "bare", job.model_dump_json())
    )
    process.start()
    process.join()


def tune_lane(folder: Path, job: Job, short: Job) -> None:
    """Two short trials, then the lane itself, in one reused actor."""
    from ray import tune

    trials = [
        {"name": f"inline {index}", "job": short.model_dump_json(), "takes_turns": False} for index in (1, 2)
    ]
    trials.append({"name": "inline", "job": job.model_dump_json(), "takes_turns": True})
    tune.Tuner(
        tune.with_resources(in_tune, {"cpu": 0.2}),
        param_space={"lane": tune.grid_search([{"folder": str(folder), **lane} for lane in trials])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()


def train_lane(folder: Path, name: str, job: Job, num_workers: int) -> None:
    """A TorchTrainer of `num_workers` workers."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    TorchTrainer(
        in_train,
        train_loop_config={
            "folder": str(folder),
            "name": name,
            "job": job.model_dump_json(),
            "takes_turns": True,
        },
        scaling_config=ScalingConfig(num_workers=num_workers, resources_per_worker={"CPU": 0.2}),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(name=name.replace(" ", "-"), storage_path=str(folder / "train")),
    ).fit()


def jobs_of(folder: Path, rounds: int) -> list[Job]:
    """The lanes' job for one worker, the one for two, and a short one. `rounds`: turns of each lane."""
    experiment = with_values(shapes32(), {"student.ema_nimg": 0}, where="overhead")
    data = prepare(ShapesData(num_train=1024, num_val=64), folder / "data")
    info = read_info(data)
    evaluator = saved.save(
        folder / "evaluator",
        "evaluator",
        networks.evaluator(experiment.evaluator.network, info, 0),
        experiment.evaluator.network,
    )
    generator = networks.generator(experiment.teacher.generator, info, 0)
    teacher = saved.save(folder / "teacher", "generator", generator, experiment.teacher.generator)
    store_outputs(
        teacher, data, generator, False, torch.device("cpu"), chunk=chunk_of(experiment.student.batch_size)
    )
    jobs = []
    for workers, chunks in ((1, rounds + 2), (2, rounds + 2), (1, 0)):
        nimg = {
            "budget_nimg": max(16, CHUNK_NIMG * workers * chunks),
            "report_every_nimg": CHUNK_NIMG * workers,
            "batch_size": 16 * workers,
        }
        jobs.append(
            Job(
                training=experiment.student.model_copy(update=nimg),
                data=data,
                evaluator=evaluator,
                teacher=teacher,
            )
        )
    return jobs


def main() -> None:
    """The command line: one argument, the part."""
    part = sys.argv[1]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        jobs = jobs_of(Path(temporary), ROUNDS[part])
        if part == "ceiling":
            mp.spawn(ceiling, (Path(temporary), [job.model_dump_json() for job in jobs]), nprocs=2)
            return
        runtime.start_ray(dashboard=False)
        try:
            (frameworks if part == "frameworks" else workers)(Referee(Path(temporary)), *jobs)
        finally:
            runtime.stop_ray()


def frameworks(referee: Referee, job: Job, job_of_two: Job, short: Job) -> None:
    """Prints start-up and speed of the plain loop, of Tune and of a TorchTrainer."""
    referee.turn("bare")
    asked = referee.start(bare_lane, job)
    started = {"bare": referee.when("bare", "first step") - asked}
    referee.events("bare", "chunk")
    referee.turn("inline")
    asked = referee.start(tune_lane, job, short)
    started["inline, first trial"] = referee.when("inline 1", "first step") - asked
    started["inline, second trial"] = referee.when("inline 2", "first step") - referee.when(
        "inline 1", "ended"
    )
    started["inline, third trial"] = referee.when("inline", "first step") - referee.when("inline 2", "ended")
    referee.events("inline", "chunk")
    referee.turn("TorchTrainer")
    asked = referee.start(train_lane, "TorchTrainer", job, 1)
    started["TorchTrainer"] = referee.when("TorchTrainer", "first step") - asked
    referee.events("TorchTrainer", "chunk")
    for name, sec in started.items():
        print(f"start-up  {name:22} {sec:6.1f} s", flush=True)
    seconds = referee.take_turns(["bare", "inline", "TorchTrainer"], ROUNDS["frameworks"])
    for name, chunks in seconds.items():
        against = statistics.median(
            chunk / plain for chunk, plain in zip(chunks, seconds["bare"], strict=True)
        )
        print(
            f"steady    {name:22} {CHUNK_NIMG / statistics.median(chunks):6.1f} images/s   time / bare: "
            f"{against:.3f}"
        )


def workers(referee: Referee, job: Job, job_of_two: Job, short: Job) -> None:
    """Prints start-up and speed of one worker and of two, and the efficiency of two."""
    for name, given, number in (("1 worker", job, 1), ("2 workers", job_of_two, 2)):
        referee.turn(name)
        asked = referee.start(train_lane, name, given, number)
        print(f"start-up  {name:10} {referee.when(name, 'first step') - asked:6.1f} s", flush=True)
        referee.events(name, "chunk")
    seconds = referee.take_turns(["1 worker", "2 workers"], ROUNDS["workers"])
    for number, (name, chunks) in enumerate(seconds.items(), 1):
        print(f"steady    {name:10} {number * CHUNK_NIMG / statistics.median(chunks):6.1f} images/s")
    efficiencies = [one / two for one, two in zip(seconds["1 worker"], seconds["2 workers"], strict=True)]
    print(f"efficiency of 2 workers: median {statistics.median(efficiencies):.3f}")


def ceiling(rank: int, folder: Path, jobs: list[str]) -> None:
    """Two processes without Ray: the first alone, both at once with nothing in common, both as a group.

    They take steps only, in turns. `rank`: of this process; `jobs`: JSON, for one worker and for two.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    runs: dict[str, Callable[[], None]] = {}
    for name, text, group in (
        ("alone", jobs[0], Workers(0, 1)),
        ("at once", jobs[0], Workers(0, 1)),
        ("as a group", jobs[1], Workers(rank, 2)),
    ):
        runs[name] = steps_of(Job.model_validate_json(text), group)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS["ceiling"] + 1):
        for name, run in runs.items():
            dist.barrier()
            started = time.perf_counter()
            if rank == 0 or name != "alone":
                run()
            dist.barrier()
            seconds[name].append(time.perf_counter() - started)
    for name in runs if rank == 0 else ():
        shares = [one / two for one, two in zip(seconds["alone"][1:], seconds[name][1:], strict=True)]
        print(
            f"{name:12} {statistics.median(seconds[name][1:]):6.2f} s   efficiency: median "
            f"{statistics.median(shares):.3f}",
            shares,
        )
    dist.destroy_process_group()


def steps_of(job: Job, group: Workers) -> Callable[[], None]:
    """A function that takes `STEPS` steps of a training."""
    setup = Setup(read_info(job.data), torch.device("cpu"), group)
    recipe = assembly.build(job, setup)

    def run() -> None:
        for number in range(STEPS):
            step = recipe.minibatches.step(number * job.training.batch_size)
            loop.take_step(recipe, step, job.training, group)

    return run


if __name__ == "__main__":
    main()
