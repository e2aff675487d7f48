"""The parts of `benchmarks/gpu.py`: each yields a `Unit` for each thing that it has measured.

A part runs in a process of its own, so what it does to torch's settings stays there.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import step
import torch
from gpu import Given, Unit
from gpu_machine import environment, peak, used_mib

from raydistill.config.architectures import UnetGenerator, UnetWidths
from raydistill.config.presets import shapes32
from raydistill.data import read_info
from raydistill.models import networks, saved
from raydistill.planning import memory
from raydistill.training.loop import train

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import gpu_checks

Units = Iterator[Unit]
TINY_CHECKS = (
    "the_gpu_gives_what_the_cpu_gives[distill]",
    "nccl_with_one_worker_gives_what_no_process_group_gives[distill]",
    "bfloat16_stays_finite_and_close[distill]",
)
ON_CPU = " (on a CPU: shows that it runs, nothing of a card)"
STEPS = 3
"""Of parity and of the training whose memory is measured."""
FIRST_TOLERANCE, LATER_TOLERANCE = 1e-3, 1e-2
"""Largest relative difference of a loss between card and CPU, without TF32: at the first step, where weights
are equal, and at later ones, which Adam has led apart.

With and without oneDNN, a CPU differs from itself by up to 3e-6 at the first step and 3e-4 at the fourth.
"""
LOSSES = ("train/l1", "train/dissimilarity", "energy/pos", "energy/neg")
"""What parity compares; an energy relative to the larger of the two."""


def units(given: Given) -> Units:
    """What a part measures, without the units that are known."""
    name, _, case = given.part.partition(" ")
    if name in ("parity", "speed", "memory"):
        yield from {"parity": parity, "speed": speed, "memory": memory_of}[name](given, case)
    else:
        parts = {"environment": environment, "checks": checks, "two": two_trials, "compile": checks}
        yield from parts[name](given)


def on_cpu(given: Given) -> str:
    """What is said behind figures that mean nothing here; "" on a card."""
    return ON_CPU if given.device == "cpu" else ""


# ---- checks ------------------------------------------------------------------------------------------------


def checks(given: Given) -> Units:
    """The checks of `gpu_checks`, each a unit; the part `compile` is the one that compiles."""
    named = {
        name: check
        for name, check in gpu_checks.CHECKS.items()
        if ("[compile]" in name) == (given.part == "compile")
    }
    if given.tiny:
        kept = [name for name in named if name in TINY_CHECKS]
        yield Unit("left out", f"with --tiny: {len(kept)} of {len(named)}", {})
        named = {name: named[name] for name in kept}
    named = {name: check for name, check in named.items() if name not in given.known}
    kit = gpu_checks.Kit(Path(given.folder), given.device)
    for name, check in named.items():
        given.require_time()
        began = time.perf_counter()
        try:
            line, failed = check(kit), False
        except Exception as error:
            line, failed = f"{type(error).__name__}: {error}", True
        sec = time.perf_counter() - began
        yield Unit(name, f"{name}: {line}{on_cpu(given)}; {sec:.1f} s", {"sec": sec}, failed)


# ---- the trainings -----------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One training that is measured."""

    part: str
    """Of `benchmarks/step.py`."""
    batch_size: int


CASES = {"64px": Case("shapes64", 16), "unet256": Case("unet256", 4)}


def set_up(given: Given, name: str, device: str) -> step.Measured:
    """Data, untrained networks and the job of a case, in the part's folder.

    With `--tiny` it has pictures of 32 pixels and narrow networks of the same families.
    """
    case, folder = CASES[name], Path(given.folder) / name
    options = {"part": "shapes32" if given.tiny else case.part, "device": device, "precision": "float32"}
    measured = step.set_up(argparse.Namespace(**options, compile=False, curves=0, data=""), folder)
    if not given.tiny:
        return changed(measured, batch_size=case.batch_size)
    mi = measured.training.terms["mi"]
    energy = mi.energy.model_copy(update={"channels": 2})
    measured = changed(
        measured, batch_size=4, terms={"mi": mi.model_copy(update={"energy": energy, "num_steps": 2})}
    )
    if name != "unet256":
        return measured
    teacher, student = (UnetGenerator(widths=UnetWidths.uniform(width), num_levels=4) for width in (4, 2))
    network = networks.generator(teacher, measured.setup.info, 0)
    stored = saved.save(folder / "unet", "generator", network, teacher)
    measured = measured._replace(job=measured.job.model_copy(update={"teacher": stored}))
    return changed(measured, generator=student)


def changed(measured: step.Measured, **values: Any) -> step.Measured:
    """The same with other values of the student's training."""
    training = measured.training.model_copy(update=values)
    return measured._replace(training=training, job=measured.job.model_copy(update={"training": training}))


def moved(measured: step.Measured, device: str) -> step.Measured:
    """The same on another device."""
    return measured._replace(setup=measured.setup._replace(device=torch.device(device)))


# ---- parity ------------------------------------------------------------------------------------------------


