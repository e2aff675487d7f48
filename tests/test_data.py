"""Data: every folder layout, every refusal, the decoded copy and the batches made from it."""

import errno
import importlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raydistill.config.base import Stored
from raydistill.config.data import FolderData, ShapesData
from raydistill.data import batch, load_split, prepare, read_info, render_inputs, to_float, to_uint8
from raydistill.data.classes import _palette
from raydistill.data.folder import folder_source
from raydistill.data.inspect import inspect
from raydistill.data.source import SPLITS
from raydistill.data.storing import store
from raydistill.errors import DataError, StoreError

CLASSES = {"classes": ["a", "b", "void"], "ignore_index": 2, "palette": [[255, 0, 0], [0, 255, 0], [0, 0, 0]]}
COUNTS = {"train": 3, "val": 2, "test": 2}


def make_pair(
    folder: Path, stem: str, ids: Sequence[int] = (0, 1), size: tuple[int, int] = (8, 4), suffix: str = ".png"
) -> None:
    """A picture and a label of the given width and height; the label has stripes of `ids`."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(list((folder / "images").iterdir())))
    width, height = size
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(
        folder / "images" / f"{stem}{suffix}"
    )
    label = np.resize(np.array(ids, np.uint8), width)[None].repeat(height, 0)
    Image.fromarray(label).save(folder / "labels" / f"{stem}.png")


def make_labelled(root: Path, classes: dict | None = CLASSES) -> Path:
    for split, count in COUNTS.items():
        for index in range(count):
            make_pair(root / split, f"{split}{index}", (0, 1, 2))
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def make_flat(root: Path, count: int) -> Path:
    for index in range(count):
        make_pair(root, f"p{index}")
    return root


def make_aligned(folder: Path, count: int, size: tuple[int, int] = (16, 8)) -> Path:
    """A is black to the left, B is white to the right."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    for index in range(count):
        both = np.zeros((height, width, 3), np.uint8)
        both[:, width // 2 :] = 255
        Image.fromarray(both).save(folder / f"{index}.png")
    return folder


def folder(root: Path | str, height: int = 4, width: int = 8, **fields: Any) -> FolderData:
    return FolderData.model_validate({"root": str(root), "height": height, "width": width, **fields})


def refused(root: Path | str, tmp_path: Path, *parts: str, **fields: Any) -> None:
    """Preparing `root` is refused with a message that holds all `parts`, and leaves nothing behind."""
    with pytest.raises(DataError) as caught:
        prepare(folder(root, **fields), tmp_path / "cache")
    for part in parts:
        assert part in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))


# ---- layouts and splits ------------------------------------------------------------------------------------


def test_labelled_folders_keep_their_splits_and_the_ignored_class_is_no_class(tmp_path: Path) -> None:
    info = read_info(prepare(folder(make_labelled(tmp_path / "data")), tmp_path / "cache"))
    assert (info.layout, info.num_classes, info.ignore_index, info.input_channels) == ("labelled", 2, 2, 3)
    assert (info.class_names, info.palette) == (("a", "b"), ((255, 0, 0), (0, 255, 0)))
    assert (info.counts, info.split_rule) == (COUNTS, "The data came with train, val and test.")


