"""Every base distillation trains a student: three seeds each, on pairs and on unpaired pictures.

Run with `pytest -s -m slow`; `python tests/slow_groups.py bases` runs all.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment, student_job
from raydistill.config.paths import with_values
from raydistill.config.presets import cyclegan, shapes32
from raydistill.data import load_split, prepare
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.models import networks, saved
from raydistill.trials.run_job import network_of, perform
from raydistill.trials.stages import Stages, train_stages

SEEDS, CPU = (0, 1, 2), torch.device("cpu")
LENGTH = {"student.budget_nimg": 2_400, "student.report_every_nimg": 2_400}


class Trained(NamedTuple):
    """Evaluator and teacher, and what they were trained on."""

    experiment: Experiment
    data: Stored
    stages: Stages
    folder: Path


class MeanColour(nn.Module):
    """The mean real picture's colour, for every input."""

    def __init__(self, targets: Tensor):
        super().__init__()
        self.colour = targets.mean((0, 2, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 3, H, W)."""
        return self.colour[:, None, None].expand(len(inputs), 3, *inputs.shape[2:]).contiguous()


def staged(experiment: Experiment, folder: Path) -> Trained:
    unpaired = (
        {"pairing": "unpaired", "recipe": "cyclegan"} if experiment.teacher.recipe == "cyclegan" else {}
    )
    data = prepare(experiment.data, folder / "data", **unpaired)  # type: ignore[arg-type]
    torch.set_num_threads(1)  # two threads wait for each other beside other work
    stages = train_stages(experiment, data, folder / "cache", lambda evaluation: None)
    return Trained(experiment, data, stages, folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    values = {"teacher.budget_nimg": 8_000, "student.base.kind": "omgd", **LENGTH}  # so features are trained
    return staged(with_values(shapes32(), values, where="test"), tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Label maps in colours on one side and pictures of other scenes on the other."""
    folder = tmp_path_factory.mktemp("unpaired")
    drawn = load_split(prepare(shapes32().data, folder / "drawn"), "train")
    colours = np.random.default_rng(0).integers(0, 256, (16, 3)).astype(np.uint8)
    assert drawn.labels is not None
    for split, start, number in (("train", 0, 600), ("test", 2_000, 100)):
        for side, offset in (("A", 0), ("B", 1_000)):
            (folder / "pictures" / f"{split}{side}").mkdir(parents=True)
            for index in range(start + offset, start + offset + number):
                shown = colours[drawn.labels[index]] if side == "A" else drawn.targets[index]
                Image.fromarray(np.asarray(shown)).save(
                    folder / "pictures" / f"{split}{side}" / f"{index:05d}.png"
                )
    values: dict[str, Any] = {
        **{"data.root": str(folder / "pictures"), "data.height": 32, "data.width": 32},
        **{"evaluator.budget_nimg": 6_000, "teacher.budget_nimg": 4_000, "teacher.report_every_nimg": 1_000},
        **{f"teacher.generator.widths.{name}": width for name, width in WIDTHS.items()},
        **{"teacher.generator.num_blocks": 2, "student.generator.num_blocks": 2},
        **{"student.base.kind": "omgd_cyclegan", **LENGTH},
    }
    return staged(with_values(cyclegan(), values, where="test"), folder)


WIDTHS = {"stem": 8, "down": 16, "trunk": 32, "hidden": 32, "up": 16, "head": 8}
NONE = {"student.base.kind": "none", "student.terms.mi.kind": "vid", "student.terms.mi.weight": 1.0}
OFF = {"student.terms.mi.weight": 0.0}


def beats_start_and_mean_colour(
    trained: Trained, values: dict[str, Any], score: str, sign: int, name: str
) -> None:
    """By more than three standard errors of the difference over the seeds."""
    experiment = with_values(trained.experiment, values, where="test")
    scorer = EvaluatorScorer(trained.data, trained.stages.evaluator, "val", CPU)
    split, info = load_split(trained.data, "train"), scorer.split.info

    def score_of(network: nn.Module) -> float:
        return sign * scorer.generator(network)[score]

    targets = torch.from_numpy(np.asarray(split.targets[:256])).permute(0, 3, 1, 2).float() / 127.5 - 1
    colour = score_of(MeanColour(targets))
    found, before = [], []
    for seed in SEEDS:
        training = experiment.resolved(experiment.student.model_copy(update={"seed": seed}))
        job = student_job(training, experiment, trained.data, trained.stages.shared)
        folder = trained.folder / name / str(seed)
        result = perform(job, folder, lambda evaluation: None)
        assert result.status == "COMPLETE", result.reason
        found.append(score_of(saved.load(network_of(folder, result), info, CPU)))
        before.append(score_of(networks.generator(training.generator, info, seed).eval()))
    for what, other in (("its step 0", before), ("the mean colour", [colour] * len(SEEDS))):
        gains = np.subtract(found, other)
        error = max(float(np.std(gains, ddof=1)) / len(SEEDS) ** 0.5, 1e-12)
        print(f"{name}: {score} {sign * np.mean(found):.5f}, {what} {sign * np.mean(other):.5f}, "
              f"gain {gains.mean():.5f}, {gains.mean() / error:.1f} standard errors; {folder}")  # fmt: skip
        assert gains.mean() > 3 * error, (found, other)


PAIRED: dict[str, dict[str, Any]] = {
    "none": NONE,
    "plain": {"student.base.kind": "plain", **OFF},
    "gan": {"student.base.kind": "gan", **OFF},
    "omgd": {"student.base.kind": "omgd", **OFF},
}
UNPAIRED: dict[str, dict[str, Any]] = {
    "gan": {"student.base.kind": "gan", **OFF},
    "omgd_cyclegan": {"student.base.kind": "omgd_cyclegan", **OFF},
}


@pytest.mark.slow
@pytest.mark.parametrize("base", PAIRED)
def test_a_student_learns_on_pairs(pairs: Trained, base: str) -> None:
    beats_start_and_mean_colour(pairs, PAIRED[base], "val/miou", 1, base)


@pytest.mark.slow
@pytest.mark.parametrize("base", UNPAIRED)
def test_a_student_learns_on_unpaired_pictures(unpaired: Trained, base: str) -> None:
    beats_start_and_mean_colour(unpaired, UNPAIRED[base], "val/kd_evaluator", -1, f"unpaired {base}")
