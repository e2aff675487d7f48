"""Generators that raydistill has trained: the folder of a trial, of a checkpoint or of a network."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from raydistill.config.experiment import Job
from raydistill.data import DataInfo
from raydistill.errors import CheckpointError
from raydistill.evaluation.extractors import sha256_of
from raydistill.models import saved
from raydistill.models.inputs import latent_size
from raydistill.models.tensor_files import load_safetensors
from raydistill.reading import parse_json, read_text
from raydistill.records.stored_paths import store_of
from raydistill.records.trials import read_job
from raydistill.training import checkpoint


class EvalGenerator(NamedTuple):
    """A generator in eval mode, loaded for the data that it is evaluated on."""

    network: Callable[[Tensor], Tensor]
    """Inputs (B, C, H, W), or noise (B, latent) -> pictures (B, 3, H, W), without gradients."""
    digest: str
    latent: int | None
    """How many numbers it takes for a picture; None: it takes pictures."""


class TrainedGenerator(NamedTuple):
    """A generator on disk that raydistill has trained."""

    path: Path
    """The folder of its network, or of a checkpoint where its training has not ended."""
    job: Job | None
    """The job that trained it; None: not known."""

    @property
    def is_checkpoint(self) -> bool:
        """Whether `path` is a checkpoint."""
        return (self.path / "optimizers.pt").is_file()

    def load(self, info: DataInfo, device: torch.device) -> EvalGenerator:
        """The generator for data of `info`, on `device`.

        Raises:
            CheckpointError: the folder is no generator's or damaged, or the generator is for other data.
        """
        if self.is_checkpoint:
            return self._load_checkpoint(info, device)
        stored = saved.stored(self.path, kind="generator")
        latent = latent_size(saved.generator_config(stored))
        return EvalGenerator(saved.load(stored, info, device), stored.digest, latent)

    def _load_checkpoint(self, info: DataInfo, device: torch.device) -> EvalGenerator:
        assert self.job is not None
        config = getattr(self.job.training, "generator", None)
        if config is None:
            raise CheckpointError(
                f"{self.path}: of a {self.job.training.recipe}, which generates no pictures; "
                "give a generator's"
            )
        file = generator_file_of(self.path, self.job)
        try:
            state = load_safetensors(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{file}: missing or damaged ({error}); give the trial's folder, {self.path.parent}: "
                "the newest whole checkpoint is taken there"
            ) from None
        network = saved.generator_for(config, state, info, device, str(self.path))
        return EvalGenerator(network, sha256_of(file)[:16], latent_size(config))


def generator_file_of(checkpoint_folder: Path, job: Job) -> Path:
    """The file of a checkpoint with the generator's weights: the averaged ones, where the job averages."""
    name = checkpoint.evaluated_network(job.training, "generator")
    return checkpoint_folder / f"{name}.safetensors"


def find_generator(path: Path) -> TrainedGenerator | None:
    """The generator at `path`; None where there is none.

    Args:
        path: the folder of a network, one that holds a network as `network`, or the folder of a trial or a
            checkpoint. A sweep's trial 0000 is its teacher, whose network is in the store's cache.

    Raises:
        CheckpointError: a trial has no network and no checkpoint yet, or its trial.json cannot be read.
    """
    if (path / "trial.json").is_file():
        return _generator_of_trial(path)
    if (path / "optimizers.pt").is_file():
        return TrainedGenerator(path, _job_of(path.parent))
    if (path / "meta.json").is_file():
        has_trial = (path.parent / "trial.json").is_file()
        return TrainedGenerator(path, _job_of(path.parent) if has_trial else None)
    return find_generator(path / "network") if (path / "network" / "meta.json").is_file() else None


def _generator_of_trial(trial: Path) -> TrainedGenerator:
    job = _job_of(trial)
    # the key that the trial recorded: that of an older version's job is another one now
    content = parse_json(read_text(trial / "trial.json"))
    key = content.get("trial_key", job.key)
    cached = store_of(trial.absolute().parents[1]) / "cache" / "teacher" / key / "network"
    for folder in (trial / "network", cached):
        if (folder / "meta.json").is_file():
            return TrainedGenerator(folder, job)
    if (newest := checkpoint.newest(trial)) is not None:
        return TrainedGenerator(newest, job)
    if content.get("role") == "teacher":
        raise CheckpointError(
            f"{trial}: the sweep's teacher; its network is not here, in {cached}: copy that folder, too"
        )
    raise CheckpointError(f"{trial}: this trial has no network and no checkpoint yet")


def _job_of(trial: Path) -> Job:
    """The job of a trial. Raises CheckpointError where its trial.json cannot be read."""
    try:
        return read_job(trial)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{trial / 'trial.json'}: not the trial of a network that this raydistill reads: {reason}"
        ) from None
