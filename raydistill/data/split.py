"""The train, val and test splits: those of the files, or carved out of train."""

import hashlib

from raydistill.data.sample import Sample, Splits
from raydistill.data.source import SPLITS, SplitName
from raydistill.errors import DataError

CARVED_PERCENT = 15
"""Size of a carved val or test, as a share of what the files hold as train."""


def carve(on_disk: Splits) -> tuple[dict[SplitName, list[Sample]], str]:
    """All three splits, each sorted by name, and the sentence that says how they came about.

    A missing val or test is carved out of train: `CARVED_PERCENT` of its samples, the first in the order of
    the SHA-256 of their names. So a sample's split depends on the set of names alone, not on their order.
    """
    missing = [split for split in SPLITS if split not in on_disk]
    pool = sorted(on_disk["train"], key=lambda sample: hashlib.sha256(sample.name.encode()).hexdigest())
    size = (len(pool) * CARVED_PERCENT + 50) // 100
    splits = dict(on_disk)
    for split in missing:
        splits[split], pool = pool[:size], pool[size:]
    splits["train"] = pool
    rule = "The data came with train, val and test."
    if missing:
        share = f"{CARVED_PERCENT} % of the training pictures" + " each" * (len(missing) > 1)
        rule = f"The data came without {' and '.join(missing)}: {share}, chosen by the hash of the stem."
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
