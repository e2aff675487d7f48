"""Scores: the same in training and afterwards, over all pictures of a split, by the evaluator alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Stages
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.config.experiment import Job
from raydistill.data import load_split, prepare
from raydistill.distributed import Workers
from raydistill.evaluation.evaluator_scores import EvaluatorScorer, score_network
from raydistill.models import inputs
from raydistill.models.inputs import target_batches
from raydistill.training import assembly
from raydistill.training.loop import TrainingResult

CPU, ALONE = torch.device("cpu"), Workers(0, 1)


def test_a_network_scored_again_after_training_gets_the_scores_of_its_last_evaluation(
    stages: Stages, whole: Callable[[Job], TrainingResult]
) -> None:
    job = stages.student_job()
    result = whole(job)
    scores, context = score_network(result.network, job.data, stages.evaluator, "val", CPU)
    assert scores == {name: value for name, value in result.metrics.items() if name.startswith("val/")}
    assert context == result.context


def test_scores_and_context_name_their_split(stages: Stages, whole: Callable[[Job], TrainingResult]) -> None:
    scores, context = score_network(
        whole(stages.student_job()).network, stages.data, stages.evaluator, "test", CPU
    )
    assert set(scores) == {"test/miou", "test/kd_evaluator", "test/fd_evaluator"}
    assert (context["split"], context["extractor"], context["num_samples"], context["num_features"]) == (
        "test",
        "evaluator",
        8,
        4,
    )


def test_the_real_pictures_have_no_frechet_distance_and_the_evaluators_own_miou(
    stages: Stages, whole: Callable[[Job], TrainingResult]
) -> None:
    scorer = EvaluatorScorer(stages.data, stages.evaluator, "val", CPU)
    scores = scorer.numbers(scorer.real)
    assert scores["val/miou"] == whole(stages.evaluator_job()).metrics["val/miou"]
    assert abs(scores["val/fd_evaluator"]) <= 1e-9 * float(scorer.scorer.features[0].double().var(0).sum())


def test_the_statistics_of_the_real_pictures_change_with_evaluator_and_split(stages: Stages) -> None:
    found = [
        EvaluatorScorer(stages.data, stages.evaluator, split, CPU).context["real_statistics"]
        for split in ("val", "test", "val")
    ]
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_batches_of_all_workers_are_the_split_once_in_order(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    split = load_split(stages.data, "train")
    whole = next(target_batches(split, CPU, ALONE)).target
    monkeypatch.setattr(inputs, "BATCH", 5)
    parts = [
        part.target for rank in range(count) for part in target_batches(split, CPU, Workers(rank, count))
    ]
    assert len(whole) == 24 and max(len(part) for part in parts) == min(5, -(-24 // count))
    assert torch.equal(torch.cat(parts), whole)


def test_without_labels_the_evaluators_score_is_the_mean_over_all_pictures_whatever_the_batches(
    stages: Stages, tmp_path: Path
) -> None:
    """66 pictures are a batch of 64 and one of 2, and the last two are unlike the others."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 66), ("test", 2)):
        (tmp_path / split).mkdir()
        for index in range(count):
            both = rng.integers(0, 30 if index < 64 else 256, (8, 16, 3), np.uint8)
            Image.fromarray(both).save(tmp_path / split / f"{index:02d}.png")
    data = prepare(FolderData(root=str(tmp_path), height=8, width=8), tmp_path / "cache")
    split = load_split(data, "val")
    recipe = assembly.build(
        Job(training=stages.experiment.evaluator, data=data), stages.setup()._replace(info=split.info)
    )
    evaluator, parts = recipe.networks["evaluator"].eval(), target_batches(split, CPU, ALONE)
    with torch.no_grad():
        errors = torch.cat(
            [(evaluator(part.target).prediction - part.inputs).abs().mean((1, 2, 3)) for part in parts]
        )
    assert recipe.evaluate(evaluator) == pytest.approx({"val/input_l1": float(errors.mean())}, rel=1e-5)
