"""Memory of the networks from files that score a training, beside the network that it trains."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydistill.config.scoring import ScorerFile
from raydistill.evaluation.extractors import EXTRACTORS, ExtractorKind, resize_pictures
from raydistill.evaluation.lpips import LPIPS, open_lpips
from raydistill.evaluation.segmenters import PART, SEGMENTERS, SegmenterKind
from raydistill.planning.tensor_bytes import LiveTensorBytes

META = torch.device("meta")


class ScorerMemory(NamedTuple):
    """Bytes of all networks from files."""

    resting: int
    """Of their weights, which stay from the beginning of a training to its end."""
    live: int
    """The most that live while one of them sees the pictures of an evaluation."""


@functools.cache
def scorer_memory(files: tuple[ScorerFile, ...], height: int, width: int, number: int) -> ScorerMemory:
    """The memory that the networks need for evaluations of `number` pictures at a time.

    Of a network that only its file has, such as one of TorchScript, the weights are counted, and what lives
    inside of it is not known.
    """
    resting, live = 0, [0]
    for each in files:
        if each.role == "statistics":
            resting += Path(each.file.path).stat().st_size  # a mean and a covariance, in float64 as here
            continue
        load, build = _entry(each)
        if build is None:
            resting += _weights(load(Path(each.file.path), torch.device("cpu")))
            continue
        with META:
            network = build().eval()
            count = min(number, PART) if each.role == "segmenter" else number
            pictures = torch.empty(count, 3, height, width, dtype=torch.uint8)
        resting += _weights(network)
        with torch.no_grad(), LiveTensorBytes() as seen:
            _show(each, network, pictures)
        live.append(int(seen.history().max()))
    return ScorerMemory(resting, max(live))


def _entry(
    file: ScorerFile,
) -> tuple[Callable[[Path, torch.device], object], Callable[[], nn.Module] | None]:
    """What loads the network of a file, and what builds it without its weights."""
    if file.role == "lpips":
        return open_lpips, LPIPS
    kinds: Mapping[str, ExtractorKind | SegmenterKind] = (
        EXTRACTORS if file.role == "extractor" else SEGMENTERS
    )
    return kinds[file.kind].load, kinds[file.kind].network


def _show(file: ScorerFile, network: nn.Module, pictures: Tensor) -> None:
    """Shows uint8 pictures (B, 3, H, W) to a network, resized as its kind has it."""
    if file.role == "lpips":
        network(pictures.float(), pictures.float())
    elif file.role == "segmenter":
        network(pictures / 255)
    else:
        kind = EXTRACTORS[file.kind]
        network(resize_pictures(pictures, kind.resize, kind.size))


def _weights(network: object) -> int:
    """Bytes of parameters and buffers; 0 of what is no module."""
    if not isinstance(network, nn.Module):
        return 0
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])
