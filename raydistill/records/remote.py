"""Results on an S3-compatible store: every machine has a local copy of what it needs, and files go up and down whole.

The folder of a local copy is named after its URL. So a path alone tells every process on every node what it stands for, and `push` and
`pull` of any other path do nothing. Each folder has one writer at a time: a trial's is its worker, any other's the driver. A file is
the same here and there where size and modification time are: whoever copies it gives the local one the store's time.
"""

import contextlib
import fcntl
import functools
import getpass
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from raydistill.errors import StoreError

SCHEME = "s3://"
FOLDER = "RAYDISTILL_MIRROR"
"""Environment variable: where local copies lie, instead of /var/tmp. The driver's holds for every node."""
_QUERY = {"endpoint_override", "scheme", "region"}
_LAST = ("meta.json", "info.json", "outputs.json", "sweep.json", "result.json")
"""Who finds one of these trusts that the rest is there; in this order they go up last."""
_TRIES, _CONNECT_SEC, _REQUEST_SEC = 4, 5, 60
Listing = dict[str, tuple[int, int]]
"""Path below the folder that was listed -> (bytes, modification time in ns)."""


class _Place(NamedTuple):
    """A path of a local copy, and the same on the store."""

    path: Path
    root: Path
    url: str
    key: str
    """bucket/prefix/..., as pyarrow names it."""


