"""What early stopping saves, on SYNTHETIC curves: `python benchmarks/stopping.py --out cells.jsonl [--tables FOLDER]`, then `--report`.

The problems and their final values are those of `search.py`; the way there is a model. A quality of final value v is at the share s of
its training v + a (s^-p - 1) + e, with a = 0.15 (0.5 + cost) exp(0.3 n1), p = 0.5 exp(0.2 n2), e = 0.02 (1 - s) n3, all n standard normal
and the cost scaled to [0, 1]: what is dear learns more slowly, and curves cross. All is scaled as in `search.py`; 8 evaluations a training.

One cell is (problem, sampler, seed): two simulated sweeps, with whole trainings and with early stopping. `images_N`: the images, in whole
trainings and divided by N, after which the finished trainings of the stopped sweep leave no more regret than N whole trainings do; "inf"
where they do not within the cell's trials. `lost`: of the members of the front over all that the stopped sweep proposed, those that were
stopped; by true values, and by the values that each would have measured at its end.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from search import NUM_WORKERS, Bench, Point, command, volume

from raydistill.records.pareto import members
from raydistill.search import Configuration, EarlyStopping, Problem
from raydistill.search.simulate import Outcome, SimulatedTrial, simulate
from raydistill.seeds import numpy_stream

MARKS = (30, 60)
EVALUATIONS = 8
SAMPLERS = ("known-cost", "random")


def cell(
    bench: Bench, benches: dict[str, Bench], sampler: str, seed: int, num_trials: int, num_startup: int
) -> dict[str, Any]:
    """Two simulated sweeps."""

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
    found = compared(
        whole,
        stopped,
        outcome_of,
        bench.true,
        lambda points: (bench.best - volume(points)) / bench.best,
        MARKS,
    )
    return {"problem": bench.name, "sampler": sampler, "seed": seed} | found


def compared(
    whole: Problem,
    stopped: Problem,
    outcome_of: Callable[[Configuration, int], Outcome],
    true: Callable[[Configuration], Point],
    regret: Callable[[Point], float],
    marks: Sequence[int],
) -> dict[str, Any]:
    """A cell's numbers: sweeps of as many trials as the problems say, the second one with early stopping.

    Args:
        true: the objectives (m,) of a configuration. `regret`: of finished configurations, (n, m).
    """
    directions = [objective.direction for objective in stopped.space.objectives]
    goals = _regrets(
        simulate(whole, outcome_of, num_trials=whole.num_trials or 0, num_workers=NUM_WORKERS), true, regret
    )
    num_trials = stopped.num_trials or 0
    trials = simulate(
        stopped,
        outcome_of,
        num_trials=num_trials,
        num_workers=NUM_WORKERS,
        should_stop=EarlyStopping(stopped),
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
    """(images so far in whole trainings, regret of the finished configurations' true values), by the order in which trials ended."""
    out, points, images = [], np.zeros((0, len(true(trials[0].configuration)))), 0.0
    for trial in sorted(trials, key=lambda trial: trial.ends_sec):
        images += trial.steps / trial.outcome.steps
        if trial.status == "COMPLETE":
            points = np.vstack([points, true(trial.configuration)])
        out.append((images, regret(points)))
    return out


def report(lines: list[dict[str, Any]], what: str = "synthetic curves", marks: Sequence[int] = MARKS) -> None:
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
