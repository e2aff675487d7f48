"""What a data set is, before anything is trained on it: counts, sizes, classes, problems, a contact sheet."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from raydistill.config.command_options import InspectOptions
from raydistill.data.classes import Classes, ids_in
from raydistill.data.contact_sheet import contact_sheet, views, write_sheet
from raydistill.data.decode import ids_of
from raydistill.data.detect import find, look, packed
from raydistill.data.facts import ClassFacts, Duplicates, Facts, Odd, lines
from raydistill.data.folder import label_classes
from raydistill.data.picture_files import GREY, Change, rgb, said
from raydistill.data.sample import FileLayout, Sample, SplitsOnDisk
from raydistill.data.source import SPLITS, SplitName, remarks_on
from raydistill.data.split import carve
from raydistill.errors import DataError, StoreError

_SHOWN = 24
"""Samples on the contact sheet; odd ones come first, up to half of them."""
_ODD_SHARE = 0.02
"""A size is odd that so many of the pictures or fewer have, where half of them have one size."""


def run(options: InspectOptions) -> int:
    """Prints the facts and writes the contact sheet; of each data file where a folder holds several.

    Returns 1 where there are problems, or no sheet at a place that was named; else 0. Raises DataError as
    `inspect` does.
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
            try:
                write_sheet(contact_sheet(shown), sheet, outside=options.path)
                facts = facts.model_copy(update={"sheet": str(sheet)})
            except StoreError as error:
                facts = facts.model_copy(update={"no_sheet": str(error)})
        all_facts.append(facts)
    if options.as_json:
        print(json.dumps([facts.model_dump(mode="json") for facts in all_facts], indent=1))
    else:
        print("\n".join(line for facts in all_facts for line in lines(facts)))
    was_named = options.sheet != InspectOptions.model_fields["sheet"].default
    return int(any(facts.problems or (was_named and facts.no_sheet) for facts in all_facts))


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
    splits, rule = carve(on_disk.splits)
    inputs = carve(on_disk.inputs)[0] if on_disk.inputs else {}
    samples = _spread([*_with_splits(splits, "B" * bool(inputs)), *_with_splits(inputs, "A")], num)
    tally = _Tally()
    try:
        tally.classes = label_classes(on_disk, path)()
    except DataError as error:
        tally.problems.append(str(error))
    for sample, split, domain in samples:
        try:
            _count(sample, split, domain, tally)
        except DataError as error:
            tally.problems.append(str(error))
    odd = _odd(tally)
    problems = (*tally.problems, *_problems_of_set([sample for sample, _, _ in samples], tally, on_disk))
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
        remarks=(*on_disk.remarks, *remarks_on(tally.classes, on_disk.class_names), *said(tally.changes)),
        duplicates=tuple(_duplicates(tally)),
        odd=odd,
        left_out=on_disk.left_out,
        problems=problems,
    )
    return facts, _shown([sample for sample, _, _ in samples], {each.picture for each in odd}, on_disk, tally)


_InSplit = tuple[Sample, SplitName, str]
"""A sample, its split, and "A" or "B" for unpaired pictures."""


def _with_splits(splits: dict[SplitName, list[Sample]], domain: str) -> list[_InSplit]:
    return [(sample, split, domain) for split in SPLITS if split in splits for sample in splits[split]]


def _spread(samples: list[_InSplit], num: int | None) -> list[_InSplit]:
    """`num` samples, evenly spread over all of them; None: all."""
    if num is None:
        return samples
    return [samples[index] for index in np.unique(np.linspace(0, len(samples) - 1, num).astype(int))]