def parity(given: Given, name: str) -> Units:
    """Losses of the same steps on the card and on the CPU; on a CPU alone, with and without oneDNN."""
    torch.backends.cudnn.allow_tf32 = False
    measured = set_up(given, name, "cpu")
    expected = losses(measured)
    if given.device == "cpu":
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    found = losses(moved(measured, given.device))
    shares = [differences(*pair) for pair in zip(found, expected, strict=True)]
    for number, share in enumerate(shares):
        most = LATER_TOLERANCE if number else FIRST_TOLERANCE
        what = ", ".join(f"{loss} {value:.1e}" for loss, value in share.items())
        where = "on a CPU, with and without oneDNN" if given.device == "cpu" else "card and CPU, without TF32"
        line = f"{name}, step {number + 1}: {what}; at most {most:.0e}; {where}"
        yield Unit(
            f"step {number + 1}", line, {"shares": share, "most": most}, not max(share.values()) <= most
        )
    if given.device == "cuda":
        torch.backends.cudnn.allow_tf32 = True
        shares = [differences(*pair) for pair in zip(losses(moved(measured, "cuda")), expected, strict=True)]
        what = ", ".join(f"{loss} {value:.1e}" for loss, value in shares[0].items())
        yield Unit("TF32", f"{name}, step 1, convolutions with TF32 (not judged): {what}", {"shares": shares})


def losses(measured: step.Measured) -> list[dict[str, float]]:
    """What a training logs at its first steps."""
    way, logged = step.Ours(measured), []
    for number in range(STEPS):
        way.step(number * measured.training.batch_size)
        logged.append({loss: float(way.numbers[loss]) for loss in LOSSES})
    return logged


def differences(found: dict[str, float], expected: dict[str, float]) -> dict[str, float]:
    """Loss -> relative difference; infinite where a number is none."""
    energy = max(abs(expected["energy/pos"]), abs(expected["energy/neg"]))
    shares = {}
    for loss, value in expected.items():
        scale = energy if loss.startswith("energy") else abs(value)
        share = abs(found[loss] - value) / scale
        shares[loss] = share if math.isfinite(share) else math.inf
    return shares


# ---- speed -------------------------------------------------------------------------------------------------


def speed(given: Given, name: str) -> Units:
    """images/s of each way, in turns, and shares of the peak."""
    measured = set_up(given, name, given.device)
    batch, device = measured.training.batch_size, measured.setup.device
    difference = step.check(measured)
    line = f"{name}: both ways give the same losses and gradients, to {difference:.0e} in float64"
    yield Unit("same", line, {"difference": difference})
    peaks = {kind: peak(given, kind) for kind in ("float32", "TF32", "bfloat16")}
    what = ", ".join(f"{kind} {value / 1e12:.3g}" for kind, value in peaks.items())
    yield Unit("peak", f"best matrix products, TMAC/s: {what}{on_cpu(given)}", peaks)
    ways: dict[str, Any] = {
        "published": step.Published(measured),
        "float32": step.Ours(measured),
        "bfloat16": step.Ours(changed(measured, precision="bfloat16")),
    }
    macs = {way: step.step_macs(ways[way]) for way in ways}
    found = turns(given, ways, batch, device)
    has_tf32 = given.device == "cuda" and torch.backends.cudnn.allow_tf32
    kinds = dict.fromkeys(ways, "TF32" if has_tf32 else "float32") | {"bfloat16": "bfloat16"}
    for way, took in found.items():
        seconds = [turn.sec for turn in took]
        sec = statistics.median(seconds)
        ratio = statistics.median(a.sec / b.sec for a, b in zip(found["published"], took, strict=True))
        share = macs[way] / sec / peaks[kinds[way]]
        host = statistics.median(turn.host_sec / turn.sec for turn in took)
        figures = {"images_per_sec": batch / sec, "sec": seconds, "gmac": macs[way] / 1e9}
        figures |= {"times_published": ratio, "share_of_peak": share, "peak": kinds[way], "host_share": host}
        line = (
            f"{name}, {way}: {batch / sec:.4g} images/s, {sec * 1e3:.4g} ms a step of {batch} (quartiles "
            f"{quartiles(seconds)}), {ratio:.2f} times the published way, {macs[way] / 1e9:.4g} GMAC a step, "
            f"{share:.1%} of the peak of {kinds[way]}, {host:.0%} of the time until all is queued"
        )
        yield Unit(way, line + on_cpu(given), figures)


class Turn(NamedTuple):
    """Of so many steps that they last a quarter of a second; seconds a step."""

    sec: float
    """Until the card has done them."""
    host_sec: float
    """Until they are queued, waits of the step itself included: where it is nearly `sec`, the card has waited
    for the host, or the host for the card in the step."""


