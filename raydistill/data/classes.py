"""Classes of label maps: those that classes.json lists, or those whose ids occur."""

import colorsys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from raydistill.config.base import Frozen
from raydistill.config.paths import validated
from raydistill.data.colors import IGNORED_COLOR, ColorTable
from raydistill.data.files import File, is_there, text_of
from raydistill.data.label_maps import Color, LabelMap, Survey, survey
from raydistill.errors import ConfigError, DataError
from raydistill.reading import parse_json

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
    file_colors: tuple[tuple[Color, int], ...] = ()
    """Colour in the label files and the prepared id that it means; empty: label files hold ids."""
    has_three_channels: bool = False
    """Whether label files hold each id three times, as equal channels."""
    note: str = ""
    """How the label files were understood, where that is worth a word; empty: as they say."""
    tolerance: int = 0
    """See `ColorTable`."""
    ignored_colors: tuple[tuple[int, Color], ...] = ()
    """Ids in the label files that are ignored, and their colours in pictures of label maps; ignored ids that
    are not listed are shown in `IGNORED_COLOR`."""

    @property
    def ignore_index(self) -> int | None:
        """The id of ignored pixels in prepared label maps, K; None if no pixel is ignored."""
        return len(self.names) if self.ignored_ids else None

    @property
    def colors(self) -> ColorTable:
        """What the colours in the label files mean."""
        return ColorTable(self.file_colors, self.tolerance)

    def encode(self, label: LabelMap, path: str) -> np.ndarray:
        """A label file's content -> ids of a prepared label map, uint8 (H, W).

        Raises:
            DataError: an id or colour is none of a class and is not ignored. The message names the file as
                `path`.
        """
        if self.file_colors:
            return self.colors.ids(label.colors(), path)
        ids = label.ids()
        if ids is None or (label.values.ndim == 3 and not self.has_three_channels):
            raise DataError(
                f"{path}: the label has mode RGB, and others hold one id per pixel. Allowed: one of the two "
                "in a set. Convert it to class ids."
            )
        unknown = sorted(ids_in(ids) - {*self.ids, *self.ignored_ids})
        if unknown:
            ignored = ", ".join(map(str, self.ignored_ids))
            allowed = f"{min(self.ids)} to {max(self.ids)}"
            if len(self.ids) <= max(self.ids) - min(self.ids):
                allowed = ", ".join(map(str, self.ids[:20])) + ", ..." * (len(self.ids) > 20)
            allowed += f", and {ignored} for ignored" * bool(ignored)
            raise DataError(
                f"{path}: the label id {unknown[0]} is not a class. Allowed: {allowed}. "
                "Correct the label or classes.json."
            )
        table = np.full(256, len(self.names), np.uint8)
        table[list(self.ids)] = range(len(self.ids))
        return table[ids]

    def picture(self, label: LabelMap) -> np.ndarray:
        """A label file's content, which `encode` takes, in colours, uint8 (H, W, 3): those of the file where
        it has colours, else those of the classes.
        """
        ids = None if self.file_colors else label.ids()
        if ids is None:
            return label.colors()
        table = np.full((256, 3), IGNORED_COLOR, np.uint8)
        table[list(self.ids)] = self.palette
        for index, color in self.ignored_colors:
            table[index] = color
        return table[ids]


def ids_in(label: np.ndarray) -> set[int]:
    """The ids that occur in a label map, uint8 of any shape."""
    return set(np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist())


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
    ids: tuple[int, ...] | None = None
    """The value in label files of each of `classes`, such as 0 and 255; None: 0, 1, ..."""
    ignore_index: int | None = None
    palette: tuple[Color, ...] | None = None
    """Colour of each of `classes`, which label maps in colours hold; None: generated colours."""
    ignored_palette: tuple[Color, ...] = ()
    """Further colours of pixels that are ignored, where label maps hold colours."""
    tolerance: Annotated[int, Field(ge=0, le=255)] = 0
    """See `ColorTable`."""


_BY_PALETTE = "Label maps hold the colours of classes.json."


