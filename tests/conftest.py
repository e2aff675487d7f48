"""A tiny experiment and its evaluator and teacher, trained once a session."""

import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cookbook import forgotten_after, written
from families import CASES, Case, plug_in_case
from head import Head, started
from slow_groups import groups_of, is_further_case

from raydistill import plugins
from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.training import DistillTraining, GeneratorTraining, Training
from raydistill.data import batch, load_split, prepare
from raydistill.data.augment import SampleIndex
from raydistill.data.tensors import tensors
from raydistill.distributed import ALONE, Workers
from raydistill.testing.trainings import TINY
from raydistill.training.loop import TrainingResult, train
from raydistill.training.minibatches import Minibatches, TrainingData
from raydistill.training.recipes import Setup, Step

collect_ignore = ["fixtures"]
"""The example plug-in is tested as a package of its own, by test_contracts_shipped.py."""
SLOWEST = (
    "sweep",
    "doctor",
    "on_every_node",
    "plan",
    "limits",
    "search_kit",
    "samplers",
    "parallel",
    "recipes",
    "cookbook",
)
"""Test files that take longest: `make test` runs two files at a time, and a long one at the end would run
alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The most expensive files first, whole. Marks the slow cases of `slow_groups`; refuses a slow test that
    is in no group of it, or in two."""
    first = {f"test_{name}": place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))
    for item in items:
        test = item.nodeid.removeprefix("tests/")
        if is_further_case(test):
            item.add_marker("slow")
        if item.get_closest_marker("slow") and len(groups := groups_of(test)) != 1:
            raise pytest.UsageError(f"{test} is slow, and in {groups or 'no group'} of slow_groups.GROUPS")


class Stages(NamedTuple):
    experiment: Experiment
    data: Stored
    evaluator: Stored
    teacher: Stored

    def student_job(self, **values: Any) -> Job:
        """The student's job; keywords are config paths below `student`, with `__` for the dot."""
        return self._job("student", values, self.teacher)

    def teacher_job(self, **values: Any) -> Job:
        return self._job("teacher", values, None)

    def evaluator_job(self, **values: Any) -> Job:
        return Job(training=self._changed("evaluator", values).evaluator, data=self.data)

    def _job(self, stage: str, values: dict[str, Any], teacher: Stored | None) -> Job:
        training: DistillTraining | GeneratorTraining = getattr(self._changed(stage, values), stage)
        return Job(training=training, data=self.data, evaluator=self.evaluator, teacher=teacher)

    def _changed(self, stage: str, values: dict[str, Any]) -> Experiment:
        return with_values(
            self.experiment,
            {f"{stage}.{name.replace('__', '.')}": value for name, value in values.items()},
            where="test",
        )

    def setup(self) -> Setup:
        return Setup(load_split(self.data, "train").info, torch.device("cpu"), Workers(0, 1))

    def step(self, nimg: int = 0, flips: tuple[bool, ...] = (False, True, False, True)) -> Step:
        """A minibatch of the first training pictures."""
        count, mirrored = len(flips), np.array(flips)
        pictures = batch(load_split(self.data, "train"), slice(0, count), flips=mirrored)
        positions = torch.arange(nimg, nimg + count)
        sample = SampleIndex(torch.arange(count), torch.from_numpy(mirrored), positions)
        return Step(pictures, sample, nimg, is_reported=True)

    def minibatches(self, training: Training, workers: Workers = ALONE) -> Minibatches:
        """Those of one worker; the teacher's outputs are not in them."""
        data = TrainingData(tensors(load_split(self.data, "train")))
        return Minibatches(data, training, torch.device("cpu"), workers)


@pytest.fixture(params=[*CASES, "plug-in"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A small generator of every family, and of one that is a plug-in, for the contract that holds for
    all."""
    if request.param in CASES:
        yield CASES[request.param]
    else:
        with forgotten_after():
            plugins.load(written(tmp_path_factory.mktemp("plug-in"), "plain.py"))
            yield plug_in_case()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    root, source, out = (
        Path(__file__).parent.parent,
        tmp_path_factory.mktemp("source"),
        tmp_path_factory.mktemp("wheel"),
    )
    for name in ("raydistill", "search_spaces", "analysis", "tests", "benchmarks"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(root / name, source / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray cluster of one node that wants a token."""
    with started(tmp_path_factory.mktemp("head")) as running:
        yield running


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    return with_values(shapes32(), TINY, where="tiny")


@pytest.fixture(scope="session")
def stages(tiny: Experiment, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    folder = tmp_path_factory.mktemp("stages")
    data = prepare(tiny.data, folder / "data")
    evaluator = quiet(Job(training=tiny.evaluator, data=data), folder / "evaluator").network
    teacher = quiet(Job(training=tiny.teacher, data=data, evaluator=evaluator), folder / "teacher").network
    return Stages(tiny, data, evaluator, teacher)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Job], TrainingResult]:
    """Trains a job from beginning to end, each job once a session: a run to compare with another, or to look
    at.

    The key is the job's own, a digest of its config, data, evaluator and teacher. The network lies in the
    folder of the
    run; who changes what is there takes a copy.
    """
    made: dict[str, TrainingResult] = {}

    def run(job: Job) -> TrainingResult:
        if job.key not in made:
            made[job.key] = quiet(job, tmp_path_factory.mktemp("whole"))
        return made[job.key]

    return run


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., TrainingResult]:
    """Trains a job, each time in a folder of its own or in the one named."""
    count = iter(range(100))

    def run(job: Job, name: str | None = None) -> TrainingResult:
        return quiet(job, tmp_path / (name or f"run-{next(count)}"))

    return run


def numbers(result: TrainingResult) -> list[dict[str, Any]]:
    """All that was measured, without the time it took."""
    return [
        {name: value for name, value in evaluation.to_json().items() if not name.endswith("_sec")}
        for evaluation in result.evaluations
    ]


def spawned(function: Callable[..., None], args: tuple[Any, ...], nprocs: int) -> None:
    """`function(rank, *args)` in so many processes, each a copy of one that has imported everything and
    done nothing else."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["raydistill.training.loop", "torch._dynamo"]
    )
    mp.start_processes(function, args, nprocs, start_method="forkserver")


def run_two(rank: int, folder: Path, jobs: dict[str, str], loaded: str = "[]") -> None:
    """One of two workers: trains each job, as JSON, in a folder of its name. For `spawned`.

    `loaded`: the plug-ins of the process that starts it, see `plugins.to_json`.
    """
    torch.set_num_threads(1)
    plugins.load_json(loaded)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    for name, text in jobs.items():
        quiet(Job.model_validate_json(text), folder / name)
    dist.destroy_process_group()


def quiet(job: Job, folder: Path) -> TrainingResult:
    return train(job, report=lambda numbers: None, state_dir=folder)
