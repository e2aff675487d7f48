"""`raydistill promote`: which trial it means, what the registry has afterwards, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from no_ray import copy_tracking_store
from test_tracking import Sweep

from raydistill.commands import promote
from raydistill.config.analysis_options import PromoteOptions, percent_of
from raydistill.errors import ConfigError, StoreError
from raydistill.records.trials import Trial
from raydistill.sweep import registry, tracking_models, tracking_store

OBJECTIVES = (("val/miou", "max"), ("cost/macs", "min"))


def log(client: MlflowClient, experiment_id: str, run_id: str, trial: Trial, folder: Path, sweep: str) -> str:
    """A model that has a card and nothing else: the fixture's trials have no networks."""
    model = client.create_logged_model(experiment_id, name=f"m{trial.trial_id}", source_run_id=run_id)
    files = folder / "model"
    files.mkdir(exist_ok=True)
    (files / "README.md").write_text(f"# card of {trial.trial_id}")
    (files / "MLmodel").write_text(f"flavors: {{}}\nmodel_id: {model.model_id}\nrun_id: {run_id}\n")
    client.log_model_artifacts(model.model_id, str(files))
    client.finalize_logged_model(model.model_id, "READY")
    client.set_tag(run_id, tracking_models.TAG, model.model_id)
    return str(model.model_id)


def renew_card(client: MlflowClient, model_id: str, trial_folder: Path, licence: str) -> str:
    return f"# card of {trial_folder.name}, licence {licence or 'not stated'}"


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setattr(tracking_store, "make_file", copy_tracking_store)
    monkeypatch.setattr(tracking_models, "is_wanted", lambda trial, is_member: False)
    monkeypatch.setattr(tracking_models, "log", log)
    monkeypatch.setattr(tracking_models, "renew_card", renew_card)
    sent = Sweep(tmp_path)
    sweep_json = json.loads((sent.folder / "sweep.json").read_text())
    monkeypatch.setattr(registry.store, "read_sweep", lambda folder: sweep_json | {"sweep_id": "6d1f"})
    sent.run()
    assert sent.tracker.close()
    return sent


def promoted(sweep: Sweep, trial_id: str, **given: Any) -> registry.Promoted:
    """Promotes a trial to the champion of the registered model "faces"."""
    trial = next(trial for trial in sweep.trials if trial.trial_id == trial_id)
    options = {"name": "faces", "alias": "champion"} | given
    where = sweep.folder / "trials" / trial_id
    return registry.promote(sweep.tracker.uri, "raydistill", sweep.folder, trial, where, **options)


def test_a_better_one_and_back_again_leaves_two_versions_and_the_history_of_the_alias(sweep: Sweep) -> None:
    moves = [promoted(sweep, "0006", licence="MIT")]
    moves += [promoted(sweep, trial_id) for trial_id in ("0001", "0006", "0006")]
    assert [move.version for move in moves] == ["1", "2", "1", "1"]
    assert [move.before for move in moves] == [None, "1", "2", "1"]
    client = MlflowClient(sweep.tracker.uri)
    found = client.get_model_version_by_alias("faces", "champion")
    assert str(found.version) == "1" and found.tags["raydistill.trial_id"] == "0006"
    assert found.tags["raydistill.licence"] == "MIT" and found.tags["raydistill.macs_convention"] == "true"
    assert found.tags["raydistill.val.miou"].endswith("pictures")
    assert found.description == "# card of 0006, licence MIT"
    other = client.get_model_version("faces", "2")
    assert (
        other.description == "# card of 0001, licence not stated" and "raydistill.licence" not in other.tags
    )
    history = json.loads(client.get_registered_model("faces").tags["raydistill.history.champion"])
    assert [version for version, _ in history] == ["1", "2", "1", "1"]


