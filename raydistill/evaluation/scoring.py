"""Scores of sets of pictures against real ones: values, 95 % intervals, and what each number was measured with."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import Tensor

from raydistill.config import renamed
from raydistill.config.base import Frozen, digest
from raydistill.data import to_float
from raydistill.errors import DataError, RunError
from raydistill.evaluation import bootstrap, metrics
from raydistill.evaluation.extractors import Extractor
from raydistill.evaluation.metrics import Moments
from raydistill.evaluation.picture_sets import Pictures
from raydistill.evaluation.scorer import confusion_counts, statistics_digest
from raydistill.evaluation.segmenters import Segmenter
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator

KNN = 3


class Score(Frozen):
    """One number about a set of pictures, with all that decides what it may be compared with."""

    name: Annotated[str, AfterValidator(renamed.metric_now)]
    """`<split>/<quantity>`, with the extractor: `val/kd_squeezenet`."""
    value: float | None
    """None: infinite, the PSNR of equal pictures."""
    interval: tuple[float, float] | None
    """95 %, over the scored pictures; None where none was asked for."""
    ceiling: float | None = None
    """The score of the real pictures themselves, where it is not trivial: of classes."""
    num_samples: int
    num_real: int
    biased: bool = False
    """A Frechet distance of no more pictures than features: it has no meaning beside one of another number."""
    extractor: Annotated[str, AfterValidator(renamed.kind_now)] = ""
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

    segmenter: Segmenter
    truth: Callable[[int], Tensor]
    """Index -> the class of each pixel of that real picture, int64 (H, W), at the size it is scored at."""
    num_classes: int
    ignore_index: int | None
    resize: str = "none"
    """Of the class scores, to the truth's size."""


class Real:
    """The real side, computed once for everything that is compared with it."""

    def __init__(
        self, pictures: Pictures, split: str, extractors: Sequence[Extractor], labels: Sequence[Labels] = ()
    ):
        self.pictures, self.split, self.extractors, self.labels = pictures, split, extractors, labels
        self.features = extracted(pictures, extractors)
        self.moments = [Moments.of(features) for features in self.features]
        self.confusions = [_confusions(pictures, part).sum(0) for part in labels]

    def score(self, fake: Pictures, *, num_resamples: int = 0) -> list[Score]:
        """All scores that `fake` can have: kernel before Frechet distances, pairs of pictures where they are in the split's order.

        Raises:
            DataError: another size than the real pictures', or fewer than two pictures. RunError: NaN.
        """
        if min(fake.num, self.pictures.num) < 2:
            raise DataError(
                f"{fake.name}: {fake.num} pictures against {self.pictures.num} real ones. Needed: 2 or more of each."
            )
        if fake.in_order_of_split and fake.num != self.pictures.num:
            raise DataError(
                f"{fake.name}: {fake.num} pictures are no pairs with {self.pictures.num} real ones. Give one for each."
            )
        self._require_alike(fake)
        counts = bootstrap.resample(fake.num, num_resamples)
        paired = self._pairs(fake, counts) if fake.in_order_of_split else []
        return paired + self._distances(fake, counts)

    def _require_alike(self, fake: Pictures) -> None:
        given, real = (next(iter(part.batches())) for part in (fake, self.pictures))
        if given.shape[2:] != real.shape[2:]:
            sizes = [f"{part.shape[3]}x{part.shape[2]}" for part in (given, real)]
            raise DataError(
                f"{fake.name}: pictures of {sizes[0]}, the real ones have {sizes[1]}. Allowed: the same size. Resize one set."
            )
        if fake.is_grey and (real != real[:, :1]).any():
            raise DataError(
                f"{fake.name}: grey pictures, the real ones are in colour. Write them with three channels."
            )

    def _distances(self, fake: Pictures, counts: Tensor) -> list[Score]:
        scores = []
        for extractor, real, moments, features in zip(
            self.extractors, self.features, self.moments, extracted(fake, self.extractors)
        ):
            kernel, frechet = (
                metrics.kernel_distance(real, features),
                metrics.frechet_distance(moments, features),
            )
            named = [
                (extractor.metric("kd"), kernel, bootstrap.kernel_distances(real, features, counts)),
                (extractor.metric("fd"), frechet, bootstrap.frechet_distances(moments, features, counts)),
            ]
            if min(len(real), len(features)) > KNN:
                precise, recalled = metrics.precision_recall(real, features, KNN)
                named.append(
                    (
                        f"precision_{extractor.name}",
                        float(precise.double().mean()),
                        bootstrap.means(precise, counts),
                    )
                )
                named.append((f"recall_{extractor.name}", float(recalled.double().mean()), torch.empty(0)))
            is_biased = metrics.biased(min(len(real), len(features)), extractor.num_features)
            context = self._context(extractor)
            for name, value, replicates in named:
                biased = is_biased and name == extractor.metric("fd")
                scores.append(self._scored(name, value, replicates, context, fake.num, biased))
        return scores

    def _context(self, extractor: Extractor) -> dict[str, Any]:
        number = self.pictures.num
        return {
            "num_real": number,
            "split": self.split,
            "extractor": extractor.weights,
            "extractor_digest": extractor.sha256[:16],
            "resize": extractor.resize,
            "real_statistics": statistics_digest(
                self.pictures.digest, extractor.sha256, extractor.resize, self.split, number
            ),
        }

    def _pairs(self, fake: Pictures, counts: Tensor) -> list[Score]:
        """Accuracy of classes where there are labels, then likeness to the real picture."""
        number = self.pictures.num
        context = {
            "num_real": number,
            "split": self.split,
            "real_statistics": digest([self.pictures.digest, self.split, number]),
        }
        peaks, likenesses = [], []
        for given, real in zip(fake.batches(), self.pictures.batches(), strict=True):
            peaks.append(metrics.psnr(real, given).cpu())
            if min(given.shape[2:]) >= metrics.SMALLEST_SSIM:
                likenesses.append(metrics.ssim(real, given).cpu())
        scores = [
            score
            for part, real in zip(self.labels, self.confusions)
            for score in self._classes(fake, part, real, counts, context)
        ]
        for name, parts in (("psnr", peaks), ("ssim", likenesses)):
            if parts:
                values = torch.cat(parts)
                scores.append(
                    self._scored(
                        name, float(values.mean()), bootstrap.means(values, counts), context, fake.num
                    )
                )
        return scores

    def _classes(
        self, fake: Pictures, labels: Labels, real: Tensor, counts: Tensor, context: dict[str, Any]
    ) -> list[Score]:
        segmenter, confusions = labels.segmenter, _confusions(fake, labels)
        context = context | {
            "extractor": segmenter.weights,
            "extractor_digest": segmenter.digest,
            "resize": labels.resize,
        }
        resampled = torch.einsum("rn,nij->rij", counts, confusions.double())
        scores = []
        for name, measure in (("miou", metrics.mean_iou), ("pixel_accuracy", metrics.pixel_accuracy)):
            replicates = torch.tensor([measure(each) for each in resampled], dtype=torch.float64)
            score = self._scored(
                name + segmenter.suffix, measure(confusions.sum(0)), replicates, context, len(confusions)
            )
            scores.append(score.model_copy(update={"ceiling": measure(real)}))
        return scores

    def _scored(
        self,
        name: str,
        value: float,
        replicates: Tensor,
        context: dict[str, Any],
        num: int,
        biased: bool = False,
    ) -> Score:
        """With an interval where the value has resampled ones; a mean of infinite values has none."""
        is_finite = math.isfinite(value)
        interval = bootstrap.interval(value, replicates) if is_finite and len(replicates) else None
        full = f"{self.split}/{name}"
        return Score(
            name=full,
            value=value if is_finite else None,
            interval=interval,
            num_samples=num,
            biased=biased,
            **context,
        )


