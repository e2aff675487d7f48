"""The scores that are made of what networks say of pictures: by classes, by pairs, by features."""

import functools
import math
from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from raydistill.evaluation import bootstrap, metrics
from raydistill.evaluation.extractors import Extractor
from raydistill.evaluation.metrics import Moments
from raydistill.evaluation.published_statistics import PublishedStatistics
from raydistill.evaluation.scoring import Score
from raydistill.evaluation.segmenters import Labels

Measure = Literal["miou", "pixel_accuracy", "psnr", "ssim", "lpips", "kd", "fd", "precision", "recall"]
"""What is measured: classes by a segmenter, likeness of pairs, distances and coverage by an extractor."""
MEASURES: tuple[Measure, ...] = get_args(Measure)
KNN = 3
"""Neighbours that the balls of precision and recall reach to."""
Likeness = dict[Measure, Callable[[Tensor, Tensor], Tensor]]
"""What measures pairs: (real, fake), uint8 (B, 3, H, W) each -> float64 (B,)."""
Conditions = dict[str, Any]
"""Fields of a `Score` that say what it was measured with."""


class Recorder(NamedTuple):
    """Makes the scores of one set of pictures."""

    split: str
    num: int
    """How many pictures were scored."""
    counts: Tensor
    """(R, num) resamples, see `bootstrap.resample`; R may be 0."""

    def score(
        self,
        name: str,
        value: float,
        replicates: Callable[[Tensor], Tensor] | None,
        conditions: Conditions,
        **values: Any,
    ) -> Score:
        """The score of a value, with an interval where it is finite and there are resamples of it.

        `replicates`: Counts (R, N) -> resampled scores (R,); None: the score has no interval.
        """
        is_finite, interval = math.isfinite(value), None
        if is_finite and len(self.counts) and replicates is not None:
            resampled = replicates(self.counts)
            resampled = resampled[resampled.isfinite()]  # one picture alone has no kernel distance
            interval = bootstrap.interval(value, resampled) if len(resampled) else None
        return Score(
            name=f"{self.split}/{name}",
            value=value if is_finite else None,
            interval=interval,
            num_samples=self.num,
            **conditions,
            **values,
        )


def of_classes(
    labels: Labels,
    confusions: Tensor,
    of_real: Tensor,
    measures: Collection[Measure],
    conditions: Conditions,
    record: Recorder,
) -> list[Score]:
    """Mean IoU and pixel accuracy by a segmenter.

    `confusions` (N, C, C): of each picture, or sums of some of them; `of_real` (C, C): of the real ones.
    """
    segmenter, scores = labels.segmenter, []
    conditions = conditions | {
        "extractor": segmenter.weights,
        "extractor_digest": segmenter.digest,
        "resize": labels.resize,
    }
    functions: dict[Measure, Callable[[Tensor], float]] = {
        "miou": metrics.mean_iou,
        "pixel_accuracy": metrics.pixel_accuracy,
    }

    def resampled(function: Callable[[Tensor], float], counts: Tensor) -> Tensor:
        each = torch.einsum("rn,nij->rij", counts, confusions.double())
        return torch.tensor([function(part) for part in each], dtype=torch.float64)

    for name, function in functions.items():
        if name in measures:
            value, ceiling = function(confusions.sum(0)), function(of_real)
            replicates = functools.partial(resampled, function)
            scores.append(
                record.score(name + segmenter.suffix, value, replicates, conditions, ceiling=ceiling)
            )
    return scores


def of_pairs(likeness: Likeness, values: Tensor, conditions: Conditions, record: Recorder) -> list[Score]:
    """Means over the pairs. `values` (N, K): a column for each measure."""
    scores = []
    for name, column, mean in zip(likeness, values.T, values.mean(0).tolist()):
        replicates = functools.partial(bootstrap.means, column.cpu().contiguous())
        scores.append(record.score(name, mean, replicates, conditions))
    return scores


def of_features(
    extractor: Extractor,
    real: Tensor,
    moments: Moments,
    fake: Tensor,
    measures: Collection[Measure],
    conditions: Conditions,
    record: Recorder,
) -> list[Score]:
    """Kernel and Frechet distance, precision and recall, of features (M, D) and (N, D).

    `moments`: of the real features.
    """
    conditions = conditions | _of_extractor(extractor)
    scores, num_samples = [], min(len(real), len(fake))
    if "kd" in measures:
        replicates = functools.partial(bootstrap.kernel_distances, real, fake)
        value = metrics.kernel_distance(real, fake)
        scores.append(record.score(extractor.metric("kd"), value, replicates, conditions))
    if "fd" in measures:
        biased = metrics.is_biased(num_samples, real.shape[1])
        scores.append(_frechet(extractor.metric("fd"), moments, fake, biased, conditions, record))
    if num_samples > KNN and not {"precision", "recall"}.isdisjoint(measures):
        precise, recalled = metrics.precision_recall(real, fake, KNN)
        if "precision" in measures:
            replicates = functools.partial(bootstrap.means, precise)
            value = float(precise.double().mean())
            scores.append(record.score(f"precision_{extractor.name}", value, replicates, conditions))
        if "recall" in measures:
            value = float(recalled.double().mean())
            scores.append(record.score(f"recall_{extractor.name}", value, None, conditions))
    return scores


def of_published(
    extractor: Extractor,
    published: PublishedStatistics,
    fake: Tensor,
    measures: Collection[Measure],
    record: Recorder,
) -> list[Score]:
    """The Frechet distance of features (N, D) from statistics that a file gives; nothing else can be had."""
    if "fd" not in measures:
        return []
    conditions: Conditions = {
        "num_real": None,
        "split": record.split,
        "real_statistics": published.sha256[:16],
        **_of_extractor(extractor),
    }
    biased = metrics.is_biased(len(fake), extractor.num_features)
    return [_frechet(published.metric, published.moments, fake, biased, conditions, record)]


def _frechet(
    name: str, moments: Moments, fake: Tensor, biased: bool, conditions: Conditions, record: Recorder
) -> Score:
    value = metrics.frechet_distance(moments, fake)
    replicates = functools.partial(bootstrap.frechet_distances, moments, fake)
    return record.score(name, value, replicates, conditions, biased=biased)


def _of_extractor(extractor: Extractor) -> Conditions:
    return {
        "extractor": extractor.weights,
        "extractor_digest": extractor.sha256[:16],
        "resize": extractor.resize,
    }
