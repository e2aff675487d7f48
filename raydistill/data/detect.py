"""The layouts that the files of a data set may have: which one it is, and which sample each file belongs to.

Nothing is decoded here but the header of a picture.

labelled    <split>/images + <split>/labels, or images + labels with optional lists <split>.txt,
            or SegNet's <split> + <split>annot
cityscapes  leftImg8bit/<split>/<city>/*_leftImg8bit.png with gtFine/<split>/<city>/*_gtFine_labelIds.png
unpaired    trainA + trainB, and optionally testA + testB, valA + valB: A is the input, B the target
aligned     <split>/ or the folder itself with pictures of A (left half) beside B (right half)
nvlabs      a zip file or folder with dataset.json
idx         *-images-idx3-ubyte and *-labels-idx1-ubyte of train and t10k, also as .gz
npz         images or x_train, ..., with labels or y_train, ...
classes     <split>/<class>/ or <class>/ with pictures, in a folder or zip file
pictures    <split>/ or the folder or zip file itself with pictures
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from raydistill.data.arrays import find_idx, find_npz
from raydistill.data.classes import numbered_names
from raydistill.data.files import PICTURES, File, by_stem, entries, few, file_at, files_of
from raydistill.data.labelled import find_cityscapes, find_labelled
from raydistill.data.sample import FileLayout, Sample, Splits, SplitsOnDisk
from raydistill.data.source import SPLITS, SplitName
from raydistill.errors import DataError
from raydistill.reading import MOST_TEXT_BYTES, parse_json


def find(root: Path, layout: FileLayout | Literal["auto"] = "auto") -> SplitsOnDisk:
    """The samples of the data set at `root`.

    Where a folder holds none of the layouts, but one zip or npz file, they are those of that file.

    Args:
        root: folder, zip file or npz file.
        layout: the layout to look for; "auto": the first of `LAYOUTS` that is there.

    Raises:
        DataError: the layout is not there, or files do not pair up.
    """
    if (on_disk := look(root, layout)) is not None:
        return on_disk
    inside = packed(root)
    if len(inside) == 1:
        return find(inside[0], layout)
    if inside:
        raise DataError(f"{root}: {len(inside)} data files here: {few(inside)}. Give one of them.")
    names = few([root] if root.is_file() else entries(root))
    if layout == "auto":
        raise DataError(
            f"{root}: unknown layout. Looked for train/images + train/labels, images + labels, train + "
            "trainannot, leftImg8bit + gtFine, trainA + trainB, dataset.json, *-idx3-ubyte, .npz, class "
            f"folders, and pictures, also A|B pictures ({', '.join(PICTURES)}). Found {names}. Arrange the "
            "data in one of these ways."
        )
    raise DataError(
        f"{root}: data.layout is {layout}: needed are {_NEEDED[layout]}. Found {names}. "
        "Add them, or leave data.layout out."
    )


def look(root: Path, layout: FileLayout | Literal["auto"] = "auto") -> SplitsOnDisk | None:
    """As `find`, but without looking into a file inside of `root`; None where the layout is not there."""
    if not root.is_file():
        entries(root)  # raises DataError where there is no such folder
    for name in LAYOUTS if layout == "auto" else [layout]:
        if (on_disk := LAYOUTS[name](root)) is not None:
            is_aligned = layout == "auto" and _looks_aligned(on_disk)
            return replace(on_disk, layout="aligned") if is_aligned else on_disk
    return None


def packed(folder: Path) -> list[Path]:
    """The zip and npz files in a folder; none if `folder` is a file.

    Raises DataError where there is no such folder.
    """
    if folder.is_file():
        return []
    return [path for path in entries(folder) if path.suffix.lower() in (".zip", ".npz")]


def _looks_aligned(on_disk: SplitsOnDisk) -> bool:
    """Whether loose pictures are A|B: the first one is twice as wide as high."""
    if on_disk.layout != "pictures":
        return False
    width, height = on_disk.splits["train"][0].picture.image().size
    return width == 2 * height


# ---- pictures ----------------------------------------------------------------------------------------------


def _find_pictures(root: Path) -> SplitsOnDisk | None:
    return _loose_pictures("pictures", root)


def _find_aligned(root: Path) -> SplitsOnDisk | None:
    return _loose_pictures("aligned", root)


def _loose_pictures(layout: FileLayout, root: Path) -> SplitsOnDisk | None:
    """Pictures in split folders or in the folder itself, or anywhere in a zip file."""
    if root.suffix.lower() == ".zip":
        samples = [Sample(file.name, file) for file in files_of(root) if file.is_picture]
        return SplitsOnDisk(layout, {"train": samples}, (root,)) if samples else None
    if root.is_file():
        return None
    has_pictures = any(path.suffix.lower() in PICTURES for path in entries(root))
    folders: dict[SplitName, Path] = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if "train" not in folders:
        if not has_pictures:
            return None
        folders = {"train": root}
    splits: Splits = {split: _flat(folder) for split, folder in folders.items()}
    return SplitsOnDisk(layout, splits, _paths_of(splits))


def _find_unpaired(root: Path) -> SplitsOnDisk | None:
    if not (root / "trainA").is_dir() and not (root / "trainB").is_dir():
        return None
    present = [split for split in SPLITS if any((root / f"{split}{domain}").is_dir() for domain in "AB")]
    inputs: Splits = {split: _flat(root / f"{split}A") for split in present}
    targets: Splits = {split: _flat(root / f"{split}B") for split in present}
    return SplitsOnDisk("unpaired", targets, (*_paths_of(inputs), *_paths_of(targets)), inputs=inputs)


def _flat(folder: Path) -> list[Sample]:
    """The pictures of a folder, sorted. Raises DataError where there are none."""
    return [Sample(stem, file_at(path)) for stem, path in by_stem(folder, PICTURES).items()]


def _paths_of(splits: Splits) -> tuple[Path, ...]:
    return tuple(Path(sample.picture.where) for samples in splits.values() for sample in samples)


# ---- pictures with classes ---------------------------------------------------------------------------------


def _find_classes(root: Path) -> SplitsOnDisk | None:
    """Folders of pictures. A class is the path of a folder, without the parts that all folders begin with."""
    if root.is_file() and root.suffix.lower() != ".zip":
        return None
    files = [file for file in files_of(root) if file.is_picture]
    folders = {split for split in SPLITS if any(file.name.startswith(f"{split}/") for file in files)}
    if "train" not in folders:
        folders = set()
    listed = [file for file in files if not folders or file.name.split("/")[0] in folders]
    paths = [PurePosixPath(file.name).parent.parts[1 if folders else 0 :] for file in listed]
    if not paths or not all(paths):
        return None
    num_common = 0
    if len(set(paths)) > 1:
        num_common = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*paths))))
    names = ["/".join(path[num_common:]) for path in paths]
    if not all(names):
        return None
    ids = {name: index for index, name in enumerate(sorted(set(names)))}
    splits: Splits = {split: [] for split in SPLITS if split in folders} or {"train": []}
    for file, name in zip(listed, names):
        split = next((split for split in splits if folders and file.name.startswith(f"{split}/")), SPLITS[0])
        splits[split].append(Sample(file.name, file, class_id=ids[name]))
    return SplitsOnDisk("classes", splits, _files_on_disk(root, listed), class_names=tuple(ids))


def _find_nvlabs(root: Path) -> SplitsOnDisk | None:
    """dataset.json: {"labels": [[name, class id], ...] or null}."""
    if root.suffix.lower() != ".zip" and not (root / "dataset.json").is_file():
        return None
    files = {file.name: file for file in files_of(root)}
    if "dataset.json" not in files:
        return None
    labels = _nvlabs_labels(files)
    pictures = [file for file in files.values() if file.is_picture]
    if labels is None:
        samples = [Sample(file.name, file) for file in pictures]
        names: tuple[str, ...] = ()
    else:
        if single := next((file for file in pictures if file.name not in labels), None):
            raise DataError(f"{single.where}: has no label in dataset.json. Add it, or set labels to null.")
        if absent := sorted(set(labels) - set(files)):
            raise DataError(
                f"{files['dataset.json'].where}: {absent[0]!r} has a label and is not there. "
                "Add the picture or remove the label."
            )
        samples = [Sample(file.name, file, class_id=labels[file.name]) for file in pictures]
        names = numbered_names(labels.values(), files["dataset.json"].where)
    paths = _files_on_disk(root, [*pictures, files["dataset.json"]])
    return SplitsOnDisk("nvlabs", {"train": samples}, paths, class_names=names)


def _nvlabs_labels(files: dict[str, File]) -> dict[str, int] | None:
    """Name -> class id, of dataset.json; None where it says that there are no labels."""
    where = files["dataset.json"].where
    try:
        content = parse_json(_text_of(files["dataset.json"]))["labels"]
        labels: dict[str, Any] | None = (
            None if content is None else {str(name): label for name, label in content}
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{where}: {error!r}. Allowed: {{"labels": null}} or {{"labels": [[name, class id], ...]}}.'
        ) from None
    for name, label in (labels or {}).items():
        if isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise DataError(
                f"{where}: {name} has the label {label!r}. Allowed: one class id, a whole number from 0."
            )
    return labels


def _text_of(file: File) -> bytes:
    """The content of a file of text. Raises DataError where it is too large for one."""
    if len(content := file.read()) > MOST_TEXT_BYTES:
        raise DataError(
            f"{file.where}: {len(content):,} bytes, at most {MOST_TEXT_BYTES:,} are read as text."
        )
    return content


def _files_on_disk(root: Path, files: list[File]) -> tuple[Path, ...]:
    """The paths of these files; the zip file alone where they lie in one."""
    return (root,) if root.is_file() else tuple(root / file.name for file in files)


LAYOUTS: dict[str, Callable[[Path], SplitsOnDisk | None]] = {
    "npz": find_npz,
    "nvlabs": _find_nvlabs,
    "idx": find_idx,
    "cityscapes": find_cityscapes,
    "labelled": find_labelled,
    "unpaired": _find_unpaired,
    "classes": _find_classes,
    "pictures": _find_pictures,
    "aligned": _find_aligned,
}
"""Layout -> a function that returns the samples at a path, or None where that layout is not there.

They are asked in this order, and the first answer counts.
"""


_NEEDED = {
    "npz": "an .npz file",
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
