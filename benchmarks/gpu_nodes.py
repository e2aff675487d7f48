"""Several GPUs by Ray Train: `python benchmarks/gpu_nodes.py --minutes 10`, on a machine of two or more.

parity   the same training by one worker, by all of them, and by all of them with FSDP2: losses, judged, and
         how far weights are apart
scaling  images/s of 1, 2, 4, .. workers, each with as many images a step as one has alone
packing  images/s of 1, 2 and 4 trials on one GPU at once

Workers talk by nccl. `--backend gloo --workers 2 --tiny` runs everything on a CPU, where no rate means
anything. `--launcher processes` starts the workers without Ray. With RAY_ADDRESS the cluster there is joined,
and the folder of `--out` must be one that all nodes see; without it Ray listens on loopback and is ended.

`--out` is written after each training, beside a folder of the same name with the trainings themselves: the
same command goes on, see `benchmarks/gpu.py`, whose exit codes it has.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also where PYTHONSAFEPATH leaves it out
import gpu
import gpu_parts
import torch
from gpu import Given, TimeIsUpError, Unit
from gpu_launchers import LAUNCHERS, Launcher, Watch
from parity import difference

from raydistill import ray_address
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.errors import InputError, RaydistillError
from raydistill.records.files import write_json_atomic
from raydistill.records.trials import TrialResult, read_result

PARTS = ("parity", "scaling", "packing")
SAME = ("backend", "workers", "tiny", "launcher")
"""Options that the runs of one file share."""
TOLERANCE = 1e-3
"""Largest relative difference of the last report's L1 loss, a mean over four steps of a rate of 1e-4.

