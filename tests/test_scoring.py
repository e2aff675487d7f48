"""Scores of sets of pictures by networks of a few numbers: values, intervals, conditions, refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.config.base import digest
from raydistill.distributed import Workers
from raydistill.errors import DataError, DivergenceError, RunError
from raydistill.evaluation import bootstrap, metrics
from raydistill.evaluation.extractors import Extractor
from raydistill.evaluation.metrics import Moments, confusion_counts
from raydistill.evaluation.picture_sets import Pictures
from raydistill.evaluation.scorer import Scorer, require_finite
from raydistill.evaluation.scoring import Score, require_same_conditions, statistics_digest
from raydistill.evaluation.segmenters import Labels, Segmenter

NUM, SIDE, RESAMPLES = 9, 12, 40


def pictures(seed: int, num: int = NUM, side: int = SIDE, grey: bool = False) -> Tensor:
    drawn = torch.randint(
        0, 256, (num, 1 if grey else 3, side, side), generator=torch.Generator().manual_seed(seed)
    )
    return drawn.expand(-1, 3, -1, -1).to(torch.uint8)


def set_of(shown: Tensor, name: str = "set", **values: Any) -> Pictures:
    return Pictures(
        name, f"digest of {name}", np.arange(len(shown)), lambda indices: shown[indices], **values
    )


def means(shown: Tensor) -> Tensor:
    """Features: the mean of each channel and the value of one pixel."""
    return torch.cat([shown.float().mean((2, 3)), shown[:, :1, 0, 0].float()], 1) / 255


EXTRACTOR = Extractor("means", "0123456789abcdef" * 4, "bilinear", 4, means)
REAL, FAKE = pictures(0), pictures(1)


def scored(
    real: Tensor, fake: Tensor, labels: tuple[Labels, ...] = (), resamples: int = 0, **values: Any
) -> dict[str, Score]:
    scorer = Scorer(set_of(real, "real"), "val", [EXTRACTOR], labels)
    found = scorer.score(set_of(fake, "fake", **values), num_resamples=resamples)
    return {score.name: score for score in found}


def test_distances_are_those_of_the_features_with_real_and_fake_in_their_places() -> None:
    found = scored(REAL, FAKE[:7], resamples=RESAMPLES)
    real, fake = means(REAL), means(FAKE[:7])
    precise, recalled = metrics.precision_recall(real, fake, 3)
    assert list(found) == ["val/kd_means", "val/fd_means", "val/precision_means", "val/recall_means"]
    expected = {
        "val/kd_means": metrics.kernel_distance(real, fake),
        "val/fd_means": metrics.frechet_distance(real, fake),
        "val/precision_means": precise.double().mean().item(),
        "val/recall_means": recalled.double().mean().item(),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-9), name
    counts = bootstrap.resample(7, RESAMPLES)
    intervals = {
        "val/kd_means": bootstrap.kernel_distances(real, fake, counts),
        "val/fd_means": bootstrap.frechet_distances(Moments.of(real), fake, counts),
        "val/precision_means": bootstrap.means(precise, counts),
    }
    for name, replicates in intervals.items():
        assert found[name].interval == pytest.approx(bootstrap.interval(expected[name], replicates)), name
    assert found["val/recall_means"].interval is None
    assert all(score.interval is None for score in scored(REAL, FAKE).values())


def test_precision_needs_more_pictures_than_neighbours() -> None:
    assert set(scored(REAL, FAKE[:4])) > {"val/precision_means"}
    assert set(scored(REAL, FAKE[:3])) == set(scored(REAL[:3], FAKE)) == {"val/kd_means", "val/fd_means"}


@pytest.mark.parametrize(
    ("num_real", "num_fake", "expected"), [(9, 5, False), (9, 4, True), (4, 9, True), (5, 9, False)]
)
def test_a_frechet_distance_is_biased_where_either_set_has_no_more_pictures_than_features(
    num_real: int, num_fake: int, expected: bool
) -> None:
    found = scored(REAL[:num_real], FAKE[:num_fake])
    assert {name for name, score in found.items() if score.biased} == (
        {"val/fd_means"} if expected else set()
    )


def test_what_decides_about_a_number_stands_beside_it() -> None:
    score = scored(REAL, FAKE[:7])["val/fd_means"]
    assert (score.num_samples, score.num_real, score.split, score.resize) == (7, 9, "val", "bilinear")
    assert score.extractor_digest == "0123456789abcdef" and score.extractor.startswith(
        "weights of unknown digest"
    )
    assert score.real_statistics == statistics_digest(
        "digest of real", EXTRACTOR.sha256, "bilinear", "val", 9
    )
    facts = [("d", "e", "r", "s", 1), ("x", "e", "r", "s", 1), ("d", "x", "r", "s", 1)]
    facts += [("d", "e", "x", "s", 1), ("d", "e", "r", "x", 1), ("d", "e", "r", "s", 2)]
    assert len({statistics_digest(*each) for each in facts}) == 6


def test_pictures_in_the_order_of_the_split_are_compared_one_by_one() -> None:
    found = scored(REAL, FAKE, resamples=RESAMPLES, in_order_of_split=True)
    counts = bootstrap.resample(NUM, RESAMPLES)
    for name, measure in (("val/psnr", metrics.psnr), ("val/ssim", metrics.ssim)):
        values = measure(REAL, FAKE)
        assert found[name].value == pytest.approx(values.mean().item(), rel=1e-9)
        assert found[name].interval == pytest.approx(
            bootstrap.interval(values.mean().item(), bootstrap.means(values, counts))
        )
        assert (
            found[name].real_statistics == digest(["digest of real", "val", NUM])
            and not found[name].extractor
        )
    assert list(found)[:2] == ["val/psnr", "val/ssim"]
    small = scored(pictures(0, side=10), pictures(1, side=10), in_order_of_split=True)
    assert "val/psnr" in small and "val/ssim" not in small
    equal = scored(REAL, torch.cat([REAL[:1], FAKE[1:]]), resamples=RESAMPLES, in_order_of_split=True)
    assert equal["val/psnr"].value is None and equal["val/psnr"].interval is None
    assert equal["val/ssim"].value is not None and equal["val/ssim"].interval is not None


# ---- classes -----------------------------------------------------------------------------------------------


def class_scores(shown: Tensor) -> Tensor:
    """Three classes, the brightest channel in each quarter of a picture: at half its size."""
    return torch.nn.functional.avg_pool2d(shown.float(), 2)


TRUTH = torch.randint(0, 3, (NUM, SIDE, SIDE), generator=torch.Generator().manual_seed(4))
TRUTH[:, :2] = 255
LABELS = Labels(
    Segmenter("_seg", "a segmenter", "5e9", class_scores), lambda index: TRUTH[index], 3, 255, "bilinear"
)


def confusion_of(shown: Tensor, index: int) -> Tensor:
    """[truth, prediction] of one picture, pixel by pixel; without the ignored ones."""
    scores = torch.nn.functional.interpolate(
        class_scores(shown[index : index + 1]), (SIDE, SIDE), mode="bilinear"
    )[0]
    counts = torch.zeros(3, 3, dtype=torch.int64)
    for row in range(SIDE):
        for column in range(SIDE):
            truth = int(TRUTH[index, row, column])
            if truth != 255:
                counts[truth, int(scores[:, row, column].argmax())] += 1
    return counts


def test_classes_are_counted_over_all_pictures_and_their_ceiling_is_that_of_the_real_ones() -> None:
    found = scored(REAL, FAKE, (LABELS,), RESAMPLES, in_order_of_split=True)
    each, of_real = (
        torch.stack([confusion_of(shown, index) for index in range(NUM)]) for shown in (FAKE, REAL)
    )
    counts = bootstrap.resample(NUM, RESAMPLES)
    assert list(found)[:4] == ["val/miou_seg", "val/pixel_accuracy_seg", "val/psnr", "val/ssim"]
    for name, measure in (("miou", metrics.mean_iou), ("pixel_accuracy", metrics.pixel_accuracy)):
        score = found[f"val/{name}_seg"]
        assert score.value == pytest.approx(measure(each.sum(0)), rel=1e-12)
        assert score.ceiling == pytest.approx(measure(of_real.sum(0)), rel=1e-12)
        resampled = [measure((row[:, None, None] * each).sum(0)) for row in counts]
        assert score.interval == pytest.approx(
            bootstrap.interval(score.value, torch.tensor(resampled).double())
        )
        assert (score.extractor, score.extractor_digest, score.resize) == ("a segmenter", "5e9", "bilinear")
        assert (score.num_samples, score.num_real) == (NUM, NUM)


def test_a_subset_meets_its_own_labels() -> None:
    part = set_of(REAL, "real")._replace(indices=np.array([1, 4, 8]))
    given = Pictures("fake", "d", np.array([1, 4, 8]), lambda indices: FAKE[indices], in_order_of_split=True)
    found = {score.name: score for score in Scorer(part, "val", [], [LABELS]).score(given)}
    expected = metrics.mean_iou(sum(confusion_of(FAKE, index) for index in (1, 4, 8)))
    assert found["val/miou_seg"].value == pytest.approx(expected, rel=1e-12)
    assert found["val/psnr"].num_samples == 3


def test_counts_are_of_truth_and_prediction_in_this_order() -> None:
    scores = torch.tensor([[[[0.9, 0.9]], [[0.1, 0.1]]]])
    assert confusion_counts(scores, torch.tensor([[[1, 1]]]), None).tolist() == [[[0, 0], [2, 0]]]


def test_resamples_of_one_picture_alone_count_in_no_interval_of_a_kernel_distance() -> None:
    found = scored(REAL[:2], FAKE[:2], resamples=RESAMPLES)["val/kd_means"]
    replicates = bootstrap.kernel_distances(
        means(REAL[:2]), means(FAKE[:2]), bootstrap.resample(2, RESAMPLES)
    )
    kept = replicates[~replicates.isnan()]
    assert 0 < len(kept) < RESAMPLES and found.value is not None
    assert found.interval == pytest.approx(bootstrap.interval(found.value, kept))


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "fake", "values", "says"),
    [
        (REAL, FAKE[:1], {}, "fake: 1 pictures against 9 real ones. Needed: 2 or more of each"),
        (REAL[:1], FAKE, {}, "fake: 9 pictures against 1 real ones"),
        (REAL, FAKE[:8], {"in_order_of_split": True}, "8 pictures are no pairs with 9 real ones"),
        (REAL, pictures(1, side=10), {}, "pictures of 10x10, the real ones have 12x12"),
        (REAL, pictures(1, grey=True), {"is_grey": True}, "grey pictures, the real ones are in colour"),
    ],
    ids=["one fake", "one real", "no pairs", "other size", "grey"],
)
def test_sets_that_cannot_be_compared_are_refused(
    real: Tensor, fake: Tensor, values: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        scored(real, fake, **values)
    assert says in str(caught.value)


def test_grey_pictures_may_be_compared_with_grey_ones_and_two_are_enough() -> None:
    assert scored(pictures(0, 2, grey=True), pictures(1, 2, grey=True), is_grey=True)


def test_features_that_are_not_finite_and_other_classes_are_refused() -> None:
    broken = EXTRACTOR._replace(network=lambda shown: means(shown) / 0)
    with pytest.raises(RunError, match="set: features of means contain NaN or infinity"):
        Scorer(set_of(REAL), "val", [broken])
    with pytest.raises(DataError, match="a segmenter: scores of 3 classes, the data has 4"):
        Scorer(set_of(REAL), "val", [], [LABELS._replace(num_classes=4)])
    assert Scorer(set_of(REAL), "val").features == []


def test_features_come_in_the_order_of_the_pictures_over_all_batches() -> None:
    many = pictures(3, num=150, side=2)
    (found,) = Scorer(set_of(many), "val", [EXTRACTOR]).features
    assert torch.equal(found, means(many)) and found.dtype == torch.float32


def test_a_broken_picture_ends_a_training() -> None:
    require_finite(torch.tensor([0.0]), "a picture is not finite", Workers(0, 1))
    with pytest.raises(DivergenceError, match=r"^a picture is not finite$"):
        require_finite(torch.tensor([1.0]), "a picture is not finite", Workers(0, 1))


@pytest.mark.parametrize(
    "condition", ["num_samples", "num_real", "extractor_digest", "resize", "split", "real_statistics"]
)
def test_numbers_under_other_conditions_cannot_be_compared(condition: str) -> None:
    score = Score(
        name="val/fd_means",
        value=1.0,
        interval=None,
        num_samples=2,
        num_real=3,
        split="val",
        real_statistics="r",
    )
    other = score.model_copy(update={condition: 7 if condition.startswith("num") else "other"})
    require_same_conditions([score], [score.model_copy(update={"value": 2.0, "biased": True})], "here")
    require_same_conditions([score], [other.model_copy(update={"name": "val/kd_means"})], "here")
    with pytest.raises(DataError, match=f"here: mixed digests: val/fd_means was measured with {condition}"):
        require_same_conditions([score], [other], "here")
