"""The evaluator: a small network that predicts something of a picture, and whose bottleneck gives features.

It is trained on real pictures and then scores generated ones. For paired data it predicts the input, with an
encoder and a decoder. For other data it predicts the class of a picture, or by how much it was rotated, with
the encoder alone. `networks.evaluator_task` says which of these it is.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import EvaluatorNetwork


class EvaluatorOutput(NamedTuple):
    """What the evaluator gives for B pictures."""

    prediction: Tensor
    """(B, out_channels, H, W): class scores of each pixel, or the input picture. For whole pictures
    (B, num_classes): class scores."""
    features: Tensor
    """(B, feature_width): means over the bottleneck."""


class PixelEvaluator(nn.Module):
    """Predicts something of every pixel of pictures (B, 3, H, W) in [-1, 1], H and W divisible by 4.

    Its norms are group norms, so that a prediction does not depend on the other pictures of the batch.
    """

    def __init__(self, config: EvaluatorNetwork, out_channels: int):
        super().__init__()
        w, f = config.width, config.feature_width
        self.feature_width = f
        self.fine, self.middle, self.coarse = _encoder(config)
        self.merge_middle = _conv(f + 2 * w, 2 * w)
        self.merge_fine = _conv(3 * w, w)
        self.head = nn.Conv2d(w, out_channels, 1)

    def forward(self, picture: Tensor) -> EvaluatorOutput:
        """Prediction and features of pictures (B, 3, H, W)."""
        full = self.fine(picture)
        half = self.middle(full)
        quarter = self.coarse(half)
        up_half = self.merge_middle(torch.cat([F.interpolate(quarter, scale_factor=2.0), half], 1))
        up_full = self.merge_fine(torch.cat([F.interpolate(up_half, scale_factor=2.0), full], 1))
        return EvaluatorOutput(self.head(up_full), quarter.mean((2, 3)))


class PictureEvaluator(nn.Module):
    """Predicts the class of whole pictures (B, 3, H, W) in [-1, 1], H and W at least 4."""

    def __init__(self, config: EvaluatorNetwork, num_classes: int):
        super().__init__()
        self.feature_width = config.feature_width
        self.fine, self.middle, self.coarse = _encoder(config)
        self.head = nn.Linear(config.feature_width, num_classes)

    def forward(self, picture: Tensor) -> EvaluatorOutput:
        """Prediction and features of pictures (B, 3, H, W)."""
        features = self.coarse(self.middle(self.fine(picture))).mean((2, 3))
        return EvaluatorOutput(self.head(features), features)


def _encoder(config: EvaluatorNetwork) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """Its stages at full, half and quarter size."""
    w, f = config.width, config.feature_width
    return (
        nn.Sequential(_conv(3, w), _conv(w, w)),
        nn.Sequential(_conv(w, 2 * w, stride=2), _conv(2 * w, 2 * w)),
        nn.Sequential(_conv(2 * w, f, stride=2), _conv(f, f), _conv(f, f)),
    )


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(_groups(out_channels), out_channels), nn.ReLU(True))


def _groups(channels: int) -> int:
    return next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)
