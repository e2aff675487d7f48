"""What a data set is, before anything is trained on it: counts, sizes, classes, every problem, and a sheet of pictures to look at."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import PositiveInt

from raydistill.config.base import Frozen
from raydistill.config.data import FolderLayout
from raydistill.data.classes import label_of
from raydistill.data.decode import classes_of, halves
from raydistill.data.detect import find, look, packed
from raydistill.data.files import GREY
from raydistill.data.prepared import IGNORED_COLOR
from raydistill.data.sample import FileLayout, Sample, SplitsOnDisk
from raydistill.data.source import Classes, ids_in
from raydistill.data.split import carve
from raydistill.errors import DataError

_SHOWN = 24
_CELL = 96
"""Pixels of a picture on the sheet: its longer side."""
_COLUMNS = 6
_LISTED = 20
"""Classes and problems that are printed; JSON has all."""


class ClassFacts(Frozen):
    name: str
    pictures: int
    """That have it."""
    share: float
    """Of the labelled pixels, or of the pictures."""


class Facts(Frozen):
    """What `raydistill data inspect` prints."""

    path: str
    layout: str
    splits: dict[str, int]
    """As they came; "train" is everything where there are none."""
    input_splits: dict[str, int] = {}
    """Of domain A of unpaired pictures."""
    split_rule: str
    looked_at: int
    """Pictures that were decoded."""
    sizes: dict[str, int]
    """WIDTHxHEIGHT -> pictures, the most frequent first."""
    modes: dict[str, int]
    """Pillow's: L is grey, RGB colour, P a palette."""
    classes: tuple[ClassFacts, ...] = ()
    ignored_share: float | None = None
    """Of the pixels of label maps."""
    sheet: str = ""
    """The file of the contact sheet."""
    problems: tuple[str, ...] = ()
    """Everything that would end a training before it begins."""


class InspectOptions(Frozen):
    """What the command line gives. See `raydistill data inspect --help`."""

    path: Path
    layout: FolderLayout = "auto"
    num: PositiveInt | None = None
    """Decode at most so many pictures, evenly spread; None: all."""
    sheet: Path = Path("contact-sheet.png")
    as_json: bool = False


def run(options: InspectOptions) -> int:
    """Prints the facts and writes the contact sheet; 1 where there are problems, else 0. Several data files in a folder: each."""
    inside = packed(options.path)
    paths = inside if len(inside) > 1 and look(options.path, options.layout) is None else [options.path]
    every: list[Facts] = []
    for path in paths:
        facts, shown = inspect(path, options.layout, options.num)
        sheet = (
            options.sheet if len(paths) == 1 else options.sheet.with_stem(f"{options.sheet.stem}-{path.stem}")
        )
        if shown:
            contact_sheet(shown).save(sheet)
            facts = facts.model_copy(update={"sheet": str(sheet)})
        every.append(facts)
    if options.as_json:
        print(json.dumps([facts.model_dump(mode="json") for facts in every], indent=1))
    else:
        print("\n".join(line for facts in every for line in lines(facts)))
    return int(any(facts.problems for facts in every))


