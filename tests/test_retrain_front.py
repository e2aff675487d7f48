"""The front of a sweep trained again by Ray: killed, gone on with, scored on test once, and in MLflow."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import mlflow
import pytest
from head import plain_environment
from test_sweep import command

from raydistill.records import tables
from raydistill.records.retrained import SHORT, read_retrained
from raydistill.sweep.tracking_store import default_uri


@pytest.mark.slow
def test_the_front_is_trained_again_by_ray_after_a_kill_and_recorded(tmp_path: Path) -> None:
    sweep = tmp_path / "runs/sweeps/tiny"
    subprocess.run(
        command(tmp_path / "runs", "--trials", "1", "--nimg", "80", "--name", "tiny"),
        env=plain_environment(),
        check=True,
    )
    front = tables.read_table(sweep / "trials.parquet")
    members = front["trial_id"][front["front.member"]].tolist()
    again = [*command(tmp_path)[:3], "retrain", str(sweep), "--front", "--nimg", "480"]
    again += ["--workers-per-trial", "2", "--set", "student.batch_size=8"]
    killed = subprocess.Popen(again, env=plain_environment(), cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(sweep.glob("retrained/*/checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert list(sweep.glob("retrained/*/checkpoint-*")), "there was nothing to go on with"
    subprocess.run(again, env=plain_environment(), cwd=tmp_path, check=True)
    trials = read_retrained(sweep)
    assert sorted(trial.lineage["trial_id"] for trial in trials if trial.lineage) == members
    for trial in trials:
        assert trial.result is not None and trial.result.nimg == 480 and trial.result.test
        assert trial.job.training.batch_size == 8
        seen = [each.nimg for each in trial.result.evaluations]
        assert sorted(set(seen)) == seen
    table = tables.read_table(sweep / "retrained.parquet")
    assert (table["nimg"] == 480).all() and (table[f"{SHORT}nimg"] == 80).all()
    assert "80 to 480 images" in (sweep / "frontier.html").read_text()
    before = [path.stat().st_mtime_ns for path in sorted(sweep.glob("retrained/*/result.json"))]
    subprocess.run(
        again, env=plain_environment(), cwd=tmp_path, check=True
    )  # nothing is left: Ray is not started
    assert [path.stat().st_mtime_ns for path in sorted(sweep.glob("retrained/*/result.json"))] == before
    default = Path(default_uri(tmp_path / "runs").removeprefix("sqlite:///"))
    for _ in range(2):
        client = mlflow.MlflowClient(default_uri(tmp_path / "runs"))
        (experiment,) = client.search_experiments(filter_string="name = 'raydistill'")
        runs = client.search_runs([experiment.experiment_id], "tags.`raydistill.role` = 'retrain'")
        assert sorted(run.data.tags["raydistill.retrain_of"] for run in runs) == members
        assert all(run.info.status == "FINISHED" and "test/miou" in run.data.metrics for run in runs)
        default.unlink()
        subprocess.run([*again[:3], "track", str(sweep)], env=plain_environment(), cwd=tmp_path, check=True)
    assert json.loads((sweep / "sweep.json").read_text())["name"] == "tiny"
