"""Trained networks as folders: `weights.safetensors`, and `meta.json` with the config and a digest.

Loading one runs no code of the folder.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.config import renamed
from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.paths import validated
from raydistill.data import DataInfo
from raydistill.errors import CheckpointError
from raydistill.models import GENERATORS, input_channels
from raydistill.models.networks import evaluator
from raydistill.models.tensor_files import load_safetensors
from raydistill.reading import parse_json, read_bytes, read_text

NETWORK_VERSION = 1
"""Version of the folder's format."""


def save(folder: Path, kind: str, module: nn.Module, config: Frozen) -> Stored:
    """Writes a network to `folder`.

    Args:
        folder: made if it is not there; files in it are overwritten.
        kind: what it is: "generator" or "evaluator".
        module: the network; its parameters and buffers are written.
        config: what it is built from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    sha256 = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    meta = {
        "version": NETWORK_VERSION,
        "kind": kind,
        "config": config.model_dump(mode="json"),
        "weights_sha256": sha256,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))
    return stored(folder)


def stored(folder: Path, *, kind: str | None = None) -> Stored:
    """The network that `save` wrote to `folder`, with its digest. Weights are not read.

    Args:
        folder: where it is.
        kind: what it must be, "generator" or "evaluator"; None: anything.

    Raises:
        CheckpointError: there is no network, or one of another kind.
    """
    meta = _read_meta(folder)
    if kind is not None and (its_kind := renamed.kind_now(meta["kind"])) != kind:
        raise CheckpointError(
            f"{folder}: this network is {_with_article(str(its_kind))}, needed is {_with_article(kind)}; "
            "give the folder of one"
        )
    return Stored(path=str(folder), digest=digest(meta))


def _with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def load(stored: Stored, info: DataInfo, device: torch.device) -> Any:
    """A network that `save` wrote, in eval mode and without gradients.

    On a CPU its weights stay in the file, memory-mapped, so that processes share them.

    Args:
        stored: where it is, and the digest that it must have.
        info: the data that it is used with.
        device: where it is put.

    Raises:
        CheckpointError: files are missing, damaged, or of another version or digest; or the weights are for
            data with another number of input channels.
    """
    meta, state = _read(stored)
    where = f"{stored.path}/meta.json"
    if renamed.kind_now(meta["kind"]) != "evaluator":
        return generator_for(config_of(meta["config"], where), state, info, device, stored.path)
    with torch.device("meta"):  # the weights are those of the file
        module = evaluator(validated(EvaluatorNetwork, meta["config"], where=where), info, 0)
    return _filled(module, state, info, stored.path).to(device).eval().requires_grad_(False)


def generator_for(
    config: Generator, state: dict[str, Tensor], info: DataInfo, device: torch.device, where: str
) -> nn.Module:
    """A generator with given weights for data of `info`, in eval mode and without gradients.

    Raises:
        CheckpointError: the weights are not those of this config for this data. The message says `where` they
            were.
    """
    with torch.device("meta"):  # so that no memory is taken for what the config says and the weights are not
        module = GENERATORS[config.family].build(config, info.input_channels)
    return _filled(module, state, info, where).to(device).eval().requires_grad_(False)


def _filled(module: nn.Module, state: dict[str, Tensor], info: DataInfo, where: str) -> nn.Module:
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{where}: does not fit data of {info.input_channels} input channels; "
            f"use those of its training ({reason})"
        ) from None
    return module


def generator_config(stored: Stored) -> Generator:
    """The config of a generator that `save` wrote.

    Weights are not read. Raises CheckpointError as `load` does.
    """
    return config_of(_read_meta(Path(stored.path))["config"], f"{stored.path}/meta.json")


def load_generator(stored: Stored) -> tuple[Generator, dict[str, Tensor]]:
    """Config and weights of a generator that `save` wrote, for any data.

    Raises CheckpointError as `load` does.
    """
    meta, state = _read(stored)
    return config_of(meta["config"], f"{stored.path}/meta.json"), state


def with_weights(config: Generator, state: dict[str, Tensor], where: str) -> nn.Module:
    """A generator with given weights, in eval mode and without gradients.

    Args:
        config: its config.
        state: its parameters and buffers by name, which also tell the number of input channels.
        where: what to call it in a message.

    Raises:
        CheckpointError: weights are missing, superfluous or of another shape.
    """
    try:
        with torch.device("meta"):
            module = GENERATORS[config.family].build(config, input_channels(config, state))
        module.load_state_dict(state, assign=True)
    except (RuntimeError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{where}: the weights are not those of its config ({' '.join(str(error).split())[:200]})"
        ) from None
    return module.eval().requires_grad_(False)


def _read(stored: Stored) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of `meta.json` and the weights."""
    folder = Path(stored.path)
    weights = folder / "weights.safetensors"
    meta = _read_meta(folder)
    if not weights.exists():
        raise CheckpointError(f"{weights} is missing; remove the folder to have the network trained again")
    try:
        sha256 = hashlib.sha256(read_bytes(weights)).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{weights}: cannot be read: {error.strerror}") from None
    if sha256 != meta["weights_sha256"] or digest(meta) != stored.digest:
        raise CheckpointError(
            f"{folder}: the weights are not the ones written (digest differs); "
            "remove the folder to have it trained again"
        )
    try:
        return meta, load_safetensors(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{weights}: not a safetensors file ({error})") from None


def config_of(values: Any, where: str) -> Generator:
    """A generator's config from JSON data.

    Raises:
        CheckpointError: it is of no known family. The message says `where` it was.
        ConfigError: a value is out of range.
    """
    family = values.get("family") if isinstance(values, dict) else None
    if not isinstance(family, str) or family not in GENERATORS:
        known = ", ".join(GENERATORS)
        raise CheckpointError(
            f"{where}: a generator of family {family!r}. Known: {known}; that of a plug-in needs its --plugin"
        )
    config: Generator = validated(GENERATORS[family].config, values, where=where)
    return config


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = parse_json(read_text(folder / "meta.json"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: not a readable network folder ({error}); remove it to have it trained again"
        ) from error
    if not isinstance(meta, dict) or meta.get("version") != NETWORK_VERSION:
        version = meta.get("version") if isinstance(meta, dict) else None
        raise CheckpointError(
            f"{folder}/meta.json: version {version}, this raydistill reads {NETWORK_VERSION}"
        )
    if missing := {"kind", "config", "weights_sha256"} - set(meta):
        raise CheckpointError(
            f"{folder}/meta.json: lacks {', '.join(sorted(missing))}; it is no network that raydistill wrote"
        )
    return meta
