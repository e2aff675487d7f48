"""Named random streams. A stream's key is (seed, purpose, images seen), never the rank: resume is replay."""

import hashlib

import numpy as np
import torch


def stream_key(seed: int, purpose: str, nimg: int = 0) -> int:
    """A 63-bit key; the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{nimg}".encode()).digest()[:8]) >> 1


def torch_stream(seed: int, purpose: str, nimg: int = 0) -> torch.Generator:
    """A CPU generator: noise is drawn on the CPU and moved, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(stream_key(seed, purpose, nimg))


def numpy_stream(seed: int, purpose: str, nimg: int = 0) -> np.random.Generator:
    return np.random.default_rng(stream_key(seed, purpose, nimg))
