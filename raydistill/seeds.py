"""Named random streams. The key of a stream is (seed, purpose, images seen).

The rank of a worker is never in it. So a resumed training, or one on another number of workers, draws the
same numbers.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


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
