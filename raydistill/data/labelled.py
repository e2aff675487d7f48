"""Layouts of pictures with a label map each: labelled folders and Cityscapes."""

import itertools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from raydistill.data.files import by_stem, entries, few, file_at, is_there, key_of, text_of
from raydistill.data.folder_names import (
    LABEL_FOLDERS,
    PICTURE_FOLDERS,
    by_split,
    split_folders,
    split_of,
)
from raydistill.data.picture_files import PICTURES
from raydistill.data.sample import FileLayout, Sample, SplitsOnDisk
from raydistill.data.source import SPLITS, SplitName
from raydistill.data.tree import walk
from raydistill.errors import DataError

LABELS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm", ".pbm", ".pnm")
"""Endings of label files: formats that keep every id as it is."""
_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif")
"""Endings of formats that smear ids."""
_LABEL_ENDINGS = (
    *("_mask", "_masks", "-mask", "_label", "_labels", "-label", "_seg", "_segmentation", "_gt"),
    *("_annotation", "_annot", "_l"),
)
"""What may stand behind the stem of the picture in the name of its label map, in small letters."""
_BEHIND_SPLITS = ("annot", "_masks", "_mask", "_labels", "_annotations")
"""What stands behind the name of a split in that of its folder of label maps."""
_LISTS = ("", "ImageSets/Segmentation", "splits", "lists")
"""Where lists <split>.txt may lie, below the root."""
_Pairs = dict[SplitName, list[tuple[str, Path, Path]]]
"""Split -> stem, picture and label files."""


def find_labelled(root: Path) -> SplitsOnDisk | None:
    """Folders of pictures and of labels, in one of the forms that `detect` lists; None: there are none.

    Raises:
        DataError: a picture has no label or the other way round, folders of label maps are not told apart, or
            a list names what is not there.
    """
    if root.is_file():
        return None
    splits, folders = split_folders(root), _folders_by_name(root)
    inside = [_pair_of_folders(folder) for folder in splits.values()]
    behind = next((each for each in _BEHIND_SPLITS if f"{_name(splits, 'train')}{each}" in folders), "annot")
    annots = {split: folders.get(f"{_name(splits, split)}{behind}") for split in splits}
    lists: tuple[Path, ...] = ()
    if any(pair is not None for pair in inside):
        pairs: _Pairs = {
            split: _pair_up(*(pair or (folder / "images", folder / "labels")))
            for (split, folder), pair in zip(splits.items(), inside)
        }
    elif annots.get("train") is not None:
        pairs = {
            split: _pair_up(folder, annots[split] or root / f"{folder.name}{behind}")
            for split, folder in splits.items()
        }
    elif (pair := _pair_of_folders(root)) is not None:
        pairs, lists = _pairs_of(root, *pair)
    else:
        return None
    return _splits_of("labelled", root, pairs, lists)


def _name(splits: dict[SplitName, Path], split: SplitName) -> str:
    """The name of a split's folder in small letters; empty: there is none."""
    return splits[split].name.lower() if split in splits else ""


def _folders_by_name(folder: Path) -> dict[str, Path]:
    """The folders in a folder, by their names in small letters."""
    return {path.name.lower(): path for path in entries(folder) if path.is_dir()}


