"""The samples of a data set as its files hold them: pictures alone, or each with a label map or a class."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from raydistill.data.files import File, Picture
from raydistill.data.source import FileLayout, SplitName


class Sample(NamedTuple):
    """One picture, not decoded yet, and what belongs to it."""

    name: str
    """Gives the order within a split, and also the split where val or test is carved out of train."""
    picture: Picture
    label: File | None = None
    """The file of its label map."""
    class_id: int | None = None
    """The class of the whole picture, from 0."""


Splits = dict[SplitName, list[Sample]]
"""Samples by the split that their files are in; all are "train" where the files say nothing of splits."""


@dataclass(frozen=True)
class SplitsOnDisk:
    """The samples that the files of a data set hold, before a missing val or test is carved out of train."""

    layout: FileLayout
    splits: Splits
    """The samples; of unpaired pictures those of domain B."""
    files: tuple[Path, ...]
    """All files that the content depends on."""
    inputs: Splits | None = None
    """The samples of domain A of unpaired pictures; None for other layouts."""
    class_names: tuple[str, ...] = ()
    """Name of each class id of whole pictures; empty if they have none."""
    remarks: tuple[str, ...] = ()
    """What a person should know of how the files were understood, in sentences."""
    left_out: str = ""
    """What lies beside these files and belongs to no sample, in words; empty: nothing."""


def files_on_disk(root: Path, files: list[File]) -> tuple[Path, ...]:
    """The paths of these files below a folder; the zip file alone where they lie in one."""
    return (root,) if root.is_file() else tuple(root / file.name for file in files)
