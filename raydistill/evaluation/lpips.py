"""LPIPS (Zhang et al. 2018), version 0.1 on VGG16: how unlike the two pictures of a pair look."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydistill.errors import DataError
from raydistill.evaluation.extractors import load_weights, sha256_of

SMALLEST = 16
"""Pixels a side that a picture needs: it is halved four times."""
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, number of convolutions) of each stage of VGG16 up to its last ReLU."""


class Lpips(NamedTuple):
    """A perceptual distance, with what decides whether two of its values can be compared."""

    sha256: str
    """Digest of the file of weights."""
    distance: Callable[[Tensor, Tensor], Tensor]
    """(real, fake), uint8 (B, 3, H, W) each -> float64 (B,), 0 of equal pictures."""


class _Linear(nn.Module):
    """A weight for each channel of a stage; the published file counts a dropout before it."""

    def __init__(self, channels: int):
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))


class LPIPS(nn.Module):
    """Pairs of pictures (B, 3, H, W) in [-1, 1] -> distances (B,).

    Each stage's features are divided by their norm over channels; what is left of the squared differences,
    weighted by channel, is averaged over pixels and added up over stages. Its parameters have the names of
    `lpips.LPIPS(net="vgg").state_dict()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net, self.scaling_layer = nn.Module(), nn.Module()
        self.scaling_layer.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.scaling_layer.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        in_channels = place = 0
        for number, (channels, count) in enumerate(_STAGES):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for _ in range(count):
                layers[str(place)] = nn.Conv2d(in_channels or 3, channels, 3, padding=1)
                layers[str(place + 1)] = nn.ReLU()
                in_channels, place = channels, place + 2
            if number:
                layers[str(min(map(int, layers)) - 1)] = nn.MaxPool2d(2)
                layers.move_to_end(next(reversed(layers)), last=False)
            place += 1
            setattr(self.net, f"slice{number + 1}", nn.Sequential(layers))
            setattr(self, f"lin{number}", _Linear(channels))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Distances of pairs."""
        shift, scale = (self.scaling_layer.get_buffer(name) for name in ("shift", "scale"))
        a, b = (real - shift) / scale, (fake - shift) / scale
        total: Tensor | None = None
        for number in range(len(_STAGES)):
            stage = getattr(self.net, f"slice{number + 1}")
            a, b = stage(a), stage(b)
            difference = (_unit(a) - _unit(b)).square()
            distance = getattr(self, f"lin{number}").model[1](difference).mean((1, 2, 3))
            total = distance if total is None else total + distance
        assert total is not None
        return total


def open_lpips(path: Path, device: torch.device) -> Lpips:
    """LPIPS with the weights of a file, which must have exactly its tensors.

    Raises:
        DataError: the file cannot be read, or has the tensors of something else.
    """
    sha256 = sha256_of(path)
    network = load_weights(path, LPIPS(), "LPIPS 0.1 on VGG16", ignore="lins.")
    fresh = LPIPS().scaling_layer.state_dict()
    if any(not value.allclose(fresh[name]) for name, value in network.scaling_layer.state_dict().items()):
        raise DataError(
            f"{path}: scales pictures otherwise than LPIPS 0.1. Give the state of lpips.LPIPS(net='vgg')."
        )
    network = network.to(device)

    def distance(real: Tensor, fake: Tensor) -> Tensor:
        with torch.no_grad():
            scaled = (pictures.float() / 127.5 - 1 for pictures in (real, fake))
            return network(*scaled).double()

    return Lpips(sha256, distance)


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
