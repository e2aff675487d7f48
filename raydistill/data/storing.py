"""Writing the decoded copy of a data set, once. A decoding that was killed goes on where it was.

CACHE/.decoding-<fingerprint>-<mark>/   data/           what becomes CACHE/<fingerprint>
                                        progress.json   how far it is
"""

import contextlib
import hashlib
import io
import itertools
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.data import DataSet
from raydistill.data.colors import IGNORED_COLOR
from raydistill.data.picture_files import Change
from raydistill.data.prepared import INFO, DataInfo, array_names, damage_of, describe, formats_of, info_of
from raydistill.data.rows import Rows
from raydistill.data.source import Source, SplitName
from raydistill.errors import DataError, StoreError, say_notice
from raydistill.reading import read_text
from raydistill.records import owners, remote
from raydistill.records.files import to_disk, write_json_atomic

FORMAT = 4
"""Part of the fingerprint. Raise it when the same source would be written differently."""
_SAVED_BYTES = 2**27
"""Decoded bytes after which progress is saved: what a kill loses at most."""
_PROGRESS = "progress.json"
Say = Callable[[str], None]
"""Is given a line about how far a decoding is."""
_SAY_EVERY_SEC = 10.0


class _Pace:
    """Says how far a decoding is, as often as a person wants to read it."""

    def __init__(self, say: Say):
        self.say, self.said_sec = say, time.monotonic()

    def passed(self, part: str, done: int, total: int) -> None:
        """`done` of `total` rows of a part are written."""
        if (now := time.monotonic()) - self.said_sec >= _SAY_EVERY_SEC:
            self.said_sec = now
            self.say(f"data: {part}: {done:,} of {total:,} decoded")


class _Progress(Frozen):
    """How far a decoding is."""

    info: str
    """Digest of what is known of the data."""
    rows: dict[str, int] = {}
    """First file of a part ("train_targets") -> rows of it that are on disk."""
    changes: dict[str, dict[Change, int]] = {}
    """The same -> what was changed in these."""


def store(source: Source, config: DataSet, cache_dir: Path, say: Say) -> Stored:
    """Decodes `source` into a folder of `cache_dir`, unless its copy is there. A damaged one is made again.

    What a killed process of this machine has decoded of it is taken over. Several processes may do so at
    once. `say` is told how far it is, where it takes long.

    Raises:
        DataError: a file cannot be used, or a size is not a multiple of 4.
        StoreError: `cache_dir` cannot be written.
    """
    for name, size in (("height", config.height), ("width", config.width)):
        if size % 4:
            below = size - size % 4
            raise DataError(
                f"data.{name} is {size}. Allowed: multiples of 4. The nearest are {below} and {below + 4}."
            )
    folder = cache_dir.absolute() / digest({"format": FORMAT, "config": config, "source": source.identity})
    remote.pull(folder)
    damage = damage_of(folder)
    if damage is not None or not (folder / INFO).exists():
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with owners.resumed_folder(cache_dir, name=folder.name) as temporary:
                if damage is not None:
                    say_notice(f"{damage}; the pictures are decoded again")
                info = describe(source, config)
                _require_space(info, cache_dir, temporary)
                _write(source, info, temporary, _Pace(say))
                if damage is not None:
                    os.rename(folder, temporary / "damaged")
                _move(temporary / "data", folder)
        except OSError as error:
            needed = 1e-6 * 6 * sum(source.counts.values()) * config.height * config.width
            raise StoreError(
                f"{cache_dir}: the decoded data cannot be written there: {error}. Needed: a writable folder "
                f"with {needed:.0f} MB free. Free some space or choose another folder."
            ) from error
    info = info_of(folder)
    if info.left_out != source.left_out:  # what lies beside the data may change, and they do not
        with contextlib.suppress(OSError):
            write_json_atomic(folder / INFO, {**info.model_dump(mode="json"), "left_out": source.left_out})
    remote.push(folder)
    return Stored(path=str(folder), digest=info.digest)


def _require_space(info: DataInfo, folder: Path, temporary: Path) -> None:
    """Raises StoreError where the disk of a folder has no room for the arrays of this data set, beside those
    in `temporary`, which are some of them.
    """
    free, needed = shutil.disk_usage(folder).free, 0
    for counts, names in ((info.counts, array_names(info)), (info.input_counts or {}, ["inputs"])):
        for split, count in counts.items():
            formats = formats_of(info, split)
            needed += count * sum(math.prod(formats[name][1]) * int(formats[name][0][-1]) for name in names)
    needed -= sum(path.stat().st_size for path in (temporary / "data").glob("*.npy"))
    if needed > free:
        raise StoreError(
            f"{folder}: the decoded data take {needed / 2**30:,.2f} GiB, {free / 2**30:,.2f} GiB are free. "
            "Free some space, choose another folder, or take fewer or smaller pictures "
            "(data.height, data.width; data.num_train of the embedded set)."
        )


