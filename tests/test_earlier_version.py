"""A sweep that the version before wrote (jobs of version 2, the words "judge", "again" and "picked") is
still of use."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from raydistill.commands.cli import main
from raydistill.config import renamed
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.errors import ConfigError, RenamedWarning
from raydistill.exchange.generator_file import open_generator
from raydistill.records import tables
from raydistill.records.trials import read_trials
from raydistill.space import Choice, Int, Objective, SearchSpace

FIXTURE = Path(__file__).parent / "fixtures" / "sweep_of_job_version_2"
SPACE = """
from raydistill.space import Choice, Int, Objective, SearchSpace
SPACE = SearchSpace(
    preset="shapes32",
    parameters={
        "student.generator.widths.trunk": Int(low=2, high=8, step=2),
        "student.mi.weight": Choice(options={"off": 0.0, "published": 0.1}),
    },
    objectives=(
        Objective(name="val/kd_judge", direction="min", reference=1.0),
        Objective(name="cost/macs", direction="min"),
    ),
    uniform=(2, 4),
)
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder of the version before, where its trials say that it lies."""
    folder = tmp_path / "runs"
    shutil.copytree(FIXTURE, folder)
    for path in folder.glob("sweeps/*/trials/*/trial.json"):
        path.write_text(path.read_text().replace("STORE", str(folder)))
    (tmp_path / "tiny_space.py").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "raydistill.cluster.runtime.start_ray", lambda **options: pytest.fail("Ray was started")
    )
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_its_trials_and_tables_are_read_by_the_names_of_today(store: Path) -> None:
    trials = {trial.trial_id: trial for trial in read_trials(store / "sweeps" / "old")}
    assert trials["0007"].replicate_of == "0001" and trials["0008"].recheck_of == "0006"
    assert trials["0006"].configuration == {
        "student.generator.widths.trunk": 6,
        "student.terms.mi.weight": "published",
    }
    job = trials["0006"].job
    assert job.version == 2 and job.evaluator is not None and job.evaluator.digest == "f66110fafe494068"
    assert {"val/miou", "val/kd_evaluator", "val/fd_evaluator"} <= set(trials["0006"].result.metrics)
    made = tables.trial_table(list(trials.values()), sweep_id="old").set_index("trial_id")
    for suffix in ("parquet", "csv"):
        read = tables.read_table(store / "sweeps" / "old" / f"trials.{suffix}").set_index("trial_id")
        for name in (
            "metric.val/kd_evaluator",
            "metric.test/kd_evaluator",
            "replicate_of",
            "recheck_of",
            "extractor",
        ):
            pd.testing.assert_series_equal(read.loc[made.index, name], made[name])
    curves = tables.read_table(store / "sweeps" / "old" / "evaluations.csv")
    assert "val/kd_evaluator" in set(curves["metric"]) and not curves["metric"].str.contains("judge").any()


def test_it_is_shown(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "frontier", str(store / "sweeps" / "old")) == 0
    printed = capsys.readouterr().out
    assert "kd_evaluator" in printed and "0006" in printed and "judge" not in printed


@pytest.mark.parametrize("trial", ["0006", "0000"])
def test_its_networks_are_scored_as_it_scored_them(
    trial: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store / "sweeps" / "old" / "trials" / trial
    assert run(monkeypatch, "evaluate", str(folder), "--resamples", "0", "--json") == 0
    (scores,) = json.loads(capsys.readouterr().out)["scores"].values()
    before = json.loads((folder / "result.json").read_text())["metrics"]
    now = {score["name"]: score["value"] for score in scores}
    assert set(before) & {"val/kd_judge"} and all(
        now[renamed.metric_now(name)] == pytest.approx(value, rel=1e-6, abs=1e-9)
        for name, value in before.items()
        if name.startswith("val/")
    )


def test_its_networks_are_exported(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store / "sweeps" / "old" / "trials" / "0006"
    assert run(monkeypatch, "export", str(folder), "--format", "safetensors", "--out", "a.safetensors") == 0
    assert open_generator(Path("a.safetensors"), (16, 16)).digest == open_generator(folder).digest
    assert "* evaluator: f66110fafe494068" in Path("a.safetensors.md").read_text()


def test_its_students_are_trained_on_more_images(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "retrain", str(store / "sweeps" / "old"), "--trial", "6", "--nimg", "64") == 0
    assert "trial 0006 at both lengths" in capsys.readouterr().out
    (result,) = store.glob("sweeps/old/retrained/*/result.json")
    assert json.loads(result.read_text())["nimg"] == 64


def test_a_new_sweep_begins_with_what_it_knows(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--space", "tiny_space.py", "--seconds-per-image", "0.001", "--set", "data.num_train=24")
    assert run(monkeypatch, "plan", *options, "--warm-start", "old") == 0
    printed = capsys.readouterr()
    assert "warm start: 5 rows of old" in printed.out
    assert "val/kd_judge is called val/kd_evaluator now" in printed.err


@pytest.mark.parametrize("name", [(), ("--name", "old")])
def test_a_resume_is_refused_by_name(
    name: tuple[str, ...], store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--space", "tiny_space.py", "--set", "data.num_train=24", "--resume")
    assert run(monkeypatch, "sweep", *options, *name) == 2
    said = capsys.readouterr().err
    assert "old: made by an earlier version of raydistill" in said and "--warm-start old" in said


# ---- what a person types -----------------------------------------------------------------------------------


def test_an_old_config_path_is_accepted_with_the_new_name() -> None:
    with pytest.warns(RenamedWarning, match=r"judge\.network\.width is called evaluator\.network\.width now"):
        changed = with_values(shapes32(), {"judge.network.width": 7}, where="--set")
    assert changed.evaluator.network.width == 7
    with pytest.raises(ConfigError, match=r"evaluator\.network\.wdith"), pytest.warns(RenamedWarning):
        with_values(shapes32(), {"judge.network.wdith": 7}, where="--set")


def test_an_old_objective_and_an_old_parameter_of_a_space_are_accepted_with_the_new_name() -> None:
    with pytest.warns(RenamedWarning) as warned:
        space = SearchSpace(
            preset="shapes32",
            parameters={
                "judge.network.width": Int(low=1, high=4),
                "student.mi.weight": Choice(options={"off": 0.0}),
            },
            objectives=(Objective(name="val/fd_judge", direction="min", reference=1.0),),
            uniform=(4,),
        )
    assert list(space.parameters) == ["evaluator.network.width", "student.terms.mi.weight"]
    assert space.objectives[0].name == "val/fd_evaluator" and len(warned) == 2


@pytest.mark.parametrize("name", ["val/kd_evaluator", "val/miou", "cost/macs", "val/kd_judgement", "judge"])
def test_other_names_are_left_alone_without_a_word(name: str, recwarn: pytest.WarningsRecorder) -> None:
    assert renamed.objective_now(name) == name and len(recwarn) == 0


def test_the_old_option_for_an_evaluator_is_accepted(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, evaluator = store / "sweeps/old/trials/0006", store / "cache/judge/ee1bd63bfcd237ed"
    assert (
        run(monkeypatch, "evaluate", str(trial), "--judge", str(evaluator), "--resamples", "0", "--json") == 0
    )
    printed = capsys.readouterr()
    assert "--judge is called --evaluator now" in printed.err and "val/kd_evaluator" in printed.out


@pytest.mark.parametrize(
    "statement",
    [
        "from raydistill.architectures import Generator, Width, Widths",
        "from raydistill.cost import Layer, Table",
        "from raydistill.terms import MiTerm, Pairs, Surroundings, TermKind",
        "from raydistill.config import LearntTerm, Optimizer, Term, DataSet",
        "from raydistill.space import Choice, Float, Int, Objective, SearchSpace, When",
        "from raydistill.batch import Batch, Budget, Method",
        "from raydistill.finished import load_exported",
    ],
)
def test_what_plug_ins_batches_and_model_cards_import_is_still_there(statement: str) -> None:
    names: dict[str, object] = {}
    exec(statement, names)
    assert len(names) > 1


def test_a_name_that_an_old_module_never_had_says_where_the_module_went() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from raydistill.cost import nothing")