def _pair_of_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folder of pictures and that of label maps in a folder; None: they are not both there.

    One of the two alone is taken for a half of a pair where it has the usual name, images or labels.
    Raises DataError where several could be that of label maps.
    """
    folders = _folders_by_name(folder)
    pictures = [folders[name] for name in PICTURE_FOLDERS if name in folders]
    labels = [folders[name] for name in LABEL_FOLDERS if name in folders]
    if len(labels) > 1:  # VOC has Annotations of .xml
        labels = [each for each in labels if _has_any(each, (*LABELS, *_LOSSY))] or labels
    if not pictures or not labels:
        if "labels" in folders:  # refused later: its pictures are missing
            return folder / "images", folders["labels"]
        return None
    if len(labels) > 1 or len(pictures) > 1:
        several = labels if len(labels) > 1 else pictures
        raise DataError(
            f"{folder}: {few(several)} could each hold the "
            f"{'label maps' if several is labels else 'pictures'}. Allowed: one. Rename or remove the others."
        )
    return pictures[0], labels[0]


def _has_any(folder: Path, endings: tuple[str, ...]) -> bool:
    return any(name.lower().endswith(endings) for name, _ in walk(folder).files)


def find_cityscapes(root: Path) -> SplitsOnDisk | None:
    """Cityscapes, as its two zip files are unpacked; None where there is no leftImg8bit.

    The official val, on which scores are published, is "test". The official test has no labels and is not
    read.

    Raises:
        DataError: there are no pictures, or one has no label.
    """
    if not (root / "leftImg8bit").is_dir():
        return None
    pairs: _Pairs = {}
    officials: dict[SplitName, str] = {"train": "train", "test": "val"}
    for split, official in officials.items():
        folder = root / "leftImg8bit" / official
        pictures = sorted(folder.glob("*/*_leftImg8bit.png"))
        if not pictures:
            raise DataError(
                f"{folder}: no <city>/*_leftImg8bit.png here. Unpack leftImg8bit_trainvaltest.zip."
            )
        pairs[split] = [
            (picture.stem, picture, _cityscapes_label(root, official, picture)) for picture in pictures
        ]
    return _splits_of("cityscapes", root, pairs)


def _cityscapes_label(root: Path, official: str, picture: Path) -> Path:
    stem = picture.name.removesuffix("_leftImg8bit.png")
    label = root / "gtFine" / official / picture.parent.name / f"{stem}_gtFine_labelIds.png"
    if not label.is_file():
        raise DataError(
            f"{label}: missing, the label of {picture.name}. "
            "Unpack gtFine_trainvaltest.zip beside leftImg8bit."
        )
    return label


def _splits_of(layout: FileLayout, root: Path, pairs: _Pairs, lists: tuple[Path, ...] = ()) -> SplitsOnDisk:
    """The samples of these pairs.

    The content also depends on classes.json and on the lists, if they are there.
    """
    extras = [root / "classes.json", *(root / f"{split}.txt" for split in SPLITS), *lists]
    samples = {
        split: [Sample(stem, file_at(picture), file_at(label)) for stem, picture, label in listed]
        for split, listed in pairs.items()
    }
    files = [path for listed in pairs.values() for _, *both in listed for path in both]
    return SplitsOnDisk(layout, samples, (*files, *filter(is_there, dict.fromkeys(extras))))


def _pairs_of(root: Path, pictures: Path, labels: Path) -> tuple[_Pairs, tuple[Path, ...]]:
    """The pairs of two folders, and the lists that say their splits.

    The splits are those of folders in both, as in images/train, or those of lists, or all is train.
    """
    lists = next((found for place in _LISTS if (found := _lists_in(root / place))), {})
    if lists:
        return _listed_pairs(root, lists, pictures, labels), tuple(lists.values())
    if splits := split_folders(pictures):
        bare = [path for path in entries(pictures) if path not in splits.values() and not _is_aside(path)]
        if bare:
            raise DataError(
                f"{pictures}: {few(splits.values())} would be splits, but {few(bare)} lie beside them. "
                "Allowed: splits alone, or none. Move these into the splits or out of the folder."
            )
        others = split_folders(labels)
        pairs: _Pairs = {
            split: _pair_up(folder, others.get(split, labels / folder.name))
            for split, folder in splits.items()
        }
        return pairs, ()
    return {"train": _pair_up(pictures, labels)}, ()


def _is_aside(path: Path) -> bool:
    """Whether this is a file that is no picture."""
    return path.is_file() and path.suffix.lower() not in PICTURES


def _lists_in(folder: Path) -> dict[SplitName, Path]:
    if not folder.is_dir():
        return {}
    texts = (path for path in entries(folder) if path.suffix.lower() == ".txt" and not path.is_dir())
    return by_split((path, split_of(path.stem)) for path in texts)


def _pair_up(pictures_folder: Path, labels_folder: Path) -> list[tuple[str, Path, Path]]:
    """(stem, picture, label) of each stem. Raises DataError where one of the two is missing."""
    pictures, labels = by_stem(pictures_folder, PICTURES), _labels_in(labels_folder)
    labels = _by_picture(labels, pictures)
    _refuse_single("picture", pictures, "label", labels)
    _refuse_single("label", labels, "picture", pictures)
    return [(stem, pictures[stem], labels[stem]) for stem in pictures]


def _labels_in(folder: Path) -> dict[str, Path]:
    """The label files below a folder, by stem.

    Raises DataError as `by_stem` does, and where one is in a format that does not keep ids.
    """
    if folder.is_dir():
        lossy = [path for _, path in walk(folder).files if path.suffix.lower() in _LOSSY]
        if lossy:
            raise DataError(
                f"{lossy[0]}: a label map as {lossy[0].suffix}: this format smears ids, and it is not known "
                f"which ones were meant. Allowed: {', '.join(LABELS)}. Save label maps as PNG from their "
                "source."
            )
    return by_stem(folder, LABELS)


def _by_picture(labels: dict[str, Path], pictures: dict[str, Path]) -> dict[str, Path]:
    """The labels by the stems of their pictures, where all have the same ending behind these."""
    if set(labels) & set(pictures):
        return labels
    stems = [stem.lower() for stem in labels]
    ending = next((each for each in _LABEL_ENDINGS if all(stem.endswith(each) for stem in stems)), "")
    return {stem[: len(stem) - len(ending)]: path for stem, path in labels.items()}


def _refuse_single(kind: str, files: dict[str, Path], other: str, others: dict[str, Path]) -> None:
    single = [path for stem, path in files.items() if stem not in others]
    if single:
        folder = next(iter(others.values())).parent
        raise DataError(
            f"{single[0]}: this {kind} has no {other} of the same stem in {folder}. "
            f"{kind.capitalize()}s without one: {len(single)} of {len(files)}. "
            f"Add the {other}s or remove the {kind}s."
        )


# ---- lists of stems ----------------------------------------------------------------------------------------


def _listed_pairs(
    root: Path, lists: dict[SplitName, Path], pictures_folder: Path, labels_folder: Path
) -> _Pairs:
    """Pairs of the two folders, by the lists <split>.txt. Pictures that no list names are left out."""
    if "train" not in lists:
        raise DataError(
            f"{root}: no train.txt, but {few(lists.values())}. "
            "Add train.txt, or remove the lists for a split by hash."
        )
    pictures = by_stem(pictures_folder, PICTURES)
    labels = _by_picture(_labels_in(labels_folder), pictures)
    stems = {split: _listed_stems(path, pictures, labels) for split, path in lists.items()}
    all_stems = sorted(stem for listed in stems.values() for stem in listed)
    twice = [stem for stem, following in itertools.pairwise(all_stems) if stem == following]
    if twice:
        raise DataError(
            f"{root}: {twice[0]!r} is listed twice in {few(lists.values())}. Allowed: once. Remove a line."
        )
    return {
        split: [(stem, pictures[stem], labels[stem]) for stem in listed] for split, listed in stems.items()
    }


def _listed_stems(path: Path, pictures: dict[str, Path], labels: dict[str, Path]) -> list[str]:
    """The stems in a list.

    A line is a stem, a file name, a path, or SegNet's "picture label", where the picture counts.
    Raises DataError where the list is empty, or names a pair that is not there.
    """
    lines = list(filter(None, map(str.strip, text_of(path).splitlines())))
    if not lines:
        raise DataError(f"{path}: the list is empty. Name a picture in each line, or remove the list.")
    stems, missing = [], []
    for line in lines:
        stem = next((stem for stem in _stems_of(line) if stem in pictures), None)
        if stem is None or stem not in labels:
            missing.append((line, "picture in images" if stem is None else "label in labels"))
        else:
            stems.append(stem)
    if missing:
        line, what = missing[0]
        raise DataError(
            f"{path}: there is no {what} for the line {line!r}. Lines without a pair: {len(missing)} of "
            f"{len(lines)}. Add the file or remove the line."
        )
    return stems


def _stems_of(line: str) -> Iterator[str]:
    """The stems that a line of a list may mean: of a path below the folder, or its last part."""
    for entry in (line, line.split()[0]):
        name = PurePosixPath(key_of(entry.replace("\\", "/")))
        whole = name.with_suffix("") if name.suffix.lower() in PICTURES else name
        yield from (str(PurePosixPath(*whole.parts[at:])) for at in range(len(whole.parts)))
