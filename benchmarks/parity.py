"""Parity of all ways to carry out one training: `python benchmarks/parity.py`.

The same global batches are trained by 1, 2 and 3 workers, data-parallel, by FSDP2 with every network and
block split, in microbatches, with activation checkpointing, compiled, and in bfloat16. gloo on this machine,
one thread for each worker.

For each way it prints numbers of the last report, and ||w - w1|| / ||w1 - w0||: how far the final weights w
are from those of one worker, w1, in units of how far training moved them from the start, w0. Adam turns the
rounding of a gradient near 0 into a whole step.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from raydistill.config.base import Stored
from raydistill.config.data import ShapesData
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.data import prepare, read_info
from raydistill.models import networks, saved
from raydistill.training.loop import train
from raydistill.training.recipes import distill

SHARED = {"batch_size": 12, "budget_nimg": 96, "report_every_nimg": 96, "ema_nimg": 48}
STUDENT = {
    "optimizer.learning_rate": 1e-4,
    "mi.num_steps": 3,
    "mi.step_size": 10.0,
    "mi.energy.channels": 4,
    **SHARED,
}
TEACHER = {"optimizer.learning_rate": 1e-4, "discriminator_optimizer.learning_rate": 1e-4, **SHARED}
FSDP = {"execution.sharding": "fsdp", "execution.fsdp_min_params": 1}
BATCH_NORM = {"generator.norm": "batch"}
MODES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("data_parallel", (1, 2, 3), {}),
    ("fsdp", (1, 2, 3), FSDP),
    ("microbatch 2", (1, 2), {"execution.microbatch": 2}),
    ("activation_checkpointing", (1, 2), {"execution.activation_checkpointing": True}),
    (
        "fsdp, microbatch 2, activation_checkpointing",
        (2,),
        {**FSDP, "execution.microbatch": 2, "execution.activation_checkpointing": True},
    ),
    ("compile", (1, 2), {"execution.compile": True}),
    ("compile, fsdp", (2,), {**FSDP, "execution.compile": True}),
    ("compile, bfloat16", (1,), {"execution.compile": True, "precision": "bfloat16"}),
    ("bfloat16", (1, 2), {"precision": "bfloat16"}),
    ("batch norm", (1, 2, 3), BATCH_NORM),
    ("batch norm, fsdp", (2,), BATCH_NORM | FSDP),
]
LOSSES = {"pix2pix": "train/l1", "distill": "train/l1"}


def worker(rank: int, number: int, folder: Path, jobs: list[str]) -> None:
    """One of `number` workers: trains each job, given as "NAME JSON", in a folder of that name."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/init-{number}", rank=rank, world_size=number
    )
    for name, text in [job.split(" ", 1) for job in jobs]:
        result = train(Job.model_validate_json(text), report=lambda numbers: None, state_dir=folder / name)
        if rank == 0:
            torch.save(result.metrics, folder / name / "metrics.pt")
    dist.destroy_process_group()


def main() -> None:
    """Trains everything, and prints the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        jobs = all_jobs(folder)
        for number in (1, 2, 3):
            given = [
                f"{key} {job.model_dump_json()}" for key, (job, workers) in jobs.items() if workers == number
            ]
            mp.spawn(worker, (number, folder, given), nprocs=number)
        print(
            f"{'recipe':8} {'mode':46} {'workers':>7} {'final l1':>12} {'energy gap':>12} {'difference':>10}"
        )
        keys = iter(jobs)
        for recipe in LOSSES:
            for mode, workers, values in MODES:
                for number in workers:
                    key = next(keys)
                    metrics = torch.load(folder / key / "metrics.pt")
                    norm = "batch-norm" if "generator.norm" in values else "data_parallel"
                    apart = difference(folder / key, folder / f"{recipe}-{norm}-1", jobs[key][0])
                    gap = f"{metrics['energy/gap']:12.7f}" if "energy/gap" in metrics else " " * 12
                    loss = metrics[LOSSES[recipe]]
                    print(f"{recipe:8} {mode:46} {number:7} {loss:12.7f} {gap} {apart:10.1e}")


def difference(folder: Path, alone: Path, job: Job) -> float:
    """||w - w1|| / ||w1 - w0|| over the weights that the loss determines. `alone`: folder of one worker."""
    first, second = (load_file(place / "network" / "weights.safetensors") for place in (folder, alone))
    config: Any = job.training
    start = distill.initial_student(config, read_info(job.data)).state_dict()
    names = [name for name in first if name.endswith("weight")]  # an instance norm cancels biases before it
    w, w1, w0 = (torch.cat([state[name].flatten() for name in names]) for state in (first, second, start))
    return float((w - w1).norm() / (w1 - w0).norm())


def all_jobs(folder: Path) -> dict[str, tuple[Job, int]]:
    """Folder name -> (job, number of its workers), in the order of the table."""
    experiment = shapes32()
    data = prepare(ShapesData(num_train=96, num_val=12, num_test=2), folder)
    info = read_info(data)
    evaluator = saved.save(
        folder / "evaluator",
        "evaluator",
        networks.evaluator(experiment.evaluator.network, info, 0),
        experiment.evaluator.network,
    )
    generator = experiment.teacher.generator
    teacher = saved.save(folder / "teacher", "generator", networks.generator(generator, info, 1), generator)
    jobs: dict[str, tuple[Job, int]] = {}
    for recipe in LOSSES:
        for mode, workers, values in MODES:
            for number in workers:
                name = f"{recipe}-{mode.replace(', ', '-').replace(' ', '-')}-{number}"
                jobs[name] = (job_of(recipe, values, data, evaluator, teacher), number)
    return jobs


def job_of(recipe: str, values: dict[str, Any], data: Stored, evaluator: Stored, teacher: Stored) -> Job:
    """The job of a recipe with some config paths set, below `teacher` or `student`."""
    stage, shared = ("teacher", TEACHER) if recipe == "pix2pix" else ("student", STUDENT)
    given = {f"{stage}.{name}": value for name, value in (shared | values).items()}
    training = getattr(with_values(shapes32(), given, where="parity"), stage)
    return Job(
        training=training, data=data, evaluator=evaluator, teacher=teacher if stage == "student" else None
    )


if __name__ == "__main__":
    main()
