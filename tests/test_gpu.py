"""What needs a CUDA GPU: `python -m pytest -m gpu`. One GPU is enough.

What needs no Ray is in `gpu_checks.py`, which `benchmarks/gpu.py` runs where there is no pytest.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_checks
import pytest
import torch
from test_sweep import command, run

from raydistill.records import tables

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> gpu_checks.Kit:
    return gpu_checks.Kit(tmp_path_factory.mktemp("kit"), "cuda")


@pytest.mark.parametrize("name", gpu_checks.CHECKS)
def test_on_the_gpu(kit: gpu_checks.Kit, name: str) -> None:
    print(f"\n{name}: {gpu_checks.CHECKS[name](kit)}")


# ---- whole sweeps ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    def sweep(*options: str) -> tuple[Path, Any]:
        cwd = tmp_path_factory.mktemp("sweep")
        done = run(command(cwd / "runs", "--trials", "2", *options), cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return cwd / "runs/sweeps/default-001", done

    return sweep


def test_the_main_job_runs_on_one_gpu(swept: Callable[..., tuple[Path, Any]]) -> None:
    """Evaluator, teacher, trials, recheck, report; each result names the GPU and counts its seconds."""
    folder, _ = swept("--executor", "train", "--teacher-workers", "1")
    table = tables.read_table(folder / "trials.parquet")
    trained = table[table["role"] != "recheck"]
    assert set(trained["status"]) == {"COMPLETE"}
    assert trained["hardware"].str.contains(torch.cuda.get_device_name(), regex=False).all()
    assert (trained["gpu_sec"] > 0).all()


def test_two_trials_share_a_gpu_by_halves(swept: Callable[..., tuple[Path, Any]]) -> None:
    """Both run at the same time: one starts before the other has ended."""
    folder, done = swept("--gpus-per-worker", "0.5", "--teacher-workers", "1", "--max-concurrent", "2")
    assert "2 at a time" in done.stdout
    searched = tables.read_table(folder / "trials.parquet").query("role == 'search'")
    assert set(searched["status"]) == {"COMPLETE"} and (searched["gpu_sec"] > 0).all()
    logs = [folder / "trials" / str(name) / "log.txt" for name in searched["trial_id"]]
    spans = [(path.parent.joinpath("trial.json").stat().st_mtime, path.stat().st_mtime) for path in logs]
    (first_start, first_end), (second_start, second_end) = sorted(spans)
    assert second_start < first_end and first_start < second_end
