"""Mean and covariance of features of real pictures as others have published them, in an npz file."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from raydistill.errors import DataError
from raydistill.evaluation.extractors import sha256_of
from raydistill.evaluation.metrics import Moments
from raydistill.reading import regular, require_claim

SYMMETRIC = 1e-4
"""How far a covariance may be from symmetric and from positive, as a share of its largest value: published
ones were computed in float32, too."""


class PublishedStatistics(NamedTuple):
    """Statistics by one extractor of real pictures that are not here."""

    metric: str
    """The name of the Frechet distance from them: that of the extractor, and the name of the file."""
    extractor: str
    """The name of the extractor."""
    sha256: str
    """Digest of the file."""
    moments: Moments


def statistics_of(text: str, extractors: Iterable[str]) -> tuple[str, Path]:
    """The two parts of `NAME=FILE`. Raises DataError where NAME is none of the extractors."""
    name, equals, file = text.partition("=")
    names = list(extractors)
    if name not in names or not equals or not file:
        given = f"Given extractors: {', '.join(names)}" if names else "Give --extractor, too"
        raise DataError(
            f"--real-statistics {text}: give it as NAME=FILE, with the name of an extractor. {given}."
        )
    return name, Path(file)


def statistics_metric(distance: str, path: Path) -> str:
    """The name of the Frechet distance from the statistics of a file: `fid_cifar10` of cifar10.npz.

    `distance`: the extractor's own, such as "fid".
    """
    return f"{distance}_{re.sub(r'[^A-Za-z0-9]+', '_', path.stem)}"


def open_statistics(path: Path, metric: str, extractor: str, num_features: int) -> PublishedStatistics:
    """The statistics of a file with `mu` (D,) and `sigma` (D, D), as implementations of the FID write them.

    Of how many pictures they are is not known: `Moments.num_samples` is 2, which says nothing of it.

    Args:
        num_features: D of the extractor.

    Raises:
        DataError: the file cannot be read, has other arrays, or they are of another extractor.
    """
    sha256 = sha256_of(path)
    needed = f"mu ({num_features},) and sigma ({num_features}, {num_features}) of {extractor}"
    try:
        require_claim(8 * num_features**2, "a covariance")
        with np.load(regular(path), allow_pickle=False) as content:
            arrays = [np.asarray(content[name], np.float64) for name in ("mu", "sigma")]
    except Exception as error:  # zip, key and value errors: numpy has no common one
        raise DataError(
            f"--real-statistics {path}: no npz file with mu and sigma: {error}. Needed: {needed}"
        ) from None
    mu, sigma = arrays
    if mu.shape != (num_features,) or sigma.shape != (num_features, num_features):
        raise DataError(
            f"--real-statistics {path}: mu {mu.shape}, sigma {sigma.shape}: of another extractor. "
            f"Needed: {needed}"
        )
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise DataError(f"--real-statistics {path}: NaN or infinity in it. Needed: {needed}")
    largest = max(float(np.abs(sigma).max()), 1e-300)
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    if np.abs(sigma - sigma.T).max() > SYMMETRIC * largest or values.min() < -SYMMETRIC * values.max():
        raise DataError(f"--real-statistics {path}: sigma is no covariance: not symmetric, or not positive")
    root = np.sqrt(values.clip(0))[:, None] * vectors.T
    moments = Moments(2, torch.from_numpy(mu), torch.linalg.qr(torch.from_numpy(root), mode="r").R)
    return PublishedStatistics(metric, extractor, sha256, moments)
