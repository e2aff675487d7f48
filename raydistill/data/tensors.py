"""A split as tensors on one device: the memory-mapped files themselves on a CPU, a copy of them elsewhere."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydistill.data.mapped import Split, with_middle
from raydistill.data.prepared import DataInfo, array_shapes
from raydistill.data.source import SplitName

_NAMES = ("targets", "labels", "inputs", "classes")


@dataclass(frozen=True)
class SplitTensors:
    """The arrays of a `Split`, with the same names and shapes, on one device."""

    targets: Tensor
    """uint8 (N, H, W, 3)"""
    labels: Tensor | None
    """uint8 (N, H, W)"""
    inputs: Tensor | None
    """uint8 (N, H, W, 3), of unpaired data (M, H, W, 3)"""
    classes: Tensor | None
    """int32 (N,)"""
    info: DataInfo
    loaded: "SplitTensors | None" = None
    """The same split at its size on disk, if that is larger. The tensors above are then views of its
    middle.
    """

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """Where the pictures lie."""
        return self.targets.device

    def filled(self, device: str | torch.device) -> "SplitTensors":
        """The same shapes on a device, of zeros."""
        if self.loaded is not None:
            return with_middle(self.loaded.filled(device))
        zeros = {
            name: None if value is None else torch.zeros(value.shape, dtype=value.dtype, device=device)
            for name, value in ((name, getattr(self, name)) for name in _NAMES)
        }
        return SplitTensors(**zeros, info=self.info)  # type: ignore[arg-type]

    @property
    def num_inputs(self) -> int:
        """How many inputs there are: of unpaired data their own number, otherwise one for each target."""
        return len(self.targets if self.inputs is None else self.inputs)


def tensors(split: Split, device: str | torch.device = "cpu") -> SplitTensors:
    """The split on a device. On a CPU nothing is read; elsewhere everything that is on disk is copied
    once.
    """
    if split.loaded is not None:
        return with_middle(tensors(split.loaded, device))
    held: dict[str, Tensor | None] = {}
    for name in _NAMES:
        array: np.ndarray | None = getattr(split, name)
        held[name] = None if array is None else torch.from_numpy(array).to(device)
    return SplitTensors(**held, info=split.info)  # type: ignore[arg-type]


def without_values(info: DataInfo, split: SplitName = "train") -> SplitTensors:
    """The split on the meta device, where it has shapes and no pictures."""
    held: dict[str, Tensor | None] = dict.fromkeys(_NAMES)
    for name, (dtype, shape) in array_shapes(info, split).items():
        held[name] = torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device="meta")
    on_disk = SplitTensors(**held, info=info)  # type: ignore[arg-type]
    return with_middle(on_disk) if split == "train" and info.load_size else on_disk


def num_bytes(info: DataInfo, split: SplitName = "train") -> int:
    """Bytes of the split's decoded pictures, labels and classes."""
    held = without_values(info, split)
    own = held.loaded or held
    values = [getattr(own, name) for name in _NAMES]
    return sum(value.nbytes for value in values if isinstance(value, Tensor))
