"""What every kind of data set has to hold."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raydistill import data
from raydistill.config.data import DataSet
from raydistill.data import load_split, prepare, read_info
from raydistill.data.source import SplitName

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class DataContract:
    """The contract of a kind of data set. A subclass, whose name begins with Test, has a fixture `config`,
    the config of a small data set:

        class TestDots(DataContract):
            @pytest.fixture
            def config(self):
                return DotsData(num_train=6)
    """

    def test_what_is_found_says_what_is_read(self, config: DataSet) -> None:
        """Counts and sizes of the source are those of the pictures."""
        source = data.DATA[config.kind].find(config)
        assert isinstance(config, data.DATA[config.kind].config) and set(source.counts) == set(SPLITS)
        for split in SPLITS:
            rows = list(source.read(split))
            assert len(rows) == source.counts[split] > 0
            for target, *rest in rows:
                assert target.dtype == np.uint8 and target.shape == (config.height, config.width, 3)
                assert all(each.dtype == np.uint8 and each.shape[:2] == target.shape[:2] for each in rest)

    def test_the_same_config_is_the_same_data_wherever_it_is_prepared(
        self, config: DataSet, tmp_path: Path
    ) -> None:
        """And another size is other data."""
        first, second = (prepare(config, tmp_path / name) for name in ("a", "b"))
        larger = config.model_copy(update={"height": config.height + 4, "width": config.width + 4})
        other = prepare(larger, tmp_path / "c")
        assert first.digest == second.digest != other.digest
        for split in SPLITS:
            own, again = (load_split(each, split) for each in (first, second))
            assert np.array_equal(own.targets, again.targets) and len(own) == read_info(first).counts[split]

    def test_what_is_prepared_is_not_decoded_again(
        self, config: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The source's identity alone says whether the data are there."""
        first = prepare(config, tmp_path)
        own = data.DATA[config.kind]

        def found(given: DataSet) -> data.Source:
            def never(split: SplitName) -> Iterator[tuple[np.ndarray, ...]]:
                raise AssertionError("it was decoded")

            return replace(own.find(given), read=never)

        monkeypatch.setitem(data.DATA, config.kind, own._replace(find=found))
        assert prepare(config, tmp_path) == first
