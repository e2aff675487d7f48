"""A folder that `raydistill generate` writes.

FOLDER/generate.json   what makes the pictures: see `Manifest`
FOLDER/pictures/       the pictures, PNG, each written whole or not at all
FOLDER/grid.png        the first of them on one sheet
"""

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from raydistill.config.base import Frozen
from raydistill.data.files import File, file_at, refuse_unsafe
from raydistill.data.picture_files import PICTURES
from raydistill.errors import DataError, StoreError
from raydistill.reading import read_text, regular
from raydistill.records import locks, owners
from raydistill.records.files import write_json_atomic

MANIFEST = "generate.json"
FOLDER = "pictures"
VERSION = 1
_MOST_NAME_BYTES = 255
_PNG, _END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
"""How a PNG file begins and ends."""


class Manifest(Frozen):
    """What decides every bit of the pictures in a folder, in whatever shards they are made."""

    version: int = VERSION
    network: str
    """Digest of the network."""
    data: str | None
    """Digest of the data that the inputs are of; None: noise."""
    split: str | None
    """Split of the data; None: every picture of a folder is an input, or noise."""
    seed: int | None
    """Seed of the noise; None: the network takes pictures."""
    truncation: float | None
    """Of the styles; None: the network's own, or a family without it."""
    names: tuple[str, ...]
    """Names of the pictures in `FOLDER`, in the order of their inputs."""


def output_names(inputs: Sequence[str]) -> tuple[str, ...]:
    """A name for the picture of each input: the input's own, ending in .png.

    Inputs that differ in their endings alone keep these: a.jpg and a.png give a.jpg.png and a.png.png.

    Args:
        inputs: paths below the folder of the inputs, with slashes.

    Raises:
        DataError: a name is longer than a file system allows, or leaves the folder.
    """
    refuse_unsafe(Path("the inputs"), inputs)
    stems = [_without_ending(name) for name in inputs]
    counts = Counter(stems)
    names = [stem if counts[stem] == 1 else name for stem, name in zip(stems, inputs)]
    if len(set(names)) < len(names):
        names = list(inputs)
    if len(set(names)) < len(names):  # rows of several arrays
        return numbered_names(len(names))
    for name in names:
        if max(len(os.fsencode(f"{part}.png")) for part in name.split("/")) > _MOST_NAME_BYTES:
            raise DataError(
                f"{name}: its picture's name would have more than {_MOST_NAME_BYTES} bytes. Rename the input."
            )
    return tuple(f"{name}.png" for name in names)


def numbered_names(num: int) -> tuple[str, ...]:
    """Names for pictures of inputs without names: 000000.png and so on."""
    width = max(6, len(str(num - 1)))
    return tuple(f"{index:0{width}d}.png" for index in range(num))


def _without_ending(name: str) -> str:
    ending = next((each for each in PICTURES if name.lower().endswith(each)), "")
    return name[: len(name) - len(ending)]


def claim(folder: Path, manifest: Manifest) -> None:
    """Makes the folder for these pictures, or finds that it is for them.

    Raises:
        StoreError: it holds something else, or cannot be written.
    """
    path = folder / MANIFEST
    # the manifest is the first that is written, so whoever sees a picture of another shard sees it, too
    try:
        is_used = folder.exists() and any(not each.name.startswith(".") for each in folder.iterdir())
    except OSError as error:
        raise StoreError(f"--out {folder}: {error.strerror}; give a new or empty folder") from None
    if is_used and not path.exists():
        raise StoreError(
            f"--out {folder}: not empty, and raydistill generate did not write it (no {MANIFEST}); "
            "give a new or empty folder"
        )
    if not path.exists():
        with locks.locked(folder / ".lock", what=f"--out {folder}", wait=True):
            if not path.exists():
                write_json_atomic(path, manifest.model_dump(mode="json"))
    found = read_manifest(folder).model_dump()
    for name, value in manifest.model_dump().items():
        if found[name] != value:
            what = f"{found[name]}, now {value}" if name != "names" else "other ones"
            raise StoreError(
                f"--out {folder}: holds the pictures of another run ({name}: {what}); "
                "give another folder, or remove it"
            )
    owners.remove_left(folder, below=True)


def read_manifest(folder: Path) -> Manifest:
    """What makes the pictures of a folder. Raises StoreError where its file is missing or damaged."""
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(read_text(path))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StoreError(f"{path}: not what raydistill generate writes: {reason}") from None
    if manifest.version != VERSION:
        raise StoreError(f"{path}: version {manifest.version}, this raydistill reads {VERSION}")
    return manifest


def pictures_in(path: Path) -> list[File]:
    """The pictures of a folder that `raydistill generate` wrote, in order, not read yet; none: it is none.

    Raises:
        StoreError: its manifest is damaged.
        DataError: some are not made yet, or a name leaves the folder.
    """
    if not (path / MANIFEST).is_file():
        return []
    names = read_manifest(path).names
    refuse_unsafe(path / MANIFEST, names)
    files = [path / FOLDER / name for name in names]
    if missing := sum(not is_whole(file) for file in files):
        raise DataError(
            f"{path}: {missing} of {len(files)} pictures are not made yet. "
            "Run raydistill generate again, with every shard."
        )
    return [file_at(file)._replace(name=name) for file, name in zip(files, names)]


def is_whole(path: Path) -> bool:
    """Whether a PNG file is there and has its end."""
    try:
        with regular(path).open("rb") as file:
            start = file.read(len(_PNG))
            file.seek(-len(_END), os.SEEK_END)
            return start == _PNG and file.read() == _END
    except OSError:
        return False


def write_picture(path: Path, picture: np.ndarray | Image.Image) -> None:
    """Writes a PNG file, whole or not at all. An array is uint8 (H, W, 3).

    A power cut may take the file, or leave one that `is_whole` refuses.

    Raises:
        StoreError: it cannot be written.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    temporary = path.parent / f".{owners.mark()}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}. Free some space or give another --out; "
            "the same command goes on"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
