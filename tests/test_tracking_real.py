"""Sweeps with a real MLflow server that stops, comes back or never does, and a kill at their beginning."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from head import plain_environment
from test_tracking import locked, rows

pytestmark = pytest.mark.slow
SIZES = {"data.num_train": 64, "data.num_val": 8, "data.num_test": 8, "student.report_every_nimg": 1000}
BUDGETS = {"evaluator.budget_nimg": 64, "teacher.budget_nimg": 64}
SETTINGS = [text for path, value in {**SIZES, **BUDGETS}.items() for text in ("--set", f"{path}={value}")]
OUTAGE_SEC = 180


def sweep(folder: Path, *options: str, nimg: int = 32) -> list[str]:
    """A command line whose sweep gives the same numbers each time: one trial after the other."""
    own = ["--store", str(folder / "runs"), "--trials", "2", "--nimg", str(nimg), "--max-concurrent", "1"]
    return [sys.executable, "-m", "raydistill", "sweep", *own, *SETTINGS, *options]


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=plain_environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def wait_for(text: str, log: Path, process: subprocess.Popen[bytes], limit_sec: float = 600) -> None:
    ends = time.monotonic() + limit_sec
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < ends, log.read_text()
        time.sleep(0.1)


@contextlib.contextmanager
def server(folder: Path, port: int, store: str | None = None) -> Iterator[str]:
    """Inside, an MLflow server answers on loopback at this address, with its rows in `store`; None: in
    `folder`, which has its files, too."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", store or f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "files")]
    process = start(command, folder / "server.log")
    address = f"http://127.0.0.1:{port}"
    try:
        ends = time.monotonic() + 180
        while time.monotonic() < ends:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def without_times(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without what differs between two sweeps: times, and where the results folder lies."""
    table = table.copy()
    table["metrics"] = [
        {name: value for name, value in each.items() if not name.startswith("time/")}
        for each in table["metrics"]
    ]
    table["tags"] = [
        {name: value for name, value in each.items() if name != "raydistill.sweep_id"}
        for each in table["tags"]
    ]
    return table


def ended_well(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.wait(timeout=900) == 0, log.read_text()
    return log.read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(sweep(folder), folder / "log")
    said = ended_well(process, folder / "log")
    assert "not yet in MLflow" not in said and "mlflow ui --backend-store-uri" in said
    return without_times(rows(folder / "runs"))


def test_a_server_that_is_away_for_three_minutes_has_everything_at_the_end(tmp_path: Path) -> None:
    port, nimg = free_port(), 12_000  # some minutes of training after the first trial
    uri, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    with server(tmp_path / "mlflow", port):
        process = start(sweep(tmp_path, "--mlflow", uri, nimg=nimg), log)
        wait_for("trial 1 of", log, process)
    time.sleep(OUTAGE_SEC)
    assert process.poll() is None, "the sweep was too short: " + log.read_text()
    with server(tmp_path / "mlflow", port):
        said = ended_well(process, log)
        found = rows(tmp_path, uri)
    assert said.count("Training goes on") == said.count("MLflow has everything again") == 1
    calm = tmp_path / "calm"
    ended_well(start(sweep(calm, nimg=nimg), calm / "log"), calm / "log")
    pd.testing.assert_frame_equal(without_times(found), without_times(rows(calm / "runs")))


def test_without_a_server_to_the_end_the_command_that_is_said_sends_everything(
    tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    port = free_port()
    uri, log = f"http://user:secret@127.0.0.1:{port}", tmp_path / "log"
    said = ended_well(start(sweep(tmp_path, "--mlflow", uri), log), log)
    assert said.count("Training goes on") == 1 and "secret" not in said
    line = said.strip().splitlines()[-1]
    assert "not yet in MLflow" in line and "raydistill track" in line
    assert not any(
        b"secret" in path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.stat().st_size < 2**20
    )
    with server(tmp_path / "mlflow", port):
        track = [sys.executable, "-m", "raydistill", "track", str(tmp_path / "runs/sweeps/default-001")]
        ended_well(start(track, tmp_path / "track.log"), tmp_path / "track.log")
        found = rows(tmp_path, f"http://127.0.0.1:{port}")
    pd.testing.assert_frame_equal(without_times(found), undisturbed)


def test_a_file_that_another_program_locks_for_a_minute_holds_nothing_up(
    tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    log = tmp_path / "log"
    process = start(sweep(tmp_path), log)
    wait_for("trial 1 of", log, process)
    with locked(tmp_path / "runs/mlflow.db"):
        time.sleep(60)
    if "not yet in MLflow" in ended_well(process, log):  # it ended long before the lock
        track = [sys.executable, "-m", "raydistill", "track", str(tmp_path / "runs/sweeps/default-001")]
        ended_well(start(track, tmp_path / "track.log"), tmp_path / "track.log")
    pd.testing.assert_frame_equal(without_times(rows(tmp_path / "runs")), undisturbed)


def test_a_kill_in_the_first_seconds_of_a_first_sweep_leaves_a_store_that_works(tmp_path: Path) -> None:
    """Twelve kills, spread over the time in which MLflow makes its tables and a little more."""
    for number in range(12):
        folder = tmp_path / str(number)
        process = start(sweep(folder), folder / "log")
        ends = time.monotonic() + 120
        while not list(folder.glob("runs/.mlflow.db-*")) and time.monotonic() < ends:
            time.sleep(0.01)
        time.sleep(0.25 * number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for number in range(12):
        folder = tmp_path / str(number)
        said = ended_well(start(sweep(folder), folder / "log"), folder / "log")
        assert "Training goes on" not in said and "mlflow ui --backend-store-uri" in said
        assert not list(folder.glob("runs/.mlflow.db-*"))
