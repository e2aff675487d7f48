"""What generators are fed: label maps, pictures, degraded pictures, or noise, for training images and at an evaluation.

Everything belongs to an image: its noise is keyed by its number in the training, or by its place in the split at an evaluation, where
all networks of all seeds get the same.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.config.architectures import Generator
from raydistill.config.training import Training
from raydistill.data import Batch, Split, batch, pictures, to_float
from raydistill.data.augment import Crop
from raydistill.data.prepared import classes_of, training_crop
from raydistill.distributed import Workers
from raydistill.models import GENERATORS
from raydistill.seeds import torch_stream

BATCH = 64
"""Of an evaluation."""


class SampleIndex(NamedTuple):
    """Which pictures are shown, (B,) each."""

    indices: np.ndarray
    flips: np.ndarray
    """bool: which are mirrored."""
    positions: np.ndarray
    """The number of each in the whole training."""


def latent_size(config: Generator | None) -> int | None:
    """How many numbers a generator takes for a picture; None: it takes pictures, or there is no generator."""
    latent = None if config is None else GENERATORS[config.family].latent
    return None if latent is None else latent(config)


def trained_latent_size(training: Training) -> int | None:
    """The same of what a training trains."""
    return latent_size(getattr(training, "generator", None))


def latents(seed: int, purpose: str, numbers: np.ndarray, latent: int, device: torch.device) -> Tensor:
    """N(0, I) (B, latent): a stream for each number."""
    return torch.stack(
        [torch.randn(latent, generator=torch_stream(seed, purpose, int(number))) for number in numbers]
    ).to(device)


def inputs_of(
    split: Split, latent: int | None, seed: int, sample: SampleIndex, device: torch.device
) -> Tensor:
    """What a generator gets for training images."""
    if latent is not None:
        return latents(seed, "latent", sample.positions, latent, device)
    if split.info.pairing == "unpaired":
        source, crop = _cropped(split, sample, num_inputs(split, latent), seed)
        assert source.inputs is not None
        return to_float(pictures(source.inputs, sample.indices, device=device, flips=sample.flips, crop=crop))
    passes = 1 + sample.positions // len(split)
    return batch(split, sample.indices, device=device, flips=sample.flips, seed=seed, passes=passes).inputs


def training_batch(
    split: Split,
    latent: int | None,
    seed: int,
    given: SampleIndex,
    targets: SampleIndex,
    device: torch.device,
) -> Batch:
    """Inputs and real pictures. `given` and `targets` differ in unpaired data alone."""
    if latent is None and split.info.pairing == "pairs":
        passes = 1 + given.positions // len(split)
        return batch(split, given.indices, device=device, flips=given.flips, seed=seed, passes=passes)
    source, crop = _cropped(split, targets, len(split), seed)
    real = to_float(pictures(source.targets, targets.indices, device=device, flips=targets.flips, crop=crop))
    has_inputs = latent is not None or split.info.pairing == "unpaired"
    inputs = inputs_of(split, latent, seed, given, device) if has_inputs else real.new_empty(len(real), 0)
    return Batch(inputs, real, None, classes_of(split, targets.indices, device))


def _cropped(split: Split, sample: SampleIndex, count: int, seed: int) -> tuple[Split, Crop | None]:
    """`training_crop` for images of which there are `count`."""
    return training_crop(split, sample.indices, 1 + sample.positions // count, seed)


def num_inputs(split: Split, latent: int | None) -> int:
    """How many pictures a generator makes of a split: one an input, or as many as there are real ones."""
    return (
        len(split.inputs)
        if latent is None and split.info.pairing == "unpaired" and split.inputs is not None
        else len(split)
    )


def repeats(split: Split, latent: int | None) -> bool:
    """Whether an image has the same input in every pass."""
    return latent is None and not split.info.degrade.is_on and split.info.load_size is None


def evaluation_batch(split: Split, latent: int | None, indices: np.ndarray, device: torch.device) -> Batch:
    """Inputs at `indices`; the targets beside them are theirs in data of pairs only."""
    if latent is None and split.info.pairing == "pairs":
        return batch(split, indices, device=device)
    given = _targets_alone(split, indices % len(split), device)
    if latent is not None:
        return replace(given, inputs=latents(0, "latent/evaluation", indices, latent, device))
    if split.info.pairing == "unpaired":
        assert split.inputs is not None
        return replace(given, inputs=to_float(pictures(split.inputs, indices, device=device)))
    return given


def _targets_alone(split: Split, indices: np.ndarray, device: torch.device) -> Batch:
    real = to_float(pictures(split.targets, indices, device=device))
    return Batch(real.new_empty(len(real), 0), real, None, classes_of(split, indices, device))


def target_batches(split: Split, device: torch.device, workers: Workers) -> Iterator[Batch]:
    """This worker's part of a split's targets in order, a batch at a time, each with its own input where it has one."""
    part = workers.slice(len(split))
    for start in range(part.start, part.stop, BATCH):
        chosen = np.arange(start, min(start + BATCH, part.stop))
        yield (
            batch(split, chosen, device=device)
            if split.info.pairing == "pairs"
            else _targets_alone(split, chosen, device)
        )


def batches(
    split: Split, device: torch.device, workers: Workers, latent: int | None = None
) -> Iterator[Batch]:
    """This worker's part of a split's inputs in order, a batch at a time."""
    part = workers.slice(num_inputs(split, latent))
    for start in range(part.start, part.stop, BATCH):
        yield evaluation_batch(split, latent, np.arange(start, min(start + BATCH, part.stop)), device)
