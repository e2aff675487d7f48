"""DRN-D-105 for segmentation (Yu et al. 2017).

Its parameters have the names of the published file `drn-d-105_ms_cityscapes.pth`.
"""

from torch import Tensor, nn

MEAN = (0.290101, 0.328081, 0.286964)
STD = (0.182954, 0.186566, 0.184475)
"""Mean and standard deviation of Cityscapes, RGB in [0, 1], with which the published weights were trained."""


class DRN105(nn.Module):
    """Pictures (B, 3, H, W) -> class scores (B, num_classes, H, W), for H and W divisible by 8.

    Pictures are normalised: `MEAN` is subtracted, and the result is divided by `STD`.
    """

    def __init__(self, num_classes: int = 19):
        super().__init__()
        self.base = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 16, 7, padding=3, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            _convolution(16, 16),
            _convolution(16, 32, stride=2),
            _stage(32, 64, 3, stride=2),
            _stage(256, 128, 4, stride=2),
            _stage(512, 256, 23, dilation=2),
            _stage(1024, 512, 3, dilation=4),
            _convolution(2048, 512, dilation=2),
            _convolution(512, 512),
        )
        self.seg = nn.Conv2d(512, num_classes, 1)
        self.up = nn.ConvTranspose2d(
            num_classes, num_classes, 16, stride=8, padding=4, groups=num_classes, bias=False
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Class scores of pictures."""
        return self.up(self.seg(self.base(pictures)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut.

    The shortcut is a 1x1 convolution where the size or the number of channels changes.
    """

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        return self.bn3(self.conv3(x)).add_(shortcut).relu_()


def _stage(in_channels: int, width: int, number: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, dilation) for _ in range(number - 1)))


def _convolution(in_channels: int, width: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride, dilation, dilation, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
