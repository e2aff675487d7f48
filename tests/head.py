"""A Ray cluster of one node that wants a token, for tests of what joins a cluster and of submitted jobs."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

RAY = Path(sys.executable).parent / "ray"
TOKEN = "the-token-of-the-cluster"


class Head(NamedTuple):
    pid: int
    """Of `ray start --block`, from which every process of the cluster descends."""
    address: str
    dashboard: str
    environment: dict[str, str]
    """A shell that has the cluster's token."""


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def plain_environment() -> dict[str, str]:
    """This process' environment without what other tests told Ray in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@contextlib.contextmanager
def started(home: Path) -> Iterator[Head]:
    """A head on loopback, whose token and log lie in `home`; it ends with its own process."""
    (home / "token").write_text(TOKEN)
    (home / "token").chmod(0o600)
    temp_dir = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: paths of Unix sockets are
    gcs, dashboard, client, agent = free_ports(4)
    environment = plain_environment()
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home / "token"), "NO_COLOR": "1"}
    # Head and drivers: else Ray takes the machine's address for 127.0.0.1, where this head does not listen.
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    start = [str(RAY), "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    start += ["--disable-usage-stats", f"--temp-dir={temp_dir}", "--min-worker-port=0", "--max-worker-port=0"]
    start += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    start += [f"--dashboard-agent-listen-port={agent}"]
    patient = environment | {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(start, env=patient, stdout=log, stderr=log) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while "Ray runtime started" not in (home / "log").read_text():
                assert process.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
                time.sleep(0.5)
            yield Head(process.pid, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", environment)
        finally:
            # All at once: asked to end, it would wait for its processes for half a minute.
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            shutil.rmtree(temp_dir, ignore_errors=True)


def job_command(head: Head, what: str, *arguments: str) -> list[str]:
    return [str(RAY), "job", what, "--address", head.dashboard, *arguments]
