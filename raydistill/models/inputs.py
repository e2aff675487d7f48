"""Model inputs: what generators get, in a training and in an evaluation. Label maps, pictures or noise.

The noise of an image is keyed by the image: by its number in the training, or by its index in the split in an
evaluation. There, all networks of all seeds get the same noise.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from raydistill.config.architectures import Generator
from raydistill.config.training import Training
from raydistill.data import Batch, DataInfo, Split, batch, noise, pictures, to_float
from raydistill.data.augment import SampleIndex, pass_numbers
from raydistill.data.batches import Pixels, channels_first, made, read, read_inputs
from raydistill.data.tensors import SplitTensors, tensors
from raydistill.distributed import Workers
from raydistill.models import GENERATORS

BATCH = 64
"""Images of a minibatch of an evaluation."""


def latent_size(config: Generator | None) -> int | None:
    """How many numbers a generator takes for a picture; None: it takes pictures, or there is no generator."""
    latent = None if config is None else GENERATORS[config.family].latent
    return None if latent is None else latent(config)


def trained_latent_size(training: Training) -> int | None:
    """`latent_size` of the generator that a training trains; None also where it trains none."""
    return latent_size(getattr(training, "generator", None))


def latents(
    seed: int, purpose: str, images: range | Tensor, latent: int, device: torch.device | None = None
) -> Tensor:
    """Standard normal noise (B, latent); each row is of an image of its own, see `raydistill.data.noise`.

    Args:
        purpose: what the noise is for; other purposes have other noise.
        images: numbers of the images, a tensor (B,) int64 or a range.
        latent: numbers for one picture.
        device: where the noise is made; None: where `images` are.
    """
    return noise.normal(noise.image_keys(seed, purpose, images, device), (latent,))


def num_inputs(split: Split | SplitTensors, latent: int | None) -> int:
    """How many pictures a generator makes for a split: one for each input, or for each real picture.

    `latent` is the `latent_size` of the generator.
    """
    if latent is None and split.info.pairing == "unpaired" and split.inputs is not None:
        return len(split.inputs)
    return len(split)


def repeats(info: DataInfo, latent: int | None) -> bool:
    """Whether an image has the same input in every pass: no noise, degradation or crop is drawn anew."""
    return latent is None and not info.degrade.is_on and info.load_size is None


# ---- training ----------------------------------------------------------------------------------------------


def inputs_of(split: SplitTensors, latent: int | None, seed: int, sample: SampleIndex) -> Tensor:
    """What a generator gets for these training images, on the device of the split: (B, C, H, W) in [-1, 1],
    or noise (B, latent).

    Args:
        split: the train split.
        latent: `latent_size` of the generator.
        seed: seed of the training.
        sample: which images; of unpaired data, which inputs.
    """
    if latent is not None:
        return latents(seed, "latent", sample.positions, latent)
    if split.info.pairing == "unpaired":
        return to_float(channels_first(read_training_inputs(split, sample, seed)))
    return made(read_training(split, sample, seed), split.info).inputs


def read_training(split: SplitTensors, sample: SampleIndex, seed: int, alone: bool = False) -> Pixels:
    """The targets of training images, with what belongs to them, see `read`."""
    passes = pass_numbers(sample.positions, len(split))
    return read(split, sample.indices, flips=sample.flips, seed=seed, passes=passes, alone=alone)


def read_training_inputs(split: SplitTensors, sample: SampleIndex, seed: int) -> Tensor:
    """The inputs of training images of unpaired data, uint8 (B, H, W, 3)."""
    passes = pass_numbers(sample.positions, split.num_inputs)
    return read_inputs(split, sample.indices, sample.flips, seed, passes)


# ---- evaluation --------------------------------------------------------------------------------------------


def evaluation_batch(split: Split, latent: int | None, indices: np.ndarray, device: torch.device) -> Batch:
    """The inputs at `indices` (B,), 0 to `num_inputs` - 1, and targets.

    Target i belongs to input i in paired data only; in other data it is the target at the same index, modulo
    their number. `latent` is the `latent_size` of the generator.
    """
    if latent is None and split.info.pairing == "pairs":
        return batch(split, indices, device=device)
    targets = _targets_alone(split, indices % len(split), device)
    if latent is not None:
        own = torch.from_numpy(indices).to(device)
        return replace(targets, inputs=latents(0, "latent/evaluation", own, latent))
    if split.info.pairing == "unpaired":
        assert split.inputs is not None
        return replace(targets, inputs=to_float(pictures(split.inputs, indices, device=device)))
    return targets


def _targets_alone(split: Split, indices: np.ndarray, device: torch.device) -> Batch:
    return made(read(tensors(split), torch.from_numpy(indices), alone=True).to(device), split.info)


def target_batches(
    split: Split, device: torch.device, workers: Workers, most: int | None = None
) -> Iterator[Batch]:
    """Yields this worker's part of a split's targets in order, in minibatches of at most `BATCH`.

    Of paired data each target has its input beside it.

    Args:
        most: how many of the targets there are at most for all workers, spread evenly; None: all.
    """
    number = len(split) if most is None else min(most, len(split))
    for positions in minibatches(workers.slice(number)):
        indices = positions * len(split) // number
        if split.info.pairing == "pairs":
            yield batch(split, indices, device=device)
        else:
            yield _targets_alone(split, indices, device)


def minibatches(part: slice) -> Iterator[np.ndarray]:
    """Yields the positions of a slice in order, at most `BATCH` at a time: (B,) int."""
    for start in range(part.start, part.stop, BATCH):
        yield np.arange(start, min(start + BATCH, part.stop))
