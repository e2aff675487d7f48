"""A split of prepared data: its files, memory-mapped."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from raydistill.config.base import Stored
from raydistill.data.prepared import DataInfo, open_arrays, read_info
from raydistill.data.source import SplitName

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True)
class Split:
    """The memory-mapped arrays of one split, all uint8 but the classes.

    Labels and classes are not both there. Inputs that are degraded targets or one-hot labels are not stored.
    """

    targets: np.ndarray
    """(N, H, W, 3)"""
    labels: np.ndarray | None
    """(N, H, W): 0 to K - 1, and K for ignored pixels."""
    inputs: np.ndarray | None
    """(N, H, W, 3). For unpaired data (M, H, W, 3), and input i has nothing to do with target i."""
    info: DataInfo
    classes: np.ndarray | None = None
    """(N,) int32: 0 to len(info.picture_classes) - 1."""
    loaded: "Split | None" = None
    """The same split at its size on disk, if that is larger. The arrays above are then its middle."""

    def __len__(self) -> int:
        return len(self.targets)


def load_split(stored: Stored, split: SplitName) -> Split:
    """Opens the files of this split and no others. Raises StoreError where they are missing or damaged."""
    info = read_info(stored)
    arrays = open_arrays(Path(stored.path), split, info)
    on_disk = Split(
        targets=arrays["targets"],
        labels=arrays.get("labels"),
        inputs=arrays.get("inputs"),
        info=info,
        classes=arrays.get("classes"),
    )
    return with_middle(on_disk) if info.load_size is not None and split == "train" else on_disk


def with_middle(on_disk: Any) -> Any:
    """A split whose pictures are views of the middle of those on disk, which are its `loaded`.

    Args:
        on_disk: a `Split`, or `SplitTensors`; what comes back is the same.
    """
    arrays = {name: getattr(on_disk, name) for name in ("targets", "labels", "inputs")}
    views = {name: middle(each, on_disk.info) for name, each in arrays.items() if each is not None}
    return replace(on_disk, **views, loaded=on_disk)


def middle(array: Array, info: DataInfo) -> Array:
    """(N, h, w, ...) -> a view of the middle, (N, height, width, ...). Reads nothing."""
    top, left = (array.shape[1] - info.height) // 2, (array.shape[2] - info.width) // 2
    return array[:, top : top + info.height, left : left + info.width]
