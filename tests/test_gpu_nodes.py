"""`benchmarks/gpu_nodes.py` on a CPU, over gloo: its parity by processes, and all of it by Ray (slow)."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from raydistill.records.trials import Evaluation, TrialResult

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import gpu
import gpu_launchers
import gpu_nodes

TINY = ("--backend", "gloo", "--workers", "2", "--tiny")


def run(out: Path, *options: str) -> int:
    return gpu_nodes.main(["--out", str(out), *TINY, "--launcher", "processes", *options])


def units(out: Path, part: str) -> dict[str, Any]:
    return json.loads(out.read_text())["parts"][part]["units"]


# ---- parity ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nodes") / "nodes.json"
    assert run(out, "--parts", "parity") == 0
    return out


@pytest.mark.parametrize("name", ["2 workers data parallel", "2 workers fsdp"])
def test_two_workers_give_the_losses_of_one(measured: Path, name: str) -> None:
    figures = units(measured, "parity")[name]["figures"]
    assert figures["l1"] == pytest.approx(figures["l1_of_one"], rel=gpu_nodes.TOLERANCE)
    assert figures["l1"] > 0.01 and 0 <= figures["weights"] < 1e-2


def test_what_an_earlier_run_has_measured_is_not_trained_again(
    measured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def start(*args: Any) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(gpu_launchers.ByProcesses, "_run", start)
    before = measured.read_text()
    assert run(measured, "--parts", "parity") == 0
    assert capsys.readouterr().out.count("parity, from an earlier run: 2 workers") == 2
    assert measured.read_text() == before


def test_what_has_been_trained_and_not_been_written_down_is_not_trained_again(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_launchers.ByProcesses, "_run", lambda *args: pytest.fail("a worker was started"))
    before = units(measured, "parity")
    measured.unlink()
    assert run(measured, "--parts", "parity") == 0
    assert units(measured, "parity") == before


# ---- what goes wrong ---------------------------------------------------------------------------------------


def test_a_training_that_fails_is_said_and_alone_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out, asked = tmp_path / "nodes.json", []

    def packed(self: Any, jobs: Any, folders: Any) -> None:
        asked.append(len(jobs))
        if len(jobs) == 2 and asked.count(2) == 1:
            raise RuntimeError("the card fell out")

    monkeypatch.setattr(gpu_launchers.ByProcesses, "at_once", packed)
    monkeypatch.setattr(gpu_nodes, "result_in", lambda folder: of_reports([(8, 1.0, 0.0), (16, 2.0, 0.0)]))
    assert run(out, "--parts", "packing") == 1
    printed = capsys.readouterr().out
    assert (
        "packing: FAILED: 2: RuntimeError: the card fell out" in printed and "failed: packing: 2" in printed
    )
    assert asked == [1, 2]
    assert run(out, "--parts", "packing") == 0
    assert asked == [1, 2, 2, 1]  # one is measured again, as two are said in times of it
    assert units(out, "packing")["2"]["figures"] == {"images_per_sec": 16.0, "times": 2.0}


def test_when_time_is_up_the_run_says_how_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path / "nodes.json", "--minutes", "1e-9") == 0
    assert "time is up in parity, 2 workers data parallel; the same command" in capsys.readouterr().out


def test_processes_are_ended_when_time_is_up() -> None:
    is_up = False

    def watch() -> None:
        if is_up:
            raise gpu.TimeIsUpError

    def children() -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    launcher = gpu_launchers.ByProcesses("gloo", 2, watch)
    launcher._run(
        time.sleep, (), 1
    )  # of rank 0, so of no time: the server of processes, which stays, runs now
    before, is_up = children(), True
    with pytest.raises(gpu.TimeIsUpError):
        launcher._run(sleep_long, (), 2)
    assert children() == before


def sleep_long(rank: int) -> None:
    time.sleep(600)


@pytest.mark.skipif(torch.cuda.device_count() >= 2, reason="two GPUs are here")
def test_too_few_gpus_are_said_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert gpu_nodes.main(["--out", str(tmp_path / "nodes.json")]) == 2
    assert "--backend nccl: needs 2 CUDA GPUs, and torch finds" in capsys.readouterr().err
    assert gpu_nodes.main(["--out", str(tmp_path / "nodes.json"), *TINY, "--workers", "1"]) == 2
    assert "--workers 1: must be at least 2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_other_options_is_refused(measured: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(measured, "--workers", "3") == 2
    assert "give another file" in capsys.readouterr().err


def of_reports(reports: list[tuple[int, float, float]]) -> TrialResult:
    """A result with reports of (nimg, seconds since the start, seconds of scoring)."""
    evaluations = [
        Evaluation(nimg=nimg, wall_sec=wall, numbers={}, scoring_sec=scoring)
        for nimg, wall, scoring in reports
    ]
    return TrialResult(
        trial_key="",
        reason="",
        status="COMPLETE",
        nimg=reports[-1][0],
        budget_nimg=reports[-1][0],
        metrics={},
        evaluations=evaluations,
        wall_sec=reports[-1][1],
        gpu_sec=0.0,
        hardware="",
        context={},
        git_revision="",
    )


def test_a_rate_is_that_of_the_second_half_without_scoring() -> None:
    assert gpu_nodes.rate(of_reports([(100, 50.0, 7.0), (200, 65.0, 5.0)])) == 10.0


# ---- all of it ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_of_it_by_ray_over_gloo_and_nothing_of_ray_stays(tmp_path: Path) -> None:
    out, mark = tmp_path / "nodes.json", f"{tmp_path}-mark"
    done = subprocess.run(
        [sys.executable, gpu_nodes.__file__, "--out", str(out), *TINY, "--minutes", "20"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "NODES_MARK": mark},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(units(out, "parity")) == ["2 workers data parallel", "2 workers fsdp"]
    assert list(units(out, "scaling")) == ["64px 1", "64px 2", "unet256 1", "unet256 2"]
    assert list(units(out, "packing")) == ["1", "2"]
    for part in gpu_nodes.PARTS:
        assert not any(unit["failed"] for unit in units(out, part).values())
    assert done.stdout.splitlines()[-1].endswith("everything is done")
    time.sleep(2)
    assert marked(mark) == []


def marked(mark: str) -> list[str]:
    """Command lines of processes with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("NODES_MARK") == mark:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
