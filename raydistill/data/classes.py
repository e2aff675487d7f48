"""Classes of label maps: those that classes.json lists, those whose ids occur, or those of Cityscapes."""

import colorsys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from raydistill.config.base import Frozen
from raydistill.config.paths import validated
from raydistill.data.files import File, is_there, text_of
from raydistill.errors import ConfigError, DataError
from raydistill.reading import parse_json

Color = tuple[int, int, int]
"""RGB, each 0..255."""
MOST_CLASSES = 100_000
"""Classes that whole pictures may have; ImageNet-21k has 21,841."""
IGNORED_ID = 255
"""The id of ignored pixels in label files, unless classes.json names another one."""


@dataclass(frozen=True)
class Classes:
    """K classes of pixels.

    Prepared label maps hold 0 to K - 1 for them and K for ignored pixels, whatever the ids in the label files
    are.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    """Colour of each class."""
    ids: tuple[int, ...]
    """Id of each class in the label files."""
    ignored_ids: tuple[int, ...] = ()
    """Ids in the label files that mean "ignored"."""

    @property
    def ignore_index(self) -> int | None:
        """The id of ignored pixels in prepared label maps, K; None if no pixel is ignored."""
        return len(self.names) if self.ignored_ids else None

    def encode(self, label: np.ndarray, path: str) -> np.ndarray:
        """Ids of a label file, uint8 (H, W) -> ids of a prepared label map, uint8 (H, W).

        Raises:
            DataError: an id is none of a class and is not ignored. The message names the file as `path`.
        """
        unknown = sorted(ids_in(label) - {*self.ids, *self.ignored_ids})
        if unknown:
            ignored = ", ".join(map(str, self.ignored_ids))
            allowed = f"{min(self.ids)} to {max(self.ids)}" + f", and {ignored} for ignored" * bool(ignored)
            raise DataError(
                f"{path}: the label id {unknown[0]} is not a class. Allowed: {allowed}. "
                "Correct the label or classes.json."
            )
        table = np.full(256, len(self.names), np.uint8)
        table[list(self.ids)] = range(len(self.ids))
        return table[label]


def ids_in(label: np.ndarray) -> set[int]:
    """The ids that occur in a label map, uint8 of any shape."""
    return set(np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist())


def label_of(file: File) -> Image.Image:
    """The label map in a file, of Pillow mode L or P: one class id per pixel.

    In a palette picture it is the index.

    Raises:
        DataError: the file cannot be read as a picture, or has another mode.
    """
    image = file.image()
    if image.mode not in ("L", "P"):
        raise DataError(
            f"{file.where}: the label has mode {image.mode}. Allowed: a class id per pixel, mode L or P. "
            "Convert it to class ids."
        )
    return image


def numbered_names(ids: Collection[int], where: str) -> tuple[str, ...]:
    """Names for the classes of whole pictures, class_0 to the largest of `ids`; none where there are no ids.

    Raises DataError, which says `where` the ids are, for one of `MOST_CLASSES` or more.
    """
    if (largest := max(ids, default=-1)) >= MOST_CLASSES:
        raise DataError(
            f"{where}: the class id {largest:,}. Allowed: 0 to {MOST_CLASSES - 1:,}. "
            "Number the classes from 0."
        )
    return tuple(f"class_{index}" for index in range(largest + 1))


# ---- classes that classes.json lists -----------------------------------------------------------------------


class ClassesFile(Frozen):
    """The keys of classes.json that are read; others may stand beside them."""

    classes: tuple[str, ...]
    """Names of the ids 0, 1, ..., which may include the ignored one."""
    ignore_index: int | None = None
    palette: tuple[Color, ...] | None = None
    """Colour of each of `classes`; None: generated colours."""


def listed_classes(path: Path) -> Classes | None:
    """The classes that the file `path` (classes.json) lists; None where there is no such file.

    Raises:
        DataError: it is not JSON, lacks classes, or has ids or colours out of range.
    """
    if not is_there(path):
        return None
    try:
        content = parse_json(text_of(path))
        values = {key: content[key] for key in ClassesFile.model_fields if key in content}
        file = validated(ClassesFile, values, where="content")
    except (ValueError, TypeError, ConfigError) as error:
        raise DataError(
            f"{path}: {error}. "
            'Allowed: {"classes": [names], "ignore_index": id, "palette": [[r, g, b], ...]}.'
        ) from None
    ids = [index for index in range(len(file.classes)) if index != file.ignore_index]
    ignored = [] if file.ignore_index is None else [file.ignore_index]
    palette = _palette(len(file.classes)) if file.palette is None else file.palette
    if not ids or not all(0 <= index <= 255 for index in ids + ignored):
        raise DataError(
            f"{path}: {len(ids)} classes and ignore_index {file.ignore_index}. "
            "Allowed: 1 or more classes, ids 0 to 255."
        )
    if len(palette) != len(file.classes) or not all(
        0 <= value <= 255 for color in palette for value in color
    ):
        raise DataError(
            f"{path}: palette: {len(palette)} colours. "
            f"Allowed: {len(file.classes)}, one per class, with values 0 to 255."
        )
    names = tuple(file.classes[index] for index in ids)
    return Classes(names, tuple(palette[index] for index in ids), tuple(ids), tuple(ignored))


# ---- classes whose ids occur -------------------------------------------------------------------------------


def occurring_classes(labels: list[File]) -> Classes:
    """Classes 0 to the largest id in any of the label files, besides 255, which means ignored.

    Raises:
        DataError: a file is no label map, or all pixels are ignored.
    """
    all_ids: set[int] = set().union(*(ids_in(np.asarray(label_of(label))) for label in labels))
    class_ids = all_ids - {IGNORED_ID}
    if not class_ids:
        raise DataError(
            f"{Path(labels[0].where).parent}: all labels are {IGNORED_ID} (ignored) everywhere. "
            "Needed: one class or more."
        )
    ids = tuple(range(max(class_ids) + 1))
    names = tuple(f"class_{index}" for index in ids)
    return Classes(names, _palette(len(ids)), ids, tuple(all_ids - class_ids))


def _palette(num_colors: int) -> tuple[Color, ...]:
    """Distinct saturated colours: the hue turns by the golden ratio and the brightness falls in steps."""
    colors = (
        colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, 1.0 - 0.1 * (index // 2 % 6))
        for index in range(num_colors)
    )
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors)


# ---- classes of Cityscapes ---------------------------------------------------------------------------------

_CITYSCAPES: dict[int, tuple[str, Color]] = {
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}
"""labelId -> name and colour of the 19 classes that are scored, in the order of their train ids."""


def cityscapes_classes() -> Classes:
    """The 19 classes that Cityscapes scores; the other label ids below 34 are ignored."""
    names, palette = zip(*_CITYSCAPES.values())
    ignored = tuple(index for index in range(34) if index not in _CITYSCAPES)
    return Classes(names, palette, tuple(_CITYSCAPES), ignored)
