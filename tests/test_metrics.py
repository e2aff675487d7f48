"""Distances between sets of features and mIoU, against closed forms, direct sums and SciPy; losses on
pictures."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index
from torchmetrics.functional.image import structural_similarity_index_measure

from raydistill.errors import RunError
from raydistill.evaluation import metrics
from raydistill.evaluation.metrics import (
    Moments,
    confusion_counts,
    frechet_distance,
    is_biased,
    kernel_distance,
    mean_iou,
    pixel_accuracy,
    precision_recall,
    psnr,
    ssim,
)
from raydistill.method.adversarial import hinge_discriminator, hinge_generator
from raydistill.method.similarity import dissimilarity


def features(seed: int, num: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(num, size, generator=generator, dtype=torch.float64) @ mixing + torch.randn(
        size, generator=generator
    )


def gaussian(seed: int, mean: Tensor, root: Tensor, num: int = 50) -> Tensor:
    """Samples whose mean is exactly `mean` and whose covariance is exactly root^T root."""
    raw = torch.randn(num, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    white = torch.linalg.qr(raw - raw.mean(0)).Q * (num - 1) ** 0.5
    return white @ root + mean


# ---- Frechet distance --------------------------------------------------------------------------------------


def test_the_frechet_distance_of_axis_aligned_gaussians_is_the_closed_form() -> None:
    mean_real, mean_fake = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.0, 2.0, 5.0]).double()
    std_real, std_fake = torch.tensor([1.0, 0.5, 2.0]).double(), torch.tensor([3.0, 0.5, 0.25]).double()
    expected = (1 + 0 + 4) + (4 + 0 + 1.75**2)
    got = frechet_distance(gaussian(0, mean_real, std_real.diag()), gaussian(1, mean_fake, std_fake.diag()))
    assert got == pytest.approx(expected, rel=1e-12)


def test_the_frechet_distance_of_a_gaussian_and_its_rotation_is_the_closed_form() -> None:
    """tr (S R S R^T)^(1/2) for S = diag(a, b) turned by 90 degrees is 2 sqrt(a b)."""
    zero, root = torch.zeros(2).double(), torch.tensor([3.0, 0.5]).double().diag()
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
    assert frechet_distance(gaussian(0, zero, root), gaussian(1, zero, root @ turn)) == pytest.approx(
        2 * (3 - 0.5) ** 2, rel=1e-12
    )


@pytest.mark.parametrize("size", [2, 8, 40])
def test_the_frechet_distance_is_that_of_scipys_square_root_at_full_rank(size: int) -> None:
    real, fake = features(0, 5 * size, size), features(1, 7 * size, size)
    covariances = [np.cov(part.numpy(), rowvar=False) for part in (real, fake)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    means = ((real.mean(0) - fake.mean(0)) ** 2).sum()
    expected = float(means) + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("num_real", "num_fake"), [(2, 2), (6, 9), (10, 30), (30, 4)])
def test_the_frechet_distance_of_few_samples_is_the_nuclear_norm_of_their_products(
    num_real: int, num_fake: int
) -> None:
    """tr (S_r S_f)^(1/2) = ||X_r X_f^T||_* with X the centered samples over sqrt(N - 1), whatever the
    rank."""
    real, fake = features(0, num_real, 10), features(1, num_fake, 10)
    roots = [((part - part.mean(0)) / (len(part) - 1) ** 0.5).numpy() for part in (real, fake)]
    traces = sum((root**2).sum() for root in roots)
    expected = (
        float(((real.mean(0) - fake.mean(0)) ** 2).sum())
        + traces
        - 2 * np.linalg.norm(roots[0] @ roots[1].T, "nuc")
    )
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("num", [2, 10, 200])
def test_the_frechet_distance_of_a_set_from_itself_is_zero(num: int) -> None:
    real = features(0, num, 20)
    trace = float(((real - real.mean(0)) ** 2).sum()) / (num - 1)
    assert abs(frechet_distance(real, real)) <= 1e-9 * trace


def test_the_frechet_distance_of_a_shifted_set_is_the_squared_shift() -> None:
    real, shift = features(0, 40, 6), torch.arange(6).double()
    assert frechet_distance(real, real + shift) == pytest.approx(float((shift**2).sum()), rel=1e-9)


def test_too_few_samples_for_the_rank_are_called_biased() -> None:
    assert is_biased(10, 10) and is_biased(2, 64) and not is_biased(11, 10)


@pytest.mark.parametrize("num", [7, 60])
@pytest.mark.parametrize("bounds", [(0,), (1, 2), (3, 20, 21), (0, 0, 5)])
def test_the_moments_of_parts_are_merged_into_those_of_all(
    num: int, bounds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of workers, the size of a block, and the ratio of mean to deviation."""
    monkeypatch.setattr(metrics, "_BLOCK", 16)
    rows = features(0, num, 12) + 1e4
    parts = [part for part in torch.tensor_split(rows, bounds) if len(part)]
    together = Moments.merged([Moments.of(part) for part in parts])
    assert together.num_samples == num and len(together.root) <= 12
    torch.testing.assert_close(together.mean, rows.mean(0), rtol=1e-13, atol=0)
    covariance = together.root.T @ together.root / (num - 1)
    torch.testing.assert_close(covariance, torch.cov(rows.T), rtol=1e-8, atol=1e-10 * together.trace)
    other = features(1, 30, 12)
    assert frechet_distance(together, other) == pytest.approx(frechet_distance(rows, other), rel=1e-12)


