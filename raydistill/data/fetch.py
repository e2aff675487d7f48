"""Public data sets from their official addresses.

Downloads are resumed where they were cut off, checked, and unpacked whole or not at all. This is the only
place that downloads anything, and it does so only when a data set is asked for by name.
"""

import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from typing import IO, NamedTuple

from raydistill.config.command_options import FetchOptions
from raydistill.config.paths import nearest
from raydistill.data.files import refuse_unsafe
from raydistill.errors import DataError
from raydistill.reading import file_hash
from raydistill.records import owners

_BLOCK = 1 << 20
"""Bytes that are read at a time."""
_TIMEOUT_SEC = 30.0


class Download(NamedTuple):
    """A file of a data set."""

    url: str
    md5: str = ""
    """The published checksum. Empty: none is published, and the SHA-256 of what came is written down."""


_PIX2PIX = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/{}.tar.gz"
_CYCLEGAN = "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/{}.zip"
_GAN_COMPRESSION = "https://huggingface.co/mit-han-lab/gan-compression/resolve/main/datasets/{}.tar.gz"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{}-ubyte.gz"

SETS: dict[str, tuple[Download, ...]] = {
    **{
        name: (Download(_PIX2PIX.format(name)),)
        for name in ("facades", "maps", "edges2shoes", "edges2handbags", "night2day")
    },
    **{
        name: (Download(_CYCLEGAN.format(name)),)
        for name in ("horse2zebra", "summer2winter_yosemite", "apple2orange", "monet2photo")
    },
    **{
        name: (Download(_GAN_COMPRESSION.format(name)),) for name in ("edges2shoes-r", "edges2handbags-r")
    },  # the same pictures as without -r, with a larger val: what GAN Compression and later papers score on
    "fashion_mnist": (
        Download(_FASHION.format("train-images-idx3"), "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        Download(_FASHION.format("train-labels-idx1"), "25c81989df183df01b3e8a0aad5dffbe"),
        Download(_FASHION.format("t10k-images-idx3"), "bef4ecab320f06d8554ea6380940ec79"),
        Download(_FASHION.format("t10k-labels-idx1"), "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
}
"""Name -> files of the set. A .zip or .tar.gz is unpacked; other files are kept as they are."""
BY_HAND = {
    "cityscapes": "register at https://www.cityscapes-dataset.com, "
    "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there",
    "celeba": "get img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html; "
    "it is read as it is",
    "ffhq": "follow https://github.com/NVlabs/ffhq-dataset; "
    "a zip or folder by NVlabs' dataset_tool is read as it is",
}
"""Name -> what to do.

These sets ask for a registration or come from a file share, and are never fetched here.
"""


def run(options: FetchOptions, say: Callable[[str], None] = print) -> int:
    """Fetches the set to `to/name` and returns 0; does nothing where it is there already.

    Args:
        options: what to fetch, and where to.
        say: is given each line that the user is to read.

    Raises:
        DataError: the set is unknown, there is no connection, a checksum is wrong, or an archive cannot be
            unpacked. What came so far is kept for the next call.
    """
    name = options.name
    if name in BY_HAND:
        raise DataError(f"{name} is not fetched: {BY_HAND[name]}. Then: raydistill data inspect FOLDER.")
    if name not in SETS:
        known = [*SETS, *BY_HAND]
        raise DataError(
            f"there is no set {name!r}. Known: {', '.join(known)}. Nearest: {nearest(name, known)!r}."
        )
    downloads, final = SETS[name], options.to / name
    if options.sha256 is not None and len(downloads) > 1:
        raise DataError(
            f"--sha256 is for sets of one file; {name} has {len(downloads)}, whose checksums are published. "
            "Leave it out."
        )
    if final.exists():
        say(f"{final} is there. Remove it to fetch it again.")
        return 0
    parts = options.to / f".{name}.parts"
    _try(lambda: parts.mkdir(parents=True, exist_ok=True), options.to)
    sums = []
    for download in downloads:
        file_name = download.url.rpartition("/")[2]
        url = download.url if options.mirror is None else f"{options.mirror.rstrip('/')}/{file_name}"
        path = parts / file_name
        _download(url, path, say)
        sums.append(f"{_sha256_of(path, url, download.md5, options.sha256, say)}  {file_name}")
    _try(lambda: _unpack(parts, final, sums), options.to)
    shutil.rmtree(parts)
    say(f"{final}: done. Look at it: raydistill data inspect {final}")
    return 0


def _try(action: Callable[[], None], folder: Path) -> None:
    try:
        action()
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error}. Free some space, or give another --to."
        ) from None


# ---- downloading a file ------------------------------------------------------------------------------------


def _download(url: str, path: Path, say: Callable[[str], None]) -> None:
    """Downloads the file to `path`, unless it is there.

    It goes on after what an earlier call left in `path`.part, if the server's file is still the same one: the
    ETag, or else the date, is kept in `path`.etag.
    """
    if path.exists():
        return
    part, tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.etag")
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": tag.read_text()} if have else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SEC
        ) as answer:
            goes_on = answer.status == 206
            have = have if goes_on else 0
            total = have + int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
            size = "" if total is None else f" of {total * 1e-6:.1f} MB"
            say(f"{url}: {'going on after' if goes_on else 'from'} {have * 1e-6:.1f} MB{size}")
            if mark := answer.headers["ETag"] or answer.headers["Last-Modified"]:
                tag.write_text(mark)
            with part.open("ab" if goes_on else "wb") as file:
                have += _copy(answer, file)
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{url}: the server answers {error.code} {error.reason}. {_without_connection(path)}"
        ) from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{url}: cannot be reached or broke off: {reason}. The same command goes on. "
            f"{_without_connection(path)}"
        ) from None
    except OSError as error:
        raise DataError(
            f"{part}: cannot be written: {error}. Free some space, or give another --to."
        ) from None
    if total is not None and have != total:
        raise DataError(
            f"{url}: broke off after {have:,} of {total:,} bytes. The same command goes on. "
            f"{_without_connection(path)}"
        )
    part.rename(path)


