"""Predicted memory against what a process that trains really takes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from test_recipes import EXPERIMENTS, SMALL, lengths
from torch import nn

from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.data import DataInfo, prepare, read_info
from raydistill.models import networks, saved
from raydistill.planning import memory
from raydistill.planning.tensor_bytes import LiveTensorBytes
from raydistill.training import loop, recipes

WIDTHS = ("stem", "down", "trunk", "hidden", "up", "head")

MEASURE = """
import re, sys
from pathlib import Path
import torch
from raydistill.config.experiment import Job
from raydistill.training.loop import train
torch.set_num_threads(1)
jobs = [Job.model_validate_json(Path(path).read_text()) for path in sys.argv[1:3]]
def peak():  # ru_maxrss would begin at the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
for number, job in enumerate(jobs):  # the first, tiny, loads all code
    train(job, report=lambda numbers: None, state_dir=Path(sys.argv[3]) / str(number))
    print(peak())
"""


def test_what_lives_is_counted_from_when_it_is_made_until_it_is_gone():
    """100 floats and their sum with themselves, then a product without either; a view is no new bytes, a
    given tensor none."""
    with torch.device("meta"):
        given = torch.empty(1000)
        with LiveTensorBytes() as live:
            a = torch.empty(100)
            b = (a + a).view(4, 25)
            del a
            assert (b * given[:25]).shape == b.shape
            del b
    assert live.history().tolist() == [0, 400, 800, 400, 800, 400, 0]


def test_what_a_backward_needs_lives_until_then_and_gradients_of_weights_can_be_left_out():
    """A linear layer of 3 x 10 to 3 x 7 keeps nothing but its given input; a square keeps the layer's
    output."""
    with torch.device("meta"):
        linear, x = nn.Linear(10, 7), torch.empty(3, 10)
    with LiveTensorBytes() as live:
        loss = (linear(x) ** 2).sum()
        forward = live.mark()
        loss.backward()
    with_gradients = live.history()[-1]
    live.leave_out(parameter.grad for parameter in linear.parameters())
    assert live.history()[forward] == 3 * 7 * 4 + 4
    assert with_gradients == live.history()[-1] + (70 + 7) * 4


def around(experiment: Experiment, info: DataInfo, num_workers: int = 1) -> memory.MemorySetup:
    return memory.MemorySetup(experiment.evaluator.network, info, experiment.teacher.generator, num_workers)


def test_the_prediction_grows_with_batch_widths_and_the_energy_network(stages):
    info = read_info(stages.data)

    def predicted(num_workers: int = 1, **values: Any) -> int:
        return memory.states_and_tensors(
            stages.student_job(**values).training, around(stages.experiment, info, num_workers)
        )

    base = predicted(batch_size=128)
    assert predicted(batch_size=256) > 1.8 * base
    assert predicted(batch_size=128, mi__energy__channels=8) > base > predicted(batch_size=128, mi__weight=0)
    assert predicted(batch_size=128, generator__widths__trunk=64) > base
    assert predicted(2, batch_size=256) == base


WIDE: dict[str, dict[str, Any]] = {
    "pix2pix": {"data.height": 64, "data.width": 64, "teacher.discriminator.width": 32}
    | {f"{stage}.generator.widths.{name}": 32 for stage in ("teacher", "student") for name in WIDTHS},
    "enhance": {"data.height": 64, "data.width": 64}
    | {
        f"{stage}.generator.widths.{name}": 48
        for stage in ("teacher", "student")
        for name in ("trunk", "hidden", "up")
    },
    "sagan": {
        f"{stage}.generator.widths.{name}": 32
        for stage in ("teacher", "student")
        for name in ("at4", "at8", "at16", "at32")
    }
    | {f"teacher.discriminator.widths.{name}": 32 for name in ("at32", "at16", "at8", "at4")},
    "stylegan2": {"data.height": 64, "data.width": 64, "teacher.r1_every": 1, "teacher.path_every": 1}
    | {
        f"{network}.widths.{name}": 32
        for network in ("teacher.generator", "teacher.discriminator", "student.generator")
        for name in ("at4", "at8", "at16", "at32", "at64")
    },
    "cyclegan": {"data.height": 64, "data.width": 64, "teacher.discriminator.width": 32}
    | {f"{stage}.generator.widths.{name}": 32 for stage in ("teacher", "student") for name in WIDTHS},
}
"""What makes a recipe's tiny experiment a larger one."""
STAGES = [(name, stage) for name in WIDE for stage in ("teacher", "student")]


