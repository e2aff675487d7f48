"""A student's first weights are its own, though teacher and student have the same seed by default."""

import pytest
import torch
from torch import nn

from raydistill.config.paths import with_values
from raydistill.config.presets import PRESETS, shapes32
from raydistill.config.published import PUBLISHED
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.testing.generators import GeneratorCase, info_of
from raydistill.training import recipes
from raydistill.training.recipes import distill


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
