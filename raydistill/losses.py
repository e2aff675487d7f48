"""Losses on pictures and scores. Each takes batches and returns a scalar."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 - D(real)) + mean relu(1 + D(fake)), halved (pix2pix's convention). Source: Lim and Ye 2017."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def hinge_generator(fake: Tensor) -> Tensor:
    """-mean D(fake)."""
    return -fake.mean()


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """1 - SSIM of pictures (B, 3, H, W) in [-1, 1], uniform 7x7 window (Wang et al. 2004); in [0, 2]."""
    ssim = structural_similarity_index_measure(a, b, gaussian_kernel=False, kernel_size=7, data_range=2.0)
    assert isinstance(ssim, torch.Tensor)
    return 1 - ssim
