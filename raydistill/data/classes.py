"""Classes of label maps: from a classes.json, from the ids that occur, or those of Cityscapes."""

import colorsys
import json
from pathlib import Path

import numpy as np
from PIL import Image

from raydistill.config.base import Frozen
from raydistill.config.paths import validated
from raydistill.data.files import File, text_of
from raydistill.data.source import Classes, Color, ids_in
from raydistill.errors import ConfigError, DataError

IGNORED_ID = 255
"""What a label file means by "ignored" where no classes.json says so."""


class ClassesFile(Frozen):
    """classes.json, of which other keys are not read."""

    classes: tuple[str, ...]
    """The names of the ids 0, 1, ...; may include the ignored one."""
    ignore_index: int | None = None
    palette: tuple[Color, ...] | None = None
    """RGB, 0..255, one for each of `classes`."""


def listed_classes(path: Path) -> Classes | None:
    """What classes.json says; None where there is none. Raises DataError."""
    if not path.is_file():
        return None
    try:
        content = json.loads(text_of(path))
        file = validated(
            ClassesFile,
            {key: content[key] for key in ClassesFile.model_fields if key in content},
            where="content",
        )
    except (json.JSONDecodeError, TypeError, ConfigError) as error:
        raise DataError(
            f'{path}: {error}. Allowed: {{"classes": [names], "ignore_index": id, "palette": [[r, g, b], ...]}}.'
        ) from None
    ids = [index for index in range(len(file.classes)) if index != file.ignore_index]
    ignored = [] if file.ignore_index is None else [file.ignore_index]
    palette = _palette(len(file.classes)) if file.palette is None else file.palette
    if not ids or not all(0 <= index <= 255 for index in ids + ignored):
        raise DataError(
            f"{path}: {len(ids)} classes and ignore_index {file.ignore_index}. Allowed: 1 or more classes, ids 0 to 255."
        )
    if len(palette) != len(file.classes) or not all(
        0 <= value <= 255 for color in palette for value in color
    ):
        raise DataError(
            f"{path}: palette: {len(palette)} colours. Allowed: {len(file.classes)}, one per class, with values 0 to 255."
        )
    return Classes(
        tuple(file.classes[index] for index in ids),
        tuple(palette[index] for index in ids),
        tuple(ids),
        tuple(ignored),
    )


def seen_classes(labels: list[File]) -> Classes:
    """Classes 0 to the largest id in any label file, 255 apart, which means ignored."""
    seen: set[int] = set().union(*(ids_in(np.asarray(label_of(label))) for label in labels))
    real = seen - {IGNORED_ID}
    if not real:
        raise DataError(
            f"{Path(labels[0].where).parent}: all labels are {IGNORED_ID} (ignored) everywhere. Needed: one class or more."
        )
    ids = range(max(real) + 1)
    return Classes(
        tuple(f"class_{index}" for index in ids), _palette(len(ids)), tuple(ids), tuple(seen - real)
    )


def label_of(file: File) -> Image.Image:
    """One class id per pixel, mode L or P; those of a palette picture are its indices."""
    image = file.image()
    if image.mode not in ("L", "P"):
        raise DataError(
            f"{file.where}: the label has mode {image.mode}. Allowed: a class id per pixel, mode L or P. Convert it to class ids."
        )
    return image


def _palette(num_colors: int) -> tuple[Color, ...]:
    """Distinct saturated colours: the hue turns by the golden ratio and the brightness falls in steps."""
    colors = (
        colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, 1.0 - 0.1 * (index // 2 % 6))
        for index in range(num_colors)
    )
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors)


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
    names, palette = zip(*_CITYSCAPES.values())
    return Classes(
        names, palette, tuple(_CITYSCAPES), tuple(index for index in range(34) if index not in _CITYSCAPES)
    )
