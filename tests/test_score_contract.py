"""What scores have to hold by every kind of extractor, the evaluator and one that a user might write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import spawned
from recipe_kit import begin
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.data import load_split, to_float, to_uint8
from raydistill.distributed import Workers
from raydistill.errors import DataError, DivergenceError
from raydistill.evaluation.evaluator_scores import evaluator_networks
from raydistill.evaluation.extractors import EXTRACTORS, Extractor, load_extractor
from raydistill.evaluation.measures import MEASURES
from raydistill.evaluation.picture_sets import Pictures, of_generator, of_split
from raydistill.evaluation.scorer import Scorer
from raydistill.evaluation.scoring import Score, require_same_conditions
from raydistill.evaluation.segmenters import Labels, labels_of
from raydistill.models import inputs, saved

CPU = torch.device("cpu")


class Means(nn.Module):
    """Features of pictures of any size: the mean of each channel in each quarter, 12 numbers."""

    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).flatten(1)


class Kit(NamedTuple):
    """A split with everything that its pictures are scored by."""

    real: Pictures
    fake: Pictures
    extractor: Extractor
    labels: tuple[Labels, ...]
    names: tuple[str, ...]
    """Of the scores by the extractor and the labels, without the split."""

    def scorer(self, workers: Workers = distributed.ALONE, split: str = "val", **values: Any) -> Scorer:
        kit = self._replace(**values)
        return Scorer(kit.real, split, [kit.extractor], kit.labels, workers)


def of_kind(kind: str, folder: Path, job: Job) -> tuple[Extractor, tuple[Labels, ...]]:
    """TorchScript's with a file of its own; the others as they are, but with a small network."""
    path = folder / "means.pt"
    if not path.exists():
        torch.jit.save(torch.jit.script(Means()), path)
    original = EXTRACTORS[kind]
    if kind == "torchscript":
        return load_extractor(f"torchscript={path}", CPU), ()
    EXTRACTORS[kind] = original._replace(load=lambda path, device: Means())
    try:
        return load_extractor(f"{kind}={path}", CPU), ()
    finally:
        EXTRACTORS[kind] = original


def of_evaluator(kind: str, folder: Path, job: Job) -> tuple[Extractor, tuple[Labels, ...]]:
    """The evaluator is a segmenter, too."""
    assert job.evaluator is not None
    split = load_split(job.data, "val")
    network = saved.load(job.evaluator, split.info, CPU)
    extractor, segmenter = evaluator_networks(network, job.evaluator.digest)
    return extractor, (labels_of(segmenter, split),)


def of_user(kind: str, folder: Path, job: Job) -> tuple[Extractor, tuple[Labels, ...]]:
    """The values of two pixels, as anyone could write it."""

    def network(pictures: Tensor) -> Tensor:
        return pictures[:, :, 3:5, 7].flatten(1).float()

    return Extractor("pixels", "fedcba98" * 8, "none", 6, network), ()


Make = Callable[[str, Path, Job], tuple[Extractor, tuple[Labels, ...]]]
"""(Kind, a folder for files, the job whose val is scored) -> extractor, and labels where it has some."""
CASES: dict[str, tuple[Make, tuple[str, ...]]] = {
    **{
        kind: (of_kind, (f"kd_{kind}", f"fd_{kind}", f"precision_{kind}", f"recall_{kind}"))
        for kind in ("inception", "squeezenet", "vgg16")
    },
    "torchscript": (
        of_kind,
        ("kd_script_means", "fd_script_means", "precision_script_means", "recall_script_means"),
    ),
    "evaluator": (
        of_evaluator,
        (
            *("miou", "pixel_accuracy"),
            *("kd_evaluator", "fd_evaluator", "precision_evaluator", "recall_evaluator"),
        ),
    ),
    "user": (of_user, ("kd_pixels", "fd_pixels", "precision_pixels", "recall_pixels")),
}
"""Kind of extractor -> what makes one, and the names of its scores without the split."""
every_kind = pytest.mark.parametrize("kind", CASES)