def extracted(pictures: Pictures, extractors: Sequence[Extractor]) -> list[Tensor]:
    """Features (N, D) of each extractor, in one pass over the pictures. Raises RunError where they are not finite."""
    found: list[list[Tensor]] = [[] for _ in extractors]
    with torch.no_grad():
        for shown in pictures.batches() if extractors else ():
            for rows, extractor in zip(found, extractors):
                rows.append(extractor.network(shown).float().cpu())
    features = [torch.cat(rows) for rows in found]
    for part, extractor in zip(features, extractors):
        if not torch.isfinite(part).all():
            raise RunError(
                f"{pictures.name}: features of {extractor.name} contain NaN or infinity; its weights are broken"
            )
    return features


def evaluator_extractor(evaluator: PixelEvaluator | PictureEvaluator, evaluator_digest: str) -> Extractor:
    """The evaluator's bottleneck as an extractor."""
    return Extractor(
        "evaluator",
        evaluator_digest,
        "none",
        evaluator.feature_width,
        lambda pictures: evaluator(to_float(pictures)).features,
    )


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


def _confusions(pictures: Pictures, labels: Labels) -> Tensor:
    """(N, C, C) counts [truth, prediction] of each picture."""
    counts: list[Tensor] = []
    for part in pictures.batches():
        for scores in labels.segmenter.scores(part).split(1):
            if scores.shape[1] != labels.num_classes:
                raise DataError(
                    f"{labels.segmenter.weights}: scores of {scores.shape[1]} classes, the data has {labels.num_classes}."
                )
            truth = labels.truth(int(pictures.indices[len(counts)])).to(part.device)
            if scores.shape[2:] != truth.shape:
                scores = F.interpolate(scores, truth.shape, mode="bilinear", align_corners=False)
            counts.append(confusion_counts(scores, truth[None], labels.ignore_index).cpu())
    return torch.stack(counts)
