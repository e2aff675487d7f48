"""The train, val and test splits: those of the files, or carved out of train."""

import hashlib
from fractions import Fraction

from raydistill.config.data import CARVED_SHARE, Carved
from raydistill.data.sample import Sample, Splits
from raydistill.data.source import SPLITS, SplitName
from raydistill.errors import DataError


def has_one_published(on_disk: Splits) -> bool:
    """Whether the files have train and val alone: their val is the set that scores are published on."""
    return "val" in on_disk and "test" not in on_disk


def carve(on_disk: Splits, size: Carved = CARVED_SHARE) -> tuple[dict[SplitName, list[Sample]], str]:
    """All three splits, each sorted by name, and the sentence that says how they came about.

    A missing val or test is carved out of train: its first samples in the order of the SHA-256 of their
    names. So a sample's split depends on the set of names alone, not on their order. Where the files have
    train and one other split, that one is test, whatever it is called: choices are made on val alone, and
    what scores are published on takes no part in them.

    Args:
        on_disk: the samples as the files hold them.
        size: how many samples each of them gets, or which share of the files' train, rounded.
    """
    splits, note = dict(on_disk), ""
    if has_one_published(on_disk):
        splits["test"] = splits.pop("val")
        note = " The val of the files is test here."
    missing = [split for split in SPLITS if split not in splits]
    pool = sorted(splits["train"], key=lambda sample: hashlib.sha256(sample.name.encode()).hexdigest())
    number = size if isinstance(size, int) else int(len(pool) * Fraction(str(size)) + Fraction(1, 2))
    for split in missing:
        splits[split], pool = pool[:number], pool[number:]
    splits["train"] = pool
    rule = "The data came with train, val and test."
    if missing:
        each = " each" * (len(missing) > 1)
        share = f"{size:,}" if isinstance(size, int) else f"{100 * size:g} %"
        rule = (
            f"The data came without {'test' if note else ' and '.join(missing)}: {share} of the training "
            f"pictures{each}{' become val' if note else ''}, chosen by the hash of the stem.{note}"
        )
    return {split: sorted(splits[split], key=lambda sample: sample.name) for split in SPLITS}, rule


def counts_of(splits: dict[SplitName, list[Sample]], split_rule: str, root: str) -> dict[SplitName, int]:
    """Number of samples of each split.

    Raises:
        DataError: there are fewer than 1 for train, or fewer than 2 for val or test. The message names the
            data set as `root` and says `split_rule`.
    """
    counts = {split: len(splits[split]) for split in SPLITS}
    if counts["train"] < 1 or min(counts["val"], counts["test"]) < 2:
        numbers = ", ".join(f"{split} {count}" for split, count in counts.items())
        raise DataError(
            f"{root}: too few pictures: {numbers}. {split_rule} Needed: train 1, val 2 and test 2 at least. "
            "Add pictures."
        )
    return counts
