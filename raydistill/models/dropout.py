"""Dropout whose random numbers belong to images, so that a resume is a replay on any number of workers."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from raydistill.data import noise


class ImageDropout(nn.Module):
    """In train mode each value is 0 with probability `share`, else it is divided by 1 - `share`.

    Which ones is a function of (seed, purpose, place, image): `begin` says the first two, once, and `show`
    the images, for each minibatch. In eval mode it changes nothing. Source: Srivastava et al. 2014.
    """

    def __init__(self, share: float, place: int):
        super().__init__()
        self.share, self.place = share, place
        self.seed, self.purpose = 0, "generator"
        self.keys: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape. Raises RuntimeError in train mode where no images were shown, or
        others than B."""
        if not self.training:
            return x
        if self.keys is None or len(self.keys) != len(x):
            shown = "none" if self.keys is None else len(self.keys)
            raise RuntimeError(
                f"dropout of {len(x)} images, and its numbers are those of {shown}; call "
                "`models.dropout.show` with the images before a forward in train mode, or use eval mode"
            )
        places = torch.arange(math.prod(x.shape[1:]), device=x.device)
        drawn = noise.uniform(noise.keyed(self.keys[:, None], places)).view(x.shape)
        return x * (drawn >= self.share).to(x.dtype) / (1 - self.share)


def _layers(network: nn.Module) -> list[ImageDropout]:
    return [layer for layer in network.modules() if isinstance(layer, ImageDropout)]


def begin(network: nn.Module, seed: int, purpose: str) -> None:
    """Names the random stream of a network's dropout, by the seed and purpose of its initial weights."""
    for layer in _layers(network):
        layer.seed, layer.purpose = seed, purpose


def show(networks: Iterable[nn.Module], images: range) -> None:
    """Says which images of the training the next forwards are of."""
    for network in networks:
        for layer in _layers(network):
            device = next(network.parameters()).device
            purpose = f"dropout/{layer.purpose}/{layer.place}"
            layer.keys = noise.image_keys(layer.seed, purpose, images, device)
