"""VGG16 (Simonyan and Zisserman 2015), whose features precision and recall are computed from.

Its parameters have the names of torchvision's file.
"""

from collections.abc import Iterator

from torch import Tensor, nn

SIZE = 224
"""Height and width of pictures."""
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, number of convolutions) of each stage; a stage ends with a maximum over 2x2 pixels."""


class VGG16(nn.Module):
    """Pictures (B, 3, 224, 224) -> features (B, 4096): the second fully connected layer, after its ReLU.

    Pictures are normalised to mean 0 and standard deviation 1 over ImageNet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features())
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


def _features() -> Iterator[nn.Module]:
    channels = 3
    for width, number in _STAGES:
        for _ in range(number):
            yield from (nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
            channels = width
        yield nn.MaxPool2d(2)
