"""Trials that are stopped end PRUNED and give everything back; shares of a GPU are placed as planned."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Stages
from test_ledger import bare
from test_results import synthetic_trials

from raydistill import search
from raydistill.config.space import Int, Objective, SearchSpace
from raydistill.planning.plan import NUM_STARTUP
from raydistill.records.trials import Evaluation, read_result
from raydistill.trials.run_job import perform

SCRIPT = """
import json, os, sys, tempfile, time
from pathlib import Path
executor, count, stop_at, root = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
job_text = sys.argv[5]
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
from raydistill.cluster import runtime  # before Ray: loopback
import ray
from ray.util import placement_group_table
from raydistill.config.experiment import Job
from raydistill.cluster.placement import Group, Placement
from raydistill.cluster.ray_tune import run_trials
from raydistill.records.trials import Trial

os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="rd-")  # as runtime.start_ray does
ray.init(address="local", num_cpus=4, num_gpus=2 if executor == "gpu" else 0, include_dashboard=True,
         dashboard_host="127.0.0.1", log_to_driver=False, logging_level="ERROR")
# as runtime.start_ray does: Ray Train's clean-up asks this cluster, and not another of the machine
current = Path(os.environ["RAY_TMPDIR"]) / "ray" / "ray_current_cluster"
current.write_text(ray.get_runtime_context().gcs_address)
os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
               "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1"}
ledger = lambda: {"free": ray.available_resources().get("CPU"),
                  "free_gpus": ray.available_resources().get("GPU", 0.0),
                  "groups": sum(group["state"] != "REMOVED" for group in placement_group_table().values())}
before = ledger()
job = Job.model_validate_json(job_text)
seeded = lambda seed: job.model_copy(update={"training": job.training.model_copy(update={"seed": seed})})
def proposed(i):
    job = seeded(i)
    return Trial(number=i, trial_id=str(i), role="search", label="", params={}, costs={}, trial_key=job.key,
                 seed=i, job=job.model_dump(mode="json"), digests={})

left = [proposed(i) for i in range(count)]
ended, began, least = [], time.monotonic(), [9.0]

def done(trial, stopped, reason):
    ended.append(stopped)
    print(f"{time.monotonic() - began:6.1f} s: {len(ended)} ended, {ledger()}", file=sys.stderr, flush=True)

def reported(trial, numbers):
    least[0] = min(least[0], ray.available_resources().get("GPU", 0.0))

group = Group(1, 1.0, 0.5 if executor == "gpu" else 0.0) if executor != "train" else Group(1, 0.9)
run_trials(lambda: left.pop(0) if left else None, reported, done,
           should_stop=lambda trial, evaluation: evaluation.nimg >= stop_at,
           folder_of=lambda trial: root / trial.trial_id, num_trials=count, storage=root / "ray",
           placement=Placement(executor != "train", group, 4))
deadline = time.monotonic() + 90
while (after := ledger()) != before and time.monotonic() < deadline:
    time.sleep(0.5)
results = [(root / str(i) / "result.json").exists() for i in range(count)]
print(json.dumps({"before": before, "after": after, "ended": ended, "results": sum(results),
                  "least_free_gpus": least[0], "seconds": time.monotonic() - began}))
