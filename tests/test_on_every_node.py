"""Several nodes on one machine: what is run on each, and nodes that differ."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # of every run: one node, which the job of tests/test_sweep.py joins
ROOT = Path(__file__).parent.parent
ON_TWO_NODES = """
import json, os, shutil, subprocess, sys
from pathlib import Path
from raydistill import errors
from raydistill.cluster import nodes, runtime
from raydistill.commands import doctor
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=1, env_vars=json.loads(sys.argv[1]))
os.environ["RAY_ADDRESS"] = cluster.address
runtime.start_ray(dashboard=False)

def refusal(call):
    try:
        return call()
    except errors.InputError as error:
        return str(error)

try:
    print("answer:", json.dumps(__TRY__), flush=True)
finally:
    runtime.stop_ray()
    cluster.shutdown()
"""


def on_two_nodes(expression: str, cwd: Path, **second_node: str) -> Any:
    """What a Python expression gives in a driver on a head without CPUs and a second node with these
    environment variables."""
    script = ON_TWO_NODES.replace("__TRY__", expression)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, json.dumps(second_node)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    # Ray may print lines of its own before and after it.
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("answer: ")]
    return json.loads(answer.removeprefix("answer: "))


@pytest.fixture(scope="module")
def other_torch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH on which torch says that it is version 9.9.9."""
    folder = tmp_path_factory.mktemp("other")
    metadata = folder / "torch-9.9.9.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    return f"{folder}{os.pathsep}{ROOT}"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, other_torch: str) -> list[Any]:
    """What two nodes answer to three functions, and what is said of the second one's torch."""
    calls = "(os.getenv, 'WHO', 60), (shutil.rmtree, '/nowhere', 60), (subprocess.run, ['sleep', '60'], 2)"
    answers = (
        "[nodes.on_every_node(function, argument, timeout_sec=limit) for function, argument, limit "
        f"in ({calls})]"
    )
    expression = f"[*{answers}, refusal(nodes.require_same_versions)]"
    return on_two_nodes(expression, tmp_path_factory.mktemp("driver"), WHO="second", PYTHONPATH=other_torch)


def test_every_node_answers_and_one_that_fails_or_is_silent_says_so(asked):
    answered, failed, silent, _ = asked
    assert [answer[2:4] for answer in answered] == [[None, ""], ["second", ""]] and len(
        {node_id for _, node_id, *_ in answered}
    ) == 2
    assert all(
        value is None and "No such file or directory: '/nowhere'" in error for _, _, value, error, _ in failed
    )
    assert [error for _, _, _, error, _ in silent] == ["no answer within 2 s"] * 2


def test_a_sweep_refuses_nodes_of_another_version_by_name(asked):
    printed = asked[-1]
    assert "torch 9.9.9, the driver has" in printed and "Install the same versions" in printed
    assert printed.count("the driver has") == 1  # the head is the driver's own machine
