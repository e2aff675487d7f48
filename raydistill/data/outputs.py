"""The teacher's outputs on the training pictures, computed once and then memory-mapped by all trials.

They are float32, or rounded to 8 bits (`teacher.outputs`), which takes a quarter of the space.

This is valid where an image has the same input in every pass, so not for noise, degraded pictures or random
crops. The array holds the outputs for all inputs and, if the training mirrors pictures, for all mirrored
ones. Where it would be larger than a limit, nothing is stored and the teacher runs in the training loop. Both
ways go through `compute` and give the same bits.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raydistill.config.base import Stored
from raydistill.config.training import OutputKind
from raydistill.data import DataInfo, Split, batch, load_split, pictures, read_info, to_float, to_uint8
from raydistill.data.prepared import open_array
from raydistill.errors import StoreError, say_notice
from raydistill.records import owners
from raydistill.records.files import to_disk

LIMIT_GB = 2.0
"""Default of the largest size of stored outputs, in GiB."""
_TYPES: dict[OutputKind, str] = {"float32": "<f4", "uint8": "|u1"}
_AT_A_TIME = 64
"""Inputs that are held in memory at a time while outputs are stored."""


def chunk_of(batch_size: int) -> int:
    """How many pictures one forward of the teacher takes: at most 4, and not more than a minibatch has.

    `batch_size` is that of all workers together.
    """
    return min(4, batch_size)


def compute(teacher: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int) -> Tensor:
    """The teacher's outputs, (B, 3, H, W) in [-1, 1], the same bits whatever the B and the order of inputs.

    Kernels are chosen by the shapes of tensors, and another kernel rounds differently. So every forward has
    the same number of pictures, and the last part is filled up with copies.

    Args:
        teacher: from inputs to pictures (B, 3, H, W).
        inputs: (B, ...), as the teacher takes them.
        chunk: pictures of one forward, see `chunk_of`.
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
    kind: OutputKind = "float32",
) -> bool:
    """Writes the teacher's outputs into its folder: `kind` (1 or 2, N, 3, H, W), index [mirrored, input].

    Args:
        teacher: folder of the teacher.
        data: prepared data; the outputs are for the inputs of its train split.
        network: the teacher as a function of inputs.
        flip: whether outputs for mirrored inputs are written too.
        device: where the teacher runs.
        limit_gb: if the outputs are larger, in GiB, nothing is written.
        chunk: pictures of one forward, see `chunk_of`.
        kind: type of the values that are written; of uint8, `to_uint8` of the outputs.

    Returns:
        Whether they were written.

    Raises:
        StoreError: the disk refuses.
    """
    split = load_split(data, "train")
    if outputs_bytes(split.info, flip, kind) > limit_gb * 2**30:
        return False
    shape = output_shape(split.info, flip)
    final = _path(teacher, data, flip, chunk, kind)
    temporary = final.with_name(f".{final.stem}.{owners.mark()}")
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": _TYPES[kind], "fortran_order": False, "shape": shape}
            )
            for mirrored in (False, True)[: shape[0]]:
                for start in range(0, shape[1], _AT_A_TIME):
                    indices = np.arange(start, min(start + _AT_A_TIME, shape[1]))
                    inputs = _inputs(split, indices, mirrored, device)
                    outputs = compute(network, inputs, chunk).float()
                    outputs = to_uint8(outputs) if kind == "uint8" else outputs
                    file.write(outputs.cpu().numpy().tobytes())
        to_disk(temporary)
        os.replace(temporary, final)
        to_disk(final.parent)
    except OSError as error:
        owners.remove(temporary)
        raise StoreError(
            f"{final.parent}: the teacher's outputs cannot be written there: {error}. "
            f"Needed: {outputs_bytes(split.info, flip, kind) * 1e-9:.2f} GB. "
            "Free some space, or give --teacher-cache-gb 0."
        ) from None
    return True


def outputs_bytes(info: DataInfo, flip: bool, kind: OutputKind) -> int:
    """Size in bytes of the stored outputs for the training pictures, with those for mirrored ones if
    `flip`.
    """
    return np.dtype(_TYPES[kind]).itemsize * math.prod(output_shape(info, flip))


def output_shape(info: DataInfo, flip: bool) -> tuple[int, ...]:
    """Shape of the stored outputs for the training pictures, (1 or 2, N, 3, H, W), index [mirrored,
    input].
    """
    return 2 if flip else 1, (info.input_counts or info.counts)["train"], 3, info.height, info.width


def as_floats(stored: Tensor) -> Tensor:
    """Stored outputs, of either type, as float32 in [-1, 1]."""
    return to_float(stored) if stored.dtype == torch.uint8 else stored


def _inputs(split: Split, indices: np.ndarray, mirrored: bool, device: torch.device) -> Tensor:
    flips = np.full(len(indices), mirrored)
    if split.info.pairing == "unpaired":
        assert split.inputs is not None
        return to_float(pictures(split.inputs, indices, device=device, flips=flips))
    return batch(split, indices, device=device, flips=flips).inputs


def load_outputs(
    teacher: Stored, data: Stored, flip: bool, chunk: int, kind: OutputKind = "float32"
) -> np.ndarray | None:
    """The stored outputs, memory-mapped: `kind` (1 or 2, N, 3, H, W), index [mirrored, input].

    None where those that are needed are not stored, or not whole: a line says so then.

    Args:
        teacher: folder of the teacher.
        data: prepared data that the outputs belong to.
        flip: whether outputs for mirrored inputs are needed.
        chunk: pictures of one forward when they were computed; another number may have given other bits.
    """
    for mirrored in (False, True)[int(flip) :]:
        if (path := _path(teacher, data, mirrored, chunk, kind)).exists():
            try:
                outputs = open_array(path, _TYPES[kind], output_shape(read_info(data), mirrored))
            except (OSError, ValueError) as error:
                say_notice(f"{path}: missing or damaged ({error}); the teacher computes it again")
                continue
            return outputs
    return None


def _path(teacher: Stored, data: Stored, flip: bool, chunk: int, kind: OutputKind) -> Path:
    ends = f"by{chunk}{'-flipped' * flip}{'-uint8' * (kind == 'uint8')}"
    return Path(teacher.path) / f"outputs-{teacher.digest}-{data.digest}-{ends}.npy"
