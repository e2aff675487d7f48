"""Decoding: samples of a folder as uint8 arrays of the size that the config asks for."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.data.classes import Classes, ColorTable
from raydistill.data.files import Picture
from raydistill.data.label_maps import label_of
from raydistill.data.picture_files import Change, is_grey, rgb
from raydistill.data.rows import Decoded, Rows, require_alike
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
        converted = rgb(opened, picture.where, changes)
        grey = is_grey(opened.image) if grey is None else grey
        require_alike(opened.image.mode, grey, picture.where)
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
    samples: list[Sample], config: FolderData, changes: Counter[Change] | None = None, *, alone: bool = False
) -> Rows:
    """Yields (picture,), or (picture, class id) where pictures have classes.

    A picture is uint8 (height, width, 3), a class id int32 (). Raises DataError as `decode_pictures` does;
    `changes`: see there. `alone`: the picture itself, not a tuple of it.
    """
    return Rows(samples, partial(_picture, config), changes, alone=alone)


def _picture(config: FolderData, sample: Sample) -> Decoded:
    image, made = _opened(sample)
    array = _resize(_cropped(image, config, sample.picture.where), config, Image.Resampling.LANCZOS)
    arrays = (array,) if sample.class_id is None else (array, np.array(sample.class_id, np.int32))
    return Decoded(arrays, *made)


def _opened(sample: Sample) -> tuple[Image.Image, tuple[str, Counter[Change]]]:
    """The picture of a sample as RGB, and beside it its mode and what was changed."""
    changes: Counter[Change] = Counter()
    opened = sample.picture.open()
    return rgb(opened, sample.picture.where, changes), (opened.image.mode, changes)


def resized_pictures(
    pictures: Iterable[Picture], height: int, width: int, *, grey: bool | None = None
) -> Iterator[np.ndarray]:
    """Yields each picture at this size, uint8 (height, width, 3), see `decode_pictures`."""
    for _, picture in decode_pictures(pictures, grey=grey):
        yield np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def read_labelled(
    samples: list[Sample],
    classes: Classes | None,
    config: FolderData,
    changes: Counter[Change] | None = None,
) -> Rows:
    """Yields (picture, label map), uint8 (height, width, 3) and uint8 (height, width) of prepared ids.

    With `data.label_inputs` colors a third one follows, uint8 (height, width, 3): the label map as a picture,
    resized as pictures are.

    Raises:
        DataError: as `decode_pictures` does, and for a label file of another size than its picture or with an
            id that is not a class.
    """
    assert classes is not None
    return Rows(samples, partial(_labelled, config, classes), changes)


def _labelled(config: FolderData, classes: Classes, sample: Sample) -> Decoded:
    assert sample.label is not None
    picture, made = _opened(sample)
    label, where = label_of(sample.label), sample.label.where
    if picture.size != label.size:
        raise DataError(
            f"{where}: width and height are {label.size}, of its picture {picture.size}. "
            "Allowed: the same. Redo one."
        )
    images = [picture, Image.fromarray(classes.encode(label, where))]
    if config.label_inputs == "colors":
        images.append(Image.fromarray(classes.picture(label)))
    resampling = (Image.Resampling.LANCZOS, Image.Resampling.NEAREST, Image.Resampling.LANCZOS)
    arrays = (
        _resize(_cropped(image, config, where), config, each) for image, each in zip(images, resampling)
    )
    return Decoded(tuple(arrays), *made)


def read_aligned(
    samples: list[Sample],
    config: FolderData,
    changes: Counter[Change] | None = None,
    colors: ColorTable | None = None,
) -> Rows:
    """Yields (target, input), both uint8 (height, width, 3); `config.direction` says which half is which.

    With a table of colours it is (target, label map, input): the ids that the colours of the input mean,
    uint8 (height, width), resized to the nearest pixel.

    Raises:
        DataError: as `decode_pictures` does; for a picture of odd width, or of another shape than twice
            as wide as high where nobody said that pictures are A|B; and for a colour that is in no table.
    """
    return Rows(samples, partial(_aligned, config, colors), changes)


def _aligned(config: FolderData, colors: ColorTable | None, sample: Sample) -> Decoded:
    (both, (mode, changes)), where = _opened(sample), sample.picture.where
    if config.layout == "auto" and both.width != 2 * both.height:
        raise DataError(
            f"{where}: {both.width}x{both.height}, and the ones looked at before are twice as wide as "
            "high, as A|B are. Give --set data.layout=aligned if it is A|B, too, or data.layout=pictures."
        )
    if both.width <= both.height:
        changes["narrow halves"] += 1
    left, right = (_cropped(half, config, where) for half in halves(both, where))
    shown, target = (left, right) if config.direction == "AtoB" else (right, left)
    arrays = [_resize(target, config, Image.Resampling.LANCZOS)]
    if colors is not None:
        ids = Image.fromarray(colors.ids(np.asarray(shown), where))
        arrays.append(_resize(ids, config, Image.Resampling.NEAREST))
    arrays.append(_resize(shown, config, Image.Resampling.LANCZOS))
    return Decoded(tuple(arrays), mode, changes)


def ids_of(sample: Sample, classes: Classes, center_crop: int | None = None) -> np.ndarray:
    """The label map of a sample at its own size: prepared ids, uint8 (h, w). Of A|B pictures, that of A.

    Raises DataError as `read_labelled` and `read_aligned` do.
    """
    if sample.label is not None:
        label, where = label_of(sample.label), sample.label.where
        ids = classes.encode(label, where)
    else:
        where = sample.picture.where
        shown, _ = halves(rgb(sample.picture.open(), where), where)
        ids = classes.colors.ids(np.asarray(shown), where)
    return np.asarray(_middle(Image.fromarray(ids), center_crop, where))


def _cropped(image: Image.Image, config: FolderData, where: str) -> Image.Image:
    """The square that `data.center_crop` asks for. Raises DataError where the picture is smaller."""
    return _middle(image, config.center_crop, where)


def _middle(image: Image.Image, side: int | None, where: str) -> Image.Image:
    """A square of so many pixels a side out of the middle; None: the picture itself."""
    if side is None:
        return image
    if min(image.size) < side:
        raise DataError(
            f"{where}: {image.width}x{image.height}, and data.center_crop takes {side}x{side} of it. Give a "
            "smaller one, or leave this picture out."
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _resize(image: Image.Image, config: FolderData, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(image.resize((config.width, config.height), resampling))
