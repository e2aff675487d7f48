"""A student that ships: promoted by a sweep's commands, loaded where neither this package nor torch is."""

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.artifacts import download_artifacts
from mlflow.tracking import MlflowClient
from no_ray import SETTINGS, without_ray
from PIL import Image

from raydistill.cluster.placement import Node
from raydistill.commands.cli import main
from raydistill.exchange.export import TOLERANCE
from raydistill.exchange.generator_file import load_generator, open_generator
from raydistill.records import tables
from raydistill.records.trials import read_trials
from raydistill.sweep import tracking_models, tracking_parts, tracking_store

pytestmark = pytest.mark.slow
LOAD = """
import importlib.util, json, sys
import mlflow, numpy as np
uri, model, inputs, outputs = sys.argv[1:]
assert not any(importlib.util.find_spec(name) for name in ("torch", "raydistill", "onnx", "ray"))
mlflow.set_tracking_uri(uri)
loaded = mlflow.pyfunc.load_model(model)
given = np.load(inputs)
(pictures,) = loaded.predict(given).values()
np.save(outputs, pictures)
schema = loaded.metadata.signature
print(json.dumps([schema.inputs.to_dict()[0]["tensor-spec"]["shape"],
                  schema.outputs.to_dict()[0]["tensor-spec"]["shape"]]))
"""
ENHANCE = {
    **{"data.height": 32, "data.width": 48},
    **{f"teacher.generator.widths.{width}": 4 for width in ("trunk", "hidden", "up")},
    **{f"{stage}.generator.num_blocks": 1 for stage in ("teacher", "student")},
    **{f"{stage}.budget_nimg": 32 for stage in ("evaluator", "teacher")},
    **{f"{stage}.report_every_nimg": 32 for stage in ("evaluator", "teacher", "student")},
}


