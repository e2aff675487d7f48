"""Label maps as files hold them, and what all label files of a data set have in common.

A label map holds the id of a class for each pixel, as a grey value or as the index of a palette; or it holds
colours, which classes.json gives to the classes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from raydistill.data.files import File
from raydistill.data.picture_files import Opened
from raydistill.errors import DataError

Color = tuple[int, int, int]
"""RGB, each 0..255."""
_CONVERT = "Convert it to class ids: PNG, 8 bits, one channel"
_MOST_COLORS = 4096
"""Colours that are remembered: more than the 256 that classes can have, to count them in a message."""


class LabelMap(NamedTuple):
    """What one label file holds."""

    values: np.ndarray
    """Ids, uint8 (H, W); of a picture in colour its colours, uint8 (H, W, 3)."""
    palette: np.ndarray | None = None
    """Colour of each index, uint8 (N, 3); None: the values are no indices of a palette."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.values.shape[1], self.values.shape[0]

    def colors(self) -> np.ndarray:
        """The colour of each pixel, uint8 (H, W, 3); grey ids give equal channels."""
        if self.values.ndim == 3:
            return self.values
        if self.palette is not None:
            return self.palette[self.values]
        return self.values[..., None].repeat(3, 2)

    def ids(self) -> np.ndarray | None:
        """The id of each pixel, uint8 (H, W); None: the file has colours."""
        if self.values.ndim == 2:
            return self.values
        grey = self.values[..., 0]
        return grey if (self.values == grey[..., None]).all() else None


def label_of(file: File) -> LabelMap:
    """The label map in a file.

    Raises:
        DataError: the file cannot be read as a picture, is of a format that smears ids, or holds values that
            cannot be ids.
    """
    return _label_map(file.open(), file.where)


def _label_map(opened: Opened, where: str) -> LabelMap:
    image = opened.image
    if image.format in ("JPEG", "MPO"):
        raise DataError(
            f"{where}: the label map is a JPEG, which smears ids, whatever its name ends in. Save it as PNG "
            "from its source."
        )
    if image.mode in ("LA", "RGBA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(
                f"{where}: the label has mode {image.mode} with transparent pixels. Allowed: a class id or a "
                f"colour per pixel. {_CONVERT}."
            )
        image = image.convert(image.mode[:-1])
    if image.mode == "P":
        colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette = np.pad(colors, ((0, 256 - len(colors)), (0, 0)))
        values = np.asarray(image)
        # A mask in black and white, as GIFs have them: the colours are meant, as writers number them anyhow.
        if np.isin(palette, (0, 255)).all() and (palette == palette[:, :1]).all() and palette.any():
            return LabelMap(palette[values, 0])
        return LabelMap(values, palette)
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 255:
            raise DataError(
                f"{where}: the label has mode {image.mode} with values {values.min()} to {values.max()}. "
                f"Allowed: class ids 0 to 255. {_CONVERT}."
            )
        return LabelMap(values.astype(np.uint8))
    if image.mode not in ("1", "L", "RGB"):
        raise DataError(
            f"{where}: the label has mode {image.mode}. Allowed: a class id per pixel (modes 1, L, P, I;16) "
            f"or a colour (RGB). {_CONVERT}."
        )
    values = np.asarray(image).astype(np.uint8)
    if image.mode == "L" and opened.num_levels < 256:  # Pillow has spread them over 0 to 255
        values = np.round(values * ((opened.num_levels - 1) / 255)).astype(np.uint8)
    return LabelMap(values)


# ---- all label files ---------------------------------------------------------------------------------------


@dataclass
class Survey:
    """What the label files of a data set have in common."""

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    """Id -> pixels, of files of ids."""
    between: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    """Id -> pixels that lie between a neighbour of a lower id and one of a higher id opposite of it."""
    odd: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    """Id -> these pixels, and those none of whose four neighbours has their id."""
    colors: Counter[Color] = field(default_factory=Counter)
    """Colour -> files that have it, of files in colour."""
    in_color: str = ""
    """The first file in colour; empty: there is none."""
    of_three: str = ""
    of_one: str = ""
    """The first file of three channels, and the first one of one channel; empty: there is none."""
    conflict: str = ""
    """Two files whose palettes give different colours to one index, in words; empty: there are none."""

    @property
    def ids(self) -> list[int]:
        """The ids that occur, rising."""
        return [int(index) for index in np.flatnonzero(self.pixels)]


def survey(files: Iterable[File], *, pass_over_damaged: bool = False) -> Survey:
    """Reads all label files.

    Raises DataError where one cannot be read, unless these are passed over.
    """
    result = Survey()
    palettes: dict[int, tuple[Color, str]] = {}
    for file in files:
        try:
            label = label_of(file)
        except DataError:
            if pass_over_damaged:
                continue
            raise
        ids = label.ids()
        if label.values.ndim == 3:
            result.of_three = result.of_three or file.where
        else:
            result.of_one = result.of_one or file.where
        if ids is None:
            result.in_color = result.in_color or file.where
            if len(result.colors) < _MOST_COLORS:
                found = np.unique(label.values.reshape(-1, 3), axis=0)[:_MOST_COLORS]
                result.colors.update((int(red), int(green), int(blue)) for red, green, blue in found)
            continue
        result.pixels += np.bincount(ids.ravel(), minlength=256)
        between = _is_between(ids)
        result.between += np.bincount(ids[between], minlength=256)
        result.odd += np.bincount(ids[between | _is_single(ids)], minlength=256)
        if label.palette is not None and not result.conflict:
            result.conflict = _conflict(file.where, ids, label.palette, palettes)
    return result


def _is_between(ids: np.ndarray) -> np.ndarray:
    """Which pixels lie on a slope, left to right or top to bottom: bool, of the shape of `ids` (H, W)."""
    found = np.zeros(ids.shape, bool)
    for view, mask in ((ids, found), (ids.T, found.T)):
        before, here, after = view[:-2], view[1:-1], view[2:]
        mask[1:-1] |= ((before < here) & (here < after)) | ((before > here) & (here > after))
    return found


def _is_single(ids: np.ndarray) -> np.ndarray:
    """Which pixels have another id than each of their four neighbours: bool, of the shape of `ids` (H, W)."""
    found = np.ones(ids.shape, bool)
    for view, mask in ((ids, found), (ids.T, found.T)):
        is_same = view[1:] == view[:-1]
        mask[1:] &= ~is_same
        mask[:-1] &= ~is_same
    return found


def _conflict(
    where: str, ids: np.ndarray, palette: np.ndarray, palettes: dict[int, tuple[Color, str]]
) -> str:
    """Adds the colours of the indices that a file uses; what it gives another colour to, in words."""
    for index in np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist():
        red, green, blue = palette[index].tolist()
        color, first = palettes.setdefault(index, ((red, green, blue), where))
        if color != (red, green, blue):
            return f"index {index} is {color} in {first} and {(red, green, blue)} in {where}"
    return ""
