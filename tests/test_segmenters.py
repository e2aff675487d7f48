"""Scores by classes at the size of the label files, as published for Cityscapes; an evaluator trained by
itself and its ceiling."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from PIL import Image
from test_layouts import make_cityscapes
from torch import Tensor, nn

from raydistill.commands.cli import main
from raydistill.commands.evaluate import EvaluateOptions, evaluate
from raydistill.errors import ConfigError, DataError
from raydistill.evaluation import metrics
from raydistill.evaluation.scoring import Score
from raydistill.evaluation.segmenters import load_segmenter
from raydistill.models.backbones import drn

CPU = torch.device("cpu")
ROAD, SKY = 7, 23
"""Label ids; their train ids are 0 and 10."""


class Bright(nn.Module):
    """Scores of 19 classes: bright pixels are sky, dark ones road, at half the size of the pictures."""

    def forward(self, pictures: Tensor) -> Tensor:
        bright = F.avg_pool2d(pictures.float().mean(1, keepdim=True) / 255, 2)
        scores = torch.zeros(len(pictures), 19, bright.shape[2], bright.shape[3])
        scores[:, 10] = bright[:, 0]
        scores[:, 0] = 1 - bright[:, 0]
        return scores


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("segmenter") / "bright.pt"
    torch.jit.save(torch.jit.script(Bright()), path)
    return f"torchscript={path}"


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """64x32: the upper half is white sky, the lower half black road."""
    root = make_cityscapes(tmp_path / "streets")
    for path in root.glob("leftImg8bit/*/*/*.png"):
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:16] = 255
        Image.fromarray(picture).save(path)
    for path in root.glob("gtFine/*/*/*.png"):
        label = np.full((32, 64), ROAD, np.uint8)
        label[:16] = SKY
        label[31] = 0  # ignored
        Image.fromarray(label).save(path)
    return root


def scores(given: Path, streets: Path, script: str, **options: Any) -> dict[str, Score]:
    defaults: dict[str, Any] = {
        "split": "test",
        "paired": True,
        "resamples": 0,
        "store": str(streets.parent / "runs"),
        "data": str(streets),
    }
    found = evaluate(EvaluateOptions(given=(str(given),), segmenters=(script,), **(defaults | options)), CPU)
    return {score.name: score for score in found[str(given)]}


def save(folder: Path, pictures: np.ndarray) -> Path:
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index}.png")
    return folder


def test_scores_are_resized_to_the_label_files_and_the_real_pictures_are_the_ceiling(
    streets: Path, script: str, tmp_path: Path
) -> None:
    """Fakes of 16x8 whose sky is half as high: by hand, 8 of the 16 rows of labels."""
    fakes = np.zeros((9, 8, 16, 3), np.uint8)
    fakes[:, :2] = 255
    found = scores(save(tmp_path / "fakes", fakes), streets, script)
    miou = found["test/miou_script_bright"]
    assert (
        miou.resize == "scores bilinear to 64x32"
        and miou.num_samples == 9
        and miou.extractor.startswith("weights of unknown digest")
    )
    assert miou.ceiling == 1.0 and found["test/pixel_accuracy_script_bright"].ceiling == 1.0
    # the four rows of scores are sky, road, road, road; enlarged eight times, the border is half way between
    # the first two centres
    assert miou.value == pytest.approx((8 / 16 + 15 / 23) / 2, abs=1e-12)
    assert found["test/pixel_accuracy_script_bright"].value == pytest.approx((8 + 15) / 31, abs=1e-12)


def test_labels_are_needed_and_their_classes(streets: Path, script: str, tmp_path: Path, stages: Any) -> None:
    """Prepared data have labels of the size of the pictures; pictures alone have none."""
    fakes = save(tmp_path / "fakes", np.zeros((8, 16, 16, 3), np.uint8))
    with pytest.raises(ConfigError, match="needs labels: give --data FOLDER with label files"):
        scores(fakes, fakes, script, split="val", real=str(fakes), data=None)
    for data in (stages.data.path, "shapes"):
        with pytest.raises(DataError, match="scores of 19 classes, the data has 8"):
            few = ("data.num_train=8", "data.num_val=8", "data.num_test=8") if data == "shapes" else ()
            few += ("data.height=16", "data.width=16") if data == "shapes" else ()
            scores(fakes, Path(data), script, split="val", store=str(tmp_path / "runs"), set=few)
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Upsample(scale_factor=1.0))), tmp_path / "three.pt")
    for path in streets.glob("leftImg8bit/*/*/*.png"):
        Image.new("RGB", (32, 32)).save(path)
    for path in streets.glob("gtFine/*/*/*.png"):
        Image.new("L", (32, 32)).save(path)
    with pytest.raises(DataError, match="scores of 3 classes, the data has 19"):
        scores(fakes, streets, f"torchscript={tmp_path / 'three.pt'}", paired=True, num=8)


def test_drn_takes_normalised_pictures_and_gives_log_probabilities_of_19_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = drn.DRN105()
    torch.save(network.state_dict(), tmp_path / "drn.pth")
    segmenter = load_segmenter(f"drn105={tmp_path / 'drn.pth'}", CPU)
    pictures = torch.randint(0, 256, (2, 3, 16, 32)).to(torch.uint8)
    found = segmenter.scores(pictures)
    assert segmenter.suffix == "_drn105" and found.shape == (2, 19, 16, 32)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 16, 32), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        normal = torch.stack([(pictures[:, i] / 255.0 - drn.MEAN[i]) / drn.STD[i] for i in range(3)], 1)
        torch.testing.assert_close(found, network.eval()(normal).log_softmax(1), rtol=1e-4, atol=1e-4)
    taken: list[Tensor] = []
    monkeypatch.setattr(drn.DRN105, "forward", lambda self, inputs: taken.append(inputs) or inputs)
    segmenter.scores(pictures)
    torch.testing.assert_close(taken[0], normal, rtol=0, atol=1e-5)


def test_a_segmenter_that_is_none_is_refused(tmp_path: Path) -> None:
    for given, printed in (
        ("drn=x", "Allowed kinds: drn105, torchscript"),
        (f"drn105={tmp_path / 'absent'}", "cannot be read"),
    ):
        with pytest.raises(DataError, match=printed):
            load_segmenter(given, CPU)
    (tmp_path / "text.pt").write_text("no")
    with pytest.raises(DataError, match="not a TorchScript file"):
        load_segmenter(f"torchscript={tmp_path / 'text.pt'}", CPU)


# ---- evaluator train ---------------------------------------------------------------------------------------


@pytest.fixture
def train(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(tmp_path)
    tiny = [f"--set={path}={value}" for path, value in TINY.items() if path.startswith("evaluator")]
    drawn = [f"--set={path}={value}" for path, value in TINY.items() if path.startswith("data")]

    def run(*given: str) -> tuple[int, str]:
        arguments = given or drawn
        monkeypatch.setattr(sys, "argv", ["raydistill", "evaluator", "train", *tiny, *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out + printed.err

    return run


def test_a_evaluator_is_trained_once_and_its_ceiling_is_its_score_of_real_pictures(
    train: Any, tmp_path: Path
) -> None:
    code, printed = train()
    (folder,) = (tmp_path / "runs" / "cache" / "evaluator").iterdir()
    (data,) = (tmp_path / "runs" / "cache" / "data").iterdir()
    written = (folder / "network" / "weights.safetensors").stat().st_mtime_ns
    assert (
        code == 0 and "of 8 classes: val/miou" in printed and f"--data {data} --evaluator {folder}" in printed
    )
    assert train()[0] == 0 and (folder / "network" / "weights.safetensors").stat().st_mtime_ns == written
    real = save(tmp_path / "real", np.load(data / "val_targets.npy"))
    options = EvaluateOptions(
        given=(str(real),), data=str(data), evaluator=str(folder), paired=True, resamples=0
    )
    miou = next(score for score in evaluate(options, CPU)[str(real)] if score.name == "val/miou")
    assert miou.value == miou.ceiling and f"val/miou {miou.value:.4f}" in printed


def test_a_evaluator_of_pictures_without_labels_tells_quarter_turns(train: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for index in range(14):
        Image.new("RGB", (16, 16)).save(tmp_path / "data" / f"{index}.png")
    code, printed = train("--space", "camvid", "--data", "data", "--set", "data.height=16")
    assert code == 0 and "of quarter turns: " in printed and "the ceiling of what it scores" in printed


def test_miou_by_hand_ignores_classes_that_do_not_occur() -> None:
    assert metrics.mean_iou(torch.tensor([[2, 1, 0], [0, 3, 0], [0, 0, 0]])) == pytest.approx(
        (2 / 3 + 3 / 4) / 2
    )
