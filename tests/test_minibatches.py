"""Tensors of a split, and the minibatches of a training: the same bits wherever the pictures lie."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from raydistill.config.data import Degradation, FolderData, ShapesData
from raydistill.config.training import Execution, Training
from raydistill.data import load_split, prepare, to_float
from raydistill.data.batches import made
from raydistill.data.mapped import Split
from raydistill.data.tensors import num_bytes, tensors, without_values
from raydistill.distributed import ALONE, Workers
from raydistill.models.inputs import latents, read_training
from raydistill.training import minibatches
from raydistill.training.minibatches import Minibatches, TrainingData, copied_together, held, side_by_side
from raydistill.training.recipes import Step

CPU = torch.device("cpu")
SIDE, COUNT = 8, 5


def pictures(folder: Path, count: int, across: int) -> None:
    """So many pictures of noise, `across` squares wide."""
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(count).integers(0, 256, (count, SIDE, across * SIDE, 3), np.uint8)
    for number, picture in enumerate(drawn):
        Image.fromarray(picture).save(folder / f"{number}.png")


def folder_data(root: Path, counts: dict[str, int], across: int = 1, **values: Any) -> Any:
    for split in ("train", "val", "test"):
        for name, count in counts.items():
            pictures(root / name.format(split), count if split == "train" else 2, across)
    return FolderData.model_validate({"root": str(root), "height": SIDE, "width": SIDE} | values)


SMALLER = {"height": 4, "width": 4, "load_height": SIDE, "load_width": SIDE}
DATA: dict[str, Callable[[Path], Any]] = {
    "labels": lambda root: shapes(),
    "crops of labels": lambda root: shapes(load_height=10, load_width=9),
    "pairs": lambda root: folder_data(root, {"{}": COUNT}, 2, layout="aligned"),
    "crops of pairs": lambda root: folder_data(root, {"{}": COUNT}, 2, layout="aligned", **SMALLER),
    "unpaired": lambda root: folder_data(root, {"{}A": 3, "{}B": COUNT}),
    "crops of unpaired": lambda root: folder_data(root, {"{}A": 3, "{}B": COUNT}, **SMALLER),
    "classes": lambda root: folder_data(root, {"{}/ape": 3, "{}/zebra": 2}),
    "degraded": lambda root: shapes(degrade=Degradation(scale=2, noise_std=20.0)),
}
"""All that a split can hold."""


def shapes(**values: Any) -> ShapesData:
    return ShapesData(height=8, width=8, num_train=COUNT, num_val=2, num_test=2, **values)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    folder = tmp_path_factory.mktemp("splits")
    return {
        name: load_split(prepare(config(folder / name), folder / "cache"), "train")
        for name, config in DATA.items()
    }


all_data = pytest.mark.parametrize("name", DATA)
NAMES = ("targets", "labels", "inputs", "classes")

# ---- tensors of a split ------------------------------------------------------------------------------------


@all_data
def test_the_tensors_of_a_split_are_its_arrays_and_on_a_cpu_the_files_themselves(
    splits: dict[str, Split], name: str
) -> None:
    split = splits[name]
    found = tensors(split)
    assert (found.loaded is None) == (split.loaded is None) == (not name.startswith("crops"))
    for own, given in ((found, split), (found.loaded or found, split.loaded or split)):
        for field in NAMES:
            tensor, array = getattr(own, field), getattr(given, field)
            assert (tensor is None) == (array is None), field
            if array is not None:
                assert np.array_equal(tensor.numpy(), array) and np.shares_memory(tensor.numpy(), array)
    assert len(found) == COUNT and found.device == CPU and found.info is split.info
    assert found.num_inputs == (3 if "unpaired" in name else COUNT)


@all_data
def test_without_values_a_split_has_its_shapes_types_and_size(splits: dict[str, Split], name: str) -> None:
    split = splits[name]
    found, real = without_values(split.info), tensors(split)
    assert (found.loaded is None) == (real.loaded is None)
    for own, other in ((found, real), (found.loaded or found, real.loaded or real)):
        for field in NAMES:
            tensor, expected = getattr(own, field), getattr(other, field)
            assert (tensor is None) == (expected is None), field
            if tensor is not None:
                assert tensor.is_meta
                assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype), field
    on_disk = split.loaded or split
    sizes = [getattr(on_disk, field).nbytes for field in NAMES if getattr(on_disk, field) is not None]
    assert num_bytes(split.info) == sum(sizes)
    val = without_values(split.info, "val")
    assert val.loaded is None and len(val) == split.info.counts["val"]


# ---- minibatches -------------------------------------------------------------------------------------------


def training(**values: Any) -> Training:
    given = {"seed": 3, "batch_size": 3, "flip": True, "budget_nimg": 24, "report_every_nimg": 9}
    return Training.model_construct(**{"recipe": "r", "execution": Execution()} | given | values)


def outputs_of(split: Split, dtype: torch.dtype = torch.float32) -> Tensor:
    """(2, inputs, 3, H, W): a picture that says whether it is mirrored and of which input it is."""
    mirrored, inputs = torch.meshgrid(torch.arange(2), torch.arange(tensors(split).num_inputs), indexing="ij")
    shape = (-1, -1, 3, split.info.height, split.info.width)
    return (100 * mirrored + inputs).to(dtype)[:, :, None, None, None].expand(shape)


def contents(step: Step) -> dict[str, Tensor]:
    """All tensors of a step, by name."""
    found = {f"batch.{name}": value for name, value in vars(step.batch).items()}
    found |= {f"sample.{name}": value for name, value in step.sample._asdict().items()}
    return {name: value for name, value in (found | {"stored": step.stored}).items() if value is not None}


def assert_same_bits(one: Step, other: Step) -> None:
    a, b = contents(one), contents(other)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert (one.images, one.is_reported) == (other.images, other.is_reported)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data count as lying on another device: they are read ahead, and copied as to a GPU."""
    monkeypatch.setattr(Minibatches, "are_read_ahead", True)
    monkeypatch.setattr(minibatches, "copied_together", side_by_side)


