"""Quality measures in float64: distances between sets of features, and scores of single pictures.

Arguments called `real` are of real pictures, those called `fake` of generated ones. Features come in blocks
and from several workers: `Moments` of parts are merged exactly, and no function holds more than one block
of a kernel or distance matrix.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.errors import RunError

SMALLEST_SSIM = 11
"""Pixels: the smallest height and width for `ssim`, which are the width of its window."""
_BLOCK = 1024
"""Rows of a kernel or distance matrix that are held at a time."""


# ---- Frechet distance --------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Count, mean and covariance of features.

    The covariance is stored as a root, which keeps twice as many digits as the covariance itself would.
    """

    num_samples: int
    mean: Tensor
    """(D,) float64"""
    root: Tensor
    """(K, D) float64, K <= D, upper triangular: root^T root = sum of (x - mean)(x - mean)^T."""

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Moments of features (N, D), N >= 1. Raises RunError where they are not finite."""
        features = _checked(features, at_least=1)
        blocks = features.split(_BLOCK)
        return cls.merged(cls(len(part), part.mean(0), _triangle(part - part.mean(0))) for part in blocks)

    @classmethod
    def merged(cls, parts: Iterable["Moments"]) -> "Moments":
        """Moments of all parts together, one at least.

        Source: Chan et al. 1979, with roots in place of sums of squares.
        """

        def pair(a: "Moments", b: "Moments") -> "Moments":
            count = a.num_samples + b.num_samples
            between = (b.mean - a.mean) * (a.num_samples * b.num_samples / count) ** 0.5
            mean = a.mean + (b.mean - a.mean) * (b.num_samples / count)
            return cls(count, mean, _triangle(torch.cat([a.root, b.root, between[None]])))

        return functools.reduce(pair, parts)

    @property
    def trace(self) -> float:
        """Trace of the unbiased covariance; needs two samples or more."""
        return float((self.root**2).sum()) / (self.num_samples - 1)


def frechet_distance(real: Tensor | Moments, fake: Tensor | Moments) -> float:
    """|m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of Gaussians fitted to two sets of features.

    tr (S_r S_f)^(1/2) is computed as the nuclear norm of R_r R_f^T, with S = R^T R and R from a QR
    decomposition. This is exact for N <= D, too, where the distance is biased upwards (see `is_biased`).

    Args:
        real, fake: Features (N, D), or their moments.

    Raises:
        RunError: a set has fewer than two samples, or features are not finite.

    Source: Heusel et al. 2017. What differs: the evaluation by the nuclear norm.
    """
    real, fake = (part if isinstance(part, Moments) else Moments.of(_checked(part)) for part in (real, fake))
    for part in (real, fake):
        _require(part.num_samples, at_least=2)
    degrees = (real.num_samples - 1) * (fake.num_samples - 1)
    cross = torch.linalg.svdvals(real.root @ fake.root.T).sum() / degrees**0.5
    means = ((real.mean - fake.mean) ** 2).sum()
    return float(means + real.trace + fake.trace - 2 * cross)


def is_biased(num_samples: int, num_features: int) -> bool:
    """Whether a Frechet distance is of too low rank to be compared with one of another number of samples."""
    return num_samples <= num_features


# ---- kernel distance ---------------------------------------------------------------------------------------


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Unbiased squared MMD with k(x, y) = (x.y / D + 1)^3 of features (N, D) and (M, D); it may be negative.

    Raises:
        RunError: a set has fewer than two samples, or features are not finite.

    Source: Binkowski et al. 2018 (KID). What differs: all samples at once instead of subsets.
    """
    real, fake = _checked(real), _checked(fake)

    def within(features: Tensor) -> float:
        diagonal = polynomial_kernel(features.square().sum(1), features.shape[1]).sum()
        return float((_total(features, features) - diagonal) / (len(features) * (len(features) - 1)))

    return within(real) + within(fake) - 2 * float(_total(real, fake)) / (len(real) * len(fake))


def polynomial_kernel(products: Tensor, num_features: int) -> Tensor:
    """(x.y / D + 1)^3 of scalar products x.y, of any shape, with D = `num_features`."""
    return (products / num_features + 1) ** 3


