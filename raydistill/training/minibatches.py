"""The minibatches of a training: its pictures lie on the device, or are read ahead and copied to it.

Where the pictures, and the teacher's stored outputs, take a small part of a GPU's memory, they are copied
there once and a minibatch is an index. Otherwise a thread reads the next minibatch while this one is
computed, and a single copy from pinned memory, which does not wait, brings it to the device. On a CPU the
memory-mapped files are read as they are. All ways give the same bits.
"""

import functools
import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.config.training import Training
from raydistill.data import Split
from raydistill.data.augment import Order, SampleIndex
from raydistill.data.batches import Pixels, made
from raydistill.data.outputs import as_floats
from raydistill.data.tensors import SplitTensors, num_bytes, tensors
from raydistill.distributed import Workers
from raydistill.models.inputs import latents, read_training, read_training_inputs, trained_latent_size
from raydistill.training.steps import Step

_ALIGNED = 16
"""Bytes at whose multiples the parts of a copied minibatch begin."""


class TrainingData(NamedTuple):
    """What the minibatches of a training are made of; all of it lies on one device."""

    split: SplitTensors
    outputs: Tensor | None = None
    """The teacher's stored outputs, float32 or uint8 (1 or 2, N, 3, H, W), index [mirrored, input]; None:
    none.
    """
    recorded: Tensor | None = None
    """What teachers beside the student gave to this worker, float32, a row for each minibatch; None: they
    train, or there are none.
    """

    def outputs_of(self, sample: SampleIndex) -> Tensor:
        """The teacher's stored outputs for training images, (B, 3, H, W), of the type in which they are
        stored.
        """
        assert self.outputs is not None
        flips = sample.flips.long() if len(self.outputs) > 1 else torch.zeros_like(sample.indices)
        return self.outputs[flips, sample.indices]


def held(
    split: Split,
    outputs: Tensor | None,
    training: Training,
    device: torch.device,
    recorded: Tensor | None = None,
) -> TrainingData:
    """The data of a training, on the GPU where `lie_on_device` says so, otherwise on the CPU.

    Args:
        split: the train split.
        outputs: the teacher's stored outputs, memory-mapped; None: there are none.
        recorded: this worker's rows of `training.recording`, memory-mapped; None: none are read.
    """
    on_cpu = TrainingData(tensors(split), outputs, recorded)
    if device.type != "cuda":
        return on_cpu
    beside = [each for each in (outputs, recorded) if each is not None]
    needed = num_bytes(split.info) + sum(each.nbytes for each in beside)
    total = torch.cuda.get_device_properties(device).total_memory
    if not lie_on_device(needed, total, training):
        return on_cpu
    there = [None if each is None else each.to(device) for each in (outputs, recorded)]
    return TrainingData(tensors(split, device), *there)


def lie_on_device(needed: int, total: int, training: Training) -> bool:
    """Whether data of so many bytes live on a GPU of `total` bytes: `execution.resident_share` of it is
    enough.
    """
    return needed <= training.execution.resident_share * total


class Minibatches:
    """This worker's part of every minibatch of a training.

    Args:
        data: what they are made of. Where it lies on another device than `device`, they are read ahead.
        device: where the training runs.
    """

    def __init__(self, data: TrainingData, training: Training, device: torch.device, workers: Workers):
        self.data, self.training, self.device, self.workers = data, training, device, workers
        self.latent = trained_latent_size(training)
        split = data.split
        is_unpaired = self.latent is None and split.info.pairing == "unpaired"
        order = functools.partial(Order, seed=training.seed, flip=training.flip, device=split.device)
        self.targets = order(len(split))
        self.inputs = order(split.num_inputs, domain="/inputs") if is_unpaired else None
        """Of unpaired data; None: inputs are shown in the order of their targets."""
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future[tuple[Pixels, SampleIndex]]] | None = None

    @property
    def are_read_ahead(self) -> bool:
        """Whether the data lie on another device than that where the training runs."""
        return self.data.split.device.type != self.device.type

    def step(self, nimg: int) -> Step:
        """The minibatch that follows after `nimg` images. Every pass over the training set is in a new
        order.
        """
        own = self.workers.slice(self.training.batch_size)
        images = range(nimg + own.start, nimg + own.stop)
        pixels, sample = self._read_or_ahead(nimg, images)
        batch = made(pixels, self.data.split.info)
        if self.latent is not None:
            noise = latents(self.training.seed, "latent", images, self.latent, self.device)
            batch = replace(batch, inputs=noise)
        stored = None if pixels.outputs is None else as_floats(pixels.outputs)
        after = nimg + self.training.batch_size
        is_reported = is_report_due(after, self.training)
        return Step(batch, sample, nimg, own.start, stored, is_reported, pixels.recorded)

    def _read(self, images: range) -> tuple[Pixels, SampleIndex]:
        """What a minibatch is made of, and which inputs it shows, where the data lie."""
        split, seed = self.data.split, self.training.seed
        targets = self.targets.at(images)
        sample = targets if self.inputs is None else self.inputs.at(images)
        is_alone = self.latent is not None or self.inputs is not None
        pixels = read_training(split, targets, seed, alone=is_alone)
        if self.inputs is not None:
            pixels = pixels._replace(inputs=read_training_inputs(split, sample, seed))
        if self.data.outputs is not None:
            pixels = pixels._replace(outputs=self.data.outputs_of(sample))
        if self.data.recorded is not None:  # after the last minibatch one more is read ahead
            number = min(images.start // self.training.batch_size, len(self.data.recorded) - 1)
            pixels = pixels._replace(recorded=self.data.recorded[number])
        return pixels, sample

    def _read_or_ahead(self, nimg: int, images: range) -> tuple[Pixels, SampleIndex]:
        """What the minibatch is made of, on the device. Where the data lie elsewhere, the next is read ahead.

        The sample stays where the data lie.
        """
        if not self.are_read_ahead:
            return self._read(images)
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "minibatches")
        if self._ahead is None or self._ahead[0] != nimg:
            self._ahead = (nimg, self._reader.submit(self._read, images))
        (pixels, sample), size = self._ahead[1].result(), self.training.batch_size
        following = range(images.start + size, images.stop + size)
        self._ahead = (nimg + size, self._reader.submit(self._read, following))
        names, given = zip(*pixels.tensors.items())
        moved = dict(zip(names, copied_together(list(given), self.device), strict=True))
        return pixels._replace(**moved), sample


def copied_together(given: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of a CPU on a device: side by side in pinned memory, copied once, without waiting.

    torch keeps pinned memory until a copy from it is done, and then uses it again. What is there already
    stays.
    """
    if all(each.device.type == device.type for each in given):
        return given
    return side_by_side(given, device)


def side_by_side(given: list[Tensor], device: torch.device) -> list[Tensor]:
    """`copied_together` of tensors that are copied wherever they lie: the parts of one tensor of bytes."""
    starts, size = [], 0
    for each in given:
        starts.append(size)
        size += math.ceil(each.nbytes / _ALIGNED) * _ALIGNED
    packed = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for start, each in zip(starts, given, strict=True):
        packed[start : start + each.nbytes].copy_(each.contiguous().view(-1).view(torch.uint8))
    there = packed.to(device, non_blocking=True)
    return [
        there[start : start + each.nbytes].view(each.dtype).view(each.shape)
        for start, each in zip(starts, given, strict=True)
    ]


def is_report_due(nimg: int, training: Training) -> bool:
    """Whether an evaluation is due after `nimg` images: after every `report_every_nimg`, and at the end."""
    every = training.report_every_nimg
    return nimg >= training.budget_nimg or nimg // every > (nimg - training.batch_size) // every
