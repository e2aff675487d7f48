"""The page of a sweep in MLflow's UI: the front first, charts, and a description; also in a browser."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import browser
import pandas as pd
import pytest
from head import plain_environment
from mlflow.tracking import MlflowClient
from no_ray import copy_tracking_store
from test_tracking import FIXTURE, Sweep

from raydistill.records import retrained, tables
from raydistill.records.trials import read_trials
from raydistill.sweep import tracker as tracker_module
from raydistill.sweep import (
    tracking,
    tracking_models,
    tracking_parts,
    tracking_store,
    tracking_text,
    tracking_view,
)
from raydistill.sweep.tracking_facts import EvaluatorFacts, SplitFacts, SweepFacts

OBJECTIVES = (("val/miou", "max"), ("cost/macs", "min"))
SPLITS = tuple(
    SplitFacts(split=split, name=f"shapes {split}", digest="17520bff", count=8, size=(32, 32), rule="Drawn.")
    for split in ("train", "val", "test")
)
EVALUATOR = EvaluatorFacts(
    digest="37c1a40e", curves=((16, {"val/miou": 0.5}),), last={"val/miou": 0.5}, wall_sec=1.0
)
FACTS = SweepFacts(
    "old",
    "6d1f",
    {"mlflow.user": "me", "mlflow.source.name": "raydistill sweep"},
    {"trials": 3},
    OBJECTIVES,
    SPLITS,
    EVALUATOR,
    "Three students.",
)


def table_of(*rows: tuple[str, str, float | None, float]) -> pd.DataFrame:
    """(trial, role, rank, mIoU) of each."""
    names = ["trial_id", "role", "front.rank", "metric.val/miou"]
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


def test_the_order_has_the_front_first_the_best_first_within_a_rank_and_the_teacher_after_students() -> None:
    table = table_of(
        ("0", "teacher", None, 0.9),
        ("1", "search", 1, 0.5),
        ("2", "search", 2, 0.8),
        ("3", "recheck", None, 0.95),
        ("4", "uniform", 1, 0.7),
        ("5", "search", None, float("nan")),
    )
    ordered = tracking_view.with_order(table, OBJECTIVES).sort_values("front.order")
    assert ordered["trial_id"].tolist() == ["4", "1", "2", "0", "3", "5"]
    again = retrained.below(table, table_of(("1-a", "retrain", None, 0.97)))
    ordered = tracking_view.with_order(again, OBJECTIVES).sort_values("front.order")
    assert ordered["trial_id"].tolist() == ["4", "1", "2", "0", "3", "5", "1-a"]
    smaller = tracking_view.with_order(table, (("val/miou", "min"),)).sort_values("front.order")
    assert smaller["trial_id"].tolist()[:3] == ["1", "4", "2"]
    assert tracking_view.with_order(table, ())["front.order"].tolist()[0] == 4


def test_a_parallel_plot_shows_what_every_searched_trial_has_and_what_differs() -> None:
    table = pd.DataFrame(
        {
            "role": ["search", "search", "teacher"],
            "param.width": [4, 8, None],
            "param.same": [1, 1, 2],
            "param.sometimes": [None, 2.0, 3.0],
        }
    )
    assert tracking_view.searched(table) == ["width"]


def state_of(value: str) -> dict[str, Any]:
    """What the tag of a view holds."""
    assert value.startswith("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(value.removeprefix("deflate;"))))
    return state


def test_the_view_has_every_objective_against_the_first_and_fits_into_a_tag() -> None:
    objectives = (*OBJECTIVES, ("val/kd_evaluator", "min"))
    name, value = tracking_view.tag("6d1f", "a" * 32, objectives, [f"p{n}" for n in range(40)], 1000)
    assert name == "mlflow.sharedViewState.raydistill-6d1f" and len(value) < 5000
    state = state_of(value)
    charts = state["compareRunCharts"]
    assert [(chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in charts if "xaxis" in chart] == [
        ("cost/macs", "final/miou"),
        ("final/kd_evaluator", "final/miou"),
    ]
    kinds = [chart["type"] for chart in charts]
    assert kinds == ["SCATTER", "SCATTER", "LINE", "LINE", "PARALLEL", "IMAGE"]
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in charts} <= sections
    assert state["orderByKey"] == "metrics.`front/order`" and state["orderByAsc"]
    assert state["runsHiddenMode"] == "SHOW_ALL"


@pytest.fixture
def every_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture's sweep with all its trials: a parallel plot needs several that were searched."""
    monkeypatch.setattr("test_tracking.USED", tuple(trial.trial_id for trial in read_trials(FIXTURE)))


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder whose MLflow has a whole sweep."""
    monkeypatch.setattr(tracker_module, "_PAUSES_SEC", (0.02, 0.1))
    monkeypatch.setattr(tracking_store, "make_file", copy_tracking_store)
    monkeypatch.setattr(tracking_models, "is_wanted", lambda trial, is_member: False)
    monkeypatch.setattr("test_tracking.FACTS", FACTS)
    sweep = Sweep(tmp_path)
    for trial in sweep.trials:
        picture = FIXTURE / "trials" / trial.trial_id / "samples.png"
        for evaluation in trial.result.evaluations if picture.exists() else ():
            copy = sweep.folder / "trials" / trial.trial_id / "samples" / f"{evaluation.nimg:09d}.png"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(picture.read_bytes())
    sweep.run()
    assert sweep.tracker.close()
    return tmp_path


def runs_of(results: Path) -> dict[str, Any]:
    """The runs in MLflow by name."""
    client = MlflowClient(tracking_store.default_uri(results))
    experiment = client.get_experiment_by_name("raydistill")
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_runs_have_data_sets_an_evaluator_notes_with_links_and_who_ran_what(sent: Path) -> None:
    runs = runs_of(sent)
    parent, evaluator = runs["old"], runs["evaluator 37c1a40e"]
    assert [each.tags[0].value for each in parent.inputs.dataset_inputs] == ["train", "val", "test"]
    assert "Three students." in parent.data.tags["mlflow.note.content"]
    assert "viewStateShareKey=raydistill-6d1f" in parent.data.tags["mlflow.note.content"]
    assert evaluator.data.metrics["final/miou"] == 0.5 and evaluator.info.status == "FINISHED"
    trials = [run for run in runs.values() if "raydistill.trial_id" in run.data.tags]
    assert len(trials) == 4
    for run in trials:
        assert len(run.inputs.dataset_inputs) == 3 and run.data.tags["mlflow.user"] == "me"
        assert f"runs/{evaluator.info.run_id}" in run.data.tags["mlflow.note.content"]
    orders = [run.data.metrics["front/order"] for run in trials]
    assert sorted(orders) == [1, 2, 3, 4]


def test_a_trial_that_failed_or_was_stopped_says_so_in_its_description() -> None:
    trial = next(trial for trial in read_trials(FIXTURE) if trial.is_complete and trial.role == "search")
    for status, words in (("FAIL", "**Failed** after"), ("PRUNED", "**Stopped early** after")):
        change = {"status": status, "reason": "its loss is not finite", "nimg": 1600}
        ended = trial.with_result(trial.result.model_copy(update=change))
        note = tracking_parts.note_of_trial(ended, "1", {"teacher": "a" * 32})
        assert f"{words} 1,600 images: its loss is not finite" in note
        assert f"[teacher](#/experiments/1/runs/{'a' * 32})" in note
    assert "after" not in tracking_parts.note_of_trial(trial, "1", {})


def test_a_resume_with_other_options_keeps_the_params_and_tags_what_changed(sent: Path) -> None:
    uri = tracking_store.default_uri(sent)
    later = FACTS._replace(params={"trials": 5, "new": 1})
    tracking.SweepRuns(uri, "raydistill", sent / "mlartifacts", later)
    parent = runs_of(sent)["old"]
    assert parent.data.params == {"trials": "3", "new": "1"}
    assert parent.data.tags["raydistill.now.trials"] == "5"


def test_a_store_that_refuses_the_view_gets_a_plain_table(
    sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_view, "tag", lambda *given: ("mlflow.sharedViewState.x", "y" * 30_000))
    runs = tracking.SweepRuns(tracking_store.default_uri(sent), "raydistill", sent / "mlartifacts", FACTS)
    assert runs.view_refused
    link = runs.table_link("http://127.0.0.1:5000")
    assert "viewStateShareKey" not in link and "front%2Forder" in link


def test_the_description_has_the_outcome_a_table_and_commands() -> None:
    trials = read_trials(FIXTURE)
    table = tables.with_front(tables.trial_table(trials, sweep_id="old"), OBJECTIVES, (0.0, 1e9))
    facts = {"hypervolume": "2", "stability": ""}
    given = {"space": "default", "ended_by": "--trials 3", "facts": facts, "sweep": "runs/sweeps/a b"}
    text = tracking_text.at_end(tables.mean_over_seeds(table), OBJECTIVES, **given)
    num_members = int(table["front.member"].sum())
    assert text.startswith(f"**{num_members} of ") and "Ended by --trials 3." in text
    best = table[table["front.member"]].sort_values("metric.val/miou").iloc[-1]
    assert f"raydistill promote 'runs/sweeps/a b' --trial {best['trial_id']}" in text
    assert "hypervolume: 2" in text and "stability" not in text


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
def test_the_link_opens_all_trials_in_order_with_charts_in_a_browser(every_trial: None, sent: Path) -> None:
    runs = runs_of(sent)
    names = sorted(
        (run.data.metrics["front/order"], name)
        for name, run in runs.items()
        if "front/order" in run.data.metrics
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    uri = tracking_store.default_uri(sent)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=sent,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        asyncio.run(_look(server, runs["old"], [name for _, name in names]))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _look(server: str, parent: Any, names: list[str]) -> None:
    """Opens the page of charts and the plain table, and compares the names of runs with `names`."""
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{server}/health", timeout=5)
            break
        except OSError:
            await asyncio.sleep(1)
    experiment = parent.info.experiment_id
    async with browser.page(1600, 2000) as page:
        await page.open(tracking_view.link(server, experiment, "6d1f"))
        await page.wait_for_text("cost/macs vs. final/miou", 240)
        await page.wait_for(f"{_count('.js-plotly-plot .points path')} >= {2 * len(names)}", 240)
        await page.wait_for(f"{_count('.parcoords')} > 0", 240)
        text = await page.text()
        assert f"{len(names)} matching runs" in text and "Sort: front/order" in text
        shown = [line for line in text.splitlines() if line in names]
        assert list(dict.fromkeys(shown)) == names
        _, scatter, curves, parallel = re.split(
            r"cost/macs vs\. final/miou|\nval/miou\n|Searched parameters and objectives", text
        )
        assert {"0000 teacher", "0001 uniform 2"} < set(names) <= set(scatter.splitlines())
        assert {f"{name} (val/miou)" for name in names} <= set(curves.splitlines())
        assert "Parallel Coordinates" in parallel and "final/miou" in parallel and "cost/macs" in parallel
        for diagnostic in ("energy/gap", "train/l1", "time/wall_sec"):
            assert diagnostic not in text.splitlines(), "a folded section shows its charts"
        await page.open(tracking_view.plain_link(server, experiment, parent.info.run_id))
        await page.wait_for_text(names[-1], 240)
        shown = [line for line in (await page.text()).splitlines() if line in names]
        assert list(dict.fromkeys(shown)) == names


def _count(selector: str) -> str:
    """JavaScript that counts what is drawn."""
    return f"document.querySelectorAll({json.dumps(selector)}).length"
