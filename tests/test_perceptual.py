"""Losses of pictures and features, against plain loops over float64 values and in closed form."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.method.perceptual import (
    channel_distillation,
    charbonnier,
    content_loss,
    gram,
    multiscale_l1,
    spatial_means,
    style_loss,
    total_variation,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gram_by_loops(features: np.ndarray) -> np.ndarray:
    batch, channels, height, width = features.shape
    out = np.zeros((batch, channels, channels))
    for b, i, j in itertools.product(range(batch), range(channels), range(channels)):
        for y, x in itertools.product(range(height), range(width)):
            out[b, i, j] += features[b, i, y, x] * features[b, j, y, x]
    return out / (channels * height * width)


def test_the_gram_matrix_is_the_mean_product_of_channels_over_their_number() -> None:
    features = drawn(2, 3, 4, 5)
    np.testing.assert_allclose(gram(features).numpy(), gram_by_loops(features.double().numpy()), atol=1e-6)


def test_the_gram_matrix_of_constant_channels_is_their_product_over_their_number() -> None:
    values = torch.tensor([1.0, -2.0, 3.0])
    features = values[None, :, None, None].expand(1, 3, 5, 7)
    torch.testing.assert_close(gram(features)[0], values.outer(values) / 3)


def test_style_is_the_sum_over_taps_of_the_mean_difference_of_gram_matrices() -> None:
    shapes = ((2, 3, 6, 5), (2, 4, 3, 2))
    own, other = ([drawn(*shape, seed=seed) for shape in shapes] for seed in (1, 2))
    expected = sum(
        np.abs(gram_by_loops(a.double().numpy()) - gram_by_loops(b.double().numpy())).mean()
        for a, b in zip(own, other, strict=True)
    )
    assert style_loss(own, other).item() == pytest.approx(expected, rel=1e-5)
    assert style_loss(own, own).item() == 0
    with pytest.raises(ValueError, match="shorter"):
        style_loss(own, other[:1])


def test_style_of_features_that_are_k_times_larger_is_k_squared_times_as_large() -> None:
    own, other = [drawn(2, 3, 4, 4)], [drawn(2, 3, 4, 4, seed=1)]
    larger = style_loss([3 * own[0]], [3 * other[0]])
    assert larger.item() == pytest.approx(9 * style_loss(own, other).item(), rel=1e-5)


def test_content_is_the_mean_absolute_difference() -> None:
    a, b = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=1)
    pairs = zip(a.double().flatten().tolist(), b.double().flatten().tolist(), strict=True)
    assert content_loss(a, b).item() == pytest.approx(np.mean([abs(p - q) for p, q in pairs]), rel=1e-5)


def test_total_variation_is_a_sum_over_pixels_and_a_mean_over_pictures() -> None:
    pictures = drawn(3, 2, 4, 5)
    total = 0.0
    for b, c, y, x in itertools.product(range(3), range(2), range(4), range(5)):
        here = float(pictures[b, c, y, x])
        total += abs(float(pictures[b, c, y + 1, x]) - here) if y < 3 else 0.0
        total += abs(float(pictures[b, c, y, x + 1]) - here) if x < 4 else 0.0
    assert total_variation(pictures).item() == pytest.approx(total / 3, rel=1e-5)


def test_total_variation_of_a_ramp_is_its_steps_and_of_a_flat_picture_0() -> None:
    """Over H rows, W - 1 steps of a height each; so at 256x256 a mean would be 196,608 times smaller."""
    ramp = torch.arange(7.0)[None, None, None].expand(2, 3, 5, 7)
    assert total_variation(ramp).item() == 3 * 5 * 6
    assert total_variation(torch.full((2, 3, 5, 7), 0.3)).item() == 0


def test_channel_distillation_compares_means_over_pixels() -> None:
    a, b = drawn(2, 3, 4, 5), drawn(2, 3, 6, 2, seed=1)
    expected = 0.0
    for picture, channel in itertools.product(range(2), range(3)):
        means = [float(np.mean(each[picture, channel].double().flatten().tolist())) for each in (a, b)]
        expected += (means[0] - means[1]) ** 2 / 6
    assert channel_distillation(spatial_means(a), spatial_means(b)).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_charbonnier_is_a_smooth_l1() -> None:
    a, b = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=1)
    pairs = zip(a.double().flatten().tolist(), b.double().flatten().tolist(), strict=True)
    expected = np.mean([((p - q) ** 2 + 0.01**2) ** 0.5 for p, q in pairs])
    assert charbonnier(a, b, 0.01).item() == pytest.approx(expected, rel=1e-5)
    assert charbonnier(a, a).item() == pytest.approx(1e-3, rel=1e-5)
    a.requires_grad_(True)
    charbonnier(a, a.detach()).backward()
    assert a.grad is not None and a.grad.abs().max() == 0


def multiscale_by_loops(a: np.ndarray, b: np.ndarray, scales: int) -> float:
    each = []
    for size in (2**k for k in range(scales)):
        differences = []
        for top, left in itertools.product(range(0, a.shape[2], size), range(0, a.shape[3], size)):
            block = (..., slice(top, top + size), slice(left, left + size))
            differences.append(np.abs(a[block].mean((2, 3)) - b[block].mean((2, 3))))
        each.append(np.mean(differences))
    return float(np.mean(each))


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (3, 10), (1, 2)])
def test_multiscale_l1_averages_blocks_that_the_border_may_cut_off(size: tuple[int, int]) -> None:
    a, b = drawn(2, 3, *size), drawn(2, 3, *size, seed=1)
    expected = multiscale_by_loops(a.double().numpy(), b.double().numpy(), 3)
    assert multiscale_l1(a, b).item() == pytest.approx(expected, rel=1e-5)
    assert multiscale_l1(a, b, 1).item() == pytest.approx((a - b).abs().mean().item(), rel=1e-6)


def test_multiscale_l1_of_a_constant_difference_is_that_and_of_a_chessboard_a_third() -> None:
    """A chessboard of +1 and -1 averages to 0 over 2x2 and 4x4 pixels: only the finest scale sees it."""
    flat = torch.zeros(1, 3, 9, 6)
    assert multiscale_l1(flat, flat + 0.4).item() == pytest.approx(0.4, rel=1e-6)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    chess = (1.0 - 2 * ((rows + columns) % 2)).expand(1, 3, 8, 8)
    assert multiscale_l1(torch.zeros(1, 3, 8, 8), chess).item() == pytest.approx(1 / 3, rel=1e-6)


def losses_of(a: Tensor, b: Tensor) -> Tensor:
    each = [
        style_loss([a], [b]),
        content_loss(a, b),
        total_variation(a),
        charbonnier(a, b),
        multiscale_l1(a, b),
    ]
    return torch.stack([*each, channel_distillation(spatial_means(a), spatial_means(b))])


def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_parts() -> None:
    """Else gradients would differ between a whole batch, microbatches and several workers."""
    a, b = drawn(4, 3, 6, 6), drawn(4, 3, 6, 6, seed=1)
    parts = torch.stack([losses_of(a[k : k + 2], b[k : k + 2]) for k in (0, 2)])
    torch.testing.assert_close(losses_of(a, b), parts.mean(0))


def test_every_loss_runs_where_no_tensor_has_a_value() -> None:
    """On the meta device, where memory is predicted."""
    a = torch.empty(2, 3, 8, 8, device="meta", requires_grad=True)
    losses = losses_of(a, torch.empty(2, 3, 8, 8, device="meta"))
    losses.sum().backward()
    assert losses.shape == (6,) and a.grad is not None and a.grad.shape == a.shape
