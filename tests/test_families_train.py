"""Every family that takes pictures trains, as a teacher and as a student."""

from pathlib import Path

import pytest
from conftest import Stages, numbers, quiet

from raydistill.architectures import MobileResnetGenerator, MobileResnetWidths, PictureGenerator, UnetGenerator, UnetWidths
from raydistill.config import Job

GENERATORS: dict[str, PictureGenerator] = {
    "mobile_resnet": MobileResnetGenerator(widths=MobileResnetWidths.uniform(4), num_blocks=3),
    "unet": UnetGenerator(widths=UnetWidths.uniform(4), num_levels=4, norm="instance"),
    "unet-batch": UnetGenerator(widths=UnetWidths.uniform(4), num_levels=4),
    "unet-deep": UnetGenerator(widths=UnetWidths.uniform(4), num_levels=4, blocks_per_level=1),
}


@pytest.mark.parametrize("stage", ["teacher", "student"])
@pytest.mark.parametrize("name", GENERATORS)
def test_the_error_of_a_family_falls_and_its_scores_are_finite(name: str, stage: str, stages: Stages, tmp_path: Path) -> None:
    job = getattr(stages, f"{stage}_job")(budget_nimg=96, report_every_nimg=48, optimizer__learning_rate=2e-3)
    training = job.training.model_copy(update={"generator": GENERATORS[name]})
    first, last = numbers(quiet(Job(training=training, data=job.data, judge=job.judge, teacher=job.teacher), tmp_path / "run"))
    assert last["train/l1"] < first["train/l1"]
    assert all(abs(value) < float("inf") for value in last.values())
