"""What lies below a folder: its files, also through links, and what of them no layout took."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from raydistill.errors import DataError

_HIDDEN = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin")
"""Names, in small letters, that systems write into folders of pictures; each hides what is below it."""
_NAMED = 4
"""Folders that are named in a message."""


class Tree(NamedTuple):
    """What lies below a folder or in an archive."""

    files: tuple[tuple[str, Path], ...]
    """Path below the folder with slashes, and the path itself, sorted by the first; no hidden ones. Links
    that lead nowhere and special files count as files, so that who reads them names them."""
    folders: tuple[str, ...] = ()
    """Folders below it, at any depth, as far as they are followed."""
    num_hidden: int = 0
    """Hidden files and folders; what is in these is not counted."""
    loops: tuple[str, ...] = ()
    """Links to a folder that they lie in, which are not followed."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over: its name begins with a dot, or a system's."""
    return name.startswith(".") or name.lower() in _HIDDEN


def walk(root: Path) -> Tree:
    """All that lies below a folder. Links to folders are followed.

    Raises:
        DataError: there is no such folder, a folder below it cannot be listed, a name is no UTF-8, or a
            link leads nowhere and is not named like a file.
    """
    files: list[tuple[str, Path]] = []
    loops: list[str] = []
    names: list[str] = []
    num_hidden = 0
    folders: list[tuple[Path, str, tuple[tuple[int, int], ...]]] = [(root, "", (_identity(root),))]
    while folders:
        folder, prefix, above = folders.pop()
        for path in listed(folder):
            name = f"{prefix}{path.name}"
            if is_hidden(path.name):
                num_hidden += 1
            elif not _is_folder(path):
                if path.is_symlink() and not path.exists() and not path.suffix:
                    raise DataError(f"{path}: this link leads nowhere. Fetch what it leads to, or remove it.")
                files.append((name, path))
            elif (identity := _identity(path)) in above:
                loops.append(name)
            else:
                names.append(name)
                folders.append((path, f"{name}/", (*above, identity)))
    return Tree(tuple(sorted(files)), tuple(sorted(names)), num_hidden, tuple(sorted(loops)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Make it readable, or remove it.") from None


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}. Give an existing, readable folder.") from None
    return status.st_dev, status.st_ino


def listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted, with hidden files.

    Raises DataError where the folder cannot be listed, or a name in it is no UTF-8.
    """
    try:
        paths = sorted(folder.iterdir())
    except NotADirectoryError:
        raise DataError(
            f"{folder}: neither a folder nor a regular file. Give an existing, readable one."
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder}: this folder cannot be listed: {error.strerror}. Give an existing, readable folder."
        ) from None
    for path in paths:
        require_utf8(path)
    return paths


def require_utf8(path: Path) -> None:
    """Raises DataError where a path is no UTF-8: no table, page or JSON could hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(
            f"{shown}: this name is not UTF-8. Rename it, for example with "
            "`convmv -f latin1 -t utf8 --notest -r FOLDER`."
        ) from None


# ---- what is left out --------------------------------------------------------------------------------------


def left_out(tree: Tree, used: Iterable[str]) -> str:
    """What of a tree is not among the names `used`, in words; empty: nothing.

    Files are counted by their endings, and folders of which nothing is used by their names.
    """
    taken = set(used)
    above_taken = {parent for name in taken for parent in _folders_of(name)}
    endings: Counter[str] = Counter()
    folders: Counter[str] = Counter()
    for name, _ in tree.files:
        if name not in taken:
            unused = next((folder for folder in _folders_of(name) if folder not in above_taken), None)
            if unused is None:
                endings[PurePosixPath(name).suffix.lower() or "without an ending"] += 1
            else:
                folders[unused] += 1
    by_number = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {ending}" for ending, count in by_number]
    if folders:
        parts.append(f"{_number(len(folders), 'folder')} ({_some(folders)})")
    if tree.num_hidden:
        parts.append(_number(tree.num_hidden, "hidden file"))
    if tree.loops:
        parts.append(f"{_number(len(tree.loops), 'link')} back to a folder above ({_some(tree.loops)})")
    return ", ".join(parts)


def _folders_of(name: str) -> Iterator[str]:
    """The folders that a file of this name lies in, the uppermost first."""
    parts = name.split("/")[:-1]
    return ("/".join(parts[: depth + 1]) for depth in range(len(parts)))


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_NAMED] + ["..."] * (len(names) > _NAMED))
