"""A teacher that was trained elsewhere in a sweep, and students that start as parts of it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages, quiet
from families import case
from PIL import Image
from safetensors.torch import load_file
from test_import import as_unet, put, shaken

from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining, Pix2pixTraining
from raydistill.data import batch, load_split
from raydistill.errors import CheckpointError, ConfigError
from raydistill.exchange.import_teacher import import_file
from raydistill.models import networks, pruning, saved
from raydistill.planning.checks import check
from raydistill.planning.generator_checks import check_generators
from raydistill.planning.plan import Plan
from raydistill.trials.stages import train_stages

CPU = torch.device("cpu")
SMALL = (
    "evaluator.network.width=4",
    "evaluator.network.feature_width=4",
    "evaluator.budget_nimg=16",
    "evaluator.report_every_nimg=16",
    "evaluator.batch_size=4",
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A|B pictures of 16x16."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 4), ("test", 4)):
        (folder / split).mkdir()
        for index in range(number):
            Image.fromarray(rng.integers(0, 255, (16, 32, 3), np.uint8)).save(folder / split / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net of four levels from a pix2pix file."""
    folder = tmp_path_factory.mktemp("imported")
    widths = {"down1": 8, "down2": 16, "down3": 32, "deep": 64, "up3": 32, "up2": 16, "up1": 8}
    unet = case("unet", {"widths": widths, "num_levels": 4, "norm": "instance"}, 3, 16, 16)
    import_file(
        put(folder / "latest_net_G.pth", as_unet(shaken(unet).state_dict(), 4)), folder / "teacher", (16, 16)
    )
    return folder / "teacher"


def plan_of(pairs: Path, store: Path, **options: Any) -> Plan:
    values = (
        *SMALL,
        "data.height=16",
        "data.width=16",
        "student.batch_size=4",
        "teacher.batch_size=4",
        *options.pop("set", ()),
    )
    objectives = ("val/kd_evaluator:min:1", "cost/macs:min")
    return check(
        SweepOptions(
            space="unet", data=str(pairs), store=str(store), objectives=objectives, set=values, **options
        )
    )


