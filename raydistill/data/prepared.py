"""What a data set is, its decoded copy on disk, and batches from that copy.

    CACHE/<fingerprint>/   info.json, {train,val,test}_targets.npy uint8 (N, H, W, 3), and beside it one or none of
                           {split}_labels.npy uint8 (N, H, W), {split}_inputs.npy uint8 (N, H, W, 3), {split}_classes.npy int32 (N,)

The fingerprint tells whether the source may have changed; the digest in info.json is that of the content.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.data import DataSet, Degradation
from raydistill.data.augment import Crop, central, random_crop
from raydistill.data.degrade import degraded
from raydistill.data.source import Color, Layout, Pairing, Source, SplitName, pairing_of
from raydistill.errors import DataError, StoreError
from raydistill.records import remote

FORMAT = 3
"""Part of the fingerprint: raise it when the same source would be written differently."""
INFO = "info.json"
IGNORED_COLOR: Color = (160, 160, 160)


class DataInfo(Frozen):
    layout: Layout
    height: int
    width: int
    num_classes: int | None
    """Without the ignored one. None: the input is a picture."""
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int | None
    """Always `num_classes`, or None if no pixel is ignored."""
    counts: dict[SplitName, int]
    """Of the targets."""
    split_rule: str
    input_counts: dict[SplitName, int] | None = None
    """Of inputs that belong to no target."""
    picture_classes: tuple[str, ...] = ()
    """Names of the classes that whole pictures belong to."""
    degrade: Degradation = Degradation()
    """What makes the inputs of the targets, where it is on."""
    load_size: tuple[int, int] | None = None
    """Height and width of the training pictures on disk, of which parts are shown; None: they are shown whole."""
    digest: str = ""
    """Of all the other fields and the arrays."""

    @property
    def pairing(self) -> Pairing:
        return pairing_of(self.layout, self.degrade)

    @property
    def has_labels(self) -> bool:
        return self.num_classes is not None

    @property
    def inputs_are_labels(self) -> bool:
        return self.has_labels and not self.degrade.is_on

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of an input."""
        return self.height // self.degrade.scale, self.width // self.degrade.scale

    @property
    def input_channels(self) -> int:
        """3 for pictures; one per class for labels, and one more for "ignored" if there is that."""
        return (
            3
            if self.num_classes is None or self.degrade.is_on
            else self.num_classes + (self.ignore_index is not None)
        )


# ---- the copy on disk -----------------------------------------------------------------------------------------------


def store(source: Source, config: DataSet, cache_dir: Path) -> Stored:
    """Decodes `source` into `cache_dir`, unless its copy is there. Several processes may do so at once.

    Raises:
        DataError: a file that cannot be used. StoreError: `cache_dir` cannot be written.
    """
    for name, size in (("height", config.height), ("width", config.width)):
        if size % 4:
            raise DataError(
                f"data.{name} is {size}. Allowed: multiples of 4. The nearest are {size - size % 4} and {size - size % 4 + 4}."
            )
    folder = cache_dir.absolute() / digest({"format": FORMAT, "config": config, "source": source.identity})
    remote.pull(folder)
    if not (folder / INFO).is_file():
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".preparing-", dir=cache_dir) as temporary:
                complete = Path(temporary) / "data"
                _write(source, _describe(source, config), complete)
                _move(complete, folder)
        except OSError as error:
            needed = 1e-6 * 6 * sum(source.counts.values()) * config.height * config.width
            raise StoreError(
                f"{cache_dir}: the decoded data cannot be written there: {error}. Needed: a writable folder "
                f"with {needed:.0f} MB free. Free some space or choose another folder."
            ) from error
    remote.push(folder)
    return Stored(path=str(folder), digest=_info_of(folder).digest)


def _describe(source: Source, config: DataSet) -> DataInfo:
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
    )


def load_size_of(config: DataSet) -> tuple[int, int] | None:
    """(height, width) at which training pictures are decoded, where it is not that of the others. Raises DataError where it cannot be."""
    if config.load_height is None and config.load_width is None:
        return None
    load = config.load_height or 0, config.load_width or 0
    if load[0] < config.height or load[1] < config.width:
        raise DataError(
            f"data.load_height, data.load_width: {config.load_height} x {config.load_width}, but parts of {config.height} x {config.width} "
            "shall be shown of it; give both, each at least as large, for example 286 for 256"
        )
    return load