def kit_of(kind: str, folder: Path, job: Job) -> Kit:
    make, names = CASES[kind]
    (extractor, labels), split = make(kind, folder, job), load_split(job.data, "val")
    real = of_split(split, job.data, CPU)

    def read(indices: np.ndarray) -> Tensor:
        return to_uint8(1.3 * to_float(real.read(indices)).flip(3) - 0.1)

    return Kit(real, real._replace(name="fake", read=read), extractor, labels, names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scores")


@pytest.fixture(scope="module")
def job(one_thread: None, folder: Path) -> Job:
    """Eight pictures with labels, and an evaluator of random weights."""
    return begin(folder, "pix2pix")[0]


@pytest.fixture(scope="module")
def kits(folder: Path, job: Job) -> Callable[[str], Kit]:
    made: dict[str, Kit] = {}

    def kit(kind: str) -> Kit:
        if kind not in made:
            made[kind] = kit_of(kind, folder, job)
        return made[kind]

    return kit


def near(found: list[Score]) -> dict[str, Any]:
    """Values by name, to be compared up to the order of float32 sums."""
    return {score.name: pytest.approx(score.value, rel=1e-4, abs=1e-7) for score in found}


def values(found: list[Score]) -> dict[str, float | None]:
    return {score.name: score.value for score in found}


def test_every_kind_of_extractor_has_a_case() -> None:
    assert set(CASES) == set(EXTRACTORS) | {"evaluator", "user"}


@every_kind
def test_scores_are_named_after_split_measure_and_extractor_and_come_in_one_order(
    kits: Callable[[str], Kit], kind: str
) -> None:
    kit = kits(kind)
    found = kit.scorer(split="some").score(kit.fake)
    classes, distances = kit.names[:-4], kit.names[-4:]
    assert [score.name for score in found] == [
        f"some/{name}" for name in (*classes, "psnr", "ssim", *distances)
    ]
    assert all(score.split == "some" and score.interval is None for score in found)
    apart = [score.name for score in kit.scorer().score(kit.fake._replace(in_order_of_split=False))]
    assert apart == [f"val/{name}" for name in distances]


@every_kind
def test_the_same_pictures_have_the_same_scores(kits: Callable[[str], Kit], kind: str) -> None:
    kit = kits(kind)
    scorer = kit.scorer()
    found = scorer.score(kit.fake, num_resamples=20)
    assert found == scorer.score(kit.fake, num_resamples=20) == kit.scorer().score(kit.fake, num_resamples=20)
    assert all(score.interval is not None for score in found if "recall" not in score.name)
    assert values(found) == values(scorer.score(kit.fake))


@every_kind
def test_a_measure_that_is_asked_for_alone_is_the_same(kits: Callable[[str], Kit], kind: str) -> None:
    kit = kits(kind)
    scorer = kit.scorer()
    alone = [score for measure in MEASURES for score in scorer.score(kit.fake, [measure])]
    assert sorted(alone, key=str) == sorted(scorer.score(kit.fake), key=str)
    assert scorer.score(kit.fake, []) == []


@every_kind
def test_neither_the_order_of_pictures_nor_the_batches_matter_to_distances(
    kits: Callable[[str], Kit], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = kits(kind)
    given = kit.fake._replace(in_order_of_split=False)
    expected = kit.scorer().score(given)
    turned = given._replace(indices=given.indices[::-1].copy())
    assert values(kit.scorer().score(turned)) == near(expected)
    monkeypatch.setattr(inputs, "BATCH", 3)
    assert values(kit.scorer().score(given)) == near(expected)


@every_kind
def test_real_pictures_are_at_no_distance_from_themselves(kits: Callable[[str], Kit], kind: str) -> None:
    kit = kits(kind)
    found = {score.name: score for score in kit.scorer().score(kit.real)}
    distances = kit.names[-4:]
    size = float(kit.scorer().features[0].double().var(0).sum())
    assert abs(found[f"val/{distances[1]}"].value or 0.0) <= 1e-9 * size
    assert [found[f"val/{name}"].value for name in distances[2:]] == [1.0, 1.0]
    assert found["val/psnr"].value is None and found["val/ssim"].value == pytest.approx(1, abs=1e-12)
    for name in kit.names[:-4]:
        assert found[f"val/{name}"].value == found[f"val/{name}"].ceiling


@every_kind
def test_what_a_number_depends_on_is_in_its_conditions(kits: Callable[[str], Kit], kind: str) -> None:
    kit = kits(kind)
    fake = kit.fake._replace(in_order_of_split=False)
    first, *_ = found = kit.scorer().score(fake)
    others = {
        "split": kit.scorer(split="test"),
        "extractor": kit.scorer(extractor=kit.extractor._replace(sha256="0" * 64)),
        "resize": kit.scorer(extractor=kit.extractor._replace(resize="other")),
        "data": kit.scorer(real=kit.real._replace(digest="other")),
        "number": kit.scorer(real=kit.real.subset(5)),
    }
    statistics = {what: scorer.score(fake)[0].real_statistics for what, scorer in others.items()}
    assert len({first.real_statistics, *statistics.values()}) == 1 + len(others)
    require_same_conditions(found, kit.scorer().score(fake), "here")
    for what, scorer in others.items():
        same_name = [score.model_copy(update={"name": first.name}) for score in scorer.score(fake)[:1]]
        with pytest.raises(DataError, match="mixed digests"):
            require_same_conditions([first], same_name, what)
    with pytest.raises(DataError, match="measured with num_samples 5, here with 8"):
        require_same_conditions(found, kit.scorer().score(fake.subset(5)), "here")


# ---- several workers ---------------------------------------------------------------------------------------


def work(rank: int, folder: Path, text: str) -> None:
    """One of two workers: all that they score, in a file of its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    job, workers, found = Job.model_validate_json(text), distributed.current(), {}
    for kind in CASES:
        kit = kit_of(kind, folder, job)
        found[kind] = kit.scorer(workers).score(kit.fake, num_resamples=20)
        five = kit.real.subset(5)
        found[f"{kind} of five"] = kit.scorer(workers, real=five).score(
            kit.fake._replace(in_order_of_split=False)
        )
        try:
            kit.scorer(workers).score(broken_for(job))
        except DivergenceError as error:
            found[f"{kind} broken"] = str(error)
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def broken_for(job: Job) -> Pictures:
    """A generator whose last picture, which is the second worker's, is not finite."""
    split = load_split(job.data, "val")
    last = inputs.evaluation_batch(split, None, np.array([len(split) - 1]), CPU).inputs

    def generate(given: Tensor) -> Tensor:
        is_last = (given == last).flatten(1).all(1)
        return torch.where(is_last.view(-1, 1, 1, 1), torch.nan, given[:, :3])

    return of_generator("broken", "", generate, split, CPU)


@pytest.fixture(scope="module")
def by_two(folder: Path, job: Job, kits: Callable[[str], Kit]) -> list[dict[str, Any]]:
    """What each of two workers found."""
    for kind in CASES:
        kits(kind)  # writes the files
    spawned(work, (folder, job.model_dump_json()), 2)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


@every_kind
def test_two_workers_find_the_numbers_of_one(
    kits: Callable[[str], Kit], by_two: list[dict[str, Any]], kind: str
) -> None:
    kit = kits(kind)
    five = kit.scorer(real=kit.real.subset(5)).score(kit.fake._replace(in_order_of_split=False))
    for name, alone in ((kind, kit.scorer().score(kit.fake, num_resamples=20)), (f"{kind} of five", five)):
        first, second = (found[name] for found in by_two)
        assert first == second
        assert values(first) == near(alone)
        for one, several in zip(alone, first, strict=True):
            assert (several.interval or ()) == pytest.approx(one.interval or (), rel=1e-4, abs=1e-7)
        kept = {"value": None, "interval": None}
        assert [score.model_copy(update=kept) for score in first] == [
            score.model_copy(update=kept) for score in alone
        ]


@every_kind
def test_a_broken_picture_of_one_worker_ends_the_scoring_of_both(
    by_two: list[dict[str, Any]], kind: str
) -> None:
    says = "broken: a generated picture has NaN or infinity; rounded, it would pass for black"
    assert [found[f"{kind} broken"] for found in by_two] == [says, says]


def test_more_workers_than_pictures_are_refused(kits: Callable[[str], Kit]) -> None:
    with pytest.raises(DataError, match="real pictures: 8 pictures for 9 workers"):
        kits("user").scorer(Workers(0, 9))
