"""The data set of a folder: its layout is detected and its splits are completed, but nothing is decoded.

A label file holds class ids, or colours. ROOT/classes.json may name the classes, their ids, the id to ignore
and a palette; beside A|B pictures it says which classes the colours of the input mean. A val or test that is
not there is carved out of train. What can be checked without decoding is checked first.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from raydistill.config.data import FolderData
from raydistill.data.cityscapes import cityscapes_classes
from raydistill.data.classes import (
    Classes,
    classes_of_file,
    classes_of_halves,
    listed_classes,
    occurring_classes,
)
from raydistill.data.decode import ids_of, read_aligned, read_labelled, read_pictures
from raydistill.data.detect import find
from raydistill.data.lmdb_files import find_lmdb
from raydistill.data.picture_files import Change, said
from raydistill.data.sample import SplitsOnDisk
from raydistill.data.source import Source, SplitName
from raydistill.data.split import carve, counts_of, has_one_published
from raydistill.errors import DataError
from raydistill.reading import MOST_BYTES, regular

_WITH_LABELS = ("labelled", "cityscapes")
"""Layouts whose samples have a label file each."""


def folder_source(config: FolderData) -> Source:
    """The data set at `config.root`, a folder or file.

    Raises:
        DataError: there is no such folder, its layout is unknown or not what the config asks for, files do
            not pair up, or there are too few pictures.
    """
    if not config.root:
        raise DataError("data.root is empty, and there is no default folder. Give --data FOLDER.")
    on_disk = _on_disk(config)
    _require_fit(config, on_disk)
    if config.direction == "BtoA" and Path(config.root) / "classes.json" in on_disk.files:
        remark = "classes.json says what colours of A mean; with data.direction BtoA the input is B, without."
        on_disk = replace(on_disk, remarks=(*on_disk.remarks, remark))
    targets, inputs = on_disk.splits, on_disk.inputs
    if inputs is not None and config.direction == "BtoA":
        targets, inputs = inputs, targets
    splits, split_rule = carve(targets, config.split)
    changes: Counter[Change] = Counter()
    source = Source(
        layout=on_disk.layout,
        identity=_identity(Path(config.root), on_disk),
        counts=counts_of(splits, split_rule, config.root),
        split_rule=split_rule,
        classes=label_classes(on_disk, Path(config.root), config.direction),
        read=lambda split: read_pictures(splits[split], config, changes),
        picture_classes=on_disk.class_names,
        remarks=on_disk.remarks,
        left_out=on_disk.left_out,
        changes=lambda: said(changes),
    )
    if inputs is not None:
        input_splits, _ = carve(inputs, config.split)
        return replace(
            source,
            input_counts=counts_of(input_splits, split_rule, config.root),
            read_inputs=lambda split: read_pictures(input_splits[split], config, changes, alone=True),
        )
    classes = source.classes
    if on_disk.layout == "aligned":
        halves = classes()
        colors = None if halves is None else halves.colors
        return replace(source, read=lambda split: read_aligned(splits[split], config, changes, colors))
    if on_disk.layout in ("labelled", "cityscapes"):
        return replace(source, read=lambda split: read_labelled(splits[split], classes(), config, changes))
    return source


def _on_disk(config: FolderData) -> SplitsOnDisk:
    """The samples of the files; of a database with several sizes, the pictures of the size that fits."""
    root = Path(config.root)
    on_disk = find(root, config.layout)
    if on_disk.layout == "lmdb" and (fitting := find_lmdb(root, max(config.height, config.width))):
        return replace(fitting, left_out=on_disk.left_out)
    return on_disk


def class_maps(config: FolderData, split: SplitName) -> tuple[Callable[[int], np.ndarray], Classes]:
    """A function that gives the label map of a target of a split as its file holds it, without resizing: its
    index -> prepared ids, uint8 (h, w); and the classes.

    Raises:
        DataError: as `folder_source` does; the function raises it where a file cannot be decoded.
    """
    on_disk = _on_disk(config)
    samples = carve(on_disk.splits, config.split)[0][split]
    classes = label_classes(on_disk, Path(config.root), config.direction)()
    assert classes is not None
    return lambda index: ids_of(samples[index], classes, config.center_crop), classes


def input_names(config: FolderData, split: SplitName) -> list[str]:
    """The names of the files that hold the inputs of a split, in its order: paths, with slashes.

    Raises:
        DataError: as `folder_source` does.
    """
    on_disk = _on_disk(config)
    samples = on_disk.splits
    if on_disk.inputs is not None and config.direction == "AtoB":
        samples = on_disk.inputs
    listed = carve(samples, config.split)[0][split]
    takes_labels = on_disk.layout in _WITH_LABELS and not config.degrade.is_on
    files = [sample.label if takes_labels and sample.label else sample.picture for sample in listed]
    return [file.name for file in files]


def _require_fit(config: FolderData, on_disk: SplitsOnDisk) -> None:
    """Raises DataError where the config asks for what the layout does not allow."""
    layout = on_disk.layout
    if config.label_inputs == "colors" and (layout not in (*_WITH_LABELS, "aligned") or config.degrade.is_on):
        why = "there are no label maps" if layout not in _WITH_LABELS else "data.degrade makes the inputs"
        raise DataError(
            f"data.label_inputs is colors, but {config.root} is {layout}: {why}. Allowed: one_hot, or a "
            "folder with label maps and no data.degrade."
        )
    if layout not in ("aligned", "unpaired") and config.direction != "AtoB":
        why = "labels are the input" if layout in _WITH_LABELS else "there are no inputs"
        raise DataError(
            f"data.direction is {config.direction}, but {config.root} is {layout}: {why}. Allowed: AtoB."
        )
    if layout in ("aligned", "unpaired") and config.degrade.is_on:
        raise DataError(
            f"data.degrade is on, but {config.root} is {layout}, which has inputs of its own. Give --set "
            "data.degrade.scale=1 --set data.degrade.noise_std=0, or --set data.layout=pictures to take all "
            "of them as pictures to degrade."
        )


def label_classes(on_disk: SplitsOnDisk, root: Path, direction: str = "AtoB") -> Callable[[], Classes | None]:
    """A function that returns the classes of the label maps, or None for data without label maps.

    A|B pictures have them where classes.json says which colours of A, the input, mean what. classes.json is
    read at once. The function reads all label files when it is first called.

    Raises:
        DataError: classes.json cannot be used. The function raises it where a label file cannot.
    """
    if on_disk.layout == "cityscapes":
        return cityscapes_classes
    path = root / "classes.json"
    if on_disk.layout == "aligned":
        halves = None if direction == "BtoA" or root.is_file() else listed_classes(path)
        classes = None if halves is None else classes_of_halves(halves, path)
        return lambda: classes
    if on_disk.layout != "labelled":
        return lambda: None
    listed = listed_classes(path)
    labels = [
        sample.label for samples in on_disk.splits.values() for sample in samples if sample.label is not None
    ]
    if listed is not None:
        return functools.cache(lambda: classes_of_file(listed, labels, path))
    return functools.cache(lambda: occurring_classes(labels))


def _identity(root: Path, on_disk: SplitsOnDisk) -> list[tuple[str, int, int]]:
    """(path below the root, size in bytes, mtime in ns) of each file that the data depend on, and a line for
    a rule that an earlier version did not have.

    Raises DataError where one is no file that can be read.
    """
    base = root.parent if root.is_file() else root
    identity = [("the val of the files is test", 0, 0)] if has_one_published(on_disk.splits) else []
    for path in sorted(on_disk.files):
        is_read_whole = path != root and on_disk.layout != "lmdb"
        try:
            status = regular(path, MOST_BYTES if is_read_whole else None).stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}. Replace or remove it.") from None
        identity.append((path.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns))
    return identity
