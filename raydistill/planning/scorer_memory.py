"""Memory of the networks from files that score a training, beside the network that it trains."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydistill.config.scoring import ScorerFile
from raydistill.evaluation import segmenters
from raydistill.evaluation.extractors import EXTRACTORS, load_script, resize_pictures
from raydistill.evaluation.lpips import LPIPS
from raydistill.models.backbones import drn, inception, squeezenet, vgg
from raydistill.planning.tensor_bytes import LiveTensorBytes

META = torch.device("meta")
_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "inception": inception.Inception,
    "vgg16": vgg.VGG16,
    "squeezenet": squeezenet.SqueezeNet,
    "drn105": drn.DRN105,
    "lpips": LPIPS,
}
"""Kind -> the network, without its weights."""


class ScorerMemory(NamedTuple):
    """Bytes of all networks from files."""

    resting: int
    """Of their weights, which stay from the beginning of a training to its end."""
    live: int
    """The most that live while one of them sees the pictures of an evaluation."""


@functools.cache
def scorer_memory(files: tuple[ScorerFile, ...], height: int, width: int, number: int) -> ScorerMemory:
    """The memory that the networks need for evaluations of `number` pictures at a time.

    Of a TorchScript file the weights are counted, and what lives inside of it is not known.
    """
    resting, live = 0, [0]
    for each in files:
        if each.kind == "torchscript":
            resting += _weights(load_script(Path(each.file.path), torch.device("cpu")))
            continue
        with META:
            network = _NETWORKS["lpips" if each.role == "lpips" else each.kind]().eval()
            count = min(number, segmenters.PART) if each.role == "segmenter" else number
            pictures = torch.empty(count, 3, height, width, dtype=torch.uint8)
        resting += _weights(network)
        with torch.no_grad(), LiveTensorBytes() as seen:
            _show(each, network, pictures)
        live.append(int(seen.history().max()))
    return ScorerMemory(resting, max(live))


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
    assert isinstance(network, nn.Module)
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])
