"""Which way the energy network's term pulls a student.

    python benchmarks/alignment.py --out FILE.jsonl [--data CAMVID] [--plot FILE.png]

A student is trained a little by plain distillation and then frozen, and an energy network learns beside it.
Then, on pairs that the energy network has not seen, the term mean E(t, s_a) - mean E(t~, s_a) is taken along
s_a = s + a (t - s), with the cosine between its negative gradient at s and t - s.

FILE has one line for each cell: data x chain start x Langevin steps x positive x seed. Cells that are in FILE
are not computed again. One thread.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from torch import Tensor

from raydistill.config import presets
from raydistill.config.architectures import EnergyNetwork
from raydistill.config.base import Optimizer
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.terms import MutualInformation
from raydistill.data import DataInfo, batch, load_split, noise, prepare
from raydistill.data.augment import SampleIndex
from raydistill.data.outputs import chunk_of, load_outputs
from raydistill.distributed import Workers
from raydistill.method.vem import (
    alignment,
    displacement,
    draw_negatives,
    energy_gap,
    pair_energies,
    student_mi_loss,
)
from raydistill.models import saved
from raydistill.seeds import numpy_stream
from raydistill.training import terms
from raydistill.training.terms import STARTS, Pairs, TermSetup, Vem
from raydistill.trials.run_job import perform
from raydistill.trials.stages import network_of, train_stages

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NUM_STEPS, POSITIVES, SEEDS = (0, 3, 10), ("teacher", "target"), (0, 1, 2)
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the way from s to t, where the term is evaluated."""
BATCH, HELD_OUT, CPU = 8, 64, torch.device("cpu")


class Frozen(NamedTuple):
    """A frozen student and its teacher on the training pictures, (N, 3, H, W) each, in [-1, 1].

    The energy network does not see the last `HELD_OUT` pictures.
    """

    info: DataInfo
    s: Tensor
    t: Tensor
    target: Tensor
    inputs: Tensor
    """What both got, (N, C, H, W)."""


def experiment_of(name: str, folder: Path | None) -> Experiment:
    """The preset of a data set, as far as this benchmark needs it.

    shapes32 stays as it is. CamVid is taken at 64x48 with fewer images, as its teacher only has to be better
    than the student. `folder`: of CamVid; None for shapes32.
    """
    values: dict[str, Any] = {
        "evaluator.budget_nimg": 1_000,
        "evaluator.report_every_nimg": 1_000,
    }  # scores nothing here
    if name == "camvid":
        values |= {
            "data.root": str(folder),
            "student.flip": False,
            "teacher.flip": False,
            "teacher.budget_nimg": 6_000,
        }
    return with_values(
        presets.PRESETS["labelled" if name == "camvid" else "shapes32"](), values, where="benchmark"
    )


def freeze(name: str, folder: Path | None, seed: int, nimg: int, cache: Path) -> Frozen:
    """Trains evaluator, teacher and student, or takes them from `cache`, and runs it on all pictures.

    `nimg`: images that the student is trained on, without a mutual-information term.
    """
    experiment = experiment_of(name, folder)
    data = prepare(experiment.data, cache / "data")
    stages = train_stages(experiment, data, cache, lambda numbers: None)
    off = {
        "student.terms.mi.weight": 0.0,
        "student.budget_nimg": nimg,
        "student.report_every_nimg": nimg,
        "student.seed": seed,
    }
    training = with_values(experiment, off, where="benchmark").student
    job = Job(training=training, data=data, evaluator=stages.evaluator, teacher=stages.teacher)
    split, place = load_split(data, "train"), cache / "student" / job.key
    student = saved.load(network_of(place, perform(job, place, lambda numbers: None)), split.info, CPU)
    outputs = load_outputs(stages.teacher, data, False, chunk_of(training.batch_size))
    assert outputs is not None
    parts = [
        batch(split, np.arange(start, min(start + 64, len(split))), device=CPU)
        for start in range(0, len(split), 64)
    ]
    with torch.no_grad():
        s = torch.cat([student(part.inputs) for part in parts])
    target, inputs = (torch.cat([getattr(part, name) for part in parts]) for name in ("target", "inputs"))
    return Frozen(split.info, s, torch.from_numpy(outputs[0].copy()), target, inputs)


