"""Data as published: label maps as colour pictures with ids beside them, tables of colours, middles of
pictures, LMDB, and a decoding that goes on where it was killed."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_layouts import make_cityscapes, refusal, save

from raydistill.config.base import Stored, digest
from raydistill.config.command_options import FetchOptions
from raydistill.config.data import FolderData, ShapesData
from raydistill.data import DataInfo, batch, fetch, load_split, prepare, read_info
from raydistill.data.files import file_at
from raydistill.data.folder import class_maps, folder_source
from raydistill.data.inspect import inspect
from raydistill.data.rows import Decoded, Rows
from raydistill.data.sample import Sample
from raydistill.errors import DataError
from raydistill.models.networks import evaluator_task
from raydistill.records import owners

ROAD, CAR, VOID, TREE = (128, 64, 128), (0, 0, 142), (0, 0, 0), (10, 200, 10)
TABLE = {"classes": ["road", "car", "void"], "ignore_index": 2, "palette": [ROAD, CAR, VOID]}


def config(root: Path, **fields: Any) -> FolderData:
    return FolderData.model_validate({"root": str(root), "height": 4, "width": 8, **fields})


def prepared(root: Path, **fields: Any) -> Stored:
    return prepare(config(root, **fields), root.parent / "cache")


def halves(root: Path, count: int = 10, colors: tuple[Any, ...] = (ROAD, CAR, VOID, CAR)) -> Path:
    """A|B pictures of 16 x 8: A has stripes of two pixels in these colours, B is one colour."""
    root.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        stripes = np.array(colors, np.uint8).repeat(2, 0)[None].repeat(8, 0)
        target = np.full((8, 8, 3), index, np.uint8)
        Image.fromarray(np.concatenate([stripes, target], 1)).save(root / f"{index}.png")
    return root


def with_table(root: Path, **changes: Any) -> Path:
    (root / "classes.json").write_text(json.dumps({**TABLE, **changes}))
    return root


# ---- label maps as pictures --------------------------------------------------------------------------------


def test_cityscapes_can_be_pictures_in_its_colours_with_the_ids_beside_them(tmp_path: Path) -> None:
    stored = prepared(make_cityscapes(tmp_path / "data"), label_inputs="colors")
    info, test = read_info(stored), load_split(stored, "test")
    assert (info.input_channels, info.num_classes, info.ignore_index) == (3, 19, 19)
    assert not info.inputs_are_labels and evaluator_task(info) == "pixel_class"
    assert test.labels is not None and test.labels[0, 0].tolist() == [0, 19, 18, 13] * 2
    assert test.inputs is not None
    ground = (0, 0, 0)  # of id 0, which is ignored: its published colour, not ours
    assert test.inputs[0, 0, :4].tolist() == [list(each) for each in (ROAD, ground, (119, 11, 32), CAR)]
    part = batch(test, slice(0, 2), flips=np.array([True, False]))
    assert part.inputs.shape == (2, 3, 4, 8) and part.labels is not None
    assert torch.equal(part.labels[0], part.labels[1].flip(-1))
    assert torch.equal(part.inputs[0], part.inputs[1].flip(-1))


def test_ids_are_resized_to_the_nearest_pixel_and_their_pictures_smoothly(tmp_path: Path) -> None:
    stored = prepared(make_cityscapes(tmp_path / "data"), label_inputs="colors", height=8, width=16)
    split = load_split(stored, "val")
    assert split.labels is not None and split.inputs is not None
    assert set(np.unique(split.labels)) == {0, 13, 18, 19}
    assert len(np.unique(split.inputs.reshape(-1, 3), axis=0)) > 4


def test_the_same_label_maps_one_hot_keep_their_digest(tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "data")
    plain, named = config(root), config(root, label_inputs="one_hot", split=0.15, center_crop=None)
    assert digest(plain) == digest(named) != digest(config(root, label_inputs="colors"))
    assert "label_inputs" not in json.loads((Path(prepared(root).path) / "info.json").read_text())


def test_drawn_label_maps_can_be_pictures_too(tmp_path: Path) -> None:
    data = ShapesData(num_train=2, num_val=2, num_test=2, label_inputs="colors")
    split = load_split(prepare(data, tmp_path), "train")
    assert split.inputs is not None and split.labels is not None and split.info.input_channels == 3
    assert np.array_equal(np.array(split.info.palette, np.uint8)[split.labels], split.inputs)


def test_pictures_without_label_maps_are_no_label_inputs(tmp_path: Path) -> None:
    for index in range(14):
        save(tmp_path / "data" / f"{index}.png", index, size=(8, 8))
    assert "data.label_inputs is colors" in refusal(tmp_path / "data", label_inputs="colors")


# ---- tables of colours -------------------------------------------------------------------------------------


def test_a_table_of_colours_gives_aligned_pictures_class_ids(tmp_path: Path) -> None:
    root = with_table(halves(tmp_path / "data"))
    stored = prepared(root)
    info, split = read_info(stored), load_split(stored, "train")
    assert (info.layout, info.class_names, info.ignore_index) == ("aligned", ("road", "car"), 2)
    assert (info.input_channels, evaluator_task(info)) == (3, "pixel_class") and not info.inputs_are_labels
    assert split.labels is not None and split.labels[0, 0].tolist() == [0, 0, 1, 1, 2, 2, 1, 1]
    assert split.inputs is not None and split.inputs[0, 0, ::2].tolist() == [
        *map(list, (ROAD, CAR, VOID, CAR))
    ]
    assert "classes.json" in " ".join(info.remarks) and info.left_out == ""
    ids, classes = class_maps(config(root), "train")
    assert np.array_equal(ids(0)[::2], split.labels[0]) and classes.names == ("road", "car")
    facts, _ = inspect(root)
    assert not facts.problems and facts.classes[1].share == pytest.approx(2 / 3)


def test_a_table_is_content_and_without_it_inputs_are_pictures_as_before(tmp_path: Path) -> None:
    root = halves(tmp_path / "data")
    assert not read_info(prepared(root)).has_labels
    first = prepared(with_table(root))
    assert prepared(with_table(root, classes=["road", "bus", "void"])).digest != first.digest
    turned = read_info(prepared(root, direction="BtoA"))
    assert not turned.has_labels and "the input is B" in " ".join(turned.remarks)


def test_colours_in_no_table_are_counted_and_named(tmp_path: Path) -> None:
    root = with_table(halves(tmp_path / "data", colors=(ROAD, TREE, (1, 2, 3), TREE)))
    message = refusal(root)
    assert "48 of its 64 pixels have colours" in message and "2 different ones" in message
    assert "(10, 200, 10) in 32, (1, 2, 3) in 16" in message and "Correct the picture" in message
    facts, _ = inspect(root)
    assert len(facts.problems) == 10


def test_a_tolerance_takes_smeared_colours_for_the_nearest(tmp_path: Path) -> None:
    near = tuple(channel + 3 for channel in ROAD)
    root = with_table(halves(tmp_path / "data", colors=(ROAD, near, CAR, VOID)), tolerance=2)
    assert "16 of its 64 pixels" in refusal(root)
    labels = load_split(prepared(with_table(root, tolerance=3)), "train").labels
    assert labels is not None and labels[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 2, 2]


def test_further_colours_can_be_ignored(tmp_path: Path) -> None:
    root = halves(tmp_path / "data", colors=(ROAD, TREE, CAR, (1, 2, 3)))
    table = {"classes": ["road", "car"], "palette": [ROAD, CAR], "ignored_palette": [TREE, (1, 2, 3)]}
    (root / "classes.json").write_text(json.dumps(table))
    stored = prepared(root)
    assert read_info(stored).ignore_index == 2
    labels = load_split(stored, "train").labels
    assert labels is not None and labels[0, 0].tolist() == [0, 0, 2, 2, 1, 1, 2, 2]


def test_a_table_without_colours_or_with_one_twice_is_refused(tmp_path: Path) -> None:
    root = halves(tmp_path / "data")
    (root / "classes.json").write_text('{"classes": ["road", "car"]}')
    assert "without a palette" in refusal(root)
    with_table(root, palette=[ROAD, CAR, CAR])
    assert "a colour stands for two classes" in refusal(root)
    with_table(root, tolerance=300)
    assert "tolerance" in refusal(root)


# ---- the middle --------------------------------------------------------------------------------------------


def test_the_middle_is_taken_before_a_picture_is_resized(tmp_path: Path) -> None:
    for index in range(14):
        picture = np.zeros((218, 178, 3), np.uint8)
        picture[20:198] = 200  # the middle 178 rows
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "data" / f"{index}.png")
    stored = prepared(tmp_path / "data", center_crop=178, height=64, width=64)
    assert (load_split(stored, "train").targets == 200).all()
    assert "178x218, and data.center_crop takes 179x179" in refusal_beside(tmp_path / "data", center_crop=179)


def refusal_beside(root: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepared(root, **fields)
    return str(caught.value)


def test_both_halves_and_label_maps_lose_the_same_border(tmp_path: Path) -> None:
    root = with_table(halves(tmp_path / "data"))
    split = load_split(prepared(root, center_crop=4, width=4), "train")
    assert split.labels is not None and split.labels[0, 0].tolist() == [1, 1, 2, 2]
    assert split.inputs is not None and split.inputs[0, 0, 0].tolist() == list(CAR)
    assert class_maps(config(root, center_crop=4), "train")[0](0).shape == (4, 4)


# ---- LMDB --------------------------------------------------------------------------------------------------


def write_lmdb(root: Path, sizes: tuple[int, ...] = (8, 16), count: int = 14, length: bytes = b"") -> Path:
    lmdb = pytest.importorskip("lmdb")
    root.mkdir()
    with lmdb.open(str(root), map_size=2**24) as database, database.begin(write=True) as transaction:
        for index in range(count):
            for size in sizes:
                content = io.BytesIO()
                Image.new("RGB", (size, size), (index, size, 0)).save(content, "PNG")
                transaction.put(f"{size}-{index:05d}".encode(), content.getvalue())
        transaction.put(b"length", length or str(count).encode())
    return root


@pytest.mark.parametrize(("size", "taken"), [(8, 8), (12, 16), (16, 16), (32, 16)])
def test_pictures_of_an_lmdb_are_those_of_the_size_that_fits(tmp_path: Path, size: int, taken: int) -> None:
    stored = prepared(write_lmdb(tmp_path / "data"), height=size, width=size)
    info, split = read_info(stored), load_split(stored, "train")
    assert info.layout == "lmdb" and sum(info.counts.values()) == 14 and info.pairing == "pictures"
    assert set(split.targets[:, 0, 0, 1].tolist()) == {taken}
    assert f"those of {taken} are taken" in " ".join(info.remarks)
    seen = [int(each[0, 0, 0]) for name in info.counts for each in load_split(stored, name).targets]
    assert sorted(seen) == list(range(14))


def test_an_lmdb_that_lacks_what_it_should_hold_is_refused(tmp_path: Path) -> None:
    assert "no key 16-00019" in refusal(write_lmdb(tmp_path / "short", length=b"20"))
    assert "the key length is b'many'" in refusal(write_lmdb(tmp_path / "odd", length=b"many"))
    assert "no key such as 256-00000" in refusal(write_lmdb(tmp_path / "other", sizes=()))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "data.mdb").write_bytes(b"nothing")
    assert "cannot be read as LMDB" in refusal(tmp_path / "none")


def test_without_the_package_an_lmdb_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert "pip install 'raydistill[lmdb]'" in refusal(tmp_path / "data")


# ---- decoding by several threads, and after a kill ---------------------------------------------------------


def test_samples_come_in_their_order_whatever_takes_longer(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(12)]
    for path in paths:
        save(path)
    source = folder_source(config(tmp_path))
    assert source.counts["train"] == 8
    samples = [Sample(path.stem, file_at(path)) for path in paths]

    def decode(sample: Sample) -> Decoded:
        time.sleep(0.02 * (int(sample.name) % 3 == 0))
        return Decoded((np.array(int(sample.name)),), "RGB", Counter({"turned": 1}))

    rows = Rows(samples, decode, alone=True)
    assert [int(each) for each in rows] == list(range(12)) and rows.counted == {"turned": 12}
    later = rows.after(5, {"turned": 5})
    assert [int(each) for each in later] == list(range(5, 12)) and later.counted == {"turned": 12}


_CHILD = """
import sys, time
from pathlib import Path
from raydistill.config.data import FolderData
from raydistill.data import prepare, storing
storing._SAVED_BYTES = 1000
saved = storing._saved
def slow(*values):
    print("saved", flush=True)
    time.sleep(0.05)
    return saved(*values)
