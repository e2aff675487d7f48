"""Feature networks: pictures to the features that losses compare (`method.perceptual`).

One is VGG16 from a file that the user names. The other stands in for it: a small network that is trained on
the data at hand, by the evaluator's task. What gives a loss never scores, so neither is an evaluator.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.features import FeatureNetworkConfig
from raydistill.models.backbones import vgg
from raydistill.models.tensor_files import load_weights

SMALLEST = 8
"""Pixels a side that a picture needs: VGG16 halves it three times before its last tap."""


class FeatureNetwork(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> a list of features, "taps", (B, C_k, H_k, W_k), fine ones first.

    H and W are `SMALLEST` or more, and may differ. It is frozen wherever it gives a loss: gradients reach the
    pictures alone.
    """

    style_factor: float = 1.0
    """The weight of a loss of Gram matrices is multiplied by this, see `TrainedTaps`."""
    content_factor: float = 1.0
    """The same of a loss that compares the features themselves."""
    content_tap: int = 1
    """Which tap the content is compared at, counted from 0: relu2_2 of VGG16, as in OMGD's code."""

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """The taps of pictures."""
        raise NotImplementedError


class Vgg16Taps(FeatureNetwork):
    """VGG16 up to relu4_3, with the taps relu1_2, relu2_2, relu3_3 and relu4_3.

    Pictures are brought to [0, 1] and normalised by ImageNet's mean and deviation, which the weights were
    trained with.

    Source: the taps are those of Johnson et al. 2016 and of OMGD's code. What differs from that: OMGD's code
    does not normalise, and gives VGG16 the pictures in [0, 1].
    """

    mean: Tensor
    std: Tensor
    _TAPS = (3, 8, 15, 22)
    """Positions of the taps among torchvision's `features`: the ReLU after a stage's last convolution."""

    def __init__(self, convolutions: nn.Sequential | None = None):
        """`convolutions`: all of VGG16's, with their weights; None: new ones, of random weights."""
        super().__init__()
        whole = vgg.convolutions() if convolutions is None else convolutions
        self.features = nn.Sequential(*list(whole)[: self._TAPS[-1] + 1])
        self.register_buffer("mean", torch.tensor(vgg.IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(vgg.IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Features of 64, 128, 256 and 512 channels at the size, half, a quarter and an eighth of it."""
        x, taps = ((pictures + 1) / 2 - self.mean) / self.std, []
        for position, layer in enumerate(self.features):
            x = layer(x)
            if position in self._TAPS:
                taps.append(x)
        return taps


class TrainedTaps(FeatureNetwork):
    """The stand-in: four stages of two 3x3 convolutions with ReLUs, a maximum over 2x2 pixels between them.

    The taps lie after the last ReLU of each stage. They are divided by `rms`, so that each has the root mean
    square 1 over training pictures: Gram matrices grow with the square of the features, so without that the
    weight of a loss would mean another thing in every training of a stand-in.

    Even so its losses pull otherwise than VGG16's at one weight. The two factors bring the gradient of each
    by the student's picture to the norm that it has with VGG16. They were measured at the default width, with
    VGG16 of weights drawn by He et al. 2015, as trained ones were not at hand: `benchmarks/feature_share.py`,
    docs/results/method.md.
    """

    style_factor = 0.28
    content_factor = 0.83
    rms: Tensor

    def __init__(self, config: FeatureNetworkConfig):
        super().__init__()
        self.widths = tuple(config.width * 2**stage for stage in range(4))
        channels = (3, *self.widths)
        self.stages = nn.ModuleList(_stage(*pair) for pair in zip(channels, self.widths))
        self.register_buffer("rms", torch.ones(len(self.widths)))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Features at the size, half, a quarter and an eighth of it; odd sides are rounded up."""
        x, taps = pictures, []
        for number, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2, ceil_mode=True) if number else x)
            taps.append(x / self.rms[number])
        return taps


class FeatureHead(nn.Module):
    """What the stand-in is trained through, by the evaluator's task, and what is thrown away then.

    Every stage is predicted from directly, so that each learns. Of pixels: a 1x1 convolution of each tap,
    enlarged to the whole size, added up. Of pictures: a linear layer of the means of all channels.
    """

    def __init__(self, widths: tuple[int, ...], out_channels: int, of_pixels: bool):
        super().__init__()
        self.of_pixels = of_pixels
        if of_pixels:
            self.layers = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in widths)
        else:
            self.layers = nn.ModuleList([nn.Linear(sum(widths), out_channels)])

    def forward(self, taps: list[Tensor]) -> Tensor:
        """Taps -> predictions (B, out_channels, H, W) of pixels, or (B, out_channels) of pictures."""
        if not self.of_pixels:
            return self.layers[0](torch.cat([tap.mean((2, 3)) for tap in taps], 1))
        size = taps[0].shape[2:]
        each = [F.interpolate(layer(tap), size) for layer, tap in zip(self.layers, taps, strict=True)]
        return torch.stack(each).sum(0)


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions whose weights keep the size of activations (He et al. 2015), with biases of 0."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.ReLU()]
    stage = nn.Sequential(*layers)
    he_initialise(stage)
    return stage


def he_initialise(network: nn.Module) -> None:
    """Draws weights of 3x3 convolutions from N(0, 2 / (9 C_in)), as He et al. 2015, and sets biases to 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


class _Convolutions(nn.Module):
    """VGG16 without its classifier, by the names of torchvision's file."""

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg.convolutions()


def read_vgg16(path: Path) -> Vgg16Taps:
    """VGG16 with the weights of a file of torchvision's names, with or without the classifier; frozen.

    Raises:
        DataError: the file is damaged, would run code, or has the weights of another network.
    """
    whole = load_weights(path, _Convolutions(), "VGG16", ignore="classifier.")
    return Vgg16Taps(whole.features).eval().requires_grad_(False)


def without_weights(config: FeatureNetworkConfig | None) -> FeatureNetwork:
    """A feature network as it is predicted with, on the device that torch makes tensors on. None: VGG16."""
    network = Vgg16Taps() if config is None else TrainedTaps(config)
    return network.eval().requires_grad_(False)
