"""Label maps: ids, colours or masks. Each form is understood, or refused with what settles it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.config.data import FolderData
from raydistill.config.sweep_options import SweepOptions
from raydistill.data import DataInfo, load_split, prepare, read_info
from raydistill.errors import DataError, SpaceError
from raydistill.models.networks import evaluator_task
from raydistill.planning.checks import check

RNG = np.random.default_rng(0)


def blocks(*values: int) -> np.ndarray:
    """16 x 16 in blocks of 4, of these values; all occur."""
    chosen = np.resize(np.array(values, np.uint8), 16)
    return RNG.permutation(chosen).reshape(4, 4).repeat(4, 0).repeat(4, 1)


Save = Callable[[Path, np.ndarray], None]


def grey(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).save(path.with_suffix(".png"))


def make(root: Path, values: tuple[int, ...], save: Save = grey, classes: Any = None) -> Path:
    for index in range(12):
        for name in ("images", "labels"):
            (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (index, 0, 0)).save(root / "images" / f"{index}.png")
        save(root / "labels" / f"{index}", blocks(*values))
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def info(root: Path) -> DataInfo:
    return read_info(prepare(FolderData(root=str(root), height=16, width=16), root.parent / "cache"))


def ids(root: Path) -> list[int]:
    stored = prepare(FolderData(root=str(root), height=16, width=16), root.parent / "cache")
    labels = load_split(stored, "train").labels
    assert labels is not None
    return sorted(np.unique(labels).tolist())


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        info(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def settled(message: str, root: Path) -> DataInfo:
    """What comes of writing the classes.json that a refusal gives."""
    start = message.index('{"classes"')
    (root / "classes.json").write_text(message[start : message.index("}", start) + 1])
    return info(root)


def rgb(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids[..., None].repeat(3, 2)).save(path.with_suffix(".png"))


def deep(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids.astype(np.uint16)).save(path.with_suffix(".png"))


def with_alpha(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).convert("LA").save(path.with_suffix(".png"))


def one_bit(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids > 0).save(path.with_suffix(".png"))


def pgm(path: Path, ids: np.ndarray) -> None:
    header = f"P5 {ids.shape[1]} {ids.shape[0]} 3\n".encode()
    path.with_suffix(".pgm").write_bytes(header + ids.tobytes())


def tiff(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).save(path.with_suffix(".tif"))


def palette(path: Path, ids: np.ndarray, colors: tuple[int, ...] = (0, 0, 0, 200, 0, 0, 0, 200, 0)) -> None:
    image = Image.fromarray(ids)
    image.putpalette(colors)
    image.save(path.with_suffix(".png"))


COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [9, 9, 9]], np.uint8)


def colored(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(COLORS[ids]).save(path.with_suffix(".png"))


@pytest.mark.parametrize("save", [grey, rgb, deep, with_alpha, pgm, tiff])
def test_ids_in_files_of_every_kind_are_the_same_ids(tmp_path: Path, save: Save) -> None:
    root = make(tmp_path / "data", (0, 1, 2, 3), save)
    assert info(root).num_classes == 4 and info(root).remarks == () and ids(root) == [0, 1, 2, 3]


def test_pictures_of_one_bit_have_two_classes(tmp_path: Path) -> None:
    assert ids(make(tmp_path / "data", (0, 1), one_bit)) == [0, 1]


def test_a_mask_of_0_and_255_is_background_and_object(tmp_path: Path) -> None:
    for save in (grey, rgb, tiff):
        root = make(tmp_path / save.__name__, (0, 255), save)
        assert info(root).class_names == ("background", "object") and info(root).ignore_index is None
        assert "0 and 255: background and object" in info(root).remarks[0] and ids(root) == [0, 1]


def gif(path: Path, label: np.ndarray) -> None:
    """Pillow numbers the colours of a GIF anew, those that occur alone."""
    Image.fromarray(label).save(path.with_suffix(".gif"))


def white_first(path: Path, label: np.ndarray) -> None:
    picture = Image.fromarray((label == 0).astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(path.with_suffix(".png"))


@pytest.mark.parametrize("save", [gif, white_first])
def test_a_mask_in_black_and_white_by_a_palette_is_background_and_object(tmp_path: Path, save: Save) -> None:
    """Whatever numbers its writer gave to the two colours."""
    root = make(tmp_path / "data", (0, 255), save)
    assert info(root).class_names == ("background", "object") and ids(root) == [0, 1]


def test_ids_whose_palette_says_nothing_or_has_colours_beside_white_stay_ids(tmp_path: Path) -> None:
    for number, palette in enumerate(([0, 0, 0] * 4, [255, 255, 255, 0, 0, 0, 0, 0, 255, 9, 9, 9])):

        def save(path: Path, label: np.ndarray, palette: list[int] = palette) -> None:
            picture = Image.fromarray(label, "P")
            picture.putpalette(palette)
            picture.save(path.with_suffix(".png"))

        root = make(tmp_path / str(number), (0, 1, 2, 3), save)
        assert info(root).num_classes == 4 and ids(root) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 127, 254), "0, 127, 254"),
        ((0, 128, 255), "0, 128, 255"),
        ((0, 200), "0, 200"),
        ((10, 20, 30, 40), "10, 20, 30, 40"),
        ((3, 255), "3 and 255"),
        ((7,), "all labels are 7"),
    ],
)
def test_values_that_do_not_say_what_they_mean_are_refused_and_classes_json_settles_it(
    tmp_path: Path, values: tuple[int, ...], says: str
) -> None:
    root = make(tmp_path / "data", values)
    message = refusal(root)
    assert says in message
    if len(values) > 1:
        assert settled(message, root).num_classes == len(values)
        assert ids(root) == list(range(len(values)))


def test_few_small_ids_of_which_some_never_occur_are_classes_and_that_is_said(tmp_path: Path) -> None:
    found = info(make(tmp_path / "data", (0, 9)))
    assert found.num_classes == 10 and "0 to 9, 8 never occur" in found.remarks[0]


def resized(path: Path, ids: np.ndarray) -> None:
    larger = Image.fromarray(ids).resize((40, 40))
    larger.resize((16, 16), Image.Resampling.BILINEAR).save(path.with_suffix(".png"))


def lossy(path: Path, ids: np.ndarray) -> None:
    large = Image.fromarray(ids.repeat(8, 0).repeat(8, 1))
    large.rotate(30).save(path.with_suffix(".jpg"), quality=60)
    Image.open(path.with_suffix(".jpg")).save(path.with_suffix(".png"))
    path.with_suffix(".jpg").unlink()


def named_png(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).save(path.with_suffix(".png"), "JPEG")


@pytest.mark.parametrize("values", [(0, 255), (0, 80, 160, 240), (0, 128)])
@pytest.mark.parametrize("save", [resized, lossy, named_png])
def test_smeared_masks_are_refused(tmp_path: Path, save: Save, values: tuple[int, ...]) -> None:
    message = refusal(make(tmp_path / "data", values, save))
    assert "JPEG" in message or "most never occur" in message


def test_values_above_255_and_transparent_label_maps_are_refused(tmp_path: Path) -> None:
    def instances(path: Path, ids: np.ndarray) -> None:
        Image.fromarray(ids.astype(np.uint16) * 1000).save(path.with_suffix(".png"))

    def cut_out(path: Path, ids: np.ndarray) -> None:
        image = Image.fromarray(ids).convert("RGBA")
        image.putalpha(Image.fromarray(ids))
        image.save(path.with_suffix(".png"))

    root = make(tmp_path / "a", (1, 2, 3), instances)
    assert "values 1000 to 3000. Allowed: class ids 0 to 255" in refusal(root)
    root = make(tmp_path / "b", (0, 1, 2), cut_out)
    assert "mode RGBA with transparent pixels" in refusal(root)


# ---- colours and palettes ----------------------------------------------------------------------------------

LISTED = {"classes": ["void", "red", "green"], "palette": COLORS[:3].tolist(), "ignore_index": 0}


def test_colours_need_the_palette_of_classes_json_and_are_ids_by_it(tmp_path: Path) -> None:
    root = make(tmp_path / "data", (0, 1, 2), colored)
    assert "3 colours" in refusal(root) and '"palette": [[r, g, b], ...]' in refusal(root)
    (root / "classes.json").write_text(json.dumps(LISTED | {"palette": None}))
    assert "the label has mode RGB" in refusal(root)
    (root / "classes.json").write_text(json.dumps(LISTED))
    found = info(root)
    assert (found.class_names, found.ignore_index) == (("red", "green"), 2)
    assert "hold the colours of classes.json" in found.remarks[0] and ids(root) == [0, 1, 2]


def test_a_colour_that_is_not_listed_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "data", (0, 1, 2, 3), colored, LISTED)
    message = refusal(root)
    assert "colours of the label maps that are not in its palette, 1: (9, 9, 9) in 12 files" in message


def test_palettes_that_differ_are_refused_and_read_by_the_colours_that_are_listed(tmp_path: Path) -> None:
    def turned(path: Path, ids: np.ndarray) -> None:
        if path.name == "7":
            palette(path, (2 - ids).astype(np.uint8), (0, 200, 0, 200, 0, 0, 0, 0, 0))
        else:
            palette(path, ids)

    root = make(tmp_path / "data", (0, 1, 2), turned)
    assert "the palettes of label files differ: index " in refusal(root)
    (root / "classes.json").write_text(json.dumps(LISTED))
    assert ids(root) == [0, 1, 2] and info(root).num_classes == 2
    same = make(tmp_path / "same", (0, 1, 2), palette)
    assert info(same).num_classes == 3 and ids(same) == [0, 1, 2]


def test_ids_and_colours_in_one_set_are_refused(tmp_path: Path) -> None:
    def mixed(path: Path, ids: np.ndarray) -> None:
        (rgb if path.name == "4" else grey)(path, ids)

    assert "4.png: the label has mode RGB, and" in refusal(make(tmp_path / "data", (0, 1, 2), mixed))


# ---- classes.json ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({"classes": ["a", "b"], "ids": [0]}, "ids: 1 values, 1 of them different. Allowed: 2"),
        ({"classes": ["a", "b"], "ids": [0, 0]}, "ids: 2 values, 1 of them different"),
        ({"classes": ["a", "b"], "ids": [0, 300]}, "ids 0 to 255"),
        ({"classes": ["a", "b"], "ids": [0, 2]}, "the label id 1 is not a class. Allowed: 0, 2"),
        ({"classes": ["a", "b"], "ignore_index": 0}, "only b occurs in the label maps"),
    ],
)
def test_a_classes_json_that_does_not_fit_is_refused(tmp_path: Path, classes: Any, says: str) -> None:
    assert says in refusal(make(tmp_path / "data", (0, 1), classes=classes))


def test_the_classes_json_of_the_guide_is_understood(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs/how-to/own-data.md").read_text()
    classes = json.loads(page.split("```json\n")[1].split("```")[0])
    root = make(tmp_path / "ids", (0, 127, 254), classes=classes)
    assert info(root).class_names == ("road", "car") and info(root).ignore_index == 2
    assert ids(root) == [0, 1, 2]

    def painted(path: Path, ids: np.ndarray) -> None:
        Image.fromarray(np.array(classes["palette"], np.uint8)[ids]).save(path.with_suffix(".png"))

    assert ids(make(tmp_path / "colours", (0, 1, 2), painted, classes)) == [0, 1, 2]


def test_a_value_beside_the_ids_may_be_the_ignored_one(tmp_path: Path) -> None:
    classes = {"classes": ["a", "b"], "ids": [0, 127], "ignore_index": 254}
    root = make(tmp_path / "data", (0, 127, 254), classes=classes)
    assert (info(root).num_classes, info(root).ignore_index) == (2, 2) and ids(root) == [0, 1, 2]


def test_label_maps_of_0_alone_have_one_class_which_is_said_and_no_score(tmp_path: Path) -> None:
    found = info(make(tmp_path / "data", (0,)))
    assert found.num_classes == 1 and "All pixels are of one class, class_0" in found.remarks[0]
    assert evaluator_task(found) == "rotation"
    with pytest.raises(SpaceError, match="two classes of pixels or more, and this data has one"):
        sizes = ("data.height=16", "data.width=16")
        data, store = str(tmp_path / "data"), str(tmp_path / "runs")
        check(SweepOptions(space="camvid", data=data, store=store, set=sizes))
