"""Files of a folder or of a zip file, in the order of their names."""

import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from raydistill.data.picture_files import PICTURES, Opened, opened, size_of
from raydistill.data.tree import Tree, is_hidden, listed, walk
from raydistill.errors import DataError
from raydistill.reading import read_bytes, read_entry, read_text, regular

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

    def open(self) -> Opened:
        """The picture as it is stored, upright. Raises DataError where the file is none, or damaged."""
        content = self.read()
        if content.startswith(LFS_POINTER):
            raise DataError(
                f"{self.where}: this is a git-LFS pointer, not a picture. "
                "Run `git lfs pull` where the data lie."
            )
        return opened(content, self.where)

    def size(self) -> tuple[int, int] | None:
        """(width, height) by its header; None: it cannot be read."""
        try:
            return size_of(self.read())
        except DataError:
            return None

    def image(self) -> Image.Image:
        """The picture alone, see `open`."""
        return self.open().image


class Row(NamedTuple):
    """A picture that is one row of an array; it can be used like a `File`."""

    where: str
    """The array and the row, for messages."""
    name: str
    array: np.ndarray
    """uint8 (H, W) or (H, W, 3)"""

    def read(self) -> bytes:
        """Its shape and the bytes of its pixels: what differs where the pictures do."""
        return f"{self.array.shape}".encode() + self.array.tobytes()

    def open(self) -> Opened:
        """The picture."""
        return Opened(Image.fromarray(self.array))

    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.array.shape[1], self.array.shape[0]

    def image(self) -> Image.Image:
        """The picture alone."""
        return self.open().image


Picture = File | Row
"""A picture that is not decoded yet."""


def file_at(path: Path) -> File:
    """The file at `path`, whose name is the last part of it."""
    return File(str(path), path.name, lambda: _read(lambda: read_bytes(path), str(path)))


def files_of(path: Path) -> list[File]:
    """All files below a folder or in a zip file, sorted by name, without hidden ones.

    Raises:
        DataError: as `tree.walk` does; the zip file is damaged, or one of its names leaves the folder that it
            would be unpacked to.
    """
    if path.suffix.lower() == ".zip":
        return _in_zip(path)
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder. Give an existing folder or zip file.")
    return [file_at(file)._replace(name=name) for name, file in walk(path).files]


def tree_of(path: Path) -> Tree:
    """What lies below a folder or in a zip file. Raises DataError as `files_of` does."""
    if path.is_dir():
        return walk(path)
    names = [name for name in _archive(path).namelist() if not name.endswith("/")]
    shown = [name for name in names if not _is_hidden(name)]
    files = tuple((name, path / name) for name in sorted(shown))
    return Tree(files, num_hidden=len(names) - len(shown))


def pictures_of(path: Path) -> list[File]:
    """The files of `files_of` that are named like pictures.

    Raises DataError as it does, and where there is none.
    """
    files = [file for file in files_of(path) if file.is_picture]
    if not files:
        raise DataError(f"{path}: no {', '.join(PICTURES)} here. Give a folder or zip file of pictures.")
    return files


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(regular(path, most=None))  # its entries are read one at a time
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        # ValueError: a name that is no text
        if path.is_file() and path.stat().st_size < 1000 and path.read_bytes().startswith(LFS_POINTER):
            raise DataError(
                f"{path}: this is a git-LFS pointer, not a zip file. Run `git lfs pull` where it lies."
            ) from None
        raise DataError(f"{path}: cannot be read as a zip file: {error}. Give a whole one.") from None


def _in_zip(path: Path) -> list[File]:
    archive = _archive(path)
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
    return any(map(is_hidden, name.split("/")))


def _read(read: Callable[[], bytes], where: str) -> bytes:
    """What `read` returns. Raises DataError for whatever files and entries of zip files raise."""
    try:
        return read()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise DataError(f"{where}: cannot be read: {error}. Replace or remove it.") from None


# ---- folders -----------------------------------------------------------------------------------------------


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files. Raises DataError as `tree.listed` does."""
    return [path for path in listed(folder) if not is_hidden(path.name)]


def key_of(name: str) -> str:
    """A name by which files pair up: composed and decomposed letters, as macOS writes them, are the same."""
    return unicodedata.normalize("NFC", name)


def by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """The files below a folder that end in one of `endings`, sorted, by their paths below it without ending.

    Raises:
        DataError: there is no such folder, no such file, or a stem twice.
    """
    files: dict[str, Path] = {}
    listed(folder)  # raises DataError where there is no such folder
    for name, path in walk(folder).files:
        if path.suffix.lower() in endings:
            stem = key_of(name[: len(name) - len(path.suffix)])
            if stem in files:
                raise DataError(
                    f"{path}: {files[stem].name} has the same stem. Allowed: a stem once. "
                    "Remove or rename one."
                )
            files[stem] = path
    if not files:
        raise DataError(
            f"{folder}: no {', '.join(endings)} here. Found {few(entries(folder))}. "
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
