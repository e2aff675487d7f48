"""Scores of sets of pictures against real ones: values, 95 % intervals and the conditions of measurement."""

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
"""Neighbours that the balls of precision and recall reach to."""


class Score(Frozen):
    """One score of a set of pictures, with everything that decides which scores it may be compared with."""

    name: Annotated[str, AfterValidator(renamed.metric_now)]
    """`<split>/<quantity>`, with the extractor where there is one: `val/kd_squeezenet`."""
    value: float | None
    """None: infinite, as the PSNR of equal pictures."""
    interval: tuple[float, float] | None
    """95 % interval (low, high) over the scored pictures; None: not asked for, or the score has none."""
    ceiling: float | None = None
    """The same score of the real pictures themselves; None: it is not a score of classes."""
    num_samples: int
    """How many pictures were scored."""
    num_real: int
    """How many real pictures they were scored against."""
    biased: bool = False
    """Whether it is a Frechet distance of no more pictures than features.

    Such a distance has no meaning beside one of another number of pictures.
    """
    extractor: Annotated[str, AfterValidator(renamed.kind_now)] = ""
    """What the weights of the extractor or the segmenter are; empty: there is none."""
    extractor_digest: str = ""
    resize: str = ""
    split: str
    real_statistics: str
    """Digest of what the real statistics come from: data, split, extractor, resize filter, number."""


CONDITIONS = ("num_samples", "num_real", "extractor_digest", "resize", "split", "real_statistics")
"""The fields that must be equal where two scores of one name are compared."""


class Labels(NamedTuple):
    """A segmenter, with the classes of the real pictures that its predictions are compared with."""

    segmenter: Segmenter
    truth: Callable[[int], Tensor]
    """Index -> the class of each pixel of that real picture, int64 (H, W), at the size it is scored at."""
    num_classes: int
    ignore_index: int | None
    """The class of pixels that count nowhere; None: every pixel counts."""
    resize: str = "none"
    """How class scores are resized to the size of the truth."""


class RealPictures:
    """The real pictures of a split, with everything that others are scored against, computed once.

    Args:
        pictures: The real pictures.
        split: Name of the split; the names of scores begin with it.
        extractors: Feature networks, two distances for each.
        labels: Segmenters, two scores for each.
    """

    def __init__(
        self, pictures: Pictures, split: str, extractors: Sequence[Extractor], labels: Sequence[Labels] = ()
    ):
        self.pictures, self.split, self.extractors, self.labels = pictures, split, extractors, labels
        self.features = extract_features(pictures, extractors)
        self.moments = [Moments.of(features) for features in self.features]
        self.confusions = [_confusions(pictures, part).sum(0) for part in labels]

    def score(self, fake: Pictures, *, num_resamples: int = 0) -> list[Score]:
        """All scores that `fake` can have: those of pairs, where it is in the split's order, then distances.

        Args:
            num_resamples: Resamples for the intervals; 0: scores have no interval.

        Raises:
            DataError: `fake` has another size than the real pictures, or a set has fewer than two pictures.
            RunError: features are not finite.
        """
        if min(fake.num, self.pictures.num) < 2:
            raise DataError(
                f"{fake.name}: {fake.num} pictures against {self.pictures.num} real ones. "
                "Needed: 2 or more of each."
            )
        if fake.in_order_of_split and fake.num != self.pictures.num:
            raise DataError(
                f"{fake.name}: {fake.num} pictures are no pairs with {self.pictures.num} real ones. "
                "Give one for each."
            )
        self._require_alike(fake)
        counts = bootstrap.resample(fake.num, num_resamples)
        paired = self._pairs(fake, counts) if fake.in_order_of_split else []
        return paired + self._distances(fake, counts)

    def _require_alike(self, fake: Pictures) -> None:
        """Raises DataError where the pictures have another size, or are grey and the real ones are not."""
        batch, real = (next(iter(part.batches())) for part in (fake, self.pictures))
        if batch.shape[2:] != real.shape[2:]:
            sizes = [f"{part.shape[3]}x{part.shape[2]}" for part in (batch, real)]
            raise DataError(
                f"{fake.name}: pictures of {sizes[0]}, the real ones have {sizes[1]}. "
                "Allowed: the same size. Resize one set."
            )
        if fake.is_grey and (real != real[:, :1]).any():
            raise DataError(
                f"{fake.name}: grey pictures, the real ones are in colour. Write them with three channels."
            )

    def _distances(self, fake: Pictures, counts: Tensor) -> list[Score]:
        """Kernel and Frechet distance, precision and recall, of each extractor. `counts`: the resamples."""
        scores = []
        features_of_fake = extract_features(fake, self.extractors)
        for extractor, real, moments, features in zip(
            self.extractors, self.features, self.moments, features_of_fake
        ):
            kernel = metrics.kernel_distance(real, features)
            frechet = metrics.frechet_distance(moments, features)
            values = [
                (extractor.metric("kd"), kernel, bootstrap.kernel_distances(real, features, counts)),
                (extractor.metric("fd"), frechet, bootstrap.frechet_distances(moments, features, counts)),
            ]
            num_samples = min(len(real), len(features))
            if num_samples > KNN:
                precise, recalled = metrics.precision_recall(real, features, KNN)
                precision, recall = (float(part.double().mean()) for part in (precise, recalled))
                resampled = bootstrap.means(precise, counts)
                values.append((f"precision_{extractor.name}", precision, resampled))
                values.append((f"recall_{extractor.name}", recall, torch.empty(0)))
            is_biased = metrics.is_biased(num_samples, extractor.num_features)
            context = self._context(extractor)
            for name, value, replicates in values:
                biased = is_biased and name == extractor.metric("fd")
                scores.append(self._score(name, value, replicates, context, fake.num, biased))
        return scores

    def _context(self, extractor: Extractor) -> dict[str, Any]:
        """The conditions of an extractor's distances."""
        number, network = self.pictures.num, extractor.sha256
        statistics = statistics_digest(self.pictures.digest, network, extractor.resize, self.split, number)
        return {
            "num_real": number,
            "split": self.split,
            "extractor": extractor.weights,
            "extractor_digest": extractor.sha256[:16],
            "resize": extractor.resize,
            "real_statistics": statistics,
        }

    def _pairs(self, fake: Pictures, counts: Tensor) -> list[Score]:
        """Scores of classes where there are labels, then PSNR and, where pictures are large enough, SSIM."""
        number = self.pictures.num
        context = {
            "num_real": number,
            "split": self.split,
            "real_statistics": digest([self.pictures.digest, self.split, number]),
        }
        parts: dict[str, list[Tensor]] = {"psnr": [], "ssim": []}
        for batch, real in zip(fake.batches(), self.pictures.batches(), strict=True):
            parts["psnr"].append(metrics.psnr(real, batch).cpu())
            if min(batch.shape[2:]) >= metrics.SMALLEST_SSIM:
                parts["ssim"].append(metrics.ssim(real, batch).cpu())
        scores = []
        for labels, confusion in zip(self.labels, self.confusions):
            scores += self._classes(fake, labels, confusion, counts, context)
        for name, batches in parts.items():
            if batches:
                values = torch.cat(batches)
                replicates = bootstrap.means(values, counts)
                scores.append(self._score(name, float(values.mean()), replicates, context, fake.num))
        return scores

    def _classes(
        self, fake: Pictures, labels: Labels, real: Tensor, counts: Tensor, context: dict[str, Any]
    ) -> list[Score]:
        """Mean IoU and pixel accuracy by a segmenter. `real` (C, C): the confusion of the real pictures."""
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
            value = measure(confusions.sum(0))
            score = self._score(name + segmenter.suffix, value, replicates, context, len(confusions))
            scores.append(score.model_copy(update={"ceiling": measure(real)}))
        return scores

    def _score(
        self,
        name: str,
        value: float,
        replicates: Tensor,
        context: dict[str, Any],
        num: int,
        biased: bool = False,
    ) -> Score:
        """The score of a value, with an interval where it is finite and `replicates` (R,) is not empty."""
        is_finite = math.isfinite(value)
        interval = bootstrap.interval(value, replicates) if is_finite and len(replicates) else None
        return Score(
            name=f"{self.split}/{name}",
            value=value if is_finite else None,
            interval=interval,
            num_samples=num,
            biased=biased,
            **context,
        )