def test_mlflows_own_tracking_store_is_afterwards_what_it_was(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(None)
    promoted(sweep, "0001")
    assert not mlflow.is_tracking_uri_set() and "MLFLOW_TRACKING_URI" not in os.environ
    mlflow.set_tracking_uri(elsewhere := "sqlite:///elsewhere.db")
    try:
        promoted(sweep, "0006")
        assert mlflow.get_tracking_uri() == elsewhere
    finally:
        mlflow.set_tracking_uri(None)


def test_an_alias_of_other_data_is_not_taken_unless_that_is_asked_for(sweep: Sweep) -> None:
    promoted(sweep, "0006")
    client = MlflowClient(sweep.tracker.uri)
    client.set_model_version_tag("faces", "1", "raydistill.digest.data", "other")
    with pytest.raises(ConfigError, match=r"--alias champion: version 1 of faces has it.*or --replace"):
        promoted(sweep, "0001")
    assert promoted(sweep, "0001", alias="small").version == "2"
    assert promoted(sweep, "0001", replace=True).before == "1"


def test_a_registry_that_refuses_and_a_sweep_that_is_not_there_say_what_to_do(sweep: Sweep) -> None:
    with pytest.raises(StoreError, match=r"--name a/b: the registry refuses: "):
        promoted(sweep, "0006", name="a/b")
    trial = next(trial for trial in sweep.trials if trial.trial_id == "0006")
    with pytest.raises(StoreError, match=r"no run of trial 0006 in the experiment other; first: raydistill"):
        registry.promote(
            sweep.tracker.uri, "other", sweep.folder, trial, sweep.folder, name="faces", alias="champion"
        )


def test_a_trial_that_failed_has_no_model_and_its_reason_is_said(sweep: Sweep) -> None:
    trial = next(trial for trial in sweep.trials if trial.trial_id == "0006")
    result = trial.result.model_copy(update={"status": "FAIL", "reason": "its loss is not finite"})
    with pytest.raises(ConfigError, match="--trial 6: it has no model: FAIL: its loss is not finite"):
        promote._trial([trial.with_result(result)], "6", "s")
    with pytest.raises(ConfigError, match="--trial 9: s has no such trial; it has 0006"):
        promote._trial([trial], "9", "s")


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"under": 5e6}, "2"),
        ({"under": 2e6}, "1"),
        ({"within": 5.0}, "3"),
        ({"within": 20.0}, "2"),
        ({"trial": "7"}, "7"),
    ],
)
def test_under_takes_the_best_and_within_the_cheapest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], chosen: str
) -> None:
    table = pd.DataFrame(
        {
            "trial_id": ["0", "1", "2", "3", "4"],
            "role": ["teacher", "search", "search", "uniform", "search"],
            "status": "COMPLETE",
            "replicate_of": None,
            "front.member": [False, True, True, True, False],
            "cost.macs": [9e6, 1e6, 4e6, 8e6, 1e5],
            "metric.val/miou": [0.8, 0.5, 0.7, 0.79, 0.9],
        }
    )
    monkeypatch.setattr(promote.tables, "read_table", lambda path: table)
    options = PromoteOptions.model_validate({"sweep": "s", **given})
    assert promote._chosen(options, tmp_path, OBJECTIVES) == chosen
    with pytest.raises(ConfigError, match="the cheapest of the front has 1,000,000 MACs"):
        promote._chosen(PromoteOptions(sweep="s", under=1.0), tmp_path, OBJECTIVES)
    with pytest.raises(ConfigError, match=r"the teacher's val/miou is 0.8, the best of the front's 0.79"):
        promote._chosen(PromoteOptions(sweep="s", within=1.0), tmp_path, OBJECTIVES)
    with pytest.raises(ConfigError, match="give one of --trial N, --under MACS and --within PERCENT"):
        promote._chosen(PromoteOptions(sweep="s"), tmp_path, OBJECTIVES)


def test_a_percentage_is_typed_with_or_without_its_sign() -> None:
    assert percent_of("2%") == percent_of("2") == 2.0
    for wrong in ("x", "-1%", "nan", "101"):
        with pytest.raises(ConfigError, match="a percentage from 0 to 100 is needed"):
            percent_of(wrong)


def test_a_sweep_whose_folder_is_not_there_is_said_before_its_record_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none: there is no such results folder"):
        promote.run(PromoteOptions(sweep=str(tmp_path / "none"), trial="1"))


def test_a_card_longer_than_mlflow_takes_says_where_the_rest_is() -> None:
    assert tracking_models._description("x" * 5000) == "x" * 5000
    cut = tracking_models._description("x" * 5001)
    assert len(cut) == 5000 and cut.endswith("\n\nThe rest is in the model's README.md.\n")
