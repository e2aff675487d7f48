"""Scores of sets of pictures against real ones: values, 95 % intervals, and what each number was measured with."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raydistill import bootstrap, metrics
from raydistill.config import Frozen, digest
from raydistill.data import Split, batch, to_float
from raydistill.errors import DataError, RunError
from raydistill.evaluate import confusion_counts, statistics_digest
from raydistill.extractors import Extractor
from raydistill.metrics import Moments
from raydistill.models.judge import Judge
from raydistill.pictures import Pictures

KNN = 3
_SMALLEST_SSIM = 11
"""Pixels: the width of its window."""


class Score(Frozen):
    name: str
    value: float | None
    """None: infinite, the PSNR of equal pictures."""
    interval: tuple[float, float] | None
    """95 %, over the scored pictures; None where none was asked for."""
    num_samples: int
    num_real: int
    biased: bool = False
    """A Frechet distance of no more pictures than features: it has no meaning beside one of another number."""
    extractor: str = ""
    """What the weights are."""
    extractor_digest: str = ""
    resize: str = ""
    split: str
    real_statistics: str
    """Digest of what the real side was computed from: data, split, extractor, resize filter, number."""


CONDITIONS = ("num_samples", "num_real", "extractor_digest", "resize", "split", "real_statistics")
"""What must be the same for two values of one name to be compared."""


class Labels(NamedTuple):
    """What is needed to score pictures by their classes."""

    judge: Judge
    judge_digest: str
    split: Split


class Real:
    """The real side, computed once for everything that is compared with it."""

    def __init__(self, pictures: Pictures, split: str, extractors: Sequence[Extractor], labels: Labels | None = None):
        self.pictures, self.split, self.extractors, self.labels = pictures, split, extractors, labels
        self.features = extracted(pictures, extractors)
        self.moments = [Moments.of(features) for features in self.features]

    def score(self, fake: Pictures, *, num_resamples: int = 0) -> list[Score]:
        """All scores that `fake` can have: kernel before Frechet distances, pairs of pictures where they are in the split's order.

        Raises:
            DataError: another size than the real pictures', or fewer than two pictures. RunError: NaN.
        """
        if min(fake.num, self.pictures.num) < 2:
            raise DataError(f"{fake.name}: {fake.num} pictures against {self.pictures.num} real ones. Needed: 2 or more of each.")
        if fake.in_order_of_split and fake.num != self.pictures.num:
            raise DataError(f"{fake.name}: {fake.num} pictures are no pairs with {self.pictures.num} real ones. Give one for each.")
        self._require_size(fake)
        counts = bootstrap.resample(fake.num, num_resamples)
        paired = self._pairs(fake, counts) if fake.in_order_of_split else []
        return paired + self._distances(fake, counts)

    def _require_size(self, fake: Pictures) -> None:
        given, real = (next(iter(part.batches())).shape[2:] for part in (fake, self.pictures))
        if given != real:
            sizes = [f"{size[1]}x{size[0]}" for size in (given, real)]
            raise DataError(f"{fake.name}: pictures of {sizes[0]}, the real ones have {sizes[1]}. Allowed: the same size. Resize one set.")

    def _distances(self, fake: Pictures, counts: Tensor) -> list[Score]:
        scores = []
        for extractor, real, moments, features in zip(self.extractors, self.features, self.moments, extracted(fake, self.extractors)):
            kernel, frechet = metrics.kernel_distance(real, features), metrics.frechet_distance(moments, features)
            named = [
                (extractor.metric("kd"), kernel, bootstrap.kernel_distances(real, features, counts)),
                (extractor.metric("fd"), frechet, bootstrap.frechet_distances(moments, features, counts)),
            ]
            if min(len(real), len(features)) > KNN:
                precise, recalled = metrics.precision_recall(real, features, KNN)
                named.append((f"precision_{extractor.name}", float(precise.double().mean()), bootstrap.means(precise, counts)))
                named.append((f"recall_{extractor.name}", float(recalled.double().mean()), torch.empty(0)))
            is_biased = metrics.biased(min(len(real), len(features)), extractor.num_features)
            context = self._context(extractor)
            for name, value, replicates in named:
                biased = is_biased and name == extractor.metric("fd")
                scores.append(_score(name, value, replicates, context, fake.num, biased))
        return scores

    def _context(self, extractor: Extractor) -> dict[str, Any]:
        number = self.pictures.num
        return {
            "num_real": number,
            "split": self.split,
            "extractor": extractor.weights,
            "extractor_digest": extractor.sha256[:16],
            "resize": extractor.resize,
            "real_statistics": statistics_digest(self.pictures.digest, extractor.sha256, extractor.resize, self.split, number),
        }

    def _pairs(self, fake: Pictures, counts: Tensor) -> list[Score]:
        """Accuracy of classes where there are labels, then likeness to the real picture."""
        peaks, likenesses, confusions = [], [], []
        start = 0
        for given, real in zip(fake.batches(), self.pictures.batches()):
            peaks.append(metrics.psnr(real, given).cpu())
            if min(given.shape[2:]) >= _SMALLEST_SSIM:
                likenesses.append(metrics.ssim(real, given).cpu())
            if self.labels is not None:
                confusions.append(_confusions(given, start, self.labels))
            start += len(given)
        number = self.pictures.num
        context = {"num_real": number, "split": self.split, "real_statistics": digest([self.pictures.digest, self.split, number])}
        scores = _class_scores(torch.cat(confusions), counts, context, self.labels) if self.labels is not None else []
        for name, parts in (("psnr", peaks), ("ssim", likenesses)):
            if parts:
                values = torch.cat(parts)
                finite = bool(torch.isfinite(values).all())
                scores.append(
                    _score(name, float(values.mean()), bootstrap.means(values, counts) if finite else counts[:0, 0], context, fake.num)
                )
        return scores


def extracted(pictures: Pictures, extractors: Sequence[Extractor]) -> list[Tensor]:
    """Features (N, D) of each extractor, in one pass over the pictures. Raises RunError where they are not finite."""
    found: list[list[Tensor]] = [[] for _ in extractors]
    with torch.no_grad():
        for part in pictures.batches() if extractors else ():
            for rows, extractor in zip(found, extractors):
                rows.append(extractor.network(part).float().cpu())
    features = [torch.cat(rows) for rows in found]
    for rows, extractor in zip(features, extractors):
        if not torch.isfinite(rows).all():
            raise RunError(f"{pictures.name}: features of {extractor.name} contain NaN or infinity; its weights are broken")
    return features


def judge_extractor(judge: Judge, judge_digest: str) -> Extractor:
    """The judge's bottleneck as an extractor."""
    width = judge.coarse[-1][0].out_channels
    return Extractor("judge", judge_digest, "none", width, lambda pictures: judge(to_float(pictures)).features)


