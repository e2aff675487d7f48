"""The real street frames of CamVid through the same door as any folder."""

from pathlib import Path

import numpy as np
import pytest

from raydistill.config.base import Stored
from raydistill.config.data import FolderData
from raydistill.data import batch, load_split, prepare, read_info

CAMVID = Path(__file__).parents[2] / "shared" / "data" / "camvid"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not CAMVID.is_dir(), reason="camvid is not beside the project"),
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return prepare(FolderData(root=str(CAMVID), height=48, width=64), tmp_path_factory.mktemp("cache"))


def test_camvid_has_its_published_splits_and_11_classes(stored: Stored) -> None:
    info = read_info(stored)
    assert info.counts == {"train": 367, "val": 101, "test": 233}
    assert (info.num_classes, info.ignore_index, info.input_channels) == (11, 11, 12)
    assert (info.class_names[0], info.class_names[-1]) == ("sky", "bicyclist")
    assert info.palette[3] == (128, 64, 128)


def test_camvid_labels_have_all_classes_and_ignored_pixels_in_about_the_published_shares(
    stored: Stored,
) -> None:
    labels = load_split(stored, "train").labels
    assert labels is not None
    share = np.bincount(labels.ravel(), minlength=12) / labels.size
    assert (share > 0).all() and share.size == 12
    assert share[3] == pytest.approx(0.29, abs=0.05)


def test_camvid_gives_batches(stored: Stored) -> None:
    part = batch(load_split(stored, "val"), np.array([0, 50, 100]))
    assert part.inputs.shape == (3, 12, 48, 64) and part.target.shape == (3, 3, 48, 64)
    assert -1 <= part.target.min() < -0.5 and 0.5 < part.target.max() <= 1
