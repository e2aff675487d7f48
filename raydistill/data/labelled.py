"""Layouts of pictures with a label map each: labelled folders and Cityscapes."""

import itertools
from pathlib import Path, PurePosixPath

from raydistill.data.files import PICTURES, by_stem, few, file_at, is_there, text_of
from raydistill.data.sample import FileLayout, Sample, SplitsOnDisk
from raydistill.data.source import SPLITS, SplitName
from raydistill.errors import DataError

LABELS = (".png",)
"""Endings of label files."""
_Pairs = dict[SplitName, list[tuple[Path, Path]]]
"""Split -> (picture, label) files."""


def find_labelled(root: Path) -> SplitsOnDisk | None:
    """Folders of pictures and of labels, in one of the three forms that `detect` lists; None: there are none.

    Raises:
        DataError: a picture has no label or the other way round, or a list names what is not there.
    """
    folders = [split for split in SPLITS if (root / split).is_dir()]
    if (root / "train" / "images").is_dir() or (root / "train" / "labels").is_dir():
        pairs: _Pairs = {
            split: _pair_up(root / split / "images", root / split / "labels") for split in folders
        }
    elif (root / "train").is_dir() and (root / "trainannot").is_dir():
        pairs = {split: _pair_up(root / split, root / f"{split}annot") for split in folders}
    elif (root / "images").is_dir() and (root / "labels").is_dir():
        pairs = _listed_pairs(root)
    else:
        return None
    return _splits_of("labelled", root, pairs)


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
        pairs[split] = [(picture, _cityscapes_label(root, official, picture)) for picture in pictures]
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


def _splits_of(layout: FileLayout, root: Path, pairs: _Pairs) -> SplitsOnDisk:
    """The samples of these pairs.

    The content also depends on classes.json and on the lists, if they are there.
    """
    extras = filter(is_there, [root / "classes.json", *(root / f"{split}.txt" for split in SPLITS)])
    files = (*itertools.chain(*itertools.chain(*pairs.values())), *extras)
    samples = {
        split: [Sample(picture.stem, file_at(picture), file_at(label)) for picture, label in listed]
        for split, listed in pairs.items()
    }
    return SplitsOnDisk(layout, samples, files)


def _pair_up(pictures_folder: Path, labels_folder: Path) -> list[tuple[Path, Path]]:
    """(picture, label) of each stem. Raises DataError where one of the two is missing."""
    pictures, labels = by_stem(pictures_folder, PICTURES), by_stem(labels_folder, LABELS)
    _refuse_single("picture", pictures, "label", labels)
    _refuse_single("label", labels, "picture", pictures)
    return [(pictures[stem], labels[stem]) for stem in pictures]


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


def _listed_pairs(root: Path) -> _Pairs:
    """Pairs of images/ and labels/, by the lists <split>.txt.

    Where there is no list, all of them are "train".
    """
    lists: dict[SplitName, Path] = {
        split: root / f"{split}.txt" for split in SPLITS if is_there(root / f"{split}.txt")
    }
    if not lists:
        return {"train": _pair_up(root / "images", root / "labels")}
    if "train" not in lists:
        raise DataError(
            f"{root}: no train.txt, but {few(lists.values())}. "
            "Add train.txt, or remove the lists for a split by hash."
        )
    pictures, labels = by_stem(root / "images", PICTURES), by_stem(root / "labels", LABELS)
    stems = {split: _listed_stems(path, pictures, labels) for split, path in lists.items()}
    all_stems = sorted(stem for listed in stems.values() for stem in listed)
    twice = [stem for stem, following in itertools.pairwise(all_stems) if stem == following]
    if twice:
        raise DataError(
            f"{root}: {twice[0]!r} is listed twice in {few(lists.values())}. Allowed: once. Remove a line."
        )
    return {split: [(pictures[stem], labels[stem]) for stem in listed] for split, listed in stems.items()}


def _listed_stems(path: Path, pictures: dict[str, Path], labels: dict[str, Path]) -> list[str]:
    """The stems in a list.

    A line is a stem, a file name, a path, or SegNet's "picture label", where the picture counts.
    """
    stems = []
    for line in filter(None, map(str.strip, text_of(path).splitlines())):
        stem = next((stem for stem in map(_stem_of, (line, line.split()[0])) if stem in pictures), None)
        if stem is None or stem not in labels:
            missing = "picture in images" if stem is None else "label in labels"
            raise DataError(
                f"{path}: there is no {missing} for the line {line!r}. Add the file or remove the line."
            )
        stems.append(stem)
    return stems


def _stem_of(entry: str) -> str:
    name = PurePosixPath(entry)
    return name.stem if name.suffix.lower() in PICTURES else name.name
