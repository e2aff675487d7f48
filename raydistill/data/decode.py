"""Decoding: samples of a folder as uint8 arrays of the size that the config asks for."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.data.classes import Classes
from raydistill.data.files import Picture
from raydistill.data.label_maps import label_of
from raydistill.data.picture_files import Change, is_grey, rgb
from raydistill.data.sample import Sample
from raydistill.errors import DataError


def decode_pictures(
    pictures: Iterable[Picture], *, grey: bool | None = None, changes: Counter[Change] | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """Yields each picture as RGB, see `picture_files.rgb`, and before it where it comes from, for messages.

    A grey picture becomes three equal channels. A set is all grey or all in colour.

    Args:
        pictures: pictures that are not decoded yet.
        grey: whether the set is grey; None: as its first picture is.
        changes: what is changed in pictures is added to these.

    Raises:
        DataError: a file is no picture or has more than 8 bits a channel, or grey and colour are mixed.
    """
    for picture in pictures:
        opened = picture.open()
        image = opened.image
        converted = rgb(opened, picture.where, changes)
        grey = is_grey(image) if grey is None else grey
        if is_grey(image) != grey:
            kind, others = ("in colour", "grey") if grey else ("grey", "in colour")
            raise DataError(
                f"{picture.where}: this picture is {kind} (mode {image.mode}), and the ones before it are "
                f"{others}. Allowed: one of the two in a set. Convert it."
            )
        yield picture.where, converted


def halves(both: Image.Image, where: str) -> tuple[Image.Image, Image.Image]:
    """A (left) and B (right) of an A|B picture.

    Raises DataError, which names it as `where`, for an odd width.
    """
    if both.width % 2:
        raise DataError(
            f"{where}: the A|B picture is {both.width} pixels wide. "
            "Allowed: an even width, A left and B right. Redo it."
        )
    middle = both.width // 2
    return both.crop((0, 0, middle, both.height)), both.crop((middle, 0, both.width, both.height))


# ---- the samples of a split --------------------------------------------------------------------------------


def read_pictures(
    samples: list[Sample], config: FolderData, changes: Counter[Change] | None = None
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields (picture,), or (picture, class id) where pictures have classes.

    A picture is uint8 (height, width, 3), a class id int32 (). Raises DataError as `decode_pictures` does;
    `changes`: see there.
    """
    pictures = (sample.picture for sample in samples)
    arrays = resized_pictures(pictures, config.height, config.width, changes=changes)
    for array, sample in zip(arrays, samples):
        yield (array,) if sample.class_id is None else (array, np.array(sample.class_id, np.int32))


def resized_pictures(
    pictures: Iterable[Picture],
    height: int,
    width: int,
    *,
    grey: bool | None = None,
    changes: Counter[Change] | None = None,
) -> Iterator[np.ndarray]:
    """Yields each picture at this size, uint8 (height, width, 3), see `decode_pictures`."""
    for _, picture in decode_pictures(pictures, grey=grey, changes=changes):
        yield np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def read_labelled(
    samples: list[Sample],
    classes: Classes | None,
    config: FolderData,
    changes: Counter[Change] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (picture, label map), uint8 (height, width, 3) and uint8 (height, width) of prepared ids.

    Raises:
        DataError: as `decode_pictures` does, and for a label file of another size than its picture or with an
            id that is not a class.
    """
    decoded = decode_pictures((sample.picture for sample in samples), changes=changes)
    for (_, picture), sample in zip(decoded, samples):
        assert sample.label is not None and classes is not None
        label, where = label_of(sample.label), sample.label.where
        if picture.size != label.size:
            raise DataError(
                f"{where}: width and height are {label.size}, of its picture {picture.size}. "
                "Allowed: the same. Redo one."
            )
        ids = Image.fromarray(classes.encode(label, where))
        yield (
            _resize(picture, config, Image.Resampling.LANCZOS),
            _resize(ids, config, Image.Resampling.NEAREST),
        )


def read_aligned(
    samples: list[Sample], config: FolderData, changes: Counter[Change] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (target, input), both uint8 (height, width, 3); `config.direction` says which half is which.

    Raises:
        DataError: as `decode_pictures` does, and for a picture of odd width, or of another shape than twice
            as wide as high where nobody said that pictures are A|B.
    """
    for where, both in decode_pictures((sample.picture for sample in samples), changes=changes):
        if config.layout == "auto" and both.width != 2 * both.height:
            raise DataError(
                f"{where}: {both.width}x{both.height}, and the ones looked at before are twice as wide as "
                "high, as A|B are. Give --set data.layout=aligned if it is A|B, too, or data.layout=pictures."
            )
        if changes is not None and both.width <= both.height:
            changes["narrow halves"] += 1
        left, right = (_resize(half, config, Image.Resampling.LANCZOS) for half in halves(both, where))
        yield (right, left) if config.direction == "AtoB" else (left, right)


def _resize(image: Image.Image, config: FolderData, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(image.resize((config.width, config.height), resampling))
