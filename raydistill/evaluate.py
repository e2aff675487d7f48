"""Scores of a generator, by a judge that gives no loss. Metric names carry split and extractor."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from raydistill import networks
from raydistill.config import Stored, digest
from raydistill.data import Batch, Split, batch, load_split, render_inputs, to_float, to_uint8
from raydistill.data.prepare import SplitName
from raydistill.errors import DivergenceError
from raydistill.metrics import biased, frechet_distance, kernel_distance, mean_iou
from raydistill.models.judge import Judge
from raydistill.parallel import Workers, gather_rows, total

BATCH = 64
Produce = Callable[[Batch], Tensor]
"""(inputs, target, labels) -> pictures (B, 3, H, W) in [-1, 1]"""


class Evaluator:
    """Scores pictures of one split. The real features are computed once."""

    def __init__(self, data: Stored, judge: Stored, split: SplitName, device: torch.device, workers: Workers):
        self.name, self.device, self.workers = split, device, workers
        self.split = load_split(data, split)
        self.judge: Judge = networks.load(judge, self.split.info, device)
        self.real_features, _ = self._judged(lambda real: real.target)
        self.context = {
            "extractor": "judge",
            "split": split,
            "resize": "none",
            "num_samples": len(self.split),
            "num_features": self.real_features.shape[1],
            "biased": biased(len(self.split), self.real_features.shape[1]),
            "real_statistics": statistics_digest(data.digest, judge.digest, "none", split, len(self.split)),
        }

    def score(self, produce: Produce) -> dict[str, float]:
        """`<split>/kd_judge`, `<split>/fd_judge` and, where the data has labels, `<split>/miou`. Collective."""
        features, confusion = self._judged(produce)
        scores = {
            f"{self.name}/kd_judge": kernel_distance(self.real_features, features),
            f"{self.name}/fd_judge": frechet_distance(self.real_features, features),
        }
        return scores if confusion is None else {f"{self.name}/miou": mean_iou(confusion), **scores}

    @torch.no_grad()
    def _judged(self, produce: Produce) -> tuple[Tensor, Tensor | None]:
        features, confusion, broken = [], None, torch.zeros(1, device=self.device)
        for part in batches(self.split, self.device, self.workers):
            pictures = produce(part)
            broken += not torch.isfinite(pictures).all()
            judgement = self.judge(to_float(to_uint8(pictures)))
            features.append(judgement.features)
            if part.labels is not None:
                counts = confusion_counts(judgement.prediction, part.labels, self.split.info.ignore_index)
                confusion = counts if confusion is None else confusion + counts
        require_finite(broken, "a generated picture", self.workers)
        return gather_rows(torch.cat(features), self.workers), None if confusion is None else total(confusion, self.workers)


def statistics_digest(data_digest: str, extractor_digest: str, resize: str, split: str, num_samples: int) -> str:
    """Of all that features of real pictures depend on: numbers with different ones are not compared."""
    return digest([data_digest, extractor_digest, resize, split, num_samples])


def require_finite(broken: Tensor, what: str, workers: Workers) -> None:
    """Raises DivergenceError, on every worker, where one of them counted a broken output: rounded, NaN would pass for black. Collective."""
    if total(broken, workers).item():
        raise DivergenceError(f"{what} is not finite at an evaluation; lower the learning rate")


def batches(split: Split, device: torch.device, workers: Workers) -> Iterator[Batch]:
    """This worker's part of a split in order, a batch at a time."""
    part = workers.slice(len(split))
    for start in range(part.start, part.stop, BATCH):
        yield batch(split, np.arange(start, min(start + BATCH, part.stop)), device=device)


def confusion_counts(scores: Tensor, labels: Tensor, ignore_index: int | None) -> Tensor:
    """Counts [truth, prediction] (C, C) of class scores (B, C, H, W) against labels (B, H, W)."""
    return multiclass_confusion_matrix(scores.argmax(1), labels, scores.shape[1], ignore_index=ignore_index, validate_args=False)


def score_network(
    network: Stored, data: Stored, judge: Stored, split: SplitName, device: torch.device
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of a finished generator with their context; one worker."""
    evaluator = Evaluator(data, judge, split, device, Workers(0, 1))
    generator = networks.load(network, evaluator.split.info, device)
    return evaluator.score(lambda part: generator(part.inputs)), evaluator.context


def score_real(data: Stored, judge: Stored, split: SplitName, device: torch.device) -> dict[str, float]:
    """The same scores for the real pictures of a split: the ceiling of its mIoU. One worker."""
    return Evaluator(data, judge, split, device, Workers(0, 1)).score(lambda part: part.target)


def write_grid(path: Path, split: Split, columns: dict[str, Callable[[Batch], Tensor]], device: torch.device, num_rows: int = 6) -> None:
    """A PNG: one row a picture, columns input, target and then `columns` in order, each scaled up to about 96 pixels."""
    part = batch(split, np.linspace(0, len(split) - 1, num_rows).astype(int), device=device)
    with torch.no_grad():
        pictures = [to_uint8(produce(part)).permute(0, 2, 3, 1).cpu().numpy() for produce in columns.values()]
    images = [render_inputs(part.inputs, split.info), to_uint8(part.target).permute(0, 2, 3, 1).cpu().numpy(), *pictures]
    gap = [np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255) for image in images]
    grid = np.concatenate([np.concatenate(list(column), 0) for column in gap], 1)
    scale = max(1, 96 // split.info.height)
    Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)).save(path)
