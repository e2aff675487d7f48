"""`KnownCostSampler` beside Optuna's own samplers, in plain Optuna studies of one trial after the other.

    python benchmarks/studies.py --out studies.jsonl [--problems categories widths] [--seeds 10]
    python benchmarks/studies.py --out studies.jsonl --report

The problems, their scale and the regret are those of `search_problems.py` and `search.py`; nothing of a sweep
takes part. Each study is one line of the output, and the same command goes on where it stopped. Optuna's
Gaussian process models every objective and takes a second for each proposal: it has five seeds.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from search import SLOW_SEEDS, command
from search_problems import KnownProblem, volume

from raydistill.search import Configuration, KnownCostSampler
from raydistill.search.optuna_samplers import suggest
from raydistill.seeds import numpy_stream

MARKS = (30, 60, 100)
OURS = "known-cost"
SAMPLERS: dict[str, Callable[[KnownProblem, int], BaseSampler]] = {
    OURS: lambda bench, seed: KnownCostSampler(lambda params: {0: bench.true(params)[0]}, seed=seed),
    "tpe": lambda bench, seed: TPESampler(seed=seed),
    "nsga2": lambda bench, seed: NSGAIISampler(population_size=20, seed=seed),
    "gp": lambda bench, seed: GPSampler(seed=seed),
}


def study(
    bench: KnownProblem,
    benches: dict[str, KnownProblem],
    sampler: str,
    seed: int,
    num_trials: int,
    startup: int,
) -> dict[str, Any] | None:
    """The line of a study; None: it is left out."""
    if sampler == "gp" and seed >= SLOW_SEEDS:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = bench.problem(OURS, seed, startup, num_trials).space
    tried: list[Configuration] = []

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        configuration = suggest(trial, space)
        tried.append(configuration)
        rng = numpy_stream(seed, f"benchmark/{bench.name}", trial.number)
        return tuple(bench.measured(configuration, rng).tolist())

    with warnings.catch_warnings(action="ignore"):
        of = SAMPLERS[sampler](bench, seed)
        directions = ["minimize"] * len(space.objectives)
        began = time.process_time()
        optuna.create_study(directions=directions, sampler=of).optimize(objective, n_trials=num_trials)
    cpu_sec = (time.process_time() - began) / num_trials
    true = np.array([bench.true(configuration) for configuration in tried])
    regrets = {
        f"searched_{mark}": (bench.best - volume(true[:mark])) / bench.best
        for mark in MARKS
        if mark <= num_trials
    }
    return {"problem": bench.name, "sampler": sampler, "seed": seed, **regrets, "proposal_cpu_sec": cpu_sec}


def report(lines: list[dict[str, Any]]) -> None:
    """Prints medians (quartiles) of the regret x 1e-3, and processor seconds a proposal."""
    for mark in (mark for mark in MARKS if any(f"searched_{mark}" in line for line in lines)):
        print(f"\nregret x 1e-3 after {mark} trials: median (quartiles), seeds")
        print("| problem | " + " | ".join(SAMPLERS) + " |\n" + "|---" * (len(SAMPLERS) + 1) + "|")
        ratios: dict[str, list[float]] = {}
        for problem in dict.fromkeys(line["problem"] for line in lines):
            found = {
                sampler: [
                    1e3 * line[f"searched_{mark}"]
                    for line in lines
                    if (line["problem"], line["sampler"]) == (problem, sampler)
                ]
                for sampler in SAMPLERS
            }
            cells = []
            for sampler, values in found.items():
                if not values:
                    cells.append("")
                    continue
                low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
                cells.append(f"{median:.3g} ({low:.3g}-{high:.3g}), {len(values)}")
                if found[OURS]:
                    ratios.setdefault(sampler, []).append(math.log(median / np.median(found[OURS])))
            print(f"| {problem} | " + " | ".join(cells) + " |")
        for sampler, logs in ratios.items():
            if sampler != OURS:
                times = math.exp(np.mean(logs))
                print(f"{sampler} / {OURS}: {times:.2f} (geometric mean of medians, {len(logs)} problems)")
    for sampler in SAMPLERS:
        if seconds := [line["proposal_cpu_sec"] for line in lines if line["sampler"] == sampler]:
            print(f"{sampler}: {np.median(seconds):.3f} CPU s a proposal (median over studies of the mean)")


if __name__ == "__main__":
    command(__doc__, "studies.jsonl", 60, tuple(SAMPLERS), study, report)
