"""What data cost: their share of a step, what happens once, and what stored outputs of the teacher save.

    python benchmarks/data.py [--data FOLDER --height 192 --width 256] [--batches 50]
    python benchmarks/data.py --decode 2000 [--side 256] [--threads 1,2]

--decode times decoding alone: so many A|B JPEGs of the side that are drawn first, by each number of threads,
each in a process of its own, and what its memory grew by at most; then a decoding that is killed half way and
goes on.

Without a folder it is the embedded set at 32x32. One thread. A step is that of a student of the preset, with
its mutual-information term; --no-mi takes it without.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.presets import labelled, shapes32
from raydistill.data import load_split, prepare
from raydistill.data.outputs import chunk_of, store_outputs
from raydistill.distributed import Workers
from raydistill.models import networks, saved
from raydistill.training import assembly
from raydistill.training.loop import apply_execution, take_step
from raydistill.training.recipes import Setup

CPU = torch.device("cpu")


def measure(experiment: Experiment, cache: Path, num_batches: int) -> None:
    """Prints the table. `cache`: an empty folder; `num_batches`: steps of each way, taken in turns."""
    started = time.perf_counter()
    data = prepare(experiment.data, cache / "data")
    decoding = time.perf_counter() - started
    split = load_split(data, "train")
    info, training = split.info, experiment.student
    total = sum(info.counts.values())
    print(f"decoded once: {total} pictures in {decoding:.1f} s, {total / decoding:.0f} a second")
    network = networks.generator(experiment.teacher.generator, info, 0).eval()
    evaluator = saved.save(
        cache / "evaluator",
        "evaluator",
        networks.evaluator(experiment.evaluator.network, info, 0),
        experiment.evaluator.network,
    )
    setup = Setup(info, CPU, Workers(0, 1))
    teachers = {
        name: saved.save(cache / name, "generator", network, experiment.teacher.generator)
        for name in ("stored", "in the loop")
    }
    started = time.perf_counter()
    store_outputs(
        teachers["stored"], data, network, training.flip, CPU, 100.0, chunk=chunk_of(training.batch_size)
    )
    storing = time.perf_counter() - started
    ways = {
        name: assembly.build(Job(training=training, data=data, evaluator=evaluator, teacher=teacher), setup)
        for name, teacher in teachers.items()
    }
    seconds: dict[str, list[float]] = {"data": [], **{name: [] for name in ways}}
    for recipe in ways.values():
        apply_execution(recipe, training, setup)
    for number in range(num_batches):  # in turn, so that other work on the machine meets all of them
        for name, recipe in ways.items():
            first = time.perf_counter()
            step = recipe.minibatches.step(number * training.batch_size)
            second = time.perf_counter()
            take_step(recipe, step, training, setup.workers)
            seconds["data"].append(second - first)
            seconds[name].append(time.perf_counter() - first)
    data_sec, stored_sec, loop_sec = (
        statistics.median(seconds[name]) for name in ("data", "stored", "in the loop")
    )
    count = training.batch_size
    size = f"{info.width}x{info.height}"
    print(
        f"batch of {count} at {size}: data {1e3 * data_sec:.2f} ms of {1e3 * stored_sec:.1f} ms, "
        f"{data_sec / stored_sec:.1%}"
    )
    print(f"pictures a second: data alone {count / data_sec:,.0f}, training {count / stored_sec:,.0f}")
    print(
        f"teacher in the loop: {1e3 * loop_sec:.1f} ms a step, with stored outputs "
        f"{stored_sec / loop_sec:.2f} of that"
    )
    pays = storing / max(loop_sec - stored_sec, 1e-9) * count
    print(
        f"storing took {storing:.1f} s: it has paid after {pays:,.0f} images of training, all trials together"
    )


_DECODE = """
import json, re, sys, time
from pathlib import Path
from raydistill.config.data import FolderData
from raydistill.data import prepare, rows
root, cache, side, threads = sys.argv[1:]
rows.MOST_THREADS = int(threads)
config = FolderData(root=root, layout="aligned", height=int(side), width=int(side))
def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before, started = peak_kib(), time.perf_counter()
stored = prepare(config, Path(cache))
seconds = time.perf_counter() - started
grown = peak_kib() - before
print(json.dumps({"digest": stored.digest, "seconds": seconds, "grown_mib": grown / 1024}))
"""


def draw(folder: Path, number: int, side: int) -> None:
    """A|B JPEGs of photo-like content: noise of several sizes, laid over each other."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(number):
        layers = [
            Image.fromarray(rng.integers(0, 256, (size, 2 * size, 3), np.uint8)).resize((2 * side, side))
            for size in (4, 16, 64)
        ]
        mixed = Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.2)
        mixed.save(folder / f"{index}.jpg", quality=90)


def measure_decoding(folder: Path, number: int, side: int, threads: list[int]) -> None:
    """Prints a line for each number of threads, and one for a decoding that was killed."""
    root = folder / "pictures"
    draw(root, number, side)
    digests = set()
    for num in threads:
        command = [sys.executable, "-c", _DECODE, str(root), str(folder / f"cache{num}"), str(side), str(num)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        digests.add(found["digest"])
        print(
            f"{number:,} A|B pictures at {side} px, {num} threads: {found['seconds']:.1f} s, "
            f"{number / found['seconds']:,.0f} a second; memory grew by {found['grown_mib']:.0f} MiB"
        )
    cache = folder / "killed"
    command = [sys.executable, "-c", _DECODE, str(root), str(cache), str(side), str(threads[-1])]
    child, parts = subprocess.Popen(command), []
    while not parts or not any(json.loads(parts[0].read_text())["rows"].values()):
        time.sleep(0.1)
        parts = list(cache.glob(".decoding-*/progress.json"))
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = sum(json.loads(parts[0].read_text())["rows"].values())
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    digests.add(found["digest"])
    print(
        f"killed after {done:,}: the rest took {found['seconds']:.1f} s; "
        f"{'the same digest' if len(digests) == 1 else 'ANOTHER DIGEST'}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--height", type=int, default=48)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--no-mi", action="store_true")
    parser.add_argument("--decode", type=int)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", default="1,2")
    given = parser.parse_args()
    if given.decode:
        with tempfile.TemporaryDirectory() as folder:
            measure_decoding(
                Path(folder), given.decode, given.side, [int(num) for num in given.threads.split(",")]
            )
        sys.exit()
    torch.set_num_threads(1)
    chosen = shapes32()
    if given.data:
        chosen = labelled().model_copy(
            update={"data": FolderData(root=given.data, height=given.height, width=given.width)}
        )
    if given.no_mi:
        chosen = with_values(chosen, {"student.terms.mi.weight": 0.0}, where="benchmark")
    with tempfile.TemporaryDirectory() as folder:
        measure(chosen, Path(folder), given.batches)