def inspect(
    path: Path, layout: FileLayout | Literal["auto"] = "auto", num: int | None = None
) -> tuple[Facts, list[list[Image.Image]]]:
    """Facts, and the pictures of a contact sheet: what belongs together is in one list.

    Raises:
        DataError: nothing that is understood is there, or files do not pair up.
    """
    found = find(path, layout)
    _, rule = carve(found.splits)
    samples = [
        sample
        for splits in (found.splits, found.inputs or {})
        for listed in splits.values()
        for sample in listed
    ]
    chosen = (
        samples
        if num is None
        else [samples[index] for index in np.unique(np.linspace(0, len(samples) - 1, num).astype(int))]
    )
    seen = _Seen()
    try:
        seen.classes = classes_of(found, path)()
    except DataError as error:
        seen.problems.append(str(error))
    shown_every = max(1, len(chosen) // _SHOWN)
    for index, sample in enumerate(chosen):
        try:
            _look_at(sample, seen)
            if index % shown_every == 0 and len(seen.shown) < _SHOWN:
                seen.shown.append(_together(found, sample, seen.classes))
        except DataError as error:
            seen.problems.append(str(error))
    facts = Facts(
        path=str(path),
        layout=found.layout,
        splits={split: len(listed) for split, listed in found.splits.items()},
        input_splits={split: len(listed) for split, listed in (found.inputs or {}).items()},
        split_rule=rule,
        looked_at=len(chosen),
        sizes=dict(seen.sizes.most_common()),
        modes=dict(seen.modes.most_common()),
        classes=_class_facts(found, seen),
        ignored_share=_ignored_share(seen),
        problems=(*seen.problems, *_mixed(chosen, seen, found)),
    )
    return facts, seen.shown


@dataclass
class _Seen:
    classes: Classes | None = None
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    """Stored label id -> pixels."""
    pictures: Counter[int] = field(default_factory=Counter)
    """Class -> pictures that have it."""
    shown: list[list[Image.Image]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _look_at(sample: Sample, seen: _Seen) -> None:
    picture = sample.picture.image()
    seen.sizes[f"{picture.width}x{picture.height}"] += 1
    seen.modes[picture.mode] += 1
    if sample.class_id is not None:
        seen.pictures[sample.class_id] += 1
    if (label := _ids(sample, seen.classes)) is not None:
        if label.shape[::-1] != picture.size:
            raise DataError(
                f"{sample.picture.where}: {picture.width}x{picture.height}, its label {label.shape[1]}x{label.shape[0]}"
            )
        seen.pixels.update(
            {value: int(count) for value, count in enumerate(np.bincount(label.ravel())) if count}
        )
        seen.pictures.update(ids_in(label))


def _ids(sample: Sample, classes: Classes | None) -> np.ndarray | None:
    if sample.label is None or classes is None:
        return None
    return classes.encode(np.asarray(label_of(sample.label)), sample.label.where)


def _mixed(samples: list[Sample], seen: _Seen, found: SplitsOnDisk) -> Iterator[str]:
    """What is wrong with the set as a whole."""
    total, grey = sum(seen.modes.values()), sum(count for mode, count in seen.modes.items() if mode in GREY)
    if 0 < grey < total:
        few = grey * 2 <= total
        odd = next(sample.picture.where for sample in samples if (_mode(sample) in GREY) == few)
        yield f"{odd}: {'grey' if few else 'in colour'}, as {min(grey, total - grey)} of {total} are; allowed: one of the two"
    if deep := [mode for mode in seen.modes if mode.startswith(("I", "F"))]:
        yield f"{sum(seen.modes[mode] for mode in deep)} pictures have mode {', '.join(deep)}: more than 8 bits a channel"
    if found.layout == "aligned" and (
        odd_width := [size for size in seen.sizes if int(size.split("x")[0]) % 2]
    ):
        yield f"A|B pictures of {odd_width[0]}: an odd width has no middle"


def _mode(sample: Sample) -> str:
    try:
        return sample.picture.image().mode
    except DataError:
        return ""


def _class_facts(found: SplitsOnDisk, seen: _Seen) -> tuple[ClassFacts, ...]:
    names, counts = (
        (seen.classes.names, seen.pixels) if seen.classes is not None else (found.class_names, seen.pictures)
    )
    total = sum(counts[index] for index in range(len(names))) or 1
    return tuple(
        ClassFacts(name=name, pictures=seen.pictures[index], share=counts[index] / total)
        for index, name in enumerate(names)
    )


def _ignored_share(seen: _Seen) -> float | None:
    if seen.classes is None or seen.classes.ignore_index is None or not seen.pixels:
        return None
    return seen.pixels[seen.classes.ignore_index] / sum(seen.pixels.values())


# ---- the contact sheet ----------------------------------------------------------------------------------------------


def _together(found: SplitsOnDisk, sample: Sample, classes: Classes | None) -> list[Image.Image]:
    """Input and picture, or the picture alone."""
    picture = sample.picture.image().convert("RGB")
    if found.layout == "aligned":
        return list(halves(picture, sample.picture.where))
    label = _ids(sample, classes)
    if label is None or classes is None:
        return [picture]
    colors = np.array([*classes.palette, IGNORED_COLOR], np.uint8)
    return [Image.fromarray(colors[label]), picture]


def contact_sheet(shown: list[list[Image.Image]]) -> Image.Image:
    """All pictures side by side, scaled to the same height; what belongs together touches."""
    height = max(
        1, max(round(_CELL * image.height / max(image.size)) for images in shown for image in images)
    )
    cells = [[_scaled(image, height) for image in images] for images in shown]
    width = max(sum(image.width for image in images) for images in cells) + 4
    columns = max(1, min(_COLUMNS, len(cells)))
    sheet = Image.new("RGB", (columns * width + 4, -(-len(cells) // columns) * (height + 4) + 4), "white")
    for index, images in enumerate(cells):
        left, top = index % columns * width + 4, index // columns * (height + 4) + 4
        for image in images:
            sheet.paste(image, (left, top))
            left += image.width
    return sheet


def _scaled(image: Image.Image, height: int) -> Image.Image:
    """Small pictures are enlarged pixel by pixel."""
    resampling = Image.Resampling.NEAREST if max(image.size) <= _CELL else Image.Resampling.LANCZOS
    return image.resize((max(1, round(image.width * height / image.height)), height), resampling)


# ---- text -----------------------------------------------------------------------------------------------------------


def lines(facts: Facts) -> Iterator[str]:
    """The facts, to read."""
    yield f"{facts.path}: {facts.layout}"
    counts = ", ".join(f"{split} {count:,}" for split, count in facts.splits.items())
    if facts.input_splits:
        counts = (
            "B: "
            + counts
            + "; A: "
            + ", ".join(f"{split} {count:,}" for split, count in facts.input_splits.items())
        )
    yield f"  pictures   {counts}. {facts.split_rule}"
    yield f"  sizes      {_most(facts.sizes)}"
    yield f"  modes      {_most(facts.modes)}"
    if facts.classes:
        numbers = [fact.pictures for fact in facts.classes]
        yield f"  classes    {len(facts.classes)}, each in {min(numbers):,} to {max(numbers):,} pictures"
        unit = "of the labelled pixels" if facts.layout in ("labelled", "cityscapes") else "of the pictures"
        for fact in facts.classes[:_LISTED]:
            yield f"             {fact.name:24} in {fact.pictures:,} pictures, {fact.share:.1%} {unit}"
        if len(facts.classes) > _LISTED:
            yield f"             and {len(facts.classes) - _LISTED} more"
    if facts.ignored_share is not None:
        yield f"  ignored    {facts.ignored_share:.1%} of the pixels"
    for problem in facts.problems[:_LISTED]:
        yield f"  problem    {problem}"
    not_shown = f", {len(facts.problems) - _LISTED} not shown" if len(facts.problems) > _LISTED else ""
    yield f"  problems   {len(facts.problems) or 'none'} in {facts.looked_at:,} pictures looked at{not_shown}"
    if facts.sheet:
        yield f"  sheet      {facts.sheet}"


def _most(counts: dict[str, int]) -> str:
    listed = [f"{name} ({count:,})" for name, count in list(counts.items())[:4]]
    return ", ".join(listed) + f" and {len(counts) - 4} more" * (len(counts) > 4)
