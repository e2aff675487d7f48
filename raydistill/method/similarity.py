"""The structural similarity of pictures (SSIM) as a loss."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """1 - SSIM of two batches of pictures, the mean over pictures, channels and pixels: a scalar in [0, 2].

    Args:
        a, b: (B, 3, H, W) in [-1, 1], H and W at least 4.

    Source: Wang et al. 2004, of the pictures plus 1, with K1 = 0.01, K2 = 0.03 and a range of 2. What
    differs: the window is uniform, 7x7, and pictures are mirrored at their borders.

    Means count from black, as the score is defined: from grey, a negative has both factors at -1, so it would
    be as like its picture as the picture itself.
    """
    made = _window.__wrapped__ if a.is_meta else _window  # what is predicted does not depend on what is kept
    down, along = (made(size, 7, a.dtype, a.device) for size in a.shape[2:])
    mean_a, mean_b, aa, bb, ab = (down.mT @ torch.cat([a, b, a * a, b * b, a * b]) @ along).chunk(5)
    variances = (aa - mean_a**2).clamp_min(0) + (bb - mean_b**2).clamp_min(0)
    light_a, light_b = mean_a + 1, mean_b + 1
    brightness = (2 * light_a * light_b + 0.02**2) / (light_a**2 + light_b**2 + 0.02**2)
    return 1 - (brightness * (2 * (ab - mean_a * mean_b) + 0.06**2) / (variances + 0.06**2)).mean()


@functools.lru_cache(8)
def _window(size: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size): x @ this is the mean over `width` neighbours along x's last dimension.

    Two such products are faster than a convolution.
    """
    eye = torch.eye(size, dtype=dtype, device=device)[None]
    return F.pad(eye, (width // 2, width // 2), mode="reflect").unfold(2, width, 1).mean(3)[0]
