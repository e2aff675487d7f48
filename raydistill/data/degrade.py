"""Pictures made worse, for image enhancement: the same for the same (seed, picture, pass)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.data import Degradation
from raydistill.seeds import torch_stream


def degraded(
    pictures: Tensor, config: Degradation, indices: np.ndarray, passes: np.ndarray, seed: int
) -> Tensor:
    """uint8 (B, 3, H, W) -> uint8 (B, 3, H / scale, W / scale): means of scale x scale pixels, plus noise, rounded to 8 bits.

    Args:
        indices, passes: (B,), which pictures of a split they are, and in which pass over it: each such pair has noise of its own.
    """
    small = F.avg_pool2d(pictures.float(), config.scale)
    if config.noise_std:
        streams = [
            torch_stream(seed, f"degrade/{index}", int(number))
            for index, number in zip(indices, passes, strict=True)
        ]
        noise = torch.stack([torch.randn(small.shape[1:], generator=stream) for stream in streams])
        small = small + config.noise_std * noise.to(small.device)
    return small.round().clamp(0, 255).to(torch.uint8)
