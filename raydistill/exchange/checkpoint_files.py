"""Tensors out of other people's checkpoint files. Nothing in a file is ever executed.

PyTorch files are read with `weights_only`; the one class allowed beyond is argparse.Namespace, which rosinality's files hold. NVlabs'
pickles, which carry source code to be run, are read by an unpickler that knows a handful of names and turns their objects into inert ones.
"""

import argparse
import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from raydistill.errors import DataError

State = dict[str, Tensor]
_NETWORKS = ("g_ema", "G_ema", "params_ema", "netG", "g", "G", "generator", "state_dict", "params", "model")
"""Under which names a file keeps its generator; the averaged one first."""
_WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: Path) -> State:
    """The generator's tensors in a checkpoint file, on the CPU, without the prefixes that wrappers put before every name.

    Raises:
        DataError: no file, an empty or truncated one, one of no known kind, one that would have to run code, or one without tensors.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    content = path.read_bytes()
    if not content:
        raise DataError(f"{path}: the file is empty; download it again")
    if content.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: a git-lfs pointer, not the file itself; fetch it with git lfs pull")
    if content.lstrip()[:1] == b"<":
        raise DataError(f"{path}: a web page, not a checkpoint; download the file itself")
    if path.suffix == ".safetensors":
        state: Any = _safetensors(path)
    elif b"torch_utils.persistence" in content[:1_000_000]:
        state = _nvlabs(path, content)
    else:
        state = _torch(path, content)
    tensors = _generator_of(path, state)
    return {name: value.detach().clone() for name, value in _without_wrappers(tensors).items()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a whole safetensors file ({error}); download it again") from None


def _torch(path: Path, content: bytes) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        name = next(
            (line.split("GLOBAL ")[1].split()[0] for line in text.splitlines() if "GLOBAL " in line), ""
        )
        if name:
            raise DataError(
                f"{path}: refused, nothing was run: it asks for {name}. Save the plain state_dict of the network."
            ) from None
        raise DataError(f"{path}: not a whole PyTorch file; download it again") from None
    except Exception:  # whatever a damaged file makes the reader stumble over
        raise DataError(
            f"{path}: not a whole PyTorch file (.pth, .pt), safetensors file or NVlabs pickle; download it again"
        ) from None


def _generator_of(path: Path, found: Any) -> State:
    """The state dict inside whatever the file holds."""
    for _ in range(3):
        if not isinstance(found, Mapping):
            break
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if tensors and len(tensors) == len(found):
            return tensors
        inner = next((found[name] for name in _NETWORKS if isinstance(found.get(name), Mapping)), None)
        if inner is None and tensors and not any(isinstance(value, Mapping) for value in found.values()):
            return tensors
        if inner is None:
            held = ", ".join(map(str, list(found)[:8])) or "nothing"
            raise DataError(f"{path}: holds {held}; a generator is looked for under {', '.join(_NETWORKS)}")
        found = inner
    raise DataError(f"{path}: holds a {type(found).__name__}, needed is the state_dict of a generator")


def _without_wrappers(state: State) -> State:
    while wrapper := next(
        (prefix for prefix in _WRAPPERS if state and all(name.startswith(prefix) for name in state)), None
    ):
        state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


# ---- NVlabs' pickles ---------------------------------------------------------------------------------------


class _Inert:
    """Stands for an object of a class that is not looked at: what it was made of, and the state it was given."""

    def __init__(self, *args: Any) -> None:
        self.args, self.state = args, dict[str, Any]()

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Dict(dict[str, Any]):
    """NVlabs' EasyDict, without its attributes."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


def _module(meta: Any) -> _Inert:
    """In place of the function that would run the source in `meta` and build its class."""
    inert = _Inert()
    inert.__setstate__(meta.get("state") if isinstance(meta, dict) else None)
    return inert


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *ignored: Any
) -> Tensor:
    tensor: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)  # type: ignore[no-untyped-call]
    return tensor


def _parameter(data: Tensor, *ignored: Any) -> Tensor:
    return data


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("torch", "Size"): torch.Size,
    ("dnnlib.util", "EasyDict"): _Dict,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.startswith(("torch.nn.modules.", "numpy.")) or (module, name) == ("numpy", "dtype"):
            return _Inert
        raise _Refused(f"{module}.{name}")


class _Refused(Exception):
    """Its text: the name that a file asked for."""


def _nvlabs(path: Path, content: bytes) -> dict[str, State]:
    """Network name -> tensors by their dotted names."""
    try:
        found = _Reader(io.BytesIO(content)).load()
    except _Refused as error:
        raise DataError(
            f"{path}: refused, nothing was run: the pickle asks for {error}, which no network of NVlabs needs"
        ) from None
    except Exception:  # whatever a damaged file makes the reader stumble over
        raise DataError(f"{path}: not a whole NVlabs pickle; download it again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}, needed is a dictionary with G_ema")
    return {name: dict(_named(value)) for name, value in found.items() if isinstance(value, _Inert)}


def _named(module: _Inert, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, child in (module.state.get("_modules") or {}).items():
        if isinstance(child, _Inert):
            yield from _named(child, f"{prefix}{name}.")
