"""What `raydistill data inspect` finds: as a record, and as lines of text for a terminal."""

from collections.abc import Iterator

from raydistill.config.base import Frozen

_LISTED = 20
"""Classes, odd pictures and problems that are printed; the JSON has all of them."""


class ClassFacts(Frozen):
    """One class, of pixels or of whole pictures."""

    name: str
    pictures: int
    """In how many of the decoded pictures it occurs."""
    share: float
    """Its share of the labelled pixels, or of the pictures; 0 to 1."""
    share_by_split: dict[str, float] = {}
    """The same in each split that a training would see."""


class Duplicates(Frozen):
    """Equal pictures, pixel by pixel, in two splits."""

    splits: tuple[str, str]
    pictures: int
    """How many pictures of the second split are in the first one, too."""
    example: tuple[str, str]


class Odd(Frozen):
    """A picture unlike the others."""

    picture: str
    why: str


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
    """WIDTHxHEIGHT of upright pictures -> number of pictures, the most frequent first."""
    modes: dict[str, int]
    """Pillow's mode -> number of pictures. L is grey, RGB is colour, P is a palette."""
    classes: tuple[ClassFacts, ...] = ()
    ignored_share: float | None = None
    """Share of the pixels of label maps that are ignored; None: no pixel can be."""
    remarks: tuple[str, ...] = ()
    """What is changed in pictures, and how label maps are understood, in sentences."""
    duplicates: tuple[Duplicates, ...] = ()
    odd: tuple[Odd, ...] = ()
    left_out: str = ""
    """What lies beside the data and belongs to none of its samples, in words; empty: nothing."""
    sheet: str = ""
    """The file of the contact sheet; empty: none was written."""
    no_sheet: str = ""
    """Why none was written; empty: one was, or there is nothing to show."""
    problems: tuple[str, ...] = ()
    """Everything that would end a training before it begins."""


def lines(facts: Facts) -> Iterator[str]:
    """The facts as lines of text. The last ones say what is wrong and what was left out."""
    yield f"{facts.path}: {facts.layout}"
    counts = _counts(facts.splits)
    if facts.input_splits:
        counts = f"B: {counts}; A: {_counts(facts.input_splits)}"
    yield f"  pictures   {counts}. {facts.split_rule}"
    yield f"  sizes      {_most(facts.sizes)}"
    yield f"  modes      {_most(facts.modes)}"
    yield from _class_lines(facts)
    for remark in facts.remarks:
        yield f"  note       {remark}"
    for twice in facts.duplicates:
        yield (
            f"  duplicates {twice.pictures:,} in {twice.splits[1]} are in {twice.splits[0]}, too, such as "
            f"{twice.example[1]} and {twice.example[0]}"
        )
    for odd in facts.odd[:_LISTED]:
        yield f"  odd        {odd.picture}: {odd.why}"
    if len(facts.odd) > _LISTED:
        yield f"             and {len(facts.odd) - _LISTED} more"
    for problem in facts.problems[:_LISTED]:
        yield f"  problem    {problem}"
    not_shown = f", {len(facts.problems) - _LISTED} not shown" if len(facts.problems) > _LISTED else ""
    yield f"  problems   {len(facts.problems) or 'none'} in {facts.looked_at:,} pictures looked at{not_shown}"
    if facts.sheet or facts.no_sheet:
        yield f"  sheet      {facts.sheet or facts.no_sheet}"
    if facts.left_out:
        yield f"  left out: {facts.left_out}"


def _class_lines(facts: Facts) -> Iterator[str]:
    if facts.classes:
        numbers = [fact.pictures for fact in facts.classes]
        yield f"  classes    {len(facts.classes)}, each in {min(numbers):,} to {max(numbers):,} pictures"
        unit = (
            "of the labelled pixels"
            if facts.layout in ("labelled", "cityscapes", "aligned")
            else "of the pictures"
        )
        for fact in facts.classes[:_LISTED]:
            yield f"             {fact.name:24} in {fact.pictures:,} pictures, {fact.share:.1%} {unit}"
        if len(facts.classes) > _LISTED:
            yield f"             and {len(facts.classes) - _LISTED} more"
        yield "  by split   " + " | ".join(_shares(fact) for fact in facts.classes[:_LISTED])
    if facts.ignored_share is not None:
        yield f"  ignored    {facts.ignored_share:.1%} of the pixels"


def _shares(fact: ClassFacts) -> str:
    return f"{fact.name} " + ", ".join(f"{split} {share:.1%}" for split, share in fact.share_by_split.items())


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in splits.items())


def _most(counts: dict[str, int]) -> str:
    """The first four with their counts, and how many others there are."""
    listed = [f"{name} ({count:,})" for name, count in list(counts.items())[:4]]
    return ", ".join(listed) + f" and {len(counts) - 4} more" * (len(counts) > 4)