def turns(given: Given, ways: dict[str, Any], batch: int, device: torch.device) -> dict[str, list[Turn]]:
    """Way -> what each of its turns took."""
    counts: dict[str, int] = {}
    nimg = dict.fromkeys(ways, 0)

    def turn(way: str, count: int) -> Turn:
        clock, began = step.Clock(device), time.perf_counter()
        for _ in range(count):
            ways[way].step(nimg[way])
            nimg[way] += batch
        host_sec = time.perf_counter() - began
        return Turn(clock.lap(way) / count, host_sec / count)

    for way in ways:
        turn(way, 1 if given.tiny else 3)  # to warm up
        counts[way] = 1 if given.tiny else max(1, math.ceil(0.25 / turn(way, 1).sec))
    found: dict[str, list[Turn]] = {way: [] for way in ways}
    least, most, began = (2, 2, time.time()) if given.tiny else (3, 40, time.time())
    until = began + 0.8 * (given.until - began)
    for number in range(most):
        if number >= least and time.time() > until:
            break
        for way in ways:
            found[way].append(turn(way, counts[way]))
    return found


def quartiles(values: list[float]) -> str:
    """First and third, in ms."""
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return f"{first * 1e3:.4g} and {third * 1e3:.4g}"


# ---- memory ------------------------------------------------------------------------------------------------


def memory_of(given: Given, name: str) -> Units:
    """A whole short training with its report, against the prediction."""
    measured = set_up(given, name, "cpu")
    batch = measured.training.batch_size
    lengths = {"budget_nimg": STEPS * batch, "report_every_nimg": STEPS * batch, "ema_nimg": batch}
    measured = changed(measured, **lengths)
    training, job = measured.training, measured.job
    teacher = saved.generator_config(job.teacher)
    around = memory.MemorySetup(shapes32().evaluator.network, read_info(job.data), teacher)
    tensors, total = memory.states_and_tensors(training, around), memory.training_bytes(training, around)
    before = used_mib() if given.device == "cuda" else None
    resident = step._resident("VmRSS")
    train(job, report=lambda evaluation: None, state_dir=Path(given.folder) / "run")
    mib = {"predicted": tensors / 2**20, "predicted_with_context": total / 2**20}
    if given.device == "cuda":
        after = used_mib()
        mib["allocated"] = torch.cuda.max_memory_allocated() / 2**20
        mib["reserved"] = torch.cuda.max_memory_reserved() / 2**20
        if before is not None and after is not None:
            mib["taken_of_the_card"] = after - before
    else:
        mib["resident"] = (step._resident("VmHWM") - resident) / 2**10
    shares = {
        what: tensors / 2**20 / mib[what] for what in ("allocated", "reserved", "resident") if what in mib
    }
    what = ", ".join(f"{what.replace('_', ' ')} {value:.0f}" for what, value in mib.items())
    line = f"{name}: MiB of a training of {STEPS} steps and a report: {what}; predicted / " + ", ".join(
        f"{what} {share:.2f}" for what, share in shares.items()
    )
    yield Unit(name, line + on_cpu(given), {"mib": mib, "predicted_over": shares})


# ---- two trials --------------------------------------------------------------------------------------------


def two_trials(given: Given) -> Units:
    """images/s of one process and of two at once, at 64 pixels; the first one says it."""
    measured = set_up(given._replace(folder=f"{given.folder}/{given.rank}"), "64px", given.device)
    way, batch, device = step.Ours(measured), measured.training.batch_size, measured.setup.device
    sec = 0.2 if given.tiny else max(2.0, min(8.0, (given.until - time.time()) / 8))
    for number in range(2):  # to warm up
        way.step(number * batch)
    rates: dict[str, list[float]] = {"alone": [], "at once": []}
    for turn in range(1 if given.tiny else 3):
        for how in rates:
            meet(given, f"{turn} {how}")
            if given.rank == 0 or how == "at once":
                rates[how].append(rate(way, batch, device, sec))
    file = Path(given.folder) / "second"
    if given.rank == 1:
        file.with_suffix(".part").write_text(str(statistics.median(rates["at once"])))
        file.with_suffix(".part").rename(file)
        return
    wait_for(file.exists)
    alone, first, second = *(statistics.median(rates[how]) for how in rates), float(file.read_text())
    line = (
        f"one trial {alone:.4g} images/s; two at once {first:.4g} and {second:.4g}, together "
        f"{(first + second) / alone:.2f} times one{on_cpu(given)}"
    )
    yield Unit("64px", line, {"alone": alone, "at_once": [first, second], "times": (first + second) / alone})


def rate(way: step.Ours, batch: int, device: torch.device, sec: float) -> float:
    """images/s of steps that last for so many seconds."""
    clock, steps, until = step.Clock(device), 0, time.perf_counter() + sec
    while time.perf_counter() < until:
        way.step(steps * batch)
        steps += 1
    return steps * batch / clock.lap("steps")


def meet(given: Given, name: str) -> None:
    """Returns when both processes have come here."""
    files = [Path(given.folder) / f"{name} {rank}" for rank in range(2)]
    files[given.rank].touch()
    wait_for(lambda: all(file.exists() for file in files))


def wait_for(holds: Callable[[], bool]) -> None:
    """Returns when it holds. The part's end ends the wait."""
    while not holds():
        time.sleep(0.005)