def _write(source: Source, info: DataInfo, folder: Path) -> None:
    """Streams the arrays, so that memory does not grow with the data. info.json comes last."""
    folder.mkdir()
    content = hashlib.sha256(digest(info).encode())
    beside = (
        ("labels",) * info.has_labels
        + ("inputs",) * (info.layout == "aligned")
        + ("classes",) * bool(info.picture_classes)
    )
    for split, count in info.counts.items():
        _write_arrays(folder, split, ("targets", *beside), count, source.read(split), info, content)
        if source.read_inputs is not None and info.input_counts is not None:
            inputs = ((array,) for array in source.read_inputs(split))
            _write_arrays(folder, split, ("inputs",), info.input_counts[split], inputs, info, content)
    complete = info.model_copy(update={"digest": content.hexdigest()[:16]})
    (folder / INFO).write_text(complete.model_dump_json(indent=1))


def _write_arrays(
    folder: Path,
    split: str,
    names: tuple[str, ...],
    count: int,
    rows: Iterable[tuple[np.ndarray, ...]],
    info: DataInfo,
    content: Any,
) -> None:
    size = (info.load_size if split == "train" else None) or (info.height, info.width)
    kinds = {
        "targets": ("|u1", (*size, 3)),
        "inputs": ("|u1", (*size, 3)),
        "labels": ("|u1", size),
        "classes": ("<i4", ()),
    }
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"{split}_{name}.npy").open("wb")) for name in names]
        for file, name in zip(files, names):
            _write_header(file, kinds[name][0], (count, *kinds[name][1]))
        for row in rows:
            for file, name, array in zip(files, names, row, strict=True):
                assert (array.dtype.str, array.shape) == kinds[name], (array.dtype, array.shape)
                file.write(array.tobytes())
                content.update(array.tobytes())


def _write_header(file: IO[bytes], dtype: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


def _move(complete: Path, folder: Path) -> None:
    try:
        os.rename(complete, folder)
    except OSError:
        if not (folder / INFO).is_file():  # otherwise another process was first, with the same content
            raise


def read_info(stored: Stored) -> DataInfo:
    """Raises StoreError: nothing there, not written by this version, or other data than `stored` means."""
    info = _info_of(Path(stored.path))
    if info.digest != stored.digest:
        raise StoreError(
            f"{stored.path}: these data have the digest {info.digest}, not {stored.digest}. Prepare the data again."
        )
    return info


def _info_of(folder: Path) -> DataInfo:
    try:
        return DataInfo.model_validate_json((folder / INFO).read_text())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{folder / INFO}: missing, or not from this version. Delete {folder} and prepare again."
        ) from error


# ---- splits and batches ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Memory-mapped uint8 arrays; at most one of labels, inputs and classes is there, and inputs that are degraded targets are not."""

    targets: np.ndarray
    """(N, H, W, 3)"""
    labels: np.ndarray | None
    """(N, H, W): 0..K-1, and K for ignored."""
    inputs: np.ndarray | None
    """(N, H, W, 3); of unpaired data (M, H, W, 3), and input i has nothing to do with target i."""
    info: DataInfo
    classes: np.ndarray | None = None
    """(N,) int32: 0..len(info.picture_classes) - 1"""
    loaded: "Split | None" = None
    """The same at the size that they were decoded at, where that is larger; the arrays above are its middle."""

    def __len__(self) -> int:
        return len(self.targets)


def load_split(stored: Stored, split: SplitName) -> Split:
    """Opens the files of this split and no others. Raises StoreError where they are not there or damaged."""
    info = read_info(stored)

    def opened(name: str) -> np.ndarray:
        path = Path(stored.path) / f"{split}_{name}.npy"
        try:
            return np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(
                f"{path}: cannot be read: {error}. Delete {stored.path} and prepare again."
            ) from error

    found = Split(
        targets=opened("targets"),
        labels=opened("labels") if info.has_labels else None,
        inputs=opened("inputs") if info.layout in ("aligned", "unpaired") else None,
        info=info,
        classes=opened("classes") if info.picture_classes else None,
    )
    if info.load_size is None or split != "train":
        return found
    middle: dict[str, Any] = {
        name: None if array is None else central(array, info.height, info.width)
        for name, array in (("targets", found.targets), ("labels", found.labels), ("inputs", found.inputs))
    }
    return replace(found, loaded=found, **middle)


def training_crop(
    split: Split, indices: np.ndarray | slice, passes: np.ndarray | None, seed: int
) -> tuple[Split, Crop | None]:
    """Where pictures are read from, and which part of each is shown: of training pictures, in these passes, another one each time."""
    info = split.info
    if split.loaded is None or passes is None or info.load_size is None:
        return split, None
    chosen = np.arange(max(len(split), 0 if split.inputs is None else len(split.inputs)))[indices]
    return split.loaded, random_crop(info.load_size, (info.height, info.width), seed, chosen, passes)


