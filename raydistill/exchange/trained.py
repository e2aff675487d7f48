"""Generators that were trained here: found by the folder of a trial, a checkpoint or a network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from raydistill.config.experiment import Job
from raydistill.data import DataInfo
from raydistill.errors import CheckpointError
from raydistill.evaluation.extractors import sha256_of
from raydistill.models import networks, saved
from raydistill.models.inputs import latent_size
from raydistill.training import checkpoint


class Trained(NamedTuple):
    """A generator of ours on disk."""

    path: Path
    job: Job | None
    """What it was trained by, where that is known."""
    load: Callable[[DataInfo, torch.device], tuple[Callable[[Tensor], Tensor], str, int | None]]
    """-> network, digest, and how many numbers it takes where that is noise"""


def trained_at(path: Path) -> Trained | None:
    """The generator at `path`: a network's folder, one that holds it as `network`, a trial's, or a checkpoint's. None: it is none of
    these. A sweep's trial 0000 is its teacher, whose network is in the store's cache."""
    if (path / "trial.json").is_file():
        job = _job_of(path)
        key = json.loads((path / "trial.json").read_text()).get(
            "trial_key", job.key
        )  # of an older version's job, too
        for folder in (path / "network", path.absolute().parents[3] / "cache" / "teacher" / key / "network"):
            if (folder / "meta.json").is_file():
                return Trained(folder, job, _finished(folder))
        if (newest := checkpoint.newest(path)) is not None:
            return Trained(newest, job, _interrupted(newest, job))
        raise CheckpointError(f"{path}: this trial has no network and no checkpoint yet")
    if (path / "optimizers.pt").is_file():
        job = _job_of(path.parent)
        return Trained(path, job, _interrupted(path, job))
    if (path / "meta.json").is_file():
        return Trained(
            path, _job_of(path.parent) if (path.parent / "trial.json").is_file() else None, _finished(path)
        )
    return trained_at(path / "network") if (path / "network" / "meta.json").is_file() else None


def _job_of(trial: Path) -> Job:
    try:
        return Job.model_validate(json.loads((trial / "trial.json").read_text())["job"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{trial / 'trial.json'}: not the trial of a network that this raydistill reads: {reason}"
        ) from None


def _finished(
    folder: Path,
) -> Callable[[DataInfo, torch.device], tuple[Callable[[Tensor], Tensor], str, int | None]]:
    def load(info: DataInfo, device: torch.device) -> tuple[Callable[[Tensor], Tensor], str, int | None]:
        stored = saved.stored(folder, kind="generator")
        return saved.load(stored, info, device), stored.digest, latent_size(saved.generator_config(stored))

    return load


def _interrupted(
    folder: Path, job: Job
) -> Callable[[DataInfo, torch.device], tuple[Callable[[Tensor], Tensor], str, int | None]]:
    """The averaged generator of a checkpoint, where the job averages."""
    file = folder / ("average.safetensors" if job.training.ema_nimg else "generator.safetensors")

    def load(info: DataInfo, device: torch.device) -> tuple[Callable[[Tensor], Tensor], str, int | None]:
        config = getattr(job.training, "generator", None)
        if config is None:
            raise CheckpointError(
                f"{folder}: of a {job.training.recipe}, which generates no pictures; give a generator's"
            )
        network = networks.generator(config, info, 0)
        network.load_state_dict(load_file(file))
        return network.to(device).eval().requires_grad_(False), sha256_of(file)[:16], latent_size(config)

    return load
