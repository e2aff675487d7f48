"""Arrays and archives as people have them: read, or refused in one line with the file and what to do."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raydistill.data.detect import find
from raydistill.errors import DataError
from raydistill.evaluation.picture_sets import of_files

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 8, 6, 3), np.uint8)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        find(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (PICTURES.transpose(0, 3, 1, 2), "images.transpose(0, 2, 3, 1)"),
        ((PICTURES / 255).astype(np.float32), "(images * 255).round().astype('uint8')"),
        (PICTURES.astype(np.int64), "images.astype('uint8')"),
        (np.concatenate([PICTURES, PICTURES[..., :1]], 3), "Take alpha out"),
        (PICTURES.reshape(12, -1), "Bring it into this shape"),
    ],
)
def test_an_array_that_is_no_pictures_is_refused_with_what_makes_it_some(
    tmp_path: Path, array: np.ndarray, advice: str
) -> None:
    np.savez(tmp_path / "data.npz", images=array)
    assert advice in refusal(tmp_path / "data.npz")


@pytest.mark.parametrize(
    "labels",
    [np.eye(3)[np.arange(12) % 3], np.array(["a"] * 12), np.arange(12) / 2, np.zeros((12, 8, 6), int)],
)
def test_labels_that_are_no_ids_are_refused_with_the_way(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "data.npz", images=PICTURES, labels=labels)
    assert "labels.argmax(1)" in refusal(tmp_path / "data.npz")


@pytest.mark.parametrize(
    "names", [("X_train", "Y_train"), ("train_images", "train_labels"), ("IMAGES", "Labels")]
)
def test_names_of_arrays_in_any_case_and_of_medmnist(tmp_path: Path, names: tuple[str, str]) -> None:
    arrays: dict[str, Any] = {names[0]: PICTURES, names[1]: np.arange(12)[:, None] % 3, "mask": np.zeros(3)}
    np.savez(tmp_path / "data.npz", **arrays)
    on_disk = find(tmp_path / "data.npz")
    assert len(on_disk.class_names) == 3 and on_disk.left_out == "arrays mask (3,)"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(
    ("folder", "name", "pack"),
    [
        ("MNIST/raw", "train-images-idx3-ubyte", bytes),
        (".", "train-images.idx3-ubyte", bytes),
        (".", "train-images-idx3-ubyte", gzip.compress),
        ("gzip", "train-images-idx3-ubyte.gz", bytes),
    ],
)
def test_idx_files_where_and_as_people_have_them(
    tmp_path: Path, folder: str, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / name).write_bytes(pack(idx(PICTURES[..., 0])))
    (tmp_path / folder / name.replace("images", "labels").replace("idx3", "idx1")).write_bytes(
        pack(idx((np.arange(12) % 3).astype(np.uint8)))
    )
    assert find(tmp_path).layout == "idx" and len(find(tmp_path).class_names) == 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train-images-idx3-ubyte").write_bytes(b"")
    assert "Allowed: one folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        *(
            ("a.tar.gz", "Unpack it"),
            ("a.7z", "Unpack it"),
            ("a.mdb", "Give the folder"),
            ("a.h5", "PNG files"),
        ),
        *(
            ("a.tfrecord", "PNG files"),
            ("a.mat", "PNG files"),
            ("images.npy", "numpy.savez"),
            ("a.parquet", "npz"),
        ),
    ],
)
def test_files_that_are_not_read_are_named_with_the_way(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    assert advice in refusal(tmp_path / name)
    with pytest.raises(DataError, match="this kind of file is not read"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["a.npz", "a.zip"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4", b"<html>", b"\0" * 100, b"version https://git-lfs.github.com/spec"]
)
def test_a_damaged_archive_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert ("git lfs pull" in message) == content.startswith(b"version")


def test_an_archive_with_scribbles_in_it_never_ends_in_a_traceback(tmp_path: Path) -> None:
    stream, rng = io.BytesIO(), np.random.default_rng(0)
    np.savez_compressed(stream, images=PICTURES, labels=np.arange(12) % 3)
    whole = stream.getvalue()
    for place in range(0, len(whole), 23):
        (tmp_path / "a.npz").write_bytes(whole[:place] + rng.bytes(5) + whole[place + 5 :])
        try:
            find(tmp_path / "a.npz")
        except DataError as error:
            assert "\n" not in str(error)
    packed = tmp_path / "b.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for index in range(3):
            picture = io.BytesIO()
            Image.fromarray(PICTURES[index]).save(picture, "PNG")
            archive.writestr(f"{index}.png", picture.getvalue())
    whole = packed.read_bytes()
    for place in range(0, len(whole), 23):
        packed.write_bytes(whole[:place] + rng.bytes(5) + whole[place + 5 :])
        try:
            for sample in find(packed).splits["train"]:
                sample.picture.open()
        except DataError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"images": []}', "KeyError('labels')"),
        (json.dumps({"labels": [["0.png", 0], ["0.png", 1]]}), "0.png is listed twice"),
        (json.dumps({"labels": [["0.png", 0, 1]]}), "ValueError"),
    ],
)
def test_a_dataset_json_that_is_none_is_one_line(tmp_path: Path, content: str, says: str) -> None:
    for index in range(12):
        Image.fromarray(PICTURES[index]).save(tmp_path / f"{index}.png")
    (tmp_path / "dataset.json").write_text(content)
    assert says in refusal(tmp_path)


def test_two_sets_of_other_shapes_and_the_same_bytes_have_two_digests(tmp_path: Path) -> None:
    digests = set()
    for name, array in (("a", PICTURES), ("b", PICTURES.reshape(12, 6, 8, 3))):
        np.savez(tmp_path / f"{name}.npz", images=array)
        digests.add(
            of_files(tmp_path / f"{name}.npz", in_order_of_split=False, device=torch.device("cpu")).digest
        )
    assert len(digests) == 2
