"""Several nodes on one machine: who sees the results folder, and a node lost in the middle of a trial."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_sweep import command

pytestmark = pytest.mark.slow

PRELUDE = """
import json, os, sys, threading, time
from pathlib import Path
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # every server listens on loopback alone
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
from ray.cluster_utils import Cluster
from raydistill import place
"""


class Nodes:
    """A cluster whose head has no CPUs; nodes come and go on request."""

    def __init__(self, log: Path) -> None:
        text = """
cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0})
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
            [sys.executable, "-c", PRELUDE + text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        self.address = self.process.stdout.readline().strip()

    def do(self, order: str) -> None:
        self.process.stdin.write(order + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        assert self.process.stdout.readline().strip() == "done"  # type: ignore[union-attr]

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    started = Nodes(tmp_path / "cluster.log")
    yield started
    started.process.stdin.close()  # type: ignore[union-attr]
    started.process.wait(timeout=60)


def test_a_results_folder_that_a_node_does_not_see_is_refused(nodes, tmp_path):
    """The second node runs in a mount namespace of its own, where another folder lies over the store."""
    if subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("no mount namespaces here")
    nodes.do("add near 2")
    hide = f"mount -t tmpfs none {tmp_path}/runs && exec ray start --address={nodes.address} --num-cpus=1 --block"
    (tmp_path / "runs").mkdir()
    with subprocess.Popen(["unshare", "-rm", "sh", "-c", hide], env=nodes.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as far:
        try:
            wait_for_nodes(nodes, tmp_path, 3)
            done = subprocess.run(command(tmp_path / "runs"), cwd=tmp_path, env=nodes.env, capture_output=True, text=True, timeout=200)
        finally:
            far.terminate()
    print(done.stderr)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot use it: a file written by the driver is not there. Every node must see the same folder" in done.stderr
    assert not list((tmp_path / "runs/cache").glob("judge*")) and not list((tmp_path / "runs").glob(".nodes-*"))


def wait_for_nodes(nodes: Nodes, cwd: Path, count: int) -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            PRELUDE
            + f"""
ray.init(address={nodes.address!r}, log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < {count}:
    time.sleep(0.2)
""",
        ],
        cwd=cwd,
        env=nodes.env,
        timeout=100,
        check=True,
        capture_output=True,
    )


def start(nodes: Nodes, folder: Path, cwd: Path, *options: str) -> subprocess.Popen[str]:
    log = (cwd / "said.txt").open("a")
    return subprocess.Popen(command(folder, *options), cwd=cwd, env=nodes.env, stdout=log, stderr=subprocess.STDOUT, text=True)


def wait_until(condition: Any, what: str, driver: subprocess.Popen[str], cwd: Path, timeout: float = 300) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline and driver.poll() is None, f"{what}: {(cwd / 'said.txt').read_text()}"
        time.sleep(0.1)


LONG = ("--set", "student.budget_nimg=8000", "--set", "student.report_every_nimg=800", "--trials", "1", "--name", "lost")


def running_with_checkpoint(sweep_dir: Path) -> list[Path]:
    return [path.parent for path in sweep_dir.glob("trials/*/checkpoint-*") if not (path.parent / "result.json").exists()]


@pytest.mark.parametrize("executor", ["inline", "train"])
def test_a_trial_on_a_lost_node_goes_on_from_its_checkpoint_on_a_spare(nodes, tmp_path, executor):
    """The head has no CPUs and the sweep one trial at a time, so the trial runs on one of two nodes; both are replaced by a third."""
    began = time.monotonic()
    nodes.do("add first 2")
    wait_for_nodes(nodes, tmp_path, 2)
    driver = start(nodes, tmp_path / "runs", tmp_path, *LONG, "--executor", executor, "--max-concurrent", "1", "--teacher-workers", "1")
    sweep_dir = tmp_path / "runs/sweeps/lost"
    wait_until(lambda: running_with_checkpoint(sweep_dir), "no checkpoint", driver, tmp_path)
    folder = running_with_checkpoint(sweep_dir)[0]
    nodes.do("add spare 2")
    wait_for_nodes(nodes, tmp_path, 3)
    lines = len((folder / "log.txt").read_text().splitlines())
    assert not (folder / "result.json").exists(), "the trial ended before its node was lost: give it more images"
    nodes.do("remove first")
    lost = time.monotonic()
    wait_until(lambda: len((folder / "log.txt").read_text().splitlines()) > lines + 1, "the trial does not go on", driver, tmp_path)
    print(f"{executor}: node lost {lost - began:.0f} s after the start, next report {time.monotonic() - lost:.0f} s later")
    wait_until(lambda: (folder / "result.json").exists(), "the trial does not end", driver, tmp_path)
    driver.kill()
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "COMPLETE" and [evaluation["nimg"] for evaluation in result["evaluations"]] == list(range(800, 8001, 800))
    reports = [line.split()[0] for line in (folder / "log.txt").read_text().splitlines()]
    assert len(reports) - len(set(reports)) <= 1, reports  # at most one interval was trained twice


@pytest.mark.parametrize("executor", ["inline", "train"])
def test_without_a_spare_the_sweep_says_so_and_ends_and_resumes(nodes, tmp_path, executor):
    nodes.do("add only 2")
    wait_for_nodes(nodes, tmp_path, 2)
    options = (*LONG, "--executor", executor, "--max-concurrent", "1", "--teacher-workers", "1", "--wait-for-nodes", "20")
    driver = start(nodes, tmp_path / "runs", tmp_path, *options)
    sweep_dir, said = tmp_path / "runs/sweeps/lost", tmp_path / "said.txt"
    wait_until(lambda: running_with_checkpoint(sweep_dir), "no checkpoint", driver, tmp_path)
    nodes.do("remove only")
    lost = time.monotonic()
    wait_until(lambda: "no spare is there" in said.read_text(), "silence", driver, tmp_path)
    told = time.monotonic() - lost
    code = driver.wait(timeout=120)
    ended = time.monotonic() - lost
    print(f"{executor}: said after {told:.0f} s, ended with code {code} after {ended:.0f} s\n{said.read_text()}")
    assert told < 60 and code == 1 and ended < 100
    assert "no node came within 20 s: needed 1 x" in said.read_text() and "Traceback" not in said.read_text()
    nodes.do("add other 2")
    wait_for_nodes(nodes, tmp_path, 2)
    folder = running_with_checkpoint(sweep_dir)[0]
    driver = start(nodes, tmp_path / "runs", tmp_path, *options, "--resume")
    wait_until(lambda: (folder / "result.json").exists(), "the trial was not resumed", driver, tmp_path)
    driver.kill()
    reports = [line.split()[0] for line in (folder / "log.txt").read_text().splitlines()]
    assert len(reports) - len(set(reports)) <= 1, reports
