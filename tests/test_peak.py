"""The measured peak of a training's memory: what is mapped, for a moment or to its end, and its own."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Stages

from raydistill.config.training import DistillTraining
from raydistill.data import load_split
from raydistill.models import networks, saved
from raydistill.training import peak
from raydistill.training.recipes import distill
from raydistill.training.teacher import start_at_teacher

forgets = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs a system that forgets a peak"
)
MIB = 1 / 1024


@forgets
@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_file_mapped_for_a_moment_counts_until_it_is_forgotten(tmp_path: Path, is_forgotten: bool) -> None:
    (tmp_path / "large").write_bytes(bytes(96 * 2**20))
    mapped = peak.start()
    before = peak.gb(mapped)
    with (
        (tmp_path / "large").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
    ):
        assert sum(pages[::4096]) == 0
    if is_forgotten:
        peak.forget()
    after = peak.gb(mapped)
    assert before is not None and after is not None
    assert (after - before < 8 * MIB) == is_forgotten


@forgets
def test_what_a_student_is_cut_from_is_no_memory_of_its_training(stages: Stages, tmp_path: Path) -> None:
    """The teacher's file is read page by page, and gone before the first minibatch."""
    job, info = stages.student_job(init="teacher"), load_split(stages.data, "val").info
    config = saved.generator_config(stages.teacher)
    wide = config.model_copy(
        update={"widths": config.widths.model_copy(update={"trunk": 1200, "hidden": 1200})}
    )
    teacher = saved.save(tmp_path / "wide", "generator", networks.generator(wide, info, 0), wide)
    assert (tmp_path / "wide" / "weights.safetensors").stat().st_size > 96 * 2**20
    assert isinstance(job.training, DistillTraining)
    student = distill.initial_student(job.training, info)
    mapped = peak.start()
    before = peak.gb(mapped)
    start_at_teacher(student, job.model_copy(update={"teacher": teacher}))
    after = peak.gb(mapped)
    assert before is not None and after is not None and after - before < 48 * MIB


@forgets
@pytest.mark.parametrize("name, counts", [("weights.safetensors", True), ("pictures.npy", False)])
def test_weights_that_stay_mapped_count_and_pictures_do_not(tmp_path: Path, name: str, counts: bool) -> None:
    (tmp_path / name).write_bytes(bytes(96 * 2**20))
    mapped = peak.start()
    before = peak.gb(mapped)
    with (tmp_path / name).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        assert sum(pages[::4096]) == 0
        after = peak.gb(mapped)
    assert before is not None and after is not None
    assert (after - before > 88 * MIB) == counts
    assert counts or after - before < 8 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
def test_pages_of_a_mapped_file_are_not_in_the_peak_and_other_memory_is(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((64, 2**20), dtype=np.uint8))
    before = peak.start()
    start = peak.gb(before)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="c")
    assert rows.sum(dtype=np.int64) == 64 * 2**20
    after = peak.gb(before)
    own = np.ones(48 * 2**20, dtype=np.uint8)
    last = peak.gb(before)
    assert start is not None and after is not None and last is not None and own.all()
    assert after - start < 0.016 and 0.040 < last - after < 0.064


def test_the_peak_of_a_process_is_in_gibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status = "VmPeak:\t 999 kB\nVmHWM:\t  3145728 kB\nVmRSS:\t 1 kB\nRssFile:\t 1048576 kB\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: status)
    assert peak.gb(0) == 2.0 and peak.gb(2**30) == peak.gb(2**31) == 3.0
    monkeypatch.setattr(Path, "read_text", lambda self, **_: "Name: x\n")
    assert peak.gb(0) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 5 * 2**29)
    assert peak.gb(0) == 2.5
