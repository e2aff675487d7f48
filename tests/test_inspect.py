"""`data inspect` as the place to look: what it says of splits, sizes and duplicates, and what it writes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.commands.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Exit code, and what it said on both streams."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["raydistill", "data", "inspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def make(root: Path, number: int = 20, size: tuple[int, int] = (8, 6)) -> Path:
    rng = np.random.default_rng(number)
    root.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.png")
    return root


def facts(inspect: Run, root: Path, code: int = 0) -> dict[str, Any]:
    given, out, _ = inspect(root, "--json")
    assert given == code
    return dict(json.loads(out)[0])


def test_equal_pictures_in_two_splits_are_named_whatever_their_files_are(
    inspect: Run, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    make(root / "train", 20)
    make(root / "test", 5)
    Image.open(root / "train" / "7.png").save(root / "test" / "same.tif")
    (twice,) = facts(inspect, root)["duplicates"]
    assert (twice["splits"], twice["pictures"]) == (["train", "test"], 1)
    assert [Path(each).name for each in twice["example"]] == ["7.png", "same.tif"]
    assert "1 in test are in train, too, such as" in inspect(root)[1]


def test_odd_pictures_are_named_and_shown_first(inspect: Run, tmp_path: Path) -> None:
    root = make(tmp_path / "data", 60)
    Image.new("RGB", (8, 6), (9, 9, 9)).save(root / "flat.png")
    Image.radial_gradient("L").resize((30, 6)).convert("RGB").save(root / "zz wide.png")
    odd = {Path(each["picture"]).name: each["why"] for each in facts(inspect, root)["odd"]}
    assert odd["flat.png"] == "all of one colour" and "30x6, most are 8x6" in odd["zz wide.png"]
    sheet = np.asarray(Image.open("contact-sheet.png").convert("RGB"))
    assert (sheet == (9, 9, 9)).all(2).any()  # of 62 pictures 24 are shown, and the flat one is the 61st


def test_shares_of_classes_are_given_by_split_and_labels_lie_over_pictures(
    inspect: Run, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    for split, share in (("train", 4), ("val", 2), ("test", 8)):
        make(root / split / "images", 4, (8, 8))
        (root / split / "labels").mkdir()
        for index in range(4):
            ids = (np.arange(8)[None].repeat(8, 0) < share).astype(np.uint8)
            Image.fromarray(ids).save(root / split / "labels" / f"{index}.png")
    shares = facts(inspect, root)["classes"][1]["share_by_split"]
    assert shares == {"train": 0.5, "val": 0.25, "test": 1.0}
    assert "class_1 train 50.0%, val 25.0%, test 100.0%" in inspect(root)[1]
    assert Image.open("contact-sheet.png").width > 6 * 3 * 90  # label, both, picture: three a sample


def test_nothing_of_the_users_is_overwritten_and_the_facts_are_printed_all_the_same(
    inspect: Run, tmp_path: Path
) -> None:
    root = make(tmp_path / "data")
    (tmp_path / "notes.png").write_bytes(b"mine")
    for sheet, why in (
        (tmp_path / "notes.png", "is there and no contact sheet"),
        (root / "0.png", "would lie in the data set"),
        (root / "new.png", "would lie in the data set"),
        (tmp_path / "nowhere" / "a.png", "No such file or directory"),
        (Path("/proc/a.png"), "not written"),
        (tmp_path, "a regular file"),
    ):
        before = {path: path.read_bytes() for path in root.iterdir()}
        code, out, err = inspect(root, "--sheet", sheet)
        assert code == 1 and "train 20" in out and why in out and not err, sheet
        assert before == {path: path.read_bytes() for path in root.iterdir()}
    assert (tmp_path / "notes.png").read_bytes() == b"mine"
    for _ in range(2):  # a sheet is written anew
        assert inspect(root, "--sheet", tmp_path / "sheet.jpg")[0] == 0
    assert Image.open(tmp_path / "sheet.jpg").format == "PNG"


def test_a_default_sheet_that_cannot_be_written_is_no_problem_of_the_data(
    inspect: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "data")
    monkeypatch.chdir(root)
    code, out, _ = inspect(".")
    assert code == 0 and "not written: contact-sheet.png would lie in the data set" in out
    assert not (root / "contact-sheet.png").exists()


def test_the_last_line_says_what_was_left_out(inspect: Run, tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    (root / "a.heic").write_bytes(b"")
    assert inspect(root)[1].splitlines()[-1] == "  left out: 1 .heic"
    assert facts(inspect, root)["left_out"] == "1 .heic"
