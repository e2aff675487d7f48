"""A student's first weights: its own, though teacher and student have the same seed, or the teacher's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Stages
from torch import Tensor, nn

from raydistill.config.paths import with_values
from raydistill.config.presets import PRESETS, shapes32
from raydistill.config.published import PUBLISHED
from raydistill.config.space_checks import combinations
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo, load_split
from raydistill.models import pruning, saved
from raydistill.planning.checks import check
from raydistill.planning.generator_checks import start_sentence
from raydistill.planning.refusals import Refusals
from raydistill.testing.generators import GeneratorCase, info_of
from raydistill.training import recipes
from raydistill.training.recipes import distill
from raydistill.training.teacher import start_at_teacher

AT_RANDOM = {
    "wider": ({"generator__widths__trunk": 5}, "student.generator.widths.trunk: 5, but"),
    "deeper": ({"generator__num_blocks": 2}, "student.generator.num_blocks: 2, but"),
    "another norm": ({"generator__norm": "batch"}, "student.generator.norm: batch, but"),
    "another family": (
        {"generator__family": "mobile_resnet"},
        "student.generator.family: 'mobile_resnet', but",
    ),
    "teachers of its own": ({"base__kind": "omgd"}, "student.base of kind 'omgd' learns from other networks"),
    "told to": ({"init": "random"}, "student.init is random"),
}
"""What is set -> why such a student starts at random, where its teacher has width 4 and one block."""


def data_of(preset: str) -> DataInfo:
    """Data of a preset, as networks are built for them: label maps of five classes, or pictures."""
    experiment = PRESETS[preset]()
    data, generator = experiment.data, experiment.student.generator
    in_channels = 5 if preset in ("shapes32", "shapes64", "labelled", "unet", "mobile") else 3
    return info_of(GeneratorCase(generator, in_channels, data.height, data.width))


def begun_alike(first: nn.Module, second: nn.Module) -> list[str]:
    """Parameters whose first eight numbers are equal in both, where they are random."""
    others = dict(second.named_parameters())
    return [
        name
        for name, value in first.named_parameters()
        if name in others
        and value.numel() >= 8
        and value.std() > 0
        and torch.equal(value.flatten()[:8], others[name].flatten()[:8])
    ]


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in PUBLISHED])
def test_a_student_of_the_teachers_seed_does_not_begin_as_the_teacher_did(preset: str) -> None:
    """Else a search at one seed judges students that other seeds never have."""
    experiment, info = PRESETS[preset](), data_of(preset)
    student = experiment.resolved(experiment.student)
    assert isinstance(student, DistillTraining) and student.seed == experiment.teacher.seed
    teacher = recipes.kind_of(experiment.teacher).networks(experiment.teacher, info)["generator"]
    first = distill.initial_student(student, info)
    assert begun_alike(first, distill.initial_student(student, info)), "the comparison finds none"
    assert not begun_alike(first, teacher)


def test_nor_as_the_teachers_beside_it_do() -> None:
    experiment = with_values(shapes32(), {"student.base.kind": "omgd"}, where="test")
    student = experiment.resolved(experiment.student)
    found = recipes.kind_of(student).networks(student, data_of("shapes32"))
    for name in ("wide", "deep"):
        assert not begun_alike(found["generator"], found[name])


# ---- from the teacher --------------------------------------------------------------------------------------


def started(stages: Stages, values: dict[str, Any]) -> tuple[DistillTraining, nn.Module, dict[str, Tensor]]:
    """A student's training, the student when it has started, and its weights before that."""
    job = stages.student_job(**({"init": "auto"} | values))
    assert isinstance(job.training, DistillTraining)
    student = distill.initial_student(job.training, load_split(job.data, "val").info)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    start_at_teacher(student, job)
    return job.training, student, before


@pytest.mark.parametrize("width", [3, 4])
def test_by_default_a_narrower_student_starts_with_the_teachers_channels(stages: Stages, width: int) -> None:
    training, student, _ = started(stages, {"generator__widths__trunk": width})
    teacher, weights = saved.load_generator(stages.teacher)
    expected = pruning.student_state(teacher, weights, training.generator, "student")
    assert pruning.why_at_random(teacher, training) is None
    assert all(torch.equal(value, expected[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize("case", AT_RANDOM)
def test_and_any_other_student_at_random_with_the_reason(stages: Stages, case: str) -> None:
    values, says = AT_RANDOM[case]
    training, student, before = started(stages, values)
    reason = pruning.why_at_random(saved.load_generator(stages.teacher)[0], training)
    assert reason is not None and reason.startswith(says)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ((), "students start with the teacher's channels, as student.init is auto"),
        (
            ("teacher.generator.widths.trunk=16",),  # the space has trunks of 8 to 32
            "some students start with random weights, as student.init is auto: "
            "student.generator.widths.trunk: ",
        ),
        (
            ("teacher.generator.num_blocks=2",),
            "students start with random weights, as student.init is auto: "
            "student.generator.num_blocks: 3, but the teacher it starts from has 2",
        ),
        (("student.init=random",), None),
        (("student.init=teacher",), None),
    ],
)
def test_the_plan_says_where_students_start(
    values: tuple[str, ...], line: str | None, tmp_path: Path
) -> None:
    small = ("data.num_train=16", "data.num_val=8", "data.num_test=8", *values)
    sentence = start_sentence(check(SweepOptions(store=str(tmp_path), set=small)))
    assert sentence is None if line is None else str(sentence).startswith(line), sentence


def test_students_outside_of_the_window_have_no_say_in_that(tmp_path: Path) -> None:
    """Only trunks above the teacher's would start at random, and they cost too much, in any convention."""
    small = ("data.num_train=16", "data.num_val=8", "data.num_test=8", "teacher.generator.widths.trunk=8")
    for window, start in (
        ("1.6e6:conv_out", "students start with the teacher"),
        ("2e7", "some students start with random"),
    ):
        options = SweepOptions(store=str(tmp_path), set=small, min_macs="1", max_macs=window)
        assert str(start_sentence(check(options))).startswith(start)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in PUBLISHED])
def test_students_of_every_preset_can_start_with_their_teachers_channels(preset: str) -> None:
    """What that is worth: docs/results/method.md."""
    experiment = PRESETS[preset]()
    assert experiment.student.init == "auto"
    assert pruning.why_at_random(experiment.teacher.generator, experiment.student) is None


@pytest.mark.parametrize("init", ["auto", "teacher"])
def test_a_searched_score_that_the_teacher_lacks_is_never_proposed(init: str, tmp_path: Path) -> None:
    plan = check(SweepOptions(store=str(tmp_path), set=("data.num_train=16", f"student.init={init}")))
    found = plan.experiment.student.model_copy(update={"init_score": "content"})
    changed = plan.experiment.model_copy(update={"student": found})
    refusals = Refusals(plan.space, changed, plan.info)
    configuration = next(combinations(plan.space))
    assert str(refusals.of(configuration)).startswith("student.init_score: 'content', which families")
