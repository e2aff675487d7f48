"""Confirms weights of plain distillation that a search has chosen: other seeds, the test split, other
measures.

    python benchmarks/base_weights.py --preset shapes32 --out shapes.jsonl [--squeezenet squeezenet=FILE]
    python benchmarks/base_weights.py --preset labelled --data CAMVID --out camvid.jsonl

A search of `search_spaces/base_weights.py` looks at val alone and at one seed. Here the candidates train the
preset's student, without a term, with seeds that no search has seen. Test mIoU and kernel distances by the
evaluator and by SqueezeNet are measures that no loss has seen; PSNR is to the real picture. A killed run goes
on where it was. About 15 s (shapes32) and 80 s (CamVid) a training on one core.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment, student_job
from raydistill.config.paths import with_values
from raydistill.config.presets import PRESETS
from raydistill.data import prepare
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.evaluation.extractors import load_extractor
from raydistill.models import saved
from raydistill.models.inputs import latent_size
from raydistill.training import recipes
from raydistill.trials.run_job import network_of, perform
from raydistill.trials.stages import Stages, train_stages

Weights = dict[str, float | str]
BEFORE: Weights = {"l1_weight": 10.0, "ssim_weight": 5.0, "learning_rate": 3e-3}
"""What presets had before they were tuned."""
PHOTOS: Weights = {"ssim_weight": 5.0, "mse_weight": 1.0, "learning_rate": 2.4e-3}
"""What the search on CamVid had found for `labelled` while SSIM counted from grey."""
SEARCHED_SHAPES: Weights = {"ssim_weight": 5.0, "mse_weight": 20.0, "multiscale_weight": 10.0}
"""What the search has found for `shapes32`."""
SEARCHED_PHOTOS: Weights = {
    "l1_weight": 10.0,
    "ssim_weight": 5.0,
    "mse_weight": 1.0,
    "multiscale_weight": 40.0,
}
"""What the search has found for `labelled` since SSIM counts from black."""
SEARCHED_UNPAIRED: Weights = {
    "l1_weight": 10.0,
    "robust_weight": 10.0,
    "mse_weight": 320.0,
    "multiscale_weight": 10.0,
}
"""What the search has found for `cyclegan`."""


def at_rates(name: str, weights: Weights, *rates: str) -> dict[str, Weights]:
    """The same losses from the teacher's channels, once at each learning rate."""
    return {
        f"{name}, from the teacher, {rate}": weights | {"init": "teacher", "learning_rate": float(rate)}
        for rate in rates
    }


