"""A contact sheet: some pictures of a data set side by side, each beside its label map or input."""

import numpy as np
from PIL import Image

from raydistill.data.batches import IGNORED_COLOR
from raydistill.data.classes import Classes, label_of
from raydistill.data.decode import halves
from raydistill.data.sample import FileLayout, Sample

_CELL = 96
"""Length of the longer side of a picture on the sheet, in pixels."""
_WIDEST = 16
"""A picture is shown at most so many cells wide, squeezed where it is wider: one line of 65,536 pixels would
else fill a sheet of gigabytes."""
_COLUMNS = 6


def views(sample: Sample, layout: FileLayout, classes: Classes | None) -> list[Image.Image]:
    """What to show of a sample: its picture, and before it its label map in colours or its input, if any.

    Args:
        sample: the sample.
        layout: the layout that it comes from. In "aligned", its picture is A|B.
        classes: the classes of the label maps; None: there are none, or they are not known.

    Raises:
        DataError: a file cannot be decoded, or holds an id that is not a class.
    """
    picture = sample.picture.image().convert("RGB")
    if layout == "aligned":
        return list(halves(picture, sample.picture.where))
    if sample.label is None or classes is None:
        return [picture]
    ids = classes.encode(np.asarray(label_of(sample.label)), sample.label.where)
    colors = np.array([*classes.palette, IGNORED_COLOR], np.uint8)
    return [Image.fromarray(colors[ids]), picture]


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


def _scale(image: Image.Image, height: int) -> Image.Image:
    """The picture at this height.

    Small pictures are enlarged without smoothing, so that pixels can be seen.
    """
    resampling = Image.Resampling.NEAREST if max(image.size) <= _CELL else Image.Resampling.LANCZOS
    width = max(1, round(image.width * height / image.height))
    return image.resize((min(width, _WIDEST * _CELL), height), resampling)
