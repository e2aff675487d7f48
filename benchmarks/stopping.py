"""What early stopping saves, on SYNTHETIC curves.

    python benchmarks/stopping.py --out cells.jsonl [--tables FOLDER]
    python benchmarks/stopping.py --out cells.jsonl --report

The problems and their final values are those of `search.py`; the way there is a model. A quality of final
value v is, at the share s of its training, v + a (s^-p - 1) + e, with a = 0.15 (0.5 + cost) exp(0.3 n1), p =
0.5 exp(0.2 n2) and e = 0.02 (1 - s) n3, where all n are standard normal and the cost is scaled to [0, 1]. So
what is expensive learns more slowly, and curves cross. All is scaled as in `search.py`, with 8 evaluations in
a training.

One cell is (problem, sampler, seed): two simulated sweeps, one with whole trainings and one with early
stopping. `images_N`: images, in whole trainings and divided by N, after which the finished trainings of the
stopped sweep leave no more regret than N whole trainings do; "inf" where they do not within the trials of the
cell. `lost`: of the members of the front over all that the stopped sweep proposed, how many were stopped; by
true values, and by the values that each would have measured at its end.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from search import NUM_WORKERS, command
from search_problems import KnownProblem, Point, volume

from raydistill.records.pareto import members
from raydistill.search import Configuration, EarlyStopping, Problem
from raydistill.search.simulate import Outcome, SimulatedTrial, simulate
from raydistill.seeds import numpy_stream

MARKS = (30, 60)
EVALUATIONS = 8
SAMPLERS = ("known-cost", "random")


def cell(
    bench: KnownProblem,
    benches: dict[str, KnownProblem],
    sampler: str,
    seed: int,
    num_trials: int,
    num_startup: int,
) -> dict[str, Any]:
    """Two simulated sweeps: the line of their cell."""

    def outcome_of(configuration: Configuration, number: int) -> Outcome:
        rng = numpy_stream(seed, f"benchmark/{bench.name}", number)
        end = bench.measured(configuration, rng)
        slow, power = 0.15 * (0.5 + end[0]) * math.exp(0.3 * rng.normal()), 0.5 * math.exp(0.2 * rng.normal())
        curve = []
        for step in range(1, EVALUATIONS):
            share = step / EVALUATIONS
            point = end + slow * (share**-power - 1) + 0.02 * (1 - share) * rng.normal(size=len(end))
            curve.append((step, [float(end[0]), *point[1:].tolist()]))
        return Outcome(end.tolist(), 0.5 + float(end[0]), EVALUATIONS, curve)

    whole, stopped = (bench.problem(sampler, seed, num_startup, num) for num in (max(MARKS), num_trials))

    def regret(points: Point) -> float:
        return (bench.best - volume(points)) / bench.best

    numbers = compared(whole, stopped, outcome_of, bench.true, regret, MARKS)
    return {"problem": bench.name, "sampler": sampler, "seed": seed} | numbers


def compared(
    whole: Problem,
    stopped: Problem,
    outcome_of: Callable[[Configuration, int], Outcome],
    true: Callable[[Configuration], Point],
    regret: Callable[[Point], float],
    marks: Sequence[int],
) -> dict[str, Any]:
    """The numbers of a cell: two sweeps of as many trials as the problems say, the second one with stopping.

    Args:
        true: the objectives (m,) of a configuration, without noise.
        regret: of finished configurations (n, m).
        marks: the numbers N of whole trainings that the stopped sweep is compared with.
    """
    directions = [objective.direction for objective in stopped.space.objectives]
    num_whole, num_trials = whole.num_trials or 0, stopped.num_trials or 0
    unstopped = simulate(whole, outcome_of, num_trials=num_whole, num_workers=NUM_WORKERS)
    goals = _regrets(unstopped, true, regret)
    stopping = EarlyStopping(stopped)
    trials = simulate(
        stopped, outcome_of, num_trials=num_trials, num_workers=NUM_WORKERS, should_stop=stopping
    )
    reached = _regrets(trials, true, regret)
    out: dict[str, Any] = {}
    for mark in marks:
        goal = goals[mark - 1][1]
        images = next((images for images, left in reached if left <= goal), math.inf)
        out |= {f"goal_{mark}": goal, f"images_{mark}": images / mark}
        out[f"regret_at_a_third_{mark}"] = min(
            (left for images, left in reached if images <= mark / 3), default=1.0
        )
    ends = {
        "true": [true(trial.configuration) for trial in trials],
        "measured": [trial.outcome.values for trial in trials],
    }
    for which, points in ends.items():
        front = members(np.array(points), directions)
        lost = sum(trial.status == "PRUNED" for trial, is_member in zip(trials, front) if is_member)
        out |= {f"front_{which}": int(front.sum()), f"lost_{which}": lost}
    return out | {"images": sum(trial.steps / trial.outcome.steps for trial in trials) / num_trials}


def _regrets(
    trials: list[SimulatedTrial], true: Callable[[Configuration], Point], regret: Callable[[Point], float]
) -> list[tuple[float, float]]:
    """(images so far in whole trainings, regret by true values of what has finished), as trials end."""
    out, points, images = [], np.zeros((0, len(true(trials[0].configuration)))), 0.0
    for trial in sorted(trials, key=lambda trial: trial.ends_sec):
        images += trial.steps / trial.outcome.steps
        if trial.status == "COMPLETE":
            points = np.vstack([points, true(trial.configuration)])
        out.append((images, regret(points)))
    return out


def report(lines: list[dict[str, Any]], what: str = "synthetic curves", marks: Sequence[int] = MARKS) -> None:
    """Prints a table for each sampler. `what`: the kind of curves, for the title."""
    for sampler in dict.fromkeys(line["sampler"] for line in lines):
        print(f"\n{what}, {sampler}: median (quartiles) over seeds, every one where they are fewer than five")
        print(
            "| problem | seeds | "
            + " | ".join(f"images for the regret of {mark}" for mark in marks)
            + " | images a trial | members of the true front stopped | of the measured front |"
        )
        print("|---" * (len(marks) + 5) + "|")
        ours = [line for line in lines if line["sampler"] == sampler]
        for name in dict.fromkeys(line["problem"] for line in ours):
            cells = [line for line in ours if line["problem"] == name]
            shares = []
            for mark in marks:
                values = sorted(line[f"images_{mark}"] for line in cells)
                low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="higher")
                few = ", ".join(f"{value:.2f}" for value in values)
                shares.append(few if len(values) < 5 else f"{middle:.2f} ({low:.2f}-{high:.2f})")
            images = sum(line["images"] for line in cells) / len(cells)
            lost = [
                " of ".join(str(sum(line[f"{key}_{which}"] for line in cells)) for key in ("lost", "front"))
                for which in ("true", "measured")
            ]
            print(f"| {name} | {len(cells)} | " + " | ".join([*shares, f"{images:.2f}", *lost]) + " |")


if __name__ == "__main__":
    command(__doc__, "stopping_cells.jsonl", 120, SAMPLERS, cell, report)
