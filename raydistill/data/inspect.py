"""What a data set is, before anything is trained on it: counts, sizes, classes, problems, a contact sheet."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from raydistill.config.base import Frozen
from raydistill.config.command_options import InspectOptions
from raydistill.data.classes import Classes, ids_in, label_of
from raydistill.data.contact_sheet import contact_sheet, views
from raydistill.data.decode import GREY
from raydistill.data.detect import find, look, packed
from raydistill.data.folder import label_classes
from raydistill.data.sample import FileLayout, Sample, SplitsOnDisk
from raydistill.data.split import carve
from raydistill.errors import DataError

_SHOWN = 24
"""Samples on the contact sheet."""
_LISTED = 20
"""Classes and problems that are printed; the JSON has all of them."""


class ClassFacts(Frozen):
    """One class, of pixels or of whole pictures."""

    name: str
    pictures: int
    """In how many of the decoded pictures it occurs."""
    share: float
    """Its share of the labelled pixels, or of the pictures; 0 to 1."""


class Facts(Frozen):
    """What `raydistill data inspect` prints."""

    path: str
    layout: str
    splits: dict[str, int]
    """Number of pictures by the split that their files are in; all are "train" where there are no splits."""
    input_splits: dict[str, int] = {}
    """The same of the inputs (domain A) of unpaired pictures."""
    split_rule: str
    """The sentence that says how train, val and test would come about."""
    looked_at: int
    """Number of pictures that were decoded."""
    sizes: dict[str, int]
    """WIDTHxHEIGHT -> number of pictures, the most frequent first."""
    modes: dict[str, int]
    """Pillow's mode -> number of pictures. L is grey, RGB is colour, P is a palette."""
    classes: tuple[ClassFacts, ...] = ()
    ignored_share: float | None = None
    """Share of the pixels of label maps that are ignored; None: no pixel can be."""
    sheet: str = ""
    """The file of the contact sheet; empty: none was written."""
    problems: tuple[str, ...] = ()
    """Everything that would end a training before it begins."""


def run(options: InspectOptions) -> int:
    """Prints the facts and writes the contact sheet; of each data file where a folder holds several.

    Returns 1 where there are problems, else 0. Raises DataError as `inspect` does.
    """
    inside = packed(options.path)
    paths = inside if len(inside) > 1 and look(options.path, options.layout) is None else [options.path]
    all_facts: list[Facts] = []
    for path in paths:
        facts, shown = inspect(path, options.layout, options.num)
        sheet = options.sheet
        if len(paths) > 1:
            sheet = sheet.with_stem(f"{sheet.stem}-{path.stem}")
        if shown:
            contact_sheet(shown).save(sheet)
            facts = facts.model_copy(update={"sheet": str(sheet)})
        all_facts.append(facts)
    if options.as_json:
        print(json.dumps([facts.model_dump(mode="json") for facts in all_facts], indent=1))
    else:
        print("\n".join(line for facts in all_facts for line in lines(facts)))
    return int(any(facts.problems for facts in all_facts))


