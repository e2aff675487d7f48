"""What a GPU is asked first, in minutes: `python benchmarks/gpu.py --minutes 8`.

It needs Python, torch, pydantic, numpy, scipy, pillow, safetensors and torchmetrics; neither Ray nor pytest,
and raydistill need not be installed. Its parts, in this order:

environment  the card, its driver, torch, CUDA, memory, and which products may use TF32
checks       `tests/gpu_checks.py`: the tests of the `gpu` mark that need no Ray
parity       losses of the same steps on the card and on its CPU, judged
speed        images/s of a step, ours in float32 and bfloat16 and the published way, in turns, and the share
             of the card's measured peak; at 64 and at 256 pixels
memory       what a whole short training takes of the card, against what is predicted; at 64 and 256 pixels
two trials   two processes on one card at once, against one
compile      the check of `execution.compile`

Each part runs in a process of its own, which is ended when its time is up; what it has measured by then is
kept. `--out` is written after each measurement. The same command with the same file goes on: what is there is
not measured again, what failed is. `--device cpu --tiny` runs everything in seconds without a GPU; a line
whose figures say nothing there says so. Exit codes: 0, also where time was too short for all; 1 where
something failed; 2 for wrong input.
"""

import argparse
import importlib
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

# also where PYTHONSAFEPATH leaves out the folder of a script
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from raydistill.errors import InputError, RaydistillError
from raydistill.records.files import write_json_atomic

ROOT = Path(__file__).parents[1]
PARTS_MODULE = "gpu_parts"
"""Where the parts are. It is imported in their processes alone: this one waits, and stays small."""
PRELOADED = (PARTS_MODULE, "torch._dynamo")
"""What the processes of all parts share; every optimizer of torch imports the second."""
MINUTE_SEC = 60.0
VERSION = 1
"""Of the file."""
WEIGHTS = {
    "environment": 1.0,
    "checks": 1.5,
    "parity 64px": 0.5,
    "parity unet256": 0.7,
    "speed 64px": 1.0,
    "speed unet256": 1.3,
    "memory 64px": 0.5,
    "memory unet256": 0.5,
    "two trials": 0.8,
    "compile": 0.9,
}
"""Part -> its share of the time, in minutes of eight. What a part does not use is the later ones'."""
PROCESSES = {"two trials": 2}
"""Parts of more than one process."""
SAME = ("device", "tiny")
"""Options that the runs of one file share."""
SAME_MACHINE = ("card", "torch", "python")
"""What the environment of all runs of one file shares."""


class TimeIsUpError(Exception):
    """Ends a part, or a run, before all of it was measured."""


class Given(NamedTuple):
    """What the process of a part is given."""

    module: str
    """Where the parts are."""
    part: str
    device: str
    tiny: bool
    folder: str
    """Empty at first; shared by the processes of the part."""
    known: tuple[str, ...]
    """Units that were measured by an earlier run."""
    until: float
    """Unix time at which the part should end; at twice its share of the time it is ended."""
    rank: int
    """Of this process among those of the part."""

    def require_time(self) -> None:
        """Raises TimeIsUpError where the part should have ended by now."""
        if time.time() > self.until:
            raise TimeIsUpError


class Unit(NamedTuple):
    """One thing that was measured or checked."""

    name: str
    line: str
    """For a person."""
    figures: dict[str, Any]
    """For a program: JSON."""
    failed: bool = False
    """Whether it is not as it has to be."""


# ---- the file ----------------------------------------------------------------------------------------------


def read(path: Path, own: dict[str, Any]) -> dict[str, Any]:
    """What is in the file of earlier runs; a new one where there is none.

    Args:
        own: options that all runs of a file share.

    Raises:
        InputError: it is no such file, or one of other options.
    """
    if not path.exists():
        return {"version": VERSION, **own, "parts": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != VERSION or not isinstance(found["parts"], dict):
            raise ValueError(f"version {found['version']}, and this is version {VERSION}")
        theirs = {name: found[name] for name in own}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--out {path}: not a file of this command ({error}); give another one, or remove it"
        ) from error
    if theirs != own:
        raise InputError(f"--out {path}: was made with {theirs}, not with {own}; give another file")
    return found


