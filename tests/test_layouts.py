"""Layouts of data sets beside labelled and aligned folders: what is found, what is decoded, what is
refused, and `data inspect`."""

import gzip
import json
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.commands.cli import main
from raydistill.config.base import Stored
from raydistill.config.data import FolderData
from raydistill.data import load_split, prepare, read_info
from raydistill.data.detect import find
from raydistill.errors import DataError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def save(
    path: Path, value: int | Sequence[int] = 0, size: tuple[int, int] = (8, 4), mode: str = "RGB"
) -> None:
    """A picture of one colour, of width and height `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = value if mode == "L" or not isinstance(value, int) else (value,) * 3
    Image.new(mode, size, color if isinstance(color, int) else tuple(color)).save(path)


def prepared(root: Path, **fields: Any) -> Stored:
    return prepare(
        FolderData.model_validate({"root": str(root), "height": 4, "width": 8, **fields}),
        root.parent / "cache",
    )


def refusal(root: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepared(root, **fields)
    assert not list((root.parent / "cache").glob("*")), "nothing half-written"
    return str(caught.value)


def firsts(array: np.ndarray | None) -> list[int]:
    """The first number of each picture."""
    assert array is not None
    return array.reshape(len(array), -1)[:, 0].tolist()


# ---- unpaired ----------------------------------------------------------------------------------------------


def make_unpaired(root: Path) -> Path:
    for folder, count, value in (
        ("trainA", 20, 10),
        ("trainB", 10, 200),
        ("testA", 3, 11),
        ("testB", 2, 201),
    ):
        for index in range(count):
            save(root / folder / f"{index}.png", value)
    return root


@pytest.mark.parametrize(("direction", "inputs", "targets"), [("AtoB", 11, 201), ("BtoA", 201, 11)])
def test_unpaired_domains_keep_their_own_numbers_and_direction_says_which_is_the_input(
    tmp_path: Path, direction: str, inputs: int, targets: int
) -> None:
    stored = prepared(make_unpaired(tmp_path / "data"), direction=direction)
    info, test = read_info(stored), load_split(stored, "test")
    a, b = {"train": 17, "val": 3, "test": 3}, {"train": 8, "val": 2, "test": 2}
    assert (info.layout, info.pairing, info.input_channels) == ("unpaired", "unpaired", 3)
    assert (info.input_counts, info.counts) == ((a, b) if direction == "AtoB" else (b, a))
    assert set(firsts(test.inputs)) == {inputs} and set(firsts(test.targets)) == {targets}


def test_a_domain_without_its_mate_is_named(tmp_path: Path) -> None:
    root = make_unpaired(tmp_path / "data")
    shutil.rmtree(root / "testA")
    assert f"{root / 'testA'}: this folder cannot be listed" in refusal(root)


# ---- labels ------------------------------------------------------------------------------------------------


def make_cityscapes(root: Path, ids: Sequence[int] = (7, 0, 33, 26)) -> Path:
    for split, cities in {"train": ("ulm", "jena"), "val": ("lindau",)}.items():
        for city in cities:
            for frame in range(9):
                stem = f"{city}_{frame:06d}_000019"
                save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", 99)
                label = np.resize(np.array(ids, np.uint8), 8)[None].repeat(4, 0)
                path = root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(label).save(path)
    (root / "leftImg8bit" / "test" / "berlin").mkdir(parents=True)
    return root


def test_cityscapes_ids_become_the_19_train_ids_and_the_official_val_is_test(tmp_path: Path) -> None:
    stored = prepared(make_cityscapes(tmp_path / "data"))
    info, test = read_info(stored), load_split(stored, "test")
    assert (info.layout, info.num_classes, info.ignore_index, info.input_channels) == (
        "cityscapes",
        19,
        19,
        20,
    )
    assert info.class_names[:2] == ("road", "sidewalk") and info.class_names[-1] == "bicycle"
    assert info.counts == {"train": 15, "val": 3, "test": 9} and "came without val" in info.split_rule
    assert test.labels is not None and test.labels[0, 0].tolist() == [0, 19, 18, 13] * 2


def test_a_cityscapes_label_that_is_missing_or_no_id_is_named(tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "data", (7, 200))
    assert "the label id 200 is not a class" in refusal(root)
    label = next((root / "gtFine" / "val" / "lindau").iterdir())
    label.unlink()
    assert f"{label}: missing" in refusal(root) and "gtFine_trainvaltest.zip" in refusal(root)


def test_segnets_folders_pair_up_by_stem(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for index in range(2):
            save(tmp_path / "data" / split / f"{index}.png", 5)
            save(tmp_path / "data" / f"{split}annot" / f"{index}.png", index, mode="L")
    stored = prepared(tmp_path / "data")
    assert read_info(stored).layout == "labelled" and firsts(load_split(stored, "test").labels) == [0, 1]


# ---- pictures, with or without classes ---------------------------------------------------------------------


def test_class_folders_give_class_ids_in_the_order_of_their_names(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 1), ("test", 1)):
        for value, name in enumerate(("zebra", "ape")):
            for index in range(count):
                save(tmp_path / "data" / split / name / f"{index}.png", value)
    stored = prepared(tmp_path / "data")
    info, train = read_info(stored), load_split(stored, "train")
    assert (info.layout, info.pairing, info.picture_classes) == ("classes", "pictures", ("ape", "zebra"))
    assert train.inputs is None and train.labels is None
    assert (
        train.classes is not None
        and train.classes.tolist() == [0, 0, 0, 1, 1, 1]
        and firsts(train.targets) == [1, 1, 1, 0, 0, 0]
    )


def test_nested_class_folders_in_a_zip_lose_what_they_have_in_common(tmp_path: Path) -> None:
    for alphabet, character in (("greek", "c1"), ("greek", "c2"), ("latin", "c1")):
        for index in range(5):
            save(tmp_path / "all" / "images" / alphabet / character / f"{index}.png")
    shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "all")
    info = read_info(prepared(tmp_path / "data.zip"))
    assert info.layout == "classes" and info.picture_classes == ("greek/c1", "greek/c2", "latin/c1")


def test_loose_pictures_are_pictures_and_twice_as_wide_ones_are_pairs_unless_told(tmp_path: Path) -> None:
    for index in range(14):
        save(tmp_path / "square" / f"{index}.png", size=(8, 8))
        save(tmp_path / "wide" / f"{index}.png", size=(16, 8))
    found = {name: read_info(prepared(tmp_path / name)) for name in ("square", "wide")}
    assert (found["square"].layout, found["wide"].layout) == ("pictures", "aligned")
    assert read_info(prepared(tmp_path / "wide", layout="pictures")).pairing == "pictures"
    assert read_info(prepared(tmp_path / "square", layout="aligned")).pairing == "pairs"
    with pytest.raises(DataError, match="needed are train/images"):
        prepared(tmp_path / "wide", layout="labelled")


def make_nvlabs(root: Path, labels: Callable[[int], Any] | None) -> Path:
    names = [f"{index // 10:05d}/img{index:08d}.png" for index in range(14)]
    for index, name in enumerate(names):
        save(root / name, index)
    given = None if labels is None else [[name, labels(index)] for index, name in enumerate(names)]
    (root / "dataset.json").write_text(json.dumps({"labels": given}))
    return root


def test_nvlabs_folder_and_zip_are_the_same_data_set(tmp_path: Path) -> None:
    root = make_nvlabs(tmp_path / "data", lambda index: index % 3)
    shutil.make_archive(str(tmp_path / "packed"), "zip", root)
    folder, packed = prepared(root), prepared(tmp_path / "packed.zip")
    assert folder.digest == packed.digest
    info, train = read_info(folder), load_split(folder, "train")
    assert info.layout == "nvlabs" and info.picture_classes == ("class_0", "class_1", "class_2")
    assert train.classes is not None and train.classes.tolist() == [
        value % 3 for value in firsts(train.targets)
    ]
    assert read_info(prepared(make_nvlabs(tmp_path / "plain", None))).picture_classes == ()


@pytest.mark.parametrize(
    ("labels", "printed"),
    [
        (lambda index: [0.5, 0.5], "has the label [0.5, 0.5]. Allowed: one class id"),
        (lambda index: -1, "has the label -1"),
        (lambda index: True, "has the label True"),
    ],
)
def test_nvlabs_labels_that_are_no_class_id_are_refused(
    tmp_path: Path, labels: Callable[[int], Any], printed: str
) -> None:
    assert printed in refusal(make_nvlabs(tmp_path / "data", labels))


def test_nvlabs_names_that_do_not_fit_are_named(tmp_path: Path) -> None:
    root = make_nvlabs(tmp_path / "data", lambda index: 0)
    save(root / "00009" / "more.png")
    assert "more.png: has no label in dataset.json" in refusal(root)
    (root / "00009" / "more.png").unlink()
    (root / "00000" / "img00000000.png").unlink()
    assert "'00000/img00000000.png' has a label and is not there" in refusal(root)
    (root / "dataset.json").write_text("{}")
    assert "dataset.json: KeyError('labels')" in refusal(root)


# ---- arrays ------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def make_idx(root: Path) -> Path:
    root.mkdir()
    for prefix, count in (("train", 14), ("t10k", 3)):
        images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(8, 2)
        (root / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (root / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(idx(np.arange(count, dtype=np.uint8) % 2))
        )
    return root


def test_idx_files_keep_their_test_split(tmp_path: Path) -> None:
    stored = prepared(make_idx(tmp_path / "data"))
    info, test = read_info(stored), load_split(stored, "test")
    assert (info.layout, info.counts, info.picture_classes) == (
        "idx",
        {"train": 12, "val": 2, "test": 3},
        ("class_0", "class_1"),
    )
    assert (
        test.classes is not None and test.classes.tolist() == [0, 1, 0] and firsts(test.targets) == [0, 1, 2]
    )


def test_an_idx_file_that_is_cut_off_or_none_is_named(tmp_path: Path) -> None:
    root = make_idx(tmp_path / "data")
    images = root / "train-images-idx3-ubyte.gz"
    whole = gzip.decompress(images.read_bytes())
    images.write_bytes(gzip.compress(whole[:-1]))
    assert "447 bytes after a header that says (14, 4, 8)" in refusal(root)
    images.write_bytes(images.read_bytes()[:20])
    assert "train-images-idx3-ubyte.gz: cannot be read" in refusal(root)
    images.write_bytes(gzip.compress(b"nothing"))
    assert "not an IDX file" in refusal(root)


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "labels"), ("x_train", "y_train"), ("arr_0", "arr_1")]
)
def test_npz_arrays_are_found_by_their_names(tmp_path: Path, images: str, labels: str) -> None:
    arrays = {images: np.zeros((14, 4, 8, 3), np.uint8), labels: np.arange(14) % 4}
    np.savez(tmp_path / "data.npz", **arrays)
    info = read_info(prepared(tmp_path / "data.npz"))
    assert (
        info.layout == "npz"
        and len(info.picture_classes) == 4
        and info.counts == {"train": 10, "val": 2, "test": 2}
    )


@pytest.mark.parametrize(
    ("arrays", "printed"),
    [
        ({"images": np.zeros((14, 4, 8), np.float32)}, "float32 (14, 4, 8). Allowed: uint8"),
        ({"images": np.zeros((14, 4, 8, 4), np.uint8)}, "uint8 (14, 4, 8, 4). Allowed"),
        (
            {"images": np.zeros((14, 4, 8), np.uint8), "labels": np.zeros(13, int)},
            "14 pictures, labels int64 (13,)",
        ),
        ({"images": np.zeros((14, 4, 8), np.uint8), "labels": -np.ones(14, int)}, "a class id from 0"),
        ({"other": np.zeros(3)}, "arrays other. Needed: images, x_train or arr_0"),
    ],
)
def test_npz_arrays_that_are_no_pictures_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], printed: str
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    assert printed in refusal(tmp_path / "data.npz")


def test_an_npz_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=np.array([{}], object), allow_pickle=True)
    assert "cannot be read as npz" in refusal(tmp_path / "data.npz")


# ---- files -------------------------------------------------------------------------------------------------


def test_zip_entries_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"):
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            archive.writestr(name, b"")
        assert "leaves the folder it would be unpacked to" in refusal(tmp_path / "data.zip"), name


def test_a_folder_of_one_data_file_is_that_file_and_of_several_a_question(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "one.npz", images=np.zeros((14, 4, 8), np.uint8))
    (tmp_path / "data" / "README.md").write_text("")
    assert find(tmp_path / "data").layout == "npz"
    shutil.copy(tmp_path / "data" / "one.npz", tmp_path / "data" / "two.npz")
    assert "2 data files here: one.npz, two.npz" in refusal(tmp_path / "data")


def test_a_grey_picture_among_coloured_ones_is_refused_and_a_grey_set_has_three_equal_channels(
    tmp_path: Path,
) -> None:
    for index in range(14):
        save(tmp_path / "grey" / f"{index:02d}.png", index, mode="L", size=(4, 4))
        save(tmp_path / "mixed" / f"{index:02d}.png", index, mode="L" if index == 7 else "RGB", size=(4, 4))
    assert "07.png: this picture is grey (mode L)" in refusal(tmp_path / "mixed")
    targets = load_split(prepared(tmp_path / "grey"), "train").targets
    assert (targets == targets[..., :1]).all()


# ---- data inspect ------------------------------------------------------------------------------------------


@pytest.fixture
def inspect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Exit code, and what it said."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["raydistill", "data", "inspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out + printed.err

    return run


def test_inspect_tells_layout_counts_sizes_classes_and_writes_the_sheet(inspect: Any, tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "data", (7, 0, 26, 26))
    code, printed = inspect(root)
    lines = printed.splitlines()
    assert code == 0 and lines[0] == f"{root}: cityscapes"
    assert "train 18, test 9" in lines[1] and "8x4 (27)" in lines[2] and "RGB (27)" in lines[3]
    assert any(
        line.split() == ["road", "in", "27", "pictures,", "33.3%", "of", "the", "labelled", "pixels"]
        for line in lines
    )
    assert "ignored    25.0% of the pixels" in printed and "problems   none in 27 pictures" in printed
    assert np.asarray(Image.open("contact-sheet.png")).std() > 0


def test_inspect_names_every_problem(inspect: Any, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for index in range(14):
        save(root / "images" / f"{index:02d}.png", index)
        save(root / "labels" / f"{index:02d}.png", 0, mode="L")
    (root / "classes.json").write_text('{"classes": ["a", "b"]}')
    (root / "images" / "01.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    whole = (root / "images" / "02.png").read_bytes()
    (root / "images" / "02.png").write_bytes(whole[:50])
    save(root / "labels" / "03.png", 9, mode="L")
    save(root / "labels" / "04.png", 0, mode="L", size=(4, 4))
    save(root / "images" / "05.png", 1, mode="L")
    code, printed = inspect(root)
    expected = (
        "01.png: this is a git-LFS pointer",
        "02.png: cannot be read as a picture",
        "03.png: the label id 9 is not a class",
    )
    assert code == 1 and all(
        part in printed for part in (*expected, "04.png: 8x4, its label 4x4", "05.png: grey, as 1 of 12 are")
    )
    assert "problems   5 in 14 pictures" in printed


def test_inspect_gives_json_and_looks_at_no_more_than_asked(inspect: Any, tmp_path: Path) -> None:
    code, printed = inspect(make_unpaired(tmp_path / "data"), "--json", "--num", 7)
    (facts,) = json.loads(printed)
    assert code == 0 and facts["layout"] == "unpaired" and facts["looked_at"] == 7
    assert facts["splits"] == {"train": 10, "test": 2} and facts["input_splits"] == {"train": 20, "test": 3}


def test_inspect_refuses_an_unknown_layout_by_name(inspect: Any, tmp_path: Path) -> None:
    assert inspect(tmp_path, "--layout", "lmdb")[0] == 2


@pytest.mark.parametrize("kind", ["idx", "npz of colours", "npz of greys"])
def test_inspect_shows_the_rows_of_an_array(inspect: Any, tmp_path: Path, kind: str) -> None:
    if kind == "idx":
        root = make_idx(tmp_path / "data")
    else:
        root = tmp_path / "data.npz"
        shape = (17, 4, 8, 3) if "colours" in kind else (17, 4, 8)
        np.savez(root, images=np.random.default_rng(0).integers(0, 255, shape, np.uint8))
    code, printed = inspect(root)
    assert code == 0 and "8x4 (17)" in printed, printed
    assert Image.open("contact-sheet.png").width > 8


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "layout", "splits", "num_classes"),
    [
        ("camvid", "labelled", {"train": 367, "val": 101, "test": 233}, 11),
        ("noto_emoji", "nvlabs", {"train": 1688}, 0),
        ("fashion_mnist_sprite", "npz", {"train": 900}, 10),
        ("omniglot_small/images_background_small1.zip", "classes", {"train": 2720}, 136),
    ],
)
def test_inspect_knows_the_shared_sets(
    inspect: Any, name: str, layout: str, splits: dict[str, int], num_classes: int
) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not there")
    code, printed = inspect(SHARED / name, "--json", "--num", 50)
    (facts,) = json.loads(printed)
    assert (code, facts["layout"], facts["splits"], len(facts["classes"])) == (0, layout, splits, num_classes)
