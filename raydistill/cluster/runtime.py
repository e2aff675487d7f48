"""Ray itself: how it is started or joined, what its nodes have, and the wait for a node that was lost."""

import contextlib
import logging
import math
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydistill import ray_address
from raydistill.cluster import join, places
from raydistill.cluster.guard import Guard
from raydistill.cluster.placement import Group, Node, groups_at_once, listed
from raydistill.errors import RunError, StoreError, say_notice
from raydistill.records import mirror, owners, remote

_PROBE_SEC = 60.0
"""Seconds that the nodes have to answer whether they see the results folder."""
_LOOK_SEC = 2.0
"""Seconds between two looks for lost nodes."""
_STARTS = 3
"""How often an embedded Ray is started: on a busy machine its processes may need more time than it gives."""
_OWN_FOLDERS: list[tuple[Path, str | None]] = []
"""The temporary folder of the embedded Ray that runs, with the value of RAY_TMPDIR before it."""
_GUARDS: list[Guard] = []
"""What watches the embedded Ray that runs."""
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # a trial that diverged before its first report is no error of Tune's
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # no process that Ray starts imports from the folder that it is started in
    "PYTHONSAFEPATH": "1",
}
"""Environment variables of Ray, where the user has set no other value."""


def is_running() -> bool:
    """Whether this process is connected to a Ray by now."""
    return ray.is_initialized()


def set_up_driver() -> None:
    """Sets the environment variables that Ray reads in the process of a sweep."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def start_ray(*, dashboard: bool) -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts an embedded one that listens on loopback alone.

    Args:
        dashboard: whether an embedded Ray has its dashboard. A stopped trial that trains by Ray Train gives
            its resources back only while a dashboard runs.

    Raises:
        ConfigError: RAY_ADDRESS is not the address of a cluster, nobody answers there, or the cluster refuses
            the token.
        RunError: Ray did not start, or there is no folder for its files.
    """
    set_up_driver()
    # Ray says a lost process in a hundred lines on stdout, whatever `log_to_driver` is; we say it in one.
    ray._private.worker.print_to_stdstream = lambda *given, **named: None
    if address := ray_address():
        join.join_ray(address)
        return
    _require_that_workers_start()
    # A process for each trainer that watches for nodes that are taken away; here is a single one.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for number in range(1, _STARTS + 1):
        try:
            _start_embedded(dashboard)
            return
        except Exception as error:  # a bare Exception where Ray's processes do not come up within 30 s
            _end_processes_in(_OWN_FOLDERS[-1][0])
            stop_ray()
            why = str(error).splitlines()[0]
            if number == _STARTS:
                raise RunError(f"Ray did not start: {why} Is the machine overloaded? Try again.") from error
            say_notice(f"Ray did not start, and is started again ({number + 1} of {_STARTS}): {why}")


def _end_processes_in(folder: Path) -> None:
    """Ends what a start that failed has left: processes below this one that were told this folder."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if str(folder) in " ".join(process.cmdline()):
                process.kill()


def _start_embedded(dashboard: bool) -> None:
    """Starts a Ray with a folder of its own."""
    before, own = os.environ.get(places.TEMPORARY), places.make_folder()
    _OWN_FOLDERS.append((own, before))
    os.environ[places.TEMPORARY] = str(own)
    _GUARDS.append(Guard(own))
    ray.init(
        address="local",
        job_config=places.Job(),
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    # Ray Train's clean-up asks the cluster that this file names, or any of the machine, about its trial.
    (own / "ray" / "ray_current_cluster").write_text(str(ray.get_runtime_context().gcs_address))


def _require_that_workers_start() -> None:
    """Raises RunError where a process of this Python cannot import Ray, which then starts one after another.

    It would never return from that, and nothing else of this process would run.
    """
    command = [sys.executable, "-c", "import ray"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunError(
            f"Ray's worker processes cannot start here: {lines[-1]}; `{shlex.join(command)}` says where"
        )


def require_alive() -> None:
    """Raises RunError where a process of the embedded Ray that runs has ended."""
    for guard in _GUARDS:
        guard.require_alive()


def stop_ray() -> None:
    """Leaves the cluster, or ends the embedded Ray and removes its folder. Does nothing where none runs."""
    if ray.is_initialized():
        ray.shutdown()
    while _GUARDS:
        _GUARDS.pop().stop()
    while _OWN_FOLDERS:
        own, before = _OWN_FOLDERS.pop()
        shutil.rmtree(own, ignore_errors=True)
        if before is None:
            del os.environ[places.TEMPORARY]
        else:
            os.environ[places.TEMPORARY] = before


def alive_nodes() -> list[Node]:
    """The nodes that Ray knows to be alive. The memory of their GPUs is not known: see `probe_nodes`."""
    return [_node(raw) for raw in ray.nodes() if raw["Alive"]]


def this_machine() -> Node:
    """The one node that an embedded Ray would have, without starting it."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpu_bytes = _smallest_gpu_bytes() if gpus else 0
    return Node("this machine", os.cpu_count() or 1, gpus, gpu_bytes, memory_bytes())


