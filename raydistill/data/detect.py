"""The layouts that the files of a data set may have: which one it is, and which sample each file belongs to.

Nothing is decoded here but the header of a picture.

labelled    <split>/images + <split>/labels, images/<split> + labels/<split>, or images + labels with optional
            lists <split>.txt, or SegNet's <split> + <split>annot; other names of folders: `folder_names`
cityscapes  leftImg8bit/<split>/<city>/*_leftImg8bit.png with gtFine/<split>/<city>/*_gtFine_labelIds.png
unpaired    trainA + trainB, and optionally testA + testB, valA + valB: A is the input, B the target
aligned     <split>/ or the folder itself, at any depth, with pictures of A (left half) beside B (right half);
            classes.json where A are label maps in colours
nvlabs      a zip file or folder with dataset.json
lmdb        data.mdb with pictures under 256-00000, 256-00001, ... and their number under length
idx         *-images-idx3-ubyte and *-labels-idx1-ubyte of train and t10k, also as .gz
npz         images or x_train, ..., with labels or y_train, ...
classes     <split>/<class>/ or <class>/ with pictures, in a folder or zip file
pictures    <split>/ or the folder or zip file itself with pictures, at any depth
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from raydistill.data.arrays import find_idx, find_npz
from raydistill.data.files import entries, few, is_there, tree_of
from raydistill.data.labelled import find_cityscapes, find_labelled
from raydistill.data.lmdb_files import find_lmdb
from raydistill.data.nvlabs import find_nvlabs
from raydistill.data.picture_files import PICTURES
from raydistill.data.picture_folders import (
    find_aligned,
    find_asked_classes,
    find_classes,
    find_pictures,
    find_unpaired,
)
from raydistill.data.sample import FileLayout, SplitsOnDisk
from raydistill.data.tree import left_out, require_utf8
from raydistill.errors import DataError

_MOST_HEADERS = 256
"""Pictures that are looked at, evenly spread, to tell A|B pictures from others."""


def find(root: Path, layout: FileLayout | Literal["auto"] = "auto") -> SplitsOnDisk:
    """The samples of the data set at `root`, and what else lies there.

    Where a folder holds none of the layouts, but one zip or npz file, they are those of that file.

    Args:
        root: folder, zip file or npz file.
        layout: the layout to look for; "auto": the first of `LAYOUTS` that is there.

    Raises:
        DataError: the layout is not there, or files do not pair up.
    """
    require_utf8(root)
    if (on_disk := look(root, layout)) is not None:
        return replace(on_disk, left_out=on_disk.left_out or _left_out(root, on_disk))
    inside = packed(root)
    if len(inside) == 1:
        on_disk, rest = find(inside[0], layout), left_out(tree_of(root), [inside[0].name])
        both = [each for each in (on_disk.left_out, rest and f"beside {inside[0].name}: {rest}") if each]
        return replace(on_disk, left_out="; ".join(both))
    if inside:
        raise DataError(f"{root}: {len(inside)} data files here: {few(inside)}. Give one of them.")
    paths = [root] if root.is_file() else entries(root)
    names = few(paths)
    for path, how in (
        (path, how) for path in paths for ending, how in _UNREAD.items() if path.name.lower().endswith(ending)
    ):
        raise DataError(f"{path}: this kind of file is not read. {how}")
    if layout == "auto":
        raise DataError(
            f"{root}: unknown layout. Looked for train/images + train/labels, images + labels, train + "
            "trainannot, leftImg8bit + gtFine, trainA + trainB, dataset.json, data.mdb, *-idx3-ubyte, .npz, "
            f"class folders, and pictures, also A|B pictures ({', '.join(PICTURES)}). Found {names}. "
            "Arrange the data in one of these ways."
        )
    raise DataError(
        f"{root}: data.layout is {layout}: needed are {_NEEDED[layout]}. Found {names}. "
        "Add them, or leave data.layout out."
    )


def look(root: Path, layout: FileLayout | Literal["auto"] = "auto") -> SplitsOnDisk | None:
    """As `find`, but without looking into a file inside of `root`; None where the layout is not there."""
    if not root.is_file():
        entries(root)  # raises DataError where there is no such folder
    if layout == "classes":
        return find_asked_classes(root)
    for name in LAYOUTS if layout == "auto" else [layout]:
        if (on_disk := LAYOUTS[name](root)) is not None:
            is_aligned = on_disk.layout == "aligned" or (layout == "auto" and _looks_aligned(on_disk))
            return _as_aligned(root, on_disk) if is_aligned else on_disk
    return None


def _as_aligned(root: Path, on_disk: SplitsOnDisk) -> SplitsOnDisk:
    """The same samples as A|B pictures, with the table of the colours of A where there is one."""
    table = root / "classes.json"
    files = (*on_disk.files, table) if root.is_dir() and is_there(table) else on_disk.files
    return replace(on_disk, layout="aligned", files=files)


def _left_out(root: Path, on_disk: SplitsOnDisk) -> str:
    """What lies below `root` and is in no sample, in words; empty: nothing."""
    if root.is_file() and root.suffix.lower() != ".zip":
        return ""
    tree = tree_of(root)
    if odd := next((name for name in tree.folders if name.lower().endswith(PICTURES)), None):
        raise DataError(f"{root / odd}: this is a folder, named like a picture. Rename or remove it.")
    if root.is_file():
        splits = (*on_disk.splits.values(), *(on_disk.inputs or {}).values())
        used = [sample.picture.name for samples in splits for sample in samples]
        return left_out(tree, [*used, "dataset.json"])
    return left_out(tree, (path.relative_to(root).as_posix() for path in on_disk.files))


def packed(folder: Path) -> list[Path]:
    """The zip and npz files in a folder; none if `folder` is a file.

    Raises DataError where there is no such folder.
    """
    if folder.is_file():
        return []
    return [path for path in entries(folder) if path.suffix.lower() in (".zip", ".npz")]


def _looks_aligned(on_disk: SplitsOnDisk) -> bool:
    """Whether loose pictures are A|B: all that are looked at are twice as wide as high."""
    if on_disk.layout != "pictures":
        return False
    samples = [sample for listed in on_disk.splits.values() for sample in listed]
    chosen = np.unique(np.linspace(0, len(samples) - 1, _MOST_HEADERS).astype(int))
    sizes = [size for index in chosen if (size := samples[index].picture.size()) is not None]
    return bool(sizes) and all(map(is_twice_as_wide, sizes))


def is_twice_as_wide(size: tuple[int, int]) -> bool:
    """Whether a picture of this width and height may be A beside B."""
    return size[0] == 2 * size[1]


LAYOUTS: dict[str, Callable[[Path], SplitsOnDisk | None]] = {
    "npz": find_npz,
    "nvlabs": find_nvlabs,
    "lmdb": find_lmdb,
    "idx": find_idx,
    "cityscapes": find_cityscapes,
    "labelled": find_labelled,
    "unpaired": find_unpaired,
    "classes": find_classes,
    "pictures": find_pictures,
    "aligned": find_aligned,
}
"""Layout -> a function that returns the samples at a path, or None where that layout is not there.

