"""Every kind of extractor and segmenter against its contract, with files of random weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raydistill.evaluation.extractors import EXTRACTORS
from raydistill.evaluation.segmenters import SEGMENTERS
from raydistill.testing import ExtractorContract, SegmenterContract

COMPRESSED = Path(__file__).parents[2] / "shared/data/squeezenet_dc/compressed_SqueezeNet.net"
NUM_CLASSES = 19
BIG = (pytest.mark.slow,)
"""Files of 100 to 550 MB."""
EXTRACTOR_CASES = {
    "inception": BIG,
    "squeezenet": (pytest.mark.realdata,),
    "vgg16": BIG,
    "torchscript": (),
}
SEGMENTER_CASES = {"drn105": BIG, "torchscript": ()}
"""Kind -> marks of its case."""


class Means(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).flatten(1)


class Shades(nn.Module):
    """Scores of classes that are shades of grey."""

    def forward(self, pictures: Tensor) -> Tensor:
        grey = pictures.float().mean(1, keepdim=True) / 255
        return -(grey - torch.linspace(0, 1, 19).view(1, 19, 1, 1)).abs()


def file_of(kind: str, network: nn.Module | None, small: nn.Module, folder: Path) -> str:
    """KIND=FILE: a file with random weights of the network, or the small one as TorchScript."""
    file = folder / f"{kind}.pth"
    torch.manual_seed(0)
    if network is None:
        torch.jit.save(torch.jit.script(small), file)
    else:
        torch.save(network.state_dict(), file)
    return f"{kind}={file}"


class TestExtractor(ExtractorContract):
    @pytest.fixture(
        params=[pytest.param(kind, marks=marks) for kind, marks in EXTRACTOR_CASES.items()],
    )
    def option(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
        kind = request.param
        if kind == "squeezenet":
            if not COMPRESSED.is_file():
                pytest.skip("squeezenet_dc is not there")
            return f"squeezenet={COMPRESSED}"
        network = EXTRACTORS[kind].network
        return file_of(kind, network and network(), Means(), tmp_path_factory.mktemp(kind))


class TestSegmenter(SegmenterContract):
    @pytest.fixture
    def num_classes(self) -> int:
        return NUM_CLASSES

    @pytest.fixture(params=[pytest.param(kind, marks=marks) for kind, marks in SEGMENTER_CASES.items()])
    def option(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
        network = SEGMENTERS[request.param].network
        folder = tmp_path_factory.mktemp(request.param)
        return file_of(request.param, network and network(), Shades(), folder)


def test_every_kind_has_a_case() -> None:
    assert set(EXTRACTOR_CASES) == set(EXTRACTORS) and set(SEGMENTER_CASES) == set(SEGMENTERS)
