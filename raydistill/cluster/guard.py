"""Watches the processes of an embedded Ray, which itself would wait where nothing goes on any more.

A cluster is not watched: its head may be restarted, and its nodes may come back.
"""

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

import psutil

from raydistill.errors import RunError

_NAMES = ("gcs_server", "raylet")
"""The processes without which Ray does nothing; a raylet ends when one of its agents does."""
_LOOK_SEC = 0.5
_END_SEC = 15.0
"""Seconds that the main thread has to end by itself; a call to a Ray that is dead may never return."""


class Guard:
    """Watches the children of this process that an embedded Ray consists of."""

    def __init__(self, folder: Path):
        """Begins before Ray starts, which may wait for ever, too.

        `folder`: where Ray keeps its files, which is removed if this process has to be ended.
        """
        self.folder = folder
        self.processes: dict[psutil.Process, str] = {}
        """The processes of `_NAMES` that were seen, with their names."""
        self.trouble = ""
        """Why nothing can go on; "" while it can."""
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self.thread.start()

    def require_alive(self) -> None:
        """Raises RunError where nothing can go on."""
        if self.trouble:
            raise RunError(self.trouble)

    def stop(self) -> None:
        """Ends the watch: Ray is ended on purpose now, or has been."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SEC):
            if what := self._dead():
                self.trouble = f"{what}; finished trials are kept, go on with the same command and --resume"
                if not self._stopped.wait(_END_SEC):
                    self._end_this_process()
                return

    def _dead(self) -> str:
        """Which process has ended, in words; "": none."""
        if len(self.processes) < len(_NAMES):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name() in _NAMES and child.status() != psutil.STATUS_ZOMBIE:
                        self.processes[child] = child.name()
        ended = [name for process, name in self.processes.items() if not _runs(process)]
        if not ended:
            return ""
        return f"Ray's process {ended[0]} on this machine has ended: it was killed, or no memory was left"

    def _end_this_process(self) -> None:
        """The last resort, with the same message and exit code as the error has."""
        sys.stdout.flush()
        print(f"raydistill: {self.trouble}", file=sys.stderr, flush=True)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(RunError.exit_code)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
