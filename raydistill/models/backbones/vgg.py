"""VGG16 (Simonyan and Zisserman 2015), whose features precision and recall, and losses, are computed from.

Its parameters have the names of torchvision's file.
"""

from collections.abc import Iterator

from torch import Tensor, nn

SIZE = 224
"""Height and width of pictures."""
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, number of convolutions) of each stage; a stage ends with a maximum over 2x2 pixels."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels of the pictures that it was trained on, in [0, 1]."""


class VGG16(nn.Module):
    """Pictures (B, 3, 224, 224) -> features (B, 4096): the second fully connected layer, after its ReLU.

    Pictures are normalised to mean 0 and standard deviation 1 over ImageNet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = convolutions()
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 1000),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of pictures."""
        return self.classifier[:5](self.features(pictures).flatten(1))


def convolutions() -> nn.Sequential:
    """The part of VGG16 before its classifier: pictures (B, 3, H, W) -> (B, 512, H / 32, W / 32)."""
    return nn.Sequential(*_layers())


def _layers() -> Iterator[nn.Module]:
    channels = 3
    for width, number in _STAGES:
        for _ in range(number):
            yield from (nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
            channels = width
        yield nn.MaxPool2d(2)
