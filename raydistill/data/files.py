"""Files of a folder or of a zip file, in the order of their names, and the one place that opens pictures."""

import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from raydistill.errors import DataError
from raydistill.reading import read_bytes, read_entry, read_text, regular

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Endings of picture files."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Pillow's formats that are decoded, whatever a file is called: none of them runs a program, as EPS does."""
MOST_PIXELS = 2**27
"""Pixels of one picture: 8192 x 8192 twice, for A|B. Decoded, with its RGB copy and its array, it takes 12
bytes a pixel: 1.5 GiB."""
MOST_PIXELS_OF_A_SIDE = 2**16
"""Pixels of one side, because resizing a picture takes memory for the one side before and the other after."""
LFS_POINTER = b"version https://git-lfs"
"""How a file starts whose content git-LFS has not fetched yet."""


class File(NamedTuple):
    """A file of a folder or of a zip file, not read yet."""

    where: str
    """Its path, with the name in the zip file after it; for messages."""
    name: str
    """Path below the folder or in the zip file, with slashes."""
    read: Callable[[], bytes]
    """Returns the content. Raises DataError where it cannot be read."""

    @property
    def is_picture(self) -> bool:
        """Whether its name ends like a picture's."""
        return self.name.lower().endswith(PICTURES)

    def image(self) -> Image.Image:
        """The picture as it is stored. Raises DataError where the file is no picture, or damaged."""
        content = self.read()
        if content.startswith(LFS_POINTER):
            raise DataError(
                f"{self.where}: this is a git-LFS pointer, not a picture. "
                "Run `git lfs pull` where the data lie."
            )
        return decoded(content, self.where)


def decoded(content: bytes, where: str) -> Image.Image:
    """The picture in the content of a file.

    Raises DataError, which calls it `where`, for what is none of `FORMATS`, damaged, or too large.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS or max(image.size) > MOST_PIXELS_OF_A_SIDE:
            raise ValueError(
                f"{image.width}x{image.height} pixels, at most {MOST_PIXELS:,} are decoded, "
                f"and {MOST_PIXELS_OF_A_SIDE:,} of a side"
            )
        image.load()
        return image
    # Pillow raises SyntaxError and ValueError for broken PNG chunks
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = str(error)
        if isinstance(error, UnidentifiedImageError):  # its own text names a buffer
            why = f"it is none of {', '.join(FORMATS)}"
        raise DataError(f"{where}: cannot be read as a picture: {why}. Replace or remove it.") from error


class Row(NamedTuple):
    """A picture that is one row of an array; it can be used like a `File`."""

    where: str
    """The array and the row, for messages."""
    name: str
    array: np.ndarray
    """uint8 (H, W) or (H, W, 3)"""

    def read(self) -> bytes:
        """The bytes of its pixels."""
        return self.array.tobytes()

    def image(self) -> Image.Image:
        """The picture."""
        return Image.fromarray(self.array)


Picture = File | Row
"""A picture that is not decoded yet."""


def file_at(path: Path) -> File:
    """The file at `path`, whose name is the last part of it."""
    return File(str(path), path.name, lambda: _read(lambda: read_bytes(path), str(path)))


def files_of(path: Path) -> list[File]:
    """All files below a folder or in a zip file, sorted by name, without hidden ones.

    Raises:
        DataError: there is no such folder, the zip file is damaged, or one of its names leaves the folder
            that it would be unpacked to.
    """
    if path.suffix.lower() == ".zip":
        return _in_zip(path)
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder. Give an existing folder or zip file.")
    # whatever is no folder counts, so that a link without a file and a FIFO are named and not left out
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if not file.is_dir())
    return [file_at(file)._replace(name=name) for name, file in files if not _is_hidden(name)]


def pictures_of(path: Path) -> list[File]:
    """The files of `files_of` that are named like pictures.

    Raises DataError as it does, and where there is none.
    """
    files = [file for file in files_of(path) if file.is_picture]
    if not files:
        raise DataError(f"{path}: no {', '.join(PICTURES)} here. Give a folder or zip file of pictures.")
    return files


def _in_zip(path: Path) -> list[File]:
    try:
        archive = zipfile.ZipFile(regular(path, most=None))  # its entries are read one at a time
    except (OSError, ValueError, zipfile.BadZipFile) as error:  # ValueError: a name that is no text
        if path.is_file() and path.stat().st_size < 1000 and path.read_bytes().startswith(LFS_POINTER):
            raise DataError(
                f"{path}: this is a git-LFS pointer, not a zip file. Run `git lfs pull` where it lies."
            ) from None
        raise DataError(f"{path}: cannot be read as a zip file: {error}. Give a whole one.") from None
    names = sorted(name for name in archive.namelist() if not name.endswith("/"))
    refuse_unsafe(path, names)

    def reader(name: str) -> Callable[[], bytes]:
        return lambda: _read(lambda: read_entry(archive, archive.getinfo(name)), f"{path}/{name}")

    return [File(f"{path}/{name}", name, reader(name)) for name in names if not _is_hidden(name)]


def refuse_unsafe(path: Path, names: Iterable[str]) -> None:
    """Raises DataError where one of the names in an archive leaves the folder it would be unpacked to."""
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or any(":" in part for part in parts.parts[:1]):
            raise DataError(
                f"{path}: the entry {name!r} leaves the folder it would be unpacked to. Do not use this file."
            )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/")) or name.startswith("__MACOSX/")


def _read(read: Callable[[], bytes], where: str) -> bytes:
    """What `read` returns. Raises DataError for whatever files and entries of zip files raise."""
    try:
        return read()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise DataError(f"{where}: cannot be read: {error}. Replace or remove it.") from None


# ---- folders -----------------------------------------------------------------------------------------------


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files.

    Raises DataError where the folder cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except NotADirectoryError:
        raise DataError(
            f"{folder}: neither a folder nor a regular file. Give an existing, readable one."
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder}: this folder cannot be listed: {error.strerror}. Give an existing, readable folder."
        ) from None


def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder that end in one of `suffixes`, sorted, by their stems.

    Raises:
        DataError: there is no such folder, no such file, or a stem twice.
    """
    files: dict[str, Path] = {}
    all_files = entries(folder)
    for path in all_files:
        if path.suffix.lower() in suffixes:
            if path.stem in files:
                raise DataError(
                    f"{path}: {files[path.stem].name} has the same stem. Allowed: a stem once. "
                    "Remove or rename one."
                )
            files[path.stem] = path
    if not files:
        raise DataError(
            f"{folder}: no {', '.join(suffixes)} here. Found {few(all_files)}. "
            "Add pictures or remove the folder."
        )
    return files


def is_there(path: Path) -> bool:
    """Whether there is anything of this name, a FIFO or a link to nowhere too, which reading then refuses."""
    return path.exists() or path.is_symlink()


def few(paths: Iterable[Path]) -> str:
    """The names of up to eight paths in words, for messages; "nothing" where there are none."""
    names = [path.name for path in paths]
    return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def text_of(path: Path) -> str:
    """The text of a UTF-8 file. Raises DataError where it cannot be read as that."""
    try:
        return read_text(path, "utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from None
