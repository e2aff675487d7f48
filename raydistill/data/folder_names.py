"""Which names of folders mean a split, and which mean pictures, label maps or a domain."""

import re
from collections.abc import Iterable
from pathlib import Path

from raydistill.data.files import entries
from raydistill.data.source import SplitName
from raydistill.errors import DataError

_WORDS: dict[SplitName, str] = {
    "train": "train|training",
    "val": "val|valid|validation|dev|eval|evaluation",
    "test": "test|testing",
}
_SPLIT = re.compile(
    "(" + "|".join(f"(?P<{split}>{words})" for split, words in _WORDS.items()) + ")"
    r"([-_ ]?(set|split|data))?([-_ ]?(19|20)\d\d)?",
    re.IGNORECASE,
)
"""train, Training, training_set, train2017 and so on."""
PICTURE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures")
LABEL_FOLDERS = (
    *("labels", "label", "masks", "mask", "annotations", "annotation", "annot", "segmentationclass"),
    *("gt", "ground_truth", "groundtruth", "segmentations", "segmentation"),
)
"""Names, in small letters, of folders of pictures and of label maps."""


def split_of(name: str) -> SplitName | None:
    """The split that a folder of this name holds; None: its name is none of a split."""
    match = _SPLIT.fullmatch(name)
    return None if match is None else next(split for split in _WORDS if match[split] is not None)


def split_folders(folder: Path) -> dict[SplitName, Path]:
    """The folders of splits in a folder. Raises DataError where two are for one split."""
    return by_split((path, split_of(path.name)) for path in entries(folder) if path.is_dir())


def by_split(paths: Iterable[tuple[Path, SplitName | None]]) -> dict[SplitName, Path]:
    """The paths by their splits, without those of none. Raises DataError where two are for one split."""
    found: dict[SplitName, Path] = {}
    for path, split in paths:
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"{path.parent}: {found[split].name} and {path.name} are both for {split}. "
                "Allowed: one. Put them together, or rename one."
            )
        found[split] = path
    return {split: found[split] for split in _WORDS if split in found}


def domain_of(name: str) -> tuple[SplitName, str] | None:
    """The split and the domain ("A" or "B") that a folder like trainA, TestB or train_A holds; None: none."""
    if not name or name[-1].upper() not in "AB" or (split := split_of(name[:-1].rstrip("-_ "))) is None:
        return None
    return split, name[-1].upper()
