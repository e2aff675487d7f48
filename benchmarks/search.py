"""How fast samplers reach a front that is known.

    python benchmarks/search.py --out cells.jsonl [--tables FOLDER]
    python benchmarks/search.py --out cells.jsonl --report

One cell is (problem, sampler, seed): a sweep in the simulator with 8 asynchronous workers. Each is one line
of the output, written when it is done; the same command goes on where it stopped. Everything is scaled to [0,
1] by an ideal and a nadir: the cheapest and the most expensive configuration, the best quality there is and
the median one. The reference is 1.1 in each objective. regret = (HV* - HV) / HV* of the TRUE values of all
evaluated configurations ("searched"), and of those that the measured front names ("reported").

Problems: the two FCNet tables where their folder is given (log10 of the validation error of really trained
networks, one of four seeds for a trial, against log10 of the parameters); ZDT1-3 with 10 numbers and DTLZ2
with 7, whose f1 is the known cost; and `widths`, a formula of five widths, a learning rate and a choice,
whose cost is the sum of products of neighbouring widths, with 2 % of noise.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.config.space import Choice, Distribution, Float, Int, Objective, SearchSpace
from raydistill.records.pareto import hypervolume, members
from raydistill.search import Configuration, Problem, random_configuration
from raydistill.search.simulate import Outcome, simulate
from raydistill.seeds import numpy_stream

NUM_WORKERS = 8
REFERENCE = 1.1
MARKS = (30, 60, 100, 200)
OURS, PEERS, STRONG = "known-cost", ("tpe", "nsga2", "random"), ("stratified", "gp", "modelled-cost")
SAMPLERS = (OURS, "modelled-cost", "tpe", "nsga2", "random", "stratified", "gp")
GP_TRIALS, GP_SEEDS = 60, 5
Point = NDArray[np.float64]


class KnownProblem(NamedTuple):
    """A problem whose front is known. Every objective is minimised; the cost comes first and has no noise."""

    name: str
    parameters: dict[str, Distribution]
    true: Callable[[Configuration], Point]
    """The objectives (m,) without noise, scaled."""
    measured: Callable[[Configuration, np.random.Generator], Point]
    best: float
    """Hypervolume of the true front."""

    def problem(self, sampler: str, seed: int, num_startup: int, num_trials: int) -> Problem:
        """The problem as a sampler gets it. `num_startup`: proposals of the stratified start."""
        count = len(self.true(random_configuration(self.space(1), np.random.default_rng(0))))
        return Problem(self.space(count), self.costs_of, seed, num_startup, sampler, num_trials)

    def space(self, count: int) -> SearchSpace:
        """The search space. `count`: objectives."""
        names = ["cost/known", *(f"val/{index}" for index in range(1, count))]
        objectives = tuple(Objective(name=name, direction="min", reference=REFERENCE) for name in names)
        return SearchSpace(preset="none", parameters=self.parameters, objectives=objectives, uniform=(1,))

    def costs_of(self, configuration: Configuration) -> dict[str, float]:
        """What the search knows of a configuration before its training."""
        return {"cost/known": float(self.true(configuration)[0])}


def volume(points: Point) -> float:
    """Hypervolume of points (n, m) against the reference."""
    return hypervolume(points, ["min"] * points.shape[1], [REFERENCE] * points.shape[1])


# ---- problems ----------------------------------------------------------------------------------------------


def fcnet(name: str, folder: Path) -> KnownProblem:
    """A problem out of a table of trained networks. `folder`: has fcnet_space.json and fcnet_NAME.npz."""
    axes: dict[str, list[Any]] = json.loads((folder / "fcnet_space.json").read_text())
    with np.load(folder / f"fcnet_{name}.npz") as stored:
        errors = np.log10(stored["valid_mse"].astype(np.float64))
        params = np.log10(stored["params"].astype(np.float64))
        means = np.log10(stored["valid_mse"].astype(np.float64).mean(axis=-1))
    low, high = np.array([params.min(), means.min()]), np.array([params.max(), np.median(means)])
    widths = [list(axes).index(f"n_units_{layer}") for layer in (1, 2)]
    parameters: dict[str, Distribution] = {
        path: Choice(options={str(value): value for value in values})
        if isinstance(values[0], str)
        else Int(low=0, high=len(values) - 1)
        for path, values in axes.items()
    }

    def at(configuration: Configuration) -> tuple[int, ...]:
        values = [(path, configuration[path]) for path in axes]
        return tuple(axes[path].index(value) if isinstance(value, str) else value for path, value in values)

    def point(configuration: Configuration, error: float) -> Point:
        index = at(configuration)
        return (np.array([params[index[widths[0]], index[widths[1]]], error]) - low) / (high - low)

    cost = params.reshape(
        [params.shape[widths.index(axis)] if axis in widths else 1 for axis in range(means.ndim)]
    )
    table = np.stack([np.broadcast_to(cost, means.shape).ravel(), means.ravel()], axis=1)
    return KnownProblem(
        name,
        parameters,
        lambda configuration: point(configuration, means[at(configuration)]),
        lambda configuration, rng: point(
            configuration, errors[at(configuration)][rng.integers(errors.shape[-1])]
        ),
        volume((table - low) / (high - low)),
    )


def formula(
    name: str,
    parameters: dict[str, Distribution],
    raw: Callable[[Configuration], Point],
    front: Point,
    noise: float = 0.0,
) -> KnownProblem:
    """A problem by formula, with the medians of 5,000 random configurations as the nadir's qualities.

    Args:
        raw: the objectives (m,) of a configuration, not scaled.
        front: points (n, m) of the true front.
        noise: standard deviation of the logarithm of a measured quality.
    """
    any_space = SearchSpace(preset="none", parameters=parameters, objectives=(), uniform=(1,))
    rng = numpy_stream(0, f"benchmark/{name}")
    sample = np.array([raw(random_configuration(any_space, rng)) for _ in range(5_000)])
    low = front.min(axis=0)
    high = np.concatenate([[max(front[:, 0].max(), sample[:, 0].max())], np.median(sample[:, 1:], axis=0)])

    def true(configuration: Configuration) -> Point:
        return (raw(configuration) - low) / (high - low)

    def measured(configuration: Configuration, rng: np.random.Generator) -> Point:
        values = raw(configuration)
        values[1:] *= np.exp(noise * rng.normal(size=len(values) - 1))
        return (values - low) / (high - low)

    return KnownProblem(name, parameters, true, measured, volume((front - low) / (high - low)))


def zdt(number: int, dimension: int = 10) -> KnownProblem:
    """ZDT1, 2 or 3 (Zitzler, Deb and Thiele 2000, "Comparison of Multiobjective Evolutionary Algorithms")."""
    parameters: dict[str, Distribution] = {f"x{index}": Float(low=0, high=1) for index in range(dimension)}

    def second(first: Any, g: Any) -> Any:
        share = first / g
        if number == 2:
            return g * (1 - share**2)
        return g * (1 - np.sqrt(share) - (share * np.sin(10 * np.pi * first) if number == 3 else 0.0))

    def raw(configuration: Configuration) -> Point:
        x = list(configuration.values())
        return np.array([x[0], second(x[0], 1 + 9 * sum(x[1:]) / (dimension - 1))])

    first = np.linspace(0, 1, 20_001)
    return formula(f"zdt{number}", parameters, raw, np.stack([first, second(first, 1.0)], axis=1))


def dtlz2(dimension: int = 7) -> KnownProblem:
    """DTLZ2 with three objectives.

    Deb, Thiele, Laumanns and Zitzler, "Scalable Multi-Objective Optimization Test Problems", 2002.
    """
    parameters: dict[str, Distribution] = {f"x{index}": Float(low=0, high=1) for index in range(dimension)}

    def raw(configuration: Configuration) -> Point:
        x = list(configuration.values())
        a, b = 0.5 * math.pi * x[0], 0.5 * math.pi * x[1]
        radius = 1 + sum((value - 0.5) ** 2 for value in x[2:])
        return radius * np.array([math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a)])

    angles = np.linspace(0, 0.5 * math.pi, 61)
    a, b = (grid.ravel() for grid in np.meshgrid(angles, angles))
    return formula(
        "dtlz2", parameters, raw, np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=1)
    )


def width_space() -> KnownProblem:
    """A formula that looks like a search over widths: the cheap parts are not those that matter most."""
    options = np.arange(4, 49, 4)
    positions, needs = np.array([16.0, 4.0, 1.0, 4.0]), np.array([0.15, 0.35, 0.8, 0.5, 0.2])
    parameters: dict[str, Distribution] = {f"width{index}": Int(low=4, high=48, step=4) for index in range(5)}
    parameters |= {
        "rate": Float(low=1e-4, high=1e-1, log=True),
        "kind": Choice(options={"a": "a", "b": "b", "c": "c"}),
    }

    def cost(widths: Any) -> Any:
        return np.log10((positions * widths[..., :-1] * widths[..., 1:]).sum(axis=-1))

    def error(widths: Any) -> Any:
        return 0.05 + (needs / widths).sum(axis=-1) + 0.5 / widths.min(axis=-1) ** 1.5

    def raw(configuration: Configuration) -> Point:
        widths = np.array([float(configuration[f"width{index}"]) for index in range(5)])
        penalty = (
            1
            + 0.15 * (math.log10(configuration["rate"]) + 2.5 - 0.3 * math.log10(widths.mean())) ** 2
            + {"a": 0.0, "b": 0.08, "c": 0.2}[configuration["kind"]]
        )
        return np.array([cost(widths), math.log10(error(widths) * penalty)])

    grid = np.array(list(itertools.product(options, repeat=5)), dtype=np.float64)
    every = np.stack([cost(grid), np.log10(error(grid))], axis=1)
    return formula("widths", parameters, raw, every[members(every, ["min", "min"])], noise=0.02)


def problems(tables: Path | None) -> list[KnownProblem]:
    """Every problem. `tables`: folder of the FCNet tables; None: without these two."""
    trained = [fcnet(name, tables) for name in ("protein_structure", "slice_localization")] if tables else []
    return [*trained, zdt(1), zdt(2), zdt(3), dtlz2(), width_space()]


# ---- cells -------------------------------------------------------------------------------------------------


def outcomes(bench: KnownProblem, seed: int) -> Callable[[Configuration, int], Outcome]:
    """What a trial of a configuration measures, and how long it takes."""

    def outcome_of(configuration: Configuration, number: int) -> Outcome:
        rng = numpy_stream(seed, f"benchmark/{bench.name}", number)
        wall_sec = (0.5 + float(bench.true(configuration)[0])) * math.exp(0.25 * rng.normal())
        return Outcome(bench.measured(configuration, rng).tolist(), wall_sec)

    return outcome_of


def cell(bench: KnownProblem, sampler: str, seed: int, num_trials: int, num_startup: int) -> dict[str, Any]:
    """One simulated sweep: the line of its cell."""
    problem = bench.problem(sampler, seed, num_startup, num_trials)

    started, cpu = time.perf_counter(), time.process_time()
    trials = simulate(problem, outcomes(bench, seed), num_trials=num_trials, num_workers=NUM_WORKERS)
    seconds, cpu_sec = time.perf_counter() - started, time.process_time() - cpu
    ended = sorted(trials, key=lambda trial: trial.ends_sec)
    true = np.array([bench.true(trial.configuration) for trial in ended])
    measured = np.array([trial.outcome.values for trial in ended])
    directions = ["min"] * true.shape[1]
    out: dict[str, Any] = {
        "problem": bench.name,
        "sampler": sampler,
        "seed": seed,
        "startup": num_startup,
        "trials": len(trials),
    }
    for mark in (mark for mark in MARKS if mark <= len(trials)):
        reported = true[:mark][members(measured[:mark], directions)]
        out[f"searched_{mark}"] = (bench.best - volume(true[:mark])) / bench.best
        out[f"reported_{mark}"] = (bench.best - volume(reported)) / bench.best
    return out | {"proposal_sec": seconds / len(trials), "proposal_cpu_sec": cpu_sec / len(trials)}


def command(
    doc: str | None,
    out: str,
    trials: int,
    samplers: Sequence[str],
    wanted: Callable[[KnownProblem, dict[str, KnownProblem], str, int, int, int], dict[str, Any] | None],
    report: Callable[[list[dict[str, Any]]], None],
) -> None:
    """The command line of a benchmark over problems, samplers and seeds.

    It runs the cells that the file lacks, or reports those that it has.

    Args:
        doc: text of --help.
        out, trials, samplers: default file, default number of trials, and what may be chosen.
        wanted: (problem, all problems by name, sampler, seed, trials, startup) -> the line of a cell, or None
            where the cell is left out.
        report: prints the lines of the finished cells.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--tables", type=Path, help="folder of the FCNet tables")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=trials, help="of a sweep")
    parser.add_argument("--startup", type=int, default=10, help="proposals of the stratified start")
    parser.add_argument("--samplers", nargs="+", choices=samplers, default=list(samplers))
    parser.add_argument("--problems", nargs="*", default=[])
    parser.add_argument("--report", action="store_true", help="tables of the finished cells; runs nothing")
    arguments = parser.parse_args()
    if arguments.report:
        return report(read(arguments.out))
    done = {(line["problem"], line["sampler"], line["seed"]) for line in read(arguments.out)}
    benches = {bench.name: bench for bench in problems(arguments.tables)}
    chosen = [
        bench for name, bench in benches.items() if not arguments.problems or name in arguments.problems
    ]
    for seed, bench, sampler in itertools.product(range(arguments.seeds), chosen, arguments.samplers):
        if (bench.name, sampler, seed) in done:
            continue
        if (line := wanted(bench, benches, sampler, seed, arguments.trials, arguments.startup)) is None:
            continue
        with arguments.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def wanted_cell(
    bench: KnownProblem,
    benches: dict[str, KnownProblem],
    sampler: str,
    seed: int,
    num_trials: int,
    startup: int,
) -> dict[str, Any] | None:
    """A cell; fewer seeds and trials for Optuna's Gaussian process, which is slow."""
    if sampler != "gp":
        return cell(bench, sampler, seed, num_trials, startup)
    return cell(bench, sampler, seed, min(GP_TRIALS, num_trials), startup) if seed < GP_SEEDS else None


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of the finished cells. A last line that a kill cut off does not count."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


