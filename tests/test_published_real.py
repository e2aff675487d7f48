"""Every published experiment at `--scale smoke`, on a tiny folder of the real layout, from command to page
and MLflow. The networks that score have random weights."""

import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import torch
from published_layouts import LAYOUTS

from raydistill.models.backbones.drn import DRN105
from raydistill.models.backbones.inception import Inception
from raydistill.records.trials import read_trials


def scorers_of(name: str, folder: Path) -> list[str]:
    """The options of a scorer as in the documented command, with random weights; FID is of the published ones
    alone, so the Frechet distance has another name."""
    torch.manual_seed(0)
    if "cityscapes" in name:
        torch.save(DRN105().state_dict(), folder / "drn.pth")
        return ["--segmenter", f"drn105={folder / 'drn.pth'}"]
    if name == "enhance_x2":
        return []
    torch.save(Inception().state_dict(), folder / "inception.pth")
    objectives = ["--objective", "val/fd_inception:min", "--objective", "cost/macs:min"]
    return ["--extractor", f"inception={folder / 'inception.pth'}", *objectives]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_experiment_goes_from_its_command_to_its_page(name: str, tmp_path: Path) -> None:
    data = LAYOUTS[name](tmp_path / "data")
    command = [sys.executable, "-m", "raydistill", "sweep", "--space", f"published/{name}"]
    command += ["--data", str(data), "--scale", "smoke", *scorers_of(name, tmp_path)]
    root = str(Path(__file__).parent.parent)
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    print(name, f"{time.monotonic() - began:.0f} s", done.stdout[-6000:], done.stderr[-3000:])
    assert done.returncode == 0
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    trials = read_trials(sweep)
    roles = [trial.role for trial in trials]
    assert (roles.count("search"), roles.count("uniform"), roles.count("recheck")) == (2, 1, 1)
    assert all(trial.result is not None and trial.result.status == "COMPLETE" for trial in trials)
    assert (sweep / "frontier.html").stat().st_size > 10_000
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    assert len(client.search_runs(experiments)) >= len(trials)
