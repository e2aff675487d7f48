"""Replicates with real trainings, on the ledger alone: what a sweep does between its calls of Ray."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from raydistill.config.sweep_options import SweepOptions
from raydistill.planning.checks import check
from raydistill.records.trials import Trial
from raydistill.sweep.run import _new_sweep
from raydistill.trials.ledger import Ledger
from raydistill.trials.run_job import perform
from raydistill.trials.stages import train_stages


def opened(store: Path, name: str, **options: object) -> Ledger:
    """The sweep of that name, new or gone on with; evaluator and teacher trained here where they are not
    there."""
    there = (store / "sweeps" / name).exists()
    values = tuple(
        f"{path}={value}"
        for path, value in TINY.items()
        if path != "student.terms.mi.step_size" and not path.startswith("student.generator.widths")
    )
    plan = check(SweepOptions(store=str(store), name=name, set=values, trials=3, resume=there, **options))  # type: ignore[arg-type]
    folder = store / "sweeps" / name if there else _new_sweep(plan)
    return Ledger(
        plan, folder, train_stages(plan.experiment, plan.data, store / "cache", lambda numbers: None)
    )


def train(ledger: Ledger, trial: Trial) -> None:
    perform(trial.job, ledger.folder_of(trial), lambda numbers: None)
    ledger.end(trial)


@pytest.mark.slow
def test_replicates_go_on_after_a_kill_as_if_there_had_been_none(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    ledger = opened(store, "one", replicates=4)
    for trial in ledger.unfinished:
        train(ledger, trial)
    for _ in range(3):
        train(ledger, ledger.propose())
    shutil.copytree(store / "sweeps/one", store / "sweeps/two")
    for name, stops in (("one", ()), ("two", (1, 3))):
        ledger, made = opened(store, name, replicates=4), 0
        while (original := ledger.to_replicate()) is not None:
            trial = ledger.add_replicate(original)
            if (made := made + 1) in stops:  # killed while it trains: opened again, it is there to go on with
                ledger = opened(store, name, replicates=4)
                (trial,) = ledger.unfinished
            train(ledger, trial)
    one, two = (opened(store, name, replicates=4) for name in ("one", "two"))
    assert len(one.replicates) == 4 and [t.label for t in one.replicates] == [t.label for t in two.replicates]
    table = one.table().set_index("trial_id")
    print(
        table[
            [
                "role",
                "label",
                "seed",
                "metric.val/miou",
                "mean.val/miou",
                "se.val/miou",
                "front.seeds",
                "front.probability",
            ]
        ].to_string()
    )
    for trial in one.replicates:
        original = table.loc[trial.replicate_of]
        values = [
            original["metric.val/miou"],
            *table["metric.val/miou"][table["replicate_of"] == trial.replicate_of],
        ]
        assert trial.seed > original["seed"] and original["front.seeds"] == len(values) >= 2
        assert original["mean.val/miou"] == pytest.approx(np.mean(values)) and len(set(values)) > 1
    assert (
        table["front.probability"].dropna().between(0, 1).all()
        and not table["front.member"][table["role"] == "replicate"].any()
    )
