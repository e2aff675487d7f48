"""An evaluator has to be better than one answer for all real pictures, and its task needs a question."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.config.experiment import Job
from raydistill.config.presets import shapes32
from raydistill.data import load_split, prepare
from raydistill.errors import NoticeWarning, RunError
from raydistill.evaluation.task_scorer import chance
from raydistill.models.networks import evaluator_task
from raydistill.records.trials import Evaluation, TrialResult
from raydistill.trials.stages import _require_learnt


def stored(root: Path, **fields: Any) -> Any:
    return prepare(FolderData(root=str(root), height=8, width=8, **fields), root.parent / "cache")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(size[1]).integers(0, 256, (*size, 3), np.uint8)


def test_chance_is_the_best_answer_that_is_the_same_for_all(tmp_path: Path) -> None:
    for index in range(20):
        save(tmp_path / "loose" / f"{index}.png", noise())
        save(tmp_path / "classes" / ("a" if index % 4 else "b") / f"{index}.png", noise())
        save(tmp_path / "maps" / "images" / f"{index}.png", noise())
        label = np.zeros((8, 8), np.uint8)
        label[:2] = 1
        save(tmp_path / "maps" / "labels" / f"{index}.png", label)
        both = np.zeros((8, 16, 3), np.uint8)
        both[:, :8] = 100 if index % 2 else 110
        save(tmp_path / "pairs" / f"{index}.png", both)
    assert chance(stored(tmp_path / "loose"), "val") == 0.25
    classes = load_split(data := stored(tmp_path / "classes"), "val").classes
    assert classes is not None and chance(data, "val") == max(np.bincount(classes)) / 3
    assert chance(stored(tmp_path / "maps"), "val") == pytest.approx(0.75 / 2)  # one of two classes, in part
    data = stored(tmp_path / "pairs")
    inputs = load_split(data, "train").inputs
    assert inputs is not None
    middle = np.percentile(inputs.reshape(-1, 3), 50, 0, method="lower")
    assert chance(data, "train") == pytest.approx(np.abs(inputs - middle).mean() / 127.5)


@pytest.mark.parametrize(
    ("budget", "value", "loss", "says"),
    [
        (64, 0.25, 1.4, "notice"),
        (499, 0.2, 1.4, "notice"),
        (500, 0.25, 1.4, "error"),
        (4096, 0.26, 1.4, ""),
        (64, 1.0, 0.0, "loss is 0"),
    ],
)
def test_an_evaluator_that_learnt_nothing_is_said_or_an_error_with_the_number(
    tmp_path: Path, budget: int, value: float, loss: float, says: str, recwarn: pytest.WarningsRecorder
) -> None:
    for index in range(20):
        save(tmp_path / "loose" / f"{index}.png", noise())
    training = shapes32().evaluator.model_copy(update={"budget_nimg": budget})
    job = Job(training=training, data=stored(tmp_path / "loose"))
    numbers = {"train/evaluator_loss": loss, "val/accuracy": value}
    evaluation = Evaluation(nimg=budget, wall_sec=1.0, numbers=numbers)
    result = TrialResult.model_construct(metrics=numbers, evaluations=[evaluation])
    if says in ("error", "loss is 0"):
        with pytest.raises(RunError) as caught:
            _require_learnt(job, result)
        expected = "val/accuracy 0.2500, and one answer for all of them gives 0.2500"
        assert (expected if says == "error" else says) in str(caught.value)
        return
    _require_learnt(job, result)
    notices = [str(each.message) for each in recwarn if each.category is NoticeWarning]
    assert [f"after {budget} images" in text for text in notices] == [True] * (says == "notice")


def test_pictures_of_one_class_get_the_task_of_turns(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=np.stack([noise()] * 20), labels=np.zeros(20, int))
    assert evaluator_task(load_split(stored(tmp_path / "one.npz"), "train").info) == "rotation"