def test_an_ignored_class_in_front_moves_behind_the_others(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data", {"classes": ["void", "a", "b"], "ignore_index": 0})
    stored = prepare(folder(root), tmp_path / "cache")
    assert (read_info(stored).class_names, read_info(stored).ignore_index) == (("a", "b"), 2)
    labels = load_split(stored, "val").labels
    assert labels is not None and labels[0, 0].tolist() == [2, 0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(("ids", "ignore_index", "channels"), [((0, 3), None, 4), ((0, 3, 255), 4, 5)])
def test_without_classes_json_the_classes_are_those_seen_and_255_is_ignored(
    tmp_path: Path, ids: tuple[int, ...], ignore_index: int | None, channels: int
) -> None:
    for index in range(10):
        make_pair(tmp_path / "data", f"p{index}", ids)
    info = read_info(prepare(folder(tmp_path / "data"), tmp_path / "cache"))
    assert (info.num_classes, info.ignore_index, info.input_channels) == (4, ignore_index, channels)
    assert info.class_names == ("class_0", "class_1", "class_2", "class_3")


def test_generated_colours_are_distinct() -> None:
    assert len(set(_palette(255))) == 255


def test_a_palette_label_gives_its_indices(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    path = root / "train" / "labels" / "train0.png"
    label = Image.open(path)
    label.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert label.mode == "P"
    label.save(path)
    labels = load_split(prepare(folder(root), tmp_path / "cache"), "train").labels
    assert labels is not None and labels[0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_without_splits_15_percent_each_become_val_and_test_by_the_hash_of_the_stem(tmp_path: Path) -> None:
    source = folder_source(folder(make_flat(tmp_path / "data", 20)))
    assert source.counts == {"train": 14, "val": 3, "test": 3}
    assert (
        source.split_rule
        == "The data came without val and test: 15 % of the training pictures each, chosen by the hash of "
        "the stem."
    )


def test_the_val_that_data_were_published_with_is_test_and_val_is_carved_out_of_train(tmp_path: Path) -> None:
    make_aligned(tmp_path / "data" / "train", 20)
    make_aligned(tmp_path / "data" / "val", 4)
    source = folder_source(folder(tmp_path / "data"))
    assert source.counts == {"train": 17, "val": 3, "test": 4}
    assert (
        source.split_rule
        == "The data came without test: 15 % of the training pictures become val, chosen by the hash of the "
        "stem. The val of the files is test here."
    )


@pytest.mark.parametrize(
    ("split", "counts", "rule"),
    [
        (0.25, {"train": 10, "val": 5, "test": 5}, "25 % of the training pictures each"),
        (2, {"train": 16, "val": 2, "test": 2}, "2 of the training pictures each"),
    ],
)
def test_a_config_says_how_many_pictures_are_carved_out(
    tmp_path: Path, split: float, counts: dict[str, int], rule: str
) -> None:
    source = folder_source(folder(make_flat(tmp_path / "data", 20), split=split))
    assert source.counts == counts and rule in source.split_rule


def test_more_than_the_training_pictures_cannot_be_carved_out(tmp_path: Path) -> None:
    refused(make_flat(tmp_path / "data", 7), tmp_path, "too few pictures: train 0, val 5, test 2", split=5)
    for split in (0.5, 0.0, 1, True):
        with pytest.raises(ValueError, match="split"):
            folder("data", split=split)


def test_the_splits_are_disjoint_and_complete(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for index in range(20):
        make_pair(root, f"p{index}", [index])
    stored = prepare(folder(root), tmp_path / "cache")
    seen = [int(label[0, 0]) for split in SPLITS for label in load_split(stored, split).labels]  # type: ignore[union-attr]
    assert sorted(seen) == list(range(20))
    assert seen != list(range(20))


@pytest.mark.parametrize("line", ["p{}", "p{}.jpg", "some/where/p{}.jpg", "/a/p{}.jpg /a/labels/p{}_ids.png"])
def test_lists_name_stems_files_or_segnet_pairs(tmp_path: Path, line: str) -> None:
    for index in range(8):
        make_pair(tmp_path / "data", f"p{index}", [index], suffix=".jpg")
    for split, members in {"train": [0, 1], "val": [6, 2], "test": [3, 4]}.items():
        (tmp_path / "data" / f"{split}.txt").write_text(
            "".join(line.replace("{}", str(index)) + "\n" for index in members)
        )
    stored = prepare(folder(tmp_path / "data"), tmp_path / "cache")
    assert read_info(stored).counts == {"train": 2, "val": 2, "test": 2}
    labels = load_split(stored, "val").labels
    assert labels is not None and labels[:, 0, 0].tolist() == [2, 6]


def test_direction_says_which_half_of_an_aligned_picture_is_the_input(tmp_path: Path) -> None:
    root = make_aligned(tmp_path / "data", 10)
    for direction, input_value, target_value in (("AtoB", 0, 255), ("BtoA", 255, 0)):
        stored = prepare(folder(root, direction=direction), tmp_path / "cache")
        split = load_split(stored, "train")
        assert split.inputs is not None and split.labels is None
        assert (split.inputs == input_value).all() and (split.targets == target_value).all()
        assert (split.info.num_classes, split.info.input_channels, split.info.has_labels) == (None, 3, False)


@pytest.mark.parametrize(
    ("size", "is_said"), [((8, 8), True), ((8, 16), True), ((16, 8), False), ((12, 8), False)]
)
def test_pictures_that_are_halved_and_not_wider_than_high_are_counted_and_said(
    tmp_path: Path, size: tuple[int, int], is_said: bool
) -> None:
    """Where a space or a user says A|B, square pictures are probably none."""
    make_aligned(tmp_path / "data", 10, size)
    info = read_info(prepare(folder(tmp_path / "data", layout="aligned"), tmp_path / "cache"))
    what = "10 are not wider than high, and are halved, as data.layout=aligned says"
    assert any(remark.startswith(what) for remark in info.remarks) == is_said
    found = inspect(tmp_path / "data", "aligned")[0].problems
    assert any("each half is narrow; is it A|B?" in problem for problem in found) == is_said


def test_pictures_are_resized_smoothly_and_labels_to_the_nearest(tmp_path: Path) -> None:
    for index in range(10):
        make_pair(tmp_path / "data", f"p{index}", [0, 0, 0, 0, 9, 9, 9, 9], size=(16, 16))
    split = load_split(prepare(folder(tmp_path / "data", height=8, width=12), tmp_path / "cache"), "train")
    assert split.labels is not None
    assert split.targets.shape == (6, 8, 12, 3) and split.labels.shape == (6, 8, 12)
    assert set(np.unique(split.labels)) == {0, 9}


# ---- refusals ----------------------------------------------------------------------------------------------


def test_an_empty_root_is_refused(tmp_path: Path) -> None:
    refused("", tmp_path, "data.root is empty", "Give --data FOLDER")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refused(
        tmp_path / "absent",
        tmp_path,
        str(tmp_path / "absent"),
        "No such file or directory",
        "Give an existing, readable folder",
    )


def test_an_unknown_layout_is_refused_with_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    refused(tmp_path / "data", tmp_path, "unknown layout", "Found nothing")
    (tmp_path / "data" / "papers").mkdir()
    refused(
        tmp_path / "data",
        tmp_path,
        "Looked for train/images + train/labels",
        "A|B pictures",
        "Found papers",
        "Arrange the data",
    )


def test_an_empty_split_folder_is_refused(tmp_path: Path) -> None:
    make_aligned(tmp_path / "data" / "train", 10)
    (tmp_path / "data" / "val" / "A").mkdir(parents=True)
    refused(
        tmp_path / "data",
        tmp_path,
        str(tmp_path / "data" / "val"),
        "no .png, .jpg",
        "Found A",
        "remove the folder",
    )


@pytest.mark.parametrize(
    ("missing", "kind", "other"), [("labels", "picture", "label"), ("images", "label", "picture")]
)
def test_a_picture_without_label_and_a_label_without_picture_are_refused(
    tmp_path: Path, missing: str, kind: str, other: str
) -> None:
    root = make_labelled(tmp_path / "data")
    for stem in ("train1", "train2"):
        (root / "train" / missing / f"{stem}.png").unlink()
    refused(
        root,
        tmp_path,
        "train1.png",
        f"this {kind} has no {other}",
        str(root / "train" / missing),
        "without one: 2 of 3",
        f"Add the {other}s",
    )


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    shutil.rmtree(root / "test" / "labels")
    refused(root, tmp_path, str(root / "test" / "labels"), "cannot be listed")


def test_a_stem_used_twice_is_refused(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    make_pair(root / "train", "train0", suffix=".jpg")
    refused(root, tmp_path, "train0.png: train0.jpg has the same stem", "Remove or rename one")


def test_too_few_pictures_are_refused_with_the_counts(tmp_path: Path) -> None:
    refused(
        make_flat(tmp_path / "data", 7),
        tmp_path,
        "too few pictures: train 5, val 1, test 1",
        "15 %",
        "val 2 and test 2 at least",
    )


def test_a_list_that_names_an_unknown_stem_is_refused(tmp_path: Path) -> None:
    root = make_flat(tmp_path / "data", 4)
    (root / "train.txt").write_text("p0\nnobody.png\n")
    refused(
        root,
        tmp_path,
        "train.txt: there is no picture in images for the line 'nobody.png'",
        "remove the line",
    )
    (root / "train.txt").write_text("p0\np1\n")
    (root / "labels" / "p1.png").unlink()
    refused(root, tmp_path, "train.txt: there is no label in labels for the line 'p1'")


def test_a_picture_listed_twice_and_lists_without_train_are_refused(tmp_path: Path) -> None:
    root = make_flat(tmp_path / "data", 4)
    (root / "val.txt").write_text("p0\n")
    refused(root, tmp_path, "no train.txt, but val.txt", "Add train.txt")
    (root / "train.txt").write_text("p0\np1\n")
    refused(root, tmp_path, "'p0' is listed twice in train.txt, val.txt", "Remove a line")


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    root = make_flat(tmp_path / "data", 4)
    (root / "train.txt").write_bytes(b"\xff\xfe\x00")
    refused(root, tmp_path, "train.txt: cannot be read as UTF-8 text", "Save it as UTF-8")


def test_a_label_id_outside_the_classes_is_refused(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    make_pair(root / "val", "val1", (0, 7))
    refused(
        root,
        tmp_path,
        str(root / "val" / "labels" / "val1.png"),
        "label id 7",
        "Allowed: 0 to 1, and 2 for ignored",
    )


@pytest.mark.parametrize("kept_bytes", [0, 3, 60])
def test_an_unreadable_picture_is_named(tmp_path: Path, kept_bytes: int) -> None:
    root = make_labelled(tmp_path / "data")
    path = root / "train" / "images" / "train1.png"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    refused(root, tmp_path, str(path), "cannot be read as a picture", "Replace or remove it")


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    path = root / "train" / "images" / "train1.png"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"IDAT", b"I\x00AT"))
    refused(root, tmp_path, str(path), "cannot be read as a picture")


def test_a_picture_too_large_to_be_true_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_labelled(tmp_path / "data")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    refused(root, tmp_path, "train0.png: cannot be read as a picture", "decompression bomb")


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    (root / "train" / "labels" / "train0.png").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    refused(root, tmp_path, "train0.png: this is a git-LFS pointer", "git lfs pull")


def test_a_colour_label_and_a_deep_picture_are_refused(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    Image.new("RGB", (8, 4)).save(root / "train" / "labels" / "train0.png")
    refused(root, tmp_path, "train0.png: the label has mode RGB", "Convert it to class ids")
    Image.fromarray(np.zeros((4, 8), np.uint16)).save(root / "train" / "images" / "train0.png")
    refused(root, tmp_path, "train0.png: the picture has mode I;16", "8 bits per channel")


def test_a_label_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    Image.new("L", (4, 4)).save(root / "train" / "labels" / "train0.png")
    refused(
        root,
        tmp_path,
        str(root / "train" / "labels" / "train0.png"),
        "width and height are (4, 4), of its picture (8, 4)",
    )


def test_an_aligned_picture_of_odd_width_is_refused(tmp_path: Path) -> None:
    refused(
        make_aligned(tmp_path / "data", 10, (15, 8)),
        tmp_path,
        "0.png: the A|B picture is 15 pixels wide",
        "even width",
        layout="aligned",
    )


@pytest.mark.parametrize("name", ["height", "width"])
def test_a_size_that_is_no_multiple_of_4_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        DataError, match=re.escape(f"data.{name} is 30. Allowed: multiples of 4. The nearest are 28 and 32.")
    ):
        prepare(ShapesData.model_validate({name: 30}), tmp_path)


def test_labels_cannot_be_the_target(tmp_path: Path) -> None:
    refused(
        make_labelled(tmp_path / "data"),
        tmp_path,
        "data.direction is BtoA",
        "is labelled",
        "Allowed: AtoB",
        direction="BtoA",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "classes: Field required"),
        ('{"classes": "ab"}', "classes: Input should be a valid tuple"),
        ('{"classes": []}', "0 classes and ignore_index None"),
        (
            '{"classes": ["a"], "ignore_index": 256}',
            "ignore_index 256. Allowed: 1 or more classes, ids 0 to 255",
        ),
        ('{"classes": ["a", "b"], "palette": [[0, 0, 0]]}', "palette: 1 colours. Allowed: 2"),
        ('{"classes": ["a"], "palette": [[0, 0, 256]]}', "values 0 to 255"),
    ],
)
def test_a_wrong_classes_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    root = make_labelled(tmp_path / "data")
    (root / "classes.json").write_text(content)
    refused(root, tmp_path, str(root / "classes.json"), message)


def test_labels_that_ignore_everything_are_refused(tmp_path: Path) -> None:
    for index in range(10):
        make_pair(tmp_path / "data", f"p{index}", [255])
    refused(tmp_path / "data", tmp_path, "255 (ignored) everywhere")


def test_nothing_is_decoded_before_everything_is_paired(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    (root / "train" / "images" / "train0.png").write_bytes(b"damaged")
    (root / "test" / "labels" / "test1.png").unlink()
    refused(root, tmp_path, "test1.png: this picture has no label")


# ---- the decoded copy --------------------------------------------------------------------------------------


def times(stored: Stored) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(stored.path).iterdir()}


def test_a_second_prepare_finds_the_first_copy_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = folder(make_labelled(tmp_path / "data"))
    first = prepare(config, tmp_path / "cache")
    before = times(first)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was decoded"))
    assert prepare(config, tmp_path / "cache") == first
    assert times(first) == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(first.path).name]


def test_the_digest_does_not_depend_on_where_the_data_lie(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    shutil.copytree(root, tmp_path / "elsewhere" / "copy", copy_function=shutil.copyfile)
    here = prepare(folder(root), tmp_path / "cache")
    there = prepare(folder(tmp_path / "elsewhere" / "copy"), tmp_path / "other_cache")
    assert here.digest == there.digest
    assert re.fullmatch("[0-9a-f]{16}", here.digest)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_one_changed_pixel_changes_the_digest(tmp_path: Path, name: str) -> None:
    root = make_labelled(tmp_path / "data")
    before = prepare(folder(root), tmp_path / "cache")
    path = root / "test" / name / "test1.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert prepare(folder(root), tmp_path / "cache").digest != before.digest


def test_a_changed_classes_json_is_noticed(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data")
    before = prepare(folder(root), tmp_path / "cache")
    (root / "classes.json").write_text(json.dumps({**CLASSES, "classes": ["a", "other", "void"]}))
    assert prepare(folder(root), tmp_path / "cache").digest != before.digest


def test_two_processes_may_prepare_the_same_data_at_once(tmp_path: Path) -> None:
    config = folder(make_labelled(tmp_path / "data"))
    source = folder_source(config)

    def overtaken(split):
        prepare(config, tmp_path / "cache")
        return source.read(split)

    stored = store(replace(source, read=overtaken), config, tmp_path / "cache", lambda text: None)
    assert stored == prepare(config, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_full_disk_is_reported_with_the_space_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(importlib.import_module("raydistill.data.storing"), "_header", full)
    with pytest.raises(
        StoreError, match=r"No space left on device.* writable folder with 7 MB free. Free some space"
    ):
        prepare(ShapesData(num_train=768), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_unwritable_place_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"file/cache: the decoded data cannot be written there: .*choose another folder"
    ):
        prepare(ShapesData(num_train=1, num_val=2, num_test=2), tmp_path / "file" / "cache")


def test_a_damaged_or_foreign_copy_is_refused(tmp_path: Path) -> None:
    stored = prepare(ShapesData(num_train=1, num_val=2, num_test=2), tmp_path)
    with pytest.raises(StoreError, match="Put the data back that were there"):
        read_info(stored.model_copy(update={"digest": "0" * 16}))
    (Path(stored.path) / "val_labels.npy").write_bytes(b"")
    with pytest.raises(StoreError, match=r"val_labels.npy: missing or damaged"):
        load_split(stored, "val")
    (Path(stored.path) / "info.json").write_text("{}")
    with pytest.raises(
        StoreError, match=r"info.json: missing, damaged or not from this version. `raydistill plan` with"
    ):
        load_split(stored, "train")


def test_train_and_val_never_open_the_test_files(tmp_path: Path) -> None:
    stored = prepare(folder(make_labelled(tmp_path / "data")), tmp_path / "cache")
    for path in Path(stored.path).glob("test_*"):
        path.unlink()
    assert (len(load_split(stored, "train")), len(load_split(stored, "val"))) == (3, 2)
    with pytest.raises(StoreError, match=r"test_targets.npy"):
        load_split(stored, "test")


# ---- batches -----------------------------------------------------------------------------------------------


def test_shapes_come_as_drawn(tmp_path: Path) -> None:
    stored = prepare(ShapesData(num_train=3, num_val=2, num_test=2), tmp_path)
    split = load_split(stored, "train")
    assert isinstance(split.targets, np.memmap) and isinstance(split.labels, np.memmap)
    assert (split.info.layout, split.info.ignore_index) == ("shapes", None)
    assert (
        split.info.input_channels
        == split.info.num_classes
        == len(split.info.class_names)
        == len(split.info.palette)
    )


def test_labels_become_one_hot_planes_of_minus_one_and_one(tmp_path: Path) -> None:
    split = load_split(prepare(folder(make_labelled(tmp_path / "data")), tmp_path / "cache"), "train")
    part = batch(split, np.array([2, 0]))
    assert (part.inputs.shape, part.inputs.dtype) == ((2, 3, 4, 8), torch.float32)
    assert (part.target.shape, part.target.dtype) == ((2, 3, 4, 8), torch.float32)
    assert part.labels is not None and (part.labels.shape, part.labels.dtype) == ((2, 4, 8), torch.int64)
    assert set(part.inputs.unique().tolist()) == {-1.0, 1.0}
    assert (part.inputs.sum(1) == 2 - 3).all()
    assert torch.equal(part.inputs.argmax(1), part.labels)
    assert torch.equal(
        to_uint8(part.target[1]).permute(1, 2, 0), torch.from_numpy(np.array(split.targets[0]))
    )


def test_a_flip_mirrors_both_of_the_chosen_pairs_only(tmp_path: Path) -> None:
    split = load_split(prepare(folder(make_labelled(tmp_path / "data")), tmp_path / "cache"), "train")
    plain = batch(split, slice(0, 3))
    flipped = batch(split, slice(0, 3), flips=np.array([True, False, True]))
    assert plain.labels is not None and flipped.labels is not None
    for before, after in (
        (plain.inputs, flipped.inputs),
        (plain.target, flipped.target),
        (plain.labels, flipped.labels),
    ):
        assert torch.equal(after[[0, 2]], before[[0, 2]].flip(-1))
        assert torch.equal(after[1], before[1])
    again = batch(split, np.arange(3), flips=np.array([True, False, True]))
    assert torch.equal(again.inputs, flipped.inputs) and torch.equal(again.target, flipped.target)


def test_aligned_pictures_are_inputs_in_minus_one_to_one(tmp_path: Path) -> None:
    split = load_split(prepare(folder(make_aligned(tmp_path / "data", 10)), tmp_path / "cache"), "val")
    part = batch(split, slice(None))
    assert part.labels is None and part.inputs.shape == part.target.shape == (2, 3, 4, 8)
    assert (part.inputs == -1).all() and (part.target == 1).all()
    assert (render_inputs(part.inputs, split.info) == 0).all()


def test_rendered_labels_have_the_palette_and_grey_where_ignored(tmp_path: Path) -> None:
    split = load_split(prepare(folder(make_labelled(tmp_path / "data")), tmp_path / "cache"), "train")
    pictures = render_inputs(batch(split, slice(0, 2)).inputs, split.info)
    assert (pictures.shape, pictures.dtype) == ((2, 4, 8, 3), np.uint8)
    assert pictures[0, 0, :3].tolist() == [[255, 0, 0], [0, 255, 0], [160, 160, 160]]


def test_all_256_values_survive_the_way_to_float_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    floats = to_float(values)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(to_uint8(floats), values)
    assert to_uint8(torch.tensor([-1.5, -1.0, 0.999, 1.5])).tolist() == [0, 0, 255, 255]