By gloo it is 1e-5 (docs/results/time-and-memory.md). Weights go apart by rounding, and are not judged.
"""
PARITY_STEPS = 4
FSDP = {"execution.sharding": "fsdp", "execution.fsdp_min_params": 1}
PACKED = (1, 2, 4)


class Bench:
    """What all parts need: the options, the networks and data, and who starts workers."""

    def __init__(self, options: argparse.Namespace, launcher: Launcher):
        self.options, self.launcher = options, launcher
        self.folder = options.out.resolve().with_suffix("")
        self.jobs: dict[str, Job] = {}

    def job(self, case: str, batch_size: int, steps: int, **values: Any) -> Job:
        """A student of `case` with so many steps and two reports. `values`: config paths, `__` for a dot."""
        if case not in self.jobs:
            folder = str(self.folder / "given")
            given = Given("", "", "cpu", self.options.tiny, folder, (), 0.0, 0)
            self.jobs[case] = gpu_parts.set_up(given, case, "cpu").job
        job = self.jobs[case]
        lengths = {"batch_size": batch_size, "budget_nimg": batch_size * steps, "ema_nimg": 0}
        lengths |= {"report_every_nimg": batch_size * steps // 2}
        paths = {path.replace("__", "."): value for path, value in values.items()}
        experiment = shapes32().model_copy(update={"student": job.training})
        given_values = {f"student.{path}": value for path, value in (lengths | paths).items()}
        training = with_values(experiment, given_values, where="benchmark").student
        return job.model_copy(update={"training": training})

    def trained(self, name: str, job: Job, workers: int) -> TrialResult:
        """The result of a job by so many workers, in a folder of its own; one that is there is not made
        again."""
        folder = self.folder / name
        if not is_trained(job, folder):
            self.launcher.together(job, folder, workers)
        return result_in(folder)

    @property
    def note(self) -> str:
        """What is said behind rates that mean nothing; "" on cards."""
        return gpu_parts.ON_CPU if self.options.backend == "gloo" else ""


def is_trained(job: Job, folder: Path) -> bool:
    """Whether an earlier run has trained the job there."""
    result = read_result(folder)
    return result is not None and result.status == "COMPLETE" and result.trial_key == job.key


def result_in(folder: Path) -> TrialResult:
    """The result of a training. Raises RaydistillError where it failed."""
    result = read_result(folder)
    if result is None or result.status != "COMPLETE":
        raise RaydistillError(f"{folder}: {'no result' if result is None else result.reason}")
    return result


# ---- parts -------------------------------------------------------------------------------------------------

Measurement = tuple[str, Callable[[], Unit]]
"""Name of a unit, and what measures it."""


def parity(bench: Bench) -> Iterator[Measurement]:
    """Of one worker, all workers, and all workers with FSDP2."""
    workers = bench.options.workers
    batch_size = 4 * workers

    def job_of(how: str) -> Job:
        values: dict[str, Any] = {"optimizer__learning_rate": 1e-4}
        if how == "fsdp":
            values |= {path.replace(".", "__"): value for path, value in FSDP.items()}
        return bench.job("64px", batch_size, PARITY_STEPS, **values)

    def unit(how: str, name: str) -> Unit:
        job, alone = job_of(how), bench.trained("parity-1", job_of("data parallel"), 1)
        found = bench.trained(f"parity-{name.replace(' ', '-')}", job, workers)
        l1, expected = found.metrics["train/l1"], alone.metrics["train/l1"]
        share = abs(l1 - expected) / expected
        apart = difference(bench.folder / f"parity-{name.replace(' ', '-')}", bench.folder / "parity-1", job)
        line = (
            f"{name}: L1 {l1:.7f}, one worker {expected:.7f}: {share:.1e} apart, at most {TOLERANCE:.0e}; "
            f"weights {apart:.1e} of the way from the start"
        )
        figures = {"l1": l1, "l1_of_one": expected, "share": share, "weights": apart}
        return Unit(name, line, figures, not share <= TOLERANCE)

    for how in ("data parallel", "fsdp"):
        name = f"{workers} workers {how}"
        yield name, lambda how=how, name=name: unit(how, name)


def scaling(bench: Bench) -> Iterator[Measurement]:
    """Of 1, 2, 4, .. workers: the rate of a training's second half."""
    most = bench.options.workers
    counts = sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
    for case, batch_size, steps in (("64px", 16, 400), ("unet256", 4, 80)):
        if bench.options.tiny:
            batch_size, steps = 4, 4

        def unit(case: str, count: int, batch_size: int, steps: int) -> Unit:
            def rate_of(workers: int) -> float:
                job = bench.job(case, batch_size * workers, steps)
                return rate(bench.trained(f"scaling-{case}-{workers}", job, workers))

            alone, found = rate_of(1), rate_of(count)
            efficiency = found / alone / count
            line = (
                f"{case}, {count} workers: {found:.4g} images/s, {found / alone:.2f} times one, efficiency "
                f"{efficiency:.2f}{bench.note}"
            )
            return Unit(f"{case} {count}", line, {"images_per_sec": found, "efficiency": efficiency})

        for count in counts:
            yield (
                f"{case} {count}",
                lambda case=case, count=count, batch=batch_size, steps=steps: unit(case, count, batch, steps),
            )


def packing(bench: Bench) -> Iterator[Measurement]:
    """Of 1, 2 and 4 trials on one GPU: the sum of the rates of their second halves."""
    steps = 4 if bench.options.tiny else 400
    totals: dict[int, float] = {}

    def total(count: int) -> float:
        if count not in totals:
            jobs = [
                bench.job("64px", 4 if bench.options.tiny else 16, steps, seed=seed) for seed in range(count)
            ]
            folders = [bench.folder / f"packing-{count}-{number}" for number in range(count)]
            if not all(map(is_trained, jobs, folders)):
                bench.launcher.at_once(jobs, folders)
            totals[count] = sum(rate(result_in(folder)) for folder in folders)
        return totals[count]

    def unit(count: int) -> Unit:
        found, alone = total(count), total(1)
        rates = f"{found:.4g} images/s together, {found / alone:.2f} times one"
        line = f"{count} trials at once: {rates}{bench.note}"
        return Unit(str(count), line, {"images_per_sec": found, "times": found / alone})

    for count in PACKED[: 2 if bench.options.tiny else None]:
        yield str(count), lambda count=count: unit(count)


