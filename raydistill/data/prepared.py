"""The decoded copy of a data set on disk: written once, then memory-mapped.

    CACHE/<fingerprint>/   info.json
                           {train,val,test}_targets.npy   uint8 (N, H, W, 3)
        and at most one of {split}_labels.npy             uint8 (N, H, W)
                           {split}_inputs.npy             uint8 (N, H, W, 3)
                           {split}_classes.npy            int32 (N,)

The fingerprint changes when the source may have changed. The digest in info.json is that of the content.
"""

import contextlib
import hashlib
import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from pydantic import Field

from raydistill.config.base import REMARK, Frozen, Stored, digest
from raydistill.config.bounds import NumPictures, Side
from raydistill.config.data import DataSet, Degradation
from raydistill.data.classes import Color
from raydistill.data.source import Layout, Pairing, Source, SplitName, pairing_of, remarks_on
from raydistill.errors import DataError, StoreError, say_notice
from raydistill.reading import read_text, regular
from raydistill.records import owners, remote
from raydistill.records.files import to_disk, write_json_atomic

FORMAT = 4
"""Part of the fingerprint. Raise it when the same source would be written differently."""
INFO = "info.json"
_AGAIN = "`raydistill plan` with the same --space, --data, --set and --store decodes the pictures again"
"""What to do about damaged data: see `store`."""


class DataInfo(Frozen):
    """What `info.json` says of a prepared data set."""

    layout: Layout
    height: Side
    """Height and width of the targets, in pixels."""
    width: Side
    num_classes: Annotated[int, Field(ge=1, le=256)] | None
    """Number of pixel classes, without the ignored one; None: the targets have no label maps."""
    class_names: tuple[str, ...]
    """Names of the pixel classes."""
    palette: tuple[Color, ...]
    """Colours of the pixel classes."""
    ignore_index: Annotated[int, Field(ge=0, le=256)] | None
    """The id of ignored pixels, which is always `num_classes`; None: no pixel is ignored."""
    counts: dict[SplitName, NumPictures]
    """Number of targets of each split."""
    split_rule: str
    """The sentence that says how the splits came about."""
    input_counts: dict[SplitName, NumPictures] | None = None
    """Number of inputs of each split, for unpaired data; None: there are as many as targets, or none."""
    picture_classes: tuple[str, ...] = ()
    """Names of the classes that whole pictures belong to."""
    degrade: Degradation = Degradation()
    """How inputs are made of the targets, if it is on."""
    load_size: tuple[Side, Side] | None = None
    """(height, width) of training pictures on disk, of which crops are shown; None: they are shown whole."""
    remarks: Annotated[tuple[str, ...], REMARK] = ()
    """What was changed in pictures, and how label maps were understood, in sentences."""
    left_out: Annotated[str, REMARK] = ""
    """What lies beside the data and belongs to none of its samples, in words; empty: nothing."""
    digest: str = ""
    """Digest of the arrays and of all the other fields but remarks and left_out."""

    @property
    def pairing(self) -> Pairing:
        """How inputs and targets belong together: "pairs", "unpaired", or "pictures" without inputs."""
        return pairing_of(self.layout, self.degrade)

    @property
    def has_labels(self) -> bool:
        """Whether every target has a label map."""
        return self.num_classes is not None

    @property
    def inputs_are_labels(self) -> bool:
        """Whether generators get the label maps as inputs."""
        return self.has_labels and not self.degrade.is_on

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of an input, in pixels."""
        return self.height // self.degrade.scale, self.width // self.degrade.scale

    @property
    def input_channels(self) -> int:
        """3 for pictures; for label maps one for each class, and one more if any pixel can be ignored."""
        if self.num_classes is None or self.degrade.is_on:
            return 3
        return self.num_classes + (self.ignore_index is not None)


# ---- writing -----------------------------------------------------------------------------------------------


def store(source: Source, config: DataSet, cache_dir: Path) -> Stored:
    """Decodes `source` into a folder of `cache_dir`, unless its copy is there. A damaged one is made again.

    Several processes may do so at once.

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
    damage = _damage(folder)
    if damage is not None or not (folder / INFO).exists():
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with owners.temporary_folder(cache_dir, prefix=".preparing-") as temporary:
                if damage is not None:
                    say_notice(f"{damage}; the pictures are decoded again")
                info, complete = describe(source, config), temporary / "data"
                _require_space(info, cache_dir)
                _write(source, info, complete)
                if damage is not None:
                    os.rename(folder, temporary / "damaged")
                _move(complete, folder)
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