def add(record: dict[str, Any], part: str, unit: Unit) -> None:
    """Puts a unit into a part of the record.

    Raises:
        InputError: the environment is not that of the earlier runs.
    """
    units = record["parts"].setdefault(part, {"done": False, "units": {}})["units"]
    if part == "environment" and unit.name in units:
        for name in SAME_MACHINE:
            before, now = units[unit.name]["figures"].get(name), unit.figures.get(name)
            if before != now:
                raise InputError(f"the file is of {name} {before}, and this is {now}; give another --out")
    units[unit.name] = {"line": unit.line, "figures": finite(unit.figures), "failed": unit.failed}


def finite(value: Any) -> Any:
    """The value for JSON, which has no word for infinity: None stands there."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- one part ----------------------------------------------------------------------------------------------


def child(given: Given, sender: Connection) -> None:
    """The process of a part: sends a `Unit` for each thing that it has measured, then how it ended."""
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        for unit in importlib.import_module(given.module).units(given):
            sender.send(unit)
        sender.send("done")
    except TimeIsUpError:
        sender.send("time is up")
    except KeyboardInterrupt:
        return  # the terminal has sent it to the runner, too
    except BaseException as error:
        traceback.print_exc()
        sender.send(f"failed: {type(error).__name__}: {error}")


class Runner:
    """Runs parts until `deadline`, and keeps `record` and its file up to date."""

    def __init__(self, record: dict[str, Any], options: argparse.Namespace):
        self.record, self.options, self.started = record, options, time.time()
        self.deadline = self.started + 60 * options.minutes
        self.minutes_said = 0
        self.context = multiprocessing.get_context("forkserver")
        places = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        self.context.set_forkserver_preload(list(PRELOADED))

    def say(self, line: str) -> None:
        """Prints a line with the time since the start."""
        passed = int(time.time() - self.started)
        print(f"{passed // 60:2}:{passed % 60:02}  {line}", flush=True)

    def save(self) -> None:
        """Writes the file."""
        write_json_atomic(self.options.out, self.record)

    def until(self, part: str) -> float:
        """When a part should end: at its share of the time that is left for it and the parts to come."""
        names = list(WEIGHTS)
        to_come = [
            name for name in names[names.index(part) :] if not self.record["parts"].get(name, {}).get("done")
        ]
        share = WEIGHTS[part] / sum(WEIGHTS[name] for name in {part, *to_come})
        return time.time() + share * max(0.0, self.deadline - time.time())

    def run(self, part: str) -> None:
        """Runs one part, or what is left of it; it is ended at twice its share, at the latest in time."""
        until = self.until(part)
        known = () if part == "environment" else self.known(part)
        self.record["parts"].setdefault(part, {"done": False, "units": {}})
        folder = tempfile.mkdtemp()
        processes: dict[Connection, ForkServerProcess] = {}
        for rank in range(PROCESSES.get(part, 1)):
            options = self.options
            given = Given(PARTS_MODULE, part, options.device, options.tiny, folder, known, until, rank)
            receiver, sender = self.context.Pipe(duplex=False)
            process = self.context.Process(target=child, args=(given, sender))
            process.start()
            sender.close()
            processes[receiver] = process
        try:
            ended = self.listen(part, processes, min(self.deadline, 2 * until - time.time()))
        finally:
            for process in processes.values():
                process.kill()
                process.join()
            shutil.rmtree(folder, ignore_errors=True)
        found = self.record["parts"][part]
        found["ended"] = ended
        found["done"] = ended == "done" and not any(unit["failed"] for unit in found["units"].values())
        if ended != "done":
            self.say(f"{part}: {ended}")
        self.save()

    def listen(self, part: str, processes: dict[Connection, ForkServerProcess], latest: float) -> str:
        """Takes in what the processes of a part send until their end, or until `latest`; how it ended."""
        ended: dict[Connection, str] = {}
        running = dict(processes)
        while running:
            ready = wait(list(running), timeout=max(0.0, min(latest - time.time(), self.next_minute())))
            for receiver in ready:
                try:
                    sent = receiver.recv()
                except EOFError:
                    process = running.pop(receiver)
                    process.join()
                    ended.setdefault(receiver, f"failed: its process ended with code {process.exitcode}")
                    continue
                if isinstance(sent, str):
                    if sent.startswith("failed"):
                        return sent  # another process of the part may wait for this one
                    ended[receiver] = sent
                    continue
                add(self.record, part, sent)
                self.save()
                self.say(f"{part}: {'FAILED: ' if sent.failed else ''}{sent.line}")
            if time.time() >= latest:
                return "time is up"
            self.say_minute(part)
        return next((how for how in ended.values() if how != "done"), "done")

    def known(self, part: str) -> tuple[str, ...]:
        """Units of a part that need not be measured again."""
        units = self.record["parts"].get(part, {}).get("units", {})
        return tuple(name for name, unit in units.items() if not unit["failed"])

    def next_minute(self) -> float:
        """Seconds until the next full minute since the start."""
        return MINUTE_SEC * (self.minutes_said + 1) - (time.time() - self.started)

    def say_minute(self, part: str) -> None:
        """Says once a minute where the run is."""
        if self.next_minute() > 0:
            return
        self.minutes_said = int((time.time() - self.started) // MINUTE_SEC)
        parts = self.record["parts"]
        done = sum(found["done"] for found in parts.values())
        measured = len(parts[part]["units"])
        left = (self.deadline - time.time()) / 60
        self.say(
            f"-- {done} of {len(WEIGHTS)} parts done; in {part}, {measured} measured; {left:.1f} min are left"
        )

    def all_parts(self) -> None:
        """The environment first, always; then every part that is not done."""
        for part in WEIGHTS:
            found = self.record["parts"].get(part, {"done": False, "units": {}})
            if part != "environment" and found["done"]:
                for unit in found["units"].values():
                    self.say(f"{part}, from an earlier run: {unit['line']}")
            elif time.time() < self.deadline:
                self.run(part)
            if part == "environment":
                self.require_device()

    def require_device(self) -> None:
        """Raises InputError where there is no card to measure."""
        units = self.record["parts"].get("environment", {"units": {}})["units"]
        if self.options.device == "cuda" and units and units["environment"]["figures"]["card"] is None:
            found = units["environment"]["figures"]["torch"]
            raise InputError(
                f"--device cuda: torch {found} finds no CUDA GPU here; `--device cpu --tiny` needs none"
            )

    def summary(self) -> int:
        """Says what is left and what failed; the exit code."""
        parts = self.record["parts"]
        left = [part for part in WEIGHTS if not parts.get(part, {}).get("done")]
        failed = [
            f"{part}: {name}"
            for part, found in parts.items()
            for name, unit in found["units"].items()
            if unit["failed"]
        ]
        failed += [part for part, found in parts.items() if found.get("ended", "").startswith("failed")]
        if left:
            self.say(f"not done: {', '.join(left)}; the same command with the same --out goes on")
        if failed:
            self.say(f"failed: {'; '.join(failed)}")
        self.say(f"{'all parts are done; ' if not left else ''}everything is in {self.options.out}")
        return 1 if failed else 0


def note_revision(record: dict[str, Any]) -> None:
    """Adds the commit of this checkout to those that the record was made with; "" where git does not say."""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        commit = done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    if commit not in record.setdefault("revisions", []):
        record["revisions"].append(commit)


def exit_code(run: Callable[[], int], out: Path) -> int:
    """What a run returns, or the exit code of its end by an error or Ctrl-C, which is said in a line.

    Args:
        out: the file with which the same command goes on.
    """
    try:
        return run()
    except RaydistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"interrupted; the same command with --out {out} goes on", file=sys.stderr)
        return 130


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="it ends within these")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file that it writes")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, few repeats: does it run?")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes:g}: must be above 0")

    def run() -> int:
        record = read(options.out, {name: getattr(options, name) for name in SAME})
        note_revision(record)
        runner = Runner(record, options)
        runner.save()
        runner.all_parts()
        return runner.summary()

    return exit_code(run, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
