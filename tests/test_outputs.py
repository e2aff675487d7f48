"""The teacher's outputs, stored or computed in the loop."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Stages, numbers

from raydistill.config.base import Stored
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.training import OutputKind
from raydistill.data import batch, load_split, to_float, to_uint8
from raydistill.data.outputs import chunk_of, compute, load_outputs, outputs_bytes, store_outputs
from raydistill.errors import StoreError
from raydistill.models import saved
from raydistill.training.loop import TrainingResult
from raydistill.training.minibatches import held
from raydistill.training.recipes import Step
from raydistill.training.teacher import stored_outputs, trained_teacher
from raydistill.trials.stages import job_of_teacher, train_stages

Trained = Callable[..., TrainingResult]


def with_outputs(
    stages: Stages, folder: Path, flip: bool, chunk: int = 4, kind: OutputKind = "float32"
) -> Stages:
    """The same stages with the teacher's outputs stored beside it."""
    shutil.copytree(stages.teacher.path, folder)
    teacher = Stored(path=str(folder), digest=stages.teacher.digest)
    network = saved.load(teacher, stages.setup().info, torch.device("cpu"))
    assert store_outputs(teacher, stages.data, network, flip, torch.device("cpu"), chunk=chunk, kind=kind)
    return stages._replace(teacher=teacher)


def pictures_of(stages: Stages, step: Step, kind: OutputKind = "float32") -> torch.Tensor:
    """The teacher's pictures for a step, of stored outputs where there are such."""
    job = stages.student_job().model_copy(update={"teacher_outputs": kind})
    split, setup = load_split(stages.data, "train"), stages.setup()
    data = held(split, stored_outputs(job), job.training, setup.device)
    return trained_teacher(job, data, setup.device, setup.workers)(step.sample)


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("flips", [(False, False, False, False), (True, False, True, True)])
def test_stored_teacher_outputs_are_those_computed_in_the_loop(
    stages: Stages, tmp_path: Path, flips: tuple[bool, ...], kind: OutputKind
) -> None:
    step = stages.step(flips=flips)
    from_disk = pictures_of(with_outputs(stages, tmp_path / "teacher", True, kind=kind), step, kind)
    computed, plain = pictures_of(stages, step, kind), pictures_of(stages, step)
    assert torch.equal(from_disk, computed) and computed.dtype == torch.float32
    assert torch.equal(computed, plain if kind == "float32" else to_float(to_uint8(plain)))
    network = saved.load(stages.teacher, stages.setup().info, torch.device("cpu"))
    assert torch.equal(plain, compute(network, step.batch.inputs, 4))


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("flip", [False, True])
def test_training_on_stored_teacher_outputs_gives_the_result_of_training_beside_the_teacher(
    stages: Stages, trained: Trained, tmp_path: Path, flip: bool, kind: OutputKind
) -> None:
    stored = with_outputs(stages, tmp_path / "teacher", flip, kind=kind)
    jobs = [
        either.student_job(flip=flip).model_copy(update={"teacher_outputs": kind})
        for either in (stored, stages)
    ]
    assert jobs[0].key == jobs[1].key and [stored_outputs(job) is None for job in jobs] == [False, True]
    pairs = [numbers(trained(job)) for job in jobs]
    assert pairs[0] == pairs[1]


# ---- rounded to 8 bits -------------------------------------------------------------------------------------


def test_outputs_of_8_bits_take_a_quarter_of_the_space_and_stand_beside_those_of_32(
    stages: Stages, tmp_path: Path
) -> None:
    """Each kind is found where it was asked for alone."""
    stored, split = stages, load_split(stages.data, "train")
    for kind in ("uint8", "float32"):
        stored = with_outputs(stages, tmp_path / kind, True, kind=kind)
        found = load_outputs(stored.teacher, stages.data, True, 4, kind)
        assert (
            found is not None
            and found.dtype == kind
            and found.nbytes == outputs_bytes(split.info, True, kind)
        )
        other: OutputKind = "float32" if kind == "uint8" else "uint8"
        assert load_outputs(stored.teacher, stages.data, True, 4, other) is None
    assert 4 * outputs_bytes(split.info, True, "uint8") == outputs_bytes(split.info, True, "float32")


def test_the_kind_of_outputs_is_part_of_a_students_job_and_of_no_teachers(
    stages: Stages, trained: Trained
) -> None:
    """A job of the usual kind is written without it. What students learn from differs."""
    plain = stages.student_job()
    rounded = plain.model_copy(update={"teacher_outputs": "uint8"})
    assert rounded.key != plain.key and "teacher_outputs" not in plain.model_dump_json()
    assert Job.model_validate_json(rounded.model_dump_json()) == rounded
    experiment = with_values(stages.experiment, {"teacher.outputs": "uint8"}, where="test")
    asked, usual = (
        job_of_teacher(each, stages.data, stages.evaluator) for each in (experiment, stages.experiment)
    )
    assert asked.key == usual.key == stages.teacher_job().key
    assert experiment.teacher.outputs == "uint8" and "outputs" not in usual.model_dump_json()
    assert numbers(trained(rounded)) != numbers(trained(plain))


