"""Results on an S3-compatible store. Every machine has a local copy of the files it needs.

`push` and `pull` copy whole files between a local copy (see `records/mirror.py`) and the store; for any other
path they do nothing. Each folder has one writer at a time: a trial's folder has its worker, any other the
driver. A local file and an object are the same where size and modification time are; so whoever copies a file
gives the local one the time of the store's.
"""

import contextlib
import functools
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from raydistill.errors import StoreError
from raydistill.records import locks, owners
from raydistill.records.mirror import MirroredPath, file_name, mirrored_path

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_LAST = ("meta.json", "info.json", "outputs.json", "sweep.json", "result.json")
"""Who finds one of these trusts that the other files are there, so they are uploaded last, in this order."""
_TRIES, _CONNECT_SEC, _REQUEST_SEC = 4, 5, 60
Facts = tuple[int, int]
"""Size in bytes and modification time in ns of a file or object."""
Listing = dict[str, Facts]
"""Path below the folder that was listed -> facts."""


def require_bucket(root: Path) -> None:
    """Check that the store of a local copy can be used; for any other path do nothing.

    Raises:
        StoreError: the store does not answer, refuses the credentials, or has no such bucket.
    """
    if (mirrored := mirrored_path(root)) is None:
        return
    from pyarrow.fs import FileType

    bucket = mirrored.key.split("/")[0]
    with _explained(mirrored, "cannot be reached"):
        info = _filesystem(mirrored.url).get_file_info(bucket)
    if info.type == FileType.NotFound:
        raise StoreError(
            f"{mirrored.url}: there is no bucket {bucket}, or these credentials may not see it; make it first"
        )


def push(path: Path, *, skip: Collection[str] = ()) -> None:
    """Upload a file or folder of a local copy; checkpoints that are gone here are removed from the store.

    Args:
        skip: names directly below `path` that are left out. Hidden and temporary files and Ray's always are.

    Raises:
        StoreError: the store refuses, or cannot be reached in four tries.
    """
    if (mirrored := mirrored_path(path)) is None:
        return
    filesystem, local = _filesystem(mirrored.url), _local_listing(path, skip)
    with _locked(mirrored), _explained(mirrored, "cannot be written"):
        remote = _remote_listing(mirrored, skip)
        changed = [name for name, facts in local.items() if remote.get(name) != facts]
        for name in sorted(changed, key=_upload_order):
            _upload(path / name, filesystem, _key(mirrored, name))
        for gone in {_checkpoint(name) for name in remote} - {_checkpoint(name) for name in local} - {None}:
            filesystem.delete_dir(_key(mirrored, str(gone)))
        if changed:
            remote = _remote_listing(mirrored, skip)
        for name in changed:
            if _facts(path / name) != local[name]:
                continue  # written again meanwhile: the next push sends it
            size, time = remote.get(name, (None, 0))
            if size != local[name][0]:
                raise StoreError(
                    f"{mirrored.url}: {_key(mirrored, name)} arrived with {size} bytes of {local[name][0]}"
                )
            os.utime(path / name, ns=(time, time))


def pull(path: Path, *, skip: Collection[str] = ()) -> None:
    """Download what the store has of a file or folder and the local copy lacks. Nothing is removed here.

    Checkpoints that are still being written are left out.

    Args:
        skip: names directly below `path` that are left out.

    Raises:
        StoreError: the store refuses, cannot be reached in four tries, or this machine has no space left.
    """
    if (mirrored := mirrored_path(path)) is None:
        return
    filesystem = _filesystem(mirrored.url)
    with _locked(mirrored), _explained(mirrored, "cannot be read"):
        remote = _remote_listing(mirrored, skip)
        whole = {_checkpoint(name) for name in remote if Path(name).name == "meta.json"} | {None}
        for name, facts in remote.items():
            if _checkpoint(name) not in whole or _facts(path / name) == facts:
                continue
            final = path / name
            temporary = final.with_name(f".pulled-{owners.mark()}")
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                _download(filesystem, _key(mirrored, name), temporary)
                os.utime(temporary, ns=(facts[1], facts[1]))
                os.replace(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)


def folders(path: Path) -> list[Path]:
    """The folders directly below `path`: those on disk and, in a local copy, those on the store too."""
    out = {child for child in path.glob("*") if child.is_dir()}
    if (mirrored := mirrored_path(path)) is not None:
        from pyarrow.fs import FileSelector, FileType

        with _explained(mirrored, "cannot be read"):
            selector = FileSelector(mirrored.key, allow_not_found=True)
            infos = _filesystem(mirrored.url).get_file_info(selector)
        out |= {path / info.base_name for info in infos if info.type == FileType.Directory}
    return sorted(out)


