"""A team's MLflow server: a password, artifacts handed through to an S3-like store."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import s3
from mlflow.tracking import MlflowClient
from test_postgres import finished_sweep, tracked
from test_tracking_real import free_port, start

from raydistill.errors import StoreError
from raydistill.sweep import tracking_models

pytestmark = pytest.mark.slow
USER, PASSWORD = "admin", "pass-7c41a9-word"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what the server needs. RAYDISTILL_TEST_SERVER names one that is there."""
    if given := os.environ.get("RAYDISTILL_TEST_SERVER"):
        return Path(given)
    folder = tmp_path_factory.mktemp("server") / "venv"
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "mlflow[auth]", "boto3"]
    subprocess.run(pip, check=True)
    return folder / "bin/python"


@contextlib.contextmanager
def served(python: Path, work: Path, endpoint: str) -> Iterator[str]:
    """Inside, the server of docs/how-to/mlflow.md answers at this address."""
    port = free_port()
    (work / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{work}/auth.db\n"
        f"admin_username = {USER}\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command = [str(python), "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--backend-store-uri",
        f"sqlite:///{work}/server.db",
    ]
    command += ["--serve-artifacts", "--artifacts-destination", f"s3://{s3.BUCKET}/artifacts"]
    own = {
        **s3.CREDENTIALS,
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "MLFLOW_AUTH_CONFIG_PATH": str(work / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYTHONPATH", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            patch.delenv(name, raising=False)
        for name, value in own.items():
            patch.setenv(name, value)
        process = start(command, work / "server.log")
    try:
        ends = time.monotonic() + 300
        while time.monotonic() < ends:
            assert process.poll() is None, (work / "server.log").read_text()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_sweep_goes_to_a_server_with_a_password_and_its_files_to_a_bucket(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking_models, "is_wanted", lambda trial, is_member: False)
    for name in s3.CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    sweep = finished_sweep(tmp_path / "runs")
    (tmp_path / "server").mkdir()
    with s3.served(tmp_path / "server") as query:
        endpoint = "http://" + query.split("endpoint_override=")[1].split("&")[0]
        with served(python, tmp_path / "server", endpoint) as address:
            with pytest.raises(
                StoreError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD right"
            ):
                tracked(sweep, address)
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
            for _ in range(2):
                assert tracked(sweep, address) == 0
            with_password = address.replace("http://", f"http://{USER}:{PASSWORD}@")
            assert tracked(sweep, with_password) == 0
            client = MlflowClient(address)
            experiment = client.get_experiment_by_name("raydistill")
            assert experiment is not None and experiment.artifact_location.startswith("mlflow-artifacts:")
            runs = client.search_runs([experiment.experiment_id])
            assert len(runs) == 8
            (run,) = [each for each in runs if each.data.tags.get("raydistill.trial_id") == "0006"]
            assert client.download_artifacts(run.info.run_id, "config.json", str(tmp_path))
        keys = {
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
            "region_name": "us-east-1",
        }
        listed = boto3.client("s3", endpoint_url=endpoint, **keys).list_objects_v2(Bucket=s3.BUCKET)
        names = [each["Key"] for each in listed["Contents"]]
        assert sum(name.endswith("config.json") for name in names) == 7
    said = capsys.readouterr()
    assert PASSWORD not in said.out + said.err
    written = [*sweep.rglob("*"), tmp_path / "server/server.db", tmp_path / "server/server.log"]
    for path in (path for path in written if path.is_file()):
        assert PASSWORD.encode() not in path.read_bytes(), path