@dataclass(frozen=True)
class Batch:
    inputs: Tensor
    """(B, C, H, W) float32: -1 or 1 for labels (one-hot, "ignored" is the last channel), [-1, 1] for pictures, smaller by the scale of
    a degradation; (B, latent), normal, for a generator that takes noise; (B, 0) where there are none."""
    target: Tensor
    """(B, 3, H, W) float32 in [-1, 1]; belongs to the input in data of pairs only."""
    labels: Tensor | None
    """(B, H, W) int64: 0..K-1, and `info.ignore_index` for ignored."""
    classes: Tensor | None = None
    """(B,) int64: of the target pictures."""

    def part(self, images: slice) -> "Batch":
        labels, classes = (None if value is None else value[images] for value in (self.labels, self.classes))
        return Batch(self.inputs[images], self.target[images], labels, classes)


def batch(
    split: Split,
    indices: np.ndarray | slice,
    *,
    device: str | torch.device = "cpu",
    flips: np.ndarray | None = None,
    seed: int = 0,
    passes: np.ndarray | None = None,
) -> Batch:
    """The pairs at `indices`, of data in pairs; those where `flips` (B,) bool is True are mirrored left to right.

    `seed`, `passes` (B,): what a degradation's noise and the part of a picture that is shown are drawn from beside the picture's index;
    None: pass 0, which no training has, and the middle.
    """
    assert split.info.pairing == "pairs", split.info.layout
    source, crop = training_crop(split, indices, passes, seed)
    raw = pictures(source.targets, indices, device=device, flips=flips, crop=crop)
    labels = None if source.labels is None else _taken(source.labels, indices, device, flips, crop).long()
    if split.info.degrade.is_on:
        chosen = np.arange(len(split))[indices]
        inputs = to_float(
            degraded(
                raw, split.info.degrade, chosen, np.zeros_like(chosen) if passes is None else passes, seed
            )
        )
    elif labels is None:
        assert source.inputs is not None
        inputs = to_float(pictures(source.inputs, indices, device=device, flips=flips, crop=crop))
    else:
        channels = torch.arange(split.info.input_channels, device=labels.device)
        inputs = (labels[:, None] == channels[:, None, None]).float() * 2 - 1
    return Batch(inputs, to_float(raw), labels, classes_of(split, indices, device))


def classes_of(split: Split, indices: np.ndarray | slice, device: str | torch.device) -> Tensor | None:
    return (
        None
        if split.classes is None
        else torch.from_numpy(np.array(split.classes[indices])).to(device).long()
    )


def pictures(
    array: np.ndarray,
    indices: np.ndarray | slice,
    *,
    device: str | torch.device = "cpu",
    flips: np.ndarray | None = None,
    crop: Crop | None = None,
) -> Tensor:
    """uint8 (B, 3, H, W): those at `indices` of a split's targets or inputs."""
    return _taken(array, indices, device, flips, crop).permute(0, 3, 1, 2).contiguous()


def _taken(
    array: np.ndarray,
    indices: np.ndarray | slice,
    device: str | torch.device,
    flips: np.ndarray | None,
    crop: Crop | None,
) -> Tensor:
    chosen = np.array(array[indices]) if crop is None else crop.of(array[indices])
    if flips is not None:
        assert flips.shape == chosen.shape[:1] and flips.dtype == bool, (flips.shape, flips.dtype)
        chosen[flips] = chosen[flips, :, ::-1]
    return torch.from_numpy(chosen).to(device)


def to_float(values: Tensor) -> Tensor:
    """uint8 0..255 -> float32 [-1, 1]: x / 127.5 - 1, any shape."""
    assert values.dtype == torch.uint8, values.dtype
    return values.float() / 127.5 - 1


def to_uint8(values: Tensor) -> Tensor:
    """float, clamped to [-1, 1] -> uint8 0..255, rounded, any shape. The inverse of `to_float`."""
    return ((values.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def render_inputs(inputs: Tensor, info: DataInfo) -> np.ndarray:
    """Inputs (B, C, H, W) of a `Batch` as pictures to look at, uint8 (B, H, W, 3): ignored pixels are grey."""
    if not info.inputs_are_labels:
        return to_uint8(inputs).permute(0, 2, 3, 1).cpu().numpy()
    return np.array([*info.palette, IGNORED_COLOR], np.uint8)[inputs.argmax(1).cpu().numpy()]
