"""Mutual-information terms against none at equal time: `python benchmarks/terms.py --out FILE.jsonl`.

Every candidate gets the seconds that a student without a term needs for --nimg images. The cost of a step is
measured first, in turns, and gives the number of images. Seconds are those that the process computes (CPU
time), so that other work on the machine takes nothing from a candidate. Embedded set, one thread.

Terms are tuned with equal effort: each kind has four weights, three seeds each, of which val mIoU chooses
one. The choice, the published term and no term are then trained with five seeds that chose nothing, and
compared on test. FILE has one line for each candidate and seed; what is in FILE is not trained again.
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
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.models import saved
from raydistill.training import assembly
from raydistill.training.loop import take_step
from raydistill.training.recipes import Setup
from raydistill.trials.run_job import network_of, perform
from raydistill.trials.stages import Stages, train_stages

VEM = {
    "student.terms.mi.kind": "vem",
    "student.terms.mi.step_size": 1.0,
    "student.terms.mi.energy.channels": 8,
}
NONE, PUBLISHED = "no term", "published"
KINDS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "VEM, other, K 3": (
        {**VEM, "student.terms.mi.start": "other", "student.terms.mi.num_steps": 3},
        (0.01, 0.03, 0.1, 0.3),
    ),
    "VID": ({"student.terms.mi.kind": "vid"}, (0.1, 0.3, 1.0, 3.0)),
    "critic": ({"student.terms.mi.kind": "critic"}, (0.003, 0.01, 0.03, 0.1)),
}
"""Kind of a term -> its values, and the weights that are tried."""
CANDIDATES: dict[str, dict[str, Any]] = {
    NONE: {"student.terms.mi.weight": 0.0},
    PUBLISHED: {
        **VEM,
        "student.terms.mi.start": "student",
        "student.terms.mi.num_steps": 10,
        "student.terms.mi.weight": 0.1,
    },
    **{
        f"{kind}, weight {weight:g}": {**values, "student.terms.mi.weight": weight}
        for kind, (values, weights) in KINDS.items()
        for weight in weights
    },
}
SEEDS, FRESH_SEEDS, ROUNDS, STEPS = (0, 1, 2), (10, 11, 12, 13, 14), 5, 6


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
    """A Markdown table of means over the seeds that tune."""
    heads = ("term", "images", "CPU s", "val mIoU of the seeds", "mean", "standard error", "alignment")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in CANDIDATES:
        here = [row for row in rows if row["name"] == name and row["seed"] in SEEDS]
        if here:
            miou = [row["val/miou"] for row in here]
            cells = [
                name,
                f"{here[0]['nimg']:,}",
                f"{np.mean([row['sec'] for row in here]):.0f}",
                " ".join(f"{value:.4f}" for value in miou),
                f"{np.mean(miou):.4f}",
                f"{np.std(miou, ddof=1) / len(miou) ** 0.5:.4f}" if len(miou) > 1 else "",
                f"{np.mean([row['alignment'] for row in here]):+.3f}" if "alignment" in here[0] else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def chosen(rows: list[dict[str, Any]]) -> list[str]:
    """No term, the published one, and of each kind the weight of the best mean val mIoU."""

    def mean(name: str) -> float:
        return float(
            np.mean([row["val/miou"] for row in rows if row["name"] == name and row["seed"] in SEEDS])
        )

    best = [
        max((f"{kind}, weight {weight:g}" for weight in weights), key=mean)
        for kind, (_, weights) in KINDS.items()
    ]
    return [NONE, PUBLISHED, *best]


def confirmation(rows: list[dict[str, Any]], names: list[str]) -> str:
    """A Markdown table of the fresh seeds: means on test, and paired differences to no term."""
    fresh = {(row["name"], row["seed"]): row for row in rows if row["seed"] in FRESH_SEEDS}
    measures = ("test/miou", "test/kd_evaluator")
    lines = ["| term | images | " + " | ".join(f"{each} | against no term" for each in measures) + " |"]
    lines.append("|---" * (2 + 2 * len(measures)) + "|")
    for name in names:
        cells = [name, f"{fresh[name, FRESH_SEEDS[0]]['nimg']:,}"]
        for measure in measures:
            values = np.array([fresh[name, seed][measure] for seed in FRESH_SEEDS])
            gain = values - [fresh[NONE, seed][measure] for seed in FRESH_SEEDS]
            cells += [
                f"{each.mean():{sign}.4g} ± {each.std(ddof=1) / len(each) ** 0.5:.2g}"
                for each, sign in ((values, ""), (gain, "+"))
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


class Run:
    """Students of one evaluator and teacher, whose scores go to a file."""

    def __init__(self, out: Path):
        self.out, self.cache = out, out.with_suffix(".cache")
        self.rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        experiment = presets.shapes32()
        self.batch_size = experiment.student.batch_size
        self.data = prepare(experiment.data, self.cache / "data")
        self.stages = train_stages(experiment, self.data, self.cache, lambda numbers: None)
        self.test = EvaluatorScorer(self.data, self.stages.evaluator, "test", torch.device("cpu"))

    def costs(self) -> dict[str, float]:
        """Candidate -> CPU seconds of a step, kept, so that a resumed run gives every candidate the same."""
        file = self.cache / "seconds.json"
        if not file.exists():
            file.write_text(json.dumps(seconds_a_step(self.data, self.stages)))
        found: dict[str, float] = json.loads(file.read_text())
        return found

    def train(self, name: str, seed: int, nimg: int) -> None:
        """One student, unless the file has it."""
        if any((row["name"], row["seed"], row["nimg"]) == (name, seed, nimg) for row in self.rows):
            return
        training = training_of(name, seed=seed, budget_nimg=nimg, report_every_nimg=nimg)
        stages = self.stages
        job = Job(training=training, data=self.data, evaluator=stages.evaluator, teacher=stages.teacher)
        started, folder = time.process_time(), self.cache / "students" / job.key
        result = perform(job, folder, lambda numbers: None)
        if result.status != "COMPLETE":
            raise SystemExit(f"{name}, seed {seed}: {result.reason}")
        metrics = result.metrics
        row = {"name": name, "seed": seed, "nimg": nimg, "sec": time.process_time() - started}
        row |= {key: metrics[key] for key in ("val/miou", "val/kd_evaluator")}
        if "energy/alignment" in metrics:
            row["alignment"] = metrics["energy/alignment"]
        if seed in FRESH_SEEDS:
            network = saved.load(network_of(folder, result), self.test.split.info, torch.device("cpu"))
            scores = self.test.generator(network)
            row |= {f"test/{key.partition('/')[2]}": value for key, value in scores.items()}
        self.rows.append(row)
        with self.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def main() -> None:
    """Trains what the file lacks, then prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nimg", type=int, default=8_000, help="images of the student without a term")
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(given.out)
    costs = run.costs()
    print({name: f"{seconds * 1e3:.1f} ms" for name, seconds in costs.items()}, flush=True)
    nimg = {
        name: max(1, round(given.nimg * costs[NONE] / seconds / run.batch_size)) * run.batch_size
        for name, seconds in costs.items()
    }
    for seed in SEEDS:
        for name in CANDIDATES:
            run.train(name, seed, nimg[name])
    print(table(run.rows))
    names = chosen(run.rows)
    for seed in FRESH_SEEDS:
        for name in names:
            run.train(name, seed, nimg[name])
    print(confirmation(run.rows, names))


if __name__ == "__main__":
    main()
