"""Minibatches: tensors made of the memory-mapped pictures of a split."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.data.augment import Crop, degradation_keys, degrade, pixels, random_crop
from raydistill.data.colors import IGNORED_COLOR
from raydistill.data.mapped import Split
from raydistill.data.prepared import DataInfo
from raydistill.data.tensors import SplitTensors, tensors


@dataclass(frozen=True)
class Batch:
    """Inputs and real pictures of B images."""

    inputs: Tensor
    """What the generator gets, float32.

    Pictures, also of label maps: (B, 3, H, W) in [-1, 1], smaller by the degradation's scale if there is one.
    Label maps: (B, C, H, W) one-hot, each -1 or 1, with "ignored" as the last channel if there is that.
    Noise: (B, latent), normal. No inputs: (B, 0).
    """
    target: Tensor
    """Real pictures, (B, 3, H, W) float32 in [-1, 1]. Target i belongs to input i in paired data only."""
    labels: Tensor | None
    """Label maps of the targets, (B, H, W) int64: 0 to K - 1, and `info.ignore_index` for ignored pixels."""
    classes: Tensor | None = None
    """Classes of whole target pictures, (B,) int64."""

    def part(self, images: slice) -> "Batch":
        """The batch of these images alone; a view."""
        labels, classes = (None if value is None else value[images] for value in (self.labels, self.classes))
        return Batch(self.inputs[images], self.target[images], labels, classes)


class Pixels(NamedTuple):
    """What a minibatch is made of, as it is stored: it goes to a device as it is, and is made into floats
    there.
    """

    target: Tensor
    """uint8 (B, H, W, 3)"""
    labels: Tensor | None = None
    """uint8 (B, H, W)"""
    inputs: Tensor | None = None
    """uint8 (B, H, W, 3)"""
    classes: Tensor | None = None
    """int32 (B,)"""
    noise_keys: Tensor | None = None
    """int64 (B,), see `degradation_keys`."""
    outputs: Tensor | None = None
    """The teacher's stored outputs for the inputs, float32 or uint8 (B, 3, H, W)."""
    recorded: Tensor | None = None
    """What teachers beside the student gave for the minibatch, float32, one row."""
    is_degraded: bool = False
    """Whether the inputs are the targets, made smaller and noisy."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is there, by name."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str) -> "Pixels":
        """The same on another device."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in self.tensors.items()}
        return self._replace(**moved)


def read(
    split: SplitTensors,
    indices: Tensor | slice,
    *,
    flips: Tensor | None = None,
    seed: int = 0,
    passes: Tensor | None = None,
    alone: bool = False,
) -> Pixels:
    """The targets at `indices` with what belongs to them, on the device of the split.

    Args:
        indices: which pictures, (B,) int64 or a slice.
        flips: (B,) bool, which are mirrored left to right; None: none.
        seed: seed of the training, for crops and for the noise of a degradation.
        passes: (B,) int64, in which pass each picture is shown, for the same. None, in evaluations: the
            middle of larger pictures, and the noise of pass 0, which no training has.
        alone: without labels and inputs, as a generator takes them that makes pictures of noise.
    """
    source, crop = _cropped(split, indices, passes, seed)
    is_paired, keys = split.info.pairing == "pairs" and not alone, None
    if split.info.degrade.is_on and not alone:
        chosen = torch.arange(len(split), device=split.device)[indices]
        keys = degradation_keys(
            split.info.degrade, seed, chosen, torch.zeros_like(chosen) if passes is None else passes
        )
    return Pixels(
        target=pixels(source.targets, indices, flips, crop),
        labels=None if source.labels is None or alone else pixels(source.labels, indices, flips, crop),
        inputs=pixels(source.inputs, indices, flips, crop)
        if is_paired and source.inputs is not None
        else None,
        classes=None if split.classes is None else split.classes[indices],
        noise_keys=keys,
        is_degraded=split.info.degrade.is_on and not alone,
    )