def _total(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the kernel over all pairs of features (N, D) and (M, D)."""
    return torch.stack([polynomial_kernel(block @ b.T, a.shape[1]).sum() for block in a.split(_BLOCK)]).sum()


# ---- precision and recall ----------------------------------------------------------------------------------


def precision_recall(real: Tensor, fake: Tensor, num_neighbors: int = 3) -> tuple[Tensor, Tensor]:
    """Which fakes lie in the manifold of the real, bool (M,), and which real in that of the fakes, bool (N,).

    Their means are precision and recall. The manifold of a set is the union of balls around its samples, each
    of which reaches to the `num_neighbors`-th neighbour of its sample in the same set.

    Args:
        real, fake: Features (N, D) and (M, D).

    Raises:
        RunError: a set has fewer than `num_neighbors` + 1 samples, or features are not finite.

    Source: Kynkaanniemi et al. 2019.
    """
    real, fake = (_checked(part, at_least=num_neighbors + 1) for part in (real, fake))
    return _inside(fake, real, num_neighbors), _inside(real, fake, num_neighbors)


def _inside(points: Tensor, manifold: Tensor, num_neighbors: int) -> Tensor:
    """Which points (N, D) lie in the manifold of samples (M, D), bool (N,)."""
    nearest = [distances.kthvalue(num_neighbors + 1).values for distances in _distances(manifold, manifold)]
    radii = torch.cat(nearest)
    return torch.cat([(distances <= radii).any(1) for distances in _distances(points, manifold)])


def _distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """The distances (N, M) of a (N, D) from b (M, D), in blocks of rows.

    They come from matrix products, around the mean of b so that few digits cancel.
    """
    center = b.mean(0)
    return (
        torch.cdist(block - center, b - center, compute_mode="use_mm_for_euclid_dist")
        for block in a.split(_BLOCK)
    )


# ---- segmentation ------------------------------------------------------------------------------------------


def confusion_counts(scores: Tensor, labels: Tensor, ignore_index: int | None) -> Tensor:
    """Counts [truth, prediction] of each picture, (B, C, C) int64.

    Args:
        scores: Class scores (B, C, H, W).
        labels: The class of each pixel, (B, H, W): integers from 0 to C - 1, or `ignore_index`.
        ignore_index: Pixels of this class count nowhere; None: every pixel counts.
    """
    number, num_classes = scores.shape[:2]
    first = torch.arange(number, device=scores.device).view(-1, 1, 1) * num_classes**2
    cells = first + labels.long() * num_classes + scores.argmax(1)
    if ignore_index is not None:
        cells = cells[labels != ignore_index]
    counts = torch.bincount(cells.flatten(), minlength=number * num_classes**2)
    return counts.reshape(number, num_classes, num_classes)


def mean_iou(confusion: Tensor) -> float:
    """Mean of intersection / union over the classes that occur, in [0, 1].

    `confusion` (C, C) counts [truth, prediction]. Raises RunError where it counts nothing.
    """
    confusion = confusion.double()
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    _require_labels(confusion)
    return float((intersection[union > 0] / union[union > 0]).mean())


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of the labelled pixels that are predicted right, in [0, 1].

    `confusion` (C, C) counts [truth, prediction]. Raises RunError where it counts nothing.
    """
    _require_labels(confusion)
    return float(confusion.diagonal().sum().double() / confusion.sum().double())


def _require_labels(confusion: Tensor) -> None:
    if not confusion.any():
        raise RunError("no pixel of these pictures has a class: every label is the ignored one")


# ---- pairs of pictures -------------------------------------------------------------------------------------


def psnr(real: Tensor, fake: Tensor) -> Tensor:
    """10 log10(255^2 / mean squared error) of each pair of uint8 pictures (B, 3, H, W): float64 (B,), in dB.

    It is infinite for equal pictures.
    """
    return 10 * (255**2 / (fake.double() - real.double()).square().mean((1, 2, 3))).log10()


def ssim(real: Tensor, fake: Tensor) -> Tensor:
    """SSIM of each pair of uint8 pictures (B, 3, H, W) with H and W >= `SMALLEST_SSIM`:
    float64 (B,), in [-1, 1].

    Source: Wang et al. 2004, with their Gaussian window of deviation 1.5 pixels. What differs: borders are
    mirrored, so that there is a window around every pixel.
    """
    # torchmetrics loads matplotlib, too, which takes seconds: only the processes that score pairs pay for it.
    from torchmetrics.functional.image import structural_similarity_index_measure as measure

    values = []
    # One picture at a time: torchmetrics holds 121 values, a window, for each pixel that it is given.
    for one_fake, one_real in zip(fake.split(1), real.split(1)):
        value = measure(one_fake.double(), one_real.double(), data_range=255.0, reduction="none")
        assert isinstance(value, Tensor)
        values.append(value)
    return torch.cat(values)


# ---- what is refused ---------------------------------------------------------------------------------------


def _triangle(rows: Tensor) -> Tensor:
    """R (K, D), upper triangular, with R^T R = rows^T rows."""
    return torch.linalg.qr(rows, mode="r").R


def _checked(features: Tensor, at_least: int = 2) -> Tensor:
    """The features in float64 on the CPU. Raises RunError where they are too few or not finite."""
    _require(len(features), at_least)
    if not torch.isfinite(features).all():
        raise RunError(
            "features for a distance contain NaN or infinity: the pictures or the extractor are broken"
        )
    return features.detach().double().cpu()


def _require(count: int, at_least: int) -> None:
    if count < at_least:
        raise RunError(
            f"a distance between feature sets needs at least {at_least} samples a set, given {count}"
        )
