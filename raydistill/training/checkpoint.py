"""Checkpoints: everything that moves in a training, in one folder.

A checkpoint depends neither on the number of workers nor on how they share networks. `checkpoint-<nimg>/`
holds `meta.json` (version, job key, nimg, history, SHA-256 of each file), `<network>.safetensors`, and
`optimizers.pt` (tensors only, read with weights_only). It is written beside its place and then renamed, so a
checkpoint is whole or absent, whatever is killed. A disk may damage one all the same, so the last two are
kept, and the newest whole one counts.
"""

import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from raydistill.config.training import Training
from raydistill.distributed import State, restore_state
from raydistill.errors import CheckpointError, StoreError, say_notice
from raydistill.reading import file_hash, parse_json, read_text
from raydistill.records import owners
from raydistill.records.files import to_disk
from raydistill.records.trials import Evaluation

CHECKPOINT_VERSION = 1
"""A checkpoint of another version is refused."""
KEPT = 2
"""So many checkpoints of a training are kept."""
_NAME = "checkpoint-{:012d}"
_OPTIMIZERS = "optimizers.pt"
AVERAGE = "average"
"""Name of the moving average among the networks of a checkpoint."""
Say = Callable[[str], None]
"""Is given a line about a damaged checkpoint."""


class Progress(NamedTuple):
    """How far a training has come."""

    nimg: int
    """Images seen, over all workers."""
    history: list[Evaluation]
    """All evaluations so far."""


class _Meta(BaseModel):
    """The content of `meta.json`."""

    model_config = ConfigDict(frozen=True, strict=True)

    version: int
    job_key: str
    nimg: NonNegativeInt
    history: list[Evaluation]
    sha256: dict[str, str]
    """File -> digest."""


class _Damaged(Exception):
    """What is wrong with a checkpoint, and in which file."""


def evaluated_network(training: Training, network: str) -> str:
    """Which network of a checkpoint is scored and kept: the average, where there is one, else `network`."""
    return AVERAGE if training.ema_nimg else network


