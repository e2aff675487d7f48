"""How fast samplers reach a front that is known.

    python benchmarks/search.py --out cells.jsonl [--tables FOLDER]
    python benchmarks/search.py --out cells.jsonl --report

One cell is (problem, sampler, seed): a sweep in the simulator with 8 asynchronous workers. Each is one line
of the output, written when it is done; the same command goes on where it stopped. The problems, and how they
are scaled, are those of `search_problems.py`. regret = (HV* - HV) / HV* of the TRUE values of all evaluated
configurations ("searched"), and of those that the measured front names ("reported").
"""

import argparse
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from search_problems import REFERENCE, KnownProblem, problems, volume

from raydistill.records.pareto import members
from raydistill.search import Configuration
from raydistill.search.simulate import Outcome, simulate
from raydistill.seeds import numpy_stream

NUM_WORKERS = 8
MARKS = (30, 60, 100, 200)
OURS, PEERS = "known-cost", ("tpe", "nsga2", "random")
STRONG = ("stratified", "gp", "botorch", "modelled-cost")
SAMPLERS = (OURS, "modelled-cost", "tpe", "nsga2", "random", "stratified", "gp", "botorch")
PATHS = {"botorch": f"botorch_peer.QLogNEHVISampler(reference={REFERENCE})"}
"""Of samplers that have no name of their own. This one needs `pip install botorch`."""
SLOW, SLOW_SEEDS = ("gp", "botorch"), 5
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
    problem = bench.problem(PATHS.get(sampler, sampler), seed, num_startup, num_trials)

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
    benches = problems(arguments.tables)
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
    """A cell; fewer seeds for the Gaussian processes of others, which are slow."""
    if sampler in SLOW and seed >= SLOW_SEEDS:
        return None
    if sampler == "botorch" and find_spec("botorch") is None:
        warnings.warn("botorch is not installed, so its cells are left out", stacklevel=1)
        return None
    return cell(bench, sampler, seed, num_trials, startup)


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
