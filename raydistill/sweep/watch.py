"""What a sweep looks at while it waits for its workers: a signal to stop, lost nodes, and logs."""

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raydistill.cluster import runtime
from raydistill.cluster.placement import Group
from raydistill.terminal import Terminal

_SIGNAL_CAME = threading.Event()
"""Every watcher looks at it: Python drops what a signal's handler raises in a destructor or a C callback."""


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end a sweep as Ctrl-C does.

    A cluster's queue sends the first before it kills, a terminal that is closed the second. Where SIGHUP is
    ignored, as `nohup` has it, it stays so. On another thread than the main one nothing changes: Python lets
    none set a handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        _SIGNAL_CAME.set()
        if number == signal.SIGHUP:
            _leave_terminal()
        raise KeyboardInterrupt

    _SIGNAL_CAME.clear()
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Prints no more to a terminal, which is gone: to write there is an error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it has no file
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):  # isatty() is False by now
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def watcher(group: Group, driver_cpus: float, wait_sec: float, terminal: Terminal) -> Callable[[], None]:
    """A function to call again and again while `group` runs.

    It raises KeyboardInterrupt after a signal to stop, and RunError where an embedded Ray has died or the
    nodes have lacked room for `wait_sec` seconds, --wait-for-nodes.
    """
    watch_nodes = runtime.ShortageWatch(group, driver_cpus, wait_sec, terminal.say)

    def watch() -> None:
        if _SIGNAL_CAME.is_set():
            raise KeyboardInterrupt
        runtime.require_alive()
        watch_nodes()

    return watch


def log_watcher(cache: Path, terminal: Terminal) -> Callable[[], None]:
    """A function that says what was added since its last call to the logs of what all trials share."""

    def logs() -> dict[Path, list[str]]:
        return {
            path: path.read_text().splitlines()
            for kind in ("evaluator", "features", "teacher")
            for path in (cache / kind).glob("*/log.txt")
        }

    num_shown = {path: len(lines) for path, lines in logs().items()}

    def watch() -> None:
        for path, lines in logs().items():
            for line in lines[num_shown.get(path, 0) :]:
                terminal.say(f"{path.parent.parent.name}: {line}")
            num_shown[path] = len(lines)

    return watch
