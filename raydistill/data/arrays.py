"""Layouts whose pictures lie in arrays: IDX and npz."""

import gzip
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from raydistill.data.classes import numbered_names
from raydistill.data.files import LFS_POINTER, Row, few
from raydistill.data.sample import FileLayout, Sample, Splits, SplitsOnDisk
from raydistill.data.source import SplitName
from raydistill.data.tree import walk
from raydistill.errors import DataError
from raydistill.reading import MOST_BYTES, read_block, read_entry, regular, require_claim, require_entries

_SAMPLE_BYTES = 1024
"""Bytes of memory that a picture of an array takes beside its pixels, at most: its names and its place."""


def find_idx(root: Path) -> SplitsOnDisk | None:
    """The IDX files of a folder, LeCun's format: train-* is "train" and t10k-* is "test".

    None where there are none. They may lie in a folder below it, as in MNIST/raw, and have a dot in their
    names, as train-images.idx3-ubyte.

    Raises:
        DataError: a file is cut off or no IDX file, or some splits have labels and others have none; or two
            folders have such files.
    """
    found = [path for _, path in walk(root).files if _idx_name(path)] if root.is_dir() else []
    if len(folders := sorted({path.parent for path in found})) > 1:
        raise DataError(f"{root}: IDX files in {few(folders)}. Allowed: one folder. Give one of them.")
    files = {_idx_name(path): path for path in found}
    if "train-images-idx3-ubyte" not in files:
        return None
    splits, paths = Splits(), []
    prefixes: dict[SplitName, str] = {"train": "train", "test": "t10k"}
    for split, prefix in prefixes.items():
        images = files.get(f"{prefix}-images-idx3-ubyte")
        labels = files.get(f"{prefix}-labels-idx1-ubyte")
        if images is None:
            continue
        paths += [images, *([labels] if labels else [])]
        pictures = _read_idx(images, 3)
        splits[split] = _samples(str(images), pictures, None if labels is None else _read_idx(labels, 1))
    return _splits_of("idx", splits, paths)


def _idx_name(path: Path) -> str:
    """The published name of an IDX file of this name; empty: it has none."""
    name = path.name.removesuffix(".gz").replace(".idx", "-idx")
    return name if re.fullmatch(r"(train|t10k)-(images-idx3|labels-idx1)-ubyte", name) else ""


def _read_idx(path: Path, num_dimensions: int) -> np.ndarray:
    """The array of an IDX file, optionally gzipped.

    Raises DataError where it is not whole or of another kind.
    """
    try:
        with regular(path).open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"  # whatever its name ends in
            file.seek(0)
            read = gzip.GzipFile(fileobj=file).read if is_packed else file.read
            return _idx_array(path, read, num_dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}. Replace it.") from None


def _idx_array(path: Path, read: Callable[[int], bytes], num_dimensions: int) -> np.ndarray:
    """The array in the unpacked bytes of an IDX file, of which no more are read than its header says.

    Raises OSError where it claims too much, and DataError where it is not whole or of another kind.
    """
    header = read_block(read, 4 + 4 * num_dimensions)
    if len(header) < 4 + 4 * num_dimensions or header[:4] != bytes([0, 0, 8, num_dimensions]):
        raise DataError(
            f"{path}: not an IDX file of unsigned bytes in {num_dimensions} dimensions"
            f"{_lfs(header)}. Replace it."
        )
    shape = struct.unpack(f">{num_dimensions}I", header[4:])
    require_claim(math.prod(shape), f"its header {shape}")
    content = read_block(read, math.prod(shape) + 1)
    if len(content) != math.prod(shape):
        number, why = str(len(content)), "It is cut off"
        if len(content) > math.prod(shape):
            number, why = f"more than {math.prod(shape)}", "Some belong to nothing"
        raise DataError(f"{path}: {number} bytes after a header that says {shape}. {why}: replace it.")
    return np.frombuffer(content, np.uint8).reshape(shape)