def folder_of(text: str) -> Path:
    """The folder that a `--store` names; for `s3://bucket/prefix?endpoint_override=host:port&scheme=http&region=...` the local copy.

    Credentials come from the environment or from AWS's own files. Nothing is asked or made yet.

    Raises:
        StoreError: another kind of URL, or an incomplete one.
    """
    if "://" not in text:
        return Path(text).absolute()
    parts = urlsplit(text)
    allowed = f"give a folder, or {SCHEME}bucket/prefix, with {', '.join(sorted(_QUERY))} after a '?' where the store is not Amazon's"
    if "@" in parts.netloc:
        raise StoreError(
            f"--store {parts.scheme}://...@...: no credentials in the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not text.startswith(SCHEME) or not parts.netloc or not parts.path.strip("/"):
        raise StoreError(f"--store {text}: {allowed}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(name for name, value in options.items() if name not in _QUERY or not value):
        raise StoreError(f"--store {text}: {', '.join(unknown)} is not known or empty; {allowed}")
    name = _name(text.replace("/?", "?").rstrip("/"))
    if len(name) > 255:
        raise StoreError(f"--store {text}: too long for the name of a folder; give a shorter prefix")
    return Path(os.environ.get(FOLDER) or f"/var/tmp/raydistill-{getpass.getuser()}").absolute() / name


def sweep_of(text: str) -> Path:
    """The folder of the sweep STORE/sweeps/NAME; of `s3://bucket/prefix/sweeps/NAME?...` that of the local copy. Nothing is brought yet.

    Raises:
        StoreError: a URL that `folder_of` refuses, or without /sweeps/NAME.
    """
    if "://" not in text:
        return Path(text).absolute()
    url, question, query = text.partition("?")
    store, middle, name = url.rstrip("/").rpartition("/sweeps/")
    if not middle or not name:
        raise StoreError(
            f"{text}: give the sweep as {SCHEME}bucket/prefix/sweeps/NAME, with what comes after a '?' at the end"
        )
    return folder_of(f"{store}{question}{query}") / "sweeps" / name


def url_of(path: Path) -> str | None:
    """What a local copy's folder stands for; None: it is no local copy."""
    place = _place(path)
    return None if place is None else place.url


def require_bucket(root: Path) -> None:
    """Raises StoreError where a local copy's store does not answer, refuses the credentials, or has no such bucket."""
    if (place := _place(root)) is None:
        return
    from pyarrow.fs import FileType

    bucket = place.key.split("/")[0]
    with _told(place, "cannot be reached"):
        found = _filesystem(place.url).get_file_info(bucket)
    if found.type == FileType.NotFound:
        raise StoreError(
            f"{place.url}: there is no bucket {bucket}, or these credentials may not see it; make it first"
        )


def push(path: Path, *, skip: Collection[str] = ()) -> None:
    """Brings a file or folder of a local copy to the store; checkpoints that are gone here are removed there.

    `skip`: names directly below `path` that are left out, as are hidden and temporary files and Ray's.

    Raises:
        StoreError: the store refuses, or is not there after four tries.
    """
    if (place := _place(path)) is None:
        return
    filesystem, local = _filesystem(place.url), _local(path, skip)
    with _locked(place), _told(place, "cannot be written"):
        there = _remote(place, skip)
        changed = [name for name, facts in local.items() if there.get(name) != facts]
        for name in sorted(
            changed, key=lambda name: (_LAST.index(base) if (base := Path(name).name) in _LAST else -1, name)
        ):
            _upload(path / name, filesystem, _key(place, name))
        for gone in {_checkpoint(name) for name in there} - {_checkpoint(name) for name in local} - {None}:
            filesystem.delete_dir(_key(place, str(gone)))
        if changed:
            there = _remote(place, skip)
        for name in changed:
            if _facts(path / name) != local[name]:
                continue  # written again meanwhile: the next push sends it
            size, time = there.get(name, (None, 0))
            if size != local[name][0]:
                raise StoreError(
                    f"{place.url}: {_key(place, name)} arrived with {size} bytes of {local[name][0]}"
                )
            os.utime(path / name, ns=(time, time))


def pull(path: Path, *, skip: Collection[str] = ()) -> None:
    """Brings what the store has of a file or folder to the local copy, unless it is here; nothing is removed here.

    Checkpoints that somebody is still writing are left out. `skip` as for `push`.

    Raises:
        StoreError: the store refuses, is not there after four tries, or this machine has no room.
    """
    if (place := _place(path)) is None:
        return
    filesystem = _filesystem(place.url)
    with _locked(place), _told(place, "cannot be read"):
        there = _remote(place, skip)
        whole = {_checkpoint(name) for name in there if Path(name).name == "meta.json"} | {None}
        for name, facts in there.items():
            if _checkpoint(name) not in whole or _facts(path / name) == facts:
                continue
            final = path / name
            temporary = final.with_name(f".pulled-{secrets.token_hex(4)}")
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                _download(filesystem, _key(place, name), temporary)
                os.utime(temporary, ns=(facts[1], facts[1]))
                os.replace(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)


def folders(path: Path) -> list[Path]:
    """The folders directly below a folder of a local copy, here or on the store; of any other folder those that are there."""
    here = {child for child in path.glob("*") if child.is_dir()}
    if (place := _place(path)) is not None:
        from pyarrow.fs import FileSelector, FileType

        with _told(place, "cannot be read"):
            found = _filesystem(place.url).get_file_info(FileSelector(place.key, allow_not_found=True))
        here |= {path / info.base_name for info in found if info.type == FileType.Directory}
    return sorted(here)


def remove(path: Path) -> None:
    """Removes a file or folder, here and on the store; it need not be there."""
    if path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
    if (place := _place(path)) is not None:
        filesystem = _filesystem(place.url)
        with _told(place, "cannot be removed"):
            if filesystem.get_file_info(place.key).is_file:
                filesystem.delete_file(place.key)
            else:
                filesystem.delete_dir_contents(place.key, missing_dir_ok=True)


def ray_storage(path: Path) -> dict[str, Any]:
    """`storage_path` and `storage_filesystem` of a Ray RunConfig for what Ray itself writes below `path`."""
    place = _place(path)
    return (
        {"storage_path": str(path)}
        if place is None
        else {"storage_path": place.key, "storage_filesystem": _filesystem(place.url)}
    )


def _place(path: Path) -> _Place | None:
    """None: not a path of a local copy."""
    for root in (path, *path.parents):
        if root.name.startswith(_name(SCHEME)):
            url = unquote(root.name.replace("=", "%"))
            parts = urlsplit(url)
            below = path.relative_to(root).as_posix()
            return _Place(
                path,
                root,
                url,
                "/".join(part for part in (parts.netloc, parts.path.strip("/"), below) if part != "."),
            )
    return None


def _name(url: str) -> str:
    """A file name that tells the URL; without '%', which is an escape in the URL of an sqlite file or an artifact."""
    return quote(url, safe="").replace("%", "=")


def _key(place: _Place, name: str) -> str:
    return place.key if name == "." else f"{place.key}/{name}"


@functools.cache
def _filesystem(url: str) -> Any:
    from pyarrow.fs import (  # half a second, and most sweeps have a folder
        AwsStandardS3RetryStrategy,
        S3FileSystem,
    )

    return S3FileSystem(
        **dict(parse_qsl(urlsplit(url).query)),
        connect_timeout=_CONNECT_SEC,
        request_timeout=_REQUEST_SEC,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_TRIES),
    )


def _remote(place: _Place, skip: Collection[str]) -> Listing:
    from pyarrow.fs import FileSelector, FileType

    info = _filesystem(place.url).get_file_info(place.key)
    if info.type == FileType.File:
        return {".": (info.size, info.mtime_ns)}
    found = _filesystem(place.url).get_file_info(
        FileSelector(place.key, recursive=True, allow_not_found=True)
    )
    named = {
        info.path.removeprefix(f"{place.key}/"): (info.size, info.mtime_ns)
        for info in found
        if info.type == FileType.File
    }
    return {name: facts for name, facts in named.items() if _counts(name, skip)}


def _local(path: Path, skip: Collection[str]) -> Listing:
    if path.is_file():
        return {".": _stat(path)}
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {name: _stat(file) for name, file in files.items() if _counts(name, skip)}


def _counts(name: str, skip: Collection[str]) -> bool:
    parts = name.split("/")
    return (
        parts[0] not in skip
        and "ray" not in parts
        and parts[-1] != "lock"
        and not any(part.startswith((".", "tmp-")) for part in parts)
    )


def _stat(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns


def _facts(file: Path) -> tuple[int, int] | None:
    return _stat(file) if file.is_file() else None


def _checkpoint(name: str) -> str | None:
    """The checkpoint that a file belongs to."""
    first = name.split("/")[0]
    return first if first.startswith("checkpoint-") else None


@contextlib.contextmanager
def _locked(place: _Place) -> Iterator[None]:
    """One process of this machine at a time copies a folder."""
    file = place.root / ".locks" / _name(place.key)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _told(place: _Place, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{place.url}: {place.key} {what}: {error}. Is the store up, and may these credentials use it?"
        ) from error


def _upload(path: Path, filesystem: Any, key: str) -> None:
    """In one call, which no signal's exception ends: closing a stream half-way would leave half a file on the store."""
    from pyarrow.fs import LocalFileSystem, copy_files

    copy_files(str(path), key, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem)


def _download(filesystem: Any, key: str, path: Path) -> None:
    from pyarrow.fs import LocalFileSystem, copy_files

    copy_files(key, str(path), source_filesystem=filesystem, destination_filesystem=LocalFileSystem())