def extract_features(pictures: Pictures, extractors: Sequence[Extractor]) -> list[Tensor]:
    """Features (N, D) of each extractor, in one pass over the pictures.

    Raises RunError where they are not finite.
    """
    blocks: list[list[Tensor]] = [[] for _ in extractors]
    with torch.no_grad():
        for batch in pictures.batches() if extractors else ():
            for rows, extractor in zip(blocks, extractors):
                rows.append(extractor.network(batch).float().cpu())
    features = [torch.cat(rows) for rows in blocks]
    for part, extractor in zip(features, extractors):
        if not torch.isfinite(part).all():
            raise RunError(
                f"{pictures.name}: features of {extractor.name} contain NaN or infinity; "
                "its weights are broken"
            )
    return features


def evaluator_extractor(evaluator: PixelEvaluator | PictureEvaluator, evaluator_digest: str) -> Extractor:
    """The bottleneck of the evaluator as an extractor."""

    def network(pictures: Tensor) -> Tensor:
        return evaluator(to_float(pictures)).features

    return Extractor("evaluator", evaluator_digest, "none", evaluator.feature_width, network)


def require_same_conditions(first: Iterable[Score], second: Iterable[Score], where: str) -> None:
    """Raises DataError where two scores of one name were measured under different conditions.

    The message begins with `where`, which says where the first ones come from.
    """
    others = {score.name: score for score in second}
    for score in first:
        other = others.get(score.name, score)
        for condition in CONDITIONS:
            mine, theirs = getattr(score, condition), getattr(other, condition)
            if mine != theirs:
                raise DataError(
                    f"{where}: mixed digests: "
                    f"{score.name} was measured with {condition} {theirs!r}, here with {mine!r}; "
                    "such values cannot be compared"
                )


def _confusions(pictures: Pictures, labels: Labels) -> Tensor:
    """Counts [truth, prediction] of each picture, (N, C, C). Raises DataError where C is not the data's."""
    counts: list[Tensor] = []
    for part in pictures.batches():
        for scores in labels.segmenter.scores(part).split(1):
            if scores.shape[1] != labels.num_classes:
                raise DataError(
                    f"{labels.segmenter.weights}: "
                    f"scores of {scores.shape[1]} classes, the data has {labels.num_classes}."
                )
            truth = labels.truth(int(pictures.indices[len(counts)])).to(part.device)
            if scores.shape[2:] != truth.shape:
                scores = F.interpolate(scores, truth.shape, mode="bilinear", align_corners=False)
            counts.append(confusion_counts(scores, truth[None], labels.ignore_index).cpu())
    return torch.stack(counts)
