"""The decoded copy of a data set on disk: what it holds, and its arrays, memory-mapped. `storing` writes it.

    CACHE/<fingerprint>/   info.json
                           {train,val,test}_targets.npy   uint8 (N, H, W, 3)
        and perhaps        {split}_labels.npy             uint8 (N, H, W)
                           {split}_inputs.npy             uint8 (N, H, W, 3)
                    or     {split}_classes.npy            int32 (N,)

The fingerprint changes when the source may have changed. The digest in info.json is that of the content.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from raydistill.config.base import REMARK, Frozen, Stored
from raydistill.config.bounds import NumPictures, Side
from raydistill.config.data import DataSet, Degradation, LabelInputs
from raydistill.data.label_maps import Color
from raydistill.data.source import Layout, Pairing, Source, SplitName, pairing_of, remarks_on
from raydistill.errors import DataError, StoreError
from raydistill.reading import read_text, regular

INFO = "info.json"
_AGAIN = "`raydistill plan` with the same --space, --data, --set and --store decodes the pictures again"
"""What to do about damaged data: see `storing.store`."""
_COPIED = f"copy the folder cache of the sweep's results folder, too; or {_AGAIN}"
"""What to do where a sweep was copied without its data."""


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
    label_inputs: Annotated[LabelInputs, Field(exclude_if=lambda form: form == "one_hot")] = "one_hot"
    """How label maps become inputs, see `config.data.DataSet`."""
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
    def num_train_pictures(self) -> int:
        """Training pictures that an epoch passes over: of unpaired data, those of the larger domain."""
        return max(counts["train"] for counts in (self.counts, self.input_counts or self.counts))

    @property
    def has_labels(self) -> bool:
        """Whether every target has a label map."""
        return self.num_classes is not None

    @property
    def has_input_pictures(self) -> bool:
        """Whether every target has a picture on disk that is its input."""
        return self.layout == "aligned" or self.label_inputs == "colors"

    @property
    def inputs_are_labels(self) -> bool:
        """Whether generators get the label maps as inputs, a channel for each class."""
        return self.has_labels and not self.degrade.is_on and not self.has_input_pictures

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of an input, in pixels."""
        return self.height // self.degrade.scale, self.width // self.degrade.scale

    @property
    def input_channels(self) -> int:
        """3 for pictures; for label maps one for each class, and one more if any pixel can be ignored."""
        if self.num_classes is None or not self.inputs_are_labels:
            return 3
        return self.num_classes + (self.ignore_index is not None)


# ---- what data are -----------------------------------------------------------------------------------------


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
        label_inputs=config.label_inputs if source.layout != "aligned" else "one_hot",
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


def array_names(info: DataInfo) -> list[str]:
    """The arrays that a split has on disk, one row for each of its targets."""
    is_there = {
        "targets": True,
        "labels": info.has_labels,
        "inputs": info.has_input_pictures,
        "classes": bool(info.picture_classes),
    }
    return [name for name in is_there if is_there[name]]


def formats_of(info: DataInfo, split: SplitName) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Array of a split -> type and shape of a row."""
    size = info.load_size if split == "train" and info.load_size else (info.height, info.width)
    return {
        "targets": ("|u1", (*size, 3)),
        "inputs": ("|u1", (*size, 3)),
        "labels": ("|u1", size),
        "classes": ("<i4", ()),
    }


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
    if not folder.exists():
        raise StoreError(f"{folder}: the prepared data are not here: {_COPIED}")
    try:
        return DataInfo.model_validate_json(read_text(folder / INFO))
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / INFO}: missing, damaged or not from this version. {_AGAIN}") from error


def has_pictures(folder: Path) -> bool:
    """Whether a folder has pictures of prepared data, and not only what a copied sweep says of them."""
    return any(folder.glob("*.npy"))


def damage_of(folder: Path) -> str | None:
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
    for name in array_names(info) + (["inputs"] if info.layout == "unpaired" else []):
        count, (dtype, row) = info.counts[split], formats_of(info, split)[name]
        if name == "inputs" and info.input_counts is not None:
            count = info.input_counts[split]
        shapes[name] = (dtype, (count, *row))
    return shapes


def open_arrays(folder: Path, split: SplitName, info: DataInfo) -> dict[str, np.ndarray]:
    """The arrays of one split by their kind. Raises StoreError where one is missing or damaged."""
    if not has_pictures(folder):
        raise StoreError(f"{folder}: says what the data are; the pictures are not here: {_COPIED}")
    arrays = {}
    for name, (dtype, shape) in array_shapes(info, split).items():
        path = folder / f"{split}_{name}.npy"
        try:
            arrays[name] = open_array(path, dtype, shape)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: missing or damaged: {error}. {_AGAIN}") from error
    return arrays
