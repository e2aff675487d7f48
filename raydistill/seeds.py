"""Named random streams. The key of a stream is (seed, purpose, images seen).

The rank of a worker is never in it. So a resumed training, or one on another number of workers, draws the
same numbers.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor


def stream_key(seed: int, purpose: str, nimg: int = 0) -> int:
    """The 63-bit key of a stream, which is the same on every machine.

    Args:
        purpose: what the numbers are for. Streams with different purposes are independent.
        nimg: number of images seen, or the index of an image.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{nimg}".encode()).digest()[:8]) >> 1


def torch_stream(seed: int, purpose: str, nimg: int = 0) -> "torch.Generator":
    """A CPU generator. Noise is drawn on the CPU and moved, so that every device gets the same numbers."""
    import torch  # the search draws from `numpy_stream` alone and loads no torch

    return torch.Generator().manual_seed(stream_key(seed, purpose, nimg))


def numpy_stream(seed: int, purpose: str, nimg: int = 0) -> np.random.Generator:
    """NumPy's default generator, seeded by the key of the stream."""
    return np.random.default_rng(stream_key(seed, purpose, nimg))


def normal_stream(seed: int, purpose: str, first_image: int, like: "Tensor") -> "Callable[[], Tensor]":
    """A function that draws N(0, I) of the shape (B, ...) and on the device of `like`.

    Each picture has a stream of its own, so its numbers depend neither on the other pictures nor on the
    worker that draws them.

    Args:
        purpose: What the numbers are for; other purposes have other numbers.
        first_image: Number of the first picture in the whole training.
    """
    import torch

    if like.is_meta:  # nothing is drawn where there are no numbers
        return lambda: torch.empty_like(like)
    generators = [torch_stream(seed, purpose, first_image + index) for index in range(len(like))]

    def normal() -> "Tensor":
        noise = torch.empty(like.shape)
        for picture, generator in zip(noise, generators, strict=True):
            picture.normal_(generator=generator)
        return noise.to(like.device)

    return normal