def require_same_conditions(first: Iterable[Score], second: Iterable[Score], where: str) -> None:
    """Raises DataError where two values of one name were measured under different conditions."""
    others = {score.name: score for score in second}
    for score in first:
        other = others.get(score.name, score)
        for condition in CONDITIONS:
            mine, theirs = getattr(score, condition), getattr(other, condition)
            if mine != theirs:
                raise DataError(
                    f"{where}: mixed digests: {score.name} was measured with {condition} {theirs!r}, here with {mine!r}; "
                    "such values cannot be compared"
                )


def _confusions(pictures: Tensor, start: int, labels: Labels) -> Tensor:
    """(B, C, C) counts [truth, prediction] of each picture."""
    split = labels.split
    truth = batch(split, slice(start, start + len(pictures)), device=pictures.device).labels
    assert truth is not None
    with torch.no_grad():
        guess = labels.judge(to_float(pictures)).prediction
    pairs = [confusion_counts(one[None], two[None], split.info.ignore_index) for one, two in zip(guess, truth)]
    return torch.stack(pairs).cpu()


def _class_scores(confusions: Tensor, counts: Tensor, context: dict[str, Any], labels: Labels) -> list[Score]:
    context = context | {"extractor": "judge", "extractor_digest": labels.judge_digest, "resize": "none"}
    resampled = torch.einsum("rn,nij->rij", counts, confusions.double())
    scores = []
    for name, measure in (("miou", metrics.mean_iou), ("pixel_accuracy", metrics.pixel_accuracy)):
        replicates = torch.tensor([measure(each) for each in resampled], dtype=torch.float64)
        scores.append(_score(name, measure(confusions.sum(0)), replicates, context, len(confusions)))
    return scores


def _score(name: str, value: float, replicates: Tensor, context: dict[str, Any], num_samples: int, biased: bool = False) -> Score:
    interval = bootstrap.interval(value, replicates) if len(replicates) else None
    finite = None if value == float("inf") else value
    return Score(name=name, value=finite, interval=interval, num_samples=num_samples, biased=biased, **context)
