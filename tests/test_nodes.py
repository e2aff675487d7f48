"""Several nodes on one machine: who sees the results folder, and a node lost in the middle of a trial."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import s3
from test_sweep import command

from raydistill.records import mirror, remote, tables

pytestmark = pytest.mark.slow

PRELUDE = """
import json, os, sys, tempfile, threading, time
from pathlib import Path
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # every server listens on loopback alone
os.environ["RAY_AUTH_MODE"] = "disabled"
# No other cluster of this machine is asked.
os.environ.setdefault("RAY_TMPDIR", tempfile.mkdtemp(prefix="rd-"))
import ray
from ray.cluster_utils import Cluster
from raydistill.cluster import runtime
"""

RAY_START = """
import os
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"  # the command asks for it
from ray._private import ray_constants, services
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
services.get_node_ip_address = lambda *args: "127.0.0.1"  # and would listen on every network
from ray.scripts.scripts import main
main()
"""


class Nodes:
    """A cluster whose head has no CPUs; nodes come and go on request."""

    def __init__(self, log: Path) -> None:
        text = """
head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0}
cluster = Cluster(initialize_head=True, connect=False, head_node_args=head)
print(cluster.address, flush=True)
nodes = {}
for line in sys.stdin:
    what, name, *rest = line.split()
    if what == "add":
        nodes[name] = cluster.add_node(num_cpus=float(rest[0]), wait=False)
    else:
        cluster.remove_node(nodes.pop(name), allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        self.address = self.process.stdout.readline().strip()

    def do(self, order: str) -> None:
        self.process.stdin.write(order + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        assert self.process.stdout.readline().strip() == "done"  # type: ignore[union-attr]

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "disabled",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }


@pytest.fixture
def credentials(monkeypatch) -> None:
    """Before the nodes start: they inherit them."""
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    started = Nodes(tmp_path / "cluster.log")
    yield started
    started.process.stdin.close()  # type: ignore[union-attr]
    started.process.wait(timeout=60)


@contextlib.contextmanager
def far_node(nodes: Nodes, hidden: Path, num_cpus: int) -> Iterator[None]:
    """A node in a mount namespace of its own, where an empty folder lies over `hidden`; what it writes
    there is gone with it."""
    if subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("no mount namespaces here")
    hidden.mkdir(exist_ok=True)
    start_ray = [
        sys.executable,
        "-c",
        RAY_START,
        "start",
        f"--address={nodes.address}",
        f"--num-cpus={num_cpus}",
        "--block",
    ]
    hide = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh", *start_ray]
    with subprocess.Popen(hide, env=nodes.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as far:
        try:
            yield
        finally:
            far.terminate()


def test_a_results_folder_that_a_node_does_not_see_is_refused(nodes, tmp_path):
    """The second node runs in a mount namespace of its own, where another folder lies over the store."""
    nodes.do("add near 2")
    with far_node(nodes, tmp_path / "runs", num_cpus=1):
        wait_for_nodes(nodes, tmp_path, 3)
        done = subprocess.run(
            command(tmp_path / "runs"),
            cwd=tmp_path,
            env=nodes.env,
            capture_output=True,
            text=True,
            timeout=200,
        )
    print(done.stderr)
    assert done.returncode == 2, done.stdout + done.stderr
    assert (
        "cannot use it: a file written by the driver is not there. Every node must see the same folder"
        in done.stderr
    )
    assert not list((tmp_path / "runs/cache").glob("evaluator*")) and not list(
        (tmp_path / "runs").glob("nodes-*")
    )


def wait_for_nodes(nodes: Nodes, cwd: Path, count: int) -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            PRELUDE
            + f"""
ray.init(address={nodes.address!r}, log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) != {count}:
    time.sleep(0.2)
""",
        ],
        cwd=cwd,
        env=nodes.env,
        timeout=100,
        check=True,
        capture_output=True,
    )


def start(nodes: Nodes, folder: Path | str, cwd: Path, *options: str) -> subprocess.Popen[str]:
    log = (cwd / "said.txt").open("a")
    return subprocess.Popen(
        command(folder, *options), cwd=cwd, env=nodes.env, stdout=log, stderr=subprocess.STDOUT, text=True
    )


def wait_until(
    condition: Any, what: str, driver: subprocess.Popen[str], cwd: Path, timeout: float = 300
) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline and driver.poll() is None, (
            f"{what}: {(cwd / 'said.txt').read_text()}"
        )
        time.sleep(0.1)


