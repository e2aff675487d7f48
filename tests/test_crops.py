"""Training on random parts of larger pictures: which part depends on (seed, picture, pass) alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages, numbers, quiet
from PIL import Image

from raydistill.config.base import Stored
from raydistill.config.data import DataSet, FolderData, ShapesData
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.training import Training
from raydistill.data import Batch, batch, load_split, prepare, to_float, to_uint8
from raydistill.data.augment import SampleIndex, pixels, random_crop
from raydistill.data.batches import channels_first, made, read
from raydistill.data.mapped import Split
from raydistill.data.tensors import tensors
from raydistill.distributed import Workers
from raydistill.errors import DataError
from raydistill.models.inputs import read_training, read_training_inputs, repeats
from raydistill.training.minibatches import Minibatches, TrainingData
from raydistill.trials.run_job import perform

HEIGHT, WIDTH, LOAD_HEIGHT, LOAD_WIDTH = 8, 12, 11, 14


def coordinates(folder: Path, number: int) -> None:
    """A|B pictures whose red and green say which row and column a pixel was, and whose blue says which
    picture."""
    folder.mkdir(parents=True)
    row, column = np.mgrid[:LOAD_HEIGHT, :LOAD_WIDTH].astype(np.uint8)
    for index in range(number):
        half = np.stack([10 * row, 10 * column, np.full_like(row, 20 * index)], 2)
        Image.fromarray(np.concatenate([half, half], 1)).save(folder / f"{index}.png")


def prepared(tmp_path: Path, **values: Any) -> Stored:
    for split in ("train", "val", "test"):
        coordinates(tmp_path / "pictures" / split, 5)
    config = {"root": str(tmp_path / "pictures"), "height": HEIGHT, "width": WIDTH, "layout": "aligned"}
    return prepare(
        FolderData.model_validate(config | {"load_height": LOAD_HEIGHT, "load_width": LOAD_WIDTH} | values),
        tmp_path / "cache",
    )


def first_pass(split: Split, flips: torch.Tensor | None = None) -> Batch:
    """All pictures of a split as they are shown in the first pass of a training of seed 3."""
    indices = torch.arange(len(split))
    passes = torch.ones_like(indices)
    return made(read(tensors(split), indices, flips=flips, seed=3, passes=passes), split.info)


def starts_of(pictures: torch.Tensor) -> list[tuple[int, int]]:
    """Row and column of the first pixel of each; all pixels must follow from it."""
    found = []
    for picture in to_uint8(pictures).numpy().astype(int):
        row, column = picture[0, 0, 0] // 10, picture[1, 0, :].min() // 10
        assert (picture[0] == 10 * (row + np.arange(HEIGHT))[:, None]).all()
        assert (np.sort(picture[1], 1) == 10 * (column + np.arange(WIDTH))).all()
        found.append((int(row), int(column)))
    return found


def test_inputs_targets_and_labels_show_the_same_part_and_evaluations_the_middle_or_all(
    tmp_path: Path,
) -> None:
    data = prepared(tmp_path)
    split = load_split(data, "train")
    flips = torch.tensor([True, False, True, False, False])
    part = first_pass(split, flips)
    assert part.target.shape == (5, 3, HEIGHT, WIDTH) and torch.equal(part.inputs, part.target)
    starts = starts_of(part.target)
    assert len(set(starts)) > 1 and all(row <= 3 and column <= 2 for row, column in starts)
    mirrored = first_pass(split, ~flips)
    assert torch.equal(mirrored.target, part.target.flip(3))  # mirrored is the same part
    assert set(starts_of(batch(split, np.arange(5)).target)) == {(1, 1)} and split.targets.shape == (
        5,
        HEIGHT,
        WIDTH,
        3,
    )
    assert (
        load_split(data, "val").targets.shape == (5, HEIGHT, WIDTH, 3)
        and load_split(data, "val").loaded is None
    )
    shapes = prepare(
        ShapesData(height=16, width=16, load_height=20, load_width=20, num_train=3, num_val=2, num_test=2),
        tmp_path / "cache",
    )
    drawn, indices = load_split(shapes, "train"), torch.arange(3)
    assert drawn.loaded is not None and drawn.loaded.labels is not None
    part = first_pass(drawn)
    crop = random_crop((20, 20), (16, 16), 3, indices, torch.ones_like(indices))
    expected = pixels(torch.from_numpy(drawn.loaded.labels), indices, None, crop)
    assert part.labels is not None and torch.equal(part.labels, expected.long())


def test_a_part_depends_on_seed_picture_and_pass_alone_and_every_place_is_as_likely(tmp_path: Path) -> None:
    indices, passes = torch.arange(60).repeat_interleave(50), torch.arange(50).repeat(60)

    def places(seed: int, order: torch.Tensor) -> torch.Tensor:
        sizes = (LOAD_HEIGHT, LOAD_WIDTH), (HEIGHT, WIDTH)
        crop = random_crop(*sizes, seed, indices[order], passes[order])
        return crop.tops * 3 + crop.lefts

    everything = torch.arange(3000)
    counts = torch.bincount(places(0, everything), minlength=12)
    assert (
        (counts > 250 - 5 * 15.1).all() and (counts < 250 + 5 * 15.1).all() and counts.sum() == 3000
    )  # 12 places, sd 15.1
    some = torch.randperm(3000, generator=torch.Generator().manual_seed(0))[:7]
    assert torch.equal(places(0, some), places(0, everything)[some])
    assert not torch.equal(places(1, everything), places(0, everything))


@pytest.mark.parametrize("count", [2, 3])
def test_workers_show_the_parts_that_one_shows(count: int, tmp_path: Path) -> None:
    data = prepared(tmp_path)
    split = load_split(data, "train")
    training = Training.model_construct(
        recipe="pix2pix", seed=5, batch_size=6, flip=True, budget_nimg=60, report_every_nimg=30
    )
    steps = [
        Minibatches(TrainingData(tensors(split)), training, torch.device("cpu"), Workers(rank, number)).step(
            24
        )
        for number in (1, count)
        for rank in range(number)
    ]
    assert torch.equal(steps[0].batch.target, torch.cat([step.batch.target for step in steps[1:]]))
    assert torch.equal(steps[0].batch.inputs, torch.cat([step.batch.inputs for step in steps[1:]]))


def test_unpaired_inputs_and_targets_are_cropped_too(tmp_path: Path) -> None:
    for name in ("trainA", "trainB", "valA", "valB", "testA", "testB"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(4):
            row, column = np.mgrid[:LOAD_HEIGHT, :LOAD_WIDTH].astype(np.uint8)
            Image.fromarray(np.stack([10 * row, 10 * column, row], 2)).save(
                tmp_path / "pictures" / name / f"{index}.png"
            )
    values = {
        "root": str(tmp_path / "pictures"),
        "height": HEIGHT,
        "width": WIDTH,
        "load_height": LOAD_HEIGHT,
        "load_width": LOAD_WIDTH,
    }
    split = load_split(prepare(FolderData.model_validate(values), tmp_path / "cache"), "train")
    held, shown = tensors(split), torch.arange(4)

    def in_pass(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The inputs and targets of a pass, from 0, in their order on disk."""
        sample = SampleIndex(shown, torch.zeros(4, dtype=torch.bool), shown + 4 * number)
        return read_training_inputs(held, sample, 0), read_training(held, sample, 0).target

    for first, second in zip(in_pass(0), in_pass(1)):
        starts = [starts_of(to_float(channels_first(each))) for each in (first, second)]
        assert starts[0] != starts[1]


