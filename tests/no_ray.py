"""Whole sweeps in this process, without Ray: for the tests of what happens around the trials.

One trial at a time, on one core. What takes long and is the same for each sweep is not done each time: the
memory of a training is predicted where a test looks at it, and the tables of an empty tracking store are made
once.
"""

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from raydistill.cluster import ray_train, ray_tune, runtime
from raydistill.cluster.placement import Group, Node
from raydistill.config.experiment import Job
from raydistill.planning import memory
from raydistill.sweep import tracking_models, tracking_store
from raydistill.trials.run_job import perform

WIDTHS = ("stem", "down", "trunk", "hidden", "up", "head")
TINY: dict[str, Any] = {
    **{"data.num_train": 48, "data.num_val": 16, "data.num_test": 16},
    **{"evaluator.network.width": 4, "evaluator.budget_nimg": 32, "evaluator.report_every_nimg": 32},
    **{f"teacher.generator.widths.{width}": 4 for width in WIDTHS},
    **{"teacher.discriminator.width": 4, "teacher.budget_nimg": 32, "teacher.report_every_nimg": 32},
    **{
        "student.report_every_nimg": 32,
        "student.terms.mi.energy.channels": 2,
        "student.terms.mi.num_steps": 2,
    },
}
SETTINGS = [text for path, value in TINY.items() for text in ("--set", f"{path}={value}")]


def without_ray(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[Node],
    after_trial: Callable[[], None] = lambda: None,
    *,
    predicts_memory: bool = False,
) -> None:
    """`raydistill sweep` trains here, as if on `nodes`.

    Args:
        after_trial: called as each trial ends.
        predicts_memory: False: every training is said to hold 64 MiB, which saves half a second each.
    """

    def run_trials(next_trial: Any, reported: Any, ended: Any, *, folder_of: Any, **rest: Any) -> None:
        while (following := next_trial()) is not None:
            perform(following.job, folder_of(following), functools.partial(reported, following))
            after_trial()
            ended(following, False, "")

    def recheck(job: Job, folder: Path, group: Group, watch: Any, *, in_tune: bool = False) -> None:
        perform(job, folder, lambda numbers: None)

    monkeypatch.setattr(runtime, "start_ray", lambda **options: None)
    monkeypatch.setattr(runtime, "probe_nodes", lambda store: nodes)
    monkeypatch.setattr(
        ray_train, "train_stages_sharded", lambda *arguments: None
    )  # `train_stages`, which follows, does it
    monkeypatch.setattr(ray_train, "perform_sharded", recheck)
    monkeypatch.setattr(ray_tune, "run_trials", run_trials)
    if not predicts_memory:
        monkeypatch.setattr(memory, "states_and_tensors", lambda training, setup: 64 * 2**20)
    monkeypatch.setattr(tracking_store, "make_file", copy_tracking_store)
    # the ONNX file of each member of the front takes a second; tests of models make their own
    monkeypatch.setattr(tracking_models, "is_wanted", lambda trial, is_member: False)


@functools.cache
def empty_tracking_store() -> Path:
    """An SQLite file with MLflow's tables, and nothing in them: some thirty migrations, a second."""
    file = Path(tempfile.mkdtemp()) / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments(max_results=1)
    return file


def copy_tracking_store(file: Path, artifacts: Path) -> None:
    """In place of `tracking_store.make_file`: begins with the tables."""
    if not file.exists():
        shutil.copy(empty_tracking_store(), file)