def test_stages_store_the_kind_that_the_experiment_names(stages: Stages, tmp_path: Path) -> None:
    experiment = with_values(stages.experiment, {"teacher.outputs": "uint8"}, where="test")
    teacher = train_stages(experiment, stages.data, tmp_path, lambda numbers: None).teacher
    (file,) = Path(teacher.path).glob("outputs-*.npy")
    assert file.stem.endswith("-uint8") and np.load(file, mmap_mode="r").dtype == np.uint8


# ---- which stored outputs are used -------------------------------------------------------------------------


def test_a_student_that_flips_is_trained_where_only_plain_outputs_are_stored(
    stages: Stages, trained: Trained, tmp_path: Path
) -> None:
    result = trained(with_outputs(stages, tmp_path / "teacher", flip=False).student_job(flip=True))
    assert result.metrics == trained(stages.student_job(flip=True)).metrics


def test_outputs_of_another_teacher_or_on_other_data_are_not_used(stages: Stages, tmp_path: Path) -> None:
    teacher = with_outputs(stages, tmp_path / "teacher", flip=False).teacher
    another, other_data = (
        stored.model_copy(update={"digest": "another"}) for stored in (teacher, stages.data)
    )
    assert load_outputs(teacher, stages.data, False, 4) is not None
    assert (
        load_outputs(another, stages.data, False, 4) is None
        and load_outputs(teacher, other_data, False, 4) is None
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_a_teachers_output_has_the_same_bits_whatever_the_batch_and_its_neighbours(
    stages: Stages, count: int
) -> None:
    """Without chunks of one shape a batch of one differs by rounding: another kernel computes it."""
    network = saved.load(stages.teacher, stages.setup().info, torch.device("cpu"))
    inputs = batch(load_split(stages.data, "train"), np.arange(16)).inputs
    whole = compute(network, inputs, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        torch.cat([compute(network, part, 4) for part in inputs[order].split(count)]), whole[order]
    )


@pytest.mark.parametrize(("batch_size", "forwards"), [(1, [1]), (3, [3]), (4, [4]), (10, [4, 4, 4])])
def test_a_minibatch_costs_no_more_forwards_than_it_has_pictures_but_a_chunk_is_filled_up(
    batch_size: int, forwards: list[int]
) -> None:
    seen: list[int] = []

    def teacher(inputs: torch.Tensor) -> torch.Tensor:
        seen.append(len(inputs))
        return inputs

    inputs = torch.rand(batch_size, 3, 2, 2)
    assert torch.equal(compute(teacher, inputs, chunk_of(batch_size)), inputs) and seen == forwards


def test_outputs_for_small_minibatches_are_stored_apart(
    stages: Stages, trained: Trained, tmp_path: Path
) -> None:
    stored = with_outputs(stages, tmp_path / "teacher", flip=False, chunk=1)
    assert load_outputs(stored.teacher, stages.data, False, 4) is None
    pairs = [
        numbers(trained(either.student_job(batch_size=1, budget_nimg=4, report_every_nimg=4)))
        for either in (stored, stages)
    ]
    assert pairs[0] == pairs[1]


def test_plain_outputs_are_not_used_where_pictures_are_mirrored(stages: Stages, tmp_path: Path) -> None:
    teacher = with_outputs(stages, tmp_path / "teacher", flip=False).teacher
    assert load_outputs(teacher, stages.data, True, 4) is None


def test_a_mirrored_batch_mirrors_input_and_target_alike(stages: Stages) -> None:
    split, indices = load_split(stages.data, "train"), np.arange(2)
    plain, mirrored = (batch(split, indices, flips=np.full(2, flip)) for flip in (False, True))
    assert torch.equal(mirrored.inputs, plain.inputs.flip(3)) and torch.equal(
        mirrored.target, plain.target.flip(3)
    )


def test_a_step_without_flips_is_the_plain_batch(stages: Stages) -> None:
    step = stages.step(flips=(False, False))
    assert torch.equal(step.batch.target, batch(load_split(stages.data, "train"), np.arange(2)).target)


def test_outputs_over_the_limit_are_not_stored(stages: Stages, tmp_path: Path) -> None:
    limit_gb = 24 * 3 * 16 * 16 * 4 / 2**30
    teacher, device = Stored(path=str(tmp_path), digest="teacher"), torch.device("cpu")
    assert not store_outputs(
        teacher, stages.data, lambda inputs: inputs[:, :3], True, device, limit_gb, chunk=4
    )
    assert list(tmp_path.iterdir()) == []
    assert store_outputs(teacher, stages.data, lambda inputs: inputs[:, :3], False, device, limit_gb, chunk=4)


def test_a_full_disk_leaves_nothing_and_says_what_was_needed(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("raydistill.data.outputs.os.replace", full)
    with pytest.raises(
        StoreError,
        match=r"No space left on device. Needed: 0.00 GB. Free some space, or give --teacher-cache-gb 0",
    ):
        store_outputs(
            Stored(path=str(tmp_path), digest="x"),
            stages.data,
            lambda inputs: inputs[:, :3],
            False,
            torch.device("cpu"),
            chunk=4,
        )
    assert list(tmp_path.iterdir()) == []
