"""Scores of a generator, by an evaluator that gives no loss. Metric names carry split and extractor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raydistill.config.base import Stored, digest
from raydistill.data import Batch, Split, load_split, render_inputs, to_float, to_uint8
from raydistill.data.source import SplitName
from raydistill.distributed import Workers, gather_rows, total
from raydistill.errors import DivergenceError
from raydistill.evaluation.metrics import (
    SMALLEST_SSIM,
    biased,
    frechet_distance,
    kernel_distance,
    mean_iou,
    psnr,
    ssim,
)
from raydistill.models import saved
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator
from raydistill.models.inputs import batches, evaluation_batch, latent_size, num_inputs, target_batches

Produce = Callable[[Batch], Tensor]
"""(inputs, target, labels) -> pictures (B, 3, H, W) in [-1, 1]"""
MOST_PSNR = 100.0
"""dB: what equal pictures count in a mean, whose own is infinite."""


class Scorer:
    """Scores pictures of one split. The real features are computed once. `latent`: of generators that take noise."""

    def __init__(
        self,
        data: Stored,
        evaluator: Stored,
        split: SplitName,
        device: torch.device,
        workers: Workers,
        latent: int | None = None,
    ):
        self.name, self.device, self.workers, self.latent = split, device, workers, latent
        self.split = load_split(data, split)
        self.evaluator: PixelEvaluator | PictureEvaluator = saved.load(evaluator, self.split.info, device)
        self.real_features = self._real_features()
        self.context = {
            "extractor": "evaluator",
            "split": split,
            "resize": "none",
            "num_samples": num_inputs(self.split, latent),
            "num_features": self.real_features.shape[1],
            "biased": biased(
                min(len(self.split), num_inputs(self.split, latent)), self.real_features.shape[1]
            ),
            "real_statistics": statistics_digest(
                data.digest, evaluator.digest, "none", split, len(self.split)
            ),
        }

    def score(self, produce: Produce) -> dict[str, float]:
        """`<split>/kd_evaluator`, `<split>/fd_evaluator`; `<split>/miou` where there are labels; where inputs are pictures that belong to the
        targets, `<split>/psnr` in dB and, where they are large enough, `<split>/ssim`. Collective."""
        features, confusion, likeness = self._evaluated(produce)
        scores = {
            f"{self.name}/kd_evaluator": kernel_distance(self.real_features, features),
            f"{self.name}/fd_evaluator": frechet_distance(self.real_features, features),
        }
        if likeness is not None:
            scores = dict(zip((f"{self.name}/psnr", f"{self.name}/ssim"), likeness.mean(0).tolist())) | scores
        return scores if confusion is None else {f"{self.name}/miou": mean_iou(confusion), **scores}

    @torch.no_grad()
    def _real_features(self) -> Tensor:
        parts = target_batches(self.split, self.device, self.workers)
        return gather_rows(torch.cat([self.evaluator(part.target).features for part in parts]), self.workers)

    @torch.no_grad()
    def _evaluated(self, produce: Produce) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Features (N, D), confusion (C, C) and likeness (N, 1 or 2) of all workers."""
        features, confusion, likeness, broken = [], None, [], torch.zeros(1, device=self.device)
        info = self.split.info
        for part in batches(self.split, self.device, self.workers, self.latent):
            output = produce(part)
            broken += not torch.isfinite(output).all()
            shown = to_uint8(output)
            output_of_evaluator = self.evaluator(to_float(shown))
            features.append(output_of_evaluator.features)
            if part.labels is not None:
                counts = confusion_counts(output_of_evaluator.prediction, part.labels, info.ignore_index)
                confusion = counts if confusion is None else confusion + counts
            if self.latent is None and info.pairing == "pairs" and not info.inputs_are_labels:
                real = to_uint8(part.target)
                alike = [psnr(real, shown).clamp_max(MOST_PSNR)]
                if min(real.shape[2:]) >= SMALLEST_SSIM:
                    alike.append(ssim(real, shown))
                likeness.append(torch.stack(alike, 1))
        require_finite(broken, "a generated picture", self.workers)
        return (
            gather_rows(torch.cat(features), self.workers),
            None if confusion is None else total(confusion, self.workers),
            gather_rows(torch.cat(likeness), self.workers) if likeness else None,
        )


def statistics_digest(
    data_digest: str, extractor_digest: str, resize: str, split: str, num_samples: int
) -> str:
    """Of all that features of real pictures depend on: numbers with different ones are not compared."""
    return digest([data_digest, extractor_digest, resize, split, num_samples])


def require_finite(broken: Tensor, what: str, workers: Workers) -> None:
    """Raises DivergenceError, on every worker, where one of them counted a broken output: rounded, NaN would pass for black. Collective."""
    if total(broken, workers).item():
        raise DivergenceError(f"{what} is not finite at an evaluation; lower the learning rate")


def confusion_counts(scores: Tensor, labels: Tensor, ignore_index: int | None) -> Tensor:
    """Counts [truth, prediction] (C, C), int64, of class scores (B, C, H, W) against labels (B, H, W); pixels of `ignore_index` count
    nowhere, None: there are none."""
    num_classes = scores.shape[1]
    pairs = labels.long() * num_classes + scores.argmax(1)
    if ignore_index is not None:
        pairs = pairs[labels != ignore_index]
    return torch.bincount(pairs.flatten(), minlength=num_classes**2).reshape(num_classes, num_classes)


def score_network(
    network: Stored, data: Stored, evaluator: Stored, split: SplitName, device: torch.device
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of a finished generator with their context; one worker."""
    scorer = Scorer(
        data, evaluator, split, device, Workers(0, 1), latent_size(saved.generator_config(network))
    )
    generator = saved.load(network, scorer.split.info, device)
    return scorer.score(lambda part: generator(part.inputs)), scorer.context


def score_real(data: Stored, evaluator: Stored, split: SplitName, device: torch.device) -> dict[str, float]:
    """The same scores for the real pictures of a split: the ceiling of its mIoU. One worker."""
    return Scorer(data, evaluator, split, device, Workers(0, 1)).score(lambda part: part.target)


def write_grid(
    path: Path,
    split: Split,
    columns: dict[str, Callable[[Batch], Tensor]],
    device: torch.device,
    latent: int | None = None,
    num_rows: int = 6,
) -> None:
    """A PNG: one row a picture, columns input (where it is a picture), target and then `columns` in order, each scaled up to about 96
    pixels."""
    part = evaluation_batch(
        split, latent, np.linspace(0, num_inputs(split, latent) - 1, num_rows).astype(int), device
    )
    with torch.no_grad():
        images = [to_uint8(produce(part)).permute(0, 2, 3, 1).cpu().numpy() for produce in columns.values()]
    images.insert(0, to_uint8(part.target).permute(0, 2, 3, 1).cpu().numpy())
    if latent is None and part.inputs.dim() == 4:
        given = render_inputs(part.inputs, split.info)
        images.insert(0, given.repeat(split.info.degrade.scale, 1).repeat(split.info.degrade.scale, 2))
    gap = [np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255) for image in images]
    grid = np.concatenate([np.concatenate(list(column), 0) for column in gap], 1)
    scale = max(1, 96 // split.info.height)
    Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)).save(path)