def _shown(
    samples: list[Sample], odd: set[str], on_disk: SplitsOnDisk, tally: "_Tally"
) -> list[list[Image.Image]]:
    """The pictures of the contact sheet, odd ones first; those that cannot be shown are passed over."""
    chosen = [sample for sample in samples if sample.picture.where in odd][: _SHOWN // 2]
    chosen += samples[:: max(1, len(samples) // _SHOWN)]
    shown: list[list[Image.Image]] = []
    for sample in {each.picture.where: each for each in chosen}.values():
        if len(shown) < _SHOWN:
            try:
                shown.append(views(sample, on_disk.layout, tally.classes))
            except DataError:
                continue  # it is among the problems
    return shown


@dataclass
class _Tally:
    """What is counted over all decoded pictures."""

    classes: Classes | None = None
    """Classes of the label maps; None: there are no label maps, or the classes cannot be told."""
    sizes: Counter[str] = field(default_factory=Counter)
    """WIDTHxHEIGHT -> pictures."""
    modes: Counter[str] = field(default_factory=Counter)
    """Pillow's mode -> pictures."""
    pixels: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(split, id of a prepared label map) -> pixels."""
    pictures: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(split, class) -> pictures that have it."""
    changes: Counter[Change] = field(default_factory=Counter)
    """What is changed in pictures."""
    contents: dict[tuple[str, str], tuple[SplitName, str]] = field(default_factory=dict)
    """(domain, hash of the pixels) -> the first split and file that has them."""
    twice: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    """Two splits -> files that hold the same pixels."""
    single: dict[str, list[str]] = field(default_factory=dict)
    """WIDTHxHEIGHT -> its first files."""
    flat: list[str] = field(default_factory=list)
    """Files of one colour."""
    problems: list[str] = field(default_factory=list)


def _count(sample: Sample, split: SplitName, domain: str, tally: _Tally) -> None:
    """Adds a sample to the tally. Raises DataError where it cannot be decoded."""
    opened, where = sample.picture.open(), sample.picture.where
    picture = opened.image
    size = f"{picture.width}x{picture.height}"
    tally.sizes[size] += 1
    tally.single.setdefault(size, []).append(where)
    tally.modes[picture.mode] += 1
    if not picture.mode.startswith(("I", "F")):  # said once for the set
        pixels = np.asarray(rgb(opened, where, tally.changes))
        if (pixels == pixels[:1, :1]).all():
            tally.flat.append(where)
        content = hashlib.sha256(size.encode() + pixels.tobytes()).hexdigest()
        first, twin = tally.contents.setdefault((domain, content), (split, where))
        if first != split:
            tally.twice.setdefault((first, split), []).append((twin, where))
    if sample.class_id is not None:
        tally.pictures[split, sample.class_id] += 1
    if tally.classes is None:
        return
    label = ids_of(sample, tally.classes)
    if sample.label is not None and label.shape[::-1] != picture.size:
        raise DataError(
            f"{where}: {picture.width}x{picture.height}, its label {label.shape[1]}x{label.shape[0]}"
        )
    counts = np.bincount(label.ravel())
    tally.pixels.update({(split, value): int(count) for value, count in enumerate(counts) if count})
    tally.pictures.update((split, value) for value in ids_in(label))


def _odd(tally: _Tally) -> tuple[Odd, ...]:
    """Pictures unlike the others: of a rare size where most have one, or of one colour where few are."""
    total, found = sum(tally.sizes.values()), list[Odd]()
    (usual, number), *_ = tally.sizes.most_common(1) or [("", 0)]
    for size, count in tally.sizes.items():
        if 2 * number >= total and size != usual and count <= max(1, _ODD_SHARE * total):
            found += [Odd(picture=where, why=f"{size}, most are {usual}") for where in tally.single[size]]
    if len(tally.flat) <= max(1, _ODD_SHARE * total):
        found += [Odd(picture=where, why="all of one colour") for where in tally.flat]
    return tuple(found)


def _duplicates(tally: _Tally) -> Iterator[Duplicates]:
    for splits, twins in tally.twice.items():
        yield Duplicates(splits=splits, pictures=len(twins), example=twins[0])


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
    narrow = [size for size in tally.sizes if int(size.split("x")[0]) <= int(size.split("x")[1])]
    if on_disk.layout == "aligned" and narrow:
        yield f"A|B pictures of {narrow[0]}: not wider than high, so each half is narrow; is it A|B?"


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
    by_split = {split: sum(counts[split, index] for index in range(len(names))) for split in SPLITS}
    total = sum(by_split.values()) or 1
    return tuple(
        ClassFacts(
            name=name,
            pictures=sum(tally.pictures[split, index] for split in SPLITS),
            share=sum(counts[split, index] for split in SPLITS) / total,
            share_by_split={
                split: counts[split, index] / number for split, number in by_split.items() if number
            },
        )
        for index, name in enumerate(names)
    )


def _ignored_share(tally: _Tally) -> float | None:
    if tally.classes is None or tally.classes.ignore_index is None or not tally.pixels:
        return None
    ignored = sum(tally.pixels[split, tally.classes.ignore_index] for split in SPLITS)
    return ignored / sum(tally.pixels.values())
