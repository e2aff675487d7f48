"""Batches: what is refused before any cost, the order, the budget, and the table; with sweeps that take their
numbers from a formula.

One test, marked slow, runs a whole batch and kills it on the way.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from test_results import synthetic_trial, write
from test_sweep import TINY

from raydistill.commands.cli import main
from raydistill.config import printed
from raydistill.config.batch import Batch, load_batch
from raydistill.config.space import load_space, preset_of
from raydistill.records import pareto, store, tables
from raydistill.records.trials import read_trials
from raydistill.sweep.tracking_store import default_uri

ROOT = Path(__file__).parent.parent
SOURCE = """
from raydistill.config.batch import Batch, Budget, Method

BATCH = Batch(
    name="night",
    spaces=("default",),
    methods=(Method(name="paper"), Method(name="short", set={"student.terms.mi.num_steps": 2})),
    seeds=(0, 1),
    budget=Budget(BUDGET),
    set=TINY,
    options={"trials": 3},
)
"""


def batch_file(folder: Path, budget: str = "", **changes: str) -> str:
    """The path of a batch file of two methods and two seeds, with some of its text replaced."""
    text = SOURCE.replace("BUDGET", budget).replace("TINY", repr(TINY))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "night.py").write_text(text)
    return str(folder / "night.py")


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["raydistill", "batch", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    return int(exit_info.value.code or 0)


class Pretended:
    """Sweeps without training: searched trial i of seed s costs 50 (i + 1) million MACs and reaches .1 (i
    + 1) + .01 s mIoU."""

    def __init__(self):
        self.num_ray_starts, self.ran, self.tags = 0, [], []
        self.broken: str | None = None
        """The sweep that fails."""

    @contextmanager
    def on_ray(self, sweeps):
        self.num_ray_starts += 1
        yield

    @contextmanager
    def opened(self, plan, terminal):
        options = plan.options
        folder = plan.store / "sweeps" / options.name
        if options.resume:
            store.find_sweep(plan.store, options.name, plan.definition)
        else:
            store.create_sweep(plan.store, options.name, "default", {"definition": plan.definition})
        yield folder, None

    def run_one(self, plan, folder, tracker, terminal, *, tags, may_start):
        self.ran.append(folder.name)
        self.tags.append(tags)
        if folder.name == self.broken:
            raise OSError("no space left on the device")
        for number in range(len(read_trials(folder)), plan.options.trials):
            if not may_start(True):
                return "held back"
            miou = 0.1 * (number + 1) + 0.01 * plan.options.seed
            trial = synthetic_trial(
                number, "search", "", (number + 1) // 2 + 1, miou, 0.1, 8, "instance", "COMPLETE", ""
            )
            write(folder / "trials" / trial.trial_id, trial)
        trials = read_trials(folder)
        table = tables.with_front(
            tables.trial_table(trials, sweep_id=folder.name), plan.objectives, plan.reference({})
        )
        tables.write_tables(folder, table, tables.evaluation_table(trials, sweep_id=folder.name))
        return ""


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    out = Pretended()
    for name in ("on_ray", "opened", "run_one"):
        monkeypatch.setattr(f"raydistill.sweep.run.{name}", getattr(out, name))
    monkeypatch.chdir(tmp_path)
    return out


# ---- before any cost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "printed"),
    [
        ({"BATCH =": "ANOTHER ="}, "must define BATCH = Batch(...), found NoneType"),
        ({'spaces=("default",)': "spaces=()"}, "spaces: Tuple should have at least 1 item"),
        ({"seeds=(0, 1)": "seeds=()"}, "seeds: Tuple should have at least 1 item"),
        ({"seeds=(0, 1)": "seeds=(0, 0)"}, "seeds: 0 is given more than once"),
        ({'"short"': '"paper"'}, "methods: paper is given more than once"),
        (
            {'spaces=("default",)': 'spaces=("default", "elsewhere/default.py")'},
            "spaces: default is given more than once",
        ),
        ({'name="night"': 'name="../night"'}, "name: String should match pattern"),
        (
            {'name="night"': 'name="night", data={"camvid": "somewhere"}'},
            "data: camvid is none of the spaces default",
        ),
        (
            {'name="night"': 'name="night", order=("seed", "seed", "space")'},
            "order: seed is given more than once",
        ),
        ({'name="night"': 'name="night", sedes=(1,)'}, "sedes: Extra inputs are not permitted"),
        ({"Budget()": "Budget(hours=0)"}, "hours: Input should be greater than 0"),
        (
            {'spaces=("default",)': 'spaces=("defualt",)'},
            "--space defualt: no such search space. Known: aligned, base_terms_camvid",
        ),
        ({'"trials": 3': '"trails": 3'}, "'trails': there is no such option. Nearest: 'trials'"),
        ({'"trials": 3': '"trials": 3, "seed": 5'}, "'seed': the batch gives it itself"),
        ({'"trials": 3': '"trials": 0'}, "--trials 0: give at least 1"),
        (
            {'{"student.terms.mi.num_steps": 2}': "{}"},
            "methods paper and short are the same on space default",
        ),
    ],
)
def test_a_wrong_batch_is_refused_before_any_cost(changes, printed, pretended, monkeypatch, capsys, tmp_path):
    assert exit_code(monkeypatch, batch_file(tmp_path, **changes)) == 2
    assert printed in capsys.readouterr().err
    assert pretended.num_ray_starts == 0 and not Path("runs/batches").exists()


def test_everything_wrong_in_any_sweep_is_said_at_once(pretended, monkeypatch, capsys, tmp_path):
    changes = {
        'spaces=("default",)': 'spaces=("default", "nowhere")',
        "student.terms.mi.num_steps": "student.terms.mi.steps",
    }
    changes['name="paper"'] = 'name="paper", set={"student.terms.mi.weight": 0.1, "student.seed": 3}'
    assert exit_code(monkeypatch, batch_file(tmp_path, **changes)) == 2
    printed = capsys.readouterr().err
    assert (
        "3 things to correct" in printed
        and "default-short: --set: there is no config path 'student.terms.mi.steps'" in printed
    )
    assert "default-paper: --set student.terms.mi.weight: it is searched" in printed
    assert (
        "nowhere-paper, nowhere-short: --space nowhere: no such search space" in printed
    )  # said once for both


def test_a_file_that_is_not_there_is_named(monkeypatch, capsys, tmp_path):
    assert exit_code(monkeypatch, str(tmp_path / "nowhere.py")) == 2
    assert "nowhere.py: no such batch file" in capsys.readouterr().err


def test_resume_needs_a_batch_and_a_batch_needs_resume(pretended, monkeypatch, capsys, tmp_path):
    file = batch_file(tmp_path)
    assert exit_code(monkeypatch, file, "--resume") == 2
    assert "there is no batch night" in capsys.readouterr().err
    assert exit_code(monkeypatch, file) == 0
    assert exit_code(monkeypatch, file) == 2
    assert "batches/night exists; add --resume" in capsys.readouterr().err
    changed = batch_file(tmp_path, **{'"student.terms.mi.num_steps": 2': '"student.terms.mi.num_steps": 4'})
    assert exit_code(monkeypatch, changed, "--resume") == 2
    printed = capsys.readouterr().err
    assert "2 sweeps to correct" in printed and "night-default-short-s1" in printed and "paper" not in printed


def test_a_file_of_config_values_counts_by_the_values_in_it(pretended, monkeypatch, capsys, tmp_path):
    file, space = tmp_path / "mine.txt", load_space("default")
    file.write_text("\n".join(printed.lines(preset_of(space, "test"), space)))
    with_file = {'"trials": 3': f'"trials": 3, "config": {str(file)!r}'}
    one_method = {'set={"student.terms.mi.num_steps": 2}': f'options={{"config": {str(file)!r}}}'}
    assert exit_code(monkeypatch, batch_file(tmp_path, **one_method)) == 2
    assert "methods paper and short are the same on space default" in capsys.readouterr().err
    assert exit_code(monkeypatch, batch_file(tmp_path, **with_file)) == 0
    assert exit_code(monkeypatch, batch_file(tmp_path), "--resume") == 0
    file.write_text("student.base.l1_weight = 3\n")
    assert exit_code(monkeypatch, batch_file(tmp_path, **with_file), "--resume") == 2
    assert "4 sweeps to correct" in capsys.readouterr().err
    file.write_text("student.base.l1_weight = 3, 4\n")
    assert exit_code(monkeypatch, batch_file(tmp_path, **with_file), "--resume") == 2
    assert (
        f"--config {file}: student.base.l1_weight: Input should be a valid number" in capsys.readouterr().err
    )


def test_the_shipped_example_is_a_batch(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert exit_code(monkeypatch, str(ROOT / "docs/how-to/overnight.py"), "--plan") == 0
    assert "9 sweeps: 108 searched trials" in capsys.readouterr().out
    assert not Path("runs/sweeps").exists()


# ---- order, budget, failures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (
            ("seed", "space", "method"),
            ["default-a-s3", "default-b-s3", "camvid-a-s3", "camvid-b-s3", "default-a-s1"],
        ),
        (
            ("method", "seed", "space"),
            ["default-a-s3", "camvid-a-s3", "default-a-s1", "camvid-a-s1", "default-b-s3"],
        ),
    ],
)
def test_the_order_says_which_loop_is_the_outermost(order, expected):
    spaces, methods = ("default", "search_spaces/camvid.py"), [{"name": "a"}, {"name": "b"}]
    batch = Batch.model_validate(
        {"name": "x", "spaces": spaces, "methods": methods, "seeds": (3, 1), "order": order}
    )
    assert [entry.label for entry in batch.sweeps()][:5] == expected and len(list(batch.sweeps())) == 8


def test_all_sweeps_run_on_one_ray_and_the_tables_have_the_frontiers_numbers(
    pretended, monkeypatch, capsys, tmp_path
):
    assert exit_code(monkeypatch, batch_file(tmp_path)) == 0
    names = [f"night-default-{method}-s{seed}" for seed in (0, 1) for method in ("paper", "short")]
    assert pretended.ran == names and pretended.num_ray_starts == 1
    assert pretended.tags == [{"raydistill.batch": "night"}] * 4
    sweeps, summary, fronts = (
        pd.read_csv(f"runs/batches/night/{name}.csv") for name in ("sweeps", "summary", "fronts")
    )
    assert (
        list(sweeps["sweep"]) == names
        and set(sweeps["state"]) == {"finished"}
        and set(sweeps["searched"]) == {3}
    )
    reference = float(sweeps["reference"][0].split("cost/macs ")[1])
    # macs 1, 2, 2 million; the second is dominated by the third
    by_seed = [
        pareto.hypervolume(
            [[0.1 + seed / 100, 1e6], [0.3 + seed / 100, 2e6]], ["max", "min"], [0.0, reference]
        )
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(sweeps["hypervolume"], [by_seed[0]] * 2 + [by_seed[1]] * 2)
    np.testing.assert_allclose(summary["hypervolume_mean"], [np.mean(by_seed)] * 2)
    np.testing.assert_allclose(summary["hypervolume_sd"], [np.std(by_seed, ddof=1)] * 2)
    assert (
        list(summary["method"]) == ["paper", "short"]
        and set(summary["seeds"]) == {2}
        and set(sweeps["front_members"]) == {2}
    )
    assert len(fronts) == 8 and fronts["front.member"].all() and set(fronts["sweep_id"]) == set(names)
    assert "mean and standard deviation over seeds" in capsys.readouterr().out


def test_a_failed_sweep_loses_no_other_and_is_tried_again_on_resume(pretended, monkeypatch, capsys, tmp_path):
    file = batch_file(tmp_path)
    pretended.broken = "night-default-short-s0"
    assert exit_code(monkeypatch, file) == 1
    assert len(pretended.ran) == 4
    states = pd.read_csv("runs/batches/night/sweeps.csv").set_index("sweep")["state"]
    assert (
        states["night-default-short-s0"] == "failed: no space left on the device"
        and (states == "finished").sum() == 3
    )
    assert "OSError" in Path("runs/batches/night/night-default-short-s0.error.txt").read_text()
    assert "Not finished: night-default-short-s0" in capsys.readouterr().out
    pretended.broken, pretended.ran = None, []
    assert exit_code(monkeypatch, file, "--resume") == 0
    assert pretended.ran == ["night-default-short-s0"]


def test_a_finished_batch_resumed_starts_no_ray(pretended, monkeypatch, tmp_path):
    file = batch_file(tmp_path)
    assert exit_code(monkeypatch, file) == 0
    before = Path("runs/batches/night/sweeps.csv").read_text()
    assert exit_code(monkeypatch, file, "--resume") == 0
    assert pretended.num_ray_starts == 1 and Path("runs/batches/night/sweeps.csv").read_text() == before


def test_no_searched_trial_starts_above_the_budget_and_what_is_left_is_said(
    pretended, monkeypatch, capsys, tmp_path
):
    assert exit_code(monkeypatch, batch_file(tmp_path, "trials=5")) == 1
    printed = capsys.readouterr().out
    assert (
        "the budget of 5 searched trials is spent. Not finished: night-default-short-s0 (unfinished), "
        in printed
    )
    assert pretended.ran == ["night-default-paper-s0", "night-default-short-s0"]
    assert len(list(Path("runs/sweeps").glob("*/trials/*"))) == 5
    sweeps = pd.read_csv("runs/batches/night/sweeps.csv")
    assert list(sweeps["state"]) == ["finished", "unfinished", "not started", "not started"]
    assert sweeps["hypervolume"].notna().tolist() == [True, False, False, False]
    assert exit_code(monkeypatch, batch_file(tmp_path, "trials=5"), "--resume") == 1  # still spent
    assert len(list(Path("runs/sweeps").glob("*/trials/*"))) == 5
    assert exit_code(monkeypatch, batch_file(tmp_path, "trials=12"), "--resume") == 0
    assert len(list(Path("runs/sweeps").glob("*/trials/*"))) == 12


def test_the_time_of_earlier_starts_counts(pretended, monkeypatch, capsys, tmp_path):
    file = batch_file(tmp_path, "hours=1")
    pretended.broken = "night-default-paper-s0"
    assert exit_code(monkeypatch, file) == 1
    spent = Path("runs/batches/night/batch.json")
    assert 0 < json.loads(spent.read_text())["spent_sec"] < 60
    spent.write_text(json.dumps({"spent_sec": 3600.0}))
    pretended.ran = []
    assert exit_code(monkeypatch, file, "--resume") == 1
    assert (
        pretended.ran == []
        and "the budget of 1 hours is spent. Not finished: night-default-paper-s0" in capsys.readouterr().out
    )


# ---- a whole batch -----------------------------------------------------------------------------------------

COUNTS_RAY_STARTS = """
import sys
from raydistill.cluster import runtime
from raydistill.commands import cli
start = runtime.start_ray
def counted(**options):
    print("RAY STARTS", flush=True)
    start(**options)
