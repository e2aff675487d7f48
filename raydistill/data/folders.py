"""Pictures in folders: the layouts that are understood, how splits come about, and how a pair is decoded.

    labelled  ROOT/<split>/images + ROOT/<split>/labels, or ROOT/images + ROOT/labels with optional lists ROOT/<split>.txt
    aligned   ROOT/<split>/ or ROOT/ with pictures of A (left half) beside B (right half)

A label is a .png of class ids with the stem of its picture. ROOT/classes.json may name the classes, the id to ignore and
a palette. A val or test that is not there is carved out of train. What can be checked without decoding is checked first.
"""

import colorsys
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from raydistill.config import FolderData, Frozen, validated
from raydistill.data.files import PICTURES, decode, decode_pictures, file_at
from raydistill.data.prepare import SPLITS, Classes, Color, Source, SplitName, ids_in
from raydistill.errors import ConfigError, DataError

Files = tuple[Path, ...]
"""(A|B picture,) or (picture, label)."""
Splits = dict[SplitName, list[Files]]
LABELS = (".png",)
IGNORED_ID = 255
"""What a label file means by "ignored" where no classes.json says so."""
CARVED_PERCENT = 15


def folder_source(config: FolderData) -> Source:
    """The data set below `config.root`.

    Raises:
        DataError: no such folder, an unknown layout, files that do not pair up, or too few pictures.
    """
    layout, given = _find(config.root)
    if layout == "labelled" and config.direction != "AtoB":
        raise DataError(f"data.direction is {config.direction}, but {config.root} is labelled: labels are the input. Allowed: AtoB.")
    root = Path(config.root)
    splits, split_rule = _carve(given)
    counts = {split: len(splits[split]) for split in SPLITS}
    if counts["train"] < 1 or min(counts["val"], counts["test"]) < 2:
        found = ", ".join(f"{split} {count}" for split, count in counts.items())
        raise DataError(f"{root}: too few pictures: {found}. {split_rule} Needed: train 1, val 2 and test 2 at least. Add pictures.")
    pairs = [files for split in SPLITS for files in splits[split]]
    identity = _identity(root, pairs)
    if layout == "aligned":
        return Source(layout, identity, counts, split_rule, lambda: None, lambda split: _read_aligned(splits[split], config))
    listed = _listed_classes(root / "classes.json")
    classes = functools.cache(lambda: listed or _seen_classes([label for _, label in pairs]))
    return Source(layout, identity, counts, split_rule, classes, lambda split: _read_labelled(splits[split], classes(), config))


