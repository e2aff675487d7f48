"""What the doctor makes of the facts: each check is a function from facts to findings."""

import os
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from raydistill.cluster import nodes
from raydistill.cluster.nodes import Answer
from raydistill.errors import ConfigError, StoreError, without_passwords
from raydistill.records import remote, store
from raydistill.sweep import tracking_store

_DASHBOARD_PORT = 8265
_SKEW_WARN_SEC, _SKEW_FAIL_SEC = 2.0, 60.0
_DISK_WARN_GB = 10.0
_SHM_WARN_GB = 2.0
State = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What one check found."""

    check: str
    """Name of the check."""
    where: str
    """Which node; "driver" for what is looked at once, where the command runs."""
    state: State
    what: str
    """What was seen."""
    advice: str = ""
    """What to do about it; "" where the state is ok."""


def check_authentication(embedded: bool) -> Finding:
    """Whether a token protects the cluster. `embedded`: Ray is started by the command itself, on loopback."""
    finding = partial(Finding, "authentication", "driver")
    mode = os.environ.get("RAY_AUTH_MODE")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray/auth_token")
    if embedded:
        return finding("ok", "an embedded Ray listens on loopback alone and makes its own token")
    if mode == "disabled":
        advice = "whoever reaches the ports runs code as you; use RAY_AUTH_MODE=token"
        return finding("warn", "RAY_AUTH_MODE=disabled", advice)
    if mode != "token":
        return finding(
            "warn",
            f"RAY_AUTH_MODE is {mode or 'not set'}: "
            "what Ray then does depends on its history on each machine",
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, "
            "the same on all nodes and where you submit from",
        )
    if "RAY_AUTH_TOKEN" in os.environ:
        return finding("ok", "RAY_AUTH_MODE=token, the token is in RAY_AUTH_TOKEN")
    copy_it = "copy the head's token file there, mode 600"
    try:
        is_empty, readable_by_others = not path.read_text().strip(), path.stat().st_mode & 0o077
    except OSError as error:
        return finding("fail", f"no token: {error}", copy_it)
    if is_empty:
        return finding("fail", f"{path} is empty", copy_it)
    if readable_by_others:
        return finding("warn", f"others may read the token {path}", f"chmod 600 {path}")
    return finding("ok", f"RAY_AUTH_MODE=token, token in {path}")


def check_start(error: Exception, embedded: bool) -> Finding:
    """Why Ray could not be started or joined. `error`: what was raised."""
    finding = partial(Finding, "ray", "driver", "fail")
    if isinstance(error, ConfigError):  # its message says what is wrong, then what to do
        what, _, advice = str(error).partition("; ")
        return finding(what, advice)
    advice = "is the head up, and is RAY_ADDRESS its host:port?"
    if embedded:
        advice = "look into /tmp/ray/session_latest/logs"
    return finding(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}", advice)


def check_versions(answers: Sequence[Answer]) -> list[Finding]:
    """The driver's versions, and every node that has others. `answers`: facts of the nodes."""
    expected = nodes.versions()
    versions = [
        answer if answer.error else answer._replace(value=answer.value["versions"]) for answer in answers
    ]
    shown = ", ".join(f"{name} {version}" for name, version in expected.items())
    findings = [Finding("versions", "driver", "ok", shown)]
    for node, name, what in nodes.differences(expected, versions):
        state: State = "fail" if name in nodes.MUST_MATCH else "warn"
        advice = "only the driver uses it; a driver on that node would differ"
        if state == "fail":
            advice = "install the driver's versions there, or set PYTHONPATH to the same tree"
        findings.append(Finding("versions", node, state, what, advice))
    return findings


def check_clock(skew: Answer, uncertain_sec: float) -> Finding:
    """Whether a node's clock is right.

    Args:
        skew: its value is how many seconds the node's clock is ahead of the driver's.
        uncertain_sec: how far that may be off.
    """
    finding = partial(Finding, "clock", skew.node)
    if skew.error:
        return finding("fail", skew.error, "look at that node: it does not run tasks")
    certain_sec = abs(skew.value) - uncertain_sec
    what = f"{skew.value:+.2f} s from the driver's (to within {uncertain_sec:.2f} s)"
    if certain_sec <= _SKEW_WARN_SEC:
        return finding("ok", what)
    advice = "synchronise the clocks (chrony or systemd-timesyncd on every node)"
    return finding("fail" if certain_sec > _SKEW_FAIL_SEC else "warn", what, advice)


