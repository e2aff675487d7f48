"""Mutual-information terms against none at equal time: `python benchmarks/terms.py --out FILE.jsonl`.

Every candidate gets the seconds that a student without a term needs for --nimg images. The cost of a step is
measured first, in turns, and gives the number of images. Seconds are those that the process computes (CPU
time), so that other work on the machine takes nothing from a candidate. Embedded set, one thread. FILE has
one line for each candidate and seed; what is in FILE is not trained again.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raydistill.config import presets
from raydistill.config.base import Stored
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.training import DistillTraining
from raydistill.data import prepare, read_info
from raydistill.distributed import Workers
from raydistill.training import assembly
from raydistill.training.loop import take_step
from raydistill.training.recipes import Setup
from raydistill.trials.run_job import perform
from raydistill.trials.stages import Stages, train_stages

VEM = {
    "student.terms.mi.kind": "vem",
    "student.terms.mi.step_size": 1.0,
    "student.terms.mi.energy.channels": 8,
}
CANDIDATES: dict[str, dict[str, Any]] = {
    "no term": {"student.terms.mi.weight": 0.0},
    "published": {
        **VEM,
        "student.terms.mi.start": "student",
        "student.terms.mi.num_steps": 10,
        "student.terms.mi.weight": 0.1,
    },
    "other, K 3, weight 0.03": {
        **VEM,
        "student.terms.mi.start": "other",
        "student.terms.mi.num_steps": 3,
        "student.terms.mi.weight": 0.03,
    },
    "other, K 3, weight 0.1": {
        **VEM,
        "student.terms.mi.start": "other",
        "student.terms.mi.num_steps": 3,
        "student.terms.mi.weight": 0.1,
    },
    "other, K 3, weight 0.3": {
        **VEM,
        "student.terms.mi.start": "other",
        "student.terms.mi.num_steps": 3,
        "student.terms.mi.weight": 0.3,
    },
    "other, K 0, weight 0.1": {
        **VEM,
        "student.terms.mi.start": "other",
        "student.terms.mi.num_steps": 0,
        "student.terms.mi.weight": 0.1,
    },
    "vid, weight 0.3": {"student.terms.mi.kind": "vid", "student.terms.mi.weight": 0.3},
    "vid, weight 1": {"student.terms.mi.kind": "vid", "student.terms.mi.weight": 1.0},
    "critic, weight 0.1": {"student.terms.mi.kind": "critic", "student.terms.mi.weight": 0.1},
    "critic, weight 1": {"student.terms.mi.kind": "critic", "student.terms.mi.weight": 1.0},
}
SEEDS, ROUNDS, STEPS = (0, 1, 2), 5, 6


def training_of(name: str, **values: Any) -> DistillTraining:
    """The config of a candidate. `values`: config paths below `student`."""
    extra = {f"student.{key}": value for key, value in values.items()}
    return with_values(shapes32(), CANDIDATES[name] | extra, where="benchmark").student


def seconds_a_step(data: Stored, stages: Stages) -> dict[str, float]:
    """Candidate -> CPU seconds of a step: medians over rounds in which every candidate has its turn."""
    setup = Setup(read_info(data), torch.device("cpu"), Workers(0, 1))
    jobs = {
        name: Job(training=training_of(name), data=data, evaluator=stages.evaluator, teacher=stages.teacher)
        for name in CANDIDATES
    }
    built = {name: assembly.build(job, setup) for name, job in jobs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for round_number in range(ROUNDS + 1):
        for name, recipe in built.items():
            started, training = time.process_time(), jobs[name].training
            for number in range(STEPS):
                step = recipe.minibatches.step(number * training.batch_size)
                take_step(recipe, step, training, setup.workers)
            if round_number:  # the first one warms up
                seconds[name].append((time.process_time() - started) / STEPS)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of means over the seeds."""
    heads = (
        "term",
        "images",
        "CPU s",
        "val mIoU of the seeds",
        "mean",
        "standard error",
        "val fd_evaluator",
        "alignment",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in CANDIDATES:
        here = [row for row in rows if row["name"] == name]
        if here:
            mean = {
                key: float(np.mean([row[key] for row in here]))
                for key in ("sec", "val/fd_evaluator", "alignment")
                if key in here[0]
            }
            miou = [row["val/miou"] for row in here]
            cells = [
                name,
                f"{here[0]['nimg']:,}",
                f"{mean['sec']:.0f}",
                " ".join(f"{value:.4f}" for value in miou),
                f"{np.mean(miou):.4f}",
                f"{np.std(miou, ddof=1) / len(miou) ** 0.5:.4f}" if len(miou) > 1 else "",
                f"{mean['val/fd_evaluator']:.4f}",
                f"{mean['alignment']:+.3f}" if "alignment" in mean else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what the file lacks, then prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nimg", type=int, default=8_000, help="images of the student without a term")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    experiment, cache = presets.shapes32(), given.out.with_suffix(".cache")
    data = prepare(experiment.data, cache / "data")
    stages = train_stages(experiment, data, cache, lambda numbers: None)
    costs_file = cache / "seconds.json"  # kept, so that a resumed run gives every candidate the same time
    costs = json.loads(costs_file.read_text()) if costs_file.exists() else seconds_a_step(data, stages)
    costs_file.write_text(json.dumps(costs))
    print({name: f"{seconds * 1e3:.1f} ms" for name, seconds in costs.items()}, flush=True)
    for seed in SEEDS:
        for name, seconds in costs.items():
            batch_size = experiment.student.batch_size
            nimg = max(1, round(given.nimg * costs["no term"] / seconds / batch_size)) * batch_size
            if any((row["name"], row["seed"], row["nimg"]) == (name, seed, nimg) for row in rows):
                continue
            training = training_of(name, seed=seed, budget_nimg=nimg, report_every_nimg=nimg)
            job = Job(training=training, data=data, evaluator=stages.evaluator, teacher=stages.teacher)
            started = time.process_time()
            result = perform(job, cache / "students" / job.key, lambda numbers: None)
            if result.status != "COMPLETE":
                raise SystemExit(f"{name}, seed {seed}: {result.reason}")
            metrics = result.metrics
            row = {"name": name, "seed": seed, "nimg": nimg, "sec": time.process_time() - started}
            row |= {key: metrics[key] for key in ("val/miou", "val/fd_evaluator", "val/kd_evaluator")}
            if "energy/alignment" in metrics:
                row["alignment"] = metrics["energy/alignment"]
            rows.append(row)
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