_NPZ_ERRORS = (
    *(OSError, ValueError, OverflowError, RuntimeError, EOFError, KeyError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What reading a damaged npz file may raise."""
_NPZ_NAMES: dict[SplitName, tuple[tuple[str, str], ...]] = {
    "train": (
        *(("images", "labels"), ("x_train", "y_train"), ("train_images", "train_labels")),
        ("arr_0", "arr_1"),
    ),
    "val": (("x_val", "y_val"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
"""Split -> possible names of its arrays of pictures and of labels, in small letters.

The first pair whose pictures are there counts.
"""


def find_npz(root: Path) -> SplitsOnDisk | None:
    """The arrays of the .npz file `root`; None where it is no such file.

    Raises:
        DataError: the file cannot be read, has no training pictures, or has arrays of another shape or type.
    """
    if root.suffix.lower() != ".npz" or not root.is_file():
        return None
    try:
        with zipfile.ZipFile(regular(root)) as archive:
            require_entries(archive.infolist())
            arrays = {
                entry.filename.removesuffix(".npy").lower(): _npy_array(read_entry(archive, entry))
                for entry in archive.infolist()
                if entry.filename.endswith(".npy")
            }
    except _NPZ_ERRORS as error:
        with root.open("rb") as file:
            why = _lfs(file.read(len(LFS_POINTER)))
        raise DataError(f"{root}: cannot be read as npz: {error}{why}. Replace it.") from None
    splits, used = Splits(), set[str]()
    for split, names in _NPZ_NAMES.items():
        if (pair := next((pair for pair in names if pair[0] in arrays), None)) is not None:
            splits[split] = _samples(f"{root}/{pair[0]}", arrays[pair[0]], arrays.get(pair[1]))
            used |= set(pair)
    if "train" not in splits:
        raise DataError(
            f"{root}: arrays {', '.join(arrays) or 'none'}. "
            "Needed: images, x_train or arr_0, and its labels where there are classes. Rename the array."
        )
    unused = [f"{name} {array.shape}" for name, array in arrays.items() if name not in used]
    left_out = f"arrays {', '.join(unused)}" if unused else ""
    return replace(_splits_of("npz", splits, [root]), left_out=left_out)


def _lfs(start: bytes) -> str:
    """What to say of a file that starts like this, where git-LFS has not fetched it."""
    is_pointer = start.startswith(LFS_POINTER[: max(1, len(start))])
    return ", but a git-LFS pointer: run `git lfs pull`" if is_pointer and start else ""


def _npy_array(content: bytes) -> np.ndarray:
    """The array in a .npy file. Raises ValueError where it is none, or its header and its size differ.

    Arrays of Python objects are refused: unpickling them could run code.
    """
    stream = io.BytesIO(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, is_fortran, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # the header is a Python literal, whose reader may raise anything
        raise ValueError(f"the header of an array is damaged: {type(error).__name__}") from None
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{len(content) - stream.tell():,} bytes of an array {dtype} {shape}")
    array = np.frombuffer(content, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")


def _samples(where: str, images: np.ndarray, labels: np.ndarray | None) -> list[Sample]:
    """A sample for each picture of an array that comes from `where`.

    Args:
        where: file and array, for messages.
        images: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3).
        labels: class ids, integers from 0, (N,) or (N, 1); None: pictures have no classes.

    Raises:
        DataError: an array has another shape or type, there are too many pictures, or an id is negative.
    """
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise DataError(
            f"{where}: {images.dtype} {images.shape}. "
            f"Allowed: uint8 (N, H, W) or (N, H, W, 3), values 0 to 255.{_advice(images)}"
        )
    if 0 in images.shape[1:] or len(images) * _SAMPLE_BYTES > MOST_BYTES:
        raise DataError(
            f"{where}: {len(images):,} pictures of {' x '.join(map(str, images.shape[1:]))}. "
            f"Allowed: at most {MOST_BYTES // _SAMPLE_BYTES:,} pictures, of 1 x 1 pixel or more. "
            "Give more as a folder or zip file of pictures."
        )
    ids: list[int | None] = [None] * len(images)
    if labels is not None:
        is_integer = np.issubdtype(labels.dtype, np.integer)
        if labels.size != len(images) or not is_integer or (len(images) and labels.min() < 0):
            raise DataError(
                f"{where}: {len(images)} pictures, labels {labels.dtype} {labels.shape}. "
                "Needed: a class id from 0 for each. Of one-hot labels that is labels.argmax(1); label maps "
                "are read from folders alone."
            )
        ids = labels.reshape(-1).tolist()
    names = [f"{index:08d}" for index in range(len(images))]
    rows = [Row(f"{where}[{index}]", name, image) for index, (name, image) in enumerate(zip(names, images))]
    return [Sample(name, row, class_id=class_id) for name, row, class_id in zip(names, rows, ids)]


def _advice(images: np.ndarray) -> str:
    """What makes pictures of an array that is none, where that can be told."""
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        return " Put the channels last: images.transpose(0, 2, 3, 1)."
    if images.ndim == 4 and images.shape[3] == 4:
        return " Take alpha out: put the pictures on one colour, or images[..., :3]."
    if images.dtype.kind == "f":
        return " Scale and round it: (images * 255).round().astype('uint8') for values from 0 to 1."
    if images.dtype.kind in "iu" and images.dtype != np.uint8:
        return " Convert it: images.astype('uint8') for values up to 255."
    return " Bring it into this shape."


def _splits_of(layout: FileLayout, splits: Splits, files: list[Path]) -> SplitsOnDisk:
    """These samples, with names for their classes.

    Raises DataError where some have classes and others have none.
    """
    ids = {sample.class_id for samples in splits.values() for sample in samples}
    if None in ids and len(ids) > 1:
        raise DataError(
            f"{files[0]}: some splits have labels and others have none. Add them or leave all out."
        )
    where = str(files[0].parent if len(files) > 1 else files[0])
    names = numbered_names([index for index in ids if index is not None], where)
    return SplitsOnDisk(layout, splits, tuple(files), class_names=names)
