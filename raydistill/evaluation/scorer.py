"""Scores of sets of pictures against the real pictures of a split: in a training, in a report, by a command.

It works on one worker or on several, each of which sees its part of every set.
"""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.base import digest
from raydistill.distributed import ALONE, Workers, computed_once, gather_unequal_rows, total
from raydistill.errors import DataError, DivergenceError, RunError
from raydistill.evaluation import bootstrap, metrics, real_statistics
from raydistill.evaluation import measures as compute
from raydistill.evaluation.extractors import Extractor
from raydistill.evaluation.lpips import Lpips
from raydistill.evaluation.measures import MEASURES, Conditions, Likeness, Measure, Recorder
from raydistill.evaluation.metrics import Moments
from raydistill.evaluation.picture_sets import Pictures
from raydistill.evaluation.published_statistics import PublishedStatistics
from raydistill.evaluation.scoring import Score, statistics_digest
from raydistill.evaluation.segmenters import Labels
from raydistill.models.inputs import minibatches


class _Seen(NamedTuple):
    """What the networks say of pictures: of a minibatch, or of all pictures on all workers."""

    features: list[Tensor]
    """(B, D) float32 on the CPU, of each extractor."""
    confusions: list[Tensor]
    """Counts [truth, prediction] by each segmenter: (B, C, C), or sums of some of them."""
    likeness: list[Tensor]
    """(B, K) float64, a column for each of K measures; the list is empty where K is 0."""