They are asked in this order, and the first answer counts.
"""


_AS_PICTURES = "Write its pictures as PNG files into a folder, or as array images of an .npz file."
_AS_PNG = "Convert the pictures to PNG or JPEG."
_UNREAD = {
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.xz", ".rar", ".7z"), "Unpack it and give the folder."),
    ".mdb": "Give the folder that it lies in.",
    **dict.fromkeys((".lmdb", ".h5", ".hdf5", ".mat", ".tfrecord", ".parquet"), _AS_PICTURES),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".arrow", ".bin"), _AS_PICTURES),
    **dict.fromkeys((".heic", ".heif", ".jxl", ".jp2", ".dng", ".dcm", ".nii", ".exr"), _AS_PNG),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "Write its frames as PNG files."),
    ".npy": "Put the array into an .npz file: numpy.savez('data.npz', images=array).",
}
"""How names of files end that people keep pictures in and that are not read -> what to do."""
_NEEDED = {
    "npz": "an .npz file",
    "lmdb": "data.mdb, with the keys 256-00000 and length",
    "nvlabs": "dataset.json and pictures, in a folder or zip file",
    "idx": "train-images-idx3-ubyte or train-images-idx3-ubyte.gz",
    "cityscapes": "leftImg8bit and gtFine",
    "labelled": "train/images + train/labels, images + labels, or train + trainannot",
    "unpaired": "trainA and trainB",
    "classes": "folders of pictures, in a folder or zip file",
    "pictures": "train with pictures, or pictures in the folder or zip file itself",
    "aligned": "train with A|B pictures, or A|B pictures in the folder itself",
}
"""Layout -> what its files look like, for messages."""
