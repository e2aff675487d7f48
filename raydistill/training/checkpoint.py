"""Checkpoints: everything that moves in a training, in one folder.

A checkpoint depends neither on the number of workers nor on how they share networks. `checkpoint-<nimg>/`
holds `meta.json` (version, job key, nimg, history, SHA-256 of each file), `<network>.safetensors`, and
`optimizers.pt` (tensors only, read with weights_only). It is written beside its place and then renamed, so a
checkpoint is whole or absent.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from raydistill.distributed import State, restore_state
from raydistill.errors import CheckpointError, StoreError

CHECKPOINT_VERSION = 1
"""A checkpoint of another version is refused."""


class Progress(NamedTuple):
    """How far a training has come."""

    nimg: int
    """Images seen, over all workers."""
    history: list[dict[str, Any]]
    """All evaluations so far."""


def save(folder: Path, job_key: str, progress: Progress, state: State) -> None:
    """Writes `folder/checkpoint-<nimg>`, then removes older ones.

    Raises:
        StoreError: the disk refuses; the checkpoint before is still there.
    """
    final = folder / f"checkpoint-{progress.nimg:012d}"
    temporary = folder / f"tmp-{final.name}-{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, tensors in state.networks.items():
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                temporary / f"{name}.safetensors",
            )
        torch.save(state.optimizers, temporary / "optimizers.pt")
        hashes = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
        meta = {"version": CHECKPOINT_VERSION, "job_key": job_key, **progress._asdict(), "sha256": hashes}
        (temporary / "meta.json").write_text(json.dumps(meta))
        for path in [*temporary.iterdir(), temporary]:
            _to_disk(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _to_disk(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(
            f"{folder}: the checkpoint could not be written ({error}); free space or choose another --store"
        ) from error
    for path in folder.glob("checkpoint-*"):
        if path != final:
            shutil.rmtree(path, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """The checkpoint in a training's folder that has seen the most images; None: there is none."""
    return max(folder.glob("checkpoint-*"), default=None)


def load(
    folder: Path, job_key: str, networks: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
) -> Progress:
    """Restores the newest checkpoint into networks and optimizers of any sharding.

    Returns its progress, or Progress(0, []) where there is no checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged, of another version or of another job.
    """
    if (path := newest(folder)) is None:
        return Progress(0, [])
    try:
        meta = json.loads((path / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}/meta.json: not readable ({error}); remove the folder to start this trial again"
        ) from error
    if meta.get("version") != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path}: version {meta.get('version')}, this raydistill reads {CHECKPOINT_VERSION}"
        )
    if meta["job_key"] != job_key:
        raise CheckpointError(
            f"{path}: belongs to job {meta['job_key']}, not {job_key}; the config or the data changed"
        )
    for name, expected in meta["sha256"].items():
        if not (path / name).exists() or _sha256(path / name) != expected:
            raise CheckpointError(
                f"{path / name}: missing or damaged (sha256 differs); remove {path} to start this trial again"
            )
    optimizer_states = torch.load(path / "optimizers.pt", weights_only=True, map_location="cpu")
    restore_state(
        State({name: load_file(path / f"{name}.safetensors") for name in networks}, optimizer_states),
        networks,
        optimizers,
    )
    return Progress(meta["nimg"], meta["history"])


def read_history(folder: Path) -> list[dict[str, Any]]:
    """All evaluations that the newest checkpoint knows; empty: there is no checkpoint.

    The training may still run, so the newest checkpoint may be replaced while this one is read.
    """
    while (path := newest(folder)) is not None:
        try:
            history: list[dict[str, Any]] = json.loads((path / "meta.json").read_text())["history"]
            return history
        except FileNotFoundError:
            if path.exists():
                raise
    return []


def _to_disk(path: Path) -> None:
    """Flushes a file or folder, so that a power cut after the rename finds it whole."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    """In hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