def steps_of(data: TrainingData, order: list[int], workers: Workers = ALONE, **values: Any) -> list[Step]:
    source = Minibatches(data, training(**values), CPU, workers)
    return [source.step(nimg) for nimg in order]


@all_data
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_minibatches_that_are_read_ahead_have_the_bits_of_those_that_are_not(
    splits: dict[str, Split], name: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    """Over three passes, of which the last minibatch is read twice, and from the middle of a training."""
    split = splits[name]
    data, order = TrainingData(tensors(split), outputs_of(split, dtype)), [0, 3, 6, 9, 12, 12, 6, 9]
    plain = steps_of(data, order)
    request.getfixturevalue("elsewhere")
    for one, other in zip(plain, steps_of(data, order), strict=True):
        assert_same_bits(one, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("name", [name for name in DATA if name != "degraded"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_minibatches_on_a_gpu_have_the_bits_of_those_on_a_cpu(
    splits: dict[str, Split], name: str, share: float
) -> None:
    """Read ahead and copied, or taken from its memory. A degradation's noise may round otherwise there."""
    split, device = splits[name], torch.device("cuda")
    given = training(execution=Execution(resident_share=share))
    source = Minibatches(held(split, outputs_of(split), given, device), given, device, ALONE)
    assert source.are_read_ahead == (not share)
    for plain in steps_of(TrainingData(tensors(split), outputs_of(split)), [0, 3, 6, 9, 6]):
        found, expected = contents(source.step(plain.nimg)), contents(plain)
        assert found.keys() == expected.keys()
        for field, value in found.items():
            assert value.is_cuda or field.startswith("sample.")
            assert torch.equal(value.cpu(), expected[field]), field


@all_data
def test_a_step_shows_what_its_sample_says(splits: dict[str, Split], name: str) -> None:
    """The pictures, their inputs and the teacher's outputs are of the same images, mirrored alike."""
    split = splits[name]
    own, outputs = tensors(split), outputs_of(split)
    for step in steps_of(TrainingData(own, outputs), [0, 3, 6, 9]):
        sample = step.sample
        expected = outputs[sample.flips.long(), sample.indices]
        assert step.stored is not None and torch.equal(step.stored, expected)
        assert sample.positions.tolist() == list(step.images)
        if "unpaired" not in name:
            shown = made(read_training(own, sample, 3), split.info)
            assert torch.equal(step.batch.target, shown.target)
            assert torch.equal(step.batch.inputs, shown.inputs)
            if split.classes is not None:
                assert step.batch.classes is not None
                assert step.batch.classes.tolist() == split.classes[sample.indices].tolist()
    rounded = steps_of(TrainingData(own, outputs_of(split, torch.uint8)), [6])[0].stored
    stored = steps_of(TrainingData(own, outputs), [6])[0].stored
    assert rounded is not None and stored is not None
    assert torch.equal(rounded, to_float(stored.to(torch.uint8))) and rounded.dtype == torch.float32


def test_plain_outputs_alone_are_those_of_every_image(splits: dict[str, Split]) -> None:
    """Where nothing is mirrored, there is one row of outputs."""
    split = splits["pairs"]
    data = TrainingData(tensors(split), outputs_of(split)[:1])
    (step,) = steps_of(data, [3], flip=False)
    assert step.stored is not None and not step.sample.flips.any()
    assert step.stored[:, 0, 0, 0].tolist() == step.sample.indices.tolist()


@pytest.mark.parametrize("name", ["labels", "crops of unpaired", "degraded"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_workers_read_the_parts_of_what_one_reads(
    splits: dict[str, Split], name: str, number: int, elsewhere: None
) -> None:
    data = TrainingData(tensors(splits[name]))
    for nimg in (0, 3):
        (whole,) = steps_of(data, [nimg])
        parts = [steps_of(data, [nimg], Workers(rank, number))[0] for rank in range(number)]
        assert [image for part in parts for image in part.images] == list(whole.images)
        for field, expected in contents(whole).items():
            assert torch.equal(torch.cat([contents(part)[field] for part in parts]), expected), field


def test_a_generator_of_noise_gets_that_of_its_images(
    splits: dict[str, Split], monkeypatch: pytest.MonkeyPatch, elsewhere: None
) -> None:
    """And of each target neither labels nor inputs are read."""
    monkeypatch.setattr(minibatches, "trained_latent_size", lambda training: 7)
    (step,) = steps_of(TrainingData(tensors(splits["labels"])), [6])
    assert torch.equal(step.batch.inputs, latents(3, "latent", range(6, 9), 7)) and step.batch.labels is None


def test_the_next_minibatch_is_read_while_this_one_is_computed_and_each_once(
    splits: dict[str, Split], elsewhere: None
) -> None:
    """In a thread; what was read ahead for another place is dropped."""
    source = Minibatches(TrainingData(tensors(splits["pairs"])), training(), CPU, ALONE)
    read, original = [], source._read

    def noted(images: range) -> Any:
        read.append((images.start, threading.current_thread() is threading.main_thread()))
        return original(images)

    source._read = noted  # type: ignore[method-assign]
    for nimg in (0, 3, 6, 15):
        source.step(nimg)
    assert source._ahead is not None
    source._ahead[1].result()
    assert read == [(place, False) for place in (0, 3, 6, 9, 15, 18)]


def test_what_fails_while_it_is_read_ahead_ends_the_training(
    splits: dict[str, Split], elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Minibatches(TrainingData(tensors(splits["pairs"])), training(), CPU, ALONE)
    source.step(0)

    def broken(*given: Any, **values: Any) -> None:
        raise OSError("the disk is gone")

    source.step(3)  # which reads the one at 6
    assert source._ahead is not None
    source._ahead[1].result()
    monkeypatch.setattr(minibatches, "read_training", broken)
    source.step(6)
    with pytest.raises(OSError, match="the disk is gone"):
        source.step(9)


def test_the_report_that_follows_a_step_is_known_in_it(splits: dict[str, Split]) -> None:
    """After 9, 18 and, at the end, 24 images."""
    steps = steps_of(TrainingData(tensors(splits["pairs"])), list(range(0, 24, 3)))
    assert [step.nimg for step in steps if step.is_reported] == [6, 15, 21]


# ---- copies ------------------------------------------------------------------------------------------------

COPIED = [
    torch.arange(7, dtype=torch.uint8),
    torch.tensor([True, False, True]),
    torch.arange(24.0).view(2, 3, 4).transpose(0, 2),
    torch.tensor(2**40 + 1),
    torch.empty(0, 5),
    torch.arange(5, dtype=torch.int32)[1:4],
]
"""Types whose parts need alignment, no dimensions, no values, and a view that is not contiguous."""


def test_tensors_that_are_copied_side_by_side_are_what_they_were() -> None:
    found = side_by_side(COPIED, CPU)
    for one, other in zip(found, COPIED, strict=True):
        assert torch.equal(one, other) and (one.dtype, one.shape) == (other.dtype, other.shape)
    bases = {each.untyped_storage().data_ptr() for each in found}
    assert len(bases) == 1, "one copy"
    found[0].fill_(0)
    assert COPIED[0][-1] == 6


def test_what_is_there_already_is_not_copied_and_the_rest_goes_together() -> None:
    assert all(one is other for one, other in zip(copied_together(COPIED, CPU), COPIED, strict=True))
    moved = copied_together(COPIED, torch.device("meta"))
    assert [(each.shape, each.dtype) for each in moved] == [(each.shape, each.dtype) for each in COPIED]
    assert all(each.is_meta for each in moved)


# ---- where the data lie ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "is_there"), [(0.0, False), (0.49, False), (0.5, True), (1.0, True)])
def test_data_lie_on_a_gpu_where_they_take_no_more_than_their_share(
    splits: dict[str, Split], monkeypatch: pytest.MonkeyPatch, share: float, is_there: bool
) -> None:
    """Pictures at their size on disk and stored outputs together are half of a GPU's memory."""
    split, asked = splits["crops of pairs"], []
    needed = num_bytes(split.info) + 1000
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=2 * needed)
    )

    def noted(split: Split, device: Any = "cpu") -> Any:
        asked.append(str(device))
        return tensors(split)

    monkeypatch.setattr(minibatches, "tensors", noted)
    outputs: Any = SimpleNamespace(nbytes=1000, to=lambda device: f"on {device}")
    given = training(execution=Execution(resident_share=share))
    found = held(split, outputs, given, torch.device("cuda"))
    assert asked[-1] == ("cuda" if is_there else "cpu")
    assert found.outputs == ("on cuda" if is_there else outputs)


def test_on_a_cpu_nothing_is_copied(splits: dict[str, Split]) -> None:
    split, outputs = splits["pairs"], torch.zeros(1, COUNT, 3, SIDE, SIDE)
    found = held(split, outputs, training(), CPU)
    assert found.outputs is outputs and np.shares_memory(found.split.targets.numpy(), split.targets)
