"""Who made a temporary file: its name says so, and the next command removes what dead processes have left.

A mark is `own-<host>-<pid>-<random>`. What another host has made is never removed, nor what a process that
runs has made.
"""

import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MARK = re.compile(r"own-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(?![0-9a-f])")
OWNER = "owner"
"""File in a folder whose name has no room for a mark: it has the mark."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders for temporary files with short paths."""
_NOT_LOOKED_AT = ("ray", "mlartifacts")
"""Folders of a store that hold nothing with a mark, and many files."""


@functools.cache
def _host() -> str:
    """Tells this machine, and this container of it, from others that see the same files."""
    facts = [platform.node()]
    for path in ("/etc/machine-id", "/proc/self/ns/pid"):
        try:
            facts.append(os.readlink(path) if os.path.islink(path) else Path(path).read_text())
        except (OSError, UnicodeDecodeError):
            facts.append("")
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def mark() -> str:
    """A part of a name that says which process of which host made it; another one at each call."""
    return f"own-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_left(text: str) -> bool:
    """Whether a name, or the text of a file, has the mark of a process of this host that is dead."""
    found = _MARK.search(text)
    if found is None or found["host"] != _host():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it is another user's, and alive
        return False
    return False


RESUMED = ".decoding-"
"""How names of folders begin that the next process may go on with, see `resumed_folder`."""
_RESUMED_SEC = 7 * 24 * 3600.0
"""Seconds after which what a dead process has begun is not kept any more."""


def remove_left(folder: Path, *, below: bool = False) -> None:
    """Remove what dead processes of this host have left in `folder`. What cannot be removed stays.

    Args:
        below: look into its folders, too. Of sweeps that have ended well only what is not in their trials.
    """
    for parent, folders, files in os.walk(folder):
        for name in [each for each in (*folders, *files) if is_left(each)]:
            if not (name.startswith(RESUMED) and _is_recent(Path(parent, name))):
                remove(Path(parent, name))
        has_ended = "trials.parquet" in files and parent != str(folder)
        skipped = (*_NOT_LOOKED_AT, "trials") if has_ended else _NOT_LOOKED_AT
        folders[:] = [
            each
            for each in folders
            if below and each not in skipped and not each.startswith(("checkpoint-", RESUMED))
        ]


def _is_recent(folder: Path) -> bool:
    """Whether something was written into a folder in the last days."""
    try:
        return time.time() - folder.stat().st_mtime < _RESUMED_SEC
    except OSError:
        return False


def remove_left_temporaries() -> None:
    """Remove what dead processes of this host have left in the system's folders for temporary files."""
    for folder in {*SHORT_FOLDERS, tempfile.gettempdir(), os.environ.get("RAY_TMPDIR") or "/tmp"}:
        for path in Path(folder).glob("r[ad][y-]*"):
            if is_left(path.name) or (path.name.startswith("rd-") and is_left(_text(path / OWNER))):
                remove(path)


def _text(path: Path) -> str:
    """The text of a file; "" where it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def remove(path: Path) -> None:
    """Remove a file or folder, if that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path | None = None, *, prefix: str = "raydistill-") -> Iterator[Path]:
    """A new folder in `parent`, removed at the end, as are those that dead processes have left there.

    Args:
        parent: None: the system's folder for temporary files.
    """
    if parent is None:
        parent = Path(tempfile.gettempdir())
        remove_left_temporaries()
    else:
        remove_left(parent)
    folder = parent / f"{prefix}{mark()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove(folder)


@contextmanager
def resumed_folder(parent: Path, *, name: str) -> Iterator[Path]:
    """A folder in `parent` for work of this name: what a dead process of this host has begun, or a new one.

    It is removed at the end, unless the process dies or is interrupted: then the next one goes on with it.
    """
    remove_left(parent)
    folder = parent / f"{RESUMED}{name}-{mark()}"
    for left in sorted(parent.glob(f"{RESUMED}{name}-*")):
        if is_left(left.name):
            with suppress(OSError):  # another process was first
                left.rename(folder)
                break
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        yield folder
    except KeyboardInterrupt:
        raise
    except BaseException:
        remove(folder)
        raise
    remove(folder)
