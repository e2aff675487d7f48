"""Named random streams. A stream's key is (seed, purpose, images seen), never the rank: resume is replay."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_key(seed: int, purpose: str, nimg: int = 0) -> int:
    """A 63-bit key of a stream; the same on every machine. `nimg`: images seen, or the number of an image."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{nimg}".encode()).digest()[:8]) >> 1


def torch_stream(seed: int, purpose: str, nimg: int = 0) -> "torch.Generator":
    """A CPU generator: noise is drawn on the CPU and moved, so that every device sees the same numbers."""
    import torch  # the search draws from `numpy_stream` alone and loads no torch

    return torch.Generator().manual_seed(stream_key(seed, purpose, nimg))


def numpy_stream(seed: int, purpose: str, nimg: int = 0) -> np.random.Generator:
    """NumPy's default generator, seeded with the key of the stream."""
    return np.random.default_rng(stream_key(seed, purpose, nimg))
