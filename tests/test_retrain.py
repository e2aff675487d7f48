"""A trial of a sweep trained again at full length: where it comes from, what is refused, going on after
an interrupt."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import s3
import torch
from conftest import Stages
from test_file_scorers import Means
from torch import nn

from raydistill.commands import retrain, retrain_jobs
from raydistill.commands.retrain import RetrainOptions, run
from raydistill.config.experiment import Job
from raydistill.errors import BudgetError, ConfigError, DataError, StoreError
from raydistill.records import mirror, remote, tables
from raydistill.records import retrained as records
from raydistill.records.files import write_json_atomic
from raydistill.records.store import STORE_VERSION
from raydistill.records.trials import Evaluation, Trial, read_result, read_trials, write_result, write_trial
from raydistill.trials.run_job import perform


@pytest.fixture
def sweep(stages: Stages, tmp_path: Path) -> Path:
    """A sweep with a teacher, a trained student, a failed one and a running one."""
    write_json_atomic(
        tmp_path / "sweep.json",
        {
            "store_version": STORE_VERSION,
            "sweep_id": "abc",
            "name": "tiny",
            "created": 0.0,
            "definition": "",
        },
    )
    job = stages.student_job(mi__weight=0)
    for number, role in enumerate(("teacher", "search", "search", "search")):
        trial = {
            "number": number,
            "trial_id": f"{number:04d}",
            "role": role,
            "label": "no MI",
            "params": {"w": 1},
            "configuration": {"w": 1},
        }
        trial |= {
            "costs": {"macs": 5, "params": 3},
            "trial_key": job.key,
            "seed": 0,
            "job": job.model_dump(mode="json"),
            "digests": {},
        }
        write_trial(tmp_path / f"trials/{number:04d}", Trial.model_validate(trial))
    done = perform(job, tmp_path / "trials/0001", lambda numbers: None)
    write_result(tmp_path / "trials/0002", done.model_copy(update={"status": "FAIL", "reason": "diverged"}))
    return tmp_path


def retrained(sweep: Path) -> list[Path]:
    return [path.parent for path in sweep.glob("retrained/*/trial.json")]


def test_a_member_is_trained_at_full_length_and_says_where_it_comes_from(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_trials(sweep)
    assert run(RetrainOptions(sweep=str(sweep), trial=1, nimg=64)) == 0
    (folder,) = retrained(sweep)
    trial, result = json.loads((folder / "trial.json").read_text()), read_result(folder)
    job, original = Job.model_validate(trial["job"]), before[1].job
    assert result is not None and result.status == "COMPLETE" and result.nimg == result.budget_nimg == 64
    assert trial["lineage"] == {
        "sweep_id": "abc",
        "sweep": sweep.name,
        "trial_key": original.key,
        "trial_id": "0001",
        "nimg": 32,
    }
    assert trial["trial_key"] == job.key == result.trial_key and trial["role"] == "retrain"
    assert (
        job.training == original.training.model_copy(update={"budget_nimg": 64})
        and job.teacher == original.teacher
    )
    assert read_trials(sweep) == before  # the sweep itself is as it was
    printed = capsys.readouterr().out
    assert "val/miou" in printed and "64" in printed and "32" in printed


def test_an_interrupted_one_goes_on_from_its_checkpoint_and_a_finished_one_is_kept(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, seen = RetrainOptions(sweep=str(sweep), trial=1, nimg=64), []

    def interrupted(evaluation: Evaluation) -> str:
        seen.append(evaluation.nimg)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(retrain, "_line", interrupted)
    assert run(options) == 130
    (folder,) = retrained(sweep)
    assert read_result(folder) is None
    assert run(options) == 0 and sorted(set(seen)) == seen  # no image was trained on twice
    result = read_result(folder)
    assert run(options) == 0 and retrained(sweep) == [folder] and read_result(folder) == result


def test_another_seed_is_another_training(sweep: Path) -> None:
    for seed in (None, 7):
        assert run(RetrainOptions(sweep=str(sweep), trial=1, nimg=48, seed=seed)) == 0
    seeds = {json.loads((folder / "trial.json").read_text())["seed"] for folder in retrained(sweep)}
    assert seeds == {0, 7}


@pytest.mark.parametrize(
    ("number", "nimg", "error", "message"),
    [
        (9, 64, StoreError, r"--trial 9: no student of .* Students: 1, 2, 3\."),
        (0, 64, StoreError, r"--trial 0: no student"),
        (2, 64, StoreError, r"--trial 2: failed: diverged"),
        (3, 64, StoreError, r"--trial 3: has no result yet; let the sweep end first"),
        (1, 32, BudgetError, r"--nimg 32: trial 1 was trained on 32 images already; give more"),
    ],
)
def test_what_cannot_be_trained_again_is_refused_before_any_cost(
    sweep: Path, number: int, nimg: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(RetrainOptions(sweep=str(sweep), trial=number, nimg=nimg))
    assert retrained(sweep) == []


def test_a_sweep_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such results folder"):
        run(RetrainOptions(sweep=str(tmp_path / "nowhere"), trial=1, nimg=64))


def test_a_moved_results_folder_is_told(sweep: Path) -> None:
    file = sweep / "trials/0001/trial.json"
    file.write_text(
        file.read_text().replace(json.loads(file.read_text())["job"]["teacher"]["path"], "/nowhere/teacher")
    )
    with pytest.raises(StoreError, match=r"teacher \w+ is not at /nowhere/teacher: copy the folder cache"):
        run(RetrainOptions(sweep=str(sweep), trial=1, nimg=64))


def test_a_sweep_on_an_object_store_is_brought_first_and_its_retrained_trial_goes_up(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3.CREDENTIALS, mirror.FOLDER: str(tmp_path / "copies")}.items():
        monkeypatch.setenv(name, value)
    with s3.served(tmp_path) as query:
        root = mirror.folder_of(f"s3://{s3.BUCKET}/ours?{query}")
        text = (sweep / "trials/0001/trial.json").read_text()
        for name in ("data", "evaluator", "teacher"):
            path = json.loads(text)["job"][name]["path"]
            shutil.copytree(path, root / "cache" / name)
            text = text.replace(json.dumps(path), json.dumps(str(root / "cache" / name)))
        shutil.copytree(sweep, root / "sweeps/tiny", ignore=shutil.ignore_patterns("copies", "s3*"))
        (root / "sweeps/tiny/trials/0001/trial.json").write_text(text)
        remote.push(root)
        shutil.rmtree(root)  # another machine
        url = f"s3://{s3.BUCKET}/ours/sweeps/tiny?{query}"
        with pytest.raises(StoreError, match=r"--trial 9: no student of .* Students: 1, 2, 3"):
            run(RetrainOptions(sweep=url, trial=9, nimg=48))
        assert not (root / "cache").exists()  # what is refused brings no data
        assert run(RetrainOptions(sweep=url, trial=1, nimg=48)) == 0
        assert not (root / "sweeps/tiny/trials/0001/network").exists()  # not needed
        (folder,) = retrained(root / "sweeps/tiny")
        shutil.rmtree(root)
        remote.pull(folder)
        result = read_result(folder)
        assert result is not None and (result.status, result.nimg) == ("COMPLETE", 48)
        assert (folder / "network/weights.safetensors").is_file() and (folder / "trial.json").is_file()


@pytest.mark.parametrize(
    "url", ["s3://bucket/prefix", "s3://bucket/prefix/sweeps/", "s3://bucket/sweeps/tiny?region"]
)
def test_a_url_that_names_no_sweep_is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        run(RetrainOptions(sweep=url, trial=1, nimg=48))


def test_a_retrained_student_gets_the_scores_of_the_options(
    sweep: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By a copy of the file in the store; without options, by what its sweep had."""
    store = tmp_path_factory.mktemp("store")
    moved = store / "sweeps" / "tiny"
    shutil.copytree(sweep, moved)
    file = store / "mine.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), file)
    with pytest.raises(DataError, match="cannot score colour pictures"):
        run(RetrainOptions(sweep=str(moved), trial=1, nimg=48, extractors=(f"torchscript={file}",)))
    assert retrained(moved) == []
    torch.jit.save(torch.jit.script(Means()), file)
    assert run(RetrainOptions(sweep=str(moved), trial=1, nimg=48, extractors=(f"torchscript={file}",))) == 0
    (folder,) = retrained(moved)
    result = read_result(folder)
    assert result is not None and "val/kd_script_mine" in result.metrics
    (copy,) = (store / "cache" / "scorers").iterdir()
    assert copy.read_bytes() == file.read_bytes()


