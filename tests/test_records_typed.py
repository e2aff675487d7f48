"""Trials, results and evaluations as typed records: what was written comes back and goes out as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from test_results import synthetic_trials

from raydistill.config.experiment import Job
from raydistill.errors import StoreError
from raydistill.records.trials import (
    Evaluation,
    Trial,
    TrialResult,
    read_result,
    read_trials,
    write_result,
    write_trial,
)

FIXTURE = Path(__file__).parent / "fixtures" / "sweep_of_job_version_2" / "sweeps" / "old" / "trials"
FILES = sorted(FIXTURE.glob("*/*.json"))
WRITE: dict[str, Any] = {
    "trial.json": lambda folder, content: write_trial(folder, Trial.model_validate(content)),
    "result.json": lambda folder, content: write_result(folder, TrialResult.model_validate(content)),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_of_an_earlier_sweep_is_written_again_byte_for_byte(path: Path, tmp_path: Path) -> None:
    WRITE[path.name](tmp_path, json.loads(path.read_text()))
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", WRITE)
def test_unknown_keys_whole_numbers_and_the_order_of_keys_are_kept(name: str, tmp_path: Path) -> None:
    trial = synthetic_trials()[8]
    record = trial if name == "trial.json" else trial.result
    content = dict(reversed(record.to_json().items())) | {"added by hand": {"b": 1, "a": [None]}}
    del content["schema_version"]
    if name == "result.json":
        content |= {"wall_sec": 12, "network": {"size": 7, "digest": "d", "path": "network"}}
        content["metrics"] = {"val/miou": 1, "train/l1": 0.5}
    WRITE[name](tmp_path, content)
    written = (tmp_path / name).read_text()
    assert written == json.dumps({"schema_version": 1, **content}, indent=1) + "\n"


def test_a_record_that_says_more_is_written_as_before_with_the_new_keys_last(tmp_path: Path) -> None:
    before = synthetic_trials()[8].result
    write_result(tmp_path, before.model_copy(update={"test": {"test/miou": 0.5}, "test_context": {}}))
    content = json.loads((tmp_path / "result.json").read_text())
    assert [*content] == [*before.to_json(), "test", "test_context"] and content["test"] == {"test/miou": 0.5}


def test_what_was_never_given_is_not_written_and_a_null_that_was_is(tmp_path: Path) -> None:
    result = synthetic_trials()[8].result
    assert "peak_memory_gb" not in result.to_json() and result.peak_memory_gb is None
    given = TrialResult.model_validate(result.to_json() | {"peak_memory_gb": None})
    assert given.to_json()["peak_memory_gb"] is None and given == result
    assert "result" not in synthetic_trials()[8].to_json()


def test_a_record_cannot_be_changed() -> None:
    trial = synthetic_trials()[8]
    for record, name in ((trial, "label"), (trial, "result"), (trial.result, "status")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, name, None)
    with pytest.raises(ValidationError, match="frozen"):
        trial.result.evaluations[0].nimg = 1
    assert trial.with_result(None).result is None and trial.result is not None


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (
            "trial.json",
            {"role": "pupil"},
            "role: Input should be 'teacher', 'search', 'uniform'",
        ),
        ("trial.json", {"number": True}, "number: Input should be a valid integer (given: True)"),
        ("trial.json", {"params": {"a": []}}, "params.a: Input should be a valid number (given: [])"),
        ("trial.json", {"costs": {"macs": None}}, "costs.macs: Input should be a valid number (given: None)"),
        (
            "trial.json",
            {"configuration": {"w": float("inf")}},
            "configuration.w: Input should be a finite number (given: inf)",
        ),
        ("result.json", {"status": "RUNNING"}, "status: Input should be 'COMPLETE', 'PRUNED' or 'FAIL'"),
        ("result.json", {"gpu_sec": "1"}, "gpu_sec: Input should be a valid number (given: '1')"),
        ("result.json", {"network": {"path": "network"}}, "network.digest: Field required"),
        (
            "result.json",
            {"evaluations": [{"nimg": 8, "wall_sec": 1.0, "val/miou": "high"}]},
            "evaluations.0.val/miou: Input should be a valid number (given: 'high')",
        ),
        (
            "result.json",
            {"evaluations": [{"nimg": 8, "wall_sec": float("nan")}]},
            "evaluations.0.wall_sec: Input should be a finite number (given: nan)",
        ),
    ],
)
def test_a_wrong_type_in_a_file_is_said_with_its_path(
    tmp_path: Path, name: str, changes: dict[str, Any], said: str
) -> None:
    trial = synthetic_trials()[8]
    folder = tmp_path / "trials" / trial.trial_id
    write_trial(folder, trial)
    write_result(folder, trial.result)
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))
    with pytest.raises(StoreError) as error:
        read_trials(tmp_path)
    assert str(error.value).startswith(f"{folder / name}: damaged: {said}")


def test_a_result_that_is_no_finite_number_is_not_written(tmp_path: Path) -> None:
    diverged = synthetic_trials()[8].result.model_copy(update={"metrics": {"val/miou": float("nan")}})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_result(tmp_path, diverged)
    assert read_result(tmp_path) is None and list(tmp_path.iterdir()) == []


def test_an_evaluation_is_flat_in_a_file_and_has_its_numbers_by_name_here() -> None:
    flat = {"nimg": 8, "wall_sec": 1.5, "val/miou": 0.25, "train/l1": 1}
    evaluation = Evaluation.model_validate(flat)
    assert (evaluation.nimg, evaluation.wall_sec) == (8, 1.5)
    assert evaluation.numbers == {"val/miou": 0.25, "train/l1": 1}
    assert evaluation == Evaluation(nimg=8, wall_sec=1.5, numbers={"val/miou": 0.25, "train/l1": 1})
    timed = Evaluation.model_validate(flat | {"scoring_sec": 0.5})
    assert timed.numbers == evaluation.numbers and timed.to_json() == flat | {"scoring_sec": 0.5}
    assert evaluation.scoring_sec is None
    assert list(evaluation.to_json().items()) == list(flat.items())
    for wrong in ({"val/miou": 0.25}, {"nimg": 8.0, "wall_sec": 1.5}, {"nimg": True, "wall_sec": 1.5}, []):
        with pytest.raises(ValidationError, match="an evaluation has nimg, a whole number, and wall_sec"):
            Evaluation.model_validate(wrong)


def test_a_trial_knows_its_job_costs_and_scores() -> None:
    trial, running = synthetic_trials()[8], synthetic_trials()[13]
    assert trial.job == Job.model_validate(trial.job_json) and trial.job.key == trial.trial_key
    assert trial.budget_nimg == trial.job.training.budget_nimg
    assert trial.macs == trial.value("cost/macs") == 120e6 and trial.macs_convention == "true"
    assert trial.value("val/miou") == 0.531 and trial.value_at("val/miou", {"val/miou": 0.1}) == 0.1
    assert [each.is_complete for each in (trial, running, synthetic_trials()[11])] == [True, False, False]
    with pytest.raises(KeyError, match="val/miou"):
        running.value("val/miou")
