"""Scores of an evaluator by its own task, on a split: mIoU, accuracy, or the L1 distance to the input."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.config.base import Stored
from raydistill.data import Batch, DataInfo, load_split
from raydistill.data.source import SplitName
from raydistill.distributed import Workers, total
from raydistill.evaluation.metrics import confusion_counts, mean_iou
from raydistill.evaluation.scorer import require_finite
from raydistill.models.inputs import minibatches, target_batches
from raydistill.models.networks import EvaluatorTask, evaluator_task

_BROKEN = "a prediction of the evaluator is not finite at an evaluation; lower the learning rate"


class TaskScorer:
    """Scores an evaluator by its own task, see `networks.evaluator_task`.

    Args:
        data: The prepared data.
        split: Which split it is scored on.
    """

    def __init__(self, data: Stored, split: SplitName, device: torch.device, workers: Workers):
        self.name, self.device, self.workers = split, device, workers
        self.split = load_split(data, split)
        self.context: dict[str, Any] = {}
        """Empty: no network scores an evaluator."""

    @torch.no_grad()
    def score(self, network: nn.Module) -> dict[str, float]:
        """The score of an evaluator, by name: of the real pictures alone. Collective.

        Raises:
            DivergenceError: a prediction is not finite.
        """
        task, info = evaluator_task(self.split.info), self.split.info
        batches = target_batches(self.split, self.device, self.workers)
        parts = [measure(network, part, task, info) for part in batches]
        not_finite = torch.stack([~torch.isfinite(prediction).all() for prediction, _ in parts]).float().sum()
        require_finite(not_finite, _BROKEN, self.workers)
        counts = total(torch.stack([count for _, count in parts]).sum(0), self.workers)
        value = mean_iou(counts) if task == "pixel_class" else float(counts[0] / counts[1])
        return {f"{self.name}/{QUANTITIES[task]}": value}


QUANTITIES: dict[EvaluatorTask, str] = {
    "pixel_class": "miou",
    "input_picture": "input_l1",
    "picture_class": "accuracy",
    "rotation": "accuracy",
}
"""Task -> what its score is called, behind the name of the split. Of input_l1 less is better."""


def chance(data: Stored, split: SplitName) -> float:
    """The score of whoever does not look at pictures: of the best answer that is the same for all of them.

    That is the most frequent class, the median colour, or one of four turns.
    """
    pictures = load_split(data, split)
    task = evaluator_task(pictures.info)
    if task == "rotation":
        return 0.25
    if task == "picture_class":
        assert pictures.classes is not None
        return float(np.bincount(pictures.classes).max() / len(pictures))
    array = pictures.inputs if task == "input_picture" else pictures.labels
    assert array is not None
    counts = np.zeros((256, array.shape[3] if task == "input_picture" else 1), np.int64)
    for rows in minibatches(slice(0, len(array))):
        values = np.asarray(array[rows]).reshape(-1, counts.shape[1])
        counts += np.stack([np.bincount(channel, minlength=256) for channel in values.T], 1)
    if task == "pixel_class":
        occurring = counts[: pictures.info.num_classes, 0]
        return float(occurring.max() / max(1, occurring.sum()) / max(1, (occurring > 0).sum()))
    medians = (counts.cumsum(0) * 2 >= counts.sum(0)).argmax(0)
    errors = (counts * np.abs(np.arange(256)[:, None] - medians)).sum() / counts.sum()
    return float(errors / 127.5)


def measure(network: nn.Module, part: Batch, task: EvaluatorTask, info: DataInfo) -> tuple[Tensor, Tensor]:
    """An evaluator's predictions for a part of a split, and counts of them that are added up over parts.

    For pixel classes the counts are the confusion (C, C); for input pictures, the sum of absolute errors and
    the number of values; otherwise, the number of right predictions and of all. For rotation, the network
    sees every picture in all four turns.
    """
    if task == "rotation":
        turns = torch.zeros(len(part.target), dtype=torch.int64, device=part.target.device)
        pictures = [turn_squares(part.target, turns + turn) for turn in range(4)]
        prediction = torch.cat([network(each).prediction for each in pictures])
        truth = torch.arange(4, device=prediction.device).repeat_interleave(len(part.target))
    else:
        prediction = network(part.target).prediction
    if task == "pixel_class":
        assert part.labels is not None
        return prediction, confusion_counts(prediction, part.labels, info.ignore_index).sum(0)
    if task == "input_picture":
        error = (prediction - part.inputs).abs().double().sum()
        return prediction, torch.stack([error, torch.full_like(error, prediction.numel())])
    if task == "picture_class":
        assert part.classes is not None
        truth = part.classes
    right = (prediction.argmax(1) == truth).double().sum()
    return prediction, torch.stack([right, torch.full_like(right, len(truth))])


def turn_squares(pictures: Tensor, turns: Tensor) -> Tensor:
    """The middle squares of pictures (B, 3, H, W), each turned by its number of quarter turns (B,) int64, 0
    to 3.
    """
    side = min(pictures.shape[2:])
    top, left = ((length - side) // 2 for length in pictures.shape[2:])
    squares = pictures[:, :, top : top + side, left : left + side]
    by_turns = torch.stack([torch.rot90(squares, turn, (2, 3)) for turn in range(4)])
    return by_turns[turns, torch.arange(len(squares), device=squares.device)]
