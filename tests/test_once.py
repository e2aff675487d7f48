"""The teacher is held once per node: its outputs, and weights where they are needed, are memory-mapped
files that processes share."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.config.architectures import ResnetGenerator, ResnetWidths
from raydistill.config.training import DistillTraining
from raydistill.data import read_info
from raydistill.data.outputs import store_outputs
from raydistill.models import networks, saved
from raydistill.training.loop import train
from raydistill.trials.stages import _store_outputs_once

HOLD = """
import json, sys
from pathlib import Path
import torch
from raydistill.config import Stored
from raydistill.data import load_split, read_info
from raydistill.data.outputs import load_outputs
from raydistill.models import saved
teacher, data = (Stored.model_validate_json(text) for text in sys.argv[1:3])
network = saved.load(teacher, read_info(data), torch.device("cpu"))
outputs = load_outputs(teacher, data, False, 4)
touched = float(sum(parameter.sum() for parameter in network.parameters())) + float(outputs.sum())
print("ready", flush=True)
sys.stdin.readline()
sizes, name = {}, None
for line in Path("/proc/self/smaps").read_text().splitlines():
    fields = line.split()
    if "-" in fields[0] and not fields[0].endswith(":"):
        name = Path(fields[5]).name if len(fields) > 5 else ""
    elif not (name or "").startswith(("weights.", "outputs-")):
        continue
    elif fields[0] in ("Rss:", "Pss:", "Private_Dirty:"):
        sizes[name + " " + fields[0]] = sizes.get(name + " " + fields[0], 0) + int(fields[1])
print(json.dumps(sizes), flush=True)
"""


@pytest.mark.slow  # of every run: that data are memory-mapped, in tests/test_data.py
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc")
def test_two_processes_hold_one_copy_of_teacher_and_outputs(stages, tmp_path):
    """PSS divides each page among the processes that map it: two that share everything have half of the
    RSS each."""
    info = read_info(stages.data)
    config = ResnetGenerator(widths=ResnetWidths.uniform(48), num_blocks=3)
    teacher = saved.save(tmp_path / "network", "generator", networks.generator(config, info, 0), config)
    store_outputs(
        teacher,
        stages.data,
        saved.load(teacher, info, torch.device("cpu")),
        False,
        torch.device("cpu"),
        chunk=4,
    )
    arguments = [sys.executable, "-c", HOLD, teacher.model_dump_json(), stages.data.model_dump_json()]
    processes = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    measured = []
    for process in processes:  # both hold everything while the first is asked
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        measured.append(json.loads(process.stdout.readline()))  # type: ignore[union-attr]
        if len(measured) == 1:
            print(measured[0])
    for process in processes:
        process.communicate(timeout=30)
    first = measured[0]
    for name in ("weights.safetensors", f"outputs-{teacher.digest}-{stages.data.digest}-by4.npy"):
        size = Path(teacher.path, name).stat().st_size
        assert first[f"{name} Rss:"] * 1024 >= 0.95 * size
        assert first[f"{name} Pss:"] <= 0.55 * first[f"{name} Rss:"] and first[f"{name} Private_Dirty:"] == 0


def test_a_trial_with_stored_outputs_loads_the_teacher_only_for_its_grid(stages, tmp_path, monkeypatch):
    """Once, after the last step; the evaluator once. Where no outputs are stored, the teacher once more,
    at the start."""
    loaded: list[str] = []
    real = saved.load

    def counted(stored: Any, *args: Any) -> Any:
        loaded.append({stages.teacher.digest: "teacher", stages.evaluator.digest: "evaluator"}[stored.digest])
        return real(stored, *args)

    monkeypatch.setattr(saved, "load", counted)
    steps: list[int] = []
    job = stages.student_job(mi__weight=0)
    train(job, report=lambda numbers: steps.append(len(loaded)), state_dir=tmp_path / "computed")
    assert loaded == ["teacher", "evaluator", "teacher"]
    loaded.clear()
    student = stages.student_job(flip=True).training
    assert isinstance(student, DistillTraining)
    _store_outputs_once(stages.teacher, stages.data, student)
    loaded.clear()
    try:
        train(job, report=lambda numbers: steps.append(len(loaded)), state_dir=tmp_path / "stored")
    finally:
        for path in Path(stages.teacher.path).glob("outputs-*"):
            path.unlink()
    assert loaded == ["evaluator", "teacher"] and steps[-1] == 1