@pytest.mark.parametrize("executor", ["inline", "train"])
def test_results_on_an_object_store_which_is_all_that_driver_and_nodes_share(
    credentials, nodes, tmp_path, executor, monkeypatch
):
    """Trials run on a node with a local copy of its own. Both are lost; another driver and another node,
    with empty copies, go on."""
    printed = tmp_path / "said.txt"
    options = (*LONG, "--executor", executor, "--max-concurrent", "1", "--teacher-workers", "1")
    with s3.served(tmp_path) as query:
        url = f"s3://{s3.BUCKET}/runs?{query}"
        for attempt in ("one", "two"):
            monkeypatch.setenv(mirror.FOLDER, str(tmp_path / attempt))
            sweep_dir = mirror.folder_of(url) / "sweeps/lost"
            with far_node(nodes, tmp_path / attempt, num_cpus=2):
                wait_for_nodes(nodes, tmp_path, 2)
                driver = start(nodes, url, tmp_path, *options, *(["--resume"] if attempt == "two" else []))
                if attempt == "two":
                    assert driver.wait(timeout=900) == 0, printed.read_text()
                    continue
                wait_until(partial(sent_checkpoint, sweep_dir), "no checkpoint", driver, tmp_path)
                driver.terminate()
                assert driver.wait(timeout=100) == 130
            wait_for_nodes(nodes, tmp_path, 1)
    print(printed.read_text())
    table = tables.read_table(sweep_dir / "trials.parquet")
    assert set(table["status"]) == {"COMPLETE"} and table["front.member"].any()
    assert (sweep_dir / "index.html").exists() or list(sweep_dir.glob("*.html"))
    for folder in sweep_dir.glob("trials/*"):
        log = folder / "log.txt"
        reports = [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
        assert len(reports) - len(set(reports)) <= 2, (
            folder,
            reports,
        )  # gone on from the checkpoint; the end is told twice
    assert printed.read_text().count("evaluator and teacher: training once") == 1


def sent_checkpoint(sweep_dir: Path) -> bool:
    """Whether an unfinished trial's checkpoint is on the store, where another node wrote it."""
    for folder in remote.folders(sweep_dir / "trials"):
        names = [path.name for path in remote.folders(folder)]
        if any(name.startswith("checkpoint-") for name in names) and "network" not in names:
            return True
    return False


LONG = (
    "--set",
    "student.budget_nimg=8000",
    "--set",
    "student.report_every_nimg=800",
    "--trials",
    "1",
    "--name",
    "lost",
)


def running_with_checkpoint(sweep_dir: Path) -> list[Path]:
    return [
        path.parent
        for path in sweep_dir.glob("trials/*/checkpoint-*")
        if not (path.parent / "result.json").exists()
    ]


@pytest.mark.parametrize("executor", ["inline", "train"])
def test_a_trial_on_a_lost_node_goes_on_from_its_checkpoint_on_a_spare(nodes, tmp_path, executor):
    """The head has no CPUs and the sweep one trial at a time, so the trial runs on one of two nodes; both
    are replaced by a third."""
    began = time.monotonic()
    nodes.do("add first 2")
    wait_for_nodes(nodes, tmp_path, 2)
    driver = start(
        nodes,
        tmp_path / "runs",
        tmp_path,
        *LONG,
        "--executor",
        executor,
        "--max-concurrent",
        "1",
        "--teacher-workers",
        "1",
    )
    sweep_dir = tmp_path / "runs/sweeps/lost"
    wait_until(lambda: running_with_checkpoint(sweep_dir), "no checkpoint", driver, tmp_path)
    folder = running_with_checkpoint(sweep_dir)[0]
    nodes.do("add spare 2")
    wait_for_nodes(nodes, tmp_path, 3)
    lines = len((folder / "log.txt").read_text().splitlines())
    assert not (folder / "result.json").exists(), (
        "the trial ended before its node was lost: give it more images"
    )
    nodes.do("remove first")
    lost = time.monotonic()
    wait_until(
        lambda: len((folder / "log.txt").read_text().splitlines()) > lines + 1,
        "the trial does not go on",
        driver,
        tmp_path,
    )
    print(
        f"{executor}: node lost {lost - began:.0f} s after the start, next report "
        f"{time.monotonic() - lost:.0f} s later"
    )
    wait_until(lambda: (folder / "result.json").exists(), "the trial does not end", driver, tmp_path)
    driver.kill()
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "COMPLETE" and [
        evaluation["nimg"] for evaluation in result["evaluations"]
    ] == list(range(800, 8001, 800))
    reports = [line.split()[0] for line in (folder / "log.txt").read_text().splitlines()]
    assert len(reports) - len(set(reports)) <= 1, reports  # at most one interval was trained twice


@pytest.mark.parametrize("executor", ["inline", "train"])
def test_without_a_spare_the_sweep_says_so_and_ends_and_resumes(nodes, tmp_path, executor):
    nodes.do("add only 2")
    wait_for_nodes(nodes, tmp_path, 2)
    options = (
        *LONG,
        "--executor",
        executor,
        "--max-concurrent",
        "1",
        "--teacher-workers",
        "1",
        "--wait-for-nodes",
        "20",
    )
    driver = start(nodes, tmp_path / "runs", tmp_path, *options)
    sweep_dir, printed = tmp_path / "runs/sweeps/lost", tmp_path / "said.txt"
    wait_until(lambda: running_with_checkpoint(sweep_dir), "no checkpoint", driver, tmp_path)
    nodes.do("remove only")
    lost = time.monotonic()
    wait_until(lambda: "no spare is there" in printed.read_text(), "silence", driver, tmp_path)
    told = time.monotonic() - lost
    code = driver.wait(timeout=120)
    ended = time.monotonic() - lost
    print(
        f"{executor}: said after {told:.0f} s, ended with code {code} after {ended:.0f} "
        f"s\n{printed.read_text()}"
    )
    assert told < 60 and code == 1 and ended < 100
    assert (
        "no node came within 20 s: needed 1 x" in printed.read_text()
        and "Traceback" not in printed.read_text()
    )
    nodes.do("add other 2")
    wait_for_nodes(nodes, tmp_path, 2)
    folder = running_with_checkpoint(sweep_dir)[0]
    driver = start(nodes, tmp_path / "runs", tmp_path, *options, "--resume")
    wait_until(lambda: (folder / "result.json").exists(), "the trial was not resumed", driver, tmp_path)
    driver.kill()
    reports = [line.split()[0] for line in (folder / "log.txt").read_text().splitlines()]
    assert len(reports) - len(set(reports)) <= 1, reports
