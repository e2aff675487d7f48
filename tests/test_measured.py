"""What is measured of a trial after its sweep: its file, tables, page, MLflow; and who never reads it."""

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import s3
from mlflow.tracking import MlflowClient
from no_ray import copy_tracking_store
from test_analysis import Elements
from test_floors import MODULES, imported, own
from test_replicates_real import opened, train

from raydistill import load_sweep, search
from raydistill.commands import remeasured
from raydistill.commands.cli import main
from raydistill.config.command_options import EvaluateOptions
from raydistill.config.network_options import LatencyOptions
from raydistill.errors import NoticeWarning, StoreError
from raydistill.records import locks, measured, mirror, remote, tables
from raydistill.records.files import write_json_atomic
from raydistill.records.measured import Measurement
from raydistill.records.trials import read_trials
from raydistill.sweep import page, tracking_record, tracking_store
from raydistill.sweep.tracking_record import TrackingRecord

FIXTURE = Path(__file__).parent / "fixtures" / "sweep_of_job_version_2"
WHEN = "2026-11-29T09:10:00Z"
REFERENCE = (1e9, 1.0)
OBJECTIVES = (("cost/macs", "min"), ("val/kd_evaluator", "min"))
LATENCY = "latency_ms_p50/cpu_1_threads_batch_1"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """The folder of a sweep that has ended, where its trials say that it lies."""
    store = tmp_path / "runs"
    shutil.copytree(FIXTURE, store)
    for path in store.glob("sweeps/*/trials/*/trial.json"):
        path.write_text(path.read_text().replace("STORE", str(store)))
    folder = store / "sweeps" / "old"
    table = tables.with_front(tables.trial_table(folder, sweep_id="old"), OBJECTIVES, REFERENCE)
    tables.write_tables(folder, table, tables.evaluation_table(folder, sweep_id="old"))
    record = page.PageRecord(
        title="demo", objectives=OBJECTIVES, reference=REFERENCE, facts={"preset": "old"}, ceiling=None
    )
    write_json_atomic(folder / page.FILE, record.model_dump(mode="json"))
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A command in this process -> its exit code."""

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["raydistill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def digest(sweep: Path, trial_id: str) -> str:
    content = json.loads((sweep / "trials" / trial_id / "result.json").read_text())
    return str(content["network"]["digest"])


def one(sweep: Path, trial_id: str = "0006", **changes: Any) -> Measurement:
    given = {
        "name": "test/kd_squeezenet",
        "value": 0.25,
        "low": 0.125,
        "high": 0.5,
        "conditions": {"num_samples": 8, "split": "test"},
        "network": changes.get("network") or digest(sweep, trial_id),
        "when": WHEN,
        "how": "raydistill evaluate --split test",
    }
    return Measurement.model_validate(given | changes)


def ledger_files(sweep: Path) -> dict[str, bytes]:
    """What a resume and the search read."""
    names = ("sweep.json", "trials/*/trial.json", "trials/*/result.json")
    return {str(path): path.read_bytes() for name in names for path in sweep.glob(name)}


def embedded(sweep: Path) -> dict[str, Any]:
    text = (sweep / "frontier.html").read_text(encoding="utf-8")
    return dict(json.loads(Elements(text).scripts[0]))


# ---- the commands ------------------------------------------------------------------------------------------


def test_evaluate_records_scores_and_leaves_the_ledger_as_it_was(
    sweep: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before, trials = ledger_files(sweep), read_trials(sweep)
    columns = load_sweep(sweep).trials
    trial = sweep / "trials" / "0006"
    assert run("evaluate", trial, "--resamples", "20", "--split", "test", "--json") == 0
    out, err = capsys.readouterr()
    printed = {score["name"]: score for score in json.loads(out)["scores"][str(trial)]}
    found = {each.name: each for each in measured.read(trial)}
    assert "test/kd_evaluator" in found and set(found) == set(printed)
    for name, each in found.items():
        assert each.value == printed[name]["value"] and each.network == digest(sweep, "0006")
        assert ([each.low, each.high] if each.low is not None else None) == printed[name]["interval"]
        assert each.conditions["split"] == "test" and each.conditions["num_samples"] == 8
        assert each.how == "raydistill evaluate --split test --resamples 20"
    assert err.splitlines() == [
        f"{trial}: recorded {len(found)} numbers in measured.json",
        f"sweep old: renewed tables and page; MLflow: raydistill track {sweep}",
    ]
    assert ledger_files(sweep) == before and read_trials(sweep) == trials
    table = load_sweep(sweep).trials
    pd.testing.assert_frame_equal(table[columns.columns], columns)
    assert tables.read_table(sweep / "trials.csv").equals(table)
    row = table.set_index("trial_id").loc["0006"]
    assert row["measured.test/kd_evaluator"] == found["test/kd_evaluator"].value
    assert row["measured.test/kd_evaluator.when"] == found["test/kd_evaluator"].when
    assert run("frontier", sweep) == 0 and "measured later" in capsys.readouterr().out


def test_latency_records_each_batch_size_and_a_second_run_replaces_the_first(
    sweep: Path, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, milliseconds = sweep / "trials" / "0006", iter([1.0, 2.0, 3.0, 4.0])

    def row(measure: object, given: str, batch_size: int, options: LatencyOptions) -> dict[str, Any]:
        time = next(milliseconds)
        return {
            **{"network": given, "size": "16x16", "batch_size": batch_size, "peak_mib": None},
            **{"cost/latency_ms_p50": time, "cost/latency_ms_p95": 2 * time},
        }

    monkeypatch.setattr("raydistill.trials.own_process.call", row)
    for times in ((1.0, 2.0), (3.0, 4.0)):
        assert run("latency", trial, "--batch-size", "1", "--batch-size", "16", "--repeats", "7") == 0
        found = {each.name: each for each in measured.read(trial)}
        both = [found[f"latency_ms_p50/cpu_1_threads_batch_{size}"] for size in (1, 16)]
        assert [each.value for each in both] == list(times) and len(found) == 4
    conditions = dict(both[1].conditions)
    assert conditions.pop("hardware")
    assert conditions == {"device": "cpu", "threads": 1, "batch_size": 16, "size": "16x16"}
    assert both[1].how.startswith(
        "raydistill latency --batch-size 1 --batch-size 16 --repeats 7 (load average "
    )
    row_of = load_sweep(sweep).trials.set_index("trial_id").loc["0006"]
    assert row_of[f"measured.{LATENCY}"] == 3.0 and f"measured.{LATENCY}.low" not in row_of


def test_nothing_is_recorded_where_the_option_says_so_or_it_is_no_trial_of_a_sweep(
    sweep: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path: path.stat().st_mtime_ns for path in sweep.rglob("*") if path.is_file()}
    trial = sweep / "trials" / "0006"
    assert run("evaluate", trial, "--resamples", "0", "--no-record") == 0
    assert (
        run("evaluate", trial / "network", "--data", FIXTURE / "cache/data/b5781c8259d1ad7c", "--paired") == 0
    )
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*") if path.is_file()} == files
    assert capsys.readouterr().err == ""


def test_a_store_that_can_only_be_read_is_said_in_a_line(
    sweep: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = Path.open

    def refuse(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if mode == "w":
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", refuse)
    trial = sweep / "trials" / "0006"
    assert run("evaluate", trial, "--resamples", "0") == 0
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert "kd_evaluator" in out and line.startswith(f"{trial}: not recorded: ")
    assert "Read-only file system" in line and not (trial / measured.FILE).exists()


def test_a_sweep_that_runs_keeps_its_tables_until_its_end(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (sweep / "trials.csv").read_bytes()
    trial = str(sweep / "trials" / "0006")
    with locks.locked(sweep / "lock", what="sweep old", wait=False):
        remeasured.record({trial: [one(sweep)]})
        assert "sweep old is being run by another process" in capsys.readouterr().err
        assert (sweep / "trials.csv").read_bytes() == before
    for path in sweep.glob("*.parquet"):
        path.unlink()
    remeasured.record({trial: [one(sweep, name="test/miou")]})
    assert "sweep old has not ended: its tables and page take it in at the end" in capsys.readouterr().err
    assert [each.name for each in measured.read(Path(trial))] == ["test/kd_squeezenet", "test/miou"]


def test_of_a_retrained_trial_it_is_beside_it_alone(
    sweep: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    trial = sweep / "retrained" / "0006-12ab"
    shutil.copytree(sweep / "trials" / "0006", trial)
    before = (sweep / "trials.parquet").stat().st_mtime_ns
    assert run("evaluate", trial, "--resamples", "0") == 0
    assert {each.name for each in measured.read(trial)} >= {"val/miou", "val/kd_evaluator"}
    assert (sweep / "trials.parquet").stat().st_mtime_ns == before
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_how_it_was_measured_has_no_password_and_no_option_that_changes_nothing() -> None:
    options = EvaluateOptions(
        given=("x",), data="https://me:secret@host/x", store="s3://b/x", as_json=True, extractors=("a=b c",)
    )
    assert (
        remeasured.how("evaluate", options)
        == "raydistill evaluate --data https://me:***@host/x --extractor 'a=b c'"
    )
    assert remeasured.how("latency", LatencyOptions(given=("x",), size=(8, 16))).endswith("--size 8x16")


# ---- the file ----------------------------------------------------------------------------------------------


def test_a_number_replaces_that_of_its_name_and_conditions_alone(sweep: Path) -> None:
    trial = sweep / "trials" / "0006"
    measured.add(trial, [one(sweep), one(sweep, conditions={"num_samples": 4}, value=1.0)])
    measured.add(trial, [one(sweep, value=0.75, when="2026-11-29T09:11:00Z"), one(sweep, name="test/fid")])
    assert [(each.name, each.value) for each in measured.read(trial)] == [
        ("test/kd_squeezenet", 1.0),
        ("test/kd_squeezenet", 0.75),
        ("test/fid", 0.25),
    ]


def test_two_processes_at_once_lose_nothing(sweep: Path) -> None:
    trial, num = sweep / "trials" / "0006", 15
    code = f"""