def _write(source: Source, info: DataInfo, temporary: Path, pace: _Pace) -> None:
    """Streams the arrays, so that memory does not grow with the data. `info.json` is written last."""
    folder, path = temporary / "data", temporary / _PROGRESS
    folder.mkdir(exist_ok=True)
    progress = _Progress(info=digest(info))
    with contextlib.suppress(OSError, ValueError):
        earlier = _Progress.model_validate_json(read_text(path))
        progress = earlier if earlier.info == progress.info else progress
    content = hashlib.sha256(digest(info).encode())
    for part in _parts(source, info):
        progress = _write_part(part, folder, progress, path, content, pace)
    remarks = (*info.remarks, *source.changes())
    complete = info.model_copy(update={"digest": content.hexdigest()[:16], "remarks": remarks})
    (folder / INFO).write_text(complete.model_dump_json(indent=1), encoding="utf-8")
    for each in [*folder.iterdir(), folder]:
        to_disk(each)


class _Part(NamedTuple):
    """Files that are written together: a row of each, then the next rows."""

    names: tuple[str, ...]
    """Of the files."""
    formats: tuple[tuple[str, tuple[int, ...]], ...]
    """Type and shape of a row of each."""
    num_rows: int
    rows: Iterable[Any]
    """What yields them: a tuple with an array for each file, or the array of the one file. It may leave out
    the picture of a label map, which is then made with the palette."""
    palette: np.ndarray
    """Colour of each prepared id, uint8 (K + 1, 3)."""

    def arrays(self, row: Any) -> tuple[np.ndarray, ...]:
        """A row as an array for each file."""
        arrays = row if isinstance(row, tuple) else (row,)
        return (*arrays, self.palette[arrays[1]]) if len(arrays) == len(self.names) - 1 else arrays


def _parts(source: Source, info: DataInfo) -> Iterator[_Part]:
    for split, count in info.counts.items():
        yield _part(split, array_names(info), count, source.read(split), info)
        if source.read_inputs is not None and info.input_counts is not None:
            yield _part(split, ["inputs"], info.input_counts[split], source.read_inputs(split), info)


def _part(split: SplitName, names: list[str], count: int, rows: Iterable[Any], info: DataInfo) -> _Part:
    formats = formats_of(info, split)
    return _Part(
        names=tuple(f"{split}_{name}" for name in names),
        formats=tuple(formats[name] for name in names),
        num_rows=count,
        rows=rows,
        palette=np.array([*info.palette, IGNORED_COLOR], np.uint8),
    )


def _write_part(
    part: _Part, folder: Path, progress: _Progress, path: Path, content: "hashlib._Hash", pace: _Pace
) -> _Progress:
    """Writes the rows of a part that are not there yet, adds the bytes of all to `content`, and says in the
    file `path` from time to time how far it is.
    """
    key, paths = part.names[0], [folder / f"{name}.npy" for name in part.names]
    row_bytes = [math.prod(shape) * int(dtype[-1]) for dtype, shape in part.formats]
    headers = [_header(dtype, (part.num_rows, *shape)) for dtype, shape in part.formats]
    done = progress.rows.get(key, 0)
    if any(_size(each) < len(header) + done * size for each, header, size in zip(paths, headers, row_bytes)):
        done = 0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(each.open("r+b" if done else "wb")) for each in paths]
        for file, header, size in zip(files, headers, row_bytes):
            file.write(header)
            file.truncate(len(header) + done * size)
        for _ in range(done):
            for file, size in zip(files, row_bytes):
                content.update(file.read(size))
        rows, unsaved = _after(part.rows, done, progress.changes.get(key, {})), 0
        for row in rows:
            for file, wanted, array in zip(files, part.formats, part.arrays(row), strict=True):
                assert (array.dtype.str, array.shape) == wanted, (array.dtype, array.shape)
                file.write(array.tobytes())
                content.update(array.tobytes())
            done, unsaved = done + 1, unsaved + sum(row_bytes)
            pace.passed(key, done, part.num_rows)
            if unsaved >= _SAVED_BYTES:
                for file in files:
                    file.flush()
                progress, unsaved = _saved(progress, path, key, done, rows), 0
    return _saved(progress, path, key, done, rows)


def _after(rows: Iterable[Any], number: int, changes: dict[Change, int]) -> Iterable[Any]:
    """The rows without the first ones, in which `changes` was changed."""
    if number == 0:
        return rows
    return rows.after(number, changes) if isinstance(rows, Rows) else itertools.islice(rows, number, None)


def _saved(progress: _Progress, path: Path, key: str, done: int, rows: Iterable[Any]) -> _Progress:
    changes = dict(rows.counted) if isinstance(rows, Rows) else {}
    update = {"rows": {**progress.rows, key: done}, "changes": {**progress.changes, key: changes}}
    progress = progress.model_copy(update=update)
    write_json_atomic(path, progress.model_dump(mode="json"))
    return progress


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """How an .npy file of this array begins."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _move(complete: Path, folder: Path) -> None:
    try:
        os.rename(complete, folder)
        to_disk(folder.parent)
    except OSError:
        # if the copy is there, another process was first and has written the same content
        if not (folder / INFO).is_file():
            raise
