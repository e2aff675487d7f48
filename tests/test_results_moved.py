"""A results folder that was moved or copied, whole or in part: digests decide what is used, and no path."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import torch
from conftest import Stages
from mlflow.tracking import MlflowClient
from no_ray import copy_tracking_store

from raydistill.commands import evaluate, export, promote, retrain, track
from raydistill.config.analysis_options import PromoteOptions, TrackOptions
from raydistill.config.base import Stored
from raydistill.config.command_options import EvaluateOptions, RetrainOptions
from raydistill.config.experiment import Job
from raydistill.config.network_options import ExportOptions
from raydistill.errors import CheckpointError, ConfigError, DataError, NoticeWarning, StoreError
from raydistill.exchange.generator_file import open_generator
from raydistill.records import stored_paths
from raydistill.records.files import write_json_atomic
from raydistill.records.store import STORE_VERSION, open_store
from raydistill.records.trials import Trial, read_trials, write_trial
from raydistill.sweep import tracking_store
from raydistill.trials.run_job import perform

KINDS = ("data", "evaluator", "teacher")


def in_store(stored: Stored, kind: str, store: Path) -> Stored:
    """A copy of something that trials share, in the cache of a store."""
    folder = store / "cache" / kind / Path(stored.path).name
    return Stored(path=str(shutil.copytree(stored.path, folder)), digest=stored.digest)


@pytest.fixture(scope="module")
def whole(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one sweep: a student that was trained, and one that was not."""
    store = open_store(tmp_path_factory.mktemp("store") / "old")
    job = stages.student_job(mi__weight=0)
    shared = {kind: in_store(getattr(job, kind), kind, store) for kind in KINDS}
    job, sweep = job.model_copy(update=shared), store / "sweeps" / "tiny"
    facts = {"sweep_id": "abc", "name": "tiny", "created": 0.0, "definition": ""}
    write_json_atomic(sweep / "sweep.json", {"store_version": STORE_VERSION, **facts})
    (sweep / stored_paths.DATA).mkdir()
    shutil.copy(Path(job.data.path) / "info.json", sweep / stored_paths.DATA)
    for number in range(2):
        content = {"number": number, "trial_id": f"{number:04d}", "role": "search", "label": "no MI"}
        content |= {"params": {}, "costs": {"macs": 5, "params": 3, "macs_convention": "true"}, "seed": 0}
        content |= {"trial_key": job.key, "job": job.model_dump(mode="json"), "digests": {}}
        write_trial(sweep / "trials" / f"{number:04d}", Trial.model_validate(content))
    perform(job, sweep / "trials" / "0000", lambda evaluation: None)
    return store


@pytest.fixture
def moved(whole: Path, tmp_path: Path) -> Path:
    """The store, copied as rsync does, at a place where nothing leads back to the first one."""
    return Path(shutil.copytree(whole, tmp_path / "new"))


def absolute_again(store: Path, before: Path) -> None:
    """Makes its trials those of an earlier version, which wrote absolute paths."""
    for path in store.glob("sweeps/*/trials/*/trial.json"):
        content = json.loads(path.read_text())
        for kind in KINDS:
            content["job"][kind]["path"] = str(before / content["job"][kind]["path"])
        path.write_text(json.dumps(content))


def test_no_record_of_a_sweep_has_an_absolute_path(whole: Path) -> None:
    texts = [path.read_text() for path in whole.glob("sweeps/**/*.json")]
    assert len(texts) > 4 and not any(str(whole.parent) in text for text in texts)


@pytest.mark.parametrize("is_earlier", [False, True])
def test_the_jobs_of_a_moved_store_name_what_is_in_it(moved: Path, whole: Path, is_earlier: bool) -> None:
    if is_earlier:
        absolute_again(moved, whole)
    trials = read_trials(moved / "sweeps/tiny")
    for trial in trials:
        assert trial.job.key == trial.trial_key
        for stored in trial.job.needed.values():
            assert Path(stored.path).is_relative_to(moved) and Path(stored.path).exists()
    folder = moved / "sweeps/tiny/trials/0001"
    result = perform(trials[1].job, folder, lambda evaluation: None)
    before = trials[0].result
    assert before is not None and result.metrics == before.metrics and result.network == before.network


def test_what_has_another_digest_does_not_take_its_place(moved: Path, whole: Path) -> None:
    absolute_again(moved, whole)
    job = read_trials(moved / "sweeps/tiny")[1].job
    assert job.teacher is not None
    meta = Path(job.teacher.path) / "meta.json"
    meta.write_text(meta.read_text().replace('"version": 1', '"version": 1, "other": 2'))
    (moved / "cache/data" / Path(job.data.path).name / "info.json").write_text("{}")
    after = read_trials(moved / "sweeps/tiny")[1].job
    assert after.teacher is not None and Path(after.teacher.path).is_relative_to(whole)
    assert Path(after.data.path).is_relative_to(whole)
    assert after.evaluator is not None and Path(after.evaluator.path).is_relative_to(moved)