class Scorer:
    """Scores sets of pictures against real ones, of which everything is computed once. Collective.

    Each worker sees its part of a set, in minibatches, and all get the same scores.

    Args:
        real: The real pictures.
        split: Name of the split; the names of scores begin with it.
        extractors: Feature networks of different names. Each measures kd, fd, precision and recall.
        labels: Segmenters with the classes of the real pictures. Each measures miou and pixel_accuracy.
        lpips: Measures lpips of pairs; None: nobody does.
        shared: What is computed of the real pictures is kept in this folder and taken from there, but for
            what is in `own`. None: it is computed.
        own: Names of extractors, and suffixes of segmenters, whose real pictures are not shared.
        published: Statistics of other real pictures by these extractors; each gives one more Frechet
            distance.

    Raises:
        DataError: there are fewer real pictures than workers, or a segmenter has other classes.
        RunError: features are not finite.
    """

    def __init__(
        self,
        real: Pictures,
        split: str,
        extractors: Sequence[Extractor] = (),
        labels: Sequence[Labels] = (),
        workers: Workers = ALONE,
        lpips: Lpips | None = None,
        shared: Path | None = None,
        own: Collection[str] = (),
        published: Sequence[PublishedStatistics] = (),
    ):
        self.published = published
        self.real, self.split, self.workers = real, split, workers
        self.extractors, self.labels, self.lpips = extractors, labels, lpips
        first = next(real.batches())
        self._size, self._is_grey = first.shape[2:], bool((first == first[:, :1]).all())
        self._device = first.device
        self.features, self._confusions = self._see_real(shared, own)
        """Of the real pictures: (N, D) float32 on the CPU of each extractor; (C, C) of each segmenter."""
        self._moments = [Moments.of(features) for features in self.features]

    def score(
        self,
        fake: Pictures,
        measures: Collection[Measure] = MEASURES,
        *,
        num_resamples: int = 0,
        most_psnr: float = math.inf,
        by: Collection[str] | None = None,
    ) -> list[Score]:
        """The scores that `fake` can have: those of pairs, where it is in the split's order, then distances.

        There is no SSIM of pictures of fewer than `metrics.SMALLEST_SSIM` pixels a side, and there are no
        precision and recall of at most `KNN` pictures.

        Args:
            measures: What is computed. miou, pixel_accuracy, psnr and ssim are of pairs.
            num_resamples: Resamples for the intervals; 0: scores have no interval.
            most_psnr: dB that a picture counts at most in the mean PSNR. Equal pictures have an infinite one:
                without a limit, the value is None.
            by: Names of extractors and suffixes of segmenters that score; None: all of them.

        Raises:
            DataError: `fake` has another size than the real pictures; or a set has fewer than two
                pictures, or fewer than there are workers.
            DivergenceError: a picture is not finite; raised by every worker.
            RunError: features are not finite.
        """
        if min(fake.num, self.real.num) < 2:
            raise DataError(
                f"{fake.name}: {fake.num} pictures against {self.real.num} real ones. "
                "Needed: 2 or more of each."
            )
        if fake.in_order_of_split and fake.num != self.real.num:
            raise DataError(
                f"{fake.name}: {fake.num} pictures are no pairs with {self.real.num} real ones. "
                "Give one for each."
            )
        every = zip(self.extractors, self.features, self._moments)
        real = [each for each in every if by is None or each[0].name in by]
        labels, likeness, of_reals = list[Labels](), Likeness(), list[Tensor]()
        if fake.in_order_of_split:
            labels, of_reals = self._segmenters(measures, by)
            likeness = self._likeness_of(measures, most_psnr)
        seen = self._see(fake, [each[0] for each in real], labels, likeness, keep_each=num_resamples > 0)

        def of_all() -> list[Score]:
            record = Recorder(self.split, fake.num, bootstrap.resample(fake.num, num_resamples))
            found, of_pairs = list[Score](), self._conditions_of_pairs()
            for part, confusions, of_real in zip(labels, seen.confusions, of_reals):
                found += compute.of_classes(part, confusions, of_real, measures, of_pairs, record)
            if seen.likeness:
                found += compute.of_pairs(likeness, seen.likeness[0], of_pairs, record)
            for (extractor, real_features, moments), features in zip(real, seen.features):
                found += self._distances(extractor, real_features, moments, features, measures, record)
            return found

        return computed_once(of_all, self.workers)

    def _distances(
        self,
        extractor: Extractor,
        real_features: Tensor,
        moments: Moments,
        features: Tensor,
        measures: Collection[Measure],
        record: Recorder,
    ) -> list[Score]:
        """The scores by one extractor: against the real pictures, and against published statistics."""
        own = self._conditions() | {"real_statistics": self.statistics(extractor)}
        found = compute.of_features(extractor, real_features, moments, features, measures, own, record)
        for each in self.published:
            if each.extractor == extractor.name:
                found += compute.of_published(extractor, each, features, measures, record)
        return found

    def statistics(self, extractor: Extractor) -> str:
        """Digest of what the features of the real pictures depend on, see `statistics_digest`."""
        return statistics_digest(
            self.real.digest, extractor.sha256, extractor.resize, self.split, self.real.num
        )

    def class_statistics(self, labels: Labels) -> str:
        """The same of the classes that a segmenter sees in the real pictures."""
        return statistics_digest(
            self.real.digest, labels.segmenter.digest, f"classes {labels.resize}", self.split, self.real.num
        )

    # ---- the pictures --------------------------------------------------------------------------------------

    def _likeness_of(self, measures: Collection[Measure], most_psnr: float) -> Likeness:
        """What is asked for of pictures that are pairs with the real ones, beside their classes."""
        likeness: Likeness = {}
        if "psnr" in measures:
            likeness["psnr"] = lambda real, fake: metrics.psnr(real, fake).clamp_max(most_psnr)
        if "ssim" in measures and min(self._size) >= metrics.SMALLEST_SSIM:
            likeness["ssim"] = metrics.ssim
        if "lpips" in measures and self.lpips is not None:
            likeness["lpips"] = self.lpips.distance
        return likeness

    def _segmenters(
        self, measures: Collection[Measure], by: Collection[str] | None
    ) -> tuple[list[Labels], list[Tensor]]:
        """The segmenters that are asked for, each with the classes that it sees in the real pictures."""
        if {"miou", "pixel_accuracy"}.isdisjoint(measures):
            return [], []
        every = zip(self.labels, self._confusions)
        asked = [each for each in every if by is None or each[0].segmenter.suffix in by]
        return [labels for labels, _ in asked], [counts for _, counts in asked]

    def _see_real(self, shared: Path | None, own: Collection[str]) -> tuple[list[Tensor], list[Tensor]]:
        """Features and classes of the real pictures: taken from the folder `shared`, or computed."""
        names = [(each.name, self.statistics(each)) for each in self.extractors]
        names += [(each.segmenter.suffix, self.class_statistics(each)) for each in self.labels]
        num = len(self.extractors)

        def compute(missing: list[int]) -> list[Tensor]:
            extractors = [each for index, each in enumerate(self.extractors) if index in missing]
            labels = [each for index, each in enumerate(self.labels) if index + num in missing]
            seen = self._see(self.real, extractors, labels)
            return [*seen.features, *(counts.sum(0) for counts in seen.confusions)]

        if shared is None:
            values = compute([*range(len(names))])
        else:
            files = [None if name in own else shared / f"{digest}{name}" for name, digest in names]
            values = real_statistics.shared(files, compute, self._device, self.workers)
        return values[:num], values[num:]

    def _see(
        self,
        pictures: Pictures,
        extractors: Sequence[Extractor],
        labels: Sequence[Labels],
        likeness: Likeness | None = None,
        keep_each: bool = False,
    ) -> _Seen:
        """What the networks say of the pictures of all workers.

        Args:
            extractors, labels, likeness: What is measured; `likeness` is of pairs with real pictures.
            keep_each: Whether the confusion of each picture is kept.
        """
        if pictures.num < self.workers.number:
            raise DataError(
                f"{pictures.name}: {pictures.num} pictures for {self.workers.number} workers. "
                "Give one for each worker at least."
            )
        parts, num_broken = [], torch.zeros(1)
        try:
            for positions in minibatches(self.workers.slice(pictures.num)):
                parts.append(
                    self._see_batch(pictures, positions, extractors, labels, likeness or {}, keep_each)
                )
        except DivergenceError:  # said below, as other workers wait for this one
            num_broken += 1
        require_finite(num_broken, pictures.broken, self.workers)
        seen = _Seen(
            *(
                [gather_unequal_rows(torch.cat(rows), self.workers) for rows in zip(*field)]
                for field in zip(*parts)
            )
        )
        for features, extractor in zip(seen.features, extractors):
            if not torch.isfinite(features).all():
                raise RunError(
                    f"{pictures.name}: features of {extractor.name} contain NaN or infinity; "
                    "its weights are broken"
                )
        return seen

    @torch.no_grad()
    def _see_batch(
        self,
        pictures: Pictures,
        positions: np.ndarray,
        extractors: Sequence[Extractor],
        labels: Sequence[Labels],
        likeness: Likeness,
        keep_each: bool,
    ) -> _Seen:
        """What the networks say of the pictures at `positions` (B,) of a set; see `_see`."""
        indices = pictures.indices[positions]
        batch = pictures.read(indices)
        self._require_alike(pictures, batch)
        features = [extractor.network(batch).float().cpu() for extractor in extractors]
        each = [_confusions(batch, indices, part) for part in labels]
        confusions = [counts.cpu() if keep_each else counts.sum(0, keepdim=True) for counts in each]
        if not likeness:
            return _Seen(features, confusions, [])
        real = self.real.read(self.real.indices[positions])
        columns = [measure(real, batch) for measure in likeness.values()]
        return _Seen(features, confusions, [torch.stack(columns, 1)])

    def _require_alike(self, fake: Pictures, batch: Tensor) -> None:
        """Raises DataError where pictures have another size, or are grey and the real ones are not."""
        if batch.shape[2:] != self._size:
            sizes = [f"{width}x{height}" for height, width in (batch.shape[2:], self._size)]
            raise DataError(
                f"{fake.name}: pictures of {sizes[0]}, the real ones have {sizes[1]}. "
                "Allowed: the same size. Resize one set."
            )
        if fake.is_grey and not self._is_grey:
            raise DataError(
                f"{fake.name}: grey pictures, the real ones are in colour. Write them with three channels."
            )

    def _conditions(self) -> Conditions:
        """Those of all scores."""
        return {"num_real": self.real.num, "split": self.split}

    def _conditions_of_pairs(self) -> Conditions:
        """Those of scores of pairs."""
        statistics = digest([self.real.digest, self.split, self.real.num])
        return self._conditions() | {"real_statistics": statistics}