def term_of(frozen: Frozen, config: MutualInformation, seed: int) -> Vem:
    """The term VEM on the pictures that its energy network may see."""
    seen = len(frozen.s) - HELD_OUT
    info = frozen.info.model_copy(update={"counts": frozen.info.counts | {"train": seen}})

    def teacher(sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        return frozen.t[sample.indices]

    networks = terms.networks(config, info, seed)
    return Vem(config, TermSetup(seed, info, CPU, Workers(0, 1), teacher, networks=networks))


def pairs_of(frozen: Frozen, config: MutualInformation, indices: np.ndarray, nimg: int) -> Pairs:
    """The pairs of a minibatch. `indices`: which pictures; `nimg`: images seen before it."""
    chosen = torch.from_numpy(indices)
    s, t, target = (pictures[chosen] for pictures in (frozen.s, frozen.t, frozen.target))
    sample = SampleIndex(chosen, torch.zeros_like(chosen).bool(), torch.arange(nimg, nimg + len(chosen)))
    positive = t if config.positive == "teacher" else target
    return Pairs(s, t, positive, sample, nimg, inputs=frozen.inputs[chosen], target=target)


def measure(frozen: Frozen, config: MutualInformation, seed: int, steps: int) -> dict[str, Any]:
    """Trains the energy network for `steps` minibatches, then looks at the pairs that it has not seen.

    Returns:
        term: its value at each of `FRACTIONS` on the way from s to t; cosine, gap and displacement: see
            `method.vem`.
    """
    term, seen = term_of(frozen, config, seed), len(frozen.s) - HELD_OUT
    parameters = list(term.energy.parameters())
    optimizer = torch.optim.Adam(parameters, lr=config.optimizer.learning_rate, betas=config.optimizer.betas)
    for step in range(steps):
        indices = numpy_stream(seed, "order", step).choice(seen, BATCH, replace=False)
        loss = term.own_loss(pairs_of(frozen, config, indices, step * BATCH)).loss
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
    pairs = pairs_of(frozen, config, np.arange(seen, len(frozen.s)), steps * BATCH)
    keys = noise.image_keys(seed, "held out", pairs.images)
    normal = iter(noise.normal(keys, pairs.s.shape[1:], config.num_steps)).__next__
    negatives = draw_negatives(
        term.energy, pairs.s, config, normal, STARTS[config.start](term, pairs)
    ).samples
    s = pairs.s.requires_grad_(True)
    at_s = student_mi_loss(term.energy, pairs.positive, negatives, s)
    along = [
        student_mi_loss(term.energy, pairs.positive, negatives, (s + a * (pairs.t - s)).detach()).item()
        for a in FRACTIONS
    ]
    pos, neg = pair_energies(term.energy, pairs.positive, negatives, s.detach())
    return {
        "term": along,
        "cosine": alignment(at_s, s, pairs.t).item(),
        "gap": energy_gap(pos, neg).item(),
        "displacement": displacement(negatives, s, pairs.t).item(),
    }


def cells(names: list[str]) -> list[dict[str, Any]]:
    """Every cell for these data sets."""
    keys = ("seed", "data", "start", "num_steps", "positive")
    return [
        dict(zip(keys, cell, strict=True)) for cell in product(SEEDS, names, STARTS, NUM_STEPS, POSITIVES)
    ]


def config_of(cell: dict[str, Any], frozen: Frozen, learning_rate: float) -> MutualInformation:
    """The published settings, but c = 8 and a step size in proportion to the pixels: 100 at 256x256."""
    return MutualInformation(
        start=cell["start"],
        num_steps=cell["num_steps"],
        positive=cell["positive"],
        step_size=100 * frozen.info.height * frozen.info.width / 256**2,
        energy=EnergyNetwork(channels=8),
        optimizer=Optimizer(learning_rate=learning_rate, betas=(0.0, 0.999)),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of means over the seeds, with the cosine's smallest and largest value."""
    lines = [
        "| data | start | K | positive | term at 0, .25, .5, .75, 1 | cosine (lowest to highest seed) | t~ "
        "- s |",
        "|---|---|---|---|---|---|---|",
    ]
    names = dict.fromkeys(row["data"] for row in rows)
    for data, start, steps, positive in product(names, STARTS, NUM_STEPS, POSITIVES):
        if here := rows_of(rows, data, start, steps, positive):
            term, cosines = np.mean([row["term"] for row in here], 0), [row["cosine"] for row in here]
            moved = np.mean([row["displacement"] for row in here])
            spread = f"{np.mean(cosines):+.2f} ({min(cosines):+.2f} to {max(cosines):+.2f})"
            lines.append(
                f"| {data} | {start} | {steps} | {positive} | {' '.join(f'{x:+.2f}' for x in term)} | "
                f"{spread} | {moved:.2f} |"
            )
    return "\n".join(lines)


def rows_of(
    rows: list[dict[str, Any]], data: str, start: str, steps: int, positive: str
) -> list[dict[str, Any]]:
    """The rows of all seeds of a cell."""
    key = (data, start, steps, positive)
    return [row for row in rows if (row["data"], row["start"], row["num_steps"], row["positive"]) == key]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """The term along s -> t without its value at s: a curve that falls pulls the student to the teacher."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    figure, axes = plt.subplots(
        len(names), len(STARTS), figsize=(10, 2.4 * len(names)), sharex=True, squeeze=False
    )
    for (i, data), (j, start) in product(enumerate(names), enumerate(STARTS)):
        for (k, steps), positive in product(enumerate(NUM_STEPS), POSITIVES):
            if here := rows_of(rows, data, start, steps, positive):
                curve = np.mean([row["term"] for row in here], 0)
                style, label = "-" if positive == "teacher" else "--", f"K {steps}, {positive}"
                axes[i][j].plot(FRACTIONS, curve - curve[0], style, color=f"C{k}", label=label)
        axes[i][j].axhline(0, color="0.7", lw=0.8)
        axes[i][j].set_title(f"{data}: start {start}", fontsize=9)
    axes[-1][0].set_xlabel("share of the way from s to t")
    axes[0][-1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Computes the cells that the file lacks, then prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of CamVid; without it the embedded set alone")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--steps", type=int, default=400, help="minibatches of 8 that the energy learns from")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of the energy; published: 1e-4")
    parser.add_argument(
        "--student-nimg", type=int, default=2_000, help="images the frozen student was trained on"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        "steps": given.steps,
        "learning_rate": given.learning_rate,
        "student_nimg": given.student_nimg,
    }
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    frozen: dict[tuple[str, int], Frozen] = {}
    for cell in cells(["shapes32", *(["camvid"] if given.data else [])]):
        if any(row | cell | settings == row for row in rows):
            continue
        key = (cell["data"], cell["seed"])
        if key not in frozen:
            name, seed = key
            cache = given.out.with_suffix(".cache")
            frozen = {key: freeze(name, given.data, seed, given.student_nimg, cache)}
        started = time.monotonic()
        config = config_of(cell, frozen[key], given.learning_rate)
        measured = measure(frozen[key], config, cell["seed"], given.steps)
        rows.append(cell | settings | measured | {"sec": time.monotonic() - started})
        with given.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    print(table([row for row in rows if row | settings == row]))
    if given.plot:
        plot([row for row in rows if row | settings == row], given.plot)


if __name__ == "__main__":
    main()
