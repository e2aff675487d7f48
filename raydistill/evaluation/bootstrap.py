"""95 % intervals of scores by resampling the scored pictures; the real pictures are not resampled.

A resample is a count for each picture. The interval is the score plus the 2.5 % and 97.5 % quantiles of the
resampled scores around their mean. A resample repeats pictures, which raises a Frechet distance; taking the
quantiles around the mean takes that part out.

Below, N is the number of scored pictures and R the number of resamples.
"""

import torch
from torch import Tensor

from raydistill.evaluation.metrics import Moments, polynomial_kernel
from raydistill.seeds import numpy_stream

_BLOCK = 1024
"""Rows of a kernel matrix that are held at a time."""


def resample(num: int, num_resamples: int, seed: int = 0) -> Tensor:
    """How often each picture is in each resample: (R, N) float64; every row sums to N = `num`."""
    counts = numpy_stream(seed, "bootstrap").multinomial(num, [1 / num] * num, size=num_resamples)
    return torch.from_numpy(counts).double()


def interval(score: float, replicates: Tensor) -> tuple[float, float]:
    """The 95 % interval (low, high) of `score` from resampled scores (R,), R >= 1."""
    shares = torch.tensor([0.025, 0.975], dtype=replicates.dtype)
    low, high = torch.quantile(replicates - replicates.mean(), shares).tolist()
    return score + low, score + high


def means(values: Tensor, counts: Tensor) -> Tensor:
    """Resampled means (R,) of one value for each picture, (N,). `counts`: see `resample`."""
    return counts @ values.double() / counts.sum(1)


def kernel_distances(real: Tensor, fake: Tensor, counts: Tensor) -> Tensor:
    """Resampled kernel distances (R,), up to a constant.

    A picture is never paired with its own copies, which would look alike: a resample of one picture alone
    gives NaN.

    Args:
        real, fake: Features (M, D) and (N, D).
        counts: (R, N), see `resample`.
    """
    real, fake = real.double().cpu(), fake.double().cpu()
    within, across = torch.zeros(len(counts)).double(), torch.zeros(len(counts)).double()
    for start in range(0, len(fake), _BLOCK):
        rows = slice(start, start + _BLOCK)
        kernel = polynomial_kernel(fake[rows] @ fake.T, fake.shape[1])
        kernel.diagonal(start).zero_()
        within += ((counts[:, rows] @ kernel) * counts).sum(1)
        across += counts[:, rows] @ polynomial_kernel(fake[rows] @ real.T, fake.shape[1]).mean(1)
    total = counts.sum(1)
    return within / (total**2 - (counts**2).sum(1)) - 2 * across / total


def frechet_distances(real: Moments, fake: Tensor, counts: Tensor) -> Tensor:
    """Resampled Frechet distances (R,), up to a constant.

    Args:
        real: Moments of the real features.
        fake: Features (N, D).
        counts: (R, N), see `resample`.
    """
    fake = fake.double().cpu() - real.mean
    across = real.root @ fake.T / (real.num_samples - 1) ** 0.5
    squares = fake.square().sum(1)

    def distance(count: Tensor) -> Tensor:
        """Of one resample, (N,)."""
        weights = count / count.sum()
        mean, scale = weights @ fake, (count / (count.sum() - 1)).sqrt()
        trace = (weights @ squares - mean.square().sum()) * count.sum() / (count.sum() - 1)
        occurs = count > 0
        centred = (across[:, occurs] - across @ weights[:, None]) * scale[occurs]
        return mean.square().sum() + trace - 2 * torch.linalg.svdvals(centred).sum()

    return torch.tensor([float(distance(count)) for count in counts], dtype=torch.float64)
