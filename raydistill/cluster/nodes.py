"""Every node of the cluster: runs a plain function on each, and compares what must be the same on all."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import raydistill
from raydistill.errors import ConfigError

_SOURCE = Path(raydistill.__file__).parent
PACKAGES = ("torch", "ray", "optuna", "mlflow", "raydistill")
"""Packages whose versions `versions` gives, beside that of Python."""
MUST_MATCH = ("python", "torch", "ray", "raydistill")
"""What runs in workers, and must have one version everywhere. Optuna and MLflow run in the driver alone."""


class Answer(NamedTuple):
    """What one node answered."""

    node: str
    """Host name, address and the first characters of Ray's id of the node, for messages."""
    node_id: str
    """Ray's id of the node."""
    value: Any
    """What the function returned; None where it failed."""
    error: str
    """Why there is no value; "" where there is one."""
    num_gpus: int = 0
    """GPUs that Ray was told of when it started on the node."""


def on_every_node(function: Callable[..., Any], *args: Any, timeout_sec: float = 60.0) -> list[Answer]:
    """Runs `function(*args)` in a process on every alive node at once; the answers begin with the driver's
    node.

    No CPU is reserved, so a node that is full answers, too. A node where the function raises, or that has not
    answered after `timeout_sec` seconds, answers with an error: nothing is raised here.
    """
    here = ray.get_runtime_context().get_node_id()
    alive = sorted(
        (node for node in ray.nodes() if node["Alive"]),
        key=lambda node: (node["NodeID"] != here, node["NodeName"]),
    )
    # It is tried twice: the first time it may meet a worker that the end of an earlier question is killing.
    task = ray.remote(num_cpus=0, max_retries=1)(function)
    pending = {}
    for node in alive:
        affinity = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        pending[node["NodeID"]] = task.options(scheduling_strategy=affinity).remote(*args)
    done, _ = ray.wait(list(pending.values()), num_returns=len(pending), timeout=timeout_sec)
    answers = []
    for node in alive:
        name = f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} {node['NodeID'][:6]}"
        value, error = None, f"no answer within {timeout_sec:g} s"
        if (reference := pending[node["NodeID"]]) in done:
            try:
                value, error = ray.get(reference), ""
            except Exception as raised:  # whatever the function raised there, and Ray's own errors
                error = str(raised).strip().splitlines()[-1]
        else:
            ray.cancel(reference, force=True)
        answers.append(Answer(name, node["NodeID"], value, error, int(node["Resources"].get("GPU", 0))))
    return answers


def cluster_address() -> str:
    """host:port of the cluster's control service. Every server of the cluster has it on its command line."""
    return str(ray.get_runtime_context().gcs_address)


def versions() -> dict[str, str]:
    """Versions of Python and of PACKAGES in the process that calls; "absent" where a package is not
    installed.

    That of raydistill has the digest of its source, too.
    """
    by_name = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_name[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            by_name[name] = "absent"
    by_name["raydistill"] += f" (code {code_digest()})"
    return by_name


def code_digest() -> str:
    """First 8 hex digits of the SHA-256 over the package's source: two copies of one version may differ."""
    total = hashlib.sha256()
    for path in sorted(_SOURCE.rglob("*.py")):
        total.update(f"{path.relative_to(_SOURCE)}\n".encode() + path.read_bytes())
    return total.hexdigest()[:8]


def differences(expected: Mapping[str, str], answers: Sequence[Answer]) -> list[tuple[str, str, str]]:
    """(node, package, what differs) for every package whose version on a node is not the driver's.

    The suffix of a build ("+cpu", "+cu130") and Python's patch number do not count: the same code runs.

    Args:
        expected: versions in the driver.
        answers: what `versions` returned on the nodes.
    """
    out = []
    for answer in answers:
        if answer.error:
            out.append((answer.node, "raydistill", f"cannot be asked: {answer.error}"))
            continue
        for name, here in expected.items():
            there = answer.value.get(name, "absent")
            if _comparable(name, there) != _comparable(name, here):
                out.append((answer.node, name, f"{name} {there}, the driver has {here}"))
    return out


def require_same_versions() -> None:
    """Raises ConfigError, with the whole list, where a node would run other code than the driver."""
    everything = differences(versions(), on_every_node(versions))
    if wrong := [f"{node}: {what}" for node, name, what in everything if name in MUST_MATCH]:
        raise ConfigError(
            f"the nodes of the cluster differ in {', '.join(MUST_MATCH)}: {'; '.join(wrong)}. "
            "Install the same versions on every node; `raydistill doctor` shows all"
        )


def require_plugins(plugins_json: str) -> None:
    """Raises ConfigError, with the whole list, where a plug-in of the driver cannot be imported on a node.

    `plugins_json`: the driver's plug-ins as JSON, see `plugins.to_json`.
    """
    from raydistill import plugins  # it imports torch, which a node that is asked for its versions need not

    if not json.loads(plugins_json):
        return
    answers = on_every_node(plugins.load_json, plugins_json)
    if wrong := [f"{answer.node}: {answer.error}" for answer in answers if answer.error]:
        raise ConfigError(
            f"a plug-in cannot be imported on every node: {'; '.join(wrong)}. Install there what it imports"
        )


def _comparable(name: str, version: str) -> str:
    """The part of a version that must be the same."""
    if name == "python":
        return ".".join(version.split(".")[:2])
    return version if name == "raydistill" else version.split("+")[0]
