"""What the doctor knows of a node: facts that one plain function gathers on each."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from raydistill.cluster import nodes
from raydistill.errors import StoreError
from raydistill.records import remote

FACTS_SEC = 120.0
"""Seconds that a node has to answer."""
_ASK_TORCH = "import json, torch; cuda = torch.cuda; "
_ASK_TORCH += "print(json.dumps([cuda.device_count(), torch.__version__, torch.version.cuda]))"


def node_facts(folder: str, probe: str, cluster: str) -> dict[str, Any]:
    """What the node sees that this runs on.

    Args:
        folder: the store.
        probe: name of a file in it that the driver wrote; this node answers with a file of its own.
        cluster: address of the cluster, see `nodes.cluster_address`; "" where there is none.

    Returns:
        versions: see `nodes.versions`.
        gpus: a line for each, as nvidia-smi says.
        torch: what torch sees of them, or its error.
        storage: name of this node's answer, and what went wrong.
        disk_gb, temporary_gb: GiB free for the store and for temporary files.
        shm_gb: GiB of /dev/shm; None where there is none.
        listening: host:port of the cluster's servers on this node.
    """
    shm = Path("/dev/shm")
    return {
        "versions": nodes.versions(),
        "gpus": _devices(),
        "torch": _torch_sees(),
        "storage": _answer_probe(Path(folder), probe),
        "disk_gb": _free_gb(Path(folder)),
        "temporary_gb": _free_gb(Path(tempfile.gettempdir())),
        "shm_gb": shutil.disk_usage(shm).total / 2**30 if shm.exists() else None,
        "listening": _listening(cluster),
    }


def _devices() -> list[str]:
    """Name, memory and driver of each GPU, as `nvidia-smi` says; empty where there is no such command."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.strip().splitlines()


def _torch_sees() -> dict[str, Any]:
    """GPUs and version of torch, or why it cannot be imported.

    It is asked in a process of its own, as Ray hides the GPUs from a worker that reserves none.
    """
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", _ASK_TORCH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=FACTS_SEC / 2)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["torch cannot be imported"])[-1]}
    num_gpus, version, cuda = json.loads(done.stdout.splitlines()[-1])
    return {"num_gpus": num_gpus, "version": version, "cuda": cuda, "error": ""}


def _answer_probe(folder: Path, probe: str) -> dict[str, str]:
    """Reads the driver's file and writes one beside it: the name of that, and what went wrong."""
    name = f"{probe}-{secrets.token_hex(4)}"
    try:
        remote.pull(folder / probe)
        (folder / probe).read_text()
        (folder / name).write_text(name)
        remote.push(folder / name)
    except (StoreError, OSError) as error:
        return {"name": name, "error": str(error)}
    return {"name": name, "error": ""}


def _free_gb(path: Path) -> float:
    """GiB free where the path is, or will be made."""
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free / 2**30


def _listening(cluster: str) -> list[str]:
    """host:port of every socket on which this cluster's own servers listen on this node.

    They have the cluster's address on their command lines; its control service, `gcs_server`, listens there.
    """
    sockets: set[str] = set()
    for process in psutil.process_iter() if cluster else ():
        with contextlib.suppress(psutil.Error):
            is_ours = any(word.endswith(cluster) for word in process.cmdline())
            if not is_ours and process.name() != "gcs_server":
                continue
            addresses = [
                connection.laddr
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            ]
            if is_ours or any(str(each.port) == cluster.rpartition(":")[2] for each in addresses):
                sockets |= {f"{each.ip.removeprefix('::ffff:')}:{each.port}" for each in addresses}
    return sorted(sockets)
