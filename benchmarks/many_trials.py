"""What the driver of a sweep of thousands of trials on 256 workers does, without a training.

    python benchmarks/many_trials.py [--trials 10000] [--problem idle]

* `simulated`: a sweep in the simulator by random proposals, processor time a trial over its last 500, so
  clock, history and the filter of what was proposed before;
* `ledger`: front, history and result at the end of one trial, of a ledger that has so many;
* `proposal`: of known-cost, with 256 trials running. From 400 ended trials on it models a subset.

Memory is the largest of the process. Exit code 1 where simulated and ledger take more than 50 ms together, a
proposal more than 1 s, or the process more than 1 GiB.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
from search import outcomes
from search_problems import KnownProblem, problems

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from test_ledger import bare
from test_results import synthetic_trial

from raydistill import search
from raydistill.search.simulate import SimulatedTrial, simulate

WORKERS, TIMED = 256, 500
"""Workers of the sweep, and its last trials, which are simulated; those before are made up."""
MARKS = (100, 300, 1_000, 3_000, 10_000)
MOST_SEC, MOST_PROPOSAL_SEC, MOST_GIB = 0.05, 1.0, 1.0


def swept(bench: KnownProblem, number: int) -> tuple[list[SimulatedTrial], float]:
    """So many ended trials, and processor seconds a trial of a simulated sweep over the last of them."""
    problem, outcome_of, rng = (
        bench.problem("random", 0, 10, number),
        outcomes(bench, 0),
        np.random.default_rng(0),
    )
    drawn: dict[tuple[tuple[str, object], ...], None] = {}
    while len(drawn) < number - TIMED:
        drawn.setdefault(tuple(search.random_configuration(problem.space, rng).items()))
    most = [
        SimulatedTrial(index, dict(each), outcome_of(dict(each), index), 0.0, "COMPLETE")
        for index, each in enumerate(drawn)
    ]
    began = time.process_time()
    trials = simulate(problem, outcome_of, num_trials=number, num_workers=WORKERS, trials=most)
    return trials, (time.process_time() - began) / TIMED


def ledger_sec(number: int) -> float:
    """Processor seconds of a trial's end in a ledger of so many."""
    rng, trials = np.random.default_rng(0), []
    for index in range(number):
        macs, miou = int(rng.integers(10, 10**6)), float(rng.random())
        trial = synthetic_trial(index, "search", "", macs, miou, 0.3, 16, "instance", "COMPLETE", "")
        trials.append(trial.model_copy(update={"configuration": {"a": index}}))
    ledger = bare(Path(), trials)
    last = ledger.trials[-1]
    began = time.process_time()
    ledger.put(last, last.result)
    ledger.front()
    ledger.history()
    return time.process_time() - began


def proposal_sec(bench: KnownProblem, trials: list[SimulatedTrial]) -> float:
    """Processor seconds of a proposal of known-cost after these trials, while the next 256 run: the mean of
    three, of which one looks around."""
    told = [each.observation for each in trials]
    told += [each._replace(state="RUNNING", values=None) for each in told[-WORKERS:]]
    problem = bench.problem("known-cost", 0, 10, len(told))
    began = time.process_time()
    for number in range(len(told), len(told) + 3):
        search.propose(problem, told, number)
    return (time.process_time() - began) / 3


def main(number: int, name: str) -> int:
    bench = problems(None)[name]
    trials, simulated = swept(bench, number)
    print(f"simulated, {number:,} trials, {WORKERS} workers: {1e3 * simulated:.1f} CPU ms a trial")
    marks = [mark for mark in MARKS if mark <= number]
    proposals = {mark: proposal_sec(bench, trials[:mark]) for mark in marks}
    ledgers = {mark: ledger_sec(mark) for mark in marks}
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("trials    ledger, ms   proposal, s   (CPU)")
    for mark in marks:
        print(f"{mark:<10}{1e3 * ledgers[mark]:10.1f}{proposals[mark]:14.3f}")
    print(f"{gib:.2f} GiB")
    driver = simulated + ledgers[marks[-1]]
    return int(driver > MOST_SEC or max(proposals.values()) > MOST_PROPOSAL_SEC or gib > MOST_GIB)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--problem", default="idle")
    given = parser.parse_args()
    sys.exit(main(given.trials, given.problem))
