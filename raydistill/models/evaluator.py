"""The evaluator: a small network that predicts something of a real picture, and whose bottleneck gives features.

Of data in pairs it predicts the input: an encoder-decoder. Of other pictures their class, or how they were turned: the encoder alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import EvaluatorNetwork


class EvaluatorOutput(NamedTuple):
    prediction: Tensor
    """(B, out_channels, H, W): class scores, or the input picture. (B, out_channels): scores of a whole picture's classes."""
    features: Tensor
    """(B, feature_width): bottleneck means."""


class PixelEvaluator(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> Evaluatorment; H and W divisible by 4. Group norm: no batch statistics."""

    def __init__(self, config: EvaluatorNetwork, out_channels: int):
        super().__init__()
        w, f = config.width, config.feature_width
        self.feature_width = f
        self.fine, self.middle, self.coarse = _encoder(config)
        self.merge_middle = _conv(f + 2 * w, 2 * w)
        self.merge_fine = _conv(3 * w, w)
        self.head = nn.Conv2d(w, out_channels, 1)

    def forward(self, picture: Tensor) -> EvaluatorOutput:
        full = self.fine(picture)
        half = self.middle(full)
        quarter = self.coarse(half)
        up_half = self.merge_middle(torch.cat([F.interpolate(quarter, scale_factor=2.0), half], 1))
        up_full = self.merge_fine(torch.cat([F.interpolate(up_half, scale_factor=2.0), full], 1))
        return EvaluatorOutput(self.head(up_full), quarter.mean((2, 3)))


class PictureEvaluator(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> Evaluatorment of whole pictures; H and W at least 4."""

    def __init__(self, config: EvaluatorNetwork, num_classes: int):
        super().__init__()
        self.feature_width = config.feature_width
        self.fine, self.middle, self.coarse = _encoder(config)
        self.head = nn.Linear(config.feature_width, num_classes)

    def forward(self, picture: Tensor) -> EvaluatorOutput:
        features = self.coarse(self.middle(self.fine(picture))).mean((2, 3))
        return EvaluatorOutput(self.head(features), features)


def _encoder(config: EvaluatorNetwork) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """At full, half and quarter size."""
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
