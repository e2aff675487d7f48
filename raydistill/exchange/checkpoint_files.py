"""Tensors out of the checkpoint files of other projects. Nothing in a file is ever executed.

PyTorch files are read with `weights_only`. One more class is allowed, argparse.Namespace, which rosinality's
files hold. NVlabs' pickles carry source code that is to be run. They are read by an unpickler that knows a
few names and makes inert objects of all others.
"""

import argparse
import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from raydistill.errors import DataError
from raydistill.models.tensor_files import load_safetensors, load_torch, require_tensors
from raydistill.reading import UnusableFile, read_bytes

State = dict[str, Tensor]
"""Parameters and buffers by name."""
_NETWORKS = (
    *("g_ema", "G_ema", "params_ema", "netG_ema", "generator_ema", "model_ema", "ema"),
    *("netG", "g", "G", "generator", "state_dict", "params", "model"),
)
"""Under which names files keep their generators. The first one counts, so averaged ones are before others."""
WHICH = "--network NAME, or --teacher-network NAME of a sweep"
"""How a person says which network of a file is meant."""
_MOST_SHOWN = 8
"""Names of networks in a message."""
_DEEPEST = 4
"""Dictionaries inside of each other that are looked into."""
_MOST_MODULES = 10_000
"""Modules of a network in an NVlabs pickle; StyleGAN2 for 1024 pixels has 68."""
_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that PyTorch's wrappers of a module put before all names."""


def read_weights(path: Path, network: str | None = None) -> State:
    """The tensors of the generator in a checkpoint file, on the CPU, without the prefixes of wrappers.

    Args:
        path: the file.
        network: which of its networks: a name in its dictionary, or what the names of the tensors begin with,
            up to a dot. None: the one that stands under a name that generators have.

    Raises:
        DataError: there is no such file; or it is empty, truncated, of no known kind, holds no tensors, holds
            several networks or not the named one, claims more than `reading.MOST_BYTES`, or could be read
            only by running code.
    """
    try:
        return _read_weights(path, network)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(
            f"{path}: refused, {error.strerror}; give the checkpoint file of a generator"
        ) from None


def _read_weights(path: Path, network: str | None) -> State:
    content = read_bytes(path)
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
        state = _torch(content)
    inner = _generator_of(path, state) if network is None else _network_of(path, state, network)
    tensors = _without_wrappers(inner)
    for name, value in tensors.items():
        try:
            require_tensors([value])
        except UnusableFile as error:
            raise UnusableFile(f"{name}: {error.strerror}") from None
    require_tensors(tensors.values())
    return {name: value.detach().clone() for name, value in tensors.items()}


