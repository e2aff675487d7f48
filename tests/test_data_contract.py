"""What every kind of data set has to hold, those of plug-ins too."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from cookbook import forgotten_after, written
from PIL import Image

from raydistill import data, plugins
from raydistill.config.data import DataSet
from raydistill.testing import DataContract

KINDS = ("shapes", "folder", "dots")
ConfigOf = Callable[..., DataSet]


@pytest.fixture(scope="module")
def config_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfigOf]:
    """Kind -> a config of a small data set of it."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split, number in (("train", 6), ("val", 3), ("test", 3)):
        (root / split).mkdir()
        for index in range(number):
            Image.fromarray(rng.integers(0, 255, (16, 32, 3), np.uint8)).save(root / split / f"{index}.png")
    given = {
        "shapes": {"height": 16, "width": 16, "num_train": 6, "num_val": 3, "num_test": 3},
        "folder": {"root": str(root), "height": 16, "width": 16},
        "dots": {"num_train": 6},
    }
    with forgotten_after():
        plugins.load(written(tmp_path_factory.mktemp("plug-in"), "dots.py"))
        yield lambda kind, **values: data.DATA[kind].config(**given[kind] | values)


def test_the_contract_covers_every_kind(config_of: ConfigOf) -> None:
    assert set(data.DATA) == set(KINDS)


class TestEveryKind(DataContract):
    @pytest.fixture(params=KINDS)
    def config(self, config_of: ConfigOf, request: pytest.FixtureRequest) -> DataSet:
        return config_of(request.param)
