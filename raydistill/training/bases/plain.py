"""No base distillation, and plain distances between the student's pictures and the teacher's."""

import torch.nn.functional as F
from torch import Tensor

from raydistill.config.bases import PlainBase
from raydistill.method.perceptual import charbonnier, multiscale_l1
from raydistill.method.similarity import dissimilarity
from raydistill.training.bases.parts import BaseDistillation
from raydistill.training.steps import weighted_sum
from raydistill.training.terms import Numbers, Pairs


class NoDistillation(BaseDistillation):
    """The student learns from its terms alone."""

    def student_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """0, with a gradient of 0."""
        return weighted_sum({}, pairs.s)


class Plain(BaseDistillation):
    """Weighted distances of pictures."""

    def student_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """The weighted sum; what has the weight 0 is neither computed nor logged."""
        return plain_loss(self.config, pairs.s, pairs.t)


def plain_loss(config: PlainBase, s: Tensor, t: Tensor) -> tuple[Tensor, Numbers]:
    """The weighted sum of distances of pictures (B, 3, H, W) in [-1, 1], and each of them, to log."""
    losses = {
        "train/l1": (config.l1_weight, lambda: F.l1_loss(s, t)),
        "train/dissimilarity": (config.ssim_weight, lambda: dissimilarity(s, t)),
        "train/mse": (config.mse_weight, lambda: F.mse_loss(s, t)),
        "train/robust": (config.robust_weight, lambda: charbonnier(s, t)),
        "train/multiscale": (config.multiscale_weight, lambda: multiscale_l1(s, t)),
    }
    return weighted_sum(losses, s)
