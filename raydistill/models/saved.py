"""Trained networks as folders: `weights.safetensors`, and `meta.json` with the config and a digest.

Loading one runs no code of the folder.
"""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.config import renamed
from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.features import FeatureNetworkConfig
from raydistill.config.paths import validated
from raydistill.data import DataInfo
from raydistill.errors import CheckpointError
from raydistill.models import GENERATORS, input_channels
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator
from raydistill.models.features import FeatureNetwork, TrainedTaps, read_vgg16
from raydistill.models.networks import evaluator
from raydistill.models.tensor_files import load_safetensors, sha256_of
from raydistill.reading import file_hash, parse_json, read_text
from raydistill.records.files import write_atomic, write_json_atomic

Config = TypeVar("Config", bound=Frozen)
NETWORK_VERSION = 1
"""Version of the folder's format."""
_AGAIN = (
    "one of a sweep is made again by the sweep's command with --resume, one of retrain or evaluator train "
    "by the same command; import or copy any other again"
)
"""What to do about a damaged network. `trials.run_job.perform` writes it again."""


def save(folder: Path, kind: str, module: nn.Module, config: Frozen) -> Stored:
    """Writes a network to `folder`. It is on disk, beyond a power cut, when this returns.

    Args:
        folder: made if it is not there; files in it are overwritten.
        kind: what it is: "generator", "evaluator", "discriminator" or "features".
        module: the network; its parameters and buffers are written.
        config: what it is built from.
    """
    return save_state(folder, kind, module.state_dict(), config)


def save_state(folder: Path, kind: str, state: Mapping[str, Tensor], config: Frozen) -> Stored:
    """As `save`, of a network whose parameters and buffers are given by name."""
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomic(folder / "weights.safetensors", partial(_write_weights, state))
    meta = {
        "version": NETWORK_VERSION,
        "kind": kind,
        "config": config.model_dump(mode="json"),
        "weights_sha256": file_hash(folder / "weights.safetensors", most=None),
    }
    write_json_atomic(folder / "meta.json", meta)
    return stored(folder)


def copied(stored: Stored, folder: Path) -> Stored:
    """A copy of a network in `folder`, file by file. Whoever loads it finds damage by its digest.

    Raises:
        CheckpointError: the network is not there.
        StoreError: the copy cannot be written.
    """
    for name in ("weights.safetensors", "meta.json"):  # in the order of `save`
        if not (source := Path(stored.path) / name).is_file():
            raise CheckpointError(f"{source} is missing; {_AGAIN}")
        write_atomic(folder / name, partial(shutil.copyfile, source))
    return Stored(path=str(folder), digest=stored.digest)


