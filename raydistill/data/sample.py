"""What the files of a data set are, once found: its layout, and the samples of each split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from raydistill.data.files import File, Picture
from raydistill.data.source import SplitName

FileLayout = Literal[
    "labelled", "cityscapes", "unpaired", "aligned", "nvlabs", "idx", "npz", "classes", "pictures"
]


class Sample(NamedTuple):
    name: str
    """Says where it is in the order, and in which split where that is carved."""
    picture: Picture
    label: File | None = None
    class_id: int | None = None


Splits = dict[SplitName, list[Sample]]
"""As they came: all is "train" where there are none."""


@dataclass(frozen=True)
class SplitsOnDisk:
    layout: FileLayout
    splits: Splits
    files: tuple[Path, ...]
    """What the content depends on."""
    inputs: Splits | None = None
    """Domain A of unpaired pictures."""
    class_names: tuple[str, ...] = ()
    """Of the pictures' class ids."""
