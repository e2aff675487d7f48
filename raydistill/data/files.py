"""Files of a folder or of a zip file, in the order of their names, and how a picture in one is decoded."""

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from raydistill.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
LFS_POINTER = b"version https://git-lfs"
GREY = ("1", "L", "LA")


class File(NamedTuple):
    where: str
    """For messages: path, and after it the name in a zip file."""
    name: str
    """Path below the folder or in the zip file, with slashes."""
    read: Callable[[], bytes]

    @property
    def is_picture(self) -> bool:
        """Whether it is named like one."""
        return self.name.lower().endswith(PICTURES)

    def image(self) -> Image.Image:
        """The picture as it is stored. Raises DataError where it is none, or damaged."""
        content = self.read()
        if content.startswith(LFS_POINTER):
            raise DataError(
                f"{self.where}: this is a git-LFS pointer, not a picture. Run `git lfs pull` where the data lie."
            )
        try:
            image = Image.open(io.BytesIO(content))
            image.load()
            return image
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:  # the middle two: broken PNG chunks
            raise DataError(
                f"{self.where}: cannot be read as a picture: {error}. Replace or remove it."
            ) from error


class Row(NamedTuple):
    """A picture of an array."""

    where: str
    name: str
    array: np.ndarray
    """uint8 (H, W) or (H, W, 3)"""

    def read(self) -> bytes:
        return self.array.tobytes()

    def image(self) -> Image.Image:
        return Image.fromarray(self.array)


Picture = File | Row


def file_at(path: Path) -> File:
    return File(str(path), path.name, lambda: _content(path.read_bytes, str(path)))


def files_of(path: Path) -> list[File]:
    """All files below a folder or in a zip file, sorted by name, without hidden ones.

    Raises:
        DataError: no such folder, a damaged zip file, or one with a name that leaves the folder it would be unpacked to.
    """
    if path.suffix.lower() == ".zip":
        return _in_zip(path)
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder. Give an existing folder or zip file.")
    found = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    return [file_at(file)._replace(name=name) for name, file in found if not _is_hidden(name)]


def pictures_of(path: Path) -> list[File]:
    """The files of `files_of` that are named like pictures; one at least."""
    files = [file for file in files_of(path) if file.is_picture]
    if not files:
        raise DataError(f"{path}: no {', '.join(PICTURES)} here. Give a folder or zip file of pictures.")
    return files


def _in_zip(path: Path) -> list[File]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        if path.is_file() and path.read_bytes()[: len(LFS_POINTER)] == LFS_POINTER:
            raise DataError(
                f"{path}: this is a git-LFS pointer, not a zip file. Run `git lfs pull` where it lies."
            ) from None
        raise DataError(f"{path}: cannot be read as a zip file: {error}. Give a whole one.") from None
    names = sorted(name for name in archive.namelist() if not name.endswith("/"))
    refuse_unsafe(path, names)

    def reader(name: str) -> Callable[[], bytes]:
        return lambda: _content(lambda: archive.read(name), f"{path}/{name}")

    return [File(f"{path}/{name}", name, reader(name)) for name in names if not _is_hidden(name)]


def refuse_unsafe(path: Path, names: Iterable[str]) -> None:
    """Raises DataError where an entry of an archive leaves the folder it would be unpacked to."""
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
            raise DataError(
                f"{path}: the entry {name!r} leaves the folder it would be unpacked to. Do not use this file."
            )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/")) or name.startswith("__MACOSX/")


def _content(read: Callable[[], bytes], where: str) -> bytes:
    try:
        return read()
    except (
        OSError,
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
        EOFError,
    ) as error:  # the last three: zip entries
        raise DataError(f"{where}: cannot be read: {error}. Replace or remove it.") from None


def decode_pictures(
    pictures: Iterable[Picture], *, grey: bool | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """Where each comes from, and the picture as RGB. A set is grey or in colour; `grey` None: as its first picture is.

    Grey pictures become three equal channels; one among coloured ones is refused.

    Raises:
        DataError: no picture, more than 8 bits a channel, or grey and colour mixed.
    """
    for picture in pictures:
        image = picture.image()
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"{picture.where}: the picture has mode {image.mode}. Allowed: 8 bits per channel. Convert it."
            )
        grey = is_grey(image) if grey is None else grey
        if is_grey(image) != grey:
            kind, others = ("in colour", "grey") if grey else ("grey", "in colour")
            raise DataError(
                f"{picture.where}: this picture is {kind} (mode {image.mode}), and the ones before it are {others}. "
                "Allowed: one of the two in a set. Convert it."
            )
        yield picture.where, image.convert("RGB")


def is_grey(image: Image.Image) -> bool:
    return image.mode in GREY


# ---- folders ---------------------------------------------------------------------------------------------------------


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files. Raises DataError."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder}: this folder cannot be listed: {error.strerror}. Give an existing, readable folder."
        ) from None


def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """stem -> file, sorted. Raises DataError: no such folder, no file with such a suffix, or a stem twice."""
    files: dict[str, Path] = {}
    there = entries(folder)
    for path in there:
        if path.suffix.lower() in suffixes:
            if path.stem in files:
                raise DataError(
                    f"{path}: {files[path.stem].name} has the same stem. Allowed: a stem once. Remove or rename one."
                )
            files[path.stem] = path
    if not files:
        raise DataError(
            f"{folder}: no {', '.join(suffixes)} here. Found {few(there)}. Add pictures or remove the folder."
        )
    return files


def few(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from None
