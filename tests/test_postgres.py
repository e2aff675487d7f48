"""MLflow's server on PostgreSQL has the rows of an sqlite file: 256 reporting trials, a tracked sweep."""

import re
import shutil
import time
from pathlib import Path

import postgres
import pytest
from sqlalchemy import create_engine, text
from test_measured import FIXTURE
from test_results import synthetic_trial
from test_tracking_real import free_port, server

from raydistill.commands import track
from raydistill.config.analysis_options import TrackOptions
from raydistill.errors import StoreError
from raydistill.records import tables
from raydistill.records.trials import Trial
from raydistill.sweep import tracker as tracker_module
from raydistill.sweep import tracking, tracking_models, tracking_record
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.tracking import SweepFacts
from raydistill.sweep.tracking_record import TrackingRecord
from raydistill.sweep.tracking_store import default_uri
from raydistill.terminal import Terminal

NUMBER = 256
OBJECTIVES = (("val/miou", "max"), ("cost/macs", "min"))


def trials() -> list[Trial]:
    """A teacher, and students of different sizes and scores that have all ended."""
    return [
        synthetic_trial(
            number,
            "search" if number else "teacher",
            "",
            10 + number,
            0.2 + number / 1000,
            0.3,
            16,
            "instance",
            "COMPLETE",
            "",
        )
        for number in range(NUMBER)
    ]


def report(uri: str | None, results: Path) -> tuple[float, float]:
    """Sends what a sweep sends whose trials all run at once; seconds of the calls, and until all was sent."""
    every = trials()
    table = tables.with_front(tables.trial_table(every, sweep_id="demo"), OBJECTIVES, [0.0, 1e9])
    tracker = Tracker(uri, "raydistill", results, Terminal(quiet=True))
    began = time.perf_counter()
    tracker.start_sweep(results, SweepFacts("demo", "abc", {}, {"space": "demo"}))
    for trial in every:
        tracker.send_trial(trial.with_result(None), results)
    for place in range(4):
        for trial in every:
            assert trial.result is not None
            tracker.log_report(trial.trial_id, trial.result.evaluations[place])
    for trial in every:
        tracker.send_trial(trial, results)
    tracker.end_sweep(table, {"front/hypervolume": 1.0}, [])
    called = time.perf_counter() - began
    assert tracker.close(), "something was not sent"
    return called, time.perf_counter() - began


def rows(uri: str) -> dict[str, list[tuple]]:
    """The rows of runs, params, metrics and tags, without ids, addresses and times."""
    queries = {
        "runs": "SELECT name, status FROM runs",
        "params": "SELECT name, key, value FROM params JOIN runs USING (run_uuid)",
        "metrics": "SELECT name, key, value, step, is_nan FROM metrics JOIN runs USING (run_uuid)",
        "tags": "SELECT name, key, value FROM tags JOIN runs USING (run_uuid) "
        "WHERE key NOT IN ('mlflow.parentRunId', 'mlflow.user', 'mlflow.artifactLocation')",
    }
    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            found = {
                table: sorted(tuple(str(value) for value in row) for row in connection.execute(text(query)))
                for table, query in queries.items()
            }
    finally:
        engine.dispose()
    return {table: sorted(tuple(map(_alike, row)) for row in listed) for table, listed in found.items()}


def _alike(value: str) -> str:
    """A value without what differs between two tracking stores: truth values, ids of runs in links."""
    return re.sub("[0-9a-f]{32}(?![0-9a-f])", "ID", {"True": "1", "False": "0"}.get(value, value))


@pytest.mark.slow
@pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing() or "all is here")
def test_256_reporting_trials_have_the_same_rows_on_postgresql_as_on_sqlite(tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    report(None, local)
    with postgres.served() as store, server(tmp_path, free_port(), store) as address:
        called, sent = report(address, tmp_path)
        there = rows(store)
    print(f"{NUMBER} trials with 4 reports each: {called:.2f} s of calls, all sent after {sent:.0f} s")
    assert called < 30, "the driver waits for MLflow"
    here = rows(default_uri(local))
    assert len(here["runs"]) == NUMBER + 1 and len(here["metrics"]) > 8 * NUMBER
    for table in here:
        assert there[table] == here[table], table


def finished_sweep(store: Path) -> Path:
    """The folder of a sweep that has ended, which MLflow does not know."""
    sweep = Path(shutil.copytree(FIXTURE / "sweeps/old", store / "sweeps/old"))
    table = tables.with_front(tables.trial_table(sweep, sweep_id="old"), OBJECTIVES, (0.0, 1e9))
    tables.write_tables(sweep, table, tables.evaluation_table(sweep, sweep_id="old"))
    record = TrackingRecord(
        uri=None,
        experiment="raydistill",
        tags={"mlflow.source.name": "raydistill sweep"},
        params={"trials": 3},
        metrics={"front/hypervolume": 1.0},
        objectives=OBJECTIVES,
        artifacts=("trials.csv",),
        description="Three students.",
    )
    tracking_record.write(sweep, record)
    return sweep


def tracked(sweep: Path, uri: str | None = None) -> int:
    return track.run(TrackOptions(sweep=str(sweep), mlflow=uri))


@pytest.mark.slow
@pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing() or "all is here")
def test_a_tracked_sweep_has_the_same_rows_in_a_file_behind_a_server_and_in_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_models, "is_wanted", lambda trial, is_member: False)
    sweep = finished_sweep(tmp_path / "runs")
    for _ in range(2):
        assert tracked(sweep) == 0
    here = rows(default_uri(tmp_path / "runs"))
    assert len(here["runs"]) == 8 and len(here["metrics"]) > 100
    file = f"sqlite:///{tmp_path}/server.db"
    with server(tmp_path, free_port(), file) as address:
        for _ in range(2):
            assert tracked(sweep, address) == 0
    with postgres.served() as store:
        with server(tmp_path, free_port(), store) as address, pytest.MonkeyPatch.context() as patch:
            patch.setattr(tracker_module, "_LAST_SEC", 1.0)
            send = tracking.SweepRuns.send

            def fails_later(runs: tracking.SweepRuns, sent: tracking.SentTrial) -> None:
                if sent.trial.number > 1:
                    raise ConnectionResetError("the network is down")
                send(runs, sent)

            patch.setattr(tracking.SweepRuns, "send", fails_later)
            assert tracked(sweep, address) == 1
        with pytest.raises(StoreError, match="the tracking store cannot be used"):
            tracked(sweep, address)
        moved = Path(shutil.move(tmp_path / "runs", tmp_path / "moved")) / "sweeps/old"
        with server(tmp_path, free_port(), store) as address:
            for _ in range(3):
                assert tracked(moved, address) == 0
        there = rows(store)
    behind = rows(file)
    for table in here:
        assert behind[table] == here[table], table
        assert there[table] == here[table], table
