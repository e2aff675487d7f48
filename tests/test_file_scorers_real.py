"""A sweep on CamVid by two networks from files: SqueezeNet, and a segmenter that was trained here."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import spawned
from no_ray import TINY, without_ray
from test_file_scorers import CPU, run, score_on_workers

from raydistill.cluster.placement import Node
from raydistill.commands.evaluate import evaluate
from raydistill.config.command_options import EvaluateOptions
from raydistill.config.scoring import Scoring
from raydistill.evaluation.evaluator_scores import score_network
from raydistill.models import saved
from raydistill.models.backbones.inception import Inception
from raydistill.records import tables
from raydistill.records.trials import read_trials

SHARED = Path(__file__).parents[2] / "shared" / "data"
SQUEEZENET = SHARED / "squeezenet_dc" / "compressed_SqueezeNet.net"
SMALL = {path: value for path, value in TINY.items() if not path.startswith("data.")}
SMALL |= {"data.height": 48, "data.width": 64}
SETTINGS = [text for path, value in SMALL.items() for text in ("--set", f"{path}={value}")]


@pytest.mark.slow
@pytest.mark.realdata
def test_two_of_three_objectives_are_measured_by_files_on_real_streets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if not SQUEEZENET.is_file():
        pytest.skip("the shared data sets are not beside the project")
    monkeypatch.chdir(tmp_path)
    without_ray(monkeypatch, [Node("here", 2)])
    given = ["--data", str(SHARED / "camvid"), *SETTINGS]
    larger = ("--set", "evaluator.network.width=8", "--set", "evaluator.budget_nimg=3200")
    assert run(monkeypatch, "evaluator", "train", "--space", "camvid", "--store", "own", *given, *larger) == 0
    (own,) = (tmp_path / "own" / "cache" / "evaluator").iterdir()
    assert run(monkeypatch, "export", str(own), "--format", "torchscript", "--out", "streets.pt") == 0
    objectives = ("val/kd_squeezenet:min", "val/miou_script_streets:max", "cost/macs:min")
    options = [text for name in objectives for text in ("--objective", name)]
    options += ["--extractor", f"squeezenet={SQUEEZENET}", "--segmenter", "torchscript=streets.pt"]
    options += ["--nimg", "64", "--trials", "2"]
    capsys.readouterr()
    assert run(monkeypatch, "sweep", "--space", "camvid", "--store", "runs", *given, *options) == 0
    print(capsys.readouterr().out)
    folder = tmp_path / "runs" / "sweeps" / "camvid-001"
    table = tables.read_table(folder / "trials.parquet")
    names = ("val/kd_squeezenet", "val/fd_squeezenet", "val/precision_squeezenet", "val/recall_squeezenet")
    names += ("val/miou_script_streets",)
    assert table[[f"metric.{name}" for name in names]].notna().all().all()
    assert table["num_samples"].eq(101).all()
    member = table[table["front.member"]].iloc[0]["trial_id"]
    (trial,) = (each for each in read_trials(folder) if each.trial_id == member)
    assert trial.result is not None
    given_to_evaluate = EvaluateOptions(
        given=(str(folder / "trials" / member),),
        extractors=(f"squeezenet={SQUEEZENET}",),
        segmenters=("torchscript=streets.pt",),
        resamples=0,
    )
    (found,) = evaluate(given_to_evaluate, CPU).values()
    of_evaluate = {score.name: score.value for score in found}
    assert all(trial.result.metrics[name] == of_evaluate[name] for name in names)
    scored_by(trial.job.scoring, trial, folder, tmp_path)


@pytest.mark.slow
def test_an_inception_of_other_weights_scores_under_a_name_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A whole sweep by `fd_inception`: `fid` is refused, and stands nowhere."""
    monkeypatch.chdir(tmp_path)
    without_ray(monkeypatch, [Node("here", 2)])
    torch.manual_seed(0)
    torch.save(Inception().state_dict(), "random.pth")
    drawn = [text for path, value in TINY.items() for text in ("--set", f"{path}={value}")]
    options = ["--extractor", "inception=random.pth", "--num-scored", "8", "--nimg", "32", "--trials", "2"]
    options += ["--seconds-per-image", "0.01", *drawn, "--objective", "cost/macs:min", "--objective"]
    assert run(monkeypatch, "sweep", *options, "val/fid:min") == 2
    assert "TF-2015 weights" in capsys.readouterr().err
    assert run(monkeypatch, "sweep", *options, "val/fd_inception:min") == 0
    printed = capsys.readouterr().out
    print(printed)
    folder = tmp_path / "runs" / "sweeps" / "default-001"
    table = tables.read_table(folder / "trials.parquet")
    assert table["metric.val/fd_inception"].notna().all() and "metric.val/fid" not in table
    assert "val fd_inception" in printed and "biased" in printed
    member = table[table["front.member"]].iloc[0]
    given = EvaluateOptions(
        given=(str(folder / "trials" / member["trial_id"]),),
        extractors=("inception=random.pth",),
        resamples=0,
        num=8,
    )
    (found,) = evaluate(given, CPU).values()
    by_name = {score.name: score for score in found}
    assert by_name["val/fd_inception"].value == member["metric.val/fd_inception"]
    assert by_name["val/fd_inception"].extractor.startswith("weights of unknown digest")


def scored_by(scoring: Scoring | None, trial: Any, folder: Path, tmp_path: Path) -> None:
    """Two workers say what one says; and how long it takes with and without what the store has."""
    assert scoring is not None
    network, job = saved.stored(folder / "trials" / trial.trial_id / "network"), trial.job
    given, seconds = (network, job.data, job.evaluator), list[float]()
    alone = scoring.model_copy(update={"statistics": str(tmp_path / "alone")})
    for _ in range(2):
        started = time.perf_counter()
        scores = score_network(*given, "val", CPU, alone)
        seconds.append(time.perf_counter() - started)
    print(f"scoring: {seconds[0]:.1f} s, {seconds[1]:.1f} s with shared statistics")
    assert {name: scores[0][name] for name in scores[0]} == {
        name: trial.result.metrics[name] for name in scores[0]
    }
    together = scoring.model_copy(update={"statistics": str(tmp_path / "together")}).model_dump_json()
    texts = [each.model_dump_json() for each in given]
    spawned(score_on_workers, (tmp_path, 2, texts, together), 2)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text())[0] == scores[0]