def said(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit code of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["raydistill", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def swept(monkeypatch: pytest.MonkeyPatch, store: Path, *options: str | Path) -> Path:
    """A sweep's folder, whose models the sweep itself has logged."""
    wanted = tracking_models.is_wanted
    without_ray(monkeypatch, [Node("here", 2)])
    monkeypatch.setattr(tracking_models, "is_wanted", wanted)
    command = ["sweep", "--store", store, "--name", "s", "--nimg", "32", "--seconds-per-image", "0.01"]
    assert said(monkeypatch, *command, *options) == 0
    return store / "sweeps" / "s"


Ask = Callable[[Path, str, np.ndarray], tuple[np.ndarray, list[list[int]]]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Loads a model in an environment that has its requirements and nothing else: outputs and signature."""
    place = tmp_path_factory.mktemp("bare")
    made: list[Path] = []

    def asked(store: Path, model: str, inputs: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
        uri = tracking_store.default_uri(store)
        if not made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_TRACKING_URI", uri)
                requirements = download_artifacts(f"{model}/requirements.txt")
            listed = Path(requirements).read_text().split()
            assert sorted(line.split(">=")[0] for line in listed) == ["mlflow", "numpy", "onnxruntime"]
            venv.create(place / "venv", with_pip=True)
            pip = [str(place / "venv/bin/python"), "-m", "pip", "install", "-q", "-r", requirements]
            subprocess.run(pip, check=True)
            made.append(place / "venv/bin/python")
        np.save(place / "inputs.npy", inputs)
        files = [str(place / "inputs.npy"), str(place / "outputs.npy")]
        command = [str(made[0]), "-I", "-c", LOAD, uri, model, *files]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return np.load(place / "outputs.npy"), json.loads(done.stdout.splitlines()[-1])

    return asked


def difference(trial: Path, inputs: np.ndarray, pictures: np.ndarray) -> float:
    """The largest absolute difference to the trial's own pictures, which lie in [-1, 1]."""
    expected = load_generator(trial)(torch.from_numpy(inputs)).numpy()
    assert pictures.shape == expected.shape and pictures.dtype == np.float32
    return float(np.abs(pictures - expected).max())


def test_the_champion_makes_the_trials_pictures_and_goes_to_a_better_one_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "runs"
    sweep = swept(monkeypatch, store, "--trials", "3", *SETTINGS)
    table = tables.read_table(sweep / "trials.parquet")
    better = table[table["front.member"]].sort_values("metric.val/miou")["trial_id"].iloc[-1]
    first = next(
        trial.trial_id for trial in read_trials(sweep) if trial.role == "uniform" and trial.trial_id != better
    )
    generator = open_generator(sweep / "trials" / better)
    inputs = np.random.default_rng(0).normal(size=(3, *generator.input_shape)).astype(np.float32)
    pictures = {}
    for turn, trial_id in enumerate((first, better, first)):
        given = ["--licence", "CC0"] if turn == 0 else []
        assert said(monkeypatch, "promote", sweep, "--trial", trial_id, "--name", "drawn", *given) == 0
        found, signature = ask(store, "models:/drawn@champion", inputs)
        apart = difference(sweep / "trials" / trial_id, inputs, found)
        print(f"trial {trial_id}: largest difference {apart:.2g} of {TOLERANCE:g}")
        assert apart <= TOLERANCE
        assert signature == [[-1, *generator.input_shape], [-1, *generator.output_shape]]
        pictures[turn] = found
    assert np.abs(pictures[0] - pictures[1]).max() > 0.01 and np.array_equal(pictures[0], pictures[2])
    client = MlflowClient(tracking_store.default_uri(store))
    model = client.get_registered_model("drawn")
    assert [version for version, _ in json.loads(model.tags["raydistill.history.champion"])] == [
        "1",
        "2",
        "1",
    ]
    assert len(client.search_model_versions("name = 'drawn'")) == 2
    version = client.get_model_version("drawn", "1")
    assert version.tags["raydistill.licence"] == "CC0" and "Licence: CC0." in version.description
    _same_card(sweep / "trials" / first, tmp_path, version.description, monkeypatch)
    experiment = client.get_run(version.run_id).info.experiment_id
    pages = [logged.tags[tracking_parts.NOTE] for logged in client.search_logged_models([experiment])]
    assert version.description in pages and len(pages) > 2 and all("| metric |" in page for page in pages)
    capsys.readouterr()
    failed = next(iter(sweep.glob(f"trials/{better}/result.json")))
    content = json.loads(failed.read_text()) | {
        "status": "FAIL",
        "reason": "its loss is not finite",
        "network": None,
    }
    failed.write_text(json.dumps(content))
    assert said(monkeypatch, "promote", sweep, "--trial", better, "--name", "drawn") == 2
    assert "it has no model: FAIL: its loss is not finite" in capsys.readouterr().err


def _same_card(trial: Path, work: Path, in_mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card beside an export is the registry's, word for word."""
    assert said(monkeypatch, "export", trial, "--out", work / "model.onnx", "--licence", "CC0") == 0
    beside = (work / "model.onnx.md").read_text()
    assert in_mlflow[:4900] == beside[:4900] and "| metric | this | teacher |" in beside


def test_what_makes_pictures_larger_says_so_in_its_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    pictures, rng = tmp_path / "pictures", np.random.default_rng(0)
    pictures.mkdir()
    for index in range(24):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 12, 3), np.uint8))
        coarse.resize((48, 32)).save(pictures / f"{index}.png")
    settings = [text for path, value in ENHANCE.items() for text in ("--set", f"{path}={value}")]
    store = tmp_path / "runs"
    sweep = swept(
        monkeypatch,
        store,
        "--space",
        "enhance",
        "--data",
        pictures,
        "--trials",
        "1",
        *settings,
    )
    trial = next(each.trial_id for each in read_trials(sweep) if each.role == "search" and each.is_complete)
    assert said(monkeypatch, "promote", sweep, "--trial", trial, "--name", "larger") == 0
    inputs = np.random.default_rng(0).uniform(-1, 1, (2, 3, 16, 24)).astype(np.float32)
    found, signature = ask(store, "models:/larger@champion", inputs)
    assert signature == [[-1, 3, 16, 24], [-1, 3, 32, 48]] and found.shape == (2, 3, 32, 48)
    assert difference(sweep / "trials" / trial, inputs, found) <= TOLERANCE