def describe(source: Source, config: DataSet) -> DataInfo:
    """What the data are, before any picture of them is decoded; without a digest."""
    classes = source.classes()
    return DataInfo(
        layout=source.layout,
        height=config.height,
        width=config.width,
        num_classes=len(classes.names) if classes else None,
        class_names=classes.names if classes else (),
        palette=classes.palette if classes else (),
        ignore_index=classes.ignore_index if classes else None,
        counts=source.counts,
        split_rule=source.split_rule,
        input_counts=source.input_counts,
        picture_classes=source.picture_classes,
        degrade=config.degrade,
        load_size=load_size_of(config),
        remarks=(*source.remarks, *remarks_on(classes, source.picture_classes)),
        left_out=source.left_out,
    )


def load_size_of(config: DataSet) -> tuple[int, int] | None:
    """(height, width) that training pictures are decoded at; None: that of all other pictures.

    Raises:
        DataError: only one of the two is given, or the size is smaller than what is shown.
    """
    if config.load_height is None and config.load_width is None:
        return None
    load = config.load_height or 0, config.load_width or 0
    if load[0] < config.height or load[1] < config.width:
        raise DataError(
            f"data.load_height, data.load_width: {config.load_height} x {config.load_width}, but parts of "
            f"{config.height} x {config.width} shall be shown of it; "
            "give both, each at least as large, for example 286 for 256"
        )
    return load


def _write(source: Source, info: DataInfo, folder: Path) -> None:
    """Streams the arrays, so that memory does not grow with the data. `info.json` is written last."""
    folder.mkdir()
    content = hashlib.sha256(digest(info).encode())
    names = _names(info)
    for split, count in info.counts.items():
        _write_arrays(folder, split, names, count, source.read(split), info, content)
        if source.read_inputs is not None and info.input_counts is not None:
            inputs = ((array,) for array in source.read_inputs(split))
            _write_arrays(folder, split, ["inputs"], info.input_counts[split], inputs, info, content)
    remarks = (*info.remarks, *source.changes())
    complete = info.model_copy(update={"digest": content.hexdigest()[:16], "remarks": remarks})
    (folder / INFO).write_text(complete.model_dump_json(indent=1), encoding="utf-8")
    for path in [*folder.iterdir(), folder]:
        to_disk(path)


def _require_space(info: DataInfo, folder: Path) -> None:
    """Raises StoreError where the disk of a folder has no room for the arrays of this data set."""
    free, needed = shutil.disk_usage(folder).free, 0
    for counts, names in ((info.counts, _names(info)), (info.input_counts or {}, ["inputs"])):
        for split, count in counts.items():
            formats = _formats(info, split)
            needed += count * sum(math.prod(formats[name][1]) * int(formats[name][0][-1]) for name in names)
    if needed > free:
        raise StoreError(
            f"{folder}: the decoded data take {needed / 2**30:,.2f} GiB, {free / 2**30:,.2f} GiB are free. "
            "Free some space, choose another folder, or take fewer or smaller pictures "
            "(data.height, data.width; data.num_train of the embedded set)."
        )


def _names(info: DataInfo) -> list[str]:
    """The arrays that a split has, one row for each of its targets."""
    is_there = {
        "targets": True,
        "labels": info.has_labels,
        "inputs": info.layout == "aligned",
        "classes": bool(info.picture_classes),
    }
    return [name for name in is_there if is_there[name]]


