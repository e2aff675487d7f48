"""One contract kit over the recipes of generators: each trains its family as a teacher and as a student, on data of its kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages, numbers, quiet

from raydistill import recipes
from raydistill import train as training
from raydistill.config import Experiment, Job
from raydistill.data import load_split, prepare
from raydistill.dotted import with_values
from raydistill.errors import DataError
from raydistill.feed import training_batch
from raydistill.presets import enhance
from raydistill.train import TrialResult, train

Trained = Callable[..., TrialResult]
SMALL: dict[str, Any] = {
    **{"judge.network.width": 4, "judge.network.feature_width": 4},
    **{f"{stage}.batch_size": 4 for stage in ("judge", "teacher", "student")},
    **{f"{stage}.budget_nimg": 24 for stage in ("judge", "teacher", "student")},
    **{f"{stage}.report_every_nimg": 12 for stage in ("judge", "teacher", "student")},
    **{f"{stage}.ema_nimg": 8 for stage in ("teacher", "student")},
    **{"student.mi.kind": "vem", "student.mi.weight": 0.1, "student.mi.energy.channels": 2, "student.mi.num_steps": 2},
}


def shapes(side: int) -> dict[str, Any]:
    return {"kind": "shapes", "height": side, "width": side, "num_train": 10, "num_val": 6, "num_test": 4}


def small_enhance(folder: Path) -> Experiment:
    """Not a multiple of the batch: the second report lies in the third pass."""
    base = enhance().model_copy(update={"data": Experiment.model_validate(enhance().model_dump() | {"data": shapes(16)}).data})
    values = {f"{stage}.generator.widths.{name}": 4 for stage in ("teacher", "student") for name in ("trunk", "hidden", "up")}
    values |= {"data.degrade.scale": 2, "data.degrade.noise_std": 20.0}
    return with_values(base, values | {f"{stage}.generator.num_blocks": 1 for stage in ("teacher", "student")}, where="test")


EXPERIMENTS: dict[str, Callable[[Path], Experiment]] = {"enhance": small_enhance}
all_recipes = pytest.mark.parametrize("name", EXPERIMENTS)
both_stages = pytest.mark.parametrize("stage", ["teacher", "student"])


@pytest.fixture(scope="module")
def kits(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stages]:
    """Recipe -> its experiment, with data, judge and teacher, made when first asked for."""
    made: dict[str, Stages] = {}

    def kit(name: str) -> Stages:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            experiment = with_values(EXPERIMENTS[name](folder), SMALL, where="test")
            data = prepare(experiment.data, folder / "data", recipe=experiment.teacher.recipe)
            judge = quiet(Job(training=experiment.judge, data=data), folder / "judge").network
            teacher = quiet(Job(training=experiment.teacher, data=data, judge=judge), folder / "teacher").network
            made[name] = Stages(experiment, data, judge, teacher)
        return made[name]

    return kit


def job_of(kit: Stages, stage: str, **values: Any) -> Job:
    return {"teacher": kit.teacher_job, "student": kit.student_job}[stage](**values)


class Stopped(Exception):
    pass


def stop(evaluation: dict[str, Any]) -> None:
    raise Stopped


@all_recipes
@both_stages
def test_a_stopped_and_resumed_training_equals_one_that_never_stopped(
    kits: Callable[[str], Stages], trained: Trained, tmp_path: Path, name: str, stage: str
) -> None:
    job = job_of(kits(name), stage, flip=True)
    whole = trained(job)
    with pytest.raises(Stopped):
        train(job, report=stop, state_dir=tmp_path / "stopped")
    resumed = trained(job, "stopped")
    assert resumed.network.digest == whole.network.digest and numbers(resumed) == numbers(whole)
    assert [point["nimg"] for point in whole.evaluations] == [12, 24]
    assert np.isfinite(list(whole.metrics.values())).all() and (tmp_path / "run-0" / "samples.png").stat().st_size > 0


@all_recipes
@both_stages
def test_a_phase_moves_its_own_networks_alone(kits: Callable[[str], Stages], name: str, stage: str) -> None:
    kit = kits(name)
    job, bench = job_of(kit, stage), kit.bench()
    recipe = recipes.build(job, bench)
    step = training.next_step(load_split(kit.data, "train"), job.training, 0, bench)
    recipe.forward(step)
    for phase in recipe.phases:
        before = {key: value.clone() for key, value in parameters(recipe).items()}
        training.advance(phase, recipe, [step], job.training, bench.workers)
        moved = {key.partition("/")[0] for key, value in parameters(recipe).items() if not torch.equal(value, before[key])}
        assert moved == {phase.network}


def parameters(recipe: recipes.Recipe) -> dict[str, torch.Tensor]:
    return {f"{name}/{key}": value for name, network in recipe.networks.items() for key, value in network.named_parameters()}


# ---- enhancement ----------------------------------------------------------------------------------------------------


def test_inputs_are_degraded_anew_in_every_pass_and_the_same_for_the_same_seed_picture_and_pass(kits: Callable[[str], Stages]) -> None:
    kit = kits("enhance")
    split, bench = load_split(kit.data, "train"), kit.bench()

    def inputs(seed: int, first: int) -> torch.Tensor:
        shown = training.in_order(kit.teacher_job(flip=False).training, "", np.arange(first, first + 10), 10)
        return training_batch(split, None, seed, shown, shown, bench.device).inputs[np.argsort(shown.indices)]

    assert inputs(0, 0).shape == (10, 3, 8, 8) and torch.equal(inputs(0, 0), inputs(0, 0))
    for other in (inputs(0, 10), inputs(1, 0)):
        noise = (other - inputs(0, 0)) * 127.5
        assert noise.std() == pytest.approx(20 * 2**0.5, rel=0.25) and abs(noise.mean()) < 3
    plain = torch.nn.functional.avg_pool2d(torch.from_numpy(np.array(split.targets)).permute(0, 3, 1, 2).float(), 2) / 127.5 - 1
    assert (inputs(0, 0) - plain).abs().mean() < 0.2


def test_enhancement_is_scored_by_likeness_to_the_pictures(kits: Callable[[str], Stages], trained: Trained) -> None:
    scores = trained(kits("enhance").teacher_job()).metrics
    assert {"val/psnr", "val/ssim", "val/kd_judge", "val/miou"} <= set(scores) and 5 < scores["val/psnr"] < 60


def test_pictures_that_have_inputs_are_not_degraded(tmp_path: Path) -> None:
    from PIL import Image

    from raydistill.config import Degradation, FolderData

    for index in range(20):
        Image.new("RGB", (32, 16), (index,) * 3).save(tmp_path / f"{index}.png")
    config = FolderData(root=str(tmp_path), height=16, width=16, layout="aligned", degrade=Degradation(scale=2))
    with pytest.raises(DataError, match=r"data\.degrade is on, but .* is aligned, which has inputs of its own"):
        prepare(config, tmp_path / "cache")
