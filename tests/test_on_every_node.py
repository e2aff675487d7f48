"""Several nodes on one machine: what is run on each, and nodes that differ."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ON_TWO_NODES = """
import json, os, shutil, subprocess, sys
from pathlib import Path
from raydistill import doctor, errors, nodes, place
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=1, env_vars=json.loads(sys.argv[1]))
os.environ["RAY_ADDRESS"] = cluster.address
place.start_ray(dashboard=False)
try:
    print(json.dumps(__TRY__))
except errors.InputError as error:
    print(json.dumps(str(error)))
finally:
    place.stop_ray()
    cluster.shutdown()
"""


def on_two_nodes(expression: str, cwd: Path, **second_node: str) -> Any:
    """What a Python expression gives in a driver on a head without CPUs and a second node with these environment variables."""
    script = ON_TWO_NODES.replace("__TRY__", expression)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, json.dumps(second_node)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def other_torch(tmp_path: Path) -> str:
    """A PYTHONPATH on which torch says that it is version 9.9.9."""
    metadata = tmp_path / "other/torch-9.9.9.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    return f"{tmp_path}/other{os.pathsep}{ROOT}"


def test_every_node_answers_and_one_that_fails_or_is_silent_says_so(tmp_path):
    calls = "(os.getenv, 'WHO', 60), (shutil.rmtree, '/nowhere', 60), (subprocess.run, ['sleep', '60'], 2)"
    expression = f"[nodes.on_every_node(function, argument, timeout_sec=limit) for function, argument, limit in ({calls})]"
    answered, failed, silent = on_two_nodes(expression, tmp_path, WHO="second")
    assert [answer[2:4] for answer in answered] == [[None, ""], ["second", ""]] and len({node_id for _, node_id, *_ in answered}) == 2
    assert all(value is None and "No such file or directory: '/nowhere'" in error for _, _, value, error, _ in failed)
    assert [error for _, _, _, error, _ in silent] == ["no answer within 2 s"] * 2


def test_a_sweep_refuses_nodes_of_another_version_by_name(tmp_path, other_torch):
    said = on_two_nodes("nodes.require_same_versions()", tmp_path, PYTHONPATH=other_torch)
    assert "torch 9.9.9, the driver has" in said and "Install the same versions" in said
    assert said.count("the driver has") == 1  # the head is the driver's own machine
