"""With and without one change: which trainings are paired, what is refused, what is said, and where."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from made_sweeps import made_sweep
from no_ray import SETTINGS, without_ray
from notebook import run_cells
from PIL import Image
from test_compare import command
from test_results import scored, synthetic_trials

from raydistill import load_sweep
from raydistill.cluster.placement import Node
from raydistill.commands.ablate_pairs import asked_for
from raydistill.config.analysis_options import AblateOptions
from raydistill.errors import ConfigError, StoreError
from raydistill.records import ablated, tables
from raydistill.records.retrained import read_retrained
from raydistill.sweep.tracking_store import default_uri

NOTEBOOK = Path(__file__).parent.parent / "docs/tutorial/look-at-a-sweep.ipynb"
QUALITIES: Any = (("val/miou", "max"),)


def pair(seed: int, changed: str, trial_id: str = "0001", **values: Any) -> ablated.Pair:
    given = {"change": "student.terms.mi.weight=0", "equal": "images", "trial_id": trial_id, "seed": seed}
    given |= {"unchanged": trial_id, "changed": changed, "qualities": QUALITIES}
    return ablated.Pair.model_validate(given | values)


def trained(number: int, miou: float) -> Any:
    trial = next(each for each in synthetic_trials() if each.is_complete and each.role == "uniform")
    trial = scored(trial, metrics={"val/miou": miou}, test={"test/miou": miou / 2})
    return trial.model_copy(update={"trial_id": f"c{number}"})


def test_pairs_become_differences_and_a_verdict_over_seeds() -> None:
    """Of two trials each seed counts once, with the mean of their differences."""
    trials = {f"c{number}": trained(number, 0.5 + 0.01 * number) for number in range(20)}
    trials |= {name: trained(0, 0.5).model_copy(update={"trial_id": name}) for name in ("0001", "0002")}
    pairs = [pair(seed, f"c{seed + 1}") for seed in range(6)]
    pairs += [pair(seed, f"c{seed + 7}", "0002") for seed in range(6)]
    table = ablated.pair_table([*pairs, pair(9, "not there")], trials)
    assert set(table["metric"]) == {"val/miou", "test/miou"} and len(table) == 24
    val = table[table["metric"] == "val/miou"]
    assert val["difference"].to_numpy() == pytest.approx([0.01 * number for number in range(1, 13)])
    said = ablated.verdict_table(val).set_index("trial_id")
    assert set(said.index) == {"0001", "0002", ablated.ALL}
    assert said.loc[ablated.ALL, "difference"] == pytest.approx(0.065) and said.loc[ablated.ALL, "pairs"] == 6
    assert set(said["verdict"]) == {"better"}
    few = ablated.verdict_table(val[val["seed"] < 2])
    assert set(few["verdict"]) == {"not told apart"}
    assert few["sentence"].str.contains("2 pairs of seeds; 6 would do at the earliest").all()
    assert ablated.verdict_table(pd.DataFrame()).empty


def test_pairs_are_kept_once_and_damage_is_said(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, "one")
    assert ablated.read(sweep) == [] and ablated.facts(sweep) == {}
    ablated.add(sweep, [pair(0, "a"), pair(1, "b")])
    ablated.add(sweep, [pair(1, "b"), pair(2, "c")])
    assert [each.seed for each in ablated.read(sweep)] == [0, 1, 2]
    (sweep / "ablations.json").write_text("{}")
    with pytest.raises(StoreError, match=r"ablations\.json: damaged"):
        ablated.read(sweep)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny sweeps in runs/, trained in this process."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, [Node("here", 2)])
        patch.chdir(folder)
        for name, seed in (("first", "0"), ("second", "1")):
            given = ("--nimg", "32", "--trials", "2", "--seconds-per-image", "0.01", "--seed", seed)
            assert command(patch, "sweep", "--name", name, *given, *SETTINGS) == 0
    return folder


@pytest.mark.slow
def test_a_change_is_ablated_by_seeds_and_recorded_everywhere(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_ray(monkeypatch, [Node("here", 2)])
    monkeypatch.chdir(store)
    sweep = store / "runs/sweeps/first"
    trials = load_sweep(sweep).trials
    searched = trials["trial_id"][trials["role"] == "search"].iloc[0]
    number = str(int(searched))
    change = "student.terms.mi.weight=0.3"
    given = ("ablate", str(sweep), "--set", change, "--trials", number)
    assert command(monkeypatch, *given, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["unchanged_id"] for row in said["pairs"]} == {searched}, "the sweep has it already"
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("retrained/*/result.json")}
    assert len(before) == 1
    (rechecked,) = trials.loc[trials["role"] == "recheck", "recheck_of"]  # the same job by two workers
    options = AblateOptions(
        sweep=str(sweep), set=("student.optimizer.learning_rate=1e-3",), trials=(rechecked,)
    )
    assert [each.unchanged for each in asked_for(sweep, options).pairs] == [rechecked]
    assert command(monkeypatch, *given, "--seeds", "2") == 0
    out = capsys.readouterr().out
    assert "not told apart: 2 pairs of seeds; " in out
    assert len(list(sweep.glob("retrained/*/result.json"))) == 3
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    table = ablated.read_table(sweep)
    ids = set(load_sweep(sweep).retrained["trial_id"]) | set(trials["trial_id"])
    assert set(table["unchanged_id"]) | set(table["changed_id"]) <= ids
    assert (table["unchanged_nimg"] == table["changed_nimg"]).all()
    for trial in read_retrained(sweep):
        weight = trial.job_json["training"]["terms"]["mi"]["weight"]
        assert (weight == 0.3) == (trial.lineage is not None and trial.lineage.get("change") == change)
    assert f"change {change}" in (sweep / "frontier.html").read_text()
    client = mlflow.MlflowClient(default_uri(store / "runs"))
    (experiment,) = client.search_experiments(filter_string="name = 'raydistill'")
    runs = client.search_runs([experiment.experiment_id], f"tags.`raydistill.ablation` = '{change}'")
    assert len(runs) == 2
    assert command(monkeypatch, *given, "--equal", "time") == 0
    timed = ablated.read_table(sweep).query("equal == 'time'")
    assert len(timed) and (timed["changed_nimg"] % 8 == 0).all()
    assert command(monkeypatch, "plot", str(sweep), "--kind", "ablation", "--out", "a.svg") == 0
    capsys.readouterr()
    for words, says in (
        (("--set", "student.terms.mi.wieght=0"), "wieght"),
        (("--set", "teacher.batch_size=4"), "paths below student are allowed"),
        (("--set", "student.seed=4"), "there are --seeds and --equal"),
        ((), "which change"),
        (("--set", change, "--trials", "99"), "no trained student"),
        (("--set", change, "--trials", "x"), "numbers of trials with commas"),
    ):
        assert command(monkeypatch, "ablate", str(sweep), *words) == 2
        assert says in capsys.readouterr().err
    assert tables.read_table(sweep / "trials.parquet").shape[0] == len(trials), "the sweep stays as it is"


@pytest.mark.slow
def test_the_notebook_runs_and_students_map_pictures_to_pictures(store: Path) -> None:
    shown = run_cells(NOTEBOOK, store)
    assert "SweepResult" in repr(shown[0][-1])
    (figure,) = (each for cell in shown for each in cell if type(each).__name__ == "Figure")
    assert figure.data[0].name == "front"
    assert sum(isinstance(each, Image.Image) for cell in shown for each in cell) == 2
    sweep = load_sweep(store / "runs/sweeps/first")
    student = sweep.student("0001")
    inputs = student.inputs(3)
    made = student(inputs)
    assert made.dtype == np.uint8 and made.shape == (3, 32, 32, 3)
    assert (student(inputs[0]) == made[0]).all()
    with pytest.raises(ConfigError, match="takes label maps, uint8"):
        student(inputs.astype(float))
    with pytest.raises(ConfigError, match="values up to 200"):
        student(np.full((1, 32, 32), 200, np.uint8))
    with pytest.raises(StoreError, match="there is no trial '0099'"):
        sweep.student("0099")
    with pytest.raises(StoreError, match=r"there is no trial '\.\./0001'"):
        sweep.samples("../0001")


def test_the_notebook_is_small_and_keeps_its_pictures() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert NOTEBOOK.stat().st_size < 200_000
    outputs = [each for cell in content["cells"] for each in cell.get("outputs", [])]
    assert sum("image/png" in each.get("data", {}) for each in outputs) == 3
    assert "/tmp" not in NOTEBOOK.read_text() and "/home" not in NOTEBOOK.read_text()