def read_inputs(
    split: SplitTensors, indices: Tensor, flips: Tensor | None, seed: int = 0, passes: Tensor | None = None
) -> Tensor:
    """The inputs at `indices` of unpaired data, uint8 (B, H, W, 3); arguments as those of `read`."""
    source, crop = _cropped(split, indices, passes, seed)
    assert source.inputs is not None, split.info.layout
    return pixels(source.inputs, indices, flips, crop)


def _cropped(
    split: SplitTensors, indices: Tensor | slice, passes: Tensor | None, seed: int
) -> tuple[SplitTensors, Crop | None]:
    """Where pictures are read from, and which window of each is shown: the split itself and no window where
    they are shown whole, or as in an evaluation.
    """
    if passes is None or split.loaded is None or split.info.load_size is None:
        return split, None
    assert isinstance(indices, Tensor)
    shown = (split.info.height, split.info.width)
    return split.loaded, random_crop(split.info.load_size, shown, seed, indices, passes)


def made(read: Pixels, info: DataInfo) -> Batch:
    """The minibatch of these pixels, on their device. Inputs that are not among them have the shape (B,
    0).
    """
    target = channels_first(read.target)
    labels = None if read.labels is None else read.labels.long()
    if read.is_degraded:
        inputs = to_float(degrade(target, info.degrade, read.noise_keys))
    elif read.inputs is not None:
        inputs = to_float(channels_first(read.inputs))
    elif labels is not None:
        channels = torch.arange(info.input_channels, device=labels.device)
        inputs = (labels[:, None] == channels[:, None, None]).float() * 2 - 1
    else:
        inputs = torch.empty(len(target), 0, device=target.device)
    return Batch(inputs, to_float(target), labels, None if read.classes is None else read.classes.long())


def batch(
    split: Split,
    indices: np.ndarray | slice,
    *,
    device: str | torch.device = "cpu",
    flips: np.ndarray | None = None,
) -> Batch:
    """Inputs and targets at `indices`, as an evaluation sees them. Inputs of unpaired data are not among
    them.

    Args:
        indices: which targets, (B,) int or a slice.
        device: where the tensors are put.
        flips: (B,) bool, which are mirrored left to right; None: none.
    """
    mirrored = None if flips is None else torch.from_numpy(flips)
    found = read(tensors(split), _index(indices), flips=mirrored)
    return made(found.to(device), split.info)


def pictures(
    array: np.ndarray,
    indices: np.ndarray | slice,
    *,
    device: str | torch.device = "cpu",
    flips: np.ndarray | None = None,
) -> Tensor:
    """Pictures of a split's targets or inputs as uint8 (B, 3, h, w).

    Args:
        array: uint8 (N, H, W, 3).
        indices: which pictures, (B,) int or a slice.
        device: where the tensor is put.
        flips: (B,) bool, which are mirrored left to right; None: none.
    """
    mirrored = None if flips is None else torch.from_numpy(flips)
    return channels_first(pixels(torch.from_numpy(array), _index(indices), mirrored, None).to(device))


def _index(indices: np.ndarray | slice) -> Tensor | slice:
    return indices if isinstance(indices, slice) else torch.from_numpy(np.asarray(indices, np.int64))


def channels_first(values: Tensor) -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W), a copy."""
    return values.permute(0, 3, 1, 2).contiguous()


def to_float(values: Tensor) -> Tensor:
    """uint8 in 0..255, of any shape -> float32 in [-1, 1]: x / 127.5 - 1."""
    assert values.dtype == torch.uint8, values.dtype
    return values.float() / 127.5 - 1


def to_uint8(values: Tensor) -> Tensor:
    """float of any shape, clamped to [-1, 1] -> uint8 in 0..255, rounded. The inverse of `to_float`."""
    return ((values.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def render_inputs(inputs: Tensor, info: DataInfo) -> np.ndarray:
    """Inputs (B, C, H, W) of a `Batch` as pictures to look at, uint8 (B, H, W, 3).

    Label maps get the colours of their classes; ignored pixels are grey.
    """
    if not info.inputs_are_labels:
        return to_uint8(inputs).permute(0, 2, 3, 1).cpu().numpy()
    return np.array([*info.palette, IGNORED_COLOR], np.uint8)[inputs.argmax(1).cpu().numpy()]