ray.shutdown()
"""


def run(stages: Stages, folder: Path, executor: str, count: int, stop_at: int, **job: int) -> dict:
    text = stages.student_job(mi__weight=0, **job).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, executor, str(count), str(stop_at), str(folder), text],
        capture_output=True,
        text=True,
        timeout=2400,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    print(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("count", [int(os.environ.get("RAYDISTILL_STOPS", "50"))])
def test_fifty_stopped_trials_with_ray_train_inside_give_everything_back(stages, tmp_path, count):
    """Four at a time. A trial would train a million images; it is stopped at its first report."""
    ledger = run(stages, tmp_path, "train", count, 0, budget_nimg=1_000_000, report_every_nimg=160)
    print(ledger)
    assert ledger["ended"] == [True] * count and ledger["results"] == 0
    assert ledger["after"] == ledger["before"]


@pytest.mark.slow
def test_two_trials_share_a_gpu_that_ray_believes_in(stages, tmp_path):
    """Ray is told of two GPUs that are not there: at most four trials at half a GPU run at once, and both
    GPUs are given back."""
    ledger = run(stages, tmp_path, "gpu", 6, 10**9, budget_nimg=32)
    assert ledger["ended"] == [False] * 6 and ledger["results"] == 6
    assert (
        ledger["before"]["free_gpus"] == ledger["after"]["free_gpus"] == 2 and ledger["least_free_gpus"] <= 1
    )


@pytest.mark.slow
def test_stopped_inline_trials_leave_their_actor_to_the_next(stages, tmp_path):
    ledger = run(stages, tmp_path, "inline", 6, 0, budget_nimg=1_000_000, report_every_nimg=160)
    assert ledger["ended"] == [True] * 6 and ledger["after"] == ledger["before"]


def test_a_stopped_trial_is_pruned_with_what_it_had_reached(stages, tmp_path):
    job = stages.student_job(mi__weight=0)
    changes = {"trial_key": job.key, "job_json": job.model_dump(mode="json"), "configuration": {"a": 1}}
    trial = synthetic_trials()[13].model_copy(update=changes)
    ledger = bare(tmp_path, [trial])
    ledger.stages = SimpleNamespace(
        teacher_result=SimpleNamespace(context={"extractor": "evaluator", "split": "val"})
    )

    def stop(evaluation: Evaluation) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(job, ledger.folder_of(trial), stop)
    ended = ledger.end(trial, stopped=True, num_gpus=0.5)
    kept = read_result(ledger.folder_of(trial))
    assert (
        kept == ended.result == ledger.trials[0].result
        and kept.status == "PRUNED"
        and kept.reason == "stopped after 16 of 32 images"
    )
    assert kept.nimg == 16 and kept.metrics["val/miou"] >= 0 and kept.gpu_sec == kept.wall_sec / 2
    assert perform(job, ledger.folder_of(trial), stop) == kept  # never trained again


def test_a_proposal_knows_pruned_trials():
    widths = {"student.generator.widths.trunk": Int(low=4, high=64, step=4)}
    objectives = (
        Objective(name="val/miou", direction="max", reference=0.0),
        Objective(name="cost/macs", direction="min"),
    )
    space = SearchSpace(preset="shapes32", parameters=widths, objectives=objectives, uniform=())
    problem = search.Problem(
        space,
        lambda configuration: {"cost/macs": next(iter(configuration.values())), "cost/params": 1},
        0,
        NUM_STARTUP,
    )
    history = [
        search.Observation({path: 4 * number}, "PRUNED", None) for path in widths for number in range(1, 7)
    ]
    configuration = search.propose(problem, history, 6)
    assert configuration["student.generator.widths.trunk"] > 24  # the six there are not proposed again


def test_the_ledger_tells_the_search_the_curves_of_running_stopped_and_finished_trials():
    points = [
        Evaluation(nimg=nimg, wall_sec=1.0, numbers={"val/miou": nimg / 1000}) for nimg in (100, 200, 400)
    ]
    result = synthetic_trials()[8].result
    endings = [
        {"status": "COMPLETE", "evaluations": points, "metrics": points[2].numbers},
        {"status": "PRUNED", "evaluations": points[:2], "metrics": points[1].numbers},
        None,
    ]
    trials = [
        synthetic_trials()[8].model_copy(
            update={
                "number": n,
                "trial_id": f"{n:04d}",
                "configuration": {"w": n},
                "costs": {"macs": 7},
                "job_json": {"training": {"budget_nimg": 400}},
                "result": ending and result.model_copy(update=ending),
            }
        )
        for n, ending in enumerate(endings)
    ]
    ledger = bare(Path(), trials)
    ledger.take_in(ledger.trials[2], points[0])
    ledger.take_in(
        ledger.trials[2], points[0]
    )  # reported again, after it was lost and went on from its checkpoint
    first, second = (0.25, [0.1, 7.0]), (0.5, [0.2, 7.0])
    assert ledger.history() == [
        search.Observation({"w": 0}, "COMPLETE", [0.4, 7.0], [first, second]),
        search.Observation({"w": 1}, "PRUNED", None, [first, second]),
        search.Observation({"w": 2}, "RUNNING", None, [first]),
    ]