def test_a_store_under_a_folder_named_cache_and_a_file_of_a_scorer(tmp_path: Path) -> None:
    store = tmp_path / "cache" / "new"
    trial_dir = store / "sweeps/tiny/trials/0000"
    file = store / "cache/scorers/0123456789abcdef.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    stored = {"path": "/cache/old/cache/scorers/0123456789abcdef.pt", "digest": "0123456789abcdef" * 4}
    scoring = {"scoring": {"files": [{"role": "extractor", "file": stored}]}, "seed": 3}
    found = stored_paths.absolute(scoring, trial_dir)
    assert found["scoring"]["files"][0] == {"role": "extractor", "file": stored | {"path": str(file)}}
    again = stored_paths.relative(found, trial_dir)["scoring"]["files"][0]["file"]
    assert again == stored | {"path": "cache/scorers/0123456789abcdef.pt"} and found["seed"] == 3
    other = {"teacher": stored | {"digest": "f" * 64}}
    assert stored_paths.absolute(other, trial_dir) == other


def test_a_sweep_without_its_cache_says_what_needs_which_part(moved: Path, tmp_path: Path) -> None:
    """As `ray rsync-down` of STORE/sweeps leaves it."""
    sweep = Path(shutil.copytree(moved / "sweeps", tmp_path / "results")) / "tiny"
    shutil.rmtree(moved)
    trial = sweep / "trials/0000"
    assert open_generator(trial).height == 16
    with pytest.raises(DataError, match=r"data .* are not here.*cache.*or give --data"):
        evaluate.run(EvaluateOptions(given=(str(trial),)))
    with pytest.raises(ConfigError, match=r"evaluator .* is not here, in .*cache.*--evaluator FOLDER"):
        evaluate.run(EvaluateOptions(given=(str(trial),), data="shapes", store=str(tmp_path / "scratch")))
    with pytest.raises(StoreError, match=r"is not at .*copy the folder cache"):
        retrain.run(RetrainOptions(sweep=str(sweep), trial=0, nimg=64))
    with pytest.raises(StoreError, match="copy the whole store"):
        open_store(sweep.parent)
    shutil.copytree(sweep.parents[1] / "results/tiny/data", tmp_path / "cache/data/x")
    assert read_trials(sweep)[0].job.data.path == str(sweep / "data")


def test_a_retraining_in_a_moved_store_is_of_what_is_there(moved: Path) -> None:
    sweep = moved / "sweeps/tiny"
    assert retrain.run(RetrainOptions(sweep=str(sweep), trial=0, nimg=64)) == 0
    (path,) = sweep.glob("retrained/*/trial.json")
    assert not Path(json.loads(path.read_text())["job"]["data"]["path"]).is_absolute()
    assert Path(Job.model_validate(json.loads(path.read_text())["job"]).data.path).parts[0] == "cache"
    shutil.rmtree(moved / "cache/data")
    with pytest.raises(StoreError, match="pictures are not here: copy the folder cache"):
        retrain.run(RetrainOptions(sweep=str(sweep), trial=0, nimg=96))


COPIES = {"cp": ["cp", "-r"], "rsync": ["rsync", "-rl"], "rsync -a": ["rsync", "-a"]}
"""How results come home from a cluster; the first two give every file another time."""