def _identity(root: Path, pairs: list[Files]) -> list[tuple[str, int, int]]:
    """(path below the root, size in bytes, mtime in ns) of each file that the data depend on."""
    extras = [root / "classes.json", *(root / f"{split}.txt" for split in SPLITS)]
    used = sorted([*itertools.chain(*pairs), *filter(Path.is_file, extras)])
    return [(path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in used]


# ---- layouts and splits ---------------------------------------------------------------------------------------------


def _find(given_root: str) -> tuple[Literal["aligned", "labelled"], Splits]:
    """The layout, and the splits as they came: all is "train" where there are none."""
    if not given_root:
        raise DataError("data.root is empty, and there is no default folder. Give --data FOLDER.")
    root = Path(given_root)
    there = _entries(root)
    folders = [split for split in SPLITS if (root / split).is_dir()]
    if (root / "train" / "images").is_dir() or (root / "train" / "labels").is_dir():
        return "labelled", {split: _pair_up(root / split) for split in folders}
    if (root / "images").is_dir() and (root / "labels").is_dir():
        return "labelled", _listed_pairs(root)
    if (root / "train").is_dir():
        return "aligned", {split: _whole(root / split) for split in folders}
    if any(path.suffix.lower() in PICTURES for path in there):
        return "aligned", {"train": _whole(root)}
    raise DataError(
        f"{root}: unknown layout. Looked for train/images + train/labels, for images + labels, and for A|B pictures "
        f"({', '.join(PICTURES)}) in train or in the folder itself. Found {_few(there)}. Arrange the data in one of these ways."
    )


def _whole(folder: Path) -> list[Files]:
    return [(path,) for path in _by_stem(folder, PICTURES).values()]


def _pair_up(folder: Path) -> list[Files]:
    """(picture, label) of each stem in images/ and labels/. Raises DataError where one of the two is missing."""
    pictures, labels = _by_stem(folder / "images", PICTURES), _by_stem(folder / "labels", LABELS)
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


def _listed_pairs(root: Path) -> Splits:
    """Pairs of images/ and labels/ as the lists <split>.txt say; all of them are "train" where there is no list."""
    lists: dict[SplitName, Path] = {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}
    if not lists:
        return {"train": _pair_up(root)}
    if "train" not in lists:
        raise DataError(f"{root}: no train.txt, but {_few(lists.values())}. Add train.txt, or remove the lists for a split by hash.")
    pictures, labels = _by_stem(root / "images", PICTURES), _by_stem(root / "labels", LABELS)
    stems = {split: _listed_stems(path, pictures, labels) for split, path in lists.items()}
    every = sorted(stem for listed in stems.values() for stem in listed)
    twice = [stem for stem, following in itertools.pairwise(every) if stem == following]
    if twice:
        raise DataError(f"{root}: {twice[0]!r} is listed twice in {_few(lists.values())}. Allowed: once. Remove a line.")
    return {split: [(pictures[stem], labels[stem]) for stem in listed] for split, listed in stems.items()}


def _listed_stems(path: Path, pictures: dict[str, Path], labels: dict[str, Path]) -> list[str]:
    """A line is a stem, a file name or a path, or a SegNet line "picture label", of which the picture counts."""
    stems = []
    for line in filter(None, map(str.strip, _text(path).splitlines())):
        stem = next((stem for stem in map(_stem_of, (line, line.split()[0])) if stem in pictures), None)
        if stem is None or stem not in labels:
            lacking = "picture in images" if stem is None else "label in labels"
            raise DataError(f"{path}: there is no {lacking} for the line {line!r}. Add the file or remove the line.")
        stems.append(stem)
    return stems


def _stem_of(entry: str) -> str:
    name = PurePosixPath(entry)
    return name.stem if name.suffix.lower() in PICTURES else name.name


def _carve(given: Splits) -> tuple[Splits, str]:
    """All three splits, each in the order of its stems, and the sentence that says how they came about.

    A missing val or test is 15 % of what came as train: the first in the order of the SHA-256 of the stems.
    """
    missing = [split for split in SPLITS if split not in given]
    pool = sorted(given["train"], key=lambda files: hashlib.sha256(files[0].stem.encode()).hexdigest())
    size = (len(pool) * CARVED_PERCENT + 50) // 100
    splits = dict(given)
    for split in missing:
        splits[split], pool = pool[:size], pool[size:]
    splits["train"] = pool
    rule = "The data came with train, val and test."
    if missing:
        share = f"{CARVED_PERCENT} % of the training pictures" + " each" * (len(missing) > 1)
        rule = f"The data came without {' and '.join(missing)}: {share}, chosen by the hash of the stem."
    return {split: sorted(splits[split]) for split in SPLITS}, rule


# ---- files ----------------------------------------------------------------------------------------------------------


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files. Raises DataError."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: this folder cannot be listed: {error.strerror}. Give an existing, readable folder.") from None


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """stem -> file, sorted. Raises DataError: no such folder, no file with such a suffix, or a stem twice."""
    files: dict[str, Path] = {}
    there = _entries(folder)
    for path in there:
        if path.suffix.lower() in suffixes:
            if path.stem in files:
                raise DataError(f"{path}: {files[path.stem].name} has the same stem. Allowed: a stem once. Remove or rename one.")
            files[path.stem] = path
    if not files:
        raise DataError(f"{folder}: no {', '.join(suffixes)} here. Found {_few(there)}. Add pictures or remove the folder.")
    return files