def check_gpus(answer: Answer) -> list[Finding]:
    """Whether torch and Ray see the GPUs that a node has."""
    finding = partial(Finding, "gpus", answer.node)
    devices, torch = answer.value["gpus"], answer.value["torch"]
    if torch["error"]:
        return [finding("fail", torch["error"], "install torch there")]
    build = f"torch {torch['version']}, CUDA {torch['cuda']}"
    if len(devices) > torch["num_gpus"]:
        what = f"{len(devices)} GPUs ({'; '.join(devices)}), torch sees {torch['num_gpus']} ({build})"
        return [finding("fail", what, "install a CUDA build of torch that fits the driver")]
    if answer.num_gpus != torch["num_gpus"]:
        what = f"Ray was told of {answer.num_gpus} GPUs, torch sees {torch['num_gpus']} ({build})"
        advice = "start Ray there with the right --num-gpus, or none: it then counts itself"
        return [finding("fail" if answer.num_gpus > torch["num_gpus"] else "warn", what, advice)]
    shown = "; ".join(devices) or f"{torch['num_gpus'] or 'no'} GPUs"
    return [finding("ok", f"{shown} ({build})")]


def check_space(answer: Answer) -> list[Finding]:
    """Disk of the store and of the temporary folder (Ray's logs, spilled objects); shared memory."""
    facts, findings = answer.value, []
    for what, free_gb in (("the store", facts["disk_gb"]), ("the temporary folder", facts["temporary_gb"])):
        state: State = "ok"
        advice = ""
        if free_gb < _DISK_WARN_GB:
            state = "fail" if free_gb < store.NEEDED_GB else "warn"
            advice = f"free some space; below {store.NEEDED_GB} GiB a sweep does not start"
        findings.append(Finding("disk", answer.node, state, f"{free_gb:.1f} GiB free for {what}", advice))
    if (shm_gb := facts["shm_gb"]) is not None:
        finding = partial(Finding, "shared memory", answer.node)
        what = f"/dev/shm of {shm_gb:.1f} GiB"
        if shm_gb < _SHM_WARN_GB:
            advice = "Ray then keeps objects on disk, slowly; give a container --shm-size=8g"
            findings.append(finding("warn", what, advice))
        else:
            findings.append(finding("ok", what))
    return findings


def check_storage(answer: Answer, folder: Path) -> list[Finding]:
    """Whether the node sees what the driver writes into the store, and the driver what the node writes."""
    finding, storage = partial(Finding, "storage", answer.node), answer.value["storage"]
    advice = "mount one shared folder at the same path on every node, and give sweeps a --store in it"
    if storage["error"]:
        return [finding("fail", f"does not share {folder} with the driver: {storage['error']}", advice)]
    remote.pull(folder / storage["name"])
    if not (folder / storage["name"]).exists():
        return [finding("fail", f"the driver does not see what this node writes in {folder}", advice)]
    return [finding("ok", f"reads and writes {folder} as the driver does")]


def check_ports(answer: Answer, embedded: bool) -> list[Finding]:
    """Whether other machines reach Ray's ports on a node, and whether a token is asked for there."""
    finding, listening = partial(Finding, "ports", answer.node), answer.value["listening"]
    if not listening:
        return []
    outside = [address for address in listening if not address.startswith(("127.", "::1:"))]
    if not outside:
        return [finding("ok", f"{len(listening)} ports of Ray, on loopback alone")]
    what = (
        f"{len(outside)} of Ray's {len(listening)} ports are open to other machines "
        f"({', '.join(outside[:4])}, ...)"
    )
    if embedded or os.environ.get("RAY_AUTH_MODE") != "token":
        advice = "use RAY_AUTH_MODE=token, and let only the cluster's machines reach them"
        return [finding("warn", what, advice)]
    return [finding("ok", f"{what}; a token is asked for")]


def check_dashboard_port() -> Finding:
    """Whether the port of Ray's dashboard is free on this machine."""
    finding = partial(Finding, "dashboard port", "driver")
    with socket.socket() as probe:
        is_taken = probe.connect_ex(("127.0.0.1", _DASHBOARD_PORT)) == 0
    if is_taken:
        advice = "another Ray runs here: its dashboard is there, and a new one takes the next free port"
        return finding("warn", f"127.0.0.1:{_DASHBOARD_PORT} is taken", advice)
    return finding("ok", f"127.0.0.1:{_DASHBOARD_PORT} is free")


def check_tracking(uri: str, folder: Path | None, experiment: str) -> Finding:
    """Whether a sweep can be tracked in that experiment of the tracking store at `uri`.

    `folder`: the results folder where the default tracking store will be made. While it does not exist there
    is nothing to look at: the store itself is checked. None: the tracking store is another one.
    """
    finding = partial(Finding, "tracking", "driver")
    if folder is not None and not folder.exists():
        return finding("ok", f"{uri} will be made with the store")
    try:
        tracking_store.probe(uri, experiment)
    except StoreError as error:
        return finding("fail", without_passwords(str(error)))
    return finding("ok", without_passwords(uri))
