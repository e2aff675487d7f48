"""The teacher's outputs on the training pictures, computed once beside the teacher and memory-mapped by every trial.

Valid where inputs repeat: the array holds the plain pictures and, where the data flips, the mirrored ones. Larger than the limit,
nothing is stored and the teacher runs in the loop.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raydistill.data import batch
from raydistill.data.prepare import Split
from raydistill.results import write_json_atomic

LIMIT_GB = 2.0
_BATCH = 64


def store_outputs(
    folder: Path, teacher_digest: str, teacher: Callable[[Tensor], Tensor], split: Split, flip: bool, device: torch.device
) -> bool:
    """Writes `outputs.npy`, float32 (1 or 2, N, 3, H, W), index [mirrored, image]. Returns whether it fits the limit."""
    shape = (2 if flip else 1, len(split), 3, split.info.height, split.info.width)
    if np.prod(shape) * 4 > LIMIT_GB * 2**30:
        return False
    for stale in folder.glob("outputs.*.npy"):
        stale.unlink()
    temporary = folder / f"outputs.{os.getpid()}.npy"
    array = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
    for mirrored in range(shape[0]):
        for start in range(0, len(split), _BATCH):
            indices = np.arange(start, min(start + _BATCH, len(split)))
            part = batch(split, indices, device=device, flips=np.full(len(indices), bool(mirrored)))
            with torch.no_grad():
                array[mirrored, indices] = teacher(part.inputs).cpu().numpy()
    array.flush()
    os.replace(temporary, folder / "outputs.npy")
    write_json_atomic(folder / "outputs.json", {"teacher": teacher_digest, "flip": flip})
    return True


def load_outputs(folder: Path, teacher_digest: str, flip: bool) -> np.ndarray | None:
    """The stored outputs of this very teacher, memory-mapped; None where there are none, or no mirrored ones though `flip`."""
    record = folder / "outputs.json"
    if not record.exists():
        return None
    stored = json.loads(record.read_text())
    if stored["teacher"] != teacher_digest or (flip and not stored["flip"]):
        return None
    return np.load(folder / "outputs.npy", mmap_mode="r")
