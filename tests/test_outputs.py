"""The teacher's outputs, stored or computed in the loop."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Stages, numbers

from raydistill import networks, recipes
from raydistill.config import Stored
from raydistill.data import batch, load_split, outputs
from raydistill.data.outputs import load_outputs, store_outputs
from raydistill.train import TrialResult

Trained = Callable[..., TrialResult]


def with_outputs(stages: Stages, folder: Path, flip: bool) -> Stages:
    """The same stages with the teacher's outputs stored beside it."""
    shutil.copytree(stages.teacher.path, folder)
    teacher = Stored(path=str(folder), digest=stages.teacher.digest)
    network = networks.load(teacher, stages.bench().info, torch.device("cpu"))
    assert store_outputs(folder, teacher.digest, network, load_split(stages.data, "train"), flip, torch.device("cpu"))
    return stages._replace(teacher=teacher)


@pytest.mark.parametrize("flips", [(False, False, False, False), (True, False, True, True)])
def test_stored_teacher_outputs_are_those_computed_in_the_loop(stages: Stages, tmp_path: Path, flips: tuple[bool, ...]) -> None:
    step, stored = stages.step(flips=flips), with_outputs(stages, tmp_path / "teacher", any(flips))
    from_disk = recipes.teacher_pictures(stored.student_job(), stages.bench())(step.indices, step.flips)
    computed = recipes.teacher_pictures(stages.student_job(), stages.bench())(step.indices, step.flips)
    torch.testing.assert_close(from_disk, computed, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_training_on_stored_teacher_outputs_gives_the_result_of_training_beside_the_teacher(
    stages: Stages, trained: Trained, tmp_path: Path, flip: bool
) -> None:
    stored = with_outputs(stages, tmp_path / "teacher", flip)
    assert stored.student_job(flip=flip).key == stages.student_job(flip=flip).key
    pairs = [numbers(trained(either.student_job(flip=flip))) for either in (stored, stages)]
    for from_disk, computed in zip(*pairs, strict=True):
        assert from_disk == pytest.approx(computed, rel=1e-4, abs=1e-5)


def test_a_student_that_flips_is_trained_where_only_plain_outputs_are_stored(stages: Stages, trained: Trained, tmp_path: Path) -> None:
    result = trained(with_outputs(stages, tmp_path / "teacher", flip=False).student_job(flip=True))
    assert result.metrics == pytest.approx(trained(stages.student_job(flip=True)).metrics, rel=1e-4, abs=1e-5)


def test_outputs_of_another_teacher_are_not_used(stages: Stages, tmp_path: Path) -> None:
    folder = Path(with_outputs(stages, tmp_path / "teacher", flip=False).teacher.path)
    assert load_outputs(folder, stages.teacher.digest, False) is not None and load_outputs(folder, "another", False) is None


def test_plain_outputs_are_not_used_where_pictures_are_mirrored(stages: Stages, tmp_path: Path) -> None:
    folder = Path(with_outputs(stages, tmp_path / "teacher", flip=False).teacher.path)
    assert load_outputs(folder, stages.teacher.digest, True) is None


def test_a_mirrored_batch_mirrors_input_and_target_alike(stages: Stages) -> None:
    split, indices = load_split(stages.data, "train"), np.arange(2)
    plain, mirrored = (batch(split, indices, flips=np.full(2, flip)) for flip in (False, True))
    assert torch.equal(mirrored.inputs, plain.inputs.flip(3)) and torch.equal(mirrored.target, plain.target.flip(3))


def test_a_step_without_flips_is_the_plain_batch(stages: Stages) -> None:
    step = stages.step(flips=(False, False))
    assert torch.equal(step.batch.target, batch(load_split(stages.data, "train"), np.arange(2)).target)


def test_outputs_over_the_limit_are_not_stored(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "LIMIT_GB", 24 * 3 * 16 * 16 * 4 / 2**30)
    split, device = load_split(stages.data, "train"), torch.device("cpu")
    assert not store_outputs(tmp_path, "teacher", lambda inputs: inputs[:, :3], split, True, device)
    assert list(tmp_path.iterdir()) == []
    assert store_outputs(tmp_path, "teacher", lambda inputs: inputs[:, :3], split, False, device)
