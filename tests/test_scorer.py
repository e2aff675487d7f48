"""Scores of a generator during its training: against sums over pictures, whatever the batches."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from recipe_kit import begin
from torch import Tensor

from raydistill.config.base import digest
from raydistill.config.experiment import Job
from raydistill.data import load_split, noise, to_float, to_uint8
from raydistill.errors import DivergenceError
from raydistill.evaluation import metrics
from raydistill.evaluation.evaluator_scores import EvaluatorScorer, score_real
from raydistill.evaluation.extractors import Extractor
from raydistill.evaluation.picture_sets import Pictures
from raydistill.evaluation.scoring import statistics_digest
from raydistill.models import inputs, saved
from raydistill.models.evaluator import EvaluatorOutput, PixelEvaluator
from raydistill.seeds import numpy_stream, stream_key, torch_stream

CPU = torch.device("cpu")
Jobs = Callable[[str], Job]


@pytest.fixture(scope="module")
def jobs(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Recipe -> a job with data and an evaluator of random weights."""
    made: dict[str, Job] = {}

    def job_of(name: str) -> Job:
        if name not in made:
            made[name] = begin(tmp_path_factory.mktemp(name), name)[0]
        return made[name]

    return job_of


def scorer_of(job: Job, **values: Any) -> EvaluatorScorer:
    assert job.evaluator is not None
    return EvaluatorScorer(job.data, job.evaluator, "val", CPU, **values)


def made_of(real: Pictures, change: Callable[[Tensor], Tensor]) -> Pictures:
    """What `change` makes of the real pictures (B, 3, H, W) in [-1, 1], rounded to 8 bits."""
    return real._replace(read=lambda indices: to_uint8(change(to_float(real.read(indices)))))


def shaded(real: Tensor) -> Tensor:
    """Pictures that depend on the real ones, with values out of range."""
    return 1.3 * real.flip(3) - 0.1


def nine_values(pictures: Tensor) -> Tensor:
    return pictures[:, :, 4, 4:7].flatten(1).float()


