"""The public face: what can be imported from `raydistill`, what that loads, and what a user's script does."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import typing
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Stages
from no_ray import SETTINGS, without_ray

import raydistill
from raydistill import (
    SweepOptions,
    export,
    import_teacher,
    load_generator,
    load_sweep,
    method,
    plan_sweep,
    run_sweep,
    score,
)
from raydistill.cluster.placement import Node
from raydistill.commands import evaluate
from raydistill.config.command_options import EvaluateOptions
from raydistill.errors import ConfigError, DataError, RunError, StoreError
from raydistill.sweep import page
from raydistill.sweep import run as sweep_run
from raydistill.sweep.sweep_result import write_ended_by

ROOT = Path(raydistill.__file__).parent.parent
DOCUMENTED = {
    "search space": (
        *("SearchSpace", "Int", "Float", "Choice", "Settings", "When", "Window", "Objective"),
        "presets",
    ),
    "sweep": ("SweepOptions", "plan_sweep", "run_sweep", "load_sweep", "PlanReport", "SweepResult"),
    "networks": (
        *("Student", "load_generator", "import_teacher", "export", "score"),
        *("ImportReport", "ExportReport"),
    ),
    "plug-ins": ("Family", "BaseKind", "TermKind", "DataKind", "RecipeKind"),
}
"""Part of the face -> its names. The reference page has them in this order."""
FUNCTIONS = ("plan_sweep", "run_sweep", "load_sweep", "load_generator", "import_teacher", "export", "score")
LIGHT = (*DOCUMENTED["search space"], "SweepOptions", "load_sweep", "SweepResult")
"""Names that need no framework."""
HEAVY = "{'torch', 'ray', 'mlflow', 'optuna'}"


def python(code: str, *arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_names_are_those_that_are_documented() -> None:
    names = [name for part in DOCUMENTED.values() for name in part]
    assert sorted(names) == sorted(raydistill.__all__) and set(names) <= set(dir(raydistill))
    assert method.__all__ == ["ebm_loss", "langevin", "student_mi_loss"]
    with pytest.raises(AttributeError, match="no attribute 'SearchSpaces'"):
        raydistill.SearchSpaces  # noqa: B018


def test_type_checkers_see_what_is_imported() -> None:
    """The names under TYPE_CHECKING are those that `__getattr__` finds, from the same modules."""
    tree = ast.parse(Path(raydistill.__file__).read_text())
    (block,) = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.name: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.pop("presets") == "raydistill.config"
    homes = {name: f"raydistill.{home}" for home, names in raydistill._HOMES.items() for name in names}
    assert seen == homes


def test_the_names_that_need_no_framework_load_none() -> None:
    code = f"import sys; from raydistill import {', '.join(LIGHT)}; print({HEAVY} & set(sys.modules))"
    assert python(code) == "set()"


def test_an_import_of_the_package_alone_loads_next_to_nothing() -> None:
    code = f"import sys, raydistill; print(({HEAVY} | {{'pandas', 'numpy', 'pydantic'}}) & set(sys.modules))"
    assert python(code) == "set()"


@pytest.mark.parametrize("name", [*raydistill.__all__, *method.__all__])
def test_a_name_has_a_docstring(name: str) -> None:
    """A function's names all that it takes and says what it raises; a class's, or its fields', each field."""
    value = getattr(raydistill if name in raydistill.__all__ else method, name)
    text = inspect.getdoc(value) or ""
    assert text and text.split("\n\n")[0].endswith((".", ":"))
    assert not text.startswith(f"{name}("), "the docstring is the one that Python makes"
    if inspect.isfunction(value):
        assert typing.get_type_hints(value).get("return"), "no type of what is returned"
        given = inspect.signature(value).parameters
        assert [each for each in given if not re.search(rf"\b{each}\b", text)] == []
    if inspect.isclass(value):
        assert undocumented(value, text) == []
    if name in FUNCTIONS:
        assert "Raises:\n" in text