# ---- several of the front ----------------------------------------------------------------------------------


@pytest.fixture
def front(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The same sweep, ended: trials 1 and 3 are its front, 3 with the larger share. What would be trained by
    Ray is kept instead: (options, sweep, originals, trainings)."""
    result = read_result(sweep / "trials/0001")
    assert result is not None
    write_result(sweep / "trials/0003", result)
    table = tables.trial_table(sweep, sweep_id="tiny")
    table["front.member"] = table["trial_id"].isin(["0001", "0003"])
    table["front.hv_contribution"] = [None, 0.1, None, 0.2]
    table.to_parquet(sweep / "trials.parquet")
    calls: list[Any] = []
    monkeypatch.setattr(retrain.retrain_front, "run", lambda *given: calls.append(given) or 0)
    return calls


@pytest.mark.parametrize(
    ("how", "numbers"), [({"front": True}, [3, 1]), ({"top": 1}, [3]), ({"top": 9}, [3, 1])]
)
def test_members_of_the_front_are_trained_the_largest_contribution_first(
    sweep: Path, front: list[Any], how: dict[str, Any], numbers: list[int]
) -> None:
    assert run(RetrainOptions(sweep=str(sweep), nimg=64, **how)) == 0
    ((_, _, originals, again),) = front
    assert [trial.number for trial in originals] == numbers
    assert [trial.lineage["trial_id"] for trial in again] == [f"{number:04d}" for number in numbers]
    assert {trial.budget_nimg for trial in again} == {64} and {trial.role for trial in again} == {"retrain"}


def test_one_of_trial_front_and_top_says_which(sweep: Path, front: list[Any]) -> None:
    for how in ({}, {"front": True, "top": 2}, {"trial": 1, "front": True}):
        with pytest.raises(ConfigError, match="Give one of --trial N, --front and --top K"):
            run(RetrainOptions(sweep=str(sweep), nimg=64, **how))
    (sweep / "trials.parquet").unlink()
    with pytest.raises(StoreError, match="has not ended, so its front is not known"):
        run(RetrainOptions(sweep=str(sweep), nimg=64, front=True))
    assert front == []


def test_the_full_length_is_the_one_of_the_space(sweep: Path, front: list[Any]) -> None:
    options = RetrainOptions(sweep=str(sweep), nimg="full", top=1)
    with pytest.raises(StoreError, match="names no length full"):
        run(options)
    file = sweep / "sweep.json"
    write_json_atomic(file, json.loads(file.read_text()) | {"lengths": {"short": 32, "full": 96}})
    assert run(options) == 0 and front[0][3][0].budget_nimg == 96
    with pytest.raises(BudgetError, match="was trained on 32 images already"):
        run(RetrainOptions(sweep=str(sweep), nimg=32, front=True))


def test_values_of_a_student_can_be_set_but_not_its_network(sweep: Path, front: list[Any]) -> None:
    values = ("student.batch_size=4", "student.base.l1_weight=0.5")
    assert run(RetrainOptions(sweep=str(sweep), nimg=64, top=1, set=values)) == 0
    training = front[0][3][0].job.training
    assert (training.batch_size, training.base.l1_weight, training.budget_nimg) == (4, 0.5, 64)
    for path in ("student.generator.widths.stem", "teacher.batch_size", "student.seed", "student"):
        with pytest.raises(ConfigError, match="cannot be set when a student is trained again"):
            run(RetrainOptions(sweep=str(sweep), nimg=64, top=1, set=(f"{path}=4",)))
    with pytest.raises(ConfigError, match="batch_siz"):
        run(RetrainOptions(sweep=str(sweep), nimg=64, top=1, set=("student.batch_siz=4",)))


def test_a_student_without_a_teacher_keeps_its_recipe(stages: Stages) -> None:
    before = stages.experiment.teacher
    job = stages.student_job().model_copy(update={"training": before})
    changed = retrain_jobs.changed_job(job, {"student.batch_size": 2}, ()).training
    assert type(changed) is type(before) and changed == before.model_copy(update={"batch_size": 2})


def test_a_table_has_both_lengths_and_says_which_trial_was_repeated(sweep: Path) -> None:
    assert run(RetrainOptions(sweep=str(sweep), trial=1, nimg=64)) == 0
    table = records.write_table(sweep, read_trials(sweep))
    assert table["retrain_of"].tolist() == ["0001"] and table["role"].tolist() == ["retrain"]
    assert (table["nimg"].tolist(), table["short.nimg"].tolist()) == ([64], [32])
    short = read_result(sweep / "trials/0001")
    assert short is not None and table["short.metric.val/miou"].tolist() == [short.metrics["val/miou"]]
    read_again = tables.read_table(sweep / "retrained.parquet")
    assert read_again["retrain_of"].tolist() == ["0001"] and (sweep / "retrained.csv").exists()
    ((name, text),) = records.facts(sweep).items()
    assert name.startswith("0001-") and text.startswith("32 to 64 images; val/miou ")
    (folder,) = retrained(sweep)
    content = json.loads((folder / "trial.json").read_text())
    del content["lineage"]
    (folder / "trial.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="does not say which trial it repeats"):
        records.read_retrained(sweep)
