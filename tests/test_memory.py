"""Predicted memory against what a process that trains really takes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raydistill import memory
from raydistill.config import Job
from raydistill.data import prepare, read_info
from raydistill.dotted import with_values

WIDTHS = ("stem", "down", "trunk", "hidden", "up", "head")

MEASURE = """
import re, sys
from pathlib import Path
import torch
from raydistill import recipes, train
from raydistill.config import Job
torch.set_num_threads(1)
jobs = [Job.model_validate_json(Path(path).read_text()) for path in sys.argv[1:3]]
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # ru_maxrss would begin at the parent's
for number, job in enumerate(jobs):  # the first, tiny, loads all code
    train.train(job, report=lambda numbers: None, state_dir=Path(sys.argv[3]) / str(number))
    print(peak())
"""


def test_saved_bytes_are_counted_once_and_without_parameters():
    """A linear layer keeps its input; a square keeps the layer's output, which a second use does not add to."""
    with torch.device("meta"):
        linear = nn.Linear(10, 7)
        x = torch.empty(3, 10)

        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = linear

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.linear(x)
                return y**2 + y**3

        assert memory.saved_bytes(Twice(), x) == 3 * 10 * 4 + 3 * 7 * 4


def test_the_prediction_grows_with_batch_widths_and_the_energy_network(stages):
    info = read_info(stages.data)

    def predicted(**values: Any) -> int:
        job = stages.student_job(**values)
        return memory.states_and_activations(job.training, stages.experiment.judge.network, info)

    base = predicted(batch_size=128)
    assert predicted(batch_size=256) > 1.8 * base
    assert predicted(batch_size=128, mi__energy__channels=8) > base > predicted(batch_size=128, mi__weight=0)
    assert predicted(batch_size=128, generator__widths__trunk=64) > base
    training = stages.student_job(batch_size=256).training
    assert memory.states_and_activations(training, stages.experiment.judge.network, info, num_workers=2) == base


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("mi_weight", [0.0, 0.1])
def test_a_prediction_is_near_the_memory_that_training_takes(stages, tmp_path, mi_weight):
    """Growth of the peak resident memory of one process from a tiny job to a larger one, single-threaded."""
    values = {f"generator__widths__{name}": 48 for name in WIDTHS} | {"mi__weight": mi_weight, "mi__energy__channels": 24}
    experiment = with_values(stages.experiment, {"data.height": 64, "data.width": 64, "data.num_train": 32}, where="test")
    data = prepare(experiment.data, tmp_path / "data")
    tiny = stages.student_job(mi__weight=mi_weight)
    larger = stages.student_job(batch_size=16, budget_nimg=32, report_every_nimg=32, **values).training
    jobs = [tiny, Job(training=larger, data=data, judge=stages.judge, teacher=stages.teacher)]
    for index, job in enumerate(jobs):
        (tmp_path / f"{index}.json").write_text(job.model_dump_json())
    arguments = [str(tmp_path / "0.json"), str(tmp_path / "1.json"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    before, after = (int(line) for line in done.stdout.split())
    info = read_info(data)
    predicted = memory.states_and_activations(larger, experiment.judge.network, info)
    predicted_tiny = memory.states_and_activations(tiny.training, experiment.judge.network, read_info(stages.data))
    measured = after - before
    print(json.dumps({"mi": mi_weight, "predicted_mib": (predicted - predicted_tiny) / 2**20, "measured_mib": measured / 2**20}))
    assert 0.6 * measured < predicted - predicted_tiny < 1.7 * measured