FOLLOWS = {
    "before": BEFORE,
    "without SSIM": BEFORE | {"ssim_weight": 0.0},
    "as labelled": PHOTOS,
    "before, from the teacher": BEFORE | {"init": "teacher"},
    "as labelled, from the teacher": PHOTOS | {"init": "teacher"},
    **at_rates("as labelled", PHOTOS, "6e-3", "1.2e-2"),
}
SHARP: Weights = {"l1_weight": 10.0, "learning_rate": 1e-3}
"""What `enhance` had."""
SUMS: Weights = {"l1_weight": 10.0, "robust_weight": 10.0, "mse_weight": 1.0, "multiscale_weight": 40.0}
"""What the search has found for `stylegan2`."""
ALL: Weights = SUMS | {"mse_weight": 20.0, "ssim_weight": 5.0}
"""What the search has found for `sagan`."""
MIXED: Weights = {"robust_weight": 10.0, "mse_weight": 320.0, "multiscale_weight": 40.0}
CANDIDATES: dict[str, dict[str, Weights]] = {
    "shapes32": {
        "before": BEFORE,
        "without SSIM": BEFORE | {"ssim_weight": 0.0},
        "searched": SEARCHED_SHAPES | {"learning_rate": 3e-3},
        "searched, robust": {
            "robust_weight": 10.0,
            "ssim_weight": 5.0,
            "mse_weight": 80.0,
            "learning_rate": 3.6e-3,
        },
        "before, from the teacher": BEFORE | {"init": "teacher"},
        "searched, from the teacher": SEARCHED_SHAPES | {"learning_rate": 3e-3, "init": "teacher"},
        **at_rates("before", BEFORE, "6e-3", "1.2e-2"),
    },
    "shapes64": {
        "before": BEFORE,
        "without SSIM": BEFORE | {"ssim_weight": 0.0},
        "before, from the teacher": BEFORE | {"init": "teacher"},
        **at_rates("before", BEFORE, "6e-3", "1.2e-2"),
    },
    "labelled": {
        "before": BEFORE,
        "without SSIM": BEFORE | {"ssim_weight": 0.0},
        "structure and squared": PHOTOS,
        "structure and squared, 1.2e-2": PHOTOS | {"learning_rate": 1.2e-2},
        "before, from the teacher": BEFORE | {"init": "teacher"},
        "structure and squared, from the teacher": PHOTOS | {"init": "teacher"},
        **at_rates("structure and squared", PHOTOS, "6e-3", "1.2e-2", "2.4e-2"),
        "searched": SEARCHED_PHOTOS | {"learning_rate": 5.9e-3},
        "searched, from the teacher": SEARCHED_PHOTOS | {"learning_rate": 5.9e-3, "init": "teacher"},
    },
    "unet": FOLLOWS,
    "mobile": FOLLOWS,
    "aligned": FOLLOWS,
    "enhance": {
        "before": SHARP,
        "2.3e-3": SHARP | {"learning_rate": 2.3e-3},
        "searched": MIXED | {"learning_rate": 2.3e-3},
        "searched, 1e-3": MIXED | {"learning_rate": 1e-3},
        "2.3e-3, from the teacher": SHARP | {"learning_rate": 2.3e-3, "init": "teacher"},
        "4.6e-3, from the teacher": SHARP | {"learning_rate": 4.6e-3, "init": "teacher"},
        "9.2e-3, from the teacher": SHARP | {"learning_rate": 9.2e-3, "init": "teacher"},
    },
    "cyclegan": {
        "before": BEFORE,
        "searched": SEARCHED_UNPAIRED | {"learning_rate": 1.2e-2},
        "before, from the teacher": BEFORE | {"init": "teacher"},
        **at_rates("before", BEFORE, "6e-3", "1.2e-2"),
        "searched, from the teacher": SEARCHED_UNPAIRED | {"learning_rate": 1.2e-2, "init": "teacher"},
    },
    "sagan": {
        "before": BEFORE,
        "before, from the teacher": BEFORE | {"init": "teacher"},
        **at_rates("before", BEFORE, "1.5e-3", "6e-3"),
        "searched": ALL | {"learning_rate": 4.5e-3},
        "searched, from the teacher": ALL | {"learning_rate": 4.5e-3, "init": "teacher"},
    },
    "stylegan2": {
        "before": BEFORE,
        "without SSIM": BEFORE | {"ssim_weight": 0.0},
        "before, from the teacher": BEFORE | {"init": "teacher"},
        "searched, 4e-2": SUMS | {"learning_rate": 4e-2},
        "searched, from the teacher": SUMS | {"learning_rate": 4e-2, "init": "teacher"},
        **at_rates("searched", SUMS, "2e-2", "8e-2"),
    },
}
"""Preset -> name -> weights and learning rate. The first is what the others are compared with."""
PATHS = {"learning_rate": "student.optimizer.learning_rate", "init": "student.init"}
"""Names that are not of the base."""
CPU = torch.device("cpu")
SEEDS = (10, 11, 12, 13, 14)
"""No search has seen them."""
OFF = {
    "l1_weight": 0.0,
    "ssim_weight": 0.0,
    "mse_weight": 0.0,
    "robust_weight": 0.0,
    "multiscale_weight": 0.0,
}


