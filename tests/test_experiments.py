"""The commands of docs/how-to/published-experiments.md on small fake files in the real layouts, whole and
with a file missing."""

import re
import shlex
import shutil
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from published_layouts import LAYOUTS

from raydistill.cluster import runtime
from raydistill.commands.cli import main
from raydistill.config.published import PUBLISHED
from raydistill.evaluation.extractors import sha256_of
from raydistill.models.backbones.drn import DRN105
from raydistill.models.backbones.inception import Inception
from raydistill.sweep.rates import Rate, Rates

TEXT = (Path(__file__).parent.parent / "docs" / "how-to" / "published-experiments.md").read_text()
COMMANDS = {
    section.partition("\n")[0]: found[1]
    for section in TEXT.split("\n## ")[1:]
    if (found := re.search(r"```sh\n(.*?)\n```", section)) is not None
}
"""Title of a section -> its command."""
INCEPTION, DRN = "pt_inception-2015-12-05-6726825d.pth", "drn-d-105_ms_cityscapes.pth"


def picture(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (99,) * 3).save(path)


def unpaired(data: Path) -> Path:
    for folder in ("trainA", "trainB", "testA", "testB"):
        for index in range(14):
            picture(data / "x" / folder / f"n02381460_{index}.jpg", 256, 256)
    return data / "x"


def packed(data: Path) -> Path:
    data.mkdir()
    with zipfile.ZipFile(data / "x.zip", "w") as archive:
        for index in range(14):
            picture(data / "one.jpg", 64, 64)
            archive.write(data / "one.jpg", f"img_align_celeba/{index + 1:06d}.jpg")
    return data / "x.zip"


TAKEN: dict[str, str] = {
    "pix2pix, edges2shoes, U-Nets": "train",
    "pix2pix, edges2shoes, ResNets": "train",
    "pix2pix, Cityscapes, U-Nets": "gtFine/val/lindau/lindau_000003_000019_gtFine_labelIds.png",
    "pix2pix, Cityscapes, ResNets": "gtFine/val/lindau/lindau_000003_000019_gtFine_labelIds.png",
    "CycleGAN, horse2zebra": "trainB",
    "CycleGAN, summer2winter": "trainB",
    "SAGAN, CelebA": "",
    "StyleGAN2, FFHQ": "",
    "Enhancement, any pictures": "",
}
"""Experiment -> what of its data is taken away; "": all."""


def named(title: str) -> str:
    """The published space of a command."""
    found = re.search(r"--space published/(\S+)", COMMANDS[title])
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights under the names of the published files."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(Inception().state_dict(), folder / INCEPTION)
    torch.save(DRN105().state_dict(), folder / DRN)
    return folder


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path
) -> Callable[[str], tuple[int, str]]:
    monkeypatch.chdir(tmp_path)
    for name in (INCEPTION, DRN):
        (tmp_path / name).symlink_to(weights / name)
    # the random weights stand for the published ones, whose distance alone is called FID
    monkeypatch.setattr("raydistill.evaluation.extractors.TF_INCEPTION", sha256_of(weights / INCEPTION))

    def never(**options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("raydistill.cluster.runtime.start_ray", never)
    # StyleGAN2's full widths need 24 GiB on CPUs
    large = runtime.this_machine()._replace(memory_bytes=2**37)
    monkeypatch.setattr("raydistill.cluster.runtime.this_machine", lambda: large)
    # at 256x256 the steps to measure take minutes
    given = Rates("a test", defaultdict(lambda: [Rate(0, 0.5)]))
    monkeypatch.setattr("raydistill.sweep.plan_report.rates_of", lambda plan, **rest: given)

    def call(command: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out + printed.err

    return call


def test_every_documented_experiment_is_tested() -> None:
    assert set(COMMANDS) - {"Try it out first"} == set(TAKEN)
    assert all("--plan" in COMMANDS[title] for title in TAKEN)
    assert {named(title) for title in TAKEN} == set(LAYOUTS) == set(PUBLISHED)


@pytest.mark.parametrize("title", TAKEN)
def test_a_documented_command_checks_the_real_layout_and_trains_nothing(
    run: Any, tmp_path: Path, title: str
) -> None:
    LAYOUTS[named(title)](tmp_path / "data")
    code, printed = run(COMMANDS[title])
    assert code == 0 and "nothing was trained" in printed and "test" in printed, printed
    assert not list((tmp_path / "runs").glob("sweeps/*"))


@pytest.mark.slow
def test_the_command_that_tries_it_out_plans_two_trials_and_a_uniform_baseline(
    run: Any, tmp_path: Path
) -> None:
    LAYOUTS["pix2pix_edges2shoes_unet"](tmp_path / "data")
    code, printed = run(COMMANDS["Try it out first"])
    assert code == 0, printed
    assert "2 searched trials; 2 baselines (uniform 16 over 16, no teacher 16 over 16)" in printed


@pytest.mark.parametrize(
    ("made", "space", "layout", "printed"),
    [
        (
            unpaired,
            "aligned",
            "auto",
            "this data is unpaired, and the recipe pix2pix trains on pairs of an input and a picture",
        ),
        (
            packed,
            "aligned",
            "pictures",
            "this data is pictures, and the recipe pix2pix",
        ),
        (
            packed,
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


@pytest.mark.parametrize("title", TAKEN)
def test_a_missing_file_is_named(run: Any, tmp_path: Path, title: str) -> None:
    data = LAYOUTS[named(title)](tmp_path / "data")
    gone = data / TAKEN[title] if TAKEN[title] else data
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    code, printed = run(COMMANDS[title])
    words = str(gone)
    if "edges2shoes" in title:
        words = f"{data}: data.layout is aligned: needed are train"
    assert code == 2 and words in printed