# ---- report ------------------------------------------------------------------------------------------------


def report(lines: list[dict[str, Any]]) -> None:
    """Prints medians (quartiles) of the regret x 1e-3, and geometric means of peers' medians by ours."""
    by_cell = {(line["problem"], line["sampler"], line["seed"]): line for line in lines}
    names = list(dict.fromkeys(line["problem"] for line in lines))
    for what, mark in itertools.product(("searched", "reported"), MARKS):
        key = f"{what}_{mark}"
        if not any(key in line for line in lines):
            continue
        print(
            f"\nregret x 1e-3, {what}, {mark} trials: median (quartiles), seeds\n| problem | "
            + " | ".join(SAMPLERS)
            + " |"
        )
        print("|---" * (len(SAMPLERS) + 1) + "|")
        median: dict[tuple[str, str], float] = {}
        for name in names:
            row = []
            for sampler in SAMPLERS:
                values = [
                    1e3 * line[key]
                    for (problem, by, _), line in by_cell.items()
                    if (problem, by) == (name, sampler) and key in line
                ]
                if values:
                    low, median[name, sampler], high = np.quantile(values, [0.25, 0.5, 0.75])
                    row.append(f"{median[name, sampler]:.3g} ({low:.3g}-{high:.3g}), {len(values)}")
                else:
                    row.append("")
            print(f"| {name} | " + " | ".join(row) + " |")
        for label, group in (("best of TPE, NSGA-II, random", PEERS), *((peer, (peer,)) for peer in STRONG)):
            ratios = [
                min(median[name, peer] for peer in group) / median[name, OURS]
                for name in names
                if all((name, sampler) in median for sampler in (*group, OURS))
            ]
            if ratios:
                print(
                    f"{label} / known-cost: {math.exp(np.mean(np.log(ratios))):.2f} (geometric mean of "
                    f"{len(ratios)} problems)"
                )
        if what == "searched":
            for name, peer in itertools.product(names, STRONG):
                _worse(by_cell, name, peer, key)
    for sampler in SAMPLERS:
        seconds = [line["proposal_cpu_sec"] for line in lines if line["sampler"] == sampler]
        if seconds:
            print(f"{sampler}: {np.median(seconds):.3f} CPU s a proposal (median over cells of the mean)")


def _worse(by_cell: dict[tuple[str, str, int], dict[str, Any]], name: str, peer: str, key: str) -> None:
    """Prints where ours is worse than a peer: beyond the paired 95 % bootstrap interval of the difference."""
    pairs = [
        line[key] - by_cell[name, peer, seed][key]
        for (problem, sampler, seed), line in by_cell.items()
        if (problem, sampler) == (name, OURS) and key in line and key in by_cell.get((name, peer, seed), {})
    ]
    if len(pairs) >= 5:
        draws = np.random.default_rng(0).choice(pairs, size=(2_000, len(pairs))).mean(axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        if low > 0:
            print(f"{name}: known-cost is WORSE than {peer} by {low:.2g} to {high:.2g} ({len(pairs)} seeds)")


if __name__ == "__main__":
    command(__doc__, "search_cells.jsonl", 100, SAMPLERS, wanted_cell, report)
