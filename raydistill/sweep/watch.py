"""What a sweep looks at while it waits for its workers: a signal to stop, lost nodes, and logs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from raydistill.cluster import runtime
from raydistill.cluster.placement import Group
from raydistill.planning.plan import Plan
from raydistill.terminal import Terminal

_SIGTERM_CAME = threading.Event()
"""Every watcher looks at it: Python drops what a signal's handler raises in a destructor or a C callback."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Inside, SIGTERM ends a sweep as Ctrl-C does; a cluster's queue sends it before it kills."""

    def interrupt(number: int, frame: object) -> None:
        _SIGTERM_CAME.set()
        raise KeyboardInterrupt

    _SIGTERM_CAME.clear()
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def watcher(group: Group, driver_cpus: float, plan: Plan, terminal: Terminal) -> Callable[[], None]:
    """A function to call again and again while `group` runs.

    It raises KeyboardInterrupt after SIGTERM, and RunError where an embedded Ray has died or the nodes have
    lacked room for --wait-for-nodes.
    """
    watch_nodes = runtime.ShortageWatch(group, driver_cpus, plan.options.wait_for_nodes, terminal.say)

    def watch() -> None:
        if _SIGTERM_CAME.is_set():
            raise KeyboardInterrupt
        runtime.require_alive()
        watch_nodes()

    return watch


def log_watcher(cache: Path, terminal: Terminal) -> Callable[[], None]:
    """A function that says what was added to the logs of evaluators and teachers since its last call."""

    def logs() -> dict[Path, list[str]]:
        return {
            path: path.read_text().splitlines()
            for kind in ("evaluator", "teacher")
            for path in (cache / kind).glob("*/log.txt")
        }

    num_shown = {path: len(lines) for path, lines in logs().items()}

    def watch() -> None:
        for path, lines in logs().items():
            for line in lines[num_shown.get(path, 0) :]:
                terminal.say(f"{path.parent.parent.name}: {line}")
            num_shown[path] = len(lines)

    return watch