# ---- kernel distance ---------------------------------------------------------------------------------------


def test_the_kernel_distance_is_the_direct_double_sum() -> None:
    real, fake = features(0, 7, 5).numpy(), features(1, 4, 5).numpy()

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    def within(rows: np.ndarray) -> float:
        pairs = [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
        return sum(pairs) / len(pairs)

    across = [kernel(x, y) for x in real for y in fake]
    expected = within(real) + within(fake) - 2 * sum(across) / len(across)
    assert kernel_distance(torch.from_numpy(real), torch.from_numpy(fake)) == pytest.approx(
        expected, rel=1e-12
    )


def test_the_kernel_distance_is_unbiased() -> None:
    """Its mean over many pairs of sets of one distribution is 0 within 5 standard errors."""
    draws = torch.randn(600, 2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = np.array([kernel_distance(real, fake) for real, fake in draws])
    assert abs(values.mean()) < 5 * values.std() / len(values) ** 0.5


def test_the_kernel_distance_does_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = features(0, 30, 8), features(1, 20, 8)
    whole = kernel_distance(real, fake)
    monkeypatch.setattr(metrics, "_BLOCK", 7)
    assert kernel_distance(real, fake) == pytest.approx(whole, rel=1e-12)


# ---- precision and recall ----------------------------------------------------------------------------------


def test_fakes_from_one_of_two_real_modes_have_full_precision_and_half_recall() -> None:
    """Which argument is real: swapped, the two would be swapped."""
    line = torch.arange(10.0)[:, None]
    real, fake = torch.cat([line, line + 1000]), line + 0.25
    precision, recall = precision_recall(real, fake)
    assert (float(precision.double().mean()), float(recall.double().mean())) == (1.0, 0.5)


def test_precision_and_recall_are_the_balls_worked_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One neighbour: the real balls are [-1, 1], [0, 2], [1, 9]; the fake ones [1.5, 2.5], [2, 3], [2.5,
    37.5]."""
    real, fake = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[2.0], [2.5], [20.0]])
    for block in (1, 1024):
        monkeypatch.setattr(metrics, "_BLOCK", block)
        precision, recall = precision_recall(real, fake, num_neighbors=1)
        assert precision.tolist() == [True, True, False] and recall.tolist() == [False, False, True]


def test_the_border_of_a_ball_belongs_to_it() -> None:
    """One neighbour: the real balls are [-1, 1] and [0, 2], the fake ones [-4, 2] and [-1, 5]."""
    real, fake = torch.tensor([[0.0], [1.0]]), torch.tensor([[-1.0], [2.0]])
    precision, recall = precision_recall(real, fake, num_neighbors=1)
    assert precision.tolist() == [True, True] and recall.tolist() == [True, True]
    just_outside = precision_recall(real, fake.double() * (1 + 1e-6), num_neighbors=1)[0]
    assert just_outside.tolist() == [False, False]


@pytest.mark.parametrize("shift", [0.0, 3e8])
def test_precision_and_recall_are_those_of_a_loop_over_points_wherever_the_features_lie(shift: float) -> None:
    """Far from the origin, products of features are so large that their differences would be lost."""
    real, fake = features(0, 20, 3), features(0, 26, 3)[9:] + 0.5

    def inside(point: Tensor, manifold: Tensor) -> bool:
        for center in manifold:
            radius = sorted(float((center - other).norm()) for other in manifold)[3]
            if float((point - center).norm()) <= radius:
                return True
        return False

    expected = [inside(point, real) for point in fake], [inside(point, fake) for point in real]
    found = precision_recall(real + shift, fake + shift)
    assert (found[0].tolist(), found[1].tolist()) == expected
    assert all(0 < sum(part) < len(part) for part in expected)


def test_precision_and_recall_need_more_samples_than_neighbours() -> None:
    with pytest.raises(RunError, match="at least 4 samples a set, given 3"):
        precision_recall(features(0, 9, 2), features(1, 3, 2))


# ---- both --------------------------------------------------------------------------------------------------

DISTANCES = pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])


@DISTANCES
def test_a_distance_is_symmetric(distance) -> None:
    real, fake = features(0, 30, 8), features(1, 20, 8)
    assert distance(real, fake) == pytest.approx(distance(fake, real), rel=1e-10)


@DISTANCES
def test_a_distance_does_not_depend_on_the_order_of_rows(distance) -> None:
    real, fake = features(0, 30, 8), features(1, 20, 8)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert distance(real, fake[order]) == pytest.approx(distance(real, fake), rel=1e-10)


@DISTANCES
def test_a_distance_is_computed_in_double_precision(distance) -> None:
    real, fake = (features(seed, 30, 8).float() + 1000 for seed in (0, 1))
    assert distance(real, fake) == distance(real.double(), fake.double())


@DISTANCES
@pytest.mark.parametrize("count", [0, 1])
def test_a_distance_of_fewer_than_two_samples_is_refused(distance, count: int) -> None:
    for pair in ((features(0, 5, 3), features(1, count, 3)), (features(1, count, 3), features(0, 5, 3))):
        with pytest.raises(RunError, match=f"needs at least 2 samples a set, given {count}"):
            distance(*pair)


@DISTANCES
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_distance_of_features_that_are_not_finite_is_refused(distance, value: float) -> None:
    broken = features(0, 5, 3)
    broken[2, 1] = value
    for pair in ((broken, features(1, 5, 3)), (features(1, 5, 3), broken)):
        with pytest.raises(RunError, match="NaN or infinity"):
            distance(*pair)


# ---- mIoU --------------------------------------------------------------------------------------------------


def test_the_miou_has_the_value_worked_out_by_hand() -> None:
    confusion = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 1, 5]])
    assert mean_iou(confusion) == pytest.approx((3 / 6 + 4 / 8 + 5 / 6) / 3, rel=1e-12)


def test_a_class_that_never_occurs_does_not_count_and_one_that_is_only_predicted_counts_as_zero() -> None:
    absent = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert mean_iou(absent) == pytest.approx((3 / 6 + 4 / 7) / 2, rel=1e-12)
    predicted = torch.tensor([[3, 1, 0], [2, 4, 1], [0, 0, 0]])
    assert mean_iou(predicted) == pytest.approx((3 / 6 + 4 / 8 + 0) / 3, rel=1e-12)


def test_the_miou_of_a_perfect_prediction_is_one() -> None:
    assert mean_iou(torch.diag(torch.tensor([4, 0, 9]))) == 1.0


def test_the_miou_and_the_accuracy_are_those_of_torchmetrics() -> None:
    truth, guess = torch.randint(5, (2, 2, 9, 9), generator=torch.Generator().manual_seed(0))
    confusion = torch.bincount(5 * truth.flatten() + guess.flatten(), minlength=25).reshape(5, 5)
    assert mean_iou(confusion) == pytest.approx(float(multiclass_jaccard_index(guess, truth, 5)), rel=1e-6)
    assert pixel_accuracy(confusion) == pytest.approx(float((truth == guess).double().mean()), rel=1e-12)
    scores = torch.nn.functional.one_hot(guess, 5).movedim(-1, 1).float()
    for ignored in (None, 3):
        of_each = [multiclass_confusion_matrix(*pair, 5, ignore_index=ignored) for pair in zip(guess, truth)]
        assert torch.equal(confusion_counts(scores, truth.to(torch.uint8), ignored), torch.stack(of_each))
    assert confusion_counts(scores, torch.full_like(truth, 255), 255).sum() == 0


@pytest.mark.parametrize("score", [mean_iou, pixel_accuracy])
def test_a_score_of_no_labelled_pixel_is_refused(score) -> None:
    with pytest.raises(RunError, match="every label is the ignored one"):
        score(torch.zeros(3, 3))


# ---- pairs of pictures -------------------------------------------------------------------------------------


def test_psnr_and_ssim_are_scores_of_each_pair() -> None:
    real = torch.randint(60, 190, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    fake = torch.stack([real[0], real[1] + 5, real[2].flip(2)])
    found = psnr(real, fake)
    assert found.dtype == torch.float64 and found[0] == float("inf")
    assert float(found[1]) == pytest.approx(20 * np.log10(255 / 5), rel=1e-12)
    likeness = ssim(real, fake)
    assert (
        likeness.shape == (3,)
        and float(likeness[0]) == pytest.approx(1, abs=1e-12)
        and likeness[0] > likeness[1] > likeness[2]
    )
    torch.testing.assert_close(torch.cat([ssim(a[None], b[None]) for a, b in zip(real, fake)]), likeness)


# ---- losses ------------------------------------------------------------------------------------------------


def test_the_hinge_losses_have_the_values_worked_out_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert float(hinge_discriminator(real, fake)) == pytest.approx((0.25 + 1.0) / 2)
    assert float(hinge_generator(fake)) == pytest.approx(1.0)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 64)])
def test_the_dissimilarity_and_its_gradient_are_those_of_torchmetrics(height: int, width: int) -> None:
    a, b = torch.rand(2, 4, 3, height, width) * 2 - 1
    found = []
    for function in (
        dissimilarity,
        lambda a, b: (
            1
            - structural_similarity_index_measure(
                a + 1, b + 1, gaussian_kernel=False, kernel_size=7, data_range=2.0
            )
        ),
    ):
        a = a.detach().requires_grad_(True)
        loss = function(a, b)
        found.append((loss.detach(), *torch.autograd.grad(loss, a)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=1e-6)
    assert float((found[0][1] - found[1][1]).norm() / found[1][1].norm()) < 1e-5


def test_the_dissimilarity_of_a_picture_from_itself_is_zero_and_grows_with_noise() -> None:
    picture, noise = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = [
        float(dissimilarity(picture, (picture + share * noise).clamp(-1, 1))) for share in (0, 0.1, 0.5)
    ]
    assert values[0] == pytest.approx(0, abs=1e-6) and values[0] < values[1] < values[2] <= 2
