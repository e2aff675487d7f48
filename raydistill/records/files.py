"""Files that are written whole or not at all."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from raydistill.errors import StoreError
from raydistill.records import owners


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.

    `path` holds the old or the new content at any time, never half of one.

    Raises:
        StoreError: the file cannot be written, for example because no space is left on the device.
    """
    temporary = path.with_name(f".{path.stem}.{owners.mark()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        to_disk(temporary)
        temporary.replace(path)
        to_disk(path.parent)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(
            f"{path}: cannot be written: {why}. Free some space or give another results folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def to_disk(path: Path) -> None:
    """Flush a file or a folder's list of names, so that a power cut after this finds it whole.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems do not flush folders
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def write_json_atomic(path: Path, data: object) -> None:
    """Write `data` as JSON by atomic rename; the folder is made when it is absent.

    Raises:
        StoreError: the file cannot be written.
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


_FULL = ("No space left", "StorageFull", "Disk quota exceeded", "file write failed")
"""What the system, safetensors and PyTorch say of a disk that takes no more."""
_FULL_BYTES = 2**20
"""A disk with less free space is full: what was written in part has been removed by the time it is asked."""


def disk_is_full(folder: Path, reason: str) -> bool:
    """Whether a failure is the disk's: its reason says so, or hardly anything is left free in `folder`."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free < _FULL_BYTES:
            return True
    return any(text in reason for text in _FULL)
