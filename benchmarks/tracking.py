"""What MLflow costs a sweep for each trial, and whether that grows with the number of trials.

    python benchmarks/tracking.py [--trials 100,300,1000] [--out tracking.json]

A server of MLflow on this machine, on loopback, with an sqlite file. One trial after the other starts,
reports four evaluations and ends; each is awaited in MLflow, so the times of trials do not mix. Of the last
twenty trials up to each number the medians are printed:

* calls: what the driver waits for in the calls of `Tracker`, wall clock;
* driver: processor time of the thread that calls;
* sender: processor time of the whole driver's process, so with the thread that sends;
* server: processor time of MLflow's processes;
* sent: wall clock from a trial's start until MLflow has all of it.

Exit code 1 where the processor time of driver and server grows more than 1.3 times from the first number to
the last, or the driver needs more than 50 ms of it a trial.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from head import plain_environment
from test_results import synthetic_trial
from test_tracking_real import free_port

from raydistill.records.trials import Trial
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.tracking_facts import SweepFacts
from raydistill.terminal import Terminal

LAST = 20
MOST_GROWTH, MOST_SEC = 1.3, 0.050
"""Of the last number of trials over the first; of the driver for one trial."""


class Cost(NamedTuple):
    """Seconds of one trial."""

    calls: float
    driver: float
    sender: float
    server: float
    sent: float


def processor_sec(server: psutil.Process) -> float:
    """Of a process and its children since they began."""
    times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def measure(tracker: Tracker, trial: Trial, folder: Path, server: psutil.Process) -> Cost:
    """Sends one trial as a sweep does, from its start to its end in MLflow."""
    assert trial.result is not None
    elsewhere = processor_sec(server)
    began, used, alone = time.perf_counter(), time.process_time(), time.thread_time()
    tracker.send_trial(trial.with_result(None), folder)
    for evaluation in trial.result.evaluations:
        tracker.log_report(trial.trial_id, evaluation)
    tracker.send_trial(trial, folder)
    calls, driver = time.perf_counter() - began, time.thread_time() - alone
    assert tracker.flush(), "MLflow lacks something"
    sender, sent = time.process_time() - used, time.perf_counter() - began
    return Cost(calls, driver, sender, processor_sec(server) - elsewhere, sent)


def main(numbers: list[int], out: Path | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        port, work = free_port(), Path(folder)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{work}/server.db"]
        command += ["--artifacts-destination", str(work / "files")]
        with (work / "log").open("w") as log:
            server = subprocess.Popen(command, cwd=work, env=plain_environment(), stdout=log, stderr=log)
        try:
            _await(port)
            costs = _all(f"http://127.0.0.1:{port}", work, max(numbers), psutil.Process(server.pid))
        finally:
            server.terminate()
            server.wait(30)
    return _told(costs, numbers, out)


def _await(port: int) -> None:
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    sys.exit("the server did not start in 5 minutes")


def _all(address: str, work: Path, number: int, server: psutil.Process) -> list[Cost]:
    tracker = Tracker(address, "raydistill", work, Terminal(quiet=True))
    tracker.start_sweep(work, SweepFacts("demo", "abc", {}, {"space": "demo"}))
    assert tracker.flush()
    assert {thread.name for thread in threading.enumerate()} >= {"tracking"}
    costs = []
    for index in range(number):
        row = ("search", "", 10 + index, 0.2 + index / 10_000, 0.3, 16, "instance", "COMPLETE", "")
        costs.append(measure(tracker, synthetic_trial(index, *row), work, server))
    assert tracker.close()
    return costs


def _told(costs: list[Cost], numbers: list[int], out: Path | None) -> int:
    """Prints the table, and returns the exit code."""
    rows = {
        number: Cost(*(statistics.median(each) for each in zip(*costs[number - LAST : number], strict=True)))
        for number in numbers
    }
    print("trial   " + "".join(f"{name:>10}" for name in Cost._fields) + "   (ms)")
    for number, cost in rows.items():
        print(f"{number:<8}" + "".join(f"{1000 * value:10.2f}" for value in cost))
    first, last = rows[numbers[0]], rows[numbers[-1]]
    growth = {name: getattr(last, name) / getattr(first, name) for name in ("sender", "server", "sent")}
    print(", ".join(f"{name} grows {value:.2f} times" for name, value in growth.items()))
    in_all = (last.sender + last.server) / (first.sender + first.server)
    if out is not None:
        out.write_text(json.dumps({str(number): cost._asdict() for number, cost in rows.items()}, indent=1))
    return int(in_all > MOST_GROWTH or max(last.calls, last.sender) > MOST_SEC)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", default="100,300,1000", help="at which trials the costs are looked at")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    sys.exit(main([int(number) for number in given.trials.split(",")], given.out))
