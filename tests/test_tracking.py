"""MLflow mirrors the ledger: whatever a tracking store does, the sweep goes on, and all is there later."""

import base64
import contextlib
import http.server
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from no_ray import copy_tracking_store

from raydistill.errors import StoreError, without_passwords
from raydistill.records import tables
from raydistill.records.trials import read_trials
from raydistill.sweep import tracker as tracker_module
from raydistill.sweep import tracking_models, tracking_store
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.tracking import SweepFacts, SweepRuns
from raydistill.terminal import Terminal

FIXTURE = Path(__file__).parent / "fixtures" / "sweep_of_job_version_2" / "sweeps" / "old"
USED = ("0000", "0001", "0006", "0007")
FACTS = SweepFacts("old", "6d1f", {"raydistill.trials": "3"}, {"seed": 0})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module, "_PAUSES_SEC", (0.02, 0.1))
    monkeypatch.setattr(tracking_store, "make_file", copy_tracking_store)
    monkeypatch.setattr(tracking_models, "is_wanted", lambda trial, is_member: False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a sweep does not wait long for a tracking store that never comes back."""
    monkeypatch.setattr(tracker_module, "_LAST_SEC", 0.3)


class Sweep:
    """The sweep of the fixture, as if it ran now: step by step, with a tracker."""

    def __init__(self, results: Path, uri: str | None = None):
        self.folder = results / "sweeps" / "old"
        if not self.folder.exists():
            shutil.copytree(FIXTURE, self.folder)
        self.trials = [trial for trial in read_trials(self.folder) if trial.trial_id in USED]
        self.results = {trial.trial_id: trial.result for trial in self.trials}
        self.tracker = Tracker(uri, "raydistill", results, Terminal())
        self.tracker.start_sweep(self.folder, FACTS)

    def run(self, step: Callable[[int], None] = lambda number: None) -> None:
        """Trains everything; `step` is called before each trial, and once at the end."""
        for number, trial in enumerate(self.trials):
            step(number)
            folder = self.folder / "trials" / trial.trial_id
            self.tracker.send_trial(trial.with_result(None), folder)
            for evaluation in trial.result.evaluations[:1]:
                self.tracker.log_report(trial.trial_id, evaluation)
            self.tracker.send_trial(trial, folder)
        table = tables.with_front(
            tables.trial_table(self.trials, sweep_id="old"),
            (("val/miou", "max"), ("cost/macs", "min")),
            (0.0, 1e9),
        )
        self.tracker.end_sweep(table, {"front/hypervolume": 2.0}, [self.folder / "trials.csv"])
        step(len(self.trials))

    def settled(self) -> None:
        """Waits until everything so far is sent."""
        ends = time.monotonic() + 20
        while self.tracker._num_done < self.tracker._num_changes and time.monotonic() < ends:
            time.sleep(0.01)
        assert self.tracker._num_done == self.tracker._num_changes


def rows(results: Path, uri: str | None = None) -> pd.DataFrame:
    """What MLflow has of the sweep: each run with metrics, params, tags, steps and artifacts, by name."""
    client = MlflowClient(uri or tracking_store.default_uri(results))
    experiment = client.get_experiment_by_name("raydistill")
    assert experiment is not None
    found = []
    for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY):
        own = ("mlflow.parentRunId", "mlflow.user", "mlflow.source.name", "mlflow.source.git.commit")
        found.append(
            {
                "name": run.info.run_name,
                "status": run.info.status,
                "params": run.data.params,
                "metrics": run.data.metrics,
                "tags": {
                    name: re.sub("runs/[0-9a-f]{32}", "runs/ID", value)
                    for name, value in run.data.tags.items()
                    if name not in own
                },
                "steps": {
                    name: [each.step for each in client.get_metric_history(run.info.run_id, name)]
                    for name in run.data.metrics
                    if name.startswith(("val/", "train/"))
                },
                "artifacts": sorted(each.path for each in client.list_artifacts(run.info.run_id)),
            }
        )
    return pd.DataFrame(found).sort_values("name", ignore_index=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    results = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking_store, "make_file", copy_tracking_store)
        patch.setattr(tracking_models, "is_wanted", lambda trial, is_member: False)
        sweep = Sweep(results)
        sweep.run()
        sweep.tracker.close()
    found = rows(results)
    assert len(found) == 5 and set(found["status"]) <= {"FINISHED", "FAILED", "KILLED"}
    return found


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Inside, another program holds the write lock of an sqlite file."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


def test_what_a_tracker_sends_is_in_mlflow_with_its_steps_and_artifacts(undisturbed: pd.DataFrame) -> None:
    by_name = undisturbed.set_index("name")
    parent = by_name.loc["old"]
    assert parent["metrics"] == {"front/hypervolume": 2.0} and parent["artifacts"] == ["trials.csv"]
    (trial,) = [trial for trial in read_trials(FIXTURE) if trial.trial_id == "0006"]
    row = by_name.loc[f"0006 {trial.label}"]
    evaluations = [evaluation.nimg for evaluation in trial.result.evaluations]
    assert row["steps"]["val/miou"] == evaluations and row["metrics"]["cost/macs"] == trial.macs
    assert row["metrics"]["final/miou"] == trial.result.metrics["val/miou"]
    assert row["tags"]["raydistill.status"] == "COMPLETE" and "config.json" in row["artifacts"]
    assert row["metrics"]["front/member"] in (0.0, 1.0)


# ---- whatever happens in the middle ------------------------------------------------------------------------


def test_a_sweep_that_is_sent_twice_has_the_rows_of_once(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        sweep = Sweep(tmp_path)
        sweep.run()
        assert sweep.tracker.close()
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
            query = "SELECT run_uuid, key, value, step, timestamp FROM metrics"
            found.append(sorted(connection.execute(query)))
    assert found[0] == found[1] and any(row[1] == "front/member" for row in found[0])


def fails(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: int) -> None:
    """Lets a method of SweepRuns raise so many times, each time after it has done its work."""
    method, left = getattr(SweepRuns, name), [times]

    def raising(self: SweepRuns, *args: Any, **named: Any) -> Any:
        out = method(self, *args, **named)
        if left[0] > 0:
            left[0] -= 1
            raise error
        return out

    monkeypatch.setattr(SweepRuns, name, raising)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("send", OSError(28, "No space left on device")),
        ("send", KeyError("run")),
        ("_log", StoreError("it stopped")),
        ("_start_trial", ValueError("an answer of a proxy")),
        ("_start", ConnectionResetError("reset")),
        ("end", TimeoutError("slow")),
        ("mark_killed", OSError("gone")),
    ],
)
def test_what_fails_for_a_while_is_all_there_afterwards_and_nothing_twice(
    method: str,
    error: Exception,
    undisturbed: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails(monkeypatch, method, error, 4)
    sweep = Sweep(tmp_path)
    sweep.run()
    sweep.tracker.close()
    pd.testing.assert_frame_equal(rows(tmp_path), undisturbed)
    said = capsys.readouterr().out
    assert "Training goes on" in said and said.count("MLflow has everything again") == said.count("goes on;")


def test_a_store_that_is_locked_for_a_while_holds_nothing_up(
    undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path)
    sweep.settled()
    with locked(tmp_path / "mlflow.db"):
        sweep.run()
        time.sleep(0.2)
        assert sweep.tracker._num_done < sweep.tracker._num_changes  # every callback returned meanwhile
    sweep.tracker.close()
    pd.testing.assert_frame_equal(rows(tmp_path), undisturbed)


@pytest.mark.parametrize("before", [0, 2, 4])
def test_a_file_that_is_removed_in_the_middle_is_made_again_from_what_is_known(
    before: int, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path)

    def step(number: int) -> None:
        if number == before:
            sweep.settled()
            (tmp_path / "mlflow.db").unlink()

    sweep.run(step)
    sweep.tracker.close()
    pd.testing.assert_frame_equal(rows(tmp_path), undisturbed)


def test_a_run_that_is_deleted_in_the_ui_is_sent_again_and_the_others_do_not_wait_for_it(
    undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path)

    def step(number: int) -> None:
        if number == 2:
            sweep.settled()
            assert sweep.tracker.runs is not None
            sweep.tracker.runs.client.delete_run(sweep.tracker.runs.run_ids["0001"])

    sweep.run(step)
    sweep.tracker.close()
    pd.testing.assert_frame_equal(rows(tmp_path), undisturbed)


# ---- what never comes back ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_an_experiment_that_is_deleted_is_said_once_and_sent_when_it_is_restored(
    undisturbed: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_tracking_store(tmp_path / "mlflow.db", tmp_path)
    client = MlflowClient(tracking_store.default_uri(tmp_path))
    experiment = client.create_experiment("raydistill", artifact_location=(tmp_path / "mlartifacts").as_uri())
    client.delete_experiment(experiment)
    sweep = Sweep(tmp_path)
    sweep.run()
    sweep.tracker.close()
    with pytest.raises(StoreError, match="deleted in MLflow; restore it"):
        tracking_store.probe(tracking_store.default_uri(tmp_path), "raydistill")
    said = capsys.readouterr().out
    assert said.count("`mlflow experiments restore --experiment-id") == 1
    assert said.splitlines()[-1].endswith(
        f"not yet in MLflow at sqlite:///{tmp_path}/mlflow.db: 4 of 4 trials and the front. "
        f"Send it later: raydistill track {sweep.folder}"
    )
    client.restore_experiment(experiment)
    again = Sweep(tmp_path)
    again.run()
    again.tracker.close()
    pd.testing.assert_frame_equal(rows(tmp_path), undisturbed)


@pytest.mark.usefixtures("impatient")
def test_no_server_to_the_end_is_said_once_without_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "http://user:the-secret@127.0.0.1:9"
    tracking_store.require_tracking_server(uri, "raydistill", tmp_path)  # it may come back
    sweep = Sweep(tmp_path, uri)
    sweep.run()
    sweep.tracker.close()
    first, last = capsys.readouterr().out.splitlines()
    assert "MLflow: " in first and "it cannot be reached: [Errno 111] Connection refused" in first
    assert "not yet in MLflow at http://user:***@127.0.0.1:9: 4 of 4 trials and the front" in last
    assert last.endswith(f"raydistill track {sweep.folder} --mlflow 'http://user:***@127.0.0.1:9'")


@pytest.mark.usefixtures("impatient")
def test_a_damaged_file_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    sweep = Sweep(tmp_path)
    sweep.run()
    sweep.tracker.close()
    assert "file is not a database" in capsys.readouterr().out
    assert (tmp_path / "mlflow.db").read_bytes() == b"no database" * 100


class Answers(http.server.BaseHTTPRequestHandler):
    """The first part of a request's path is the status of the answer, the second its text."""

    def do_GET(self) -> None:
        _, status, text, *_ = self.path.split("/")
        body = base64.b16decode(text)
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def answering() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "text", "is_refused"),
    [
        (401, b"You are not authenticated", True),
        (401, b"{}", True),
        (403, b"<html>forbidden</html>", True),
        (404, b"<html>no such page</html>", True),
        (200, b"<html>a login page</html>", False),
        (503, b"starting", False),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "no connection to the database"}', False),
    ],
)
def test_a_server_that_is_none_of_mlflow_is_refused_at_once_and_one_that_may_recover_is_not(
    status: int,
    text: bytes,
    is_refused: bool,
    answering: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"{answering}/{status}/{base64.b16encode(text).decode()}"
    if is_refused:
        with pytest.raises(
            tracking_store.NotATrackingServer, match="is it MLflow's, and are MLFLOW_TRACKING"
        ):
            tracking_store.require_tracking_server(uri, "raydistill", tmp_path)
    else:
        tracking_store.require_tracking_server(uri, "raydistill", tmp_path)


# ---- the default file --------------------------------------------------------------------------------------


def half_made(file: Path, tables_left: int) -> None:
    """What a kill leaves of a new file: the first tables of MLflow's, empty."""
    copy_tracking_store(file, file.parent)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        connection.execute("PRAGMA foreign_keys = OFF")
        for name in names[tables_left:]:
            connection.execute(f"DROP TABLE {name}")
        for name in names[:tables_left]:
            connection.execute(f"DELETE FROM {name}")
        connection.commit()


@pytest.mark.parametrize("tables_left", [0, 1, 5, 20])
def test_what_a_kill_left_of_the_default_file_is_made_again(
    tables_left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    half_made(tmp_path / "mlflow.db", tables_left)
    (tmp_path / ".mlflow.db-0123").write_text("of a process that is dead")
    assert tracking_store.is_half_made(tmp_path / "mlflow.db")
    monkeypatch.setattr(
        tracking_store, "_make", lambda file, artifacts: (file.unlink(), copy_tracking_store(file, artifacts))
    )
    tracking_store.open_experiment(tracking_store.default_uri(tmp_path), "mine", tmp_path)
    assert not tracking_store.is_half_made(tmp_path / "mlflow.db")
    assert not list(tmp_path.glob(".mlflow.db-*"))


def test_a_file_with_an_experiment_or_a_run_is_never_made_again(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    tracking_store.open_experiment(f"sqlite:///{file}", "mine", tmp_path)
    assert not tracking_store.is_half_made(file)
    with contextlib.closing(sqlite3.connect(file)) as connection:  # a schema that is older than this MLflow's
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    assert not tracking_store.is_half_made(file)
    file.rename(older := tmp_path / "older.db")  # MLflow looks at the schema of a file only once
    before = older.stat().st_ino
    with pytest.raises(StoreError, match="mlflow db upgrade"):
        tracking_store.probe(f"sqlite:///{older}", "mine")
    with pytest.raises(StoreError, match="mlflow db upgrade"):
        tracking_store.open_experiment(f"sqlite:///{older}", "mine", tmp_path)
    assert older.stat().st_ino == before


def test_the_file_is_made_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    seen: list[bool] = []
    file, is_made = tmp_path / "mlflow.db", threading.Event()

    def look() -> None:
        while not is_made.is_set():
            if file.exists():
                seen.append(tracking_store.is_half_made(file))
            time.sleep(0.005)

    looking = threading.Thread(target=look)
    looking.start()
    tracking_store.make_file(file, tmp_path / "mlartifacts")
    while not seen:
        time.sleep(0.005)
    is_made.set()
    looking.join()
    assert seen and not any(seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.lock"]


# ---- passwords ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://me:secret@host:5000/x", "http://me:***@host:5000/x"),
        (
            "failed: postgresql://me:a@b:c@db/x and http://u:p@h",
            "failed: postgresql://me:***@db/x and http://u:***@h",
        ),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("https://:token@host", "https://:***@host"),
        ("me:secret@host", "me:secret@host"),
    ],
)
def test_a_password_in_an_address_is_never_said(text: str, masked: str) -> None:
    assert without_passwords(text) == masked