def remove(path: Path) -> None:
    """Remove a file or folder from disk and from the store; it need not exist."""
    if path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
    if (mirrored := mirrored_path(path)) is not None:
        filesystem = _filesystem(mirrored.url)
        with _explained(mirrored, "cannot be removed"):
            if filesystem.get_file_info(mirrored.key).is_file:
                filesystem.delete_file(mirrored.key)
            else:
                filesystem.delete_dir_contents(mirrored.key, missing_dir_ok=True)


def ray_storage(path: Path) -> dict[str, Any]:
    """`storage_path` and `storage_filesystem` of a Ray RunConfig for what Ray itself writes below `path`."""
    if (mirrored := mirrored_path(path)) is None:
        return {"storage_path": str(path)}
    return {"storage_path": mirrored.key, "storage_filesystem": _filesystem(mirrored.url)}


# ---- listings ----------------------------------------------------------------------------------------------


def _remote_listing(mirrored: MirroredPath, skip: Collection[str]) -> Listing:
    from pyarrow.fs import FileSelector, FileType

    filesystem = _filesystem(mirrored.url)
    info = filesystem.get_file_info(mirrored.key)
    if info.type == FileType.File:
        return {".": (info.size, info.mtime_ns)}
    listing = {}
    for info in filesystem.get_file_info(FileSelector(mirrored.key, recursive=True, allow_not_found=True)):
        name = info.path.removeprefix(f"{mirrored.key}/")
        if info.type == FileType.File and _is_copied(name, skip):
            listing[name] = (info.size, info.mtime_ns)
    return listing


def _local_listing(path: Path, skip: Collection[str]) -> Listing:
    if path.is_file():
        return {".": _stat(path)}
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {name: _stat(file) for name, file in files.items() if _is_copied(name, skip)}


def _is_copied(name: str, skip: Collection[str]) -> bool:
    """Whether a file belongs to the results: not skipped, no lock, not hidden, temporary or Ray's."""
    parts = name.split("/")
    is_temporary = any(part.startswith((".", "tmp-")) for part in parts)
    return parts[0] not in skip and "ray" not in parts and parts[-1] != "lock" and not is_temporary


def _stat(file: Path) -> Facts:
    return file.stat().st_size, file.stat().st_mtime_ns


def _facts(file: Path) -> Facts | None:
    return _stat(file) if file.is_file() else None


def _checkpoint(name: str) -> str | None:
    """The checkpoint that a file belongs to; None: to no checkpoint."""
    first = name.split("/")[0]
    return first if first.startswith("checkpoint-") else None


def _upload_order(name: str) -> tuple[int, str]:
    base = Path(name).name
    return _LAST.index(base) if base in _LAST else -1, name


# ---- the store ---------------------------------------------------------------------------------------------


def _key(mirrored: MirroredPath, name: str) -> str:
    return mirrored.key if name == "." else f"{mirrored.key}/{name}"


@functools.cache
def _filesystem(url: str) -> "FileSystem":
    # half a second to import, and most sweeps have a folder
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    return S3FileSystem(
        **dict(parse_qsl(urlsplit(url).query)),
        connect_timeout=_CONNECT_SEC,
        request_timeout=_REQUEST_SEC,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_TRIES),
    )


@contextlib.contextmanager
def _locked(mirrored: MirroredPath) -> Iterator[None]:
    """Only one process of this machine at a time copies a folder."""
    file = mirrored.root / ".locks" / file_name(mirrored.key)
    with locks.locked(file, what=f"the copy of {mirrored.url}", wait=True):
        yield


@contextlib.contextmanager
def _explained(mirrored: MirroredPath, what: str) -> Iterator[None]:
    """Turns an OSError into a StoreError that says what failed."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{mirrored.url}: {mirrored.key} {what}: {error}. "
            "Is the store up, and may these credentials use it?"
        ) from error


def _upload(path: Path, filesystem: "FileSystem", key: str) -> None:
    """In one call, because an exception from a signal cannot end it: a stream that is closed half-way would
    leave half a file on the store."""
    from pyarrow.fs import LocalFileSystem, copy_files

    copy_files(str(path), key, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem)


def _download(filesystem: "FileSystem", key: str, path: Path) -> None:
    from pyarrow.fs import LocalFileSystem, copy_files

    copy_files(key, str(path), source_filesystem=filesystem, destination_filesystem=LocalFileSystem())
