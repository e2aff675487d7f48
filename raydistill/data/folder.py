"""The data set of a folder: its layout is detected and its splits are completed, but nothing is decoded.

A label file holds class ids, or colours. ROOT/classes.json may name the classes, their ids, the id to ignore
and a palette. A val or test that is not there is carved out of train. What can be checked without decoding
is checked first.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from raydistill.config.data import FolderData
from raydistill.data.classes import (
    Classes,
    cityscapes_classes,
    classes_of_file,
    listed_classes,
    occurring_classes,
)
from raydistill.data.decode import read_aligned, read_labelled, read_pictures
from raydistill.data.detect import find
from raydistill.data.picture_files import Change, said
from raydistill.data.sample import SplitsOnDisk
from raydistill.data.source import Source, SplitName
from raydistill.data.split import carve, counts_of
from raydistill.errors import DataError
from raydistill.reading import MOST_BYTES, regular


def folder_source(config: FolderData) -> Source:
    """The data set at `config.root`, a folder or file.

    Raises:
        DataError: there is no such folder, its layout is unknown or not what the config asks for, files do
            not pair up, or there are too few pictures.
    """
    if not config.root:
        raise DataError("data.root is empty, and there is no default folder. Give --data FOLDER.")
    on_disk = find(Path(config.root), config.layout)
    _require_fit(config, on_disk)
    targets, inputs = on_disk.splits, on_disk.inputs
    if inputs is not None and config.direction == "BtoA":
        targets, inputs = inputs, targets
    splits, split_rule = carve(targets)
    changes: Counter[Change] = Counter()
    source = Source(
        layout=on_disk.layout,
        identity=_identity(Path(config.root), on_disk),
        counts=counts_of(splits, split_rule, config.root),
        split_rule=split_rule,
        classes=label_classes(on_disk, Path(config.root)),
        read=lambda split: read_pictures(splits[split], config, changes),
        picture_classes=on_disk.class_names,
        remarks=on_disk.remarks,
        left_out=on_disk.left_out,
        changes=lambda: said(changes),
    )
    if inputs is not None:
        input_splits, _ = carve(inputs)
        return replace(
            source,
            input_counts=counts_of(input_splits, split_rule, config.root),
            read_inputs=lambda split: (
                picture for (picture,) in read_pictures(input_splits[split], config, changes)
            ),
        )
    if on_disk.layout == "aligned":
        return replace(source, read=lambda split: read_aligned(splits[split], config, changes))
    if on_disk.layout in ("labelled", "cityscapes"):
        classes = source.classes
        return replace(source, read=lambda split: read_labelled(splits[split], classes(), config, changes))
    return source


def input_names(config: FolderData, split: SplitName) -> list[str]:
    """The names of the files that hold the inputs of a split, in its order: paths, with slashes.

    Raises:
        DataError: as `folder_source` does.
    """
    on_disk = find(Path(config.root), config.layout)
    samples = on_disk.splits
    if on_disk.inputs is not None and config.direction == "AtoB":
        samples = on_disk.inputs
    listed = carve(samples)[0][split]
    takes_labels = on_disk.layout in ("labelled", "cityscapes") and not config.degrade.is_on
    files = [sample.label if takes_labels and sample.label else sample.picture for sample in listed]
    return [file.name for file in files]


def _require_fit(config: FolderData, on_disk: SplitsOnDisk) -> None:
    """Raises DataError where the config asks for what the layout does not allow."""
    layout = on_disk.layout
    if layout not in ("aligned", "unpaired") and config.direction != "AtoB":
        why = "labels are the input" if layout in ("labelled", "cityscapes") else "there are no inputs"
        raise DataError(
            f"data.direction is {config.direction}, but {config.root} is {layout}: {why}. Allowed: AtoB."
        )
    if layout in ("aligned", "unpaired") and config.degrade.is_on:
        raise DataError(
            f"data.degrade is on, but {config.root} is {layout}, which has inputs of its own. Give --set "
            "data.degrade.scale=1 --set data.degrade.noise_std=0, or --set data.layout=pictures to take all "
            "of them as pictures to degrade."
        )


def label_classes(on_disk: SplitsOnDisk, root: Path) -> Callable[[], Classes | None]:
    """A function that returns the classes of the label maps, or None for a layout without label maps.

    classes.json is read at once. The function reads all label files when it is first called.

    Raises:
        DataError: classes.json cannot be used. The function raises it where a label file cannot.
    """
    if on_disk.layout == "cityscapes":
        return cityscapes_classes
    if on_disk.layout != "labelled":
        return lambda: None
    path = root / "classes.json"
    listed = listed_classes(path)
    labels = [
        sample.label for samples in on_disk.splits.values() for sample in samples if sample.label is not None
    ]
    if listed is not None:
        return functools.cache(lambda: classes_of_file(listed, labels, path))
    return functools.cache(lambda: occurring_classes(labels))


def _identity(root: Path, on_disk: SplitsOnDisk) -> list[tuple[str, int, int]]:
    """(path below the root, size in bytes, mtime in ns) of each file that the data depend on.

    Raises DataError where one is no file that can be read.
    """
    base = root.parent if root.is_file() else root
    identity = []
    for path in sorted(on_disk.files):
        try:
            status = regular(
                path, None if path == root else MOST_BYTES
            ).stat()  # a zip file is not read whole
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}. Replace or remove it.") from None
        identity.append((path.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns))
    return identity