def listed_classes(path: Path) -> ClassesFile | None:
    """What the file `path` (classes.json) lists; None where there is no such file.

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
            f"{path}: {error}. Allowed: "
            '{"classes": [names], "ids": [values], "ignore_index": id, "palette": [[r, g, b], ...], '
            '"ignored_palette": [[r, g, b], ...], "tolerance": N}, of which all but classes may be left out.'
        ) from None
    ids = tuple(range(len(file.classes))) if file.ids is None else file.ids
    if len(ids) != len(file.classes) or len(set(ids)) < len(ids):
        raise DataError(
            f"{path}: ids: {len(ids)} values, {len(set(ids))} of them different. "
            f"Allowed: {len(file.classes)} different ones, one per class."
        )
    kept = [index for index in ids if index != file.ignore_index]
    ignored = [] if file.ignore_index is None else [file.ignore_index]
    if not kept or not all(0 <= index <= 255 for index in [*kept, *ignored]):
        raise DataError(
            f"{path}: {len(kept)} classes and ignore_index {file.ignore_index}. "
            "Allowed: 1 or more classes, ids 0 to 255."
        )
    palette = _palette(len(file.classes)) if file.palette is None else file.palette
    if len(palette) != len(file.classes) or not all(
        0 <= value <= 255 for color in (*palette, *file.ignored_palette) for value in color
    ):
        raise DataError(
            f"{path}: palette: {len(palette)} colours. "
            f"Allowed: {len(file.classes)}, one per class, with values 0 to 255."
        )
    return file


def classes_of_file(file: ClassesFile, labels: Iterable[File], path: Path) -> Classes:
    """The classes that classes.json lists, as the label files hold them: by ids, or by its palette.

    Raises:
        DataError: label files hold colours, or palettes that differ, and classes.json has no palette; or
            only one class occurs.
    """
    seen, listed = survey(labels, pass_over_damaged=True), _listed(file)  # damaged: named when decoded
    if seen.in_color or seen.conflict:
        if file.palette is None:
            raise _in_colors(seen, path)
        colors = _colors_of(file, path)
        if seen.in_color and not {(index, index, index) for index in seen.ids} <= set(colors):
            raise _mixed(seen)
        if file.tolerance == 0 and (unknown := [each for each in seen.colors if each not in colors]):
            raise _unlisted(seen, unknown, path)
        return replace(listed, file_colors=tuple(colors.items()), tolerance=file.tolerance, note=_BY_PALETTE)
    known = set(listed.ids) & set(seen.ids)
    if set(seen.ids) <= {*listed.ids, *listed.ignored_ids} and len(known) < 2 and seen.ids:
        name = listed.names[listed.ids.index(known.pop())] if known else "no class"
        raise DataError(
            f"{path}: only {name} occurs in the label maps. Needed: two classes, or there is nothing to tell "
            "apart. Correct classes.json (does its ignore_index take a class away?) or the label maps."
        )
    return replace(listed, has_three_channels=not seen.of_one)


def classes_of_halves(file: ClassesFile, path: Path) -> Classes:
    """The classes that classes.json lists for A|B pictures, whose inputs show them in its colours.

    Raises DataError where it has no palette, or one with a colour twice.
    """
    if file.palette is None:
        raise DataError(
            f"{path}: without a palette, and the label maps of A|B pictures are in colours. Give the colour "
            'of each class, "palette": [[r, g, b], ...], or remove the file: inputs are then pictures '
            "without classes."
        )
    note = "The inputs are label maps in the colours of classes.json."
    colors = tuple(_colors_of(file, path).items())
    return replace(_listed(file), file_colors=colors, tolerance=file.tolerance, note=note)


def _listed(file: ClassesFile) -> Classes:
    """The classes of classes.json, apart from how label files hold them."""
    ids = tuple(range(len(file.classes))) if file.ids is None else file.ids
    palette = _palette(len(file.classes)) if file.palette is None else file.palette
    kept = [place for place, index in enumerate(ids) if index != file.ignore_index]
    ignored = [] if file.ignore_index is None else [file.ignore_index]
    return Classes(
        names=tuple(file.classes[place] for place in kept),
        palette=tuple(palette[place] for place in kept),
        ids=tuple(ids[place] for place in kept),
        ignored_ids=tuple(ignored) or (IGNORED_ID,) * bool(file.ignored_palette),
        ignored_colors=tuple(
            (index, palette[place]) for place, index in enumerate(ids) if file.palette and index in ignored
        ),
    )


def _colors_of(file: ClassesFile, path: Path) -> dict[Color, int]:
    """Colour -> prepared id, of a file with a palette. Raises DataError where one stands for two."""
    assert file.palette is not None
    ids = tuple(range(len(file.classes))) if file.ids is None else file.ids
    kept = [place for place, index in enumerate(ids) if index != file.ignore_index]
    numbers = {place: number for number, place in enumerate(kept)}
    listed = [*file.palette, *file.ignored_palette]
    if len(set(listed)) < len(listed):
        raise DataError(f"{path}: palette: a colour stands for two classes. Allowed: one each.")
    return {color: numbers.get(place, len(kept)) for place, color in enumerate(listed)}


# ---- classes whose ids occur -------------------------------------------------------------------------------

_MOST_SMEARED = 0.9
"""Share of an id's pixels between lower and higher ids from which on smooth resizing has made it."""
_MANY_IDS, _MOSTLY_ODD, _FEW_ODD = 16, 0.5, 0.6
"""Of more ids than these, noise has made those of which so many pixels are single or between others, as long
as not so many of all are: label maps may be noise themselves."""
_LARGEST_SMALL_ID = 15
"""Up to this one, ids are taken for those of a set of few classes, of which a part of it has not all."""


