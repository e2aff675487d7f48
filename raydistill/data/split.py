"""Where the val and test splits come from."""

import hashlib

from raydistill.data.sample import Sample, Splits
from raydistill.data.source import SPLITS, SplitName
from raydistill.errors import DataError

CARVED_PERCENT = 15


def carve(given: Splits) -> tuple[dict[SplitName, list[Sample]], str]:
    """All three splits, each in the order of its names, and the sentence that says how they came about.

    A missing val or test is 15 % of what came as train: the first in the order of the SHA-256 of the names, which are stems.
    """
    missing = [split for split in SPLITS if split not in given]
    pool = sorted(given["train"], key=lambda sample: hashlib.sha256(sample.name.encode()).hexdigest())
    size = (len(pool) * CARVED_PERCENT + 50) // 100
    splits = dict(given)
    for split in missing:
        splits[split], pool = pool[:size], pool[size:]
    splits["train"] = pool
    rule = "The data came with train, val and test."
    if missing:
        share = f"{CARVED_PERCENT} % of the training pictures" + " each" * (len(missing) > 1)
        rule = f"The data came without {' and '.join(missing)}: {share}, chosen by the hash of the stem."
    return {split: sorted(splits[split], key=lambda sample: sample.name) for split in SPLITS}, rule


def _enough(splits: dict[SplitName, list[Sample]], split_rule: str, root: str) -> dict[SplitName, int]:
    """The counts. Raises DataError where they are too few."""
    counts = {split: len(splits[split]) for split in SPLITS}
    if counts["train"] < 1 or min(counts["val"], counts["test"]) < 2:
        found = ", ".join(f"{split} {count}" for split, count in counts.items())
        raise DataError(
            f"{root}: too few pictures: {found}. {split_rule} Needed: train 1, val 2 and test 2 at least. Add pictures."
        )
    return counts
