"""What networks say of real pictures, computed once in a store and shared by all that score there."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raydistill.distributed import Workers, gather_rows
from raydistill.records import remote
from raydistill.records.files import write_atomic


def shared(
    names: Sequence[Path | None],
    compute: Callable[[list[int]], list[Tensor]],
    device: torch.device,
    workers: Workers,
) -> list[Tensor]:
    """Numbers (N, D) for each name: read from its file, or computed and written. Collective.

    A file that is damaged is computed and written again, and so is one that a worker does not see.

    Args:
        names: Files without their ends; None: computed every time.
        compute: Positions in `names` -> their numbers, by all workers together.
        device: What computes them: those of a CPU and of a GPU differ in their last digits.
    """
    files = [name and name.with_name(f"{name.name}-{device.type}.npz") for name in names]
    found = [None if file is None else _read(file) for file in files]
    is_seen = gather_rows(torch.tensor([[each is not None for each in found]]), workers).all(0).tolist()
    missing = [index for index, is_there in enumerate(is_seen) if not is_there]
    computed = dict(zip(missing, compute(missing))) if missing else {}
    values = []
    for index, (file, value) in enumerate(zip(files, found)):
        if index in computed:
            value = computed[index]
            if file is not None and workers.is_main:
                _write(file, value)
        assert value is not None
        values.append(value)
    return values


def _read(file: Path) -> Tensor | None:
    """The numbers in a file; None: there is none, or it is damaged."""
    remote.pull(file)
    try:
        with np.load(file, allow_pickle=False) as content:  # its checksums are verified
            return torch.from_numpy(content["numbers"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _write(file: Path, numbers: Tensor) -> None:
    """Writes numbers whole or not at all. Raises StoreError where that is not possible."""
    write_atomic(file, lambda temporary: np.savez(temporary, numbers=numbers.cpu().numpy()))
    remote.push(file)
