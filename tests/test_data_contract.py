"""What every kind of data set has to hold, those of plug-ins too."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cookbook import forgotten_after, written
from PIL import Image

from raydistill import data, plugins
from raydistill.config.data import DataSet
from raydistill.data import load_split, prepare, read_info
from raydistill.data.source import SplitName

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
KINDS = ("shapes", "folder", "dots")
every_kind = pytest.mark.parametrize("kind", KINDS)
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


@every_kind
def test_what_is_found_says_what_is_read(config_of: ConfigOf, kind: str) -> None:
    """Counts and sizes of the source are those of the pictures."""
    config = config_of(kind)
    source = data.DATA[kind].find(config)
    assert config.kind == kind and set(source.counts) == set(SPLITS)
    for split in SPLITS:
        rows = list(source.read(split))
        assert len(rows) == source.counts[split] > 0
        for target, *rest in rows:
            assert target.dtype == np.uint8 and target.shape == (config.height, config.width, 3)
            assert all(each.dtype == np.uint8 and each.shape[:2] == target.shape[:2] for each in rest)


@every_kind
def test_the_same_config_is_the_same_data_wherever_it_is_prepared(
    config_of: ConfigOf, kind: str, tmp_path: Path
) -> None:
    first, second = (prepare(config_of(kind), tmp_path / name) for name in ("a", "b"))
    other = prepare(config_of(kind, height=20, width=20), tmp_path / "c")
    assert first.digest == second.digest != other.digest
    for split in SPLITS:
        own, again = (load_split(each, split) for each in (first, second))
        assert np.array_equal(own.targets, again.targets) and len(own) == read_info(first).counts[split]


@every_kind
def test_what_is_prepared_is_not_decoded_again(
    config_of: ConfigOf, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(config_of(kind), tmp_path)
    own = data.DATA[kind]

    def found(config: DataSet) -> data.Source:
        def never(split: SplitName) -> Iterator[tuple[np.ndarray, ...]]:
            raise AssertionError("it was decoded")

        return replace(own.find(config), read=never)

    monkeypatch.setitem(data.DATA, kind, own._replace(find=found))
    assert prepare(config_of(kind), tmp_path) == first
