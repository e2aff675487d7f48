"""Whole sweeps in this process, without Ray: for the tests of what happens around the trials. One trial at a time, on one core."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill.cluster import ray_train, ray_tune, runtime
from raydistill.cluster.placement import Group, Node
from raydistill.config.experiment import Job
from raydistill.trials.run_job import perform

WIDTHS = ("stem", "down", "trunk", "hidden", "up", "head")
TINY: dict[str, Any] = {
    **{"data.num_train": 48, "data.num_val": 16, "data.num_test": 16},
    **{"evaluator.network.width": 4, "evaluator.budget_nimg": 32, "evaluator.report_every_nimg": 32},
    **{f"teacher.generator.widths.{width}": 4 for width in WIDTHS},
    **{"teacher.discriminator.width": 4, "teacher.budget_nimg": 32, "teacher.report_every_nimg": 32},
    **{"student.report_every_nimg": 32, "student.mi.energy.channels": 2, "student.mi.num_steps": 2},
}
SETTINGS = [text for path, value in TINY.items() for text in ("--set", f"{path}={value}")]


def without_ray(
    monkeypatch: pytest.MonkeyPatch, nodes: list[Node], after_trial: Callable[[], None] = lambda: None
) -> None:
    """`raydistill sweep` trains here, as if on `nodes`; `after_trial` is called as each ends."""

    def run_trials(next_trial: Any, reported: Any, ended: Any, *, folder_of: Any, **rest: Any) -> None:
        while (following := next_trial()) is not None:
            job = Job.model_validate(following["job"])
            perform(
                job, folder_of(following), lambda numbers, following=following: reported(following, numbers)
            )
            after_trial()
            ended(following, False)

    def recheck(job: Job, folder: Path, group: Group, watch: Any, *, in_tune: bool = False) -> None:
        perform(job, folder, lambda numbers: None)

    monkeypatch.setattr(runtime, "start_ray", lambda **options: None)
    monkeypatch.setattr(runtime, "probe_nodes", lambda store: nodes)
    monkeypatch.setattr(
        ray_train, "train_stages_sharded", lambda *arguments: None
    )  # `train_stages`, which follows, does it
    monkeypatch.setattr(ray_train, "perform_sharded", recheck)
    monkeypatch.setattr(ray_tune, "run_trials", run_trials)
