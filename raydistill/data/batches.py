"""Minibatches: tensors made of the memory-mapped pictures of a split."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydistill.data.augment import Crop, degrade, pixels, training_crop
from raydistill.data.classes import Color
from raydistill.data.prepared import DataInfo, Split

IGNORED_COLOR: Color = (160, 160, 160)
"""Colour of ignored pixels in pictures of label maps."""


@dataclass(frozen=True)
class Batch:
    """Inputs and real pictures of B images."""

    inputs: Tensor
    """What the generator gets, float32.

    Pictures: (B, 3, H, W) in [-1, 1], smaller by the degradation's scale if there is one. Label maps: (B, C,
    H, W) one-hot, each -1 or 1, with "ignored" as the last channel if there is that. Noise: (B, latent),
    normal. No inputs: (B, 0).
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


def batch(
    split: Split,
    indices: np.ndarray | slice,
    *,
    device: str | torch.device = "cpu",
    flips: np.ndarray | None = None,
    seed: int = 0,
    passes: np.ndarray | None = None,
) -> Batch:
    """Inputs and targets at `indices` of paired data.

    Args:
        split: of data whose pairing is "pairs".
        indices: which pairs, (B,) int or a slice.
        device: where the tensors are put.
        flips: (B,) bool, which pairs are mirrored left to right; None: none.
        seed: seed of the training, for crops and for the noise of a degradation.
        passes: (B,) int, in which pass each pair is shown, for the same. None, in evaluations: the middle of
            larger pictures, and the noise of pass 0, which no training has.
    """
    assert split.info.pairing == "pairs", split.info.layout
    source, crop = training_crop(split, indices, passes, seed)
    target = pictures(source.targets, indices, device=device, flips=flips, crop=crop)
    labels = None
    if source.labels is not None:
        labels = torch.from_numpy(pixels(source.labels, indices, flips, crop)).to(device).long()
    if split.info.degrade.is_on:
        chosen = np.arange(len(split))[indices]
        passes = np.zeros_like(chosen) if passes is None else passes
        inputs = to_float(degrade(target, split.info.degrade, chosen, passes, seed))
    elif labels is None:
        assert source.inputs is not None
        inputs = to_float(pictures(source.inputs, indices, device=device, flips=flips, crop=crop))
    else:
        channels = torch.arange(split.info.input_channels, device=labels.device)
        inputs = (labels[:, None] == channels[:, None, None]).float() * 2 - 1
    return Batch(inputs, to_float(target), labels, class_ids(split, indices, device))


def class_ids(split: Split, indices: np.ndarray | slice, device: str | torch.device) -> Tensor | None:
    """Classes of the target pictures at `indices`, (B,) int64; None where pictures have no classes."""
    if split.classes is None:
        return None
    return torch.from_numpy(np.array(split.classes[indices])).to(device).long()


def pictures(
    array: np.ndarray,
    indices: np.ndarray | slice,
    *,
    device: str | torch.device = "cpu",
    flips: np.ndarray | None = None,
    crop: Crop | None = None,
) -> Tensor:
    """Pictures of a split's targets or inputs as uint8 (B, 3, h, w).

    Args:
        array: uint8 (N, H, W, 3).
        indices: which pictures, (B,) int or a slice.
        device: where the tensor is put.
        flips: (B,) bool, which are mirrored left to right; None: none.
        crop: window of each; None: all of it.
    """
    values = torch.from_numpy(pixels(array, indices, flips, crop)).to(device)
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