def test_a_given_teacher_is_scored_and_taught_from_as_it_is(
    pairs: Path, imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(pairs, tmp_path / "runs", teacher=str(imported), set=("student.init=teacher",))
    monkeypatch.setattr(networks, "discriminator", None)  # none is built
    stages = train_stages(plan.experiment, plan.data, tmp_path / "cache", lambda numbers: None)
    assert stages.teacher_result.status == "COMPLETE" and stages.teacher_result.nimg == 0
    assert np.isfinite(stages.teacher_result.metrics["val/kd_evaluator"])
    given = saved.load_generator(saved.stored(imported))[1]
    kept = load_file(Path(stages.teacher.path) / "weights.safetensors")
    assert all(torch.equal(kept[name], given[name]) for name in given) and set(kept) == set(given)
    roles = [(role, training) for role, _, training in plan.baselines]
    alone = next(training for role, training in roles if role == "no_teacher")
    assert isinstance(alone, Pix2pixTraining) and alone.start is None and alone.budget_nimg > 0
    names = {path.name for path in Path(stages.teacher.path).parent.iterdir()}
    assert names == {"network", "samples.png", "result.json", "log.txt"}
    again = train_stages(plan.experiment, plan.data, tmp_path / "cache", lambda numbers: None)
    assert again == stages and stages.teacher.digest == saved.stored(imported).digest


def test_a_given_teacher_that_is_gone_or_changed_ends_in_one_line(
    pairs: Path, imported: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(imported, copy)
    plan = plan_of(pairs, tmp_path / "runs", teacher=str(copy))
    weights = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(weights[:-4] + b"\0\0\x80\x3f")
    with pytest.raises(CheckpointError, match="the weights are not the ones written"):
        train_stages(plan.experiment, plan.data, tmp_path / "cache", lambda numbers: None)
    (copy / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"copy/weights\.safetensors is missing"):
        train_stages(plan.experiment, plan.data, tmp_path / "cache", lambda numbers: None)
    shutil.copy(imported / "weights.safetensors", copy)
    stages = train_stages(plan.experiment, plan.data, tmp_path / "cache", lambda numbers: None)
    shutil.rmtree(copy)  # the sweep has its own
    assert train_stages(plan.experiment, plan.data, tmp_path / "cache", lambda numbers: None) == stages


class Scored(DistillTraining):
    """A student whose channels a score chooses."""

    init_score: str = "content"


@pytest.mark.parametrize(
    ("init", "says"),
    [
        (
            "teacher",
            r"^student\.init_score: 'content', which families stylegan2 have, but the teacher is a 'unet'",
        ),
        (
            "random",
            r"^student\.init_score: 'content' chooses channels of the teacher, but student\.init is 'random'",
        ),
    ],
)
def test_a_score_that_cannot_choose_channels_is_refused_by_the_plan(
    pairs: Path, imported: Path, tmp_path: Path, init: str, says: str
) -> None:
    plan = plan_of(pairs, tmp_path / "runs", teacher=str(imported), set=(f"student.init={init}",))
    check_generators(plan)
    student = Scored.model_validate(plan.experiment.student.model_dump())
    changed = replace(plan, experiment=plan.experiment.model_copy(update={"student": student}))
    with pytest.raises(ConfigError, match=says):
        check_generators(changed)


@pytest.mark.parametrize("init", ["teacher", "random"])
def test_a_student_starts_as_its_config_says(init: str, stages: Stages, tmp_path: Path) -> None:
    """At full width and almost without learning, a student that starts at its teacher puts out what the
    teacher does."""
    teacher = saved.load_generator(stages.teacher)[0]
    job = stages.student_job(init=init, mi__weight=0.0, optimizer__learning_rate=1e-12, ema_nimg=0.0)
    assert isinstance(job.training, DistillTraining) and job.training.generator == teacher
    trained = quiet(job, tmp_path / "trial")
    split = load_split(job.data, "val")
    x = batch(split, slice(0, 4)).inputs
    with torch.no_grad():
        outputs = [saved.load(stored, split.info, CPU)(x) for stored in (trained.network, stages.teacher)]
    apart = float((outputs[0] - outputs[1]).abs().max())
    assert apart < 1e-5 if init == "teacher" else apart > 1e-2


def test_a_narrower_student_that_starts_at_its_teacher_begins_with_a_part_of_it(stages: Stages) -> None:
    teacher, weights = saved.load_generator(stages.teacher)
    job = stages.student_job(init="teacher", generator__widths__trunk=3)
    assert isinstance(job.training, DistillTraining)
    state = pruning.student_state(teacher, weights, job.training.generator, "student")
    assert state["7.weight"].shape[0] == 3
    rows = {tuple(row.flatten().tolist()) for row in weights["7.weight"]}
    assert all(tuple(row.flatten().tolist()) in rows for row in state["7.weight"])


def test_what_cannot_be_is_refused_before_any_cost(
    pairs: Path, imported: Path, stages: Stages, tmp_path: Path
) -> None:
    store = tmp_path / "runs"
    with pytest.raises(ConfigError, match=r"takes inputs of 8 channels, this data has 3"):
        plan_of(pairs, store, teacher=str(Path(stages.teacher.path)))
    with pytest.raises(
        ConfigError, match=r"student\.generator\.norm: batch, but the teacher it starts from has instance"
    ):
        plan_of(
            pairs, store, teacher=str(imported), set=("student.init=teacher", "student.generator.norm=batch")
        )
    wide = ("student.init=teacher", "teacher.generator.widths.deep=16")
    with pytest.raises(
        ConfigError, match=r"student.generator.widths.deep: 64, but the teacher it starts from has 16"
    ):
        plan_of(pairs, store, set=wide)
    with pytest.raises(ConfigError, match=r"--teacher .*no network there"):
        plan_of(pairs, store, teacher=str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"--teacher .*this network is an evaluator, needed is a generator"):
        plan_of(pairs, store, teacher=str(Path(stages.evaluator.path)))


def test_an_imported_teacher_can_be_trained_on(stages: Stages, tmp_path: Path) -> None:
    experiment = with_values(
        stages.experiment, {"teacher.budget_nimg": 16, "teacher.ema_nimg": 0.0}, where="test"
    )
    training = experiment.teacher.model_copy(
        update={"start": stages.teacher, "generator": saved.load_generator(stages.teacher)[0]}
    )
    trained = quiet(Job(training=training, data=stages.data, evaluator=stages.evaluator), tmp_path / "on")
    assert trained.nimg == 16 and trained.network.digest != stages.teacher.digest
