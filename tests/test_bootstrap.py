"""Resampled scores against the scores of pictures that really are repeated, and the interval they give."""

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.evaluation import bootstrap
from raydistill.evaluation.metrics import Moments, frechet_distance, kernel_distance


def features(seed: int, num: int, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, size, dtype=torch.float64, generator=generator) + 0.3 * seed


def repeated(rows: Tensor, counts: Tensor) -> Tensor:
    return rows.repeat_interleave(counts.long(), 0)


REAL, FAKE = features(0, 9), features(1, 7)
COUNTS = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 0, 1, 0], [0, 0, 6, 0, 0, 1, 0]]).double()


def test_a_resample_draws_as_many_pictures_as_there_are_each_as_likely() -> None:
    counts = bootstrap.resample(20, 4000)
    assert counts.shape == (4000, 20) and counts.dtype == torch.float64
    assert bool((counts.sum(1) == 20).all()) and bool((counts >= 0).all())
    np.testing.assert_allclose(counts.mean(0), 1, atol=5 * (0.95 / 4000) ** 0.5)
    np.testing.assert_allclose(counts.var(0), 0.95, atol=0.15)
    assert torch.equal(counts, bootstrap.resample(20, 4000))
    assert not torch.equal(counts, bootstrap.resample(20, 4000, seed=1))


def test_the_interval_is_the_score_plus_the_quantiles_around_the_mean_of_the_replicates() -> None:
    """Squares of 0, 1, ..., 1000: the quantiles lie at 25 and 975, the mean is 333,500. Not symmetric."""
    squares = torch.arange(1001).double() ** 2
    low, high = bootstrap.interval(7.0, squares)
    assert low == pytest.approx(7 + 25**2 - 333_500) and high == pytest.approx(7 + 975**2 - 333_500)


def test_a_resampled_mean_is_that_of_the_repeated_values() -> None:
    values = torch.arange(7.0) ** 2
    found = bootstrap.means(values, COUNTS)
    expected = [float(repeated(values, row).double().mean()) for row in COUNTS]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(
        bootstrap.means(values > 3, COUNTS), [(repeated(values, r) > 3).double().mean() for r in COUNTS]
    )


@pytest.mark.parametrize("block", [3, 1024])
def test_resampled_kernel_distances_pair_no_picture_with_its_copies(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_BLOCK", block)

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 4 + 1) ** 3

    def expected(row: Tensor) -> float:
        drawn = [index for index, count in enumerate(row.tolist()) for _ in range(int(count))]
        within = [kernel(FAKE[i], FAKE[j]) for i in drawn for j in drawn if i != j]
        across = [kernel(FAKE[i], real) for i in drawn for real in REAL]
        return sum(within) / len(within) - 2 * sum(across) / len(across)

    found = bootstrap.kernel_distances(REAL, FAKE, COUNTS)
    np.testing.assert_allclose(found, [expected(row) for row in COUNTS], rtol=1e-10)
    constant = kernel_distance(REAL, FAKE) - float(found[0])
    within = [kernel(x, y) for i, x in enumerate(REAL) for j, y in enumerate(REAL) if i != j]
    assert constant == pytest.approx(sum(within) / len(within), rel=1e-10)


def test_resampled_frechet_distances_are_those_of_the_repeated_features() -> None:
    real = Moments.of(REAL)
    found = bootstrap.frechet_distances(real, FAKE, COUNTS)
    expected = [frechet_distance(REAL, repeated(FAKE, row)) for row in COUNTS]
    np.testing.assert_allclose(found + real.trace, expected, rtol=1e-8)