import sys
from pathlib import Path
from raydistill.records.measured import Measurement, add
for number in range({num}):
    given = {one(sweep).to_json()!r} | {{"name": f"test/from_{{sys.argv[1]}}_{{number}}"}}
    add(Path({str(trial)!r}), [Measurement.model_validate(given)])
"""
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    names = {f"test/from_{name}_{number}" for name in "ab" for number in range(num)}
    assert {each.name for each in measured.read(trial)} == names


def test_of_two_at_once_the_last_brings_both_into_the_tables(sweep: Path) -> None:
    """Two threads: a lock of a file is that of who opened it."""
    (sweep / page.FILE).unlink()
    trial, names = str(sweep / "trials" / "0006"), [f"test/x{number}" for number in range(6)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: remeasured.record({trial: [one(sweep, name=name)]}), names))
    assert measured.names_in(load_sweep(sweep).trials) == names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "damaged or unreadable"),
        ('{"schema_version": 7, "measurements": []}', "not written by schema version 1"),
        ('{"schema_version": 1}', "damaged: measurements: Field required"),
        ('{"schema_version": 1, "measurements": [{"name": "../x"}]}', "damaged: measurements.0.name"),
    ],
)
def test_a_damaged_file_is_named_before_anything_is_scored_and_left_out_of_the_tables(
    sweep: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    path = sweep / "trials" / "0006" / measured.FILE
    path.write_text(text)
    assert run("evaluate", path.parent, "--extractor", "torchscript=no-such-file") == 2
    assert f"{path}: {says}" in (err := capsys.readouterr().err) and "no-such-file" not in err
    measured.add(sweep / "trials" / "0004", [one(sweep, "0004")])
    with pytest.warns(NoticeWarning, match=r"0006/measured\.json: .* Left out of the tables"):
        table = measured.in_table(load_sweep(sweep).trials, sweep)
    assert table["measured.test/kd_squeezenet"].notna().sum() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a.low"},
        {"name": "a" * 200},
        {"name": "test//x"},
        {"value": float("nan")},
        {"when": "yesterday"},
        {"when": "1969-01-01T00:00:00Z"},
        {"how": "x" * 3000},
        {"conditions": {"x": []}},
    ],
)
def test_what_no_table_could_hold_is_refused(sweep: Path, changes: dict[str, Any]) -> None:
    content = one(sweep).to_json() | changes
    path = sweep / "trials" / "0006" / measured.FILE
    path.write_text(json.dumps({"schema_version": 1, "measurements": [content]}))
    with pytest.raises(StoreError, match=rf"measured\.json: damaged.*{next(iter(changes))}|finite|NaN"):
        measured.read(path.parent)


def test_what_was_measured_of_another_network_is_no_longer_shown(sweep: Path) -> None:
    measured.add(sweep / "trials" / "0006", [one(sweep, network="00"), one(sweep, name="test/fid")])
    assert measured.names_in(measured.in_table(load_sweep(sweep).trials, sweep)) == ["test/fid"]


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3.served(tmp_path_factory.mktemp("s3")) as query:
        yield query


def test_what_one_machine_measures_is_there_on_another(
    sweep: Path, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.BUCKET}/runs?{query}"

    def on(machine: str) -> Path:
        monkeypatch.setenv(mirror.FOLDER, str(tmp_path / machine))
        return mirror.folder_of(url) / "sweeps" / "old"

    (sweep / page.FILE).unlink()
    shutil.copytree(sweep, on("a"))
    remote.push(on("a"))
    for machine, name in (("a", "test/fid"), ("b", "test/kid")):
        remote.pull(on(machine))
        remeasured.record({str(on(machine) / "trials" / "0006"): [one(sweep, name=name)]})
    monkeypatch.setenv(mirror.FOLDER, str(tmp_path / "c"))
    table = load_sweep(f"s3://{s3.BUCKET}/runs/sweeps/old?{query}").trials
    assert measured.names_in(table) == ["test/fid", "test/kid"]


# ---- who reads it ------------------------------------------------------------------------------------------


def test_neither_search_nor_ledger_nor_early_stopping_reads_it() -> None:
    readers = {
        module
        for module, path in MODULES.items()
        if "records.measured" in {own(name) for name in imported(path)}
    }
    assert readers == {
        *("commands.evaluate", "commands.frontier", "commands.latency", "commands.remeasured"),
        *("commands.reference.records", "commands.retrain_front", "commands.track"),
        *("exchange.model_card_facts", "records.ablated", "sweep.unfinished"),
        *("sweep.page", "sweep.report", "sweep.tracking"),
    }


def test_a_resume_has_the_same_definition_history_and_proposals(tmp_path: Path) -> None:
    ledger = opened(tmp_path, "one")
    for _ in range(2):
        train(ledger, ledger.propose())
    history, table = ledger.history(), ledger.table()
    proposals = [search.propose(ledger.problem, history, number) for number in (2, 3)]
    for trial in ledger.searched:
        assert trial.result is not None and trial.result.network is not None
        better = {"val/miou": 1.0, "val/kd_evaluator": -9.0, "cost/macs": 1.0}
        folder, network = ledger.folder_of(trial), trial.result.network.digest
        new = [one(ledger.folder, name=name, value=value, network=network) for name, value in better.items()]
        measured.add(folder, new)
    again = opened(tmp_path, "one")
    assert again.history() == history
    assert [search.propose(again.problem, again.history(), number) for number in (2, 3)] == proposals
    pd.testing.assert_frame_equal(again.table(), table)
    assert measured.names_in(measured.in_table(table, ledger.folder)) == sorted(better)


def test_the_front_and_a_warm_start_stay_as_they_were(sweep: Path) -> None:
    before = tables.trial_table(sweep, sweep_id="old")
    for trial_id in ("0004", "0006"):
        measured.add(sweep / "trials" / trial_id, [one(sweep, trial_id, name="val/kd_evaluator", value=-9.0)])
    page.renew(sweep)
    pd.testing.assert_frame_equal(tables.trial_table(sweep, sweep_id="old"), before)
    front = [name for name in before if name.startswith(("front.", "metric."))]
    now = load_sweep(sweep).trials
    assert (now["measured.val/kd_evaluator"] == -9).sum() == 2
    fronts = [tables.with_front(each, OBJECTIVES, REFERENCE)[front] for each in (before, now)]
    pd.testing.assert_frame_equal(*fronts)


# ---- page and MLflow ---------------------------------------------------------------------------------------


def test_the_page_shows_it_with_when_and_how_and_as_an_axis_of_those_that_have_it(sweep: Path) -> None:
    competitors = load_sweep(sweep).trials
    students = competitors["trial_id"][tables.competitors(competitors)].tolist()
    for number, trial_id in enumerate(students):
        mine = one(sweep, trial_id, name=LATENCY, value=1.0 + number, low=None, high=None)
        measured.add(sweep / "trials" / trial_id, [mine])
    nasty = "</script><script>alert(1)</script>"
    measured.add(sweep / "trials" / "0006", [one(sweep, how=nasty)])
    assert page.renew(sweep)
    data = embedded(sweep)
    (row,) = [row for row in data["rows"] if row["trial_id"] == "0006"]
    (first, second) = row["measured"]
    assert first["name"] == LATENCY and first["low"] is None and first["when"] == WHEN
    assert second["how"] == nasty and (second["value"], second["low"], second["high"]) == (0.25, 0.125, 0.5)
    axis = {axis["name"]: axis for axis in data["axes"]}
    assert axis[f"measured/{LATENCY}"]["better"] == "min"
    of_one = f"cost/macs|measured/{LATENCY}", "cost/macs|measured/test/kd_squeezenet"
    assert len(data["fronts"][of_one[0]]) >= 1 and data["fronts"][of_one[1]] == [data["rows"].index(row)]
    bounds = data["intervals"]["measured/test/kd_squeezenet"]
    assert (bounds["low"][data["rows"].index(row)], "pictures" in bounds["what"]) == (0.125, True)
    text = (sweep / "frontier.html").read_text(encoding="utf-8")
    assert nasty not in text and len(Elements(text).scripts) == 3

    other = {"conditions": {"num_samples": 4}, "when": "2026-11-30T00:00:00Z"}
    measured.add(sweep / "trials" / "0006", [one(sweep, name=LATENCY, **other)])
    page.renew(sweep)
    assert f"measured/{LATENCY}" not in {axis["name"] for axis in embedded(sweep)["axes"]}


def test_a_sweep_without_a_page_record_gets_tables_alone_and_a_damaged_one_is_named(sweep: Path) -> None:
    whole = json.loads((sweep / page.FILE).read_text())
    for content in ({}, whole | {"reference": [1.0]}, whole | {"ceiling": "high"}):
        (sweep / page.FILE).write_text(json.dumps(content))
        with pytest.raises(StoreError, match=r"page\.json: damaged: .*remove it"):
            page.renew(sweep)
    (sweep / page.FILE).unlink()
    measured.add(sweep / "trials" / "0006", [one(sweep)])
    assert not page.renew(sweep) and not (sweep / "frontier.html").exists()
    assert measured.names_in(load_sweep(sweep).trials) == ["test/kd_squeezenet"]


def test_track_sends_it_with_when_and_how_once(
    sweep: Path, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_store, "make_file", copy_tracking_store)
    front = {"front/hypervolume": 1.0}
    tracking_record.write(
        sweep, TrackingRecord(uri=None, experiment="raydistill", tags={}, params={}, metrics=front)
    )
    measured.add(sweep / "trials" / "0006", [one(sweep)])
    for _ in range(2):
        assert run("track", sweep) == 0
    client = MlflowClient(tracking_store.default_uri(sweep.parent.parent))
    experiment = client.get_experiment_by_name("raydistill")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    with_it = [run for run in runs if any(name.startswith("measured/") for name in run.data.metrics)]
    (found,) = with_it
    assert found.data.tags["raydistill.trial_id"] == "0006"
    name = "test/kd_squeezenet"
    assert [found.data.metrics[f"measured/{name}{part}"] for part in ("", "/low", "/high")] == [
        0.25,
        0.125,
        0.5,
    ]
    assert found.data.tags[f"raydistill.measured.{name}.when"] == WHEN
    assert found.data.tags[f"raydistill.measured.{name}.how"] == "raydistill evaluate --split test"
    history = client.get_metric_history(found.info.run_id, f"measured/{name}")
    assert [each.timestamp for each in history] == [measured.milliseconds(WHEN)]
