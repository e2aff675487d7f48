"""Segmentation networks by which generated pictures are scored, loaded from files that the user names.

Their predictions are compared with `Labels`, the classes of the real pictures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.data import Split
from raydistill.evaluation.extractors import (
    kind_and_file,
    load_script,
    load_weights,
    scorer_name,
    sha256_of,
    with_code,
)
from raydistill.models.backbones import drn

PART = 8
"""How many pictures go through a network at a time."""


class Segmenter(NamedTuple):
    """A network that predicts the class of each pixel."""

    suffix: str
    """End of the names of its scores: `miou<suffix>`."""
    weights: str
    """What the weights are, as far as is known."""
    digest: str
    """First half of the digest of the file of weights, see `extractors.with_code`."""
    scores: Callable[[Tensor], Tensor]
    """uint8 pictures (B, 3, H, W) -> class scores (B, C, h, w).

    Where the labels have another size, the scores are resized to it bilinearly.
    """


class Labels(NamedTuple):
    """A segmenter, with the classes of the real pictures that its predictions are compared with."""

    segmenter: Segmenter
    truth: Callable[[int], Tensor]
    """Index -> the class of each pixel of that real picture, integers (H, W), at the size it is scored at."""
    num_classes: int
    ignore_index: int | None
    """The class of pixels that count nowhere; None: every pixel counts."""
    resize: str = "none"
    """How class scores are resized to the size of the truth."""


def labels_of(segmenter: Segmenter, split: Split) -> Labels:
    """The labels of a split, which has some, for scores at the size of its pictures."""
    labels, number = split.labels, split.info.num_classes
    assert labels is not None and number is not None

    def truth(index: int) -> Tensor:
        return torch.from_numpy(np.array(labels[index]))

    return Labels(segmenter, truth, number, split.info.ignore_index)


def load_segmenter(option: str, device: torch.device) -> Segmenter:
    """The segmenter of `KIND=FILE`, for example `drn105=drn-d-105.pth`.

    Raises:
        DataError: the kind is unknown, there is no such file, or its weights are not those of the network.
    """
    kind, path = kind_and_file("--segmenter", option, SEGMENTERS)
    return open_segmenter(kind, path, scorer_name(kind, path), device)


def open_segmenter(kind: str, path: Path, name: str, device: torch.device) -> Segmenter:
    """The segmenter of a file, whose metrics end in `name`. Raises DataError as `load_segmenter` does."""
    entry = SEGMENTERS[kind]
    digest, network = with_code(sha256_of(path), entry)[:16], entry.load(path, device)

    def scores(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(part) for part in pictures.split(PART)])

    return Segmenter(f"_{name}", f"weights of unknown digest {digest}", digest, scores)


def _drn105(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """DRN-D-105, by which generated pictures of Cityscapes are scored in the literature."""
    network = load_weights(path, drn.DRN105(), "DRN-D-105 for 19 classes").to(device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (drn.MEAN, drn.STD))
    return lambda pictures: network((pictures / 255 - mean) / std).log_softmax(1)


class SegmenterKind(NamedTuple):
    """A kind of segmenter: how its files are loaded."""

    load: Callable[[Path, torch.device], Callable[[Tensor], Tensor]]
    """(file, device) -> network, which takes uint8 pictures (B, 3, H, W) and gives class scores (B, C, h, w).
    Raises DataError where the file is none for it."""
    network: Callable[[], nn.Module] | None
    """As in `extractors.ExtractorKind`: without its weights; None: only a file has it."""


SEGMENTERS: dict[str, SegmenterKind] = {
    "drn105": SegmenterKind(_drn105, drn.DRN105),
    "torchscript": SegmenterKind(load_script, None),
}
"""Kind -> how it is loaded. A TorchScript file is code, which is run."""