def _formats(info: DataInfo, split: SplitName) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Array of a split -> type and shape of a row."""
    size = info.load_size if split == "train" and info.load_size else (info.height, info.width)
    return {
        "targets": ("|u1", (*size, 3)),
        "inputs": ("|u1", (*size, 3)),
        "labels": ("|u1", size),
        "classes": ("<i4", ()),
    }


def _write_arrays(
    folder: Path,
    split: SplitName,
    names: list[str],
    count: int,
    rows: Iterable[tuple[np.ndarray, ...]],
    info: DataInfo,
    content: "hashlib._Hash",
) -> None:
    """Writes `count` rows, each with one array for each of `names`, and adds their bytes to `content`."""
    formats = _formats(info, split)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"{split}_{name}.npy").open("wb")) for name in names]
        for file, name in zip(files, names):
            dtype, shape = formats[name]
            _write_header(file, dtype, (count, *shape))
        for row in rows:
            for file, name, array in zip(files, names, row, strict=True):
                assert (array.dtype.str, array.shape) == formats[name], (array.dtype, array.shape)
                file.write(array.tobytes())
                content.update(array.tobytes())


def _write_header(file: IO[bytes], dtype: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


def _move(complete: Path, folder: Path) -> None:
    try:
        os.rename(complete, folder)
        to_disk(folder.parent)
    except OSError:
        # if the copy is there, another process was first and has written the same content
        if not (folder / INFO).is_file():
            raise


def read_info(stored: Stored) -> DataInfo:
    """What `info.json` says of the prepared data `stored`.

    Raises:
        StoreError: nothing is there, another version wrote it, or the data are not those that `stored` means.
    """
    info = info_of(Path(stored.path))
    if info.digest != stored.digest:
        raise StoreError(
            f"{stored.path}: these data have the digest {info.digest}, not {stored.digest}. "
            "Put the data back that were there, or start a new sweep."
        )
    return info


def info_of(folder: Path) -> DataInfo:
    """What is known of the data in a folder. Raises StoreError where its file is missing or damaged."""
    try:
        return DataInfo.model_validate_json(read_text(folder / INFO))
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / INFO}: missing, damaged or not from this version. {_AGAIN}") from error


def _damage(folder: Path) -> str | None:
    """What is wrong with the prepared data of a folder; None: nothing, or there are none."""
    if not (folder / INFO).exists():
        return None
    try:
        info = info_of(folder)
        for split in info.counts:
            open_arrays(folder, split, info)
    except StoreError as error:
        return str(error).removesuffix(f". {_AGAIN}")
    return None


def open_array(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of an .npy file, memory-mapped.

    Raises:
        OSError, ValueError: the file is missing, cut or otherwise damaged, or has another dtype or shape.
    """
    try:
        # What is empty cannot be mapped. "c": changes would stay in memory, which torch asks for.
        array = np.load(regular(path, most=None), mmap_mode=None if 0 in shape else "c")
    except EOFError as error:
        raise ValueError(str(error)) from error
    if not isinstance(array, np.ndarray) or (array.dtype.str, array.shape) != (dtype, shape):
        raise ValueError(f"not an array of {dtype} {shape}")
    return array


def array_shapes(info: DataInfo, split: SplitName) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Array of a split on disk -> its type and shape."""
    shapes = {}
    for name in _names(info) + (["inputs"] if info.layout == "unpaired" else []):
        count, (dtype, row) = info.counts[split], _formats(info, split)[name]
        if name == "inputs" and info.input_counts is not None:
            count = info.input_counts[split]
        shapes[name] = (dtype, (count, *row))
    return shapes


def open_arrays(folder: Path, split: SplitName, info: DataInfo) -> dict[str, np.ndarray]:
    """The arrays of one split by their kind. Raises StoreError where one is missing or damaged."""
    arrays = {}
    for name, (dtype, shape) in array_shapes(info, split).items():
        path = folder / f"{split}_{name}.npy"
        try:
            arrays[name] = open_array(path, dtype, shape)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: missing or damaged: {error}. {_AGAIN}") from error
    return arrays