def require_finite(num_broken: Tensor, message: str, workers: Workers) -> None:
    """Raises DivergenceError, on every worker, where one of them has an output that is not finite.

    Collective.

    Args:
        num_broken: This worker's number of such outputs; one value.
    """
    if total(num_broken, workers).item():
        raise DivergenceError(message)


def _confusions(batch: Tensor, indices: np.ndarray, labels: Labels) -> Tensor:
    """Counts [truth, prediction] of each picture, (B, C, C). Raises DataError where C is not the data's.

    Args:
        batch: uint8 pictures (B, 3, H, W).
        indices: (B,) int, which real pictures they are pairs with.
    """
    scores = labels.segmenter.scores(batch)
    if scores.shape[1] != labels.num_classes:
        raise DataError(
            f"{labels.segmenter.weights}: "
            f"scores of {scores.shape[1]} classes, the data has {labels.num_classes}."
        )
    truths = [labels.truth(int(index)).to(batch.device) for index in indices]
    if all(truth.shape == scores.shape[2:] for truth in truths):
        return metrics.confusion_counts(scores, torch.stack(truths), labels.ignore_index)
    counts = []
    for each, truth in zip(scores.split(1), truths):  # one at a time: resized ones are large
        resized = F.interpolate(each, truth.shape, mode="bilinear", align_corners=False)
        counts.append(metrics.confusion_counts(resized, truth[None], labels.ignore_index))
    return torch.cat(counts)
