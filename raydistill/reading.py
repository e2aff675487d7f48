"""Files that a user names: only regular ones are opened, and they are read only up to a limit.

What a file claims is compared with `MOST_BYTES` before memory is taken for it: its size, that of what is
packed in it, the shape of an array. A FIFO, a device, a socket and a folder are refused unread. Refusals are
OSErrors and ValueErrors, as errors of reading are, so that who reads a file catches both at once.
"""

import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MOST_BYTES = 4 * 2**30
"""What one file may claim: bytes on disk, and bytes of memory for what it holds, unpacked."""
MOST_TEXT_BYTES = MOST_BYTES // 16
"""Largest size of a file of text (JSON, CSV, Python, a list): objects take up to 16 times the bytes of their
text."""
_BLOCK = 1 << 20
"""Bytes that are read at a time where nothing vouches for a size."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnusableFile(OSError):
    """A file that is not read: it is no regular file, or it claims too much."""

    def __init__(self, why: str):
        super().__init__(why)
        self.strerror = why


def regular(path: Path, most: int | None = MOST_BYTES) -> Path:
    """`path` itself, where it is a regular file of at most so many bytes (None: of any size).

    Raises:
        OSError: there is no such file, or it is another kind of file or larger.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFile(f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'special')}, not a regular file")
    if most is not None and status.st_size > most:
        raise UnusableFile(f"it has {status.st_size:,} bytes, and at most {most:,} are read")
    return path


def require_claim(claimed: int, what: str) -> None:
    """Raises OSError, which says `what` claims so many bytes, where they are more than `MOST_BYTES`."""
    if claimed > MOST_BYTES:
        raise UnusableFile(f"{what} claims {claimed:,} bytes, and one file may claim {MOST_BYTES:,}")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file.

    Raises:
        OSError: see `regular`; or the file does not end where its size says, as files of /proc.
    """
    with regular(path, most).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)
    if len(content) > size:
        raise UnusableFile("it has more bytes than its size says")
    return content


def file_hash(path: Path, algorithm: str = "sha256", most: int | None = MOST_BYTES) -> str:
    """The hash of a file's content, in hex. `algorithm`: a name that `hashlib` knows; `most`: see `regular`.

    Raises:
        OSError: see `regular`.
    """
    with regular(path, most).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file. Raises OSError as `read_bytes` does, and UnicodeError where it is no text."""
    return io.TextIOWrapper(io.BytesIO(read_bytes(path, MOST_TEXT_BYTES)), encoding).read()


def read_block(read: Callable[[int], bytes], size: int) -> bytes:
    """The next `size` bytes of a stream, fewer at its end. Memory is taken for bytes that come, not ahead.

    `read` returns at most so many bytes of the stream, none at its end.
    """
    blocks, left = [], size
    while left > 0 and (block := read(min(left, _BLOCK))):
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says. Raises ValueError where it is no JSON, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


# ---- zip files ---------------------------------------------------------------------------------------------


def require_entries(entries: Iterable[zipfile.ZipInfo]) -> None:
    """Raises OSError where entries of a zip file, unpacked together, claim more than `MOST_BYTES`."""
    require_claim(sum(entry.file_size for entry in entries), "what is packed in it")


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The content of one entry of a zip file, which is never more than its header says.

    Raises:
        OSError: it claims too much, or is packed by a method whose output cannot be bounded.
        zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError: it is damaged or encrypted.
    """
    require_claim(entry.file_size, "it")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnusableFile("it is packed by another method than stored or deflated; pack it again")
    with archive.open(entry) as stream:
        return read_block(stream.read, entry.file_size + 1)
