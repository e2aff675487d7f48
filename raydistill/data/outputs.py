"""The teacher's outputs on the training pictures: computed once per (data, teacher), and memory-mapped by every trial of a node.

Valid where inputs repeat, so not for noise or degraded pictures: the array holds the plain pictures and, where the data flips, the
mirrored ones. Larger than the limit, nothing is stored and the teacher runs in the loop. Both ways go through `compute` and give the
same bits.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raydistill.config.base import Stored
from raydistill.data import batch, load_split, pictures, to_float
from raydistill.data.prepared import Split
from raydistill.errors import StoreError

LIMIT_GB = 2.0


def chunk_of(batch_size: int) -> int:
    """Pictures a forward of the teacher for minibatches of `batch_size` (all workers together): at most 4, and no more than there are."""
    return min(4, batch_size)


def compute(teacher: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int) -> Tensor:
    """The teacher's outputs (B, 3, H, W) in [-1, 1] for inputs (B, ...), `chunk` a forward: the same bits for every B and order.

    Kernels are chosen by the shape, and another one rounds differently; so a chunk that is not full is filled up.
    """
    outputs = []
    with torch.no_grad():
        for part in inputs.split(chunk):
            filled = part[torch.arange(chunk, device=part.device) % len(part)] if len(part) < chunk else part
            outputs.append(teacher(filled)[: len(part)])
    return torch.cat(outputs).clamp(-1, 1)


def store_outputs(
    teacher: Stored,
    data: Stored,
    network: Callable[[Tensor], Tensor],
    flip: bool,
    device: torch.device,
    limit_gb: float = LIMIT_GB,
    *,
    chunk: int,
) -> bool:
    """Writes the outputs of `network`, which is `teacher`, beside it: float32 (1 or 2, N, 3, H, W), index [mirrored, input picture].

    Returns whether they fit the limit. Raises StoreError where the disk refuses.
    """
    split = load_split(data, "train")
    shape = _shape(split, flip)
    number = shape[1]
    if outputs_bytes(split, flip) > limit_gb * 2**30:
        return False
    final = _path(teacher, data, flip, chunk)
    temporary = final.with_suffix(f".{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
            for mirrored in range(shape[0]):
                for start in range(0, number, 64):
                    file.write(
                        _of_part(
                            network,
                            split,
                            np.arange(start, min(start + 64, number)),
                            bool(mirrored),
                            device,
                            chunk,
                        ).tobytes()
                    )
        os.replace(temporary, final)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{final.parent}: the teacher's outputs cannot be written there: {error}. Needed: {np.prod(shape) * 4e-9:.2f} GB. "
            "Free some space, or give --teacher-cache-gb 0."
        ) from None
    return True


def outputs_bytes(split: Split, flip: bool) -> int:
    """Of the stored outputs on this training split."""
    return 4 * math.prod(_shape(split, flip))


def _shape(split: Split, flip: bool) -> tuple[int, ...]:
    return (
        2 if flip else 1,
        len(split) if split.inputs is None else len(split.inputs),
        3,
        split.info.height,
        split.info.width,
    )


def _of_part(
    network: Callable[[Tensor], Tensor],
    split: Split,
    indices: np.ndarray,
    mirrored: bool,
    device: torch.device,
    chunk: int,
) -> np.ndarray:
    flips = np.full(len(indices), mirrored)
    if split.info.pairing == "unpaired":
        assert split.inputs is not None
        inputs = to_float(pictures(split.inputs, indices, device=device, flips=flips))
    else:
        inputs = batch(split, indices, device=device, flips=flips).inputs
    return compute(network, inputs, chunk).float().cpu().numpy()


def load_outputs(teacher: Stored, data: Stored, flip: bool, chunk: int) -> np.ndarray | None:
    """The outputs stored with this `chunk`, memory-mapped; None where there are none, or no mirrored ones though `flip`."""
    for mirrored in (False, True)[int(flip) :]:
        if (path := _path(teacher, data, mirrored, chunk)).exists():
            return np.load(path, mmap_mode="r")
    return None


def _path(teacher: Stored, data: Stored, flip: bool, chunk: int) -> Path:
    return Path(teacher.path) / f"outputs-{teacher.digest}-{data.digest}-by{chunk}{'-flipped' * flip}.npy"
