"""The commands of docs/how-to/published-experiments.md on small fake files in the real layouts, whole and
with a file missing."""

import json
import re
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from raydistill.commands.cli import main
from raydistill.sweep.rates import Rate, Rates

TEXT = (Path(__file__).parent.parent / "docs" / "how-to" / "published-experiments.md").read_text()
COMMANDS = {
    title: command
    for title, command in re.findall(r"^## (.*?)\n.*?```sh\n(.*?)\n```", TEXT, re.DOTALL | re.MULTILINE)
}


def picture(path: Path, width: int, height: int, value: int = 99, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), value if mode == "L" else (value,) * 3).save(path)


def edges2shoes(data: Path) -> Path:
    for index in range(14):
        picture(data / "edges2shoes" / "train" / f"{index}_AB.jpg", 512, 256)
    for index in (1, 2):
        picture(data / "edges2shoes" / "val" / f"{index}_AB.jpg", 512, 256)
    return data / "edges2shoes" / "train"


def cityscapes(data: Path) -> Path:
    for split, city in (("train", "ulm"), ("val", "lindau")):
        for frame in range(14):
            stem = f"{city}_{frame:06d}_000019"
            picture(data / "cityscapes" / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", 64, 32)
            picture(
                data / "cityscapes" / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", 64, 32, 7, "L"
            )
    return data / "cityscapes" / "gtFine" / "val" / "lindau" / "lindau_000003_000019_gtFine_labelIds.png"


def unpaired(name: str) -> Callable[[Path], Path]:
    def make(data: Path) -> Path:
        for folder in ("trainA", "trainB", "testA", "testB"):
            for index in range(14):
                picture(data / name / folder / f"n02381460_{index}.jpg", 256, 256)
        return data / name / "trainB"

    return make


def packed(name: str, size: tuple[int, int], extra: dict[str, str]) -> Callable[[Path], Path]:
    def make(data: Path) -> Path:
        data.mkdir()
        with zipfile.ZipFile(data / name, "w") as archive:
            for index in range(14):
                picture(data / "one.jpg", *size, index)
                archive.write(data / "one.jpg", f"img_align_celeba/{index + 1:06d}.jpg")
            for inside, content in extra.items():
                archive.writestr(inside, content)
        return data / name

    return make


MAKERS: dict[str, Callable[[Path], Path]] = {
    "pix2pix, edges2shoes": edges2shoes,
    "pix2pix, Cityscapes": cityscapes,
    "CycleGAN, horse2zebra": unpaired("horse2zebra"),
    "CycleGAN, summer2winter": unpaired("summer2winter_yosemite"),
    "SAGAN, CelebA": packed("img_align_celeba.zip", (178, 218), {}),
    "StyleGAN2, FFHQ": packed("ffhq256.zip", (256, 256), {"dataset.json": json.dumps({"labels": None})}),
}
"""Experiment -> what makes its fake files and returns the one that is taken away."""


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], tuple[int, str]]:
    monkeypatch.chdir(tmp_path)

    def never(**options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("raydistill.cluster.runtime.start_ray", never)
    kinds = ("evaluator", "teacher", "student", "student with MI", "without a teacher")
    given = Rates(
        "a test", {kind: [Rate(0, 0.5)] for kind in kinds}
    )  # at 256x256 the steps to measure take minutes
    monkeypatch.setattr("raydistill.sweep.plan_report.rates_of", lambda plan, **rest: given)

    def call(command: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out + printed.err

    return call


def test_every_documented_experiment_is_tested() -> None:
    assert set(COMMANDS) == set(MAKERS) and all("--plan" in command for command in COMMANDS.values())


@pytest.mark.parametrize("name", MAKERS)
def test_a_documented_command_checks_the_real_layout_and_trains_nothing(
    run: Any, tmp_path: Path, name: str
) -> None:
    MAKERS[name](tmp_path / "data")
    code, printed = run(COMMANDS[name])
    assert code == 0 and "nothing was trained" in printed and "test" in printed, printed
    assert not list((tmp_path / "runs").glob("sweeps/*"))


@pytest.mark.parametrize(
    ("made", "space", "layout", "printed"),
    [
        (
            unpaired("x"),
            "aligned",
            "auto",
            "this data is unpaired, and the recipe pix2pix trains on pairs of an input and a picture",
        ),
        (
            packed("x.zip", (64, 64), {}),
            "aligned",
            "pictures",
            "this data is pictures, and the recipe pix2pix",
        ),
        (
            packed("x.zip", (64, 64), {}),
            "cyclegan",
            "pictures",
            "this data is pictures, and the recipe cyclegan trains on two folders",
        ),
    ],
)
def test_data_that_a_recipe_cannot_use_are_refused_before_they_are_decoded(
    run: Any, tmp_path: Path, made: Callable[[Path], Path], space: str, layout: str, printed: str
) -> None:
    made(tmp_path / "data")
    (given,) = [path for path in (tmp_path / "data").iterdir() if path.stem == "x"]
    code, words = run(f"raydistill sweep --plan --space {space} --data {given} --set data.layout={layout}")
    assert code == 2 and printed in words and "--space cyclegan" in words
    assert not list(tmp_path.rglob("*_targets.npy"))


@pytest.mark.parametrize("name", MAKERS)
def test_a_missing_file_is_named(run: Any, tmp_path: Path, name: str) -> None:
    gone = MAKERS[name](tmp_path / "data")
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    code, printed = run(COMMANDS[name])
    named = (
        f"{gone.parent}: data.layout is aligned: needed are {gone.name}"
        if name == "pix2pix, edges2shoes"
        else str(gone)
    )
    assert code == 2 and named in printed
