"""Layouts of pictures without label maps: alone, in class folders, A|B, or in two domains.

Everything below the root belongs to the data set: in folders of splits, in class folders, or loose. Which of
these it is, is told by the names of the folders, the same in a folder and in a zip file.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from raydistill.data.files import File, by_stem, entries, few, file_at, files_of, key_of
from raydistill.data.folder_names import (
    LABEL_FOLDERS,
    PICTURE_FOLDERS,
    domain_of,
    split_folders,
    split_of,
)
from raydistill.data.picture_files import PICTURES
from raydistill.data.sample import FileLayout, Sample, Splits, SplitsOnDisk, files_on_disk
from raydistill.data.source import SPLITS, SplitName
from raydistill.errors import DataError

_MASKS = ("_mask", "_label", "_seg", "_gt", "-mask", "-label")
"""How the names of label maps end that lie beside their pictures."""
_LABEL_WORDS = ("mask", "label", "segment", "annot", "groundtruth", "ground_truth")
"""What is in the names of folders of label maps."""
_AS_CLASSES = "--set data.layout=classes (data inspect: --layout classes)"


class _Listed(NamedTuple):
    """A picture with the folders that it lies in."""

    file: File
    split: SplitName
    folders: tuple[str, ...]
    """Below the folder of its split, or below those that all pictures lie in."""


def find_classes(root: Path) -> SplitsOnDisk | None:
    """Folders of pictures. A class is the path of a folder, without the parts that all folders begin with.

    None where there are fewer than two classes, or pictures beside the folders: these are no classes.

    Raises:
        DataError: names do not tell whether folders are splits or classes.
    """
    return _classes(root, _listed(root))


def find_asked_classes(root: Path) -> SplitsOnDisk | None:
    """As `find_classes`, where the user says that folders are classes, also ones beside those of splits."""
    return _classes(root, _listed(root, are_classes=True), are_classes=True)


def find_pictures(root: Path) -> SplitsOnDisk | None:
    """Pictures at any depth, in folders of splits or not."""
    return _loose("pictures", root)


def find_aligned(root: Path) -> SplitsOnDisk | None:
    """As `find_pictures`: each picture is A beside B. None also where there are splits without train."""
    splits = split_folders(root) if root.is_dir() else {}
    return None if splits and "train" not in splits else _loose("aligned", root)


def find_unpaired(root: Path) -> SplitsOnDisk | None:
    """trainA + trainB, and perhaps the same of val and test; also Train_A, validA and so on."""
    if root.is_file():
        return None
    domains: dict[tuple[SplitName, str], Path] = {}
    for folder in entries(root):
        if folder.is_dir() and (domain := domain_of(folder.name)) is not None:
            if domain in domains:
                raise DataError(
                    f"{root}: {domains[domain].name} and {folder.name} are both for {''.join(domain)}. "
                    "Allowed: one. Put them together, or rename one."
                )
            domains[domain] = folder
    if not any(split == "train" for split, _ in domains):
        return None
    present = [split for split in SPLITS if {(split, "A"), (split, "B")} & set(domains)]

    def pictures(domain: str) -> Splits:
        return {split: _flat(domains.get((split, domain), root / f"{split}{domain}")) for split in present}

    inputs, targets = pictures("A"), pictures("B")
    return SplitsOnDisk("unpaired", targets, (*_paths_of(inputs), *_paths_of(targets)), inputs=inputs)


def _flat(folder: Path) -> list[Sample]:
    """The pictures below a folder, sorted. Raises DataError where there are none."""
    return [Sample(stem, file_at(path)) for stem, path in by_stem(folder, PICTURES).items()]


def _paths_of(splits: Splits) -> tuple[Path, ...]:
    return tuple(Path(sample.picture.where) for samples in splits.values() for sample in samples)


# ---- splits ------------------------------------------------------------------------------------------------


def _listed(root: Path, *, are_classes: bool = False) -> list[_Listed]:
    """All pictures below a root. Folders that all of them lie in are passed over; then folders are splits, or
    none is.

    Raises:
        DataError: some are splits, and others or loose pictures lie beside them.
    """
    if root.is_file() and root.suffix.lower() != ".zip":
        return []
    files = [file for file in files_of(root) if file.is_picture]
    paths = [tuple(file.name.split("/")[:-1]) for file in files]
    common = list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*paths)))
    first = next((index for index, level in enumerate(common) if split_of(level[0])), len(common))
    below = [path[first:] for path in paths]
    heads = sorted({path[0] for path in below if path})
    splits = {head: split for head in heads if (split := split_of(head)) is not None}
    is_whole = len(splits) == len(heads) and all(below)
    if splits and not is_whole and not are_classes:
        others = [head for head in heads if head not in splits]
        beside = f"folders {', '.join(others[:4])}" if others else "loose pictures"
        raise DataError(
            f"{root}: {', '.join(splits)} would be splits, but {beside} lie beside them. Allowed: splits "
            f"alone, or none. Move these into the splits or out of the folder; if all are classes, "
            f"give {_AS_CLASSES}."
        )
    if not splits or not is_whole:
        return [_Listed(file, "train", path) for file, path in zip(files, below)]
    _require_one_each(root, splits)
    if root.is_dir() and first == 0:
        _refuse_empty(root, splits)
    return [_Listed(file, splits[path[0]], path[1:]) for file, path in zip(files, below)]


def _require_one_each(root: Path, splits: dict[str, SplitName]) -> None:
    """Raises DataError where two folders are for one split, or none for train."""
    for split in SPLITS:
        if len(names := [name for name, each in splits.items() if each == split]) > 1:
            raise DataError(
                f"{root}: {' and '.join(names)} are both for {split}. Allowed: one. "
                "Put them together, or rename one."
            )
    if "train" not in splits.values():
        raise DataError(
            f"{root}: {', '.join(splits)} without a folder for train. Add it; if the folders are classes, "
            f"give {_AS_CLASSES}; if all are to be trained on, give the folder that the pictures lie in."
        )


def _refuse_empty(root: Path, splits: dict[str, SplitName]) -> None:
    """Raises DataError where a folder of a split holds no picture: its split would come out of train."""
    for folder in split_folders(root).values():
        if folder.name not in splits:
            raise DataError(
                f"{folder}: no {', '.join(PICTURES)} here. Found {few(entries(folder))}. "
                "Add pictures or remove the folder."
            )


# ---- layouts -----------------------------------------------------------------------------------------------


def _classes(root: Path, listed: list[_Listed], *, are_classes: bool = False) -> SplitsOnDisk | None:
    paths = [each.folders for each in listed]
    num_common = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*paths))))
    names = ["/".join(path[num_common:]) for path in paths]
    if len(set(names)) < 2:  # one class is no classes
        return None
    if not all(names):
        _refuse_half_classes(root, listed, names)
        return None
    inside = next((name for name in names if any(map(split_of, name.split("/")[1:]))), None)
    if inside is not None and not are_classes:
        raise DataError(
            f"{root}: {inside} would be a class, with a folder of a split in it. Put the splits above the "
            f"classes: {'/'.join(reversed(inside.split('/')))}."
        )
    if not are_classes:
        _refuse_roles(root, set(names))
    ids = {name: index for index, name in enumerate(sorted(set(names)))}
    splits: Splits = {split: [] for split in SPLITS if any(each.split == split for each in listed)}
    for each, name in zip(listed, names):
        splits[each.split].append(Sample(each.file.name, each.file, class_id=ids[name]))
    paths_on_disk = files_on_disk(root, [each.file for each in listed])
    return SplitsOnDisk("classes", splits, paths_on_disk, class_names=tuple(ids))


def _refuse_roles(root: Path, names: set[str]) -> None:
    """Raises DataError where folders have the names of other layouts, whose root is another folder."""
    for level in itertools.zip_longest(*(name.split("/") for name in names)):
        folders = sorted({part for part in level if part is not None})
        lowered = {folder.lower() for folder in folders}
        has_labels = bool(lowered & set(PICTURE_FOLDERS) and lowered & set(LABEL_FOLDERS))
        if len(folders) == 2:  # with_mask and without_mask are classes
            named = [folder for folder in lowered if any(word in folder for word in _LABEL_WORDS)]
            has_labels = has_labels or len(named) == 1
        domains = {domain[1] for part in folders if (domain := domain_of(part))}
        if has_labels or domains == {"A", "B"} or folders == ["A", "B"]:
            what = "pictures and label maps" if has_labels else "two domains"
            raise DataError(
                f"{root}: {', '.join(folders[:6])} look like {what}, not like classes. Call them "
                f"{'images and labels' if has_labels else 'trainA and trainB'} and give the folder that they "
                f"lie in, unpacked; if they are classes, give {_AS_CLASSES}."
            )


def _refuse_half_classes(root: Path, listed: list[_Listed], names: Sequence[str]) -> None:
    """Raises DataError where the pictures of some splits have classes and those of others have none."""
    by_split = {
        split: {bool(name) for each, name in zip(listed, names) if each.split == split} for split in SPLITS
    }
    if {True} in by_split.values() and {False} in by_split.values():
        bare = next(split for split in SPLITS if by_split[split] == {False})
        raise DataError(
            f"{root}: pictures of {bare} lie in no class folder, those of other splits do. Move them into "
            "class folders or remove the split; --set data.layout=pictures takes all without classes."
        )


def _loose(layout: FileLayout, root: Path) -> SplitsOnDisk | None:
    listed = _listed(root)
    if not listed:
        _refuse_bare(root)
        return None
    _refuse_masks(listed)
    splits: Splits = {split: [] for split in SPLITS if any(each.split == split for each in listed)}
    taken: dict[tuple[SplitName, str], File] = {}
    for each in listed:
        name, file = each.file.name, each.file
        if root.is_dir():  # a stem; the names in a zip file keep their endings
            file = file._replace(name="/".join((*each.folders, Path(name).name)))
            name = key_of("/".join((*each.folders, Path(name).stem)))
            if (other := taken.setdefault((each.split, name), each.file)) is not each.file:
                raise DataError(
                    f"{each.file.where}: {Path(other.name).name} has the same stem. Allowed: a stem once. "
                    "Remove or rename one."
                )
        splits[each.split].append(Sample(name, file))
    folders = sorted({each.folders[0] for each in listed if each.folders})
    remarks: tuple[str, ...] = ()
    if len(folders) > 1 and not all(each.folders for each in listed):
        shown = ", ".join(folders[:4]) + ", ..." * (len(folders) > 4)
        remarks = (f"Pictures lie beside the folders {shown}: all are taken, and folders are no classes.",)
    return SplitsOnDisk(layout, splits, files_on_disk(root, [each.file for each in listed]), remarks=remarks)


def _refuse_bare(root: Path) -> None:
    """Raises DataError where there is a folder for train, and no picture in it."""
    if root.is_dir() and (train := split_folders(root).get("train")) is not None:
        by_stem(train, PICTURES)


def _refuse_masks(listed: list[_Listed]) -> None:
    """Raises DataError where label maps lie among the pictures that they belong to."""
    stems = {(each.split, each.folders, key_of(Path(each.file.name).stem)): each.file for each in listed}
    for (split, folders, stem), file in stems.items():
        ending = next((each for each in _MASKS if stem.lower().endswith(each)), None)
        if ending and (picture := stems.get((split, folders, stem[: -len(ending)]))):
            raise DataError(
                f"{file.where}: looks like the label map of {Path(picture.name).name} beside it. Move "
                "pictures into images/ and label maps into labels/, under the same stem or with "
                f"{ending} behind it."
            )
