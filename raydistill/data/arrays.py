"""Layouts whose pictures lie in arrays: IDX and npz."""

import gzip
import struct
from pathlib import Path

import numpy as np

from raydistill.data.files import Row, entries
from raydistill.data.sample import FileLayout, Sample, Splits, SplitsOnDisk
from raydistill.data.source import SplitName
from raydistill.errors import DataError


def idx(root: Path) -> SplitsOnDisk | None:
    """LeCun's format. train-*, and t10k-* as test."""
    there = {path.name.removesuffix(".gz"): path for path in entries(root)} if root.is_dir() else {}
    if "train-images-idx3-ubyte" not in there:
        return None
    splits, files = Splits(), []
    prefixes: dict[SplitName, str] = {"train": "train", "test": "t10k"}
    for split, prefix in prefixes.items():
        if (images := there.get(f"{prefix}-images-idx3-ubyte")) is None:
            continue
        labels = there.get(f"{prefix}-labels-idx1-ubyte")
        files += [images, *([labels] if labels else [])]
        splits[split] = _rows(
            str(images), _read_idx(images, 3), None if labels is None else _read_idx(labels, 1)
        )
    return _of_arrays("idx", splits, files)


def _read_idx(path: Path, num_dimensions: int) -> np.ndarray:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}. Replace it.") from None
    header = 4 + 4 * num_dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, num_dimensions]):
        raise DataError(
            f"{path}: not an IDX file of unsigned bytes in {num_dimensions} dimensions. Replace it."
        )
    shape = struct.unpack(f">{num_dimensions}I", content[4:header])
    if len(content) - header != int(np.prod(shape)):
        raise DataError(
            f"{path}: {len(content) - header} bytes after a header that says {shape}. It is cut off: replace it."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


_NPZ_NAMES: dict[SplitName, tuple[tuple[str, str], ...]] = {
    "train": (("images", "labels"), ("x_train", "y_train"), ("arr_0", "arr_1")),
    "val": (("x_val", "y_val"),),
    "test": (("x_test", "y_test"),),
}


def npz(root: Path) -> SplitsOnDisk | None:
    if root.suffix.lower() != ".npz" or not root.is_file():
        return None
    try:
        with np.load(root) as file:
            arrays = {
                name: file[name] for name in file.files
            }  # object arrays are refused: they would run code
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{root}: cannot be read as npz: {error}. Replace it.") from None
    splits = Splits()
    for split, names in _NPZ_NAMES.items():
        if (pair := next((pair for pair in names if pair[0] in arrays), None)) is not None:
            splits[split] = _rows(f"{root}/{pair[0]}", arrays[pair[0]], arrays.get(pair[1]))
    if "train" not in splits:
        raise DataError(
            f"{root}: arrays {', '.join(arrays)}. Needed: images, x_train or arr_0, and its labels where there are classes."
        )
    return _of_arrays("npz", splits, [root])


def _rows(where: str, images: np.ndarray, labels: np.ndarray | None) -> list[Sample]:
    """(N, H, W) or (N, H, W, 1 or 3) uint8, and class ids (N,) or (N, 1)."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise DataError(
            f"{where}: {images.dtype} {images.shape}. Allowed: uint8 (N, H, W) or (N, H, W, 3), values 0 to 255."
        )
    ids: list[int | None] = [None] * len(images)
    if labels is not None:
        if (
            labels.size != len(images)
            or not np.issubdtype(labels.dtype, np.integer)
            or (len(images) and labels.min() < 0)
        ):
            raise DataError(
                f"{where}: {len(images)} pictures, labels {labels.dtype} {labels.shape}. Needed: a class id from 0 for each."
            )
        ids = labels.reshape(-1).tolist()
    names = [f"{index:08d}" for index in range(len(images))]
    rows = [Row(f"{where}[{index}]", name, image) for index, (name, image) in enumerate(zip(names, images))]
    return [Sample(name, row, class_id=class_id) for name, row, class_id in zip(names, rows, ids)]


def _of_arrays(layout: FileLayout, splits: Splits, files: list[Path]) -> SplitsOnDisk:
    ids = {sample.class_id for samples in splits.values() for sample in samples}
    if None in ids and len(ids) > 1:
        raise DataError(
            f"{files[0]}: some splits have labels and others have none. Add them or leave all out."
        )
    names = (
        ()
        if None in ids
        else tuple(f"class_{index}" for index in range(max(index for index in ids if index is not None) + 1))
    )
    return SplitsOnDisk(layout, splits, tuple(files), class_names=names)