runtime.start_ray = counted
sys.argv = ["raydistill", "batch", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.slow
def test_a_batch_killed_on_the_way_goes_on_and_trains_one_teacher(tmp_path):
    options = {'"trials": 3': '"trials": 1, "nimg": 160'}
    command = [sys.executable, "-c", COUNTS_RAY_STARTS, batch_file(tmp_path, "hours=1", **options)]
    second = tmp_path / "runs/sweeps/night-default-short-s0"
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        deadline = time.monotonic() + 400
        while not list(second.glob("trials/000[1-9]/result.json")):
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(driver.pid, signal.SIGKILL)
        printed, _ = driver.communicate(timeout=60)
    assert printed.count("RAY STARTS") == 1 and printed.count("training once") == 1
    finished_before = list((tmp_path / "runs/sweeps").glob("*/trials/000[1-9]/result.json"))
    done = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        done.stdout.count("RAY STARTS") == 1
        and "training once" not in done.stdout
        and "sweep 1 of 4" not in done.stdout
    )
    logs = [path.parent / "log.txt" for path in finished_before]
    logs += [
        log for kind in ("evaluator", "teacher") for log in (tmp_path / "runs/cache" / kind).glob("*/log.txt")
    ]
    assert len(logs) == len(finished_before) + 2
    for log in logs:  # trained again, it would have grown: two reports each
        assert len(log.read_text().splitlines()) == 2
    sweeps = pd.read_csv(tmp_path / "runs/batches/night/sweeps.csv")
    assert set(sweeps["state"]) == {"finished"} and sweeps["hypervolume"].gt(0).all()
    mlflow.set_tracking_uri(default_uri(tmp_path / "runs"))
    parents = mlflow.search_runs(
        experiment_names=["raydistill"], filter_string="tags.`raydistill.batch` = 'night'"
    )
    assert set(parents["tags.mlflow.runName"]) == set(sweeps["sweep"]) and set(parents["status"]) == {
        "FINISHED"
    }
    for name, volume in zip(sweeps["sweep"], sweeps["hypervolume"], strict=True):
        run = parents[parents["tags.mlflow.runName"] == name].iloc[0]
        assert volume == pytest.approx(
            run["metrics.front/hypervolume"], rel=1e-5
        )  # shown there with six digits


def test_a_batch_file_is_read_as_data(tmp_path):
    assert load_batch(Path(batch_file(tmp_path))).methods[1].set == {"student.terms.mi.num_steps": 2}
