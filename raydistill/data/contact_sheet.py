"""A contact sheet: some pictures of a data set side by side, each beside its label map or input."""

import contextlib
import os
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from raydistill.data.classes import Classes
from raydistill.data.colors import IGNORED_COLOR
from raydistill.data.decode import halves
from raydistill.data.label_maps import label_of
from raydistill.data.picture_files import rgb
from raydistill.data.sample import FileLayout, Sample
from raydistill.errors import StoreError
from raydistill.reading import regular
from raydistill.records import owners

_CELL = 96
"""Length of the longer side of a picture on the sheet, in pixels."""
_WIDEST = 16
"""A picture is shown at most so many cells wide, squeezed where it is wider: one line of 65,536 pixels would
else fill a sheet of gigabytes."""
_COLUMNS = 6
_MOST_HEADER = 4096
"""Bytes of a file that are searched for what wrote it."""
_OVERLAID = 0.5
"""Weight of a label map that lies over its picture."""
_WRITTEN_BY = "raydistill contact sheet"
"""What a sheet says in its text "Software": such a file is written anew, and no other is."""


def views(sample: Sample, layout: FileLayout, classes: Classes | None) -> list[Image.Image]:
    """What to show of a sample: its picture, and before it its input, or its label map alone and over it.

    Args:
        sample: the sample.
        layout: the layout that it comes from. In "aligned", its picture is A|B.
        classes: the classes of the label maps; None: there are none, or they are not known.

    Raises:
        DataError: a file cannot be decoded, or holds an id that is not a class.
    """
    picture = rgb(sample.picture.open(), sample.picture.where)
    if layout == "aligned":
        return list(halves(picture, sample.picture.where))
    if sample.label is None or classes is None:
        return [picture]
    ids = classes.encode(label_of(sample.label), sample.label.where)
    colors = Image.fromarray(np.array([*classes.palette, IGNORED_COLOR], np.uint8)[ids])
    if colors.size != picture.size:
        return [colors, picture]
    return [colors, Image.blend(picture, colors, _OVERLAID), picture]


def contact_sheet(shown: list[list[Image.Image]]) -> Image.Image:
    """All pictures on one sheet, at one height. Those of one list touch; between lists there is a margin."""
    images = [image for group in shown for image in group]
    height = max(1, max(round(_CELL * image.height / max(image.size)) for image in images))
    cells = [[_scale(image, height) for image in group] for group in shown]
    cell_width = max(sum(image.width for image in group) for group in cells) + 4
    columns = max(1, min(_COLUMNS, len(cells)))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * cell_width + 4, rows * (height + 4) + 4), "white")
    for index, group in enumerate(cells):
        left, top = index % columns * cell_width + 4, index // columns * (height + 4) + 4
        for image in group:
            sheet.paste(image, (left, top))
            left += image.width
    return sheet


def write_sheet(sheet: Image.Image, path: Path, outside: Path) -> None:
    """Writes a sheet as a PNG file, whole or not at all.

    Args:
        sheet: the sheet.
        path: the file; one of another origin is left alone.
        outside: the data set, which a sheet must not become a picture of.

    Raises:
        StoreError: the file is not a sheet, lies in the data set or cannot be written.
    """
    advice = "give another --sheet FILE"
    if outside.is_dir() and path.resolve().is_relative_to(outside.resolve()):
        raise StoreError(f"not written: {path} would lie in the data set; {advice}")
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", _WRITTEN_BY)
    temporary = path.with_name(f".{owners.mark()}-{path.name}")
    try:
        if os.path.lexists(path) and not _is_sheet(path):
            raise StoreError(f"not written: {path} is there and no contact sheet; {advice}")
        sheet.save(temporary, "PNG", pnginfo=text)
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"not written: {path}: {error.strerror or error}; {advice}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_sheet(path: Path) -> bool:
    """Whether `write_sheet` wrote a file. Raises OSError where it cannot be read."""
    with regular(path).open("rb") as file:
        return f"Software\0{_WRITTEN_BY}".encode() in file.read(_MOST_HEADER)


def _scale(image: Image.Image, height: int) -> Image.Image:
    """The picture at this height.

    Small pictures are enlarged without smoothing, so that pixels can be seen.
    """
    resampling = Image.Resampling.NEAREST if max(image.size) <= _CELL else Image.Resampling.LANCZOS
    width = max(1, round(image.width * height / image.height))
    return image.resize((min(width, _WIDEST * _CELL), height), resampling)