def experiment_of(preset: str, data: str | None, weights: Weights, seed: int) -> Experiment:
    """The preset with these weights, without terms."""
    values: dict[str, Any] = {"student.init": "random"} | {f"student.base.{name}": 0.0 for name in OFF}
    for name, value in weights.items():
        values[PATHS.get(name, f"student.base.{name}")] = value
    values |= {"student.terms.mi.weight": 0.0, "student.seed": seed}
    if data:
        values["data.root"] = data
    return with_values(PRESETS[preset](), values, where="benchmark")


def train_one(
    experiment: Experiment, data: Stored, stages: Stages, folder: Path, squeezenet: str | None
) -> dict[str, float]:
    """One student, with its scores on val and test."""
    torch.set_num_threads(1)
    job = student_job(experiment.resolved(experiment.student), experiment, data, stages.shared)
    result = perform(job, folder / job.key, lambda evaluation: None)
    if result.status != "COMPLETE":
        raise RuntimeError(result.reason)
    extra = [load_extractor(squeezenet, CPU)] if squeezenet else []
    found: dict[str, float] = {}
    for split in ("val", "test"):
        latent = latent_size(experiment.student.generator)
        scorer = EvaluatorScorer(data, stages.evaluator, split, CPU, latent=latent, extractors=extra)
        network = saved.load(network_of(folder / job.key, result), scorer.split.info, CPU)
        scores = scorer.generator(network)
        found |= {f"{split}/{name.partition('/')[2]}": value for name, value in scores.items()}
    return found


def main() -> None:
    """Trains what the file lacks, then prints means, standard errors and paired differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=tuple(CANDIDATES), default="shapes32")
    parser.add_argument("--data", help="folder of the pictures, for all but the drawn ones")
    parser.add_argument("--squeezenet", metavar="NAME=FILE", help="as --extractor takes it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the five")
    parser.add_argument("--only", metavar="NAMES", help="some of the candidates, by a + between their names")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    candidates = CANDIDATES[given.preset]
    if given.only:
        if unknown := set(given.only.split("+")) - set(candidates):
            parser.error(f"--only: {', '.join(sorted(unknown))}; known: {', '.join(candidates)}")
        candidates = {name: candidates[name] for name in given.only.split("+")}
    first = experiment_of(given.preset, given.data, BEFORE, 0)
    cache = given.out.with_suffix(".cache")
    data = prepare(first.data, cache / "data", **recipes.data_needs(first.teacher))
    stages = train_stages(first, data, cache, lambda evaluation: None)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    known = {(row["name"], row["seed"]) for row in rows}
    todo = [(name, seed) for seed in SEEDS[: given.seeds] for name in candidates if (name, seed) not in known]
    with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            pool.submit(
                train_one,
                experiment_of(given.preset, given.data, candidates[name], seed),
                data,
                stages,
                cache / "students",
                given.squeezenet,
            ): (name, seed)
            for name, seed in todo
        }
        for future in as_completed(futures):
            name, seed = futures[future]
            if future.exception():
                pool.shutdown(cancel_futures=True)
            rows.append({"name": name, "seed": seed} | future.result())
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    trained = {row["name"] for row in rows}
    table(rows, [name for name in CANDIDATES[given.preset] if name in trained])


def table(rows: list[dict[str, Any]], names: list[str]) -> None:
    """Prints a Markdown table: mean and standard error of each measure, and the difference to the first."""
    measures = [key for key in rows[0] if key not in ("name", "seed")]
    print("| measure | " + " | ".join(names) + " | difference to the first, paired |")
    print("|---" * (len(names) + 2) + "|")
    for measure in measures:
        values = {name: {row["seed"]: row[measure] for row in rows if row["name"] == name} for name in names}
        cells = [_mean(list(each.values()), ".5g") for each in values.values()]
        first = values[names[0]]
        differences = [
            _mean([value - first[seed] for seed, value in values[name].items() if seed in first], "+.4g")
            for name in names[1:]
        ]
        print(f"| {measure} | {' | '.join(cells)} | {', '.join(differences)} |")


def _mean(values: list[float], style: str) -> str:
    each = np.array(values)
    return f"{each.mean():{style}} +- {each.std(ddof=1) / len(each) ** 0.5:.2g}"


if __name__ == "__main__":
    main()