def undocumented(kind: type, text: str) -> list[str]:
    """The fields of a class that neither its docstring names, nor a string below them or a description
    explains. What is fixed, as the `kind` of a distribution, needs none."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    out = []
    for node, following in zip(body.body, [*body.body[1:], ast.Pass()]):
        if not isinstance(node, ast.AnnAssign):
            continue
        name, said = ast.unparse(node.target), ast.unparse(node.annotation)
        has_string = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        field = getattr(kind, "model_fields", {}).get(name)
        is_described = field is not None and field.description
        is_fixed = said.startswith("Literal") and node.value is not None
        if not (has_string or is_fixed or is_described or re.search(rf"\b{name}\b", text)):
            out.append(name)
    return out


# ---- sweeps ------------------------------------------------------------------------------------------------


def options(store: Path, **values: Any) -> SweepOptions:
    given: dict[str, Any] = {"trials": 1, "nimg": 32, "seconds_per_image": 0.01}
    given["set"] = tuple(SETTINGS[1::2])
    return SweepOptions(store=str(store), **(given | values))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for results, in which trials run one after the other in this process."""
    without_ray(monkeypatch, [Node("here", 2)])
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.mark.slow
def test_a_sweep_is_returned_as_it_is_loaded_and_nothing_is_printed(
    no_ray: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    planned = plan_sweep(options(no_ray))
    assert not (no_ray / "sweeps").exists() and planned.total_sec is not None and not planned.fails
    assert {"cost.macs", "cost.params"} <= set(planned.students) and "uniform 3" in planned.baselines
    assert repr(planned) == "\n".join(planned.lines) and "1 searched trials" in repr(planned)

    given = options(no_ray, max_hours=100.0, name="mine")
    sweep = run_sweep(given)
    assert capfd.readouterr() == ("", "")
    assert sweep.path == no_ray / "sweeps" / "mine" and sweep.name == "mine"
    assert sweep.ended_by.startswith("--trials 1")
    assert (sweep.trials["role"] == "search").sum() == 1 and set(sweep.trials["status"]) == {"COMPLETE"}
    assert set(sweep.evaluations["trial_id"]) == set(sweep.trials["trial_id"])
    assert sweep.front["front.member"].all() and sweep.front["cost.macs"].is_monotonic_increasing
    assert len(sweep.front) == sweep.trials["front.member"].sum() > 0
    loaded = load_sweep(sweep.path)
    pd.testing.assert_frame_equal(loaded.trials, sweep.trials)
    pd.testing.assert_frame_equal(loaded.evaluations, sweep.evaluations)
    assert repr(loaded) == repr(sweep)
    assert f"{len(sweep.front)} on the front, ended by --trials 1" in repr(sweep)

    drawn = ("trials.csv", "trials.parquet", "evaluations.csv", "frontier.html", "frontier.csv")
    files = {name: (sweep.path / name).read_bytes() for name in drawn}
    assert page.renew(sweep.path)
    assert [name for name in drawn if (sweep.path / name).read_bytes() != files[name]] == []
    student = sweep.path / "trials" / str(sweep.front["trial_id"].iloc[0])
    assert evaluate.run(EvaluateOptions(given=(str(student),), split="test", resamples=0)) == 0
    later = load_sweep(sweep.path).trials
    pd.testing.assert_frame_equal(later[sweep.trials.columns], sweep.trials)
    capfd.readouterr()

    more = run_sweep(given.model_copy(update={"resume": True, "trials": 2}), verbose=True)
    assert "Pareto front of mine" in capfd.readouterr().out
    assert len(more.trials) == len(sweep.trials) + 1
    shown = "measured.test/kd_evaluator"
    assert more.trials[shown].dropna().tolist() == later[shown].dropna().tolist() != []

    member = sweep.path / "trials" / str(sweep.front["trial_id"].iloc[0])
    generator = load_generator(member)
    assert not generator.training and generator(torch.zeros(2, 8, 32, 32)).shape == (2, 3, 32, 32)
    written = export(member, no_ray.parent / "student.safetensors", file_format="safetensors")
    assert written.card.exists() and written.difference < 1e-5
    again = load_generator(written.path)
    assert torch.equal(again(torch.zeros(1, 8, 32, 32)), generator(torch.zeros(1, 8, 32, 32)))
    scores = score(member, resamples=5, split="val").set_index("name")
    assert {"val/miou", "val/kd_evaluator"} <= set(scores.index) and (scores["low"] <= scores["high"]).any()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_python_of_the_readme_runs(
    no_ray: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its block that runs a sweep, with tiny settings in place of the defaults."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (text,) = (block for block in blocks if "run_sweep" in block)
    tiny = options(no_ray).model_dump(include={"trials", "nimg", "seconds_per_image", "set", "store"})
    monkeypatch.setattr(
        raydistill, "SweepOptions", lambda **given: SweepOptions(**(given | tiny)), raising=False
    )
    names: dict[str, Any] = {}
    exec(text, names)
    assert len(names["sweep"].front) > 0 and "cost.macs" in capsys.readouterr().out


def pretended(monkeypatch: pytest.MonkeyPatch, ended: Any) -> None:
    """Sweeps whose `run_one` returns, or raises, `ended`."""

    def run_one(*arguments: Any) -> str:
        if isinstance(ended, BaseException):
            raise ended
        return str(ended)

    monkeypatch.setattr(sweep_run, "run_one", run_one)
    monkeypatch.setattr(sweep_run, "check", lambda given, say: SimpleNamespace(options=given))
    monkeypatch.setattr(sweep_run, "opened", lambda plan, terminal: nullcontext((Path("mine"), None)))
    monkeypatch.setattr(sweep_run, "on_ray", lambda sweeps: nullcontext())


@pytest.mark.parametrize(
    ("ended", "kind", "says"),
    [
        ("no student was trained: diverged", RunError, "^sweep mine: no student was trained: diverged$"),
        (
            "not trained: 0004 (mi 0.1); --resume trains what is left",
            RunError,
            r"^sweep mine: not trained: 0004",
        ),
        (DataError("no pictures"), DataError, "^no pictures$"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
    ids=["no student", "one is left", "wrong input", "interrupted"],
)
def test_a_sweep_raises_and_says_nothing(
    ended: Any,
    kind: type[BaseException],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pretended(monkeypatch, ended)
    with pytest.raises(kind, match=says):
        run_sweep(SweepOptions())
    assert capfd.readouterr() == ("", "")


def test_a_plan_is_no_sweep_and_a_wrong_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="call plan_sweep"):
        run_sweep(SweepOptions(plan=True))
    with pytest.raises(ConfigError, match="--sampler best: known: known-cost"):
        plan_sweep(SweepOptions(sampler="best", store=str(tmp_path)))
    with pytest.raises(ValueError, match="greater than 0"):
        SweepOptions(max_hours=0)


def test_a_stored_sweep_is_loaded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One of an earlier version, which does not say what ended it; then one whose file that says it is
    damaged."""
    (stored,) = (ROOT / "tests/fixtures/sweep_of_job_version_2/sweeps").iterdir()
    sweep = load_sweep(shutil.copytree(stored, tmp_path / "old"))
    assert sweep.name == "old" and sweep.ended_by == "" and len(sweep.front) > 0
    assert set(sweep.evaluations["trial_id"]) <= set(sweep.trials["trial_id"])
    write_ended_by(sweep.path, "--max-hours 2")
    assert load_sweep(str(sweep.path)).ended_by == "--max-hours 2"
    for content in ("{", "[]", '{"ended_by": 3}'):
        (sweep.path / "ended.json").write_text(content)
        with pytest.raises(StoreError, match=r"ended\.json: damaged"):
            load_sweep(sweep.path)
    with pytest.raises(StoreError, match="no sweep here"):
        load_sweep(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_teacher_is_imported(stages: Stages, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        import_teacher(tmp_path / "net.pth", tmp_path)
    (tmp_path / "net.pth").write_text("nothing")
    with pytest.raises(DataError, match=r"net\.pth"):
        import_teacher(tmp_path / "net.pth", tmp_path / "out")
    with pytest.raises(ConfigError, match="no generator here"):
        load_generator(tmp_path)
    module = load_generator(stages.teacher.path)
    assert not module.training and not any(each.requires_grad for each in module.parameters())
    assert module(torch.zeros(1, 8, 16, 16)).shape == (1, 3, 16, 16)


OWN_DRIVER = """
import sys
import ray
ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
from raydistill import SweepOptions, plan_sweep, run_sweep
options = SweepOptions(store=sys.argv[1], trials=1, nimg=32, seconds_per_image=0.01, set=tuple(sys.argv[2:]))
assert plan_sweep(options).max_concurrent >= 1
sweep = run_sweep(options)
assert ray.is_initialized() and ray.get(ray.remote(lambda: 3).remote()) == 3
print(sorted(sweep.trials["status"].unique()), len(sweep.front) > 0, sweep.ended_by)
"""


@pytest.mark.slow
def test_a_sweep_runs_in_the_ray_of_a_users_driver_and_leaves_it_running(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(OWN_DRIVER)
    command = [sys.executable, "driver.py", str(tmp_path / "runs"), *SETTINGS[1::2]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['COMPLETE'] True --trials 1\n"


SCRIPT = """
import pandas as pd
from torch import nn, Tensor
from raydistill import Choice, Float, Int, Objective, SearchSpace, When, presets
from raydistill import SweepOptions, SweepResult, load_generator, load_sweep, plan_sweep, run_sweep, score
from raydistill import export, import_teacher
from raydistill.method import ebm_loss, langevin, student_mi_loss

space: SearchSpace = SearchSpace(
    preset="shapes32",
    parameters={
        "student.generator.widths.trunk": Int(low=4, high=8),
        "student.base.ssim_weight": Float(low=0, high=1.5),
    },
    objectives=(Objective(name="val/miou", direction="max", reference=0.0),),
    uniform=(4,),
)
network: str = presets.shapes32().student.generator.family
options = SweepOptions(trials=2, store="runs")
hours: float | None = plan_sweep(options).device_hours
sweep: SweepResult = run_sweep(options)
front: pd.DataFrame = load_sweep(sweep.path).front
student: nn.Module = load_generator(sweep.path / "trials" / "0004")
params: int = import_teacher("net.pth", "teacher").params
card: str = export(sweep.path / "trials" / "0004", "student.onnx").card.name
table: pd.DataFrame = score(sweep.path / "trials" / "0004", split="test")
"""
WRONG = """
from raydistill import SearchSpaces, SweepOptions, load_sweep
wrong: int = load_sweep("x").front
SweepOptions(trial=3)
"""


@pytest.mark.slow
def test_a_users_script_passes_a_strict_type_check(tmp_path: Path) -> None:
    """And one that is wrong does not: the types are there."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)
    assert (Path(raydistill.__file__).parent / "py.typed").exists()
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = {}
    for name in ("script", "wrong"):
        done = subprocess.run(
            [*command, f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        found[name] = done.stdout
    assert found["script"] == "Success: no issues found in 1 source file\n"
    errors = [line.partition("error: ")[2] for line in found["wrong"].splitlines()[:-1]]
    assert any("SearchSpaces" in line for line in errors)
    assert any("Incompatible types in assignment" in line for line in errors)
    assert any('"trial" for "SweepOptions"' in line for line in errors)
