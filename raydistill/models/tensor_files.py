"""Files of tensors that a user names: safetensors, and PyTorch's own. Nothing in them is run.

What their tensors claim is compared with `reading.MOST_BYTES` before they are copied: a view of one number
with strides of 0 may claim terabytes.
"""

import io
import math
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from raydistill.data.files import LFS_POINTER
from raydistill.errors import DataError
from raydistill.reading import UnusableFile, file_hash, read_bytes, regular, require_claim

Network = TypeVar("Network", bound=nn.Module)


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, which never claim more than the file's size.

    Raises:
        OSError: there is no such file, or none that is read.
        SafetensorError: it is damaged.
    """
    return load_file(regular(path))


def load_torch(content: bytes) -> Any:
    """What a PyTorch file (.pth, .pt) with this content holds, read with `weights_only`, on the CPU.

    Raises:
        OSError: it is damaged, would run code, or what is in it claims more bytes than it has (PyTorch packs
            nothing).
    """
    stream = io.BytesIO(content)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            if (claimed := sum(entry.file_size for entry in archive.infolist())) > len(content):
                raise UnusableFile(f"what is packed in it claims {claimed:,} bytes, it has {len(content):,}")
    stream.seek(0)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may make the reader raise anything
        # PyTorch's own message advises to run the code; it names what was asked for behind "GLOBAL"
        asked = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        raise UnusableFile(
            f"nothing was run: it asks for {asked[1]}. Save the plain state_dict of the network"
            if asked
            else "not a whole PyTorch file (.pth, .pt); download it again"
        ) from None


def require_tensors(tensors: Iterable[Tensor]) -> None:
    """Raises OSError where tensors are no dense arrays in memory, or claim more than `reading.MOST_BYTES`."""
    claimed = 0
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise UnusableFile(f"it has a tensor that is not dense: {tensor.layout}, {tensor.device.type}")
        claimed += math.prod(tensor.shape) * tensor.element_size()
    require_claim(claimed, "what its tensors hold")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex.

    Raises:
        DataError: the file cannot be read, or is a git-LFS pointer instead of the file.
    """
    try:
        with regular(path).open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise DataError(
                    f"{path}: this is a git-LFS pointer, not weights. Run `git lfs pull` where the file lies."
                )
        return file_hash(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}. "
            "Give the path of a file of weights; nothing is downloaded."
        ) from None


def load_weights(path: Path, network: Network, what: str, ignore: str | None = None) -> Network:
    """`network` in eval mode, without gradients, with the weights of a .pth or .safetensors file.

    The names in the file must be exactly the network's, but for the prefix `module.` of a DataParallel.
    Those that begin with `ignore` are left out.

    Raises:
        DataError: the file is damaged, would run code when it is read, or is of another network. The message
            calls the network `what`.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_safetensors(path)
        else:
            state = load_torch(read_bytes(path))
            if not isinstance(state, dict):
                raise UnusableFile(f"it holds a {type(state).__name__}, no state_dict")
            require_tensors(value for value in state.values() if isinstance(value, Tensor))
        state = {name.removeprefix("module."): value for name, value in state.items()}
        known = {name: value for name, value in state.items() if not (ignore and name.startswith(ignore))}
        _fill(network, known)
    except Exception as error:  # a file that is damaged ends in many kinds of errors
        reason = error.strerror if isinstance(error, UnusableFile) else " ".join(str(error).split())[:300]
        raise DataError(
            f"{path}: these are not the weights of {what}: {reason}. Give the file as it was published."
        ) from None
    return network.eval().requires_grad_(False)


def _fill(network: nn.Module, state: dict[str, Any]) -> None:
    """Loads a state_dict. Raises UnusableFile where its names or shapes are not the network's."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UnusableFile(_difference(network.state_dict(), state) or str(error)) from None


def _difference(own: dict[str, Any], state: dict[str, Any]) -> str | None:
    """The first of what keeps a state_dict from being a network's own; None: names and shapes are."""
    for name, value in own.items():
        there = getattr(state.get(name, value), "shape", None)
        if there != value.shape:
            found = "no tensor" if there is None else f"of the shape {tuple(there)}"
            return f"{name} is {found}, of the network {tuple(value.shape)}"
    if missing := [name for name in own if name not in state]:
        return f"tensors that are missing: {len(missing)} of {len(own)}, first {missing[0]}"
    others = [name for name in state if name not in own]
    return f"tensors that the network has not: {len(others)}, first {others[0]}" if others else None