def _without_connection(path: Path) -> str:
    return f"Without a connection, copy the file to {path}, or give --mirror URL."


def _copy(answer: IO[bytes], file: IO[bytes]) -> int:
    """Copies the rest of `answer` to `file`; returns how many bytes that were."""
    count = 0
    while block := answer.read(_BLOCK):
        file.write(block)
        count += len(block)
    return count


def _sha256_of(path: Path, url: str, md5: str, sha256: str | None, say: Callable[[str], None]) -> str:
    """The SHA-256 of a downloaded file.

    Raises:
        DataError: its MD5 or SHA-256 is not the expected one (empty or None: any). The file is then removed.
    """
    sums = {}
    for kind, expected in (("md5", md5), ("sha256", (sha256 or "").lower())):
        sums[kind] = file_hash(path, kind, most=None)
        if expected and sums[kind] != expected:
            path.unlink()
            raise DataError(
                f"{url}: {kind} {sums[kind]}, expected {expected}. It was removed. "
                "Fetch it again, or from elsewhere: --mirror URL."
            )
    if not md5 and not sha256:
        say(
            f"{path.name}: nobody publishes a checksum for it; SHA-256 {sums['sha256']}, kept in SHA256SUMS. "
            "To demand one: --sha256"
        )
    return sums["sha256"]


# ---- unpacking ---------------------------------------------------------------------------------------------


def _unpack(parts: Path, final: Path, sums: list[str]) -> None:
    """Makes the folder `final` of all files of `parts`, whole or not at all.

    The lines `sums` go into its SHA256SUMS.
    Where everything lies in one folder of an archive, that folder becomes `final`.
    """
    with owners.temporary_folder(final.parent, prefix=".unpacking-") as temporary:
        unpacked = temporary / "set"
        unpacked.mkdir()
        for path in sorted(path for path in parts.iterdir() if path.suffix not in (".part", ".etag")):
            if path.name.endswith((".zip", ".tar.gz")):
                _unpack_archive(path, unpacked)
            else:
                shutil.copy(path, unpacked)
        inside = list(unpacked.iterdir())
        folder = inside[0] if len(inside) == 1 and inside[0].is_dir() else unpacked
        (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
        folder.rename(final)


def _require_space(path: Path, folder: Path, sizes: Iterable[int]) -> None:
    """Raises DataError where files of an archive, of these sizes in bytes, take more than the disk has free.

    It is raised at the first file that is too much: finding the next one may take an hour of unpacking.
    """
    free, total = shutil.disk_usage(folder).free, 0
    for size in sizes:
        total += size
        if total > free:
            raise DataError(
                f"{path.name}: its files take {total / 2**30:,.2f} GiB or more, "
                f"{free / 2**30:,.2f} GiB are free. Free some space, or give another --to."
            )


def _unpack_archive(path: Path, folder: Path) -> None:
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                refuse_unsafe(path, archive.namelist())
                _require_space(path, folder, (entry.file_size for entry in archive.infolist()))
                archive.extractall(folder)
        else:
            with tarfile.open(path) as tar:
                _require_space(path, folder, (member.size for member in tar))
                refuse_unsafe(path, tar.getnames())
                _extract(tar, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        path.unlink()
        raise DataError(
            f"{path.name}: cannot be unpacked: {error}. It was removed. Fetch it again."
        ) from None


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Writes the files of an archive, with today's owner and rights: the filters of `tarfile` need 3.11.4."""
    for member in tar:
        target = folder / member.name
        content = tar.extractfile(member) if member.isfile() else None
        if content is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
        elif member.isdir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            raise tarfile.TarError(f"{member.name} is neither a file nor a folder")
