"""`ray job submit` on a head of its own: log following, stop and resume, and what a wrong token does.

A job that is killed, its sweep gone on with: tests/test_sweep.py, in every run of the tests.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from head import Head, free_ports, job_command
from test_sweep import TINY

from raydistill.records import tables

pytestmark = pytest.mark.slow


def sweep(store: Path, *options: str) -> list[str]:
    """Absolute paths of Python and store: a job runs in another folder."""
    settings = [text for path, value in TINY.items() for text in ("--set", f"{path}={value}")]
    return [
        sys.executable,
        "-m",
        "raydistill",
        "sweep",
        "--store",
        str(store),
        "--trials",
        "2",
        "--nimg",
        "160",
        *settings,
        *options,
    ]


def job(head: Head, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        job_command(head, *arguments),
        env=head.environment | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    print(f"$ ray job {' '.join(arguments)}\n{done.stdout}")
    return done


def test_a_job_is_followed_stopped_and_resumed_by_a_second_job(head: Head, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    first = job(head, "submit", "--no-wait", "--submission-id", "first", "--", *sweep(store))
    assert first.returncode == 0, first.stdout
    sweep_dir = store / "sweeps/default-001"
    deadline = time.monotonic() + 300
    while not list(sweep_dir.glob("trials/000[1-9]/result.json")):
        assert time.monotonic() < deadline, job(head, "logs", "first").stdout
        time.sleep(0.2)
    assert job(head, "stop", "first").returncode == 0
    assert "Job 'first' was stopped" in job(head, "status", "first").stdout
    printed = job(head, "logs", "first").stdout
    assert "interrupted; finished trials are kept" in printed and "Traceback" not in printed
    kept = {path: json.loads(path.read_text()) for path in sweep_dir.glob("trials/000[1-9]/result.json")}

    second = job(head, "submit", "--submission-id", "second", "--", *sweep(store, "--resume"))
    assert second.returncode == 0 and "Traceback" not in second.stdout, second.stdout
    assert re.search(r"Pareto front of default-001[\s\S]*Job 'second' succeeded", second.stdout)
    for path, result in kept.items():  # trained once; only the scores on test have come
        assert {key: value for key, value in json.loads(path.read_text()).items() if key in result} == result
    table = tables.read_table(sweep_dir / "trials.parquet")
    assert set(table["status"]) == {"COMPLETE"} and (table["role"] == "search").sum() == 2


def test_a_job_with_a_wrong_token_is_refused_with_rays_message(head: Head, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another-token-of-another-cluster")
    refused = job(head, "submit", "--", "true", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert refused.returncode == 1 and "Invalid authentication token" in refused.stdout
    without = job(head, "submit", "--", "true", RAY_AUTH_MODE="disabled")
    assert without.returncode == 1 and "Missing authentication token" in without.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"RAY_AUTH_TOKEN_PATH": "{wrong}"},
            "the cluster refuses the token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH",
        ),
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster refuses the token"),
        ({"RAY_AUTH_TOKEN_PATH": "{absent}"}, "the cluster wants a token"),
        ({"RAY_ADDRESS": "{nobody}"}, "no Ray cluster answers there"),
        ({"RAY_ADDRESS": "{dashboard}"}, "no Ray cluster answers there"),
        (
            {"RAY_ADDRESS": "http://{dashboard}"},
            "a sweep joins its cluster from one of the cluster's machines",
        ),
    ],
)
def test_a_sweep_that_may_not_join_says_so_in_one_line_within_seconds(
    head: Head, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    (tmp_path / "wrong").write_text("another-token-of-another-cluster")
    places = {
        "wrong": str(tmp_path / "wrong"),
        "absent": str(tmp_path / "absent"),
        "dashboard": head.dashboard.removeprefix("http://"),
    }
    places["nobody"] = f"127.0.0.1:{free_ports(1)[0]}"
    changed = {name: value.format(**places) for name, value in change.items()}
    started = time.monotonic()
    environment = head.environment | {"RAY_ADDRESS": head.address} | changed
    done = subprocess.run(
        sweep(tmp_path / "runs"), env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 2 and time.monotonic() - started < 60, done.stderr
    ours = [line for line in done.stderr.splitlines() if "gcs_client.cc" not in line]
    assert len(ours) == 1 and ours[0].startswith("raydistill: RAY_ADDRESS=") and message in ours[0], (
        done.stderr
    )