def _safetensors(path: Path) -> State:
    try:
        return load_safetensors(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a whole safetensors file ({error}); download it again") from None


def _torch(content: bytes) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return load_torch(content)


def _generator_of(path: Path, content: Any) -> State:
    """The state dict inside of what a file holds, at most two dictionaries deep."""
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors and len(tensors) == len(content):
            return tensors
        inner = next((content[name] for name in _NETWORKS if isinstance(content.get(name), Mapping)), None)
        if inner is None and tensors and not any(isinstance(value, Mapping) for value in content.values()):
            return tensors
        if inner is None and (tensors := _all_tensors(content)):
            return tensors  # which of them are the generator, their names say
        if inner is None:
            names = ", ".join(map(str, list(content)[:8])) or "nothing"
            raise DataError(f"{path}: holds {names}; a generator is looked for under {', '.join(_NETWORKS)}")
        content = inner
    raise DataError(f"{path}: holds a {type(content).__name__}, needed is the state_dict of a generator")


def _network_of(path: Path, content: Any, network: str) -> State:
    """The state dict of the network of this name, at most two dictionaries deep.

    Where tensors of several networks stand in one dictionary, a name is what theirs begin with.
    """
    names: list[str] = []
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        if isinstance(content.get(network), Mapping):
            return _generator_of(path, content[network])
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if network and (parts := _below(tensors, network)):
            return parts
        names += [*_networks_in(content), *by_first_part(tensors)]
        content = next((content[name] for name in _NETWORKS if isinstance(content.get(name), Mapping)), None)
    shown = ", ".join(names[:_MOST_SHOWN]) + (" ..." if len(names) > _MOST_SHOWN else "")
    raise DataError(f"{path}: holds no network {network!r}; it holds {shown or 'none'}")


def _all_tensors(content: Mapping[Any, Any], place: str = "", depth: int = 0) -> State:
    """The tensors of dictionaries in dictionaries, by where they stand, without those of optimizers."""
    found: State = {}
    for name, value in content.items():
        if not isinstance(name, str) or name.lower().startswith(("opt", "lr_", "scheduler")):
            continue
        if isinstance(value, Tensor):
            found[f"{place}{name}"] = value
        elif isinstance(value, Mapping) and depth < _DEEPEST:
            found |= _all_tensors(value, f"{place}{name}.", depth + 1)
    return found


def _networks_in(content: Mapping[Any, Any]) -> list[str]:
    """The names under which a dictionary has state dicts: itself or in a dictionary of a known name."""
    return [name for name, value in content.items() if isinstance(name, str) and _has_tensors(value)]


def _has_tensors(value: Any) -> bool:
    for _ in range(2):
        if not isinstance(value, Mapping):
            return False
        if any(isinstance(each, Tensor) for each in value.values()):
            return True
        value = next((value[name] for name in _NETWORKS if name in value), None)
    return False


def by_first_part(state: State) -> dict[str, State]:
    """The tensors by what their names begin with, up to the first dot, and without that."""
    parts: dict[str, State] = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = value
    return parts


def _below(state: State, place: str) -> State:
    """The tensors whose names begin with this place, behind wrappers or not, and without it."""
    wrappers = r"(?:(?:module|_orig_mod)\.)*"
    parts = rf"\.{wrappers}".join(map(re.escape, place.split(".")))
    pattern = re.compile(rf"{wrappers}{parts}\.(.+)")
    return {match[1]: value for name, value in state.items() if (match := pattern.fullmatch(name))}


def several_networks(path: Path, names: Iterable[str]) -> DataError:
    """The refusal of a file with several networks."""
    return DataError(f"{path}: holds several networks: {', '.join(names)}. Name one of them: {WHICH}")


def _without_wrappers(state: State) -> State:
    """The same tensors, without the prefixes that all names have because of wrappers."""
    while state:
        wrapper = next((each for each in _WRAPPERS if all(name.startswith(each) for name in state)), None)
        if wrapper is None:
            break
        state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


# ---- NVlabs' pickles ---------------------------------------------------------------------------------------


class _Inert:
    """In place of an object of any class: it keeps arguments and state, and does nothing with them."""

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
    """In place of NVlabs' function, which runs the source code in `meta` and makes an object of its class."""
    inert = _Inert()
    inert.__setstate__(meta.get("state") if isinstance(meta, dict) else None)
    return inert


def _storage(content: bytes) -> Any:
    """In place of PyTorch's function, which would unpickle anything."""
    return load_torch(content)


def _tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *ignored: Any
) -> Tensor:
    rebuild: Callable[..., Tensor] = torch._utils._rebuild_tensor
    return rebuild(storage, offset, size, stride)


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
"""(module, name) in a pickle -> what it stands for. All other names are refused, or are inert objects."""


class _Reader(pickle.Unpickler):
    """Reads a pickle without importing anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.startswith(("torch.nn.modules.", "numpy.")) or (module, name) == ("numpy", "dtype"):
            return _Inert
        raise _Refused(f"{module}.{name}")


class _Refused(Exception):
    """Raised for a name that a file must not ask for, which is its text."""


def _nvlabs(path: Path, content: bytes) -> dict[str, State]:
    """Network name -> its tensors by their dotted names."""
    try:
        _require_short_memo(content)
        networks = _Reader(io.BytesIO(content)).load()
        if isinstance(networks, dict):
            return {name: _tensors(value) for name, value in networks.items() if isinstance(value, _Inert)}
    except UnusableFile:
        raise
    except _Refused as error:
        raise DataError(
            f"{path}: refused, nothing was run: the pickle asks for {error}, which no network of NVlabs needs"
        ) from None
    except Exception:  # a damaged file may make the reader raise anything
        raise DataError(f"{path}: not a whole NVlabs pickle; download it again") from None
    raise DataError(f"{path}: holds a {type(networks).__name__}, needed is a dictionary with G_ema")


def _require_short_memo(content: bytes) -> None:
    """Raises ValueError where a pickle numbers an object beyond its own size: each number takes memory."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise ValueError(f"an object has the number {argument:,}")


def _tensors(network: _Inert) -> dict[str, Tensor]:
    """The parameters and buffers of a network by their dotted names.

    Raises OSError where it has too many modules: modules that hold each other have no end.
    """
    tensors, modules, num_modules = dict[str, Tensor](), [("", network)], 0
    while modules:
        prefix, module = modules.pop()
        num_modules += 1
        if num_modules > _MOST_MODULES:
            raise UnusableFile(f"a network of more than {_MOST_MODULES:,} modules")
        for kind in ("_parameters", "_buffers"):
            for name, value in (module.state.get(kind) or {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{prefix}{name}"] = value
        for name, child in (module.state.get("_modules") or {}).items():
            if isinstance(child, _Inert):
                modules.append((f"{prefix}{name}.", child))
    return tensors
