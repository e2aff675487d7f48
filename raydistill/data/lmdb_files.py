"""The layout of rosinality's StyleGAN2: pictures in an LMDB database, by size and number.

The database holds JPEG or PNG files under the keys 256-00000, 256-00001 and so on, of one size or several,
and their number under the key length. The package lmdb reads it.
"""

import functools
import itertools
import os
from pathlib import Path
from typing import Any

from raydistill.data.files import File
from raydistill.data.sample import Sample, SplitsOnDisk
from raydistill.errors import DataError
from raydistill.reading import MOST_BYTES, regular

_DIGITS = 5
"""Digits of a picture's number in its key, at least."""


def find_lmdb(root: Path, size: int | None = None) -> SplitsOnDisk | None:
    """The pictures of the database in a folder; None: there is no data.mdb.

    Args:
        root: the folder.
        size: the pictures that fit this number of pixels are taken: of that size, else of the next larger,
            else of the largest. None: of the largest.

    Raises:
        DataError: the package lmdb is missing, or the database is damaged or of another layout.
    """
    path = root / "data.mdb"
    if not root.is_dir() or not path.exists():
        return None
    sizes, length = _sizes(root), _length(root)
    chosen = next((each for each in sizes if size is not None and each >= size), sizes[-1])
    last = f"{chosen}-{length - 1:0{_DIGITS}}"
    if _read(root, last) is None:
        raise DataError(f"{path}: {length:,} pictures, and no key {last}. Convert the pictures again.")
    names = [f"{number:0{_DIGITS}}" for number in range(length)]
    samples = [Sample(name, _file(root, f"{chosen}-{name}")) for name in names]
    listed = ", ".join(map(str, sizes))
    remarks = (f"The database has pictures of {listed} pixels: those of {chosen} are taken.",)
    return SplitsOnDisk("lmdb", {"train": samples}, (path,), remarks=remarks if len(sizes) > 1 else ())


def _file(root: Path, key: str) -> File:
    where = f"{root / 'data.mdb'}/{key}"

    def read() -> bytes:
        content = _read(root, key)
        if content is None:
            raise DataError(f"{where}: there is no such key. Convert the pictures again.")
        return content

    return File(where, key, read)


def _length(root: Path) -> int:
    text = _read(root, "length") or b""
    if not text.isdigit() or not 0 < int(text) <= 10**8:
        raise DataError(
            f"{root / 'data.mdb'}: the key length is {text[:20]!r}. Needed: the number of pictures, as "
            "rosinality's prepare_data.py writes it."
        )
    return int(text)


def _sizes(root: Path) -> list[int]:
    """The sizes that the first picture is there in, rising."""
    found, start = set(), b"0"
    try:
        with _environment(str(root), os.getpid()).begin() as transaction:
            cursor = transaction.cursor()
            for _ in itertools.repeat(None, 64):  # a size for each key that is looked at
                if not cursor.set_range(start):
                    break
                head, dash, number = bytes(cursor.key()).partition(b"-")
                if dash and head.isdigit() and number == b"0" * _DIGITS:
                    found.add(int(head))
                if not dash:
                    break
                start = head + b"."  # behind all keys of this size
    except _errors() as error:
        raise _damaged(root, error) from None
    if not found:
        raise DataError(
            f"{root / 'data.mdb'}: no key such as 256-00000. Read are databases as rosinality's "
            "prepare_data.py writes them; write the pictures of others as PNG files into a folder."
        )
    return sorted(found)


def _read(root: Path, key: str) -> bytes | None:
    try:
        with _environment(str(root), os.getpid()).begin(buffers=True) as transaction:
            value = transaction.get(key.encode())
            if value is not None and len(value) > MOST_BYTES:
                raise DataError(f"{root / 'data.mdb'}/{key}: {len(value):,} bytes, at most {MOST_BYTES:,}.")
            return None if value is None else bytes(value)
    except _errors() as error:
        raise _damaged(root, error) from None


@functools.cache
def _environment(root: str, pid: int) -> Any:
    """The opened database; one for each process, which threads share."""
    try:
        regular(Path(root) / "data.mdb", None)
        return _package().open(root, readonly=True, lock=False, readahead=False, meminit=False)
    except _errors() as error:
        raise _damaged(Path(root), error) from None


def _errors() -> tuple[type[Exception], ...]:
    return OSError, _package().Error


def _damaged(root: Path, error: Exception) -> DataError:
    return DataError(f"{root / 'data.mdb'}: cannot be read as LMDB: {error}. Convert the pictures again.")


def _package() -> Any:
    try:
        import lmdb
    except ImportError:
        raise DataError(
            "data.mdb: a database of pictures is read by the package lmdb, which is not installed here. "
            "Install it: pip install 'raydistill[lmdb]'"
        ) from None
    return lmdb