def probe_nodes(store: Path) -> list[Node]:
    """The alive nodes, with the memory of their GPUs; each is asked whether it sees the results folder.

    The driver writes a file into `store` that a task on every node reads; each task writes one that the
    driver reads. They are removed.

    Raises:
        StoreError: a node does not see the folder, cannot write there, or does not answer.
    """
    raws = [raw for raw in ray.nodes() if raw["Alive"]]
    if len(raws) == 1 and not raws[0]["Resources"].get("GPU"):
        # this process has written to the folder already, and runs on that node
        return [_node(raw)._replace(memory_bytes=memory_bytes()) for raw in raws]
    token = secrets.token_hex(8)
    folder = store / f"nodes-{owners.mark()}"
    folder.mkdir()
    try:
        (folder / "driver").write_text(token)
        remote.push(folder)
        tasks = [
            _answer.options(scheduling_strategy=NodeAffinitySchedulingStrategy(raw["NodeID"], soft=False))
            for raw in raws
        ]
        answers = [
            task.remote(str(folder), token, raw["NodeID"]) for task, raw in zip(tasks, raws, strict=True)
        ]
        done, _ = ray.wait(answers, num_returns=len(answers), timeout=_PROBE_SEC)
        remote.pull(folder)
        nodes = []
        for raw, answer in zip(raws, answers, strict=True):
            node, problem = _node(raw), f"it did not answer within {_PROBE_SEC:.0f} s"
            if answer in done:
                problem, gpu_bytes, its_memory = ray.get(answer)
                node = node._replace(gpu_bytes=gpu_bytes, memory_bytes=its_memory)
            if not problem and not _reads(folder / raw["NodeID"], token):
                problem = "what it writes there cannot be read here"
            if problem:
                raise StoreError(
                    f"--store {mirror.url_of(store) or store}: node {node.address} cannot use it: {problem}. "
                    "Every node must see the same folder: give one on a shared file system, mounted at the "
                    "same path everywhere"
                )
            nodes.append(node)
        return nodes
    finally:
        remote.remove(folder)


@ray.remote(num_cpus=0, max_retries=0)
def _answer(folder: str, token: str, name: str) -> tuple[str, int, int]:
    """On a node: (what is wrong with the folder, or "", memory of its smallest GPU in bytes, its memory)."""
    remote.pull(Path(folder))
    if not _reads(Path(folder) / "driver", token):
        return "a file written by the driver is not there", 0, 0
    try:
        (Path(folder) / name).write_text(token)
        remote.push(Path(folder))
    except OSError as error:
        return f"not writable ({error.strerror or error})", 0, 0
    return "", _smallest_gpu_bytes(), memory_bytes()


def _reads(path: Path, token: str) -> bool:
    """Whether the file has that content, at the latest after two seconds."""
    for _ in range(20):  # a network file system may show a new file late
        try:
            if path.read_text() == token:
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def memory_bytes() -> int:
    """Memory of this machine in bytes, or of the container that this process runs in."""
    total = psutil.virtual_memory().total
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int((Path("/sys/fs/cgroup") / name).read_text()))
    return total


def _smallest_gpu_bytes() -> int:
    """Memory of this machine's smallest GPU in bytes; 0 where `nvidia-smi` does not tell."""
    try:
        command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return min(int(line) for line in listed.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _node(raw: dict) -> Node:
    """A node out of `ray.nodes()`."""
    return Node(raw["NodeManagerAddress"], raw["Resources"].get("CPU", 0.0), raw["Resources"].get("GPU", 0.0))


class ShortageWatch:
    """Looks for lost nodes, again and again while workers shall run, and ends the wait for another one.

    It asks only whether they would fit on otherwise idle nodes: other work on the cluster ends some time, but
    a lost node may never come back.
    """

    def __init__(self, group: Group, driver_cpus: float, grace_sec: float, say: Callable[[str], None]):
        """Watches whether there is room for `group` and a driver of `driver_cpus` CPUs.

        Args:
            grace_sec: seconds that a shortage may last.
            say: is given a line when a shortage begins, and when it is over.
        """
        self.group, self.driver_cpus, self.grace_sec, self.say = group, driver_cpus, grace_sec, say
        self.looked = -math.inf
        self.short_since: float | None = None

    def __call__(self) -> None:
        """Looks, every two seconds at most. Raises RunError where a shortage has lasted for `grace_sec`."""
        now = time.monotonic()
        if now - self.looked < _LOOK_SEC:
            return
        self.looked = now
        nodes = alive_nodes()
        if groups_at_once(nodes, self.group, self.driver_cpus):
            if self.short_since is not None:
                self.say(f"room for {self.group} again: {listed(nodes)}; going on")
            self.short_since = None
            return
        lacking = f"needed {self.group}, each worker on one node; alive: {listed(nodes)}"
        if self.short_since is None:
            self.short_since = now
            self.say(
                f"a node was lost and no spare is there: {lacking}; "
                f"waiting {self.grace_sec:.0f} s for another node"
            )
        elif now - self.short_since >= self.grace_sec:
            raise RunError(
                f"no node came within {self.grace_sec:.0f} s: {lacking}. "
                "Add a node, then the same command with --resume"
            )