def _write_weights(state: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(state, path)
    except SafetensorError as error:  # a full disk
        raise OSError(str(error)) from error


def is_whole(stored: Stored) -> bool:
    """Whether a folder holds the network that `save` wrote there, with this digest."""
    try:
        _read_weights_of(stored)
    except CheckpointError:
        return False
    return True


def stored(folder: Path, *, kind: str | None = None) -> Stored:
    """The network that `save` wrote to `folder`, with its digest. Weights are not read.

    Args:
        folder: where it is.
        kind: what it must be, "generator", "evaluator", "discriminator" or "features"; None: anything.

    Raises:
        CheckpointError: there is no network, or one of another kind.
    """
    meta = _read_meta(folder)
    if kind is not None:
        _require_kind(meta, kind, folder)
    return Stored(path=str(folder), digest=digest(meta))


def _require_kind(meta: dict[str, Any], kind: str, folder: Path) -> None:
    """Raises CheckpointError where a network is of another kind."""
    if (its_kind := renamed.kind_now(meta["kind"])) != kind:
        raise CheckpointError(
            f"{folder}: this network is {_with_article(str(its_kind))}, needed is {_with_article(kind)}; "
            "give the folder of one"
        )


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


def load_discriminator(stored: Stored, kind: type[Config]) -> tuple[Config, dict[str, Tensor]]:
    """Config and weights of a discriminator that `save` wrote.

    Args:
        stored: where it is, and the digest that it must have.
        kind: the class of its config.

    Raises:
        CheckpointError: as in `load`, or the network is no discriminator.
        ConfigError: its config is of another class.
    """
    meta, state = _read(stored)
    _require_kind(meta, "discriminator", Path(stored.path))
    return validated(kind, meta["config"], where=f"{stored.path}/meta.json"), state


def load_evaluator(stored: Stored) -> PixelEvaluator | PictureEvaluator:
    """An evaluator that `save` wrote, in eval mode and without gradients: its weights say what it predicts.

    Raises CheckpointError as `load` does.
    """
    meta, state = _read(stored)
    config = validated(EvaluatorNetwork, meta["config"], where=f"{stored.path}/meta.json")
    try:
        head = state["head.weight"]
        kind = PixelEvaluator if head.dim() == 4 else PictureEvaluator
        with torch.device("meta"):
            module: PixelEvaluator | PictureEvaluator = kind(config, len(head))
        module.load_state_dict(state, assign=True)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{stored.path}: the weights are not those of its config ({reason})") from None
    return module.eval().requires_grad_(False)


def evaluator_config(stored: Stored) -> EvaluatorNetwork:
    """The config of an evaluator that `save` wrote. Raises CheckpointError as `load` does."""
    meta, _ = _read_weights_of(stored)
    return validated(EvaluatorNetwork, meta["config"], where=f"{stored.path}/meta.json")


def load_features(stored: Stored, device: torch.device | None = None) -> FeatureNetwork:
    """A feature network, frozen and in eval mode: one that `save` wrote, or VGG16 where `stored` is a file.

    Args:
        stored: where it is, and its digest; of a file the SHA-256 of its content.
        device: where it is put; None: the CPU.

    Raises:
        CheckpointError: a folder's network is missing, damaged, or no feature network; a file is not the one
            of the digest.
        DataError: a file cannot be read, or has the weights of another network.
    """
    path = Path(stored.path)
    if path.is_dir():
        return _trained_features(stored).to(device).eval().requires_grad_(False)
    if sha256_of(path) != stored.digest:
        raise CheckpointError(
            f"{path}: not the file that was given as --features (digest differs); remove it, and give the "
            "same command with --resume"
        )
    return read_vgg16(path).to(device)


def _trained_features(stored: Stored) -> TrainedTaps:
    meta, state = _read(stored)
    if (kind := renamed.kind_now(meta["kind"])) != "features":
        raise CheckpointError(
            f"{stored.path}: this network is {_with_article(str(kind))}, needed is a feature network; give "
            "the folder of one"
        )
    config = validated(FeatureNetworkConfig, meta["config"], where=f"{stored.path}/meta.json")
    with torch.device("meta"):
        module = TrainedTaps(config)
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{stored.path}: the weights are not those of its config ({reason})") from None
    return module


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
    meta, weights = _read_weights_of(stored)
    try:
        return meta, load_safetensors(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{weights}: not a safetensors file ({error}); {_AGAIN}") from None


def _read_weights_of(stored: Stored) -> tuple[dict[str, Any], Path]:
    """The content of `meta.json`, and the file of the weights, which is the one that was written."""
    folder = Path(stored.path)
    meta, weights = _read_meta(folder), folder / "weights.safetensors"
    if not weights.exists():
        raise CheckpointError(f"{weights} is missing; {_AGAIN}")
    try:
        sha256 = file_hash(weights)
    except OSError as error:
        raise CheckpointError(f"{weights}: cannot be read: {error.strerror}; {_AGAIN}") from None
    if sha256 != meta["weights_sha256"] or digest(meta) != stored.digest:
        raise CheckpointError(f"{folder}: the weights are not the ones written (digest differs); {_AGAIN}")
    return meta, weights


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
    if not folder.exists():
        raise CheckpointError(
            f"{folder}: this network is not here: copy the folder that it lies in, too "
            f"(what trials share is in the results folder's cache); {_AGAIN}"
        )
    try:
        meta = parse_json(read_text(folder / "meta.json"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a readable network folder ({error}); {_AGAIN}") from error
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