def rate(result: TrialResult) -> float:
    """images/s between the two reports of a training, without scoring; its checkpoint is in it."""
    first, last = result.evaluations
    return (last.nimg - first.nimg) / (last.wall_sec - first.wall_sec - last.scoring_sec)


# ---- the command -------------------------------------------------------------------------------------------


class Progress:
    """Says what was measured, and once a minute where the run is; ends what waits when time is up."""

    def __init__(self, minutes: float):
        self.started = time.time()
        self.deadline, self.minutes, self.at = self.started + 60 * minutes, 0, "its start"

    def say(self, line: str) -> None:
        """Prints a line with the time since the start."""
        passed = int(time.time() - self.started)
        print(f"{passed // 60:2}:{passed % 60:02}  {line}", flush=True)

    def watch(self) -> None:
        """Called again and again while workers train. Raises TimeIsUpError."""
        if time.time() >= self.deadline:
            raise TimeIsUpError
        passed = int((time.time() - self.started) // gpu.MINUTE_SEC)
        if passed > self.minutes:
            self.minutes = passed
            self.say(f"-- in {self.at}; {(self.deadline - time.time()) / 60:.1f} min are left")


def measure(bench: Bench, record: dict[str, Any], progress: Progress) -> None:
    """Takes every measurement that is not there, until time is up."""
    parts = {"parity": parity, "scaling": scaling, "packing": packing}
    for part in bench.options.parts:
        for name, unit_of in parts[part](bench):
            known = record["parts"].get(part, {}).get("units", {})
            if name in known and not known[name]["failed"]:
                progress.say(f"{part}, from an earlier run: {known[name]['line']}")
                continue
            progress.at = f"{part}, {name}"
            try:
                progress.watch()
                unit = unit_of()
            except TimeIsUpError:
                progress.say(f"time is up in {progress.at}; the same command with the same --out goes on")
                return
            except Exception as error:
                unit = Unit(name, f"{name}: {type(error).__name__}: {error}", {}, failed=True)
            gpu.add(record, part, unit)
            write_json_atomic(bench.options.out, record)
            progress.say(f"{part}: {'FAILED: ' if unit.failed else ''}{unit.line}")
    failed = failures(record)
    progress.say(f"failed: {'; '.join(failed)}" if failed else "everything is done")


def failures(record: dict[str, Any]) -> list[str]:
    """The units that failed, by part and name."""
    return [
        f"{part}: {name}"
        for part, found in record["parts"].items()
        for name, unit in found["units"].items()
        if unit["failed"]
    ]


def require_cards(options: argparse.Namespace) -> None:
    """Raises InputError where there are too few GPUs for `--backend nccl`, or too few workers."""
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.workers is None:
        options.workers = here if options.backend == "nccl" else 2
    if options.backend == "nccl" and ray_address() is None and here < max(2, options.workers):
        raise InputError(
            f"--backend nccl: needs {max(2, options.workers)} CUDA GPUs, and torch finds {here} here; "
            "`--backend gloo --workers 2 --tiny` needs none"
        )
    if options.workers < 2:
        raise InputError(f"--workers {options.workers}: must be at least 2")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="it ends within these")
    parser.add_argument("--out", type=Path, default=Path("gpu_nodes.json"), help="the file that it writes")
    parser.add_argument("--backend", choices=("nccl", "gloo"), default="nccl")
    parser.add_argument("--workers", type=int, help="the most workers; all GPUs of this machine without it")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, few steps: does it run?")
    parser.add_argument("--launcher", choices=LAUNCHERS, default="ray", help="who starts the workers")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes:g}: must be above 0")
    progress = Progress(options.minutes)

    def run() -> int:
        require_cards(options)
        record = gpu.read(options.out, {name: getattr(options, name) for name in SAME})
        gpu.note_revision(record)
        watch: Watch = progress.watch
        with LAUNCHERS[options.launcher](options.backend, options.workers, watch) as launcher:
            measure(Bench(options, launcher), record, progress)
        return int(bool(failures(record)))

    return gpu.exit_code(run, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
