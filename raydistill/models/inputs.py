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
from raydistill.data import Batch, Split, batch, pictures, to_float
from raydistill.data.augment import Crop, SampleIndex, pass_numbers, training_crop
from raydistill.data.batches import class_ids
from raydistill.distributed import Workers
from raydistill.models import GENERATORS
from raydistill.seeds import torch_stream

BATCH = 64
"""Images of a minibatch of an evaluation."""


def latent_size(config: Generator | None) -> int | None:
    """How many numbers a generator takes for a picture; None: it takes pictures, or there is no generator."""
    latent = None if config is None else GENERATORS[config.family].latent
    return None if latent is None else latent(config)


def trained_latent_size(training: Training) -> int | None:
    """`latent_size` of the generator that a training trains; None also where it trains none."""
    return latent_size(getattr(training, "generator", None))


def latents(seed: int, purpose: str, numbers: np.ndarray, latent: int, device: torch.device) -> Tensor:
    """Standard normal noise (B, latent); each row comes from a random stream of its own.

    Args:
        seed: seed of the streams.
        purpose: part of the streams' names.
        numbers: (B,) int, the number of each image.
        latent: numbers for one picture.
        device: where the tensor is put; on the meta device, nothing is drawn.
    """
    if device.type == "meta":
        return torch.empty(len(numbers), latent, device=device)
    streams = [torch_stream(seed, purpose, int(number)) for number in numbers]
    return torch.stack([torch.randn(latent, generator=stream) for stream in streams]).to(device)


def num_inputs(split: Split, latent: int | None) -> int:
    """How many pictures a generator makes for a split: one for each input, or for each real picture.

    `latent` is the `latent_size` of the generator.
    """
    if latent is None and split.info.pairing == "unpaired" and split.inputs is not None:
        return len(split.inputs)
    return len(split)


def repeats(split: Split, latent: int | None) -> bool:
    """Whether an image has the same input in every pass: no noise, degradation or crop is drawn anew."""
    return latent is None and not split.info.degrade.is_on and split.info.load_size is None


# ---- training ----------------------------------------------------------------------------------------------


def inputs_of(
    split: Split, latent: int | None, seed: int, sample: SampleIndex, device: torch.device
) -> Tensor:
    """What a generator gets for these training images: (B, C, H, W) in [-1, 1], or noise (B, latent).

    Args:
        split: the train split.
        latent: `latent_size` of the generator.
        seed: seed of the training.
        sample: which images; of unpaired data, which inputs.
        device: where the tensor is put.
    """
    if latent is not None:
        return latents(seed, "latent", sample.positions, latent, device)
    if split.info.pairing == "unpaired":
        source, crop = _cropped(split, sample, num_inputs(split, latent), seed)
        assert source.inputs is not None
        return to_float(pictures(source.inputs, sample.indices, device=device, flips=sample.flips, crop=crop))
    return _pairs(split, sample, seed, device).inputs


def training_batch(
    split: Split,
    latent: int | None,
    seed: int,
    inputs: SampleIndex,
    targets: SampleIndex,
    device: torch.device,
) -> Batch:
    """Inputs and real pictures of training images.

    Args:
        split: the train split.
        latent: `latent_size` of the generator.
        seed: seed of the training.
        inputs: which inputs. The same as `targets`, but for unpaired data.
        targets: which real pictures.
        device: where the tensors are put.
    """
    if latent is None and split.info.pairing == "pairs":
        return _pairs(split, inputs, seed, device)
    source, crop = _cropped(split, targets, len(split), seed)
    real = to_float(pictures(source.targets, targets.indices, device=device, flips=targets.flips, crop=crop))
    if latent is not None or split.info.pairing == "unpaired":
        values = inputs_of(split, latent, seed, inputs, device)
    else:
        values = real.new_empty(len(real), 0)
    return Batch(values, real, None, class_ids(split, targets.indices, device))


def _pairs(split: Split, sample: SampleIndex, seed: int, device: torch.device) -> Batch:
    passes = pass_numbers(sample.positions, len(split))
    return batch(split, sample.indices, device=device, flips=sample.flips, seed=seed, passes=passes)


def _cropped(split: Split, sample: SampleIndex, count: int, seed: int) -> tuple[Split, Crop | None]:
    """`training_crop` of targets or of unpaired inputs, of which there are `count`."""
    return training_crop(split, sample.indices, pass_numbers(sample.positions, count), seed)


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
        return replace(targets, inputs=latents(0, "latent/evaluation", indices, latent, device))
    if split.info.pairing == "unpaired":
        assert split.inputs is not None
        return replace(targets, inputs=to_float(pictures(split.inputs, indices, device=device)))
    return targets


def _targets_alone(split: Split, indices: np.ndarray, device: torch.device) -> Batch:
    real = to_float(pictures(split.targets, indices, device=device))
    return Batch(real.new_empty(len(real), 0), real, None, class_ids(split, indices, device))


def target_batches(split: Split, device: torch.device, workers: Workers) -> Iterator[Batch]:
    """Yields this worker's part of a split's targets in order, in minibatches of at most `BATCH`.

    Of paired data each target has its input beside it.
    """
    for indices in minibatches(workers.slice(len(split))):
        if split.info.pairing == "pairs":
            yield batch(split, indices, device=device)
        else:
            yield _targets_alone(split, indices, device)


def minibatches(part: slice) -> Iterator[np.ndarray]:
    """Yields the positions of a slice in order, at most `BATCH` at a time: (B,) int."""
    for start in range(part.start, part.stop, BATCH):
        yield np.arange(start, min(start + BATCH, part.stop))
