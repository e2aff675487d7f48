"""Quality measures in float64: distances between sets of features, and mIoU from a confusion matrix."""

import torch
from torch import Tensor

from raydistill.errors import RunError


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of Gaussians fitted to features (N, D).

    tr (S_r S_f)^(1/2) is the nuclear norm of R_r R_f^T with S = R^T R, R from a QR decomposition: exact for N <= D too, where the
    value is biased upwards (`biased` says so). Source: Heusel et al. 2017; the evaluation by nuclear norm is ours.
    """
    real, fake = _checked(real), _checked(fake)
    root_real, root_fake = _root(real), _root(fake)
    cross = torch.linalg.svdvals(root_real @ root_fake.T).sum()
    means = ((real.mean(0) - fake.mean(0)) ** 2).sum()
    return float(means + (root_real**2).sum() + (root_fake**2).sum() - 2 * cross)


def biased(num_samples: int, num_features: int) -> bool:
    """Whether a Frechet distance of so many samples is of too low rank to be compared across sample counts."""
    return num_samples <= num_features


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Unbiased squared MMD with k(x, y) = (x.y / D + 1)^3 of features (N, D), (M, D); may be negative.

    Source: Binkowski et al. 2018 (KID), over all samples at once instead of subsets.
    """
    real, fake = _checked(real), _checked(fake)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def off_diagonal_mean(k: Tensor) -> Tensor:
        return (k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))

    return float(off_diagonal_mean(kernel(real, real)) + off_diagonal_mean(kernel(fake, fake)) - 2 * kernel(real, fake).mean())


def mean_iou(confusion: Tensor) -> float:
    """Mean over the classes that occur of intersection / union; `confusion` (C, C) counts [truth, prediction]."""
    confusion = confusion.double()
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    if not union.any():
        raise RunError("no pixel of these pictures has a class: every label is the ignored one")
    return float((intersection[union > 0] / union[union > 0]).mean())


def _root(features: Tensor) -> Tensor:
    """R with R^T R the covariance of the features."""
    centered = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    return torch.linalg.qr(centered, mode="r").R


def _checked(features: Tensor) -> Tensor:
    if len(features) < 2:
        raise RunError(f"a distance between feature sets needs at least 2 samples a set, given {len(features)}")
    if not torch.isfinite(features).all():
        raise RunError("features for a distance contain NaN or infinity: the pictures or the extractor are broken")
    return features.detach().double().cpu()