def test_teacher_and_student_see_the_same_part_and_the_teacher_runs_in_the_loop(
    stages: Stages, tmp_path: Path
) -> None:
    values = {"data.load_height": 20, "data.load_width": 20, "student.terms.mi.start": "other"}
    experiment = with_values(stages.experiment, values, where="test")
    data = prepare(experiment.data, tmp_path / "cache")
    split = load_split(data, "train")
    assert not repeats(split.info, None) and repeats(load_split(stages.data, "train").info, None)
    # a teacher whose training is its student's start: both give the same pictures for the same part
    student = experiment.student.model_copy(
        update={"generator": experiment.teacher.generator, "init": "teacher", "budget_nimg": 16}
    )
    job = Job(training=student, data=data, evaluator=stages.evaluator, teacher=stages.teacher)
    result = perform(job, tmp_path / "run", lambda numbers: None)
    again = quiet(job, tmp_path / "again")
    assert result.metrics == {name: value for name, value in numbers(again)[-1].items() if name != "nimg"}
    first = quiet(
        Job(
            training=student.model_copy(update={"report_every_nimg": 4}),
            data=data,
            evaluator=stages.evaluator,
            teacher=stages.teacher,
        ),
        tmp_path / "c",
    )
    assert first.evaluations[0].numbers["train/l1"] < 1e-6  # the first step: equal networks, equal inputs


@pytest.mark.parametrize(
    "values", [{"load_height": 20}, {"load_width": 20}, {"load_height": 12, "load_width": 20}]
)
def test_a_load_size_that_is_smaller_or_half_given_is_refused(values: dict[str, int], tmp_path: Path) -> None:
    config: DataSet = ShapesData.model_validate({"height": 16, "width": 16, **values})
    with pytest.raises(
        DataError,
        match=r"data.load_height, data.load_width: .* parts of 16 x 16 shall be shown of it; give both",
    ):
        prepare(config, tmp_path)
