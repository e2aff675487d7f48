"""Locks: what only one process at a time may do in a store."""

import contextlib
import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from raydistill.errors import StoreError
from raydistill.records import owners

_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system without `flock` answers."""
_LOOK_SEC, _SETTLE_SEC = 1.0, 0.2
"""Seconds between two looks at another process's file, and before a file that was taken over is trusted."""


@contextlib.contextmanager
def locked(path: Path, *, what: str, wait: bool) -> Iterator[None]:
    """Hold an exclusive lock on a file while the block runs; it is free when the process dies.

    On a file system without `flock` a hidden file beside it says who holds the lock. That of a dead process
    of this machine is taken over; one of another machine has to be removed by hand.

    Args:
        what: what is locked, for the error message.
        wait: wait for a process that holds the lock, instead of raising an error.

    Raises:
        StoreError: another process holds it and `wait` is False, or the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            has_flock = _flock(stack.enter_context(path.open("w")), wait)
            if not has_flock:
                stack.enter_context(_owned(path.with_name(f".{path.name}.owner"), what, wait))
        except BlockingIOError:
            raise StoreError(f"{what} is being run by another process; wait for it to end") from None
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be locked: {error.strerror or error}; give a folder that can be written"
            ) from error
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of `locked` on a file now; of another machine, only where the file
    system tells. It takes the lock for an instant to find out."""
    owner = path.with_name(f".{path.name}.owner")
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return owner.exists() and not owners.is_left(_content(owner))
    return False


def _flock(file: IO[str], wait: bool) -> bool:
    """Whether the lock was got; False: there is no `flock` here. Raises BlockingIOError: another holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if isinstance(error, BlockingIOError) or error.errno not in _NO_FLOCK:
            raise
        return False
    return True


@contextlib.contextmanager
def _owned(path: Path, what: str, wait: bool) -> Iterator[None]:
    """Be the one process that has made a file, while the block runs. Raises StoreError as `locked` does."""
    own = f"process {os.getpid()} on {platform.node()}, {owners.mark()}"
    while not _made(path, own):
        holder = _content(path)
        if owners.is_left(holder):
            path.unlink(missing_ok=True)
            if _made(path, own):
                time.sleep(_SETTLE_SEC)  # another process may have seen the same dead one, and come later
                if _content(path) == own:
                    break
        elif not wait:
            raise StoreError(
                f"{what} is being run by another process ({holder or 'unknown'}); wait for it to end. "
                f"If it has ended, remove {path}: this file system has no locks that end with a process"
            )
        else:
            time.sleep(_LOOK_SEC)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _made(path: Path, content: str) -> bool:
    """Whether this process has made the file; False: it is there."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    return True


def _content(path: Path) -> str:
    """What a file says; "" where it is gone."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
