"""Quality measures in float64: distances between sets of features, and scores of single pictures. Which argument is real is in the name.

Features come in blocks and from several workers: `Moments` of parts are merged exactly, and no function holds more than one block of a
kernel or distance matrix.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.errors import RunError

SMALLEST_SSIM = 11
"""Pixels: the width of its window."""
_BLOCK = 1024
"""Rows of a kernel or distance matrix at a time."""


# ---- Frechet distance -----------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Count, mean and covariance of features; the covariance as a root, which keeps twice the digits that it would."""

    num_samples: int
    mean: Tensor
    """(D,) float64"""
    root: Tensor
    """(K, D) float64, K <= D, upper triangular: root^T root = sum of (x - mean)(x - mean)^T."""

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Of features (N, D), N >= 1. Raises RunError where they are not finite."""
        features = _checked(features, at_least=1)
        parts = [
            cls(len(block), block.mean(0), _triangle(block - block.mean(0)))
            for block in features.split(_BLOCK)
        ]
        return cls.merged(parts)

    @classmethod
    def merged(cls, parts: Iterable["Moments"]) -> "Moments":
        """Of all parts together. Source: Chan et al. 1979, with roots in place of sums of squares."""

        def pair(a: "Moments", b: "Moments") -> "Moments":
            count = a.num_samples + b.num_samples
            between = (b.mean - a.mean) * (a.num_samples * b.num_samples / count) ** 0.5
            mean = a.mean + (b.mean - a.mean) * (b.num_samples / count)
            return cls(count, mean, _triangle(torch.cat([a.root, b.root, between[None]])))

        return functools.reduce(pair, parts)

    @property
    def trace(self) -> float:
        """Of the unbiased covariance."""
        return float((self.root**2).sum()) / (self.num_samples - 1)


def frechet_distance(real: Tensor | Moments, fake: Tensor | Moments) -> float:
    """|m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of Gaussians fitted to features (N, D).

    tr (S_r S_f)^(1/2) is the nuclear norm of R_r R_f^T with S = R^T R, R from a QR decomposition: exact for N <= D too, where the
    value is biased upwards (`biased` says so). Source: Heusel et al. 2017; the evaluation by nuclear norm is ours.
    """
    real, fake = (part if isinstance(part, Moments) else Moments.of(_checked(part)) for part in (real, fake))
    for part in (real, fake):
        _require(part.num_samples, at_least=2)
    cross = (
        torch.linalg.svdvals(real.root @ fake.root.T).sum()
        / ((real.num_samples - 1) * (fake.num_samples - 1)) ** 0.5
    )
    means = ((real.mean - fake.mean) ** 2).sum()
    return float(means + real.trace + fake.trace - 2 * cross)


def biased(num_samples: int, num_features: int) -> bool:
    """Whether a Frechet distance of so many samples is of too low rank to be compared across sample counts."""
    return num_samples <= num_features


# ---- kernel distance ------------------------------------------------------------------------------------------------


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Unbiased squared MMD with k(x, y) = (x.y / D + 1)^3 of features (N, D), (M, D); may be negative.

    Source: Binkowski et al. 2018 (KID), over all samples at once instead of subsets.
    """
    real, fake = _checked(real), _checked(fake)

    def within(features: Tensor) -> float:
        diagonal = polynomial_kernel(features.square().sum(1), features.shape[1]).sum()
        return float((_total(features, features) - diagonal) / (len(features) * (len(features) - 1)))

    return within(real) + within(fake) - 2 * float(_total(real, fake)) / (len(real) * len(fake))


def polynomial_kernel(products: Tensor, num_features: int) -> Tensor:
    """(x.y / D + 1)^3 of scalar products x.y, any shape."""
    return (products / num_features + 1) ** 3


def _total(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([polynomial_kernel(block @ b.T, a.shape[1]).sum() for block in a.split(_BLOCK)]).sum()


# ---- precision and recall -------------------------------------------------------------------------------------------


def precision_recall(real: Tensor, fake: Tensor, num_neighbors: int = 3) -> tuple[Tensor, Tensor]:
    """Which fakes (M,) lie among the real, which real (N,) among the fakes, bool; their means are precision and recall.

    A set's manifold: balls around its samples (N, D), (M, D) that reach to their `num_neighbors`-th neighbour in the same set.
    Source: Kynkaanniemi et al. 2019.
    """
    real, fake = (_checked(part, at_least=num_neighbors + 1) for part in (real, fake))
    return _inside(fake, real, num_neighbors), _inside(real, fake, num_neighbors)


def _inside(points: Tensor, manifold: Tensor, num_neighbors: int) -> Tensor:
    """(number of points,) bool."""
    radii = torch.cat(
        [distances.kthvalue(num_neighbors + 1).values for distances in _distances(manifold, manifold)]
    )
    return torch.cat([(distances <= radii).any(1) for distances in _distances(points, manifold)])


def _distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Blocks of rows of the distances (N, M) by matrix products, around b's mean so that little cancels."""
    center = b.mean(0)
    return (
        torch.cdist(block - center, b - center, compute_mode="use_mm_for_euclid_dist")
        for block in a.split(_BLOCK)
    )


# ---- segmentation ---------------------------------------------------------------------------------------------------


def mean_iou(confusion: Tensor) -> float:
    """Mean over the classes that occur of intersection / union; `confusion` (C, C) counts [truth, prediction]."""
    confusion = confusion.double()
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    _require_labels(confusion)
    return float((intersection[union > 0] / union[union > 0]).mean())


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of the labelled pixels that are predicted right; `confusion` (C, C) counts [truth, prediction]."""
    _require_labels(confusion)
    return float(confusion.diagonal().sum().double() / confusion.sum().double())


def _require_labels(confusion: Tensor) -> None:
    if not confusion.any():
        raise RunError("no pixel of these pictures has a class: every label is the ignored one")


# ---- pairs of pictures ----------------------------------------------------------------------------------------------


def psnr(real: Tensor, fake: Tensor) -> Tensor:
    """10 log10(255^2 / mean squared error) of each pair (B, 3, H, W) uint8, in dB, float64 (B,); infinite for equal pictures."""
    return 10 * (255**2 / (fake.double() - real.double()).square().mean((1, 2, 3))).log10()


def ssim(real: Tensor, fake: Tensor) -> Tensor:
    """SSIM of each pair (B, 3, H, W) uint8, Gaussian window of deviation 1.5, float64 (B,). Source: Wang et al. 2004."""
    from torchmetrics.functional.image import (
        structural_similarity_index_measure,  # it loads matplotlib, too: seconds in every process
    )

    values = []
    for given, shown in zip(
        fake.split(1), real.split(1)
    ):  # torchmetrics holds each picture's windows at once: 121 values for a pixel
        value = structural_similarity_index_measure(
            given.double(), shown.double(), data_range=255.0, reduction="none"
        )
        assert isinstance(value, Tensor)
        values.append(value)
    return torch.cat(values)


# ---- what is refused ------------------------------------------------------------------------------------------------


def _triangle(rows: Tensor) -> Tensor:
    return torch.linalg.qr(rows, mode="r").R


def _checked(features: Tensor, at_least: int = 2) -> Tensor:
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
