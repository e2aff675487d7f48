"""Every family on real pictures: a teacher, then students of three widths by VEM, better than at the
start. `pytest -s -m slow`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from raydistill import models
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import validated, with_values
from raydistill.config.presets import PRESETS
from raydistill.config.term_presets import recommended_vem
from raydistill.data import load_split, prepare, read_info
from raydistill.distributed import Workers
from raydistill.evaluation.extractors import load_extractor
from raydistill.evaluation.picture_sets import of_generator, of_split
from raydistill.evaluation.scorer import Scorer
from raydistill.models import cost, saved
from raydistill.models.inputs import latent_size
from raydistill.records import pareto
from raydistill.training import assembly, recipes
from raydistill.training.recipes import Setup
from raydistill.trials.run_job import perform
from raydistill.trials.stages import Stages, network_of, train_stages

DATA = Path(__file__).parents[2] / "shared" / "data"


class Case(NamedTuple):
    preset: str
    given: Callable[[Path], Path]
    """A folder to write to -> the data set."""
    quality: str
    """Of the front."""
    teacher: int
    students: tuple[int, int, int]
    """Base widths."""
    values: dict[str, Any]


def day_and_dusk(folder: Path) -> Path:
    """trainA: the frames by day, trainB: those by dusk."""
    for domain, names in zip(
        "AB",
        (json.loads((DATA / "camvid" / "domains_day_dusk.json").read_text())[key] for key in ("day", "dusk")),
    ):
        (folder / f"train{domain}").mkdir(parents=True)
        for name in names:
            (folder / f"train{domain}" / Path(name).name).symlink_to(DATA / "camvid" / name)
    return folder


def budgets(evaluator: int, teacher: int, student: int) -> dict[str, int]:
    images = {"evaluator": evaluator, "teacher": teacher, "student": student}
    return {f"{stage}.budget_nimg": number for stage, number in images.items()} | {
        f"{stage}.report_every_nimg": number for stage, number in images.items()
    }


CASES = {
    "pix2pix": Case(
        "labelled",
        lambda folder: DATA / "camvid",
        "val/miou",
        10,
        (3, 5, 8),
        budgets(4_000, 2_400, 8_000) | {"data.height": 36, "data.width": 48},
    ),
    "enhance": Case(
        "enhance",
        lambda folder: DATA / "camvid",
        "val/psnr",
        16,
        (4, 8, 12),
        budgets(800, 1_600, 480) | {"data.height": 48, "data.width": 64},
    ),
    "sagan": Case(
        "sagan",
        lambda folder: DATA / "fashion_mnist_sprite" / "fashion900.npz",
        "val/kd_squeezenet",
        16,
        (8, 10, 12),
        budgets(6_000, 10_000, 4_800),
    ),
    "stylegan2": Case(
        "stylegan2",
        lambda folder: DATA / "noto_emoji" / "noto_emoji_64.zip",
        "val/kd_squeezenet",
        4,
        (1, 2, 3),
        budgets(8_000, 12_000, 1_600),
    ),
    "cyclegan": Case(
        "cyclegan",
        day_and_dusk,
        "val/kd_evaluator",
        8,
        (2, 3, 5),
        budgets(3_200, 1_600, 4_000) | {"data.height": 36, "data.width": 48},
    ),
}


LOOKED_AT = {"val/miou": ("val/miou", "val/kd_evaluator"), "val/psnr": ("val/psnr", "val/ssim")}
"""What must be better than at the start, where it is more than the quality of the front. An untrained
enhancement network puts out its
input, enlarged: a distance of features starts low."""


def widened(training: Any, ngf: int) -> Any:
    generator = training.generator
    widths = validated(type(generator.widths), generator.widths.values_at(ngf), where=f"base width {ngf}")
    return training.model_copy(update={"generator": generator.model_copy(update={"widths": widths})})


def experiment_of(case: Case, folder: Path) -> Experiment:
    base = with_values(
        PRESETS[case.preset](),
        {"data.root": str(case.given(folder / "pictures"))} | case.values,
        where="test",
    )
    student = base.student.model_copy(update={"terms": {"mi": recommended_vem()}})
    return base.model_copy(update={"teacher": widened(base.teacher, case.teacher), "student": student})


CPU, ALONE = torch.device("cpu"), Workers(0, 1)


def scores_at_the_start(job: Job, case: Case) -> dict[str, float]:
    recipe = assembly.build(job, Setup(load_split(job.data, "train").info, CPU, ALONE))
    network = recipe.networks["generator"].eval()
    return recipe.evaluate(network) | seen_by_squeezenet(job, network, case)


@torch.no_grad()
def seen_by_squeezenet(job: Job, network: Any, case: Case) -> dict[str, float]:
    """A kernel distance of ImageNet features on the first 128 pictures of val. Our small evaluators have
    never seen anything but real pictures:
    to them an untrained StyleGAN2 is as near as a trained one."""
    if case.quality != "val/kd_squeezenet":
        return {}
    split = load_split(job.data, "val")
    extractor = load_extractor(f"squeezenet={DATA / 'squeezenet_dc' / 'compressed_SqueezeNet.net'}", CPU)
    latent = latent_size(job.training.generator)  # type: ignore[attr-defined]
    real, made = of_split(split, job.data, CPU), of_generator("made", "", network, split, CPU, latent)
    first, fake = (each._replace(indices=each.indices[:128]) for each in (real, made))
    (score,) = Scorer(first, "val", [extractor]).score(fake, ["kd"])
    assert score.value is not None
    return {score.name: score.value}


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", CASES)
def test_a_family_trains_as_teacher_and_as_students_on_real_pictures(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    if not DATA.is_dir():
        pytest.skip("the shared data sets are not beside the project")
    experiment = experiment_of(case, tmp_path)
    data = prepare(experiment.data, tmp_path / "data", **recipes.data_needs(experiment.teacher))
    stages = train_stages(experiment, data, tmp_path, lambda numbers: print(name, numbers, flush=True))
    jobs = {
        f"teacher {case.teacher}": Job(training=experiment.teacher, data=data, evaluator=stages.evaluator)
    }
    jobs |= {
        f"student {ngf}": Job(
            training=widened(experiment.student, ngf),
            data=data,
            evaluator=stages.evaluator,
            teacher=stages.teacher,
        )
        for ngf in case.students
    }
    rows = [
        measured(label, job, stages, tmp_path / label.replace(" ", "-"), case) for label, job in jobs.items()
    ]
    print_table(name, case, rows, stages.evaluator_result.metrics, str(stages.teacher.path))


class Row(NamedTuple):
    label: str
    macs: int
    params: int
    first: dict[str, float]
    last: dict[str, float]
    wall_sec: float


def measured(label: str, job: Job, stages: Stages, folder: Path, case: Case) -> Row:
    is_teacher = label.startswith("teacher")
    folder = Path(stages.teacher.path).parent if is_teacher else folder
    result = stages.teacher_result if is_teacher else perform(job, folder, lambda numbers: None)
    assert result.status == "COMPLETE", result.reason
    network = saved.load(network_of(folder, result), read_info(job.data), CPU)
    first, last = (
        scores_at_the_start(job, case),
        {name: value for name, value in result.metrics.items() if name.startswith("val/")},
    )
    last |= seen_by_squeezenet(job, network, case)
    assert all(abs(value) < float("inf") for value in result.metrics.values())
    for quality in LOOKED_AT.get(case.quality, (case.quality,)):
        is_rising = quality in ("val/miou", "val/psnr", "val/ssim")
        assert last[quality] > first[quality] if is_rising else last[quality] < first[quality], (
            label,
            quality,
            first,
            last,
        )
    info, config = read_info(job.data), job.training.generator  # type: ignore[attr-defined]
    family = models.GENERATORS[config.family]
    size = info.input_size if family.takes == "picture" else (info.height, info.width)
    layers = family.layers(config, info.input_channels, *size)
    return Row(label, cost.macs(layers), cost.params(layers), first, last, result.wall_sec)


def print_table(name: str, case: Case, rows: list[Row], evaluator: dict[str, float], teacher: str) -> None:
    direction: pareto.Direction = "max" if case.quality in ("val/miou", "val/psnr") else "min"
    front = pareto.members([(row.last[case.quality], row.macs) for row in rows[1:]], [direction, "min"])
    names = sorted(rows[0].last)
    print(
        f"\n{name}: evaluator {evaluator}; teacher in {teacher}\n| network | MACs | params | "
        f"{' | '.join(names)} | s | front |"
    )
    for row, member in zip(rows, [False, *front]):
        cells = " | ".join(f"{row.first[key]:.4f} -> {row.last[key]:.4f}" for key in names)
        print(
            f"| {row.label} | {row.macs:,} | {row.params:,} | {cells} | {row.wall_sec:.0f} | "
            f"{'*' if member else ''} |"
        )
