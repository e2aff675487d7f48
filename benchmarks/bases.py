"""What a step costs by each base distillation, with and without the published term.

    python benchmarks/bases.py --part resnet64|camvid|unet256

Time: CPU seconds of a step on one thread, medians over rounds in which every case has its turn; relative to
base plain without a term. Kernels, waits and collectives: counted on the meta device, the last of one of two
workers. Memory: what is predicted for a worker, and how much the resident memory of a process of its own grew
over three steps and an evaluation. Networks have random weights; the feature network is the small stand-in.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from raydistill.config.architectures import (
    ResnetGenerator,
    ResnetWidths,
    UnetGenerator,
    UnetWidths,
)
from raydistill.config.data import ShapesData
from raydistill.config.experiment import Experiment, Job, student_job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.term_presets import published_cyclegan, published_pix2pix, recommended_vem
from raydistill.config.training import DistillTraining
from raydistill.data import prepare, read_info
from raydistill.data.outputs import chunk_of, store_outputs
from raydistill.distributed import Workers
from raydistill.models import saved
from raydistill.planning import memory
from raydistill.planning.step_counts import Counted, StepCounts, count_step
from raydistill.planning.untrained import untrained
from raydistill.training import assembly, loop, peak
from raydistill.training.recipes import Setup

BASES = ("plain", "gan", "omgd")
STEPS = {"resnet64": 4, "camvid": 4, "unet256": 1}
"""Steps of a case in a round."""


class Case(NamedTuple):
    """One training."""

    base: str
    term: str
    """published VEM, recommended VEM, or empty: none."""

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.base}, {self.term}" if self.term else self.base


CASES = [Case(base, term) for base in BASES for term in ("", "published VEM", "recommended VEM")]
SIZES = {"resnet64": (64, 64), "camvid": (48, 64), "unet256": (256, 256), "small": (16, 16)}
"""Part -> height and width."""


def experiment_of(part: str, case: Case) -> Experiment:
    """Up to 64 pixels: the embedded networks. 256 pixels: the published U-Nets, batches of one picture."""
    height, width = SIZES[part]
    data = ShapesData(
        height=height, width=width, num_train=4 if part == "unet256" else 64, num_val=2, num_test=2
    )
    experiment = shapes32().model_copy(update={"data": data})
    published = published_pix2pix() if part == "unet256" else published_cyclegan()
    terms = {"published VEM": {"mi": published}, "recommended VEM": {"mi": recommended_vem()}}
    student: dict[str, Any] = {"terms": terms.get(case.term, {})}
    teacher: dict[str, Any] = {}
    if part == "camvid":
        student["generator"] = ResnetGenerator(widths=ResnetWidths.uniform(5), num_blocks=3)
    if part == "unet256":
        student |= {"generator": UnetGenerator(widths=UnetWidths.uniform(16)), "batch_size": 1}
        teacher |= {"generator": UnetGenerator(widths=UnetWidths.uniform(64)), "batch_size": 1}
    changed = {
        "student": experiment.student.model_copy(update=student),
        "teacher": experiment.teacher.model_copy(update=teacher),
    }
    experiment = experiment.model_copy(update=changed)
    experiment = with_values(experiment, {"student.base.kind": case.base}, where="benchmark")
    return experiment.model_copy(update={"student": experiment.resolved(experiment.student)})


def job_of(part: str, case: Case, folder: Path) -> Job:
    """The training, beside networks of random weights."""
    experiment = experiment_of(part, case)
    data = prepare(experiment.data, folder / "data")
    shared = untrained(folder / case.name, experiment, read_info(data))
    if case.base == "plain":  # as a sweep does where they fit
        network = saved.load(shared.teacher, read_info(data), torch.device("cpu"))
        chunk = chunk_of(experiment.student.batch_size)
        store_outputs(shared.teacher, data, network, False, torch.device("cpu"), chunk=chunk)
    return student_job(experiment.student, experiment, data, shared)


def built(job: Job) -> assembly.Assembly:
    """The training on one CPU thread."""
    setup = Setup(read_info(job.data), torch.device("cpu"), Workers(0, 1))
    return assembly.build(job, setup)


def steps(trained: assembly.Assembly, job: Job, number: int) -> None:
    """So many steps."""
    for index in range(number):
        step = trained.minibatches.step(index * job.training.batch_size)
        loop.take_step(trained, step, job.training, Workers(0, 1))


def milliseconds(part: str, jobs: dict[Case, Job], rounds: int) -> dict[Case, float]:
    """CPU milliseconds of a step."""
    trained = {case: built(job) for case, job in jobs.items()}
    found: dict[Case, list[float]] = {case: [] for case in jobs}
    for number in range(rounds + 1):
        for case, job in jobs.items():
            started = time.process_time()
            steps(trained[case], job, STEPS[part])
            if number:  # the first one warms up
                found[case].append((time.process_time() - started) / STEPS[part] * 1e3)
    return {case: statistics.median(values) for case, values in found.items()}


def counts_of(part: str, case: Case) -> StepCounts:
    """What a step asks of a device."""
    experiment = experiment_of(part, case)
    info = read_info_of(experiment)
    return count_step(Counted(experiment.student, info, experiment.teacher.generator, is_resident=True))


def read_info_of(experiment: Experiment) -> Any:
    """What its data are."""
    with tempfile.TemporaryDirectory() as folder:
        return read_info(prepare(experiment.data, Path(folder)))


def part_has_two(part: str) -> bool:
    """Whether two workers can share a batch, so that collectives are counted."""
    return part != "unet256"


def predicted(part: str, case: Case) -> float:
    """MiB that are predicted for one worker, without its process."""
    experiment = experiment_of(part, case)
    around = memory.MemorySetup(
        experiment.evaluator.network,
        read_info_of(experiment),
        experiment.teacher.generator,
        features=experiment.features.network,
    )
    return memory.states_and_tensors(experiment.student, around) / 2**20


def grown(part: str, case: Case, folder: Path) -> float:
    """MiB by which a process grows over three steps, which prints it."""
    given = [str(Path(__file__).absolute()), "--part", part, "--child", case.base, case.term]
    ended = subprocess.run(
        [sys.executable, *given, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(ended.stdout.splitlines()[-1]))


def grow(part: str, case: Case, folder: Path) -> None:
    """The child of `grown`."""
    torch.set_num_threads(1)
    job = job_of(part, case, folder)
    small = job_of("small", CASES[0], folder / "small")  # it leaves little that the next one uses again
    steps(built(small), small, 1)  # what a process has after its first training is counted apart
    mapped = peak.start()
    before = peak.gb(mapped)
    trained = built(job)
    network = copy.deepcopy(trained.networks[trained.network]).requires_grad_(False).eval()
    steps(trained, job, 3)
    trained.evaluate(network)
    after = peak.gb(mapped)
    assert before is not None and after is not None
    print(json.dumps((after - before) * 1024))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=tuple(STEPS), default="resnet64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        grow(given.part, Case(*given.child), given.folder)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        jobs = {case: job_of(given.part, case, Path(folder)) for case in CASES}
        assert all(isinstance(job.training, DistillTraining) for job in jobs.values())
        times = milliseconds(given.part, jobs, given.rounds)
        heads = ("base", "CPU ms a step", "relative", "kernels", "waits", "collectives")
        print("| " + " | ".join((*heads, "predicted MiB", "measured MiB", "predicted / measured")) + " |")
        print("|---" * 9 + "|")
        for case in CASES:
            counts, needed = counts_of(given.part, case), predicted(given.part, case)
            measured = grown(given.part, case, Path(folder) / "child")
            cells = (
                case.name,
                f"{times[case]:.1f}",
                f"{times[case] / times[CASES[0]]:.2f}",
                f"{counts.kernels:,}",
                str(counts.synchronisations),
                str(counts.collectives) if part_has_two(given.part) else "",
                f"{needed:.0f}",
                f"{measured:.0f}",
                f"{needed / measured:.2f}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