@pytest.mark.parametrize("way", COPIES)
def test_a_store_that_was_copied_by_a_program_is_used_as_it_was(
    way: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(COPIES[way][0]) is None:
        pytest.skip(f"no {COPIES[way][0]} here")
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run([*COPIES[way], f"{whole}/.", str(home)], check=True)
    sweep = home / "sweeps/tiny"
    read, trial = read_trials(sweep), sweep / "trials/0000"
    assert read[0].result is not None and read[0].result == read_trials(whole / "sweeps/tiny")[0].result
    options = EvaluateOptions(given=(str(trial),), store=str(home), num=8, resamples=2)
    (scores,) = evaluate.evaluate(options, torch.device("cpu")).values()
    values = {score.name: score.value for score in scores}
    assert values["val/miou"] == pytest.approx(read[0].result.metrics["val/miou"])
    monkeypatch.chdir(tmp_path)
    assert export.run(ExportOptions(given=str(trial), format="safetensors")) == 0
    assert (
        perform(read[1].job, sweep / "trials/0001", lambda evaluation: None).metrics == read[0].result.metrics
    )


def test_half_a_copy_is_refused_before_anything_is_trained(moved: Path) -> None:
    """As a copy that was interrupted leaves it; each time a line says what to copy again."""
    sweep, job = moved / "sweeps/tiny", read_trials(moved / "sweeps/tiny")[0].job
    assert job.evaluator is not None and job.teacher is not None
    again = RetrainOptions(sweep=str(sweep), trial=0, nimg=64)
    for file, message in (
        (Path(job.data.path) / "train_targets.npy", "train_targets.npy"),
        (
            Path(job.evaluator.path) / "weights.safetensors",
            "evaluator .* is not whole: copy that folder again",
        ),
        (Path(job.teacher.path) / "meta.json", "teacher .* is not whole: copy that folder again"),
    ):
        content = file.read_bytes()
        for is_there in (True, False):
            file.write_bytes(content[:40])
            if not is_there:
                file.unlink()
            with pytest.raises(StoreError, match=message):
                retrain.run(again)
            file.write_bytes(content)
    assert not list(sweep.glob("retrained/*/trial.json"))
    weights = sweep / "trials/0000/network/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"the weights are not the ones written"):
        evaluate.run(EvaluateOptions(given=(str(sweep / "trials/0000"),), store=str(moved)))
    with pytest.raises(ConfigError, match=r"the weights are not the ones written"):
        export.run(ExportOptions(given=str(sweep / "trials/0000"), format="safetensors"))
    (sweep / "trials/0001/trial.json").write_text("{")
    with pytest.raises(StoreError, match=r"0001/trial.json"):
        read_trials(sweep)


def test_a_store_of_another_version_is_refused_by_name(moved: Path) -> None:
    sweep = moved / "sweeps/tiny"
    path = sweep / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"store_version": STORE_VERSION + 1}))
    message = f"written by store version {STORE_VERSION + 1}, this raydistill reads {STORE_VERSION}"
    for command in (
        lambda: track.run(TrackOptions(sweep=str(sweep))),
        lambda: promote.run(PromoteOptions(sweep=str(sweep), trial="0")),
        lambda: retrain.run(RetrainOptions(sweep=str(sweep), trial=0, nimg=64)),
    ):
        with pytest.raises(StoreError, match=message):
            command()
    assert not list(moved.glob("mlflow*"))


def test_two_sweeps_of_one_name_stay_two_in_one_mlflow(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_store, "make_file", copy_tracking_store)
    other = Path(shutil.copytree(moved, tmp_path / "other"))
    path = other / "sweeps/tiny/sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sweep_id": "def"}))
    uri = f"sqlite:///{tmp_path}/team.db"
    for _ in range(2):
        for store in (moved, other):
            assert track.run(TrackOptions(sweep=str(store / "sweeps/tiny"), mlflow=uri)) == 0
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("raydistill")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.info.run_id: run for run in runs if run.data.tags["raydistill.role"] == "sweep"}
    assert sorted(run.data.tags["raydistill.sweep_id"] for run in parents.values()) == ["abc", "def"]
    children = [run.data.tags["mlflow.parentRunId"] for run in runs if run.info.run_id not in parents]
    assert sorted(children) == sorted(parents)


def experiments(file: Path) -> dict[str, str]:
    with closing(sqlite3.connect(file)) as connection:
        return dict(connection.execute("SELECT name, artifact_location FROM experiments"))


def metric_rows(file: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return sorted(connection.execute("SELECT run_uuid, key, value, step, timestamp FROM metrics"))


def test_mlflow_begins_anew_beside_a_file_that_names_another_place(
    moved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_store, "make_file", copy_tracking_store)
    sweep = moved / "sweeps/tiny"
    assert track.run(TrackOptions(sweep=str(sweep))) == 0
    there = Path(shutil.move(moved, moved.with_name("there")))
    with pytest.warns(NoticeWarning, match="mlflow-moved-1.db now, and a new one is made of the ledger"):
        assert track.run(TrackOptions(sweep=str(there / "sweeps/tiny"))) == 0
    assert not moved.exists()
    before = metric_rows(there / "mlflow.db")
    assert before and track.run(TrackOptions(sweep=str(there / "sweeps/tiny"))) == 0
    assert metric_rows(there / "mlflow.db") == before
    assert experiments(there / "mlflow.db")["raydistill"] == (there / "mlartifacts").as_uri()
    assert experiments(there / "mlflow-moved-1.db")["raydistill"] == (moved / "mlartifacts").as_uri()
    linked = there.with_name("linked")
    linked.symlink_to(there)
    assert track.run(TrackOptions(sweep=str(linked / "sweeps/tiny"))) == 0
    assert not (there / "mlflow-moved-2.db").exists()
