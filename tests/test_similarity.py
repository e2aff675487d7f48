"""SSIM, as a loss and as a score, against a plain loop over the windows of float64 pictures."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.evaluation.metrics import SMALLEST_SSIM, ssim
from raydistill.method.similarity import dissimilarity


def of_window(a: np.ndarray, b: np.ndarray, weights: np.ndarray, data_range: float) -> float:
    """Wang et al. 2004, equation 13, for one window of one channel."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(likeness / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))


def mirrored(a: np.ndarray, b: np.ndarray, weights: np.ndarray, data_range: float) -> float:
    """The mean over channels and windows around all pixels of pictures (3, H, W) with mirrored borders."""
    reach = len(weights) // 2
    each = []
    for pair in zip(a, b):
        p, q = (np.pad(part, reach, mode="reflect") for part in pair)
        for top, left in itertools.product(range(a.shape[1]), range(a.shape[2])):
            place = slice(top, top + len(weights)), slice(left, left + len(weights))
            each.append(of_window(p[place], q[place], weights, data_range))
    return float(np.mean(each))


def pictures(seed: int, *shape: int) -> Tensor:
    """In [-1, 1], dark in places and bright in others, so that all three factors of the score take part."""
    drawn = torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return drawn * torch.linspace(0.1, 1, shape[-1], dtype=torch.float64)


def test_the_dissimilarity_is_one_less_the_mean_over_uniform_windows_with_mirrored_borders() -> None:
    a = pictures(0, 2, 3, 8, 11)
    b = (0.6 * a + 0.4 * pictures(1, 2, 3, 8, 11) + 0.1).clamp(-1, 1)
    each = [mirrored(p.numpy(), q.numpy(), np.full((7, 7), 1 / 49), 2) for p, q in zip(a + 1, b + 1)]
    assert dissimilarity(a, b).item() == pytest.approx(1 - np.mean(each), rel=1e-9)
    assert dissimilarity(a, b).item() == pytest.approx(dissimilarity(b, a).item(), rel=1e-12)
    assert dissimilarity(a.float(), b.float()).item() == pytest.approx(1 - np.mean(each), rel=1e-5)


def test_the_dissimilarity_of_flat_pictures_is_that_of_their_brightness() -> None:
    for p, q in ((0.5, 0.5), (0.9, 0.1), (-0.7, 0.7), (0.0, 0.0)):
        a, b = (torch.full((1, 3, 8, 8), value, dtype=torch.float64) for value in (p, q))
        light, other = p + 1, q + 1
        expected = 1 - (2 * light * other + 4e-4) / (light**2 + other**2 + 4e-4)
        assert dissimilarity(a, b).item() == pytest.approx(expected, abs=1e-9)


def test_a_negative_is_unlike_its_picture_as_a_whole_and_in_part() -> None:
    """Counted from grey both factors are -1, the loss is 0: a student learnt a black sky for a white one."""
    picture = pictures(0, 1, 3, 16, 16)
    assert dissimilarity(picture, -picture).item() > 1.5
    sky = torch.full_like(picture, 0.9)
    sky[..., 8:, :] = picture[..., 8:, :]
    below = torch.cat([-sky[..., :8, :], sky[..., 8:, :]], 2)
    assert dissimilarity(sky, below).item() > 0.4
    wrong = (-0.8 * picture).requires_grad_(True)
    (gradient,) = torch.autograd.grad(dissimilarity(wrong, picture), wrong)
    assert (gradient * (picture - wrong)).sum() < 0  # descending leads to the picture


def test_rounding_never_divides_by_a_variance_below_zero() -> None:
    """A student without tanh may put out large values; of flat ones E x^2 - (E x)^2 is rounding alone.

    Where variances are 0 or more, the loss is at most what the rounded covariance adds to 1, over .06^2.
    """
    for value in torch.linspace(100, 400, 151).tolist():
        a, b = (torch.full((1, 1, 8, 8), each) for each in (value, 1.001 * value))
        rounding = 8 * torch.finfo(torch.float32).eps * value**2
        assert abs(dissimilarity(a, b).item() - 1) <= 1 + 2 * rounding / 0.06**2


def gaussian_window() -> np.ndarray:
    line = np.array([math.exp(-((place - 5) ** 2) / (2 * 1.5**2)) for place in range(11)])
    return np.outer(line, line) / line.sum() ** 2


def test_the_score_is_the_mean_over_gaussian_windows_with_mirrored_borders() -> None:
    """Also of the smallest picture that is scored: as large as the window."""
    assert len(gaussian_window()) == SMALLEST_SSIM
    for height, width in ((13, 15), (SMALLEST_SSIM, SMALLEST_SSIM)):
        real = ((pictures(0, 2, 3, height, width) + 1) * 127.5).round().to(torch.uint8)
        noise = torch.randint(-30, 40, real.shape, generator=torch.Generator().manual_seed(2))
        fake = (real.int() + noise).clamp(0, 255).to(torch.uint8)
        expected = [
            mirrored(p.double().numpy(), q.double().numpy(), gaussian_window(), 255)
            for p, q in zip(real, fake)
        ]
        assert 0.2 < min(expected) < max(expected) < 0.99
        found = ssim(real, fake)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
