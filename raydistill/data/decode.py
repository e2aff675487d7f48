"""Data sets of files: where val and test come from, and how a sample is decoded. `layouts.py` says what is understood.

A label is a .png of class ids. ROOT/classes.json may name the classes, the id to ignore and a palette. A val or test that is not there is
carved out of train. What can be checked without decoding is checked first.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.data.classes import cityscapes_classes, label_of, listed_classes, seen_classes
from raydistill.data.detect import find
from raydistill.data.files import decode_pictures
from raydistill.data.sample import Sample, SplitsOnDisk
from raydistill.data.source import Classes, Source
from raydistill.data.split import _enough, carve
from raydistill.errors import DataError


def folder_source(config: FolderData) -> Source:
    """The data set at `config.root`.

    Raises:
        DataError: no such folder, an unknown layout, files that do not pair up, or too few pictures.
    """
    if not config.root:
        raise DataError("data.root is empty, and there is no default folder. Give --data FOLDER.")
    found = find(Path(config.root), config.layout)
    if found.layout not in ("aligned", "unpaired") and config.direction != "AtoB":
        why = "labels are the input" if found.layout in ("labelled", "cityscapes") else "there are no inputs"
        raise DataError(
            f"data.direction is {config.direction}, but {config.root} is {found.layout}: {why}. Allowed: AtoB."
        )
    if found.layout in ("aligned", "unpaired") and config.degrade.is_on:
        raise DataError(
            f"data.degrade is on, but {config.root} is {found.layout}, which has inputs of its own. Give --set data.degrade.scale=1 "
            "--set data.degrade.noise_std=0, or --set data.layout=pictures to take all of them as pictures to degrade."
        )
    targets, inputs = found.splits, found.inputs
    if inputs is not None and config.direction == "BtoA":
        targets, inputs = inputs, targets
    splits, split_rule = carve(targets)
    counts = _enough(splits, split_rule, config.root)
    source = Source(
        layout=found.layout,
        identity=_identity(Path(config.root), found),
        counts=counts,
        split_rule=split_rule,
        classes=classes_of(found, Path(config.root)),
        read=lambda split: _read_pictures(splits[split], config),
        picture_classes=found.class_names,
    )
    if inputs is not None:
        carved, _ = carve(inputs)
        read = functools.partial(_read_pictures, config=config)
        return replace(
            source,
            input_counts=_enough(carved, split_rule, config.root),
            read_inputs=lambda split: (picture for (picture,) in read(carved[split])),
        )
    if found.layout == "aligned":
        return replace(source, read=lambda split: _read_aligned(splits[split], config))
    if found.layout in ("labelled", "cityscapes"):
        return replace(source, read=lambda split: _read_labelled(splits[split], source.classes(), config))
    return source


def classes_of(found: SplitsOnDisk, root: Path) -> Callable[[], Classes | None]:
    """Of its label maps; may read them all when called. classes.json is looked at now."""
    if found.layout == "cityscapes":
        return cityscapes_classes
    if found.layout != "labelled":
        return lambda: None
    listed = listed_classes(root / "classes.json")
    labels = [
        sample.label for samples in found.splits.values() for sample in samples if sample.label is not None
    ]
    return functools.cache(lambda: listed or seen_classes(labels))


def _identity(root: Path, found: SplitsOnDisk) -> list[tuple[str, int, int]]:
    """(path below the root, size in bytes, mtime in ns) of each file that the data depend on."""
    base = root.parent if root.is_file() else root
    return [
        (path.relative_to(base).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(found.files)
    ]


# ---- splits ---------------------------------------------------------------------------------------------------------


# ---- decoding -------------------------------------------------------------------------------------------------------


def _read_pictures(samples: list[Sample], config: FolderData) -> Iterator[tuple[np.ndarray, ...]]:
    for (_, picture), sample in zip(decode_pictures(sample.picture for sample in samples), samples):
        array = _resized(picture, config, Image.Resampling.LANCZOS)
        yield (array,) if sample.class_id is None else (array, np.array(sample.class_id, np.int32))


def _read_labelled(
    samples: list[Sample], classes: Classes | None, config: FolderData
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for (_, picture), sample in zip(decode_pictures(sample.picture for sample in samples), samples):
        assert sample.label is not None and classes is not None
        label, where = label_of(sample.label), sample.label.where
        if picture.size != label.size:
            raise DataError(
                f"{where}: width and height are {label.size}, of its picture {picture.size}. Allowed: the same. Redo one."
            )
        stored = Image.fromarray(classes.encode(np.asarray(label), where))
        yield (
            _resized(picture, config, Image.Resampling.LANCZOS),
            _resized(stored, config, Image.Resampling.NEAREST),
        )


def _read_aligned(samples: list[Sample], config: FolderData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for where, both in decode_pictures(sample.picture for sample in samples):
        left, right = (_resized(half, config, Image.Resampling.LANCZOS) for half in halves(both, where))
        yield (right, left) if config.direction == "AtoB" else (left, right)


def halves(both: Image.Image, where: str) -> tuple[Image.Image, Image.Image]:
    """A and B of an A|B picture."""
    if both.width % 2:
        raise DataError(
            f"{where}: the A|B picture is {both.width} pixels wide. Allowed: an even width, A left and B right. Redo it."
        )
    middle = both.width // 2
    return both.crop((0, 0, middle, both.height)), both.crop((middle, 0, both.width, both.height))


def _resized(image: Image.Image, config: FolderData, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(image.resize((config.width, config.height), resampling))
