"""Decoding: samples of a folder as uint8 arrays of the size that the config asks for."""

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.data.classes import Classes, label_of
from raydistill.data.files import Picture
from raydistill.data.sample import Sample
from raydistill.errors import DataError

GREY = ("1", "L", "LA")
"""Pillow's modes of pictures without colour."""


def decode_pictures(
    pictures: Iterable[Picture], *, grey: bool | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """Yields each picture as RGB, and before it where it comes from, for messages.

    A grey picture becomes three equal channels. A set is all grey or all in colour.

    Args:
        pictures: pictures that are not decoded yet.
        grey: whether the set is grey; None: as its first picture is.

    Raises:
        DataError: a file is no picture or has more than 8 bits a channel, or grey and colour are mixed.
    """
    for picture in pictures:
        image = picture.image()
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"{picture.where}: the picture has mode {image.mode}. Allowed: 8 bits per channel. "
                "Convert it."
            )
        grey = is_grey(image) if grey is None else grey
        if is_grey(image) != grey:
            kind, others = ("in colour", "grey") if grey else ("grey", "in colour")
            raise DataError(
                f"{picture.where}: this picture is {kind} (mode {image.mode}), and the ones before it are "
                f"{others}. Allowed: one of the two in a set. Convert it."
            )
        yield picture.where, image.convert("RGB")


def is_grey(image: Image.Image) -> bool:
    """Whether the picture is stored without colour."""
    return image.mode in GREY


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


def read_pictures(samples: list[Sample], config: FolderData) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields (picture,), or (picture, class id) where pictures have classes.

    A picture is uint8 (height, width, 3), a class id int32 (). Raises DataError as `decode_pictures` does.
    """
    arrays = resized_pictures((sample.picture for sample in samples), config.height, config.width)
    for array, sample in zip(arrays, samples):
        yield (array,) if sample.class_id is None else (array, np.array(sample.class_id, np.int32))


def resized_pictures(
    pictures: Iterable[Picture], height: int, width: int, *, grey: bool | None = None
) -> Iterator[np.ndarray]:
    """Yields each picture at this size, uint8 (height, width, 3), see `decode_pictures`."""
    for _, picture in decode_pictures(pictures, grey=grey):
        yield np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def read_labelled(
    samples: list[Sample], classes: Classes | None, config: FolderData
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (picture, label map), uint8 (height, width, 3) and uint8 (height, width) of prepared ids.

    Raises:
        DataError: as `decode_pictures` does, and for a label file of another size than its picture or with an
            id that is not a class.
    """
    for (_, picture), sample in zip(decode_pictures(sample.picture for sample in samples), samples):
        assert sample.label is not None and classes is not None
        label, where = label_of(sample.label), sample.label.where
        if picture.size != label.size:
            raise DataError(
                f"{where}: width and height are {label.size}, of its picture {picture.size}. "
                "Allowed: the same. Redo one."
            )
        ids = Image.fromarray(classes.encode(np.asarray(label), where))
        yield (
            _resize(picture, config, Image.Resampling.LANCZOS),
            _resize(ids, config, Image.Resampling.NEAREST),
        )


def read_aligned(samples: list[Sample], config: FolderData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (target, input), both uint8 (height, width, 3); `config.direction` says which half is which.

    Raises:
        DataError: as `decode_pictures` does, and for a picture of odd width.
    """
    for where, both in decode_pictures(sample.picture for sample in samples):
        left, right = (_resize(half, config, Image.Resampling.LANCZOS) for half in halves(both, where))
        yield (right, left) if config.direction == "AtoB" else (left, right)


def _resize(image: Image.Image, config: FolderData, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(image.resize((config.width, config.height), resampling))