def inspect(
    path: Path, layout: FileLayout | Literal["auto"] = "auto", num: int | None = None
) -> tuple[Facts, list[list[Image.Image]]]:
    """The facts of a data set, and the pictures of its contact sheet: those of one sample are in one list.

    Args:
        path: a folder, zip file or npz file.
        layout: the layout to look for; "auto": the first one that is there.
        num: decode at most so many pictures, evenly spread; None: all.

    Raises:
        DataError: the layout is not there, or files do not pair up. What is wrong with single files is among
            the problems of the facts instead.
    """
    on_disk = find(path, layout)
    _, rule = carve(on_disk.splits)
    samples = _spread(on_disk, num)
    tally = _Tally()
    try:
        tally.classes = label_classes(on_disk, path)()
    except DataError as error:
        tally.problems.append(str(error))
    shown_every = max(1, len(samples) // _SHOWN)
    for index, sample in enumerate(samples):
        try:
            _count(sample, tally)
            if index % shown_every == 0 and len(tally.shown) < _SHOWN:
                tally.shown.append(views(sample, on_disk.layout, tally.classes))
        except DataError as error:
            tally.problems.append(str(error))
    facts = Facts(
        path=str(path),
        layout=on_disk.layout,
        splits={split: len(listed) for split, listed in on_disk.splits.items()},
        input_splits={split: len(listed) for split, listed in (on_disk.inputs or {}).items()},
        split_rule=rule,
        looked_at=len(samples),
        sizes=dict(tally.sizes.most_common()),
        modes=dict(tally.modes.most_common()),
        classes=_class_facts(on_disk, tally),
        ignored_share=_ignored_share(tally),
        problems=(*tally.problems, *_problems_of_set(samples, tally, on_disk)),
    )
    return facts, tally.shown


def _spread(on_disk: SplitsOnDisk, num: int | None) -> list[Sample]:
    """`num` samples, evenly spread over all of them; None: all."""
    samples = [
        sample
        for splits in (on_disk.splits, on_disk.inputs or {})
        for listed in splits.values()
        for sample in listed
    ]
    if num is None:
        return samples
    return [samples[index] for index in np.unique(np.linspace(0, len(samples) - 1, num).astype(int))]


@dataclass
class _Tally:
    """What is counted over all decoded pictures."""

    classes: Classes | None = None
    """Classes of the label maps; None: there are no label maps, or the classes cannot be told."""
    sizes: Counter[str] = field(default_factory=Counter)
    """WIDTHxHEIGHT -> pictures."""
    modes: Counter[str] = field(default_factory=Counter)
    """Pillow's mode -> pictures."""
    pixels: Counter[int] = field(default_factory=Counter)
    """Id of a prepared label map -> pixels."""
    pictures: Counter[int] = field(default_factory=Counter)
    """Class -> pictures that have it."""
    shown: list[list[Image.Image]] = field(default_factory=list)
    """Pictures of the contact sheet."""
    problems: list[str] = field(default_factory=list)


def _count(sample: Sample, tally: _Tally) -> None:
    """Adds a sample to the tally. Raises DataError where it cannot be decoded."""
    picture = sample.picture.image()
    tally.sizes[f"{picture.width}x{picture.height}"] += 1
    tally.modes[picture.mode] += 1
    if sample.class_id is not None:
        tally.pictures[sample.class_id] += 1
    if sample.label is None or tally.classes is None:
        return
    label = tally.classes.encode(np.asarray(label_of(sample.label)), sample.label.where)
    if label.shape[::-1] != picture.size:
        raise DataError(
            f"{sample.picture.where}: {picture.width}x{picture.height}, "
            f"its label {label.shape[1]}x{label.shape[0]}"
        )
    counts = np.bincount(label.ravel())
    tally.pixels.update({value: int(count) for value, count in enumerate(counts) if count})
    tally.pictures.update(ids_in(label))


def _problems_of_set(samples: list[Sample], tally: _Tally, on_disk: SplitsOnDisk) -> Iterator[str]:
    """What is wrong with the set as a whole."""
    total, grey = sum(tally.modes.values()), sum(tally.modes[mode] for mode in GREY)
    if 0 < grey < total:
        grey_is_odd = grey * 2 <= total
        odd = next(sample.picture.where for sample in samples if (_mode(sample) in GREY) == grey_is_odd)
        what = "grey" if grey_is_odd else "in colour"
        yield f"{odd}: {what}, as {min(grey, total - grey)} of {total} are; allowed: one of the two"
    if deep := [mode for mode in tally.modes if mode.startswith(("I", "F"))]:
        number = sum(tally.modes[mode] for mode in deep)
        yield f"{number} pictures have mode {', '.join(deep)}: more than 8 bits a channel"
    odd_widths = [size for size in tally.sizes if int(size.split("x")[0]) % 2]
    if on_disk.layout == "aligned" and odd_widths:
        yield f"A|B pictures of {odd_widths[0]}: an odd width has no middle"


def _mode(sample: Sample) -> str:
    """Pillow's mode; empty for what is no picture."""
    try:
        return sample.picture.image().mode
    except DataError:
        return ""


def _class_facts(on_disk: SplitsOnDisk, tally: _Tally) -> tuple[ClassFacts, ...]:
    names, counts = on_disk.class_names, tally.pictures
    if tally.classes is not None:
        names, counts = tally.classes.names, tally.pixels
    total = sum(counts[index] for index in range(len(names))) or 1
    return tuple(
        ClassFacts(name=name, pictures=tally.pictures[index], share=counts[index] / total)
        for index, name in enumerate(names)
    )


def _ignored_share(tally: _Tally) -> float | None:
    if tally.classes is None or tally.classes.ignore_index is None or not tally.pixels:
        return None
    return tally.pixels[tally.classes.ignore_index] / sum(tally.pixels.values())


# ---- text --------------------------------------------------------------------------------------------------


def lines(facts: Facts) -> Iterator[str]:
    """The facts as lines of text for a terminal."""
    yield f"{facts.path}: {facts.layout}"
    counts = _counts(facts.splits)
    if facts.input_splits:
        counts = f"B: {counts}; A: {_counts(facts.input_splits)}"
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


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in splits.items())


def _most(counts: dict[str, int]) -> str:
    """The first four with their counts, and how many others there are."""
    listed = [f"{name} ({count:,})" for name, count in list(counts.items())[:4]]
    return ", ".join(listed) + f" and {len(counts) - 4} more" * (len(counts) > 4)
