"""Scores of a generator by the evaluator, a network that takes part in no loss.

The names of metrics begin with the split and say the extractor.
"""

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
    frechet_distance,
    is_biased,
    kernel_distance,
    mean_iou,
    psnr,
    ssim,
)
from raydistill.models import saved
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator
from raydistill.models.inputs import batches, evaluation_batch, latent_size, num_inputs, target_batches

Produce = Callable[[Batch], Tensor]
"""A batch of inputs, targets and labels -> pictures (B, 3, H, W) in [-1, 1]"""
MOST_PSNR = 100.0
"""dB: what equal pictures count in a mean; their own PSNR is infinite."""


class Scorer:
    """Scores the pictures that a generator makes for one split.

    The real features are computed once. Collective.

    Args:
        data, evaluator: The prepared data and the trained evaluator.
        split: Which split the pictures are made for.
        latent: How many numbers a noise input has; None: generators take the split's inputs.
    """

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
        num_real, num_samples = len(self.split), num_inputs(self.split, latent)
        num_features = self.real_features.shape[1]
        self.context = {
            "extractor": "evaluator",
            "split": split,
            "resize": "none",
            "num_samples": num_samples,
            "num_features": num_features,
            "biased": is_biased(min(num_real, num_samples), num_features),
            "real_statistics": statistics_digest(data.digest, evaluator.digest, "none", split, num_real),
        }
        """What the scores are computed with: numbers with another context are not compared."""

    def score(self, produce: Produce) -> dict[str, float]:
        """The scores of the pictures that `produce` makes, by name. Collective.

        `<split>/kd_evaluator` and `<split>/fd_evaluator` always; `<split>/miou` where there are labels.
        Where inputs are pictures that belong to the targets, also `<split>/psnr` in dB and, where they
        are large enough, `<split>/ssim`.

        Raises:
            DivergenceError: a picture is not finite.
        """
        features, confusion, similarities = self._measure(produce)
        scores = {
            f"{self.name}/kd_evaluator": kernel_distance(self.real_features, features),
            f"{self.name}/fd_evaluator": frechet_distance(self.real_features, features),
        }
        if similarities is not None:
            names = (f"{self.name}/psnr", f"{self.name}/ssim")
            scores = dict(zip(names, similarities.mean(0).tolist())) | scores
        return scores if confusion is None else {f"{self.name}/miou": mean_iou(confusion), **scores}

    @torch.no_grad()
    def _real_features(self) -> Tensor:
        """Features (N, D) of the split's real pictures, of all workers."""
        parts = target_batches(self.split, self.device, self.workers)
        return gather_rows(torch.cat([self.evaluator(part.target).features for part in parts]), self.workers)

    @torch.no_grad()
    def _measure(self, produce: Produce) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Of the pictures of all workers: features (N, D), confusion (C, C), and PSNR and SSIM (N, 1 or 2).

        There is no confusion where there are no labels, and no PSNR where inputs do not
        belong to targets: None.
        """
        info, features, confusion, similarities = self.split.info, [], None, []
        not_finite = torch.zeros(1, device=self.device)
        for part in batches(self.split, self.device, self.workers, self.latent):
            output = produce(part)
            not_finite += not torch.isfinite(output).all()
            pictures = to_uint8(output)
            evaluation = self.evaluator(to_float(pictures))
            features.append(evaluation.features)
            if part.labels is not None:
                counts = confusion_counts(evaluation.prediction, part.labels, info.ignore_index)
                confusion = counts if confusion is None else confusion + counts
            if self.latent is None and info.pairing == "pairs" and not info.inputs_are_labels:
                real = to_uint8(part.target)
                columns = [psnr(real, pictures).clamp_max(MOST_PSNR)]
                if min(real.shape[2:]) >= SMALLEST_SSIM:
                    columns.append(ssim(real, pictures))
                similarities.append(torch.stack(columns, 1))
        require_finite(not_finite, "a generated picture", self.workers)
        return (
            gather_rows(torch.cat(features), self.workers),
            None if confusion is None else total(confusion, self.workers),
            gather_rows(torch.cat(similarities), self.workers) if similarities else None,
        )


def statistics_digest(
    data_digest: str, extractor_digest: str, resize: str, split: str, num_samples: int
) -> str:
    """Digest of everything that the features of real pictures depend on.

    Scores with different digests are not compared.
    """
    return digest([data_digest, extractor_digest, resize, split, num_samples])


def require_finite(not_finite: Tensor, what: str, workers: Workers) -> None:
    """Raises DivergenceError, on every worker, where one of them has an output that is not finite.

    Collective.

    Rounded, NaN would pass for black.

    Args:
        not_finite: This worker's number of such outputs; one value.
        what: What the message calls them.
    """
    if total(not_finite, workers).item():
        raise DivergenceError(f"{what} is not finite at an evaluation; lower the learning rate")


def confusion_counts(scores: Tensor, labels: Tensor, ignore_index: int | None) -> Tensor:
    """Counts [truth, prediction], (C, C) int64.

    Args:
        scores: Class scores (B, C, H, W).
        labels: The class of each pixel, (B, H, W).
        ignore_index: Pixels of this class count nowhere; None: every pixel counts.
    """
    num_classes = scores.shape[1]
    pairs = labels.long() * num_classes + scores.argmax(1)
    if ignore_index is not None:
        pairs = pairs[labels != ignore_index]
    return torch.bincount(pairs.flatten(), minlength=num_classes**2).reshape(num_classes, num_classes)


def score_network(
    network: Stored, data: Stored, evaluator: Stored, split: SplitName, device: torch.device
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of a stored generator, and their context (see `Scorer`), by one worker."""
    latent = latent_size(saved.generator_config(network))
    scorer = Scorer(data, evaluator, split, device, Workers(0, 1), latent)
    generator = saved.load(network, scorer.split.info, device)
    return scorer.score(lambda part: generator(part.inputs)), scorer.context


def score_real(data: Stored, evaluator: Stored, split: SplitName, device: torch.device) -> dict[str, float]:
    """The same scores of the real pictures of a split, by one worker: their mIoU is the ceiling
    of every generator's.
    """
    return Scorer(data, evaluator, split, device, Workers(0, 1)).score(lambda part: part.target)


def write_grid(
    path: Path,
    split: Split,
    columns: dict[str, Callable[[Batch], Tensor]],
    device: torch.device,
    latent: int | None = None,
    num_rows: int = 6,
) -> None:
    """Writes a PNG with a row for each of `num_rows` pictures of a split, scaled up to about 96 pixels.

    The columns are the input, where it is a picture, the target, and what the functions in
    `columns` make, in order.

    Args:
        latent: How many numbers a noise input has; None: inputs are the split's.
    """
    indices = np.linspace(0, num_inputs(split, latent) - 1, num_rows).astype(int)
    part = evaluation_batch(split, latent, indices, device)
    with torch.no_grad():
        images = [to_uint8(produce(part)).permute(0, 2, 3, 1).cpu().numpy() for produce in columns.values()]
    images.insert(0, to_uint8(part.target).permute(0, 2, 3, 1).cpu().numpy())
    if latent is None and part.inputs.dim() == 4:
        inputs, factor = render_inputs(part.inputs, split.info), split.info.degrade.scale
        images.insert(0, inputs.repeat(factor, 1).repeat(factor, 2))
    gap = ((0, 0), (1, 1), (1, 1), (0, 0))
    framed = [np.pad(image, gap, constant_values=255) for image in images]
    grid = np.concatenate([np.concatenate(list(column), 0) for column in framed], 1)
    scale = max(1, 96 // split.info.height)
    Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)).save(path)
