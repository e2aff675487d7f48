"""Segmentation networks by which generated pictures are scored, loaded from files that the user names."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.data import to_float
from raydistill.errors import DataError
from raydistill.evaluation.extractors import load_script, load_weights, sha256_of
from raydistill.models.backbones import drn
from raydistill.models.evaluator import PixelEvaluator

_PART = 8
"""How many pictures go through a network at a time."""


class Segmenter(NamedTuple):
    """A network that predicts the class of each pixel."""

    suffix: str
    """End of the names of its scores: `miou<suffix>`."""
    weights: str
    """What the weights are, as far as is known."""
    digest: str
    """Digest of the file of weights."""
    scores: Callable[[Tensor], Tensor]
    """uint8 pictures (B, 3, H, W) -> class scores (B, C, h, w).

    Where the labels have another size, the scores are resized to it bilinearly.
    """


def load_segmenter(option: str, device: torch.device) -> Segmenter:
    """The segmenter of `KIND=FILE`, for example `drn105=drn-d-105.pth`.

    Raises:
        DataError: the kind is unknown, there is no such file, or its weights are not those of the network.
    """
    kind, equals, file = option.partition("=")
    if kind not in SEGMENTERS or not equals or not file:
        raise DataError(
            f"--segmenter {option}: give it as KIND=FILE. Allowed kinds: {', '.join(SEGMENTERS)}."
        )
    path = Path(file)
    digest = sha256_of(path)[:16]
    suffix, network = SEGMENTERS[kind](path, device)

    def scores(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(part) for part in pictures.split(_PART)])

    return Segmenter(suffix, f"weights of unknown digest {digest}", digest, scores)


def evaluator_segmenter(evaluator: PixelEvaluator, evaluator_digest: str) -> Segmenter:
    """The evaluator as a segmenter; the names of its scores have no suffix."""

    def scores(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return evaluator(to_float(pictures)).prediction

    return Segmenter("", "evaluator", evaluator_digest, scores)


def _drn105(path: Path, device: torch.device) -> tuple[str, Callable[[Tensor], Tensor]]:
    """DRN-D-105, by which generated pictures of Cityscapes are scored in the literature."""
    network = load_weights(path, drn.DRN105(), "DRN-D-105 for 19 classes").to(device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (drn.MEAN, drn.STD))
    return "_drn105", lambda pictures: network((pictures / 255 - mean) / std).log_softmax(1)


def _torchscript(path: Path, device: torch.device) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Any network that takes uint8 pictures (B, 3, H, W) and gives class scores (B, C, h, w).

    The file is code, which is run.
    """
    return f"_script_{path.stem}", load_script(path, device)


SEGMENTERS: dict[str, Callable[[Path, torch.device], tuple[str, Callable[[Tensor], Tensor]]]] = {
    "drn105": _drn105,
    "torchscript": _torchscript,
}
"""Kind -> what reads (suffix, network) from a file.

The network takes uint8 pictures and gives class scores.
"""
