"""VGG16 (Simonyan and Zisserman 2015) with the parameter names of torchvision's file: the features of precision and recall."""

from collections.abc import Iterator

from torch import Tensor, nn

SIZE = 224
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions); each stage ends with a maximum over 2x2."""


class VGG16(nn.Module):
    """(B, 3, 224, 224), ImageNet mean 0 and deviation 1 -> (B, 4096): the second fully connected layer after its ReLU."""

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
        return self.classifier[:5](self.features(pictures).flatten(1))


def _features() -> Iterator[nn.Module]:
    channels = 3
    for width, number in _STAGES:
        for _ in range(number):
            yield from (nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
            channels = width
        yield nn.MaxPool2d(2)
