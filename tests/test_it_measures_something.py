"""The default task can tell students apart: three seeds, real training. Run with `pytest -s -m slow`;
about 5 minutes on 2 cores."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from raydistill.config.architectures import ResnetWidths
from raydistill.config.experiment import Job
from raydistill.config.presets import shapes32
from raydistill.config.space import load_space
from raydistill.config.training import DistillTraining, Pix2pixTraining, Training
from raydistill.data import prepare
from raydistill.trials.run_job import perform
from raydistill.trials.stages import Stages, train_stages

SEEDS = (0, 1, 2)


def narrowed(training: Training, ngf: int, seed: int, **changes: object) -> Training:
    assert isinstance(training, DistillTraining | Pix2pixTraining)
    generator = training.generator.model_copy(update={"widths": ResnetWidths.uniform(ngf)})
    return training.model_copy(update={"generator": generator, "seed": seed, **changes})


def train_one(job: Job, folder: Path) -> dict[str, float]:
    torch.set_num_threads(1)
    result = perform(job, folder, lambda numbers: None)
    assert result.status == "COMPLETE", result.reason
    return {"miou": result.metrics["val/miou"], "wall_sec": result.wall_sec}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stages, dict[str, list[dict[str, float]]]]:
    """val mIoU and seconds of each kind of student for each seed, beside their evaluator and teacher."""
    experiment, folder = shapes32(), tmp_path_factory.mktemp("measured")
    data = prepare(experiment.data, folder / "data")
    torch.set_num_threads(2)
    stages = train_stages(experiment, data, folder, lambda numbers: None)
    plain = experiment.student.model_copy(
        update={"terms": {"mi": experiment.student.terms["mi"].model_copy(update={"weight": 0.0})}}
    )
    widths = load_space("default").uniform
    shared = {
        name: getattr(plain, name)
        for name in ("batch_size", "budget_nimg", "report_every_nimg", "ema_nimg", "flip")
    }
    kinds = {f"uniform {ngf}": lambda seed, ngf=ngf: narrowed(plain, ngf, seed) for ngf in widths}
    kinds["no teacher"] = lambda seed: narrowed(experiment.teacher, min(widths), seed, **shared)
    jobs = {}
    for name, training in kinds.items():
        for seed in SEEDS:
            teacher = None if name == "no teacher" else stages.teacher
            jobs[name, seed] = Job(
                training=training(seed), data=data, evaluator=stages.evaluator, teacher=teacher
            )
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        futures = {key: pool.submit(train_one, job, folder / job.key) for key, job in jobs.items()}
        results = {name: [futures[name, seed].result() for seed in SEEDS] for name in kinds}
        # Distillation's steps are cheaper: with the seconds that the student without a teacher had, it sees
        # more images.
        narrow, alone = results[f"uniform {min(widths)}"], results["no teacher"]
        pace = sum(run["wall_sec"] for run in alone) / sum(run["wall_sec"] for run in narrow)
        budget = int(plain.budget_nimg * pace) // plain.batch_size * plain.batch_size
        longer = [narrowed(plain, min(widths), seed, budget_nimg=budget) for seed in SEEDS]
        again = [
            Job(training=training, data=data, evaluator=stages.evaluator, teacher=stages.teacher)
            for training in longer
        ]
        results["equal time"] = [
            future.result() for future in [pool.submit(train_one, job, folder / job.key) for job in again]
        ]
    print(
        f"\nceiling {stages.evaluator_result.metrics['val/miou']:.4f}, teacher "
        f"{stages.teacher_result.metrics['val/miou']:.4f}"
    )
    for name, runs in results.items():
        shown = " ".join(f"{run['miou']:.4f}" for run in runs)
        print(
            f"{name:12s} val mIoU {shown}  mean {mean(runs):.4f} +- {error(runs):.4f}  "
            f"{sum(run['wall_sec'] for run in runs) / 3:.1f} s"
        )
    return stages, results


def mean(runs: list[dict[str, float]]) -> float:
    return float(np.mean([run["miou"] for run in runs]))


def error(runs: list[dict[str, float]]) -> float:
    """Standard error of the mean over seeds."""
    return float(np.std([run["miou"] for run in runs], ddof=1) / np.sqrt(len(runs)))


@pytest.mark.slow
def test_the_widest_uniform_student_beats_the_narrowest_by_two_standard_errors(measured):
    _, results = measured
    uniform = [runs for name, runs in results.items() if name.startswith("uniform")]
    narrowest, widest = uniform[0], uniform[-1]
    assert mean(widest) - mean(narrowest) > 2 * np.hypot(error(widest), error(narrowest))


@pytest.mark.slow
def test_the_teacher_is_above_every_student(measured):
    stages, results = measured
    best = max(run["miou"] for runs in results.values() for run in runs)
    assert stages.teacher_result.metrics["val/miou"] > best


@pytest.mark.slow
def test_uniform_widths_and_miou_rank_alike(measured):
    _, results = measured
    pairs = [
        (int(name.split()[1]), run["miou"])
        for name, runs in results.items()
        if name.startswith("uniform")
        for run in runs
    ]
    assert spearmanr(*zip(*pairs)).statistic >= 0.7


@pytest.mark.slow
def test_plain_distillation_beats_the_same_narrow_student_without_a_teacher_at_equal_wall_time(measured):
    _, results = measured
    distilled, alone = results["equal time"], results["no teacher"]
    assert mean(distilled) - mean(alone) > 2 * np.hypot(error(distilled), error(alone))