def save(folder: Path, job_key: str, progress: Progress, state: State) -> None:
    """Writes `folder/checkpoint-<nimg>`, then removes all others but the one before it.

    Raises:
        StoreError: the disk refuses; the checkpoints before are still there.
    """
    final = folder / _NAME.format(progress.nimg)
    temporary = folder / f"tmp-{final.name}-{owners.mark()}"
    try:
        temporary.mkdir(parents=True)
        for name, tensors in state.networks.items():
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                temporary / f"{name}.safetensors",
            )
        torch.save(state.optimizers, temporary / _OPTIMIZERS)
        hashes = {path.name: file_hash(path, most=None) for path in sorted(temporary.iterdir())}
        history = [evaluation.to_json() for evaluation in progress.history]
        meta = {"version": CHECKPOINT_VERSION, "job_key": job_key, "nimg": progress.nimg}
        meta |= {"history": history, "sha256": hashes}
        (temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        for path in [*temporary.iterdir(), temporary]:
            to_disk(path)
        _remove(final)
        os.replace(temporary, final)
        to_disk(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        owners.remove(temporary)
        raise StoreError(
            f"{folder}: the checkpoint could not be written ({error}); free space or choose another --store"
        ) from error
    newest_first = _all(folder)
    before = [path for path in newest_first if path.name < final.name]
    for path in set(newest_first) - {final, *before[: KEPT - 1]}:  # a newer one was damaged, see `newest`
        _remove(path)


def newest(folder: Path, say: Say = say_notice) -> Path | None:
    """The whole checkpoint in a training's folder that has seen the most images; None: there is none.

    Args:
        say: is given a line for each newer one that is damaged.

    Raises:
        CheckpointError: it is of another version.
    """
    found = _newest_whole(folder, say)
    return None if found is None else found[0]


def load(
    folder: Path,
    job_key: str,
    networks: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    say: Say = say_notice,
) -> Progress:
    """Restores the newest whole checkpoint into networks and optimizers of any sharding.

    Returns its progress, or Progress(0, []) where there is none: a training whose checkpoints are all
    damaged starts again, and comes to the same result.

    Args:
        say: is given a line for each newer one that is damaged.

    Raises:
        CheckpointError: the checkpoint is of another version or of another job.
    """
    if (found := _newest_whole(folder, say, [f"{name}.safetensors" for name in networks])) is None:
        return Progress(0, [])
    path, meta = found
    if meta.job_key != job_key:
        raise CheckpointError(
            f"{path}: belongs to job {meta.job_key}, not {job_key}; the config or the data changed. "
            f"Remove {folder}/checkpoint-*: the training then starts from its beginning"
        )
    restore_state(
        State(
            {name: load_file(path / f"{name}.safetensors") for name in networks},
            torch.load(path / _OPTIMIZERS, weights_only=True, map_location="cpu"),
        ),
        networks,
        optimizers,
    )
    return Progress(meta.nimg, meta.history)


def read_history(folder: Path, say: Say = say_notice) -> list[Evaluation]:
    """All evaluations that the newest whole checkpoint knows; empty: there is none.

    The training may still run, so checkpoints may come and go while this one is read.

    Args:
        say: is given a line for each newer one that is damaged.

    Raises:
        CheckpointError: the checkpoint is of another version.
    """
    found = _newest_whole(folder, say)
    return [] if found is None else found[1].history


def _newest_whole(folder: Path, say: Say, needed: Collection[str] = ()) -> tuple[Path, _Meta] | None:
    """The newest checkpoint that is not damaged, with its `meta.json`. `needed`: files that it must have."""
    damaged: list[str] = []
    paths = _all(folder)
    while paths:
        path = paths.pop(0)
        try:
            meta = _whole(path, {*needed, _OPTIMIZERS})
        except _Damaged as error:
            if not path.is_dir():  # it was replaced by newer ones meanwhile
                damaged, paths = [], _all(folder)
                continue
            damaged.append(str(error))
            continue
        for each in damaged:
            say(f"{each}; going on from {path.name}, the one before")
        return path, meta
    for each in damaged:
        say(f"{each}; no whole checkpoint is left, so the training starts from its beginning")
    return None


def _whole(path: Path, needed: Collection[str]) -> _Meta:
    """The content of a checkpoint's `meta.json`. `needed`: files that the checkpoint must have.

    Raises:
        _Damaged: a file is missing or damaged.
        CheckpointError: it is of another version.
    """
    try:
        content = parse_json(read_text(path / "meta.json"))
        version = content.get("version") if isinstance(content, dict) else None
        if isinstance(version, int) and version != CHECKPOINT_VERSION:
            raise CheckpointError(
                f"{path}: version {version}, this raydistill reads {CHECKPOINT_VERSION}; "
                f"use the version that wrote it, or remove {path.parent}/checkpoint-*: the training then "
                "starts from its beginning"
            )
        meta = _Meta.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise _Damaged(f"{path}/meta.json: damaged ({where}: {first['msg']})") from error
    except (OSError, ValueError) as error:
        raise _Damaged(f"{path}/meta.json: missing or damaged ({error})") from error
    if missing := sorted({*needed} - {*meta.sha256}):
        raise _Damaged(f"{path}/meta.json: damaged (sha256: no {missing[0]})")
    if path.name != _NAME.format(meta.nimg):
        raise _Damaged(f"{path}/meta.json: damaged (nimg: {meta.nimg}, which is not that of the folder)")
    for name, expected in meta.sha256.items():
        try:
            is_same = file_hash(path / name, most=None) == expected
        except OSError:
            is_same = False
        if not is_same:
            raise _Damaged(f"{path / name}: missing or damaged (sha256 differs)")
    return meta


def _all(folder: Path) -> list[Path]:
    """The checkpoints in a training's folder, whole or not, the newest first."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in paths if re.fullmatch(r"checkpoint-\d{12}", path.name) and path.is_dir()]
    return sorted(found, reverse=True)


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint, under another name first: who looks finds it whole or not at all."""
    if checkpoint.exists():
        gone = checkpoint.with_name(f"tmp-{checkpoint.name}-{owners.mark()}")
        os.replace(checkpoint, gone)
        owners.remove(gone)