def experiments(name: str, folder: Path, batch_size: int) -> tuple[Experiment, Experiment]:
    """Of a recipe: tiny, and larger with so many pictures a minibatch."""
    base = with_values(shapes32(), TINY, where="test") if name == "pix2pix" else EXPERIMENTS[name](folder)
    tiny = with_values(base, SMALL | lengths(4), where="test")
    return tiny, with_values(
        tiny, WIDE[name] | lengths(batch_size) | {"student.terms.mi.energy.channels": 16}, where="test"
    )


def job_of_random_weights(experiment: Experiment, stage: str, folder: Path) -> Job:
    """Two minibatches of a stage; what it needs was never trained."""
    data = prepare(experiment.data, folder / "data", **recipes.data_needs(experiment.teacher))
    info, config = read_info(data), experiment.teacher.generator
    evaluator = saved.save(
        folder / "evaluator",
        "evaluator",
        networks.evaluator(experiment.evaluator.network, info, 0),
        experiment.evaluator.network,
    )
    training = getattr(experiment, stage)
    number = 2 * training.batch_size
    training = training.model_copy(update={"budget_nimg": number, "report_every_nimg": number})
    teacher = (
        saved.save(folder / "teacher", "generator", networks.generator(config, info, 0), config)
        if stage == "student"
        else None
    )
    return Job(training=training, data=data, evaluator=evaluator, teacher=teacher)


OFTEN = [("pix2pix", "student"), ("sagan", "teacher"), ("stylegan2", "teacher"), ("cyclegan", "teacher")]
CASES = [
    pytest.param(*each, {}, marks=() if each in OFTEN else pytest.mark.slow, id="-".join(each))
    for each in STAGES
]
CASES += [
    pytest.param("pix2pix", "student", {"mi.kind": kind}, marks=pytest.mark.slow, id=kind)
    for kind in ("vid", "critic")
]
CASES += [pytest.param("pix2pix", "student", {"mi.weight": 0.0}, marks=pytest.mark.slow, id="no-term")]
CASES += [
    pytest.param(
        "sagan", "student", {"mi.start": "other"}, marks=pytest.mark.slow, id="chains-start-at-other-pictures"
    )
]


@pytest.mark.parametrize(("name", "stage", "values"), CASES)
def test_what_is_predicted_to_live_in_tensors_does_while_it_trains(
    one_thread, name, stage, values, tmp_path, monkeypatch
):
    """Bytes of all tensors that live at once in a real training: states, minibatch, graphs, evaluation."""
    monkeypatch.setattr(memory, "_OVERHEAD", 1.0)
    _, experiment = experiments(name, tmp_path, 4)
    experiment = with_values(
        experiment, {f"{stage}.{path}": value for path, value in values.items()}, where="test"
    )
    job = job_of_random_weights(experiment, stage, tmp_path)
    with LiveTensorBytes() as live:
        loop.train(job, report=lambda numbers: None, state_dir=tmp_path / "run")
    predicted, measured = (
        memory.states_and_tensors(job.training, around(experiment, read_info(job.data))),
        live.history().max(),
    )
    print(
        f"{name}, {stage}, {values}: predicted {predicted / 2**20:.1f} MiB, live {measured / 2**20:.1f}: "
        f"{predicted / measured:.2f}"
    )
    assert 0.95 * measured < predicted < 1.08 * measured


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_a_prediction_is_near_the_memory_that_training_takes(name, stage, tmp_path):
    """Growth of the peak resident memory of one process from a tiny job to a larger one, single-threaded."""
    each = experiments(name, tmp_path, 16)
    jobs = [
        job_of_random_weights(experiment, stage, tmp_path / f"kit-{number}")
        for number, experiment in enumerate(each)
    ]
    paths = [tmp_path / f"{number}.json" for number in range(2)]
    for path, job in zip(paths, jobs, strict=True):
        path.write_text(job.model_dump_json())
    arguments = [str(path) for path in (*paths, tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    before, after = (int(line) for line in done.stdout.split())
    counted = [
        memory.states_and_tensors(job.training, around(experiment, read_info(job.data)))
        for job, experiment in zip(jobs, each, strict=True)
    ]
    predicted, measured = counted[1] - counted[0], after - before
    print(
        f"{name}, {stage}: predicted {predicted / 2**20:.0f} MiB, measured {measured / 2**20:.0f}: "
        f"{predicted / measured:.2f}"
    )
    assert 0.6 * measured < predicted < 1.7 * measured
