"""What an earlier sweep is worth.

    python benchmarks/warm.py --tables FOLDER --out cells.jsonl
    python benchmarks/warm.py --tables FOLDER --out cells.jsonl --report

The problems, noise and regret are those of `search.py`; the sampler is known-cost, with 8 asynchronous
workers. What is known before the first trial are 40 random configurations:

none        nothing: the stratified start
same        the same problem, measured by other seeds
quarter     the same after a quarter of the images, by the model of curves in `stopping.py` (synthetic):
worse, and more
            so what is expensive
other       the other FCNet table: another data set, the same space
shuffled    the right configurations with each other's values: it misleads

One cell is (problem, what is known, seed). `searched_N`: regret of the true values of the first N trials to
end.
"""

import itertools
import math
from typing import Any

import numpy as np
from search import NUM_WORKERS, command, outcomes
from search_problems import KnownProblem, Point, volume

from raydistill.search import PriorObservation, random_configuration
from raydistill.search.simulate import simulate
from raydistill.seeds import numpy_stream

KNOWN = ("none", "same", "quarter", "other", "shuffled")
MARKS = (5, 10, 20, 30)
OTHER = {"protein_structure": "slice_localization", "slice_localization": "protein_structure"}
NUM_KNOWN = 40


def earlier(
    bench: KnownProblem, benches: dict[str, KnownProblem], known: str, seed: int
) -> list[PriorObservation] | None:
    """The prior observations of a cell; None: there is no such cell."""
    if known == "none":
        return []
    measured_on = benches.get(OTHER.get(bench.name, "")) if known == "other" else bench
    if measured_on is None:
        return None
    rng = numpy_stream(seed, f"benchmark/warm/{bench.name}")
    configurations = [random_configuration(bench.space(1), rng) for _ in range(NUM_KNOWN)]
    points = [measured_on.measured(configuration, rng) for configuration in configurations]
    if known == "quarter":
        points = [
            np.append(end[:1], end[1:] + 0.15 * (0.5 + end[0]) * math.exp(0.3 * rng.normal()))
            for end in points
        ]
    order = rng.permutation(NUM_KNOWN) if known == "shuffled" else range(NUM_KNOWN)
    return [
        PriorObservation(configuration, [float(bench.true(configuration)[0]), *points[other][1:].tolist()], 1)
        for configuration, other in zip(configurations, order)
    ]


def cell(
    bench: KnownProblem,
    benches: dict[str, KnownProblem],
    known: str,
    seed: int,
    num_trials: int,
    num_startup: int,
) -> dict[str, Any] | None:
    """One simulated sweep: the line of its cell; None: there is no such cell."""
    if (prior_observations := earlier(bench, benches, known, seed)) is None:
        return None
    problem = bench.problem("known-cost", seed, num_startup, num_trials)._replace(
        prior_observations=prior_observations
    )

    trials = simulate(problem, outcomes(bench, seed), num_trials=num_trials, num_workers=NUM_WORKERS)
    true: Point = np.array(
        [bench.true(trial.configuration) for trial in sorted(trials, key=lambda trial: trial.ends_sec)]
    )
    regrets = {
        f"searched_{mark}": (bench.best - volume(true[:mark])) / bench.best
        for mark in MARKS
        if mark <= len(trials)
    }
    return {"problem": bench.name, "sampler": known, "seed": seed} | regrets


def report(lines: list[dict[str, Any]]) -> None:
    """Prints medians (quartiles) of the regret x 1e-3, and how it compares with that of no warm start."""
    for mark in MARKS:
        print(
            f"\nregret x 1e-3 after {mark} trials: median (quartiles) over seeds\n| problem | "
            + " | ".join(KNOWN)
            + " |"
        )
        print("|---" * (len(KNOWN) + 1) + "|")
        for name in dict.fromkeys(line["problem"] for line in lines):
            row = []
            for known in KNOWN:
                values = [
                    1e3 * line[f"searched_{mark}"]
                    for line in lines
                    if (line["problem"], line["sampler"]) == (name, known)
                ]
                low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]) if values else [math.nan] * 3
                row.append(f"{middle:.3g} ({low:.3g}-{high:.3g})" if values else "")
            print(f"| {name} | " + " | ".join(row) + " |")
    by = {(line["problem"], line["sampler"], line["seed"]): line for line in lines}
    for known, mark in itertools.product(KNOWN[1:], MARKS):
        key = f"searched_{mark}"
        ratios = [
            line[key] / by[p, "none", seed][key]
            for (p, k, seed), line in by.items()
            if k == known and (p, "none", seed) in by
        ]
        if ratios:
            better = sum(ratio < 1 for ratio in ratios)
            print(
                f"{known}, {mark} trials: {math.exp(np.mean(np.log(ratios))):.2f} of the regret of none; "
                f"less in {better} of {len(ratios)}"
            )


if __name__ == "__main__":
    command(__doc__, "warm_cells.jsonl", max(MARKS), KNOWN, cell, report)
