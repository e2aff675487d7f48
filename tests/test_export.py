"""`raydistill export` and `latency`: every family in every format equals PyTorch, what a card says, what
is refused."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages, quiet
from families import CASES, Case
from PIL import Image
from safetensors.torch import load_file, save_file

from raydistill.commands import latency
from raydistill.commands.cli import main
from raydistill.commands.export import ExportOptions, run
from raydistill.commands.latency import LatencyOptions, measure
from raydistill.data import batch, load_split
from raydistill.errors import ConfigError, RunError, StoreError
from raydistill.exchange import generator_file, model_card_facts
from raydistill.exchange.export import FORMATS, TOLERANCE, write_checked
from raydistill.exchange.generator_file import inputs_for, load_exported, open_generator
from raydistill.models import GENERATORS, saved
from raydistill.records import measured
from raydistill.records.trials import Trial, TrialResult, read_result, write_result, write_trial

FIXTURE = Path(__file__).parent / "fixtures" / "sweep_of_job_version_2" / "sweeps" / "old"


def network(case: Case, folder: Path) -> Path:
    """A network of random weights on disk, as training leaves one."""
    torch.manual_seed(0)
    module = GENERATORS[case.config.family].build(case.config, case.in_channels)
    for (
        parameter
    ) in module.parameters():  # gamma and noise strengths start at 0, which would hide what is behind them
        if parameter.numel() == 1:
            torch.nn.init.constant_(parameter, 0.3)
    saved.save(folder, "generator", module, case.config)
    return folder


@pytest.fixture(scope="module")
def trial(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student as a sweep leaves it."""
    folder = tmp_path_factory.mktemp("sweep") / "trials" / "0003"
    job = stages.student_job(mi__weight=0.0)
    trained = quiet(job, folder)
    facts: dict[str, Any] = {key: {} for key in ("params", "costs", "digests")}
    facts |= {"number": 3, "trial_id": "0003", "role": "search", "label": "", "trial_key": "", "seed": 0}
    write_trial(folder, Trial.model_validate(facts | {"job": job.model_dump(mode="json")}))
    result: dict[str, Any] = {
        "trial_key": job.key,
        "budget_nimg": 32,
        "hardware": "",
        "git_revision": "abc",
        "status": "COMPLETE",
        "reason": "",
    }
    result |= {
        "nimg": trained.nimg,
        "metrics": trained.metrics,
        "evaluations": trained.evaluations,
        "wall_sec": 1.0,
        "gpu_sec": 0.0,
    }
    network = trained.network.model_dump() | {"path": "network"}
    result |= {"context": trained.context, "network": network}
    write_result(folder, TrialResult.model_validate(result))
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_an_exported_generator_puts_out_what_pytorch_does_at_any_batch_size(
    case: Case, name: str, tmp_path: Path
) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    finished = open_generator(network(case, tmp_path / "network"), (case.height, case.width))
    assert (finished.in_channels, finished.config) == (case.in_channels, case.config)
    inputs, out = inputs_for(finished)[0], tmp_path / f"out{FORMATS[name].suffix}"
    assert write_checked(finished, inputs, FORMATS[name], out) <= 1e-4
    seven = torch.cat([inputs, -inputs])[:7]
    with torch.no_grad():
        torch.testing.assert_close(
            FORMATS[name].run(out, seven), finished.module(seven), rtol=1e-4, atol=1e-4
        )
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [out.name]