def _few(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from None


def _label(path: Path) -> Image.Image:
    """One class id per pixel, mode L or P; those of a palette picture are its indices."""
    image = decode(file_at(path))
    if image.mode not in ("L", "P"):
        raise DataError(f"{path}: the label has mode {image.mode}. Allowed: one class id per pixel, mode L or P. Convert it to class ids.")
    return image


def _resized(image: Image.Image, config: FolderData, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(image.resize((config.width, config.height), resampling))


def _read_labelled(pairs: list[Files], classes: Classes, config: FolderData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    pictures = decode_pictures(file_at(path) for path, _ in pairs)
    for (_, picture), (_, label_path) in zip(pictures, pairs):
        label = _label(label_path)
        if picture.size != label.size:
            raise DataError(f"{label_path}: width and height are {label.size}, of its picture {picture.size}. Allowed: the same. Redo one.")
        stored = Image.fromarray(classes.encode(np.asarray(label), label_path))
        yield _resized(picture, config, Image.Resampling.LANCZOS), _resized(stored, config, Image.Resampling.NEAREST)


def _read_aligned(pairs: list[Files], config: FolderData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for file, both in decode_pictures(file_at(path) for (path,) in pairs):
        if both.width % 2:
            raise DataError(f"{file.where}: the A|B picture is {both.width} pixels wide. Allowed: an even width, A and B. Redo it.")
        middle = both.width // 2
        boxes = (0, 0, middle, both.height), (middle, 0, both.width, both.height)
        left, right = (_resized(both.crop(box), config, Image.Resampling.LANCZOS) for box in boxes)
        yield (right, left) if config.direction == "AtoB" else (left, right)


# ---- classes --------------------------------------------------------------------------------------------------------


class ClassesFile(Frozen):
    """classes.json, of which other keys are not read."""

    classes: tuple[str, ...]
    """The names of the ids 0, 1, ...; may include the ignored one."""
    ignore_index: int | None = None
    palette: tuple[Color, ...] | None = None
    """RGB, 0..255, one for each of `classes`."""


def _listed_classes(path: Path) -> Classes | None:
    """What classes.json says; None where there is none. Raises DataError."""
    if not path.is_file():
        return None
    try:
        content = json.loads(_text(path))
        file = validated(ClassesFile, {key: content[key] for key in ClassesFile.model_fields if key in content}, where="content")
    except (json.JSONDecodeError, TypeError, ConfigError) as error:
        raise DataError(f'{path}: {error}. Allowed: {{"classes": [names], "ignore_index": id, "palette": [[r, g, b], ...]}}.') from None
    ids = [index for index in range(len(file.classes)) if index != file.ignore_index]
    ignored = [] if file.ignore_index is None else [file.ignore_index]
    palette = _palette(len(file.classes)) if file.palette is None else file.palette
    if not ids or not all(0 <= index <= 255 for index in ids + ignored):
        raise DataError(f"{path}: {len(ids)} classes and ignore_index {file.ignore_index}. Allowed: 1 or more classes, ids 0 to 255.")
    if len(palette) != len(file.classes) or not all(0 <= value <= 255 for color in palette for value in color):
        raise DataError(f"{path}: palette: {len(palette)} colours. Allowed: {len(file.classes)}, one per class, with values 0 to 255.")
    return Classes(tuple(file.classes[index] for index in ids), tuple(palette[index] for index in ids), (*ids, *ignored))


def _seen_classes(labels: list[Path]) -> Classes:
    """Classes 0 to the largest id in any label file, 255 apart, which means ignored."""
    seen: set[int] = set().union(*(ids_in(np.asarray(_label(path))) for path in labels))
    real = seen - {IGNORED_ID}
    if not real:
        raise DataError(f"{labels[0].parent}: all labels are {IGNORED_ID} (ignored) everywhere. Needed: one class or more.")
    ids = range(max(real) + 1)
    return Classes(tuple(f"class_{index}" for index in ids), _palette(len(ids)), (*ids, *sorted(seen - real)))


def _palette(num_colors: int) -> tuple[Color, ...]:
    """Distinct saturated colours: the hue turns by the golden ratio and the brightness falls in steps."""
    colors = (colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, 1.0 - 0.1 * (index // 2 % 6)) for index in range(num_colors))
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors)
