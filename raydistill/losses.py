"""Losses on pictures and scores. Each takes batches and returns a scalar."""

import torch
import torch.nn.functional as F
from torch import Tensor


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 - D(real)) + mean relu(1 + D(fake)), halved (pix2pix's convention). Source: Lim and Ye 2017."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def hinge_generator(fake: Tensor) -> Tensor:
    """-mean D(fake)."""
    return -fake.mean()


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(-D(real)) + mean softplus(D(fake)). Source: Goodfellow et al. 2014."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """mean softplus(-D(fake)): non-saturating."""
    return F.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(mean (D(real) - 1)^2 + mean D(fake)^2) / 2. Source: Mao et al. 2017, halved as in CycleGAN."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator(fake: Tensor) -> Tensor:
    """mean (D(fake) - 1)^2."""
    return (fake - 1).square().mean()


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """1 - SSIM of pictures (B, 3, H, W) in [-1, 1], uniform 7x7 window, mirrored borders (Wang et al. 2004); in [0, 2]."""
    down, along = (_window(size, 7, a) for size in a.shape[2:])
    mean_a, mean_b, aa, bb, ab = (down.mT @ torch.cat([a, b, a * a, b * b, a * b]) @ along).chunk(5)
    variances = (aa - mean_a**2).clamp_min(0) + (bb - mean_b**2).clamp_min(0)
    brightness = (2 * mean_a * mean_b + 0.02**2) / (mean_a**2 + mean_b**2 + 0.02**2)
    return 1 - (brightness * (2 * (ab - mean_a * mean_b) + 0.06**2) / (variances + 0.06**2)).mean()


def _window(size: int, width: int, like: Tensor) -> Tensor:
    """(size, size): x @ this is the mean over each `width` neighbours; two such products are faster than a convolution."""
    eye = torch.eye(size, dtype=like.dtype, device=like.device)[None]
    return F.pad(eye, (width // 2, width // 2), mode="reflect").unfold(2, width, 1).mean(3)[0]