storing._saved = slow
prepare(FolderData(root=sys.argv[1], height=64, width=64), Path(sys.argv[2]))
"""


def test_a_decoding_that_was_killed_goes_on_with_the_same_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for index in range(40):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
        picture.save(tmp_path / "data" / f"{index}.jpg", exif=exif)
    data = FolderData(root=str(tmp_path / "data"), height=64, width=64)
    whole = prepare(data, tmp_path / "other")
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, data.root, str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    for _ in range(6):
        assert child.stdout.readline() == b"saved\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    (left,) = (tmp_path / "cache").iterdir()
    (rows,) = json.loads((left / "progress.json").read_text())["rows"].values()
    assert 0 < rows < 28
    decoded: list[str] = []
    monkeypatch.setattr(
        Rows, "_decode_one", lambda self, sample: decoded.append(sample.name) or self._decode(sample)
    )
    again = prepare(data, tmp_path / "cache")
    assert again.digest == whole.digest and len(decoded) == 40 - rows
    assert "40 turned" in " ".join(read_info(again).remarks)
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [Path(again.path).name]


def test_what_was_begun_long_ago_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = tmp_path / f".decoding-abc-{owners.mark().replace(str(os.getpid()), str(dead.pid))}"
    folder.mkdir()
    owners.remove_left(tmp_path)
    assert folder.exists()
    os.utime(folder, (0, 0))
    owners.remove_left(tmp_path)
    assert not folder.exists()


# ---- fetching ----------------------------------------------------------------------------------------------


def test_the_sets_of_gan_compression_have_their_names(tmp_path: Path) -> None:
    for name in ("edges2shoes-r", "edges2handbags-r"):
        (download,) = fetch.SETS[name]
        assert download.url.endswith(f"/gan-compression/resolve/main/datasets/{name}.tar.gz")
    with pytest.raises(DataError, match="Nearest: 'edges2shoes-r'"):
        fetch.run(FetchOptions(name="edges2shoes_r", to=tmp_path))


def test_info_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    stored = prepare(ShapesData(num_train=2, num_val=2, num_test=2), tmp_path)
    values = read_info(stored).model_dump(mode="json")
    assert "label_inputs" not in values and DataInfo.model_validate(values).label_inputs == "one_hot"