def occurring_classes(labels: list[File]) -> Classes:
    """The classes of label files without classes.json: 0 to the largest id, besides 255, which means ignored.

    Masks of 0 and 255 have two classes, those of 0 alone have one.

    Raises:
        DataError: a file is no label map, or all pixels are ignored or of one class; or it is not known what
            the values mean: colours, palettes that differ, values that smooth resizing has made, or ids of
            which most never occur.
    """
    seen, folder = survey(labels), Path(labels[0].where).parent
    if seen.in_color or seen.conflict:
        raise _in_colors(seen, folder / "classes.json")
    if seen.of_three and seen.of_one:
        raise _mixed(seen)
    ids = seen.ids
    if ids == [0, IGNORED_ID]:
        note = "Label maps hold 0 and 255: background and object."
        palette, of_three = _palette(2), bool(seen.of_three)
        return Classes(("background", "object"), palette, (0, IGNORED_ID), (), (), of_three, note)
    class_ids = [index for index in ids if index != IGNORED_ID]
    if not class_ids:
        raise DataError(
            f"{folder}: all labels are {IGNORED_ID} (ignored) everywhere. Needed: one class or more."
        )
    if len(class_ids) == 1 and ids != [0]:
        also = f" and {IGNORED_ID}, which means ignored" * (IGNORED_ID in ids)
        raise DataError(
            f"{folder}: all labels are {class_ids[0]}{also}. Needed: two classes, or there is nothing to "
            f"tell apart. {_settle(ids)}"
        )
    smeared = seen.between[ids] >= _MOST_SMEARED * seen.pixels[ids]
    odd = seen.odd[ids] >= _MOSTLY_ODD * seen.pixels[ids]
    is_noise = len(ids) > _MANY_IDS and seen.odd.sum() < _FEW_ODD * seen.pixels.sum()
    if smeared.sum() * 2 >= len(ids) or (is_noise and odd.sum() * 2 >= len(ids)):
        main = sorted(np.argsort(seen.pixels)[-3:].tolist())
        raise DataError(
            f"{folder}: {len(ids)} label values, most of which occur only at edges between others, as "
            "smooth resizing and JPEG make them. Resize label maps to the nearest pixel, or map them back "
            f"to the values that were meant (most frequent here: {', '.join(map(str, main))}). "
            f"{_settle(ids)}"
        )
    num_absent = max(class_ids) + 1 - len(class_ids)
    if num_absent > len(class_ids) and max(class_ids) > _LARGEST_SMALL_ID:
        raise DataError(
            f"{folder}: the label values {_some(ids)}: of the ids 0 to {max(class_ids)} most never occur, so "
            f"it is not known which classes there are. {_settle(ids)}"
        )
    names = tuple(f"class_{index}" for index in range(max(class_ids) + 1))
    ignored = (IGNORED_ID,) if IGNORED_ID in ids else ()
    note = ""
    if num_absent > len(class_ids):
        note = f"Of the label ids 0 to {max(class_ids)}, {num_absent} never occur; they count as classes."
    of_three = bool(seen.of_three)
    return Classes(names, _palette(len(names)), tuple(range(len(names))), ignored, (), of_three, note)


def _settle(ids: list[int]) -> str:
    """The classes.json that says what these values mean."""
    shown = ids[:12]
    names = ", ".join(f'"class_{index}"' for index in shown) + ", ..." * (len(ids) > len(shown))
    return (
        f'To take them for classes, write classes.json beside the folders: {{"classes": [{names}], "ids": '
        f'[{_some(ids)}]}}, with "ignore_index" for a value that is no class.'
    )


def _in_colors(seen: Survey, path: Path) -> DataError:
    """The refusal of label files whose colours nothing explains. `path`: where classes.json belongs."""
    what = f"the palettes of label files differ: {seen.conflict}"
    if seen.in_color:
        colors = ", ".join(map(str, list(seen.colors)[:6])) + ", ..." * (len(seen.colors) > 6)
        what = f"{seen.in_color}: the label has mode RGB, and the files {len(seen.colors)} colours: {colors}"
    return DataError(
        f"{what}. Convert it to class ids, or give the colour of each class in {path.name} beside the "
        'folders: {"classes": [names], "palette": [[r, g, b], ...]}.'
    )


def _unlisted(seen: Survey, unknown: list[Color], path: Path) -> DataError:
    """The refusal of label files with colours that classes.json does not list."""
    most = sorted(unknown, key=lambda color: -seen.colors[color])[:6]
    named = ", ".join(f"{color} in {seen.colors[color]:,} files" for color in most)
    return DataError(
        f"{path}: colours of the label maps that are not in its palette, {len(unknown):,}: "
        f"{named}{', ...' * (len(unknown) > len(most))}. Smooth resizing makes new colours: "
        '"tolerance": N takes those that differ by up to N in a channel for the nearest one of the palette, '
        '"ignored_palette": [[r, g, b], ...] ignores these pixels. Correct the label maps or the file.'
    )


def _mixed(seen: Survey) -> DataError:
    """The refusal of label files of which some have one channel and some three."""
    return DataError(
        f"{seen.of_three}: the label has mode RGB, and {seen.of_one} holds one id per pixel. Allowed: one of "
        "the two in a set. Convert it to class ids."
    )


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:12])) + ", ..." * (len(values) > 12)


def _palette(num_colors: int) -> tuple[Color, ...]:
    """Distinct saturated colours: the hue turns by the golden ratio and the brightness falls in steps."""
    colors = (
        colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, 1.0 - 0.1 * (index // 2 % 6))
        for index in range(num_colors)
    )
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors)
