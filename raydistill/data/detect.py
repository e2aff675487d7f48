"""The layouts that a data set's files may have. Files are found and paired up here; nothing is decoded but a header.

labelled    <split>/images + <split>/labels, images + labels with optional lists <split>.txt, or SegNet's <split> + <split>annot
cityscapes  leftImg8bit/<split>/<city>/*_leftImg8bit.png with gtFine/<split>/<city>/*_gtFine_labelIds.png
unpaired    trainA + trainB, and optionally testA + testB, valA + valB: A is the input, B what is learnt
aligned     <split>/ or the folder itself with pictures of A (left half) beside B (right half)
nvlabs      a zip file or folder with dataset.json
idx         *-images-idx3-ubyte and *-labels-idx1-ubyte of train and t10k, also as .gz
npz         images or x_train, ..., with labels or y_train, ...
classes     <split>/<class>/ or <class>/ with pictures, in a folder or zip file
pictures    <split>/ or the folder or zip file itself with pictures
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from raydistill.data.arrays import idx, npz
from raydistill.data.files import PICTURES, File, by_stem, entries, few, file_at, files_of, text_of
from raydistill.data.sample import FileLayout, Sample, Splits, SplitsOnDisk
from raydistill.data.source import SPLITS, SplitName
from raydistill.errors import DataError

LABELS = (".png",)


def find(root: Path, layout: FileLayout | Literal["auto"] = "auto") -> SplitsOnDisk:
    """The data set at `root`, a folder or file; where a folder holds nothing but one zip or npz file, the one in that.

    Raises:
        DataError: none of the layouts, or files that do not pair up.
    """
    if (found := look(root, layout)) is not None:
        return found
    inside = packed(root)
    if len(inside) == 1:
        return find(inside[0], layout)
    if inside:
        raise DataError(f"{root}: {len(inside)} data files here: {few(inside)}. Give one of them.")
    there = [root] if root.is_file() else entries(root)
    if layout == "auto":
        raise DataError(
            f"{root}: unknown layout. Looked for train/images + train/labels, images + labels, train + trainannot, leftImg8bit + gtFine, "
            f"trainA + trainB, dataset.json, *-idx3-ubyte, .npz, class folders, and pictures, also A|B pictures ({', '.join(PICTURES)}). "
            f"Found {few(there)}. Arrange the data in one of these ways."
        )
    raise DataError(
        f"{root}: data.layout is {layout}: needed are {_NEEDED[layout]}. Found {few(there)}. Add them, or leave data.layout out."
    )


def look(root: Path, layout: FileLayout | Literal["auto"] = "auto") -> SplitsOnDisk | None:
    """The data set whose files lie at `root` itself; None where there is none of that layout."""
    if not root.is_file():
        entries(root)
    for name in LAYOUTS if layout == "auto" else [layout]:
        if (found := LAYOUTS[name](root)) is not None:
            return replace(found, layout="aligned") if layout == "auto" and _looks_aligned(found) else found
    return None


def packed(folder: Path) -> list[Path]:
    """The zip and npz files in a folder."""
    return (
        []
        if folder.is_file()
        else [path for path in entries(folder) if path.suffix.lower() in (".zip", ".npz")]
    )


def _looks_aligned(found: SplitsOnDisk) -> bool:
    """Whether loose pictures are A|B: the first is twice as wide as high."""
    if found.layout != "pictures":
        return False
    width, height = found.splits["train"][0].picture.image().size
    return width == 2 * height


# ---- pairs ----------------------------------------------------------------------------------------------------------


def _labelled(root: Path) -> SplitsOnDisk | None:
    folders = [split for split in SPLITS if (root / split).is_dir()]
    if (root / "train" / "images").is_dir() or (root / "train" / "labels").is_dir():
        return _with_labels(
            "labelled",
            root,
            {split: _pair_up(root / split / "images", root / split / "labels") for split in folders},
        )
    if (root / "train").is_dir() and (root / "trainannot").is_dir():
        return _with_labels(
            "labelled", root, {split: _pair_up(root / split, root / f"{split}annot") for split in folders}
        )
    if (root / "images").is_dir() and (root / "labels").is_dir():
        return _with_labels("labelled", root, _listed_pairs(root))
    return None


def _with_labels(
    layout: FileLayout, root: Path, pairs: "dict[SplitName, list[tuple[Path, Path]]]"
) -> SplitsOnDisk:
    extras = filter(Path.is_file, [root / "classes.json", *(root / f"{split}.txt" for split in SPLITS)])
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
        raise DataError(
            f"{single[0]}: this {kind} has no {other} of the same stem in {next(iter(others.values())).parent}. "
            f"{kind.capitalize()}s without one: {len(single)} of {len(files)}. Add the {other}s or remove the {kind}s."
        )


def _listed_pairs(root: Path) -> dict[SplitName, list[tuple[Path, Path]]]:
    """Pairs of images/ and labels/ as the lists <split>.txt say; all of them are "train" where there is no list."""
    lists: dict[SplitName, Path] = {
        split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()
    }
    if not lists:
        return {"train": _pair_up(root / "images", root / "labels")}
    if "train" not in lists:
        raise DataError(
            f"{root}: no train.txt, but {few(lists.values())}. Add train.txt, or remove the lists for a split by hash."
        )
    pictures, labels = by_stem(root / "images", PICTURES), by_stem(root / "labels", LABELS)
    stems = {split: _listed_stems(path, pictures, labels) for split, path in lists.items()}
    every = sorted(stem for listed in stems.values() for stem in listed)
    twice = [stem for stem, following in itertools.pairwise(every) if stem == following]
    if twice:
        raise DataError(
            f"{root}: {twice[0]!r} is listed twice in {few(lists.values())}. Allowed: once. Remove a line."
        )
    return {split: [(pictures[stem], labels[stem]) for stem in listed] for split, listed in stems.items()}


def _listed_stems(path: Path, pictures: dict[str, Path], labels: dict[str, Path]) -> list[str]:
    """A line is a stem, a file name or a path, or a SegNet line "picture label", of which the picture counts."""
    stems = []
    for line in filter(None, map(str.strip, text_of(path).splitlines())):
        stem = next((stem for stem in map(_stem_of, (line, line.split()[0])) if stem in pictures), None)
        if stem is None or stem not in labels:
            lacking = "picture in images" if stem is None else "label in labels"
            raise DataError(
                f"{path}: there is no {lacking} for the line {line!r}. Add the file or remove the line."
            )
        stems.append(stem)
    return stems


def _stem_of(entry: str) -> str:
    name = PurePosixPath(entry)
    return name.stem if name.suffix.lower() in PICTURES else name.name


def _cityscapes(root: Path) -> SplitsOnDisk | None:
    """The official val, which published scores are of, is "test"; the official test has no labels and is not read."""
    if not (root / "leftImg8bit").is_dir():
        return None
    pairs: dict[SplitName, list[tuple[Path, Path]]] = {}
    officials: dict[SplitName, str] = {"train": "train", "test": "val"}
    for split, official in officials.items():
        pictures = sorted((root / "leftImg8bit" / official).glob("*/*_leftImg8bit.png"))
        if not pictures:
            raise DataError(
                f"{root / 'leftImg8bit' / official}: no <city>/*_leftImg8bit.png here. Unpack leftImg8bit_trainvaltest.zip."
            )
        listed = []
        for picture in pictures:
            stem = picture.name.removesuffix("_leftImg8bit.png")
            label = root / "gtFine" / official / picture.parent.name / f"{stem}_gtFine_labelIds.png"
            if not label.is_file():
                raise DataError(
                    f"{label}: missing, the label of {picture.name}. Unpack gtFine_trainvaltest.zip beside leftImg8bit."
                )
            listed.append((picture, label))
        pairs[split] = listed
    return _with_labels("cityscapes", root, pairs)


def _aligned(root: Path) -> SplitsOnDisk | None:
    return _of_splits("aligned", root)


def _unpaired(root: Path) -> SplitsOnDisk | None:
    if not (root / "trainA").is_dir() and not (root / "trainB").is_dir():
        return None
    there = [split for split in SPLITS if any((root / f"{split}{domain}").is_dir() for domain in "AB")]
    found: dict[str, Splits] = {
        domain: {split: _flat(root / f"{split}{domain}") for split in there} for domain in "AB"
    }
    files = [
        Path(sample.picture.where)
        for part in found.values()
        for samples in part.values()
        for sample in samples
    ]
    return SplitsOnDisk("unpaired", found["B"], tuple(files), inputs=found["A"])


# ---- pictures, with or without classes ------------------------------------------------------------------------------


def _pictures(root: Path) -> SplitsOnDisk | None:
    return _of_splits("pictures", root)


def _of_splits(layout: FileLayout, root: Path) -> SplitsOnDisk | None:
    """Pictures in split folders or in the folder itself, or anywhere in a zip file."""
    if root.suffix.lower() == ".zip":
        listed = [Sample(file.name, file) for file in files_of(root) if file.is_picture]
        return SplitsOnDisk(layout, {"train": listed}, (root,)) if listed else None
    if root.is_file():
        return None
    has_pictures = any(path.suffix.lower() in PICTURES for path in entries(root))
    folders: dict[SplitName, Path] = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if "train" not in folders and not has_pictures:
        return None
    whole: dict[SplitName, Path] = {"train": root}
    splits: Splits = {
        split: _flat(folder) for split, folder in (folders if "train" in folders else whole).items()
    }
    return SplitsOnDisk(
        layout, splits, tuple(Path(sample.picture.where) for samples in splits.values() for sample in samples)
    )


def _flat(folder: Path) -> list[Sample]:
    return [Sample(stem, file_at(path)) for stem, path in by_stem(folder, PICTURES).items()]


def _classes(root: Path) -> SplitsOnDisk | None:
    """Folders of pictures; a class is the path of a folder, without what all have in common."""
    if root.is_file() and root.suffix.lower() != ".zip":
        return None
    files = [file for file in files_of(root) if file.is_picture]
    folders = {split for split in SPLITS if any(file.name.startswith(f"{split}/") for file in files)}
    if "train" not in folders:
        folders = set()
    listed = [file for file in files if not folders or file.name.split("/")[0] in folders]
    parts = [PurePosixPath(file.name).parent.parts[1 if folders else 0 :] for file in listed]
    if not parts or not all(parts):
        return None
    common = (
        len(list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parts))))
        if len(set(parts)) > 1
        else 0
    )
    names = ["/".join(part[common:]) for part in parts]
    if not all(names):
        return None
    ids = {name: index for index, name in enumerate(sorted(set(names)))}
    splits: Splits = {split: [] for split in SPLITS if split in folders} or {"train": []}
    for file, name in zip(listed, names):
        at = next((split for split in splits if folders and file.name.startswith(f"{split}/")), SPLITS[0])
        splits[at].append(Sample(file.name, file, class_id=ids[name]))
    return SplitsOnDisk("classes", splits, _on_disk(root, listed), class_names=tuple(ids))


def _nvlabs(root: Path) -> SplitsOnDisk | None:
    """dataset.json: {"labels": [[name, class id], ...] or null}."""
    if root.suffix.lower() != ".zip" and not (root / "dataset.json").is_file():
        return None
    files = {file.name: file for file in files_of(root)}
    if "dataset.json" not in files:
        return None
    where = files["dataset.json"].where
    try:
        labels = json.loads(files["dataset.json"].read())["labels"]
        by_name: dict[str, Any] | None = (
            None if labels is None else {str(name): label for name, label in labels}
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{where}: {error!r}. Allowed: {{"labels": null}} or {{"labels": [[name, class id], ...]}}.'
        ) from None
    listed = [file for file in files.values() if file.is_picture]
    if by_name is None:
        return SplitsOnDisk(
            "nvlabs",
            {"train": [Sample(file.name, file) for file in listed]},
            _on_disk(root, [*listed, files["dataset.json"]]),
        )
    for name, label in by_name.items():
        if isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise DataError(
                f"{where}: {name} has the label {label!r}. Allowed: one class id, a whole number from 0."
            )
    if single := next((file for file in listed if file.name not in by_name), None):
        raise DataError(f"{single.where}: has no label in dataset.json. Add it, or set labels to null.")
    if absent := sorted(set(by_name) - set(files)):
        raise DataError(
            f"{where}: {absent[0]!r} has a label and is not there. Add the picture or remove the label."
        )
    samples = [Sample(file.name, file, class_id=by_name[file.name]) for file in listed]
    names = tuple(f"class_{index}" for index in range(max(by_name.values(), default=-1) + 1))
    return SplitsOnDisk(
        "nvlabs", {"train": samples}, _on_disk(root, [*listed, files["dataset.json"]]), class_names=names
    )


def _on_disk(root: Path, files: list[File]) -> tuple[Path, ...]:
    return (root,) if root.is_file() else tuple(root / file.name for file in files)


LAYOUTS: dict[str, Callable[[Path], SplitsOnDisk | None]] = {
    "npz": npz,
    "nvlabs": _nvlabs,
    "idx": idx,
    "cityscapes": _cityscapes,
    "labelled": _labelled,
    "unpaired": _unpaired,
    "classes": _classes,
    "pictures": _pictures,
    "aligned": _aligned,
}
"""Layout -> what finds it, None where it is not there; in the order they are looked for."""


_NEEDED = {
    "npz": "an .npz file",
    "nvlabs": "dataset.json and pictures, in a folder or zip file",
    "idx": "train-images-idx3-ubyte or train-images-idx3-ubyte.gz",
    "cityscapes": "leftImg8bit and gtFine",
    "labelled": "train/images + train/labels, images + labels, or train + trainannot",
    "unpaired": "trainA and trainB",
    "classes": "folders of pictures, in a folder or zip file",
    "pictures": "train with pictures, or pictures in the folder or zip file itself",
    "aligned": "train with A|B pictures, or A|B pictures in the folder itself",
}
