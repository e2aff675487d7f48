"""Where the local copies of object stores lie.

The folder of a local copy is named after its URL, so a path alone tells every process on every node which
object it stands for.
"""

import getpass
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from raydistill.config.base import user_path
from raydistill.errors import StoreError

SCHEME = "s3://"
FOLDER = "RAYDISTILL_MIRROR"
"""Environment variable: the folder of local copies, instead of one in /var/tmp. The driver's value holds for
every node."""
_QUERY = {"endpoint_override", "scheme", "region"}


class MirroredPath(NamedTuple):
    """A path in a local copy, and its object on the store."""

    path: Path
    root: Path
    """The folder of the local copy."""
    url: str
    """What the root stands for."""
    key: str
    """bucket/prefix/..., as pyarrow names the object."""


def folder_of(text: str) -> Path:
    """The folder that a `--store` names.

    For `s3://bucket/prefix?endpoint_override=host:port&scheme=http&region=...` it is that of the local copy.
    Credentials come from the environment or from AWS's own files. No folder is made and no store is asked.

    Raises:
        StoreError: another kind of URL, or an incomplete one.
    """
    if "://" not in text:
        return Path(text).absolute()
    parts = urlsplit(text)
    allowed = (
        f"give a folder, or {SCHEME}bucket/prefix, with {', '.join(sorted(_QUERY))} after a '?' "
        "where the store is not Amazon's"
    )
    if "@" in parts.netloc:
        raise StoreError(
            f"--store {parts.scheme}://...@...: no credentials in the URL; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not text.startswith(SCHEME) or not parts.netloc or not parts.path.strip("/"):
        raise StoreError(f"--store {text}: {allowed}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(name for name, value in options.items() if name not in _QUERY or not value):
        raise StoreError(f"--store {text}: {', '.join(unknown)} is not known or empty; {allowed}")
    name = file_name(text.replace("/?", "?").rstrip("/"))
    if len(name) > 255:
        raise StoreError(f"--store {text}: too long for the name of a folder; give a shorter prefix")
    home = user_path(os.environ.get(FOLDER) or f"/var/tmp/raydistill-{getpass.getuser()}")
    return Path(home).absolute() / name


def sweep_of(text: str) -> Path:
    """The folder of the sweep STORE/sweeps/NAME; for `s3://bucket/prefix/sweeps/NAME?...` in the local copy.

    Nothing is downloaded.

    Raises:
        StoreError: a URL that `folder_of` refuses, or one without /sweeps/NAME.
    """
    if "://" not in text:
        return Path(text).absolute()
    url, question, query = text.partition("?")
    store, middle, name = url.rstrip("/").rpartition("/sweeps/")
    if not middle or not name:
        raise StoreError(
            f"{text}: give the sweep as {SCHEME}bucket/prefix/sweeps/NAME, "
            "with what comes after a '?' at the end"
        )
    return folder_of(f"{store}{question}{query}") / "sweeps" / name


def sweep_given(folder: Path) -> str:
    """What `sweep_of` takes for a sweep's folder: its path, or its URL where it is in a local copy."""
    if (url := url_of(folder)) is None:
        return str(folder)
    store, question, query = url.partition("?")
    return f"{store.rstrip('/')}/sweeps/{folder.name}{question}{query}"


def url_of(path: Path) -> str | None:
    """The URL that the local copy around `path` stands for; None: `path` is in no local copy."""
    mirrored = mirrored_path(path)
    return None if mirrored is None else mirrored.url


def mirrored_path(path: Path) -> MirroredPath | None:
    """What `path` stands for on a store; None: it is in no local copy."""
    for root in (path, *path.parents):
        if root.name.startswith(file_name(SCHEME)):
            url = unquote(root.name.replace("=", "%"))
            parts = urlsplit(url)
            below = path.relative_to(root).as_posix()
            key = [part for part in (parts.netloc, parts.path.strip("/"), below) if part != "."]
            return MirroredPath(path, root, url, "/".join(key))
    return None


def file_name(url: str) -> str:
    """A file name from which the URL can be read.

    It has no '%', which is an escape in the URL of an sqlite file or of an artifact.
    """
    return quote(url, safe="").replace("%", "=")