def test_a_generator_of_label_maps_is_scored_by_distances_and_classes(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures are rounded to 8 bits first; batches of three change nothing."""
    job = jobs("pix2pix")
    assert job.evaluator is not None
    split = load_split(job.data, "val")
    evaluator = saved.load(job.evaluator, split.info, CPU)
    real = torch.from_numpy(np.array(split.targets)).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.array(split.labels)).long()
    with torch.no_grad():
        shown = to_uint8(1.3 * to_float(real).flip(3) - 0.1)
        of_real, of_fake = (evaluator(to_float(each)) for each in (real, shown))
    confusion = torch.zeros(8, 8)
    for truth, guess in zip(labels.flatten().tolist(), of_fake.prediction.argmax(1).flatten().tolist()):
        confusion[truth, guess] += 1
    expected = {
        "val/miou": metrics.mean_iou(confusion),
        "val/kd_evaluator": metrics.kernel_distance(of_real.features, of_fake.features),
        "val/fd_evaluator": metrics.frechet_distance(of_real.features, of_fake.features),
    }
    for size in (64, 3):
        monkeypatch.setattr(inputs, "BATCH", size)
        scorer = scorer_of(job)
        found = scorer.numbers(made_of(scorer.real, shaded))
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-7), name
    context = scorer_of(job).context
    assert (context["num_samples"], context["num_features"], context["biased"]) == (8, 4, False)
    statistics = digest([job.data.digest, job.evaluator.digest, "none", "val", 8])
    assert (
        context["real_statistics"]
        == statistics
        == statistics_digest(job.data.digest, job.evaluator.digest, "none", "val", 8)
    )


def test_a_generator_of_pictures_is_scored_by_likeness_of_which_a_perfect_one_counts_100_db(
    jobs: Jobs,
) -> None:
    job = jobs("enhance")
    real = torch.from_numpy(np.array(load_split(job.data, "val").targets)).permute(0, 3, 1, 2)

    def first_is_perfect(part: Tensor) -> Tensor:
        return torch.cat([part[:1], shaded(part)[1:]])

    shown = torch.cat([real[:1], to_uint8(1.3 * to_float(real).flip(3) - 0.1)[1:]])
    scorer = scorer_of(job)
    found = scorer.numbers(made_of(scorer.real, first_is_perfect))
    assert list(found) == ["val/miou", "val/psnr", "val/ssim", "val/kd_evaluator", "val/fd_evaluator"]
    peaks = metrics.psnr(real, shown)
    assert peaks[0] == float("inf")
    assert found["val/psnr"] == pytest.approx((100 + float(peaks[1:].sum())) / len(real), rel=1e-6)
    assert found["val/ssim"] == pytest.approx(float(metrics.ssim(real, shown).mean()), rel=1e-6)
    assert job.evaluator is not None
    of_real = score_real(job.data, job.evaluator, "val", CPU)
    assert of_real["val/psnr"] == 100.0 and abs(of_real["val/fd_evaluator"]) < 1e-9


def test_the_evaluator_sees_a_batch_once_and_what_it_says_goes_with_the_batch(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives features and classes. 8 pictures are batches of 3, 3 and 2."""
    job, num_seen, outputs = jobs("pix2pix"), [], []
    forward = PixelEvaluator.forward

    def counted(network: PixelEvaluator, pictures: Tensor) -> EvaluatorOutput:
        num_seen.append(len(pictures))
        output = forward(network, pictures)
        outputs.append(weakref.ref(output.prediction))
        return output

    monkeypatch.setattr(PixelEvaluator, "forward", counted)
    monkeypatch.setattr(inputs, "BATCH", 3)
    scorer = scorer_of(job)
    assert num_seen == [3, 3, 2]
    scorer.numbers(made_of(scorer.real, shaded))
    assert num_seen == [3, 3, 2] * 2
    assert [output() for output in outputs] == [None] * 6


def test_further_extractors_add_their_distances_and_stand_in_the_context(jobs: Jobs) -> None:
    job = jobs("pix2pix")
    assert job.evaluator is not None
    alone, one = scorer_of(job), Extractor("one", "1" * 64, "bilinear", 9, nine_values)
    both = EvaluatorScorer(job.data, job.evaluator, "val", CPU, extractors=[one])
    found = both.numbers(made_of(both.real, shaded))
    expected = alone.numbers(made_of(alone.real, shaded))
    assert found == expected | {name: found[name] for name in ("val/kd_one", "val/fd_one")}
    statistics = [
        alone.context["real_statistics"],
        statistics_digest(job.data.digest, "1" * 64, "bilinear", "val", 8),
    ]
    assert both.context == alone.context | {
        "extractor": "evaluator, one",
        "resize": "none, bilinear",
        "num_features": 9,
        "biased": True,
        "real_statistics": digest(statistics),
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_picture_that_is_not_finite_ends_the_evaluation(jobs: Jobs, value: float) -> None:
    def broken(inputs: Tensor) -> Tensor:
        output = torch.zeros(len(inputs), 3, *inputs.shape[2:])
        output[-1, 0, 0, 0] = value
        return output

    with pytest.raises(DivergenceError, match="a generated picture is not finite"):
        scorer_of(jobs("pix2pix")).generator(broken)


def test_noise_of_an_evaluation_is_keyed_by_the_index_of_the_picture(jobs: Jobs) -> None:
    """It is the same for every seed; of a generator that takes noise there are neither classes nor pairs."""
    seen: list[Tensor] = []

    def generate(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return inputs.tanh()[:, :3, None, None].expand(-1, -1, 16, 16)

    found = scorer_of(jobs("pix2pix"), latent=5).generator(generate)
    assert set(found) == {"val/kd_evaluator", "val/fd_evaluator"}
    expected = noise.normal(noise.image_keys(0, "latent/evaluation", range(8)), (5,))
    assert torch.equal(torch.cat(seen), expected)


# ---- streams -----------------------------------------------------------------------------------------------


def test_the_key_of_a_stream_is_that_of_every_version() -> None:
    """From the SHA-256 of seed, purpose and image: trainings of other versions are repeated by it."""
    assert stream_key(0, "order", 0) == 3955691223199900983
    assert stream_key(3, "langevin", 128) == 4100318154832657268
    keys = {stream_key(*each) for each in ((0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a"))}
    assert len(keys) == 5 and max(keys) < 2**63
    assert numpy_stream(1, "a", 2).random() == np.random.default_rng(stream_key(1, "a", 2)).random()
    drawn = torch.randn(3, generator=torch.Generator().manual_seed(stream_key(1, "a", 2)))
    assert torch.equal(torch.randn(3, generator=torch_stream(1, "a", 2)), drawn)