def test_a_file_whose_output_differs_is_not_written(tmp_path: Path) -> None:
    finished = open_generator(network(CASES["resnet"], tmp_path / "network"), (16, 24))
    wrong = FORMATS["torchscript"]._replace(
        run=lambda file, inputs: FORMATS["torchscript"].run(file, inputs) + 2e-4
    )
    with pytest.raises(
        RunError,
        match=r"out.pt: not written: its output differs from PyTorch's by 0.00020\d*, allowed are 0.0001",
    ):
        write_checked(finished, inputs_for(finished)[0], wrong, tmp_path / "out.pt")
    broken = wrong._replace(run=lambda file, inputs: FORMATS["torchscript"].run(file, inputs) * float("nan"))
    with pytest.raises(RunError, match="differs from PyTorch's by nan"):
        write_checked(finished, inputs_for(finished)[0], broken, tmp_path / "out.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["network"]


def test_a_trial_is_checked_on_its_data_and_its_card_tells_where_it_comes_from(
    trial: Path,
    stages: Stages,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(ExportOptions(given=str(trial), format="torchscript", licence="MIT")) == 0
    printed, card = capsys.readouterr().out, Path("0003.pt.md").read_text()
    assert "4 inputs of the val split of its data" in printed and "0003.pt.md" in printed
    measured = read_result(trial)
    assert measured is not None
    for part in (
        *("family `resnet`", "Licence: MIT", "convention `true`", "recipe: distill", "images seen: 32"),
        *(
            f"data: {stages.data.digest}",
            f"teacher: {stages.teacher.digest}",
            f"evaluator: {stages.evaluator.digest}",
        ),
        *(
            f"| val/miou | {measured.metrics['val/miou']:.6g} |",
            "extractor evaluator",
            '"family": "resnet"',
        ),
    ):
        assert part in card, part


def test_a_card_has_intervals_of_the_same_numbers_and_the_teachers_and_baselines_beside(
    tmp_path: Path,
) -> None:
    sweep = Path(shutil.copytree(FIXTURE, tmp_path / "sweeps" / "old"))
    folder, teacher = sweep / "trials/0006", sweep / "trials/0000"
    own, beside = read_result(folder), read_result(teacher)
    assert own is not None and beside is not None
    value, of_teacher = own.metrics["val/miou"], beside.metrics["val/miou"]
    assert "| metric | this | teacher | uniform 2 |" in model_card_facts.scores(folder, own)
    assert "No 95 % intervals" in model_card_facts.scores(folder, own)
    for where, result, name, number in (
        (folder, own, "val/miou", value),
        (teacher, beside, "val/miou", of_teacher),
        (folder, own, "test/kd_squeezenet", 0.25),
    ):
        assert result.network is not None
        given = {"low": number - 0.125, "high": number + 0.125, "when": "2026-11-29T09:10:00Z", "how": "x"}
        content = given | {"name": name, "value": number, "conditions": {"split": "test"}}
        content |= {"network": result.network.digest}
        measured.add(where, [measured.Measurement.model_validate(content)])
    text = model_card_facts.scores(folder, own)
    assert f"| val/miou | {value:.6g} ({value - 0.125:.6g} to {value + 0.125:.6g}) " in text
    assert f"| {of_teacher:.6g} ({of_teacher - 0.125:.6g} to {of_teacher + 0.125:.6g}) |" in text
    assert "* test/kd_squeezenet: 0.25 (0.125 to 0.375), 2026-11-29T09:10:00Z, split test" in text
    assert "No 95 % intervals" not in text


@pytest.mark.parametrize("name", FORMATS)
def test_the_lines_of_the_card_load_the_file(
    name: str, trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(ExportOptions(given=str(trial), format=name))  # type: ignore[arg-type]
    (code,) = re.findall(r"```python\n(.*?)```", Path(f"0003{FORMATS[name].suffix}.md").read_text(), re.S)
    assert len(code.strip().splitlines()) == 3
    names: dict[str, Any] = {}
    exec(code, names)
    assert tuple(names["pictures"].shape) == (1, 3, 16, 16)


def test_a_checkpoint_and_its_trial_may_be_given_too(trial: Path, stages: Stages) -> None:
    checkpoint = max(trial.glob("checkpoint-*"))
    found = {path: open_generator(path) for path in (trial, trial / "network", checkpoint)}
    assert len({one.digest for one in found.values()}) == 1
    assert {one.height for one in found.values()} == {16} and found[trial].result.nimg == 32
    x = batch(load_split(stages.data, "val"), slice(0, 2)).inputs
    with torch.no_grad():
        assert torch.equal(found[trial].module(x), found[checkpoint].module(x))


def test_an_exported_safetensors_file_is_a_generator_again(trial: Path, tmp_path: Path) -> None:
    finished = open_generator(trial)
    write_checked(finished, inputs_for(finished)[0], FORMATS["safetensors"], tmp_path / "a.safetensors")
    again = open_generator(tmp_path / "a.safetensors", (16, 16))
    assert again.digest == finished.digest and again.config == finished.config
    assert not load_exported(tmp_path / "a.safetensors").training


def test_pictures_can_be_given_to_check_on(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for index in range(3):
        Image.fromarray(np.full((9, 9, 3), 40 * index, np.uint8)).save(tmp_path / "pictures" / f"{index}.png")
    finished = open_generator(network(CASES["unet"], tmp_path / "network"), (32, 48))
    inputs, what = inputs_for(finished, tmp_path / "pictures")
    assert inputs.shape == (3, 3, 32, 48) and what == "3 pictures of pictures, resized to 32x48"
    torch.testing.assert_close(
        inputs.mean((1, 2, 3)), torch.tensor([0, 40, 80]) / 127.5 - 1, rtol=0, atol=1e-6
    )


# ---- latency -----------------------------------------------------------------------------------------------


def test_a_network_is_measured_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    folder = network(CASES["resnet"], tmp_path / "small")
    small, large = (
        measure(str(folder), 4, LatencyOptions(given=("",), size=(side, side), repeats=3))
        for side in (32, 64)
    )
    assert (small["size"], large["size"]) == ("32x32", "64x64")
    assert large["cost/macs"] == 4 * small["cost/macs"] and large["cost/params"] == small["cost/params"]
    for row in (small, large):
        assert 0 < row["cost/latency_ms_p50"] <= row["cost/latency_ms_p95"]


def test_latencies_are_the_median_and_the_95th_percentile_of_the_forwards_after_the_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = network(CASES["resnet"], tmp_path / "small")
    durations = [number / 1000 for number in range(1, 22)]
    clock = iter([0.0] * latency._WARM_UP + [time for sec in durations for time in (100.0, 100.0 + sec)])
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    row = measure(str(folder), 1, LatencyOptions(given=("",), size=(16, 16), repeats=21))
    assert row["cost/latency_ms_p50"] == pytest.approx(11) and row["cost/latency_ms_p95"] == pytest.approx(20)


@pytest.mark.slow  # of every run: what it records, in tests/test_measured.py
def test_latency_is_measured_in_a_process_of_its_own_and_printed_as_json(
    trial: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["raydistill", "latency", str(trial), "--batch-size", "3", "--repeats", "3", "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["batch_size"] for row in rows] == [3] and rows[0]["cost/latency_ms_p50"] > 0
    assert rows[0]["peak_mib"] is None or rows[0]["peak_mib"] > 0


# ---- what is refused ---------------------------------------------------------------------------------------


def ends_with(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    return capsys.readouterr().err


def test_wrong_input_ends_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network(CASES["resnet"], tmp_path / "net")
    assert "no generator here. Give the folder of a trial" in ends_with(
        2, monkeypatch, capsys, "export", "nothing"
    )
    assert "its pictures' size is not known; give --size" in ends_with(
        2, monkeypatch, capsys, "export", "net"
    )
    assert "--size 16: give it as HEIGHTxWIDTH" in ends_with(
        2, monkeypatch, capsys, "export", "net", "--size", "16"
    )
    assert "divisible by 4" in ends_with(2, monkeypatch, capsys, "export", "net", "--size", "18x16")
    assert "'onnx', 'torchscript' or 'safetensors'" in ends_with(
        2, monkeypatch, capsys, "export", "net", "--format", "tflite"
    )
    assert "ends in .onnx" in ends_with(
        2, monkeypatch, capsys, "export", "net", "--size", "16x16", "--out", "a.pt"
    )
    assert "there is no CUDA device" in ends_with(
        2, monkeypatch, capsys, "latency", "net", "--device", "cuda"
    )
    assert "takes 5 channels, pictures have 3" in ends_with(
        2, monkeypatch, capsys, "export", "net", "--size", "16x16", "--pictures", str(tmp_path)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    finished = open_generator(network(CASES["enhance"], tmp_path / "net"), (16, 16))
    with pytest.raises((StoreError, RuntimeError), match="nowhere"):
        write_checked(
            finished, inputs_for(finished)[0], FORMATS["torchscript"], tmp_path / "nowhere" / "a.pt"
        )


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finished = open_generator(network(CASES["enhance"], tmp_path / "net"), (16, 16))
    with pytest.raises(ConfigError, match=r"pip install 'raydistill\[onnx\]'"):
        write_checked(finished, inputs_for(finished)[0], FORMATS["onnx"], tmp_path / "a.onnx")


def test_a_damaged_exported_file_is_refused(tmp_path: Path) -> None:
    finished = open_generator(network(CASES["enhance"], tmp_path / "net"), (16, 16))
    good = tmp_path / "a.safetensors"
    write_checked(finished, inputs_for(finished)[0], FORMATS["safetensors"], good)
    metadata = generator_file.metadata_of(finished)
    state = load_file(good)
    changed = {name: value + 1 for name, value in state.items()}
    save_file(changed, tmp_path / "changed.safetensors", metadata)
    save_file(state, tmp_path / "foreign.safetensors")
    (tmp_path / "short.safetensors").write_bytes(good.read_bytes()[:-100])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name, says in {
        "changed": "digest differs",
        "foreign": "teacher import",
        "short": "not a whole",
        "empty": "not a whole",
    }.items():
        with pytest.raises(ConfigError, match=says):
            open_generator(tmp_path / f"{name}.safetensors", (16, 16))
    assert TOLERANCE == 1e-4
