"""Watches the processes of an embedded Ray: without one of them nothing goes on, and Ray itself would wait.

A cluster is not watched: its head may be restarted, and its nodes may come back.
"""

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
    """Watches the children of this process that an embedded Ray began with."""

    def __init__(self, folder: Path):
        """`folder`: where Ray keeps its files, which is removed if this process has to be ended."""
        self.folder = folder
        children = psutil.Process().children(recursive=True)
        self.processes = {child: child.name() for child in children if child.name() in _NAMES}
        self.dead = ""
        """What the first process that ended is called; "" while all run."""
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self.thread.start()

    def require_alive(self) -> None:
        """Raises RunError where one of the processes has ended."""
        if self.dead:
            raise RunError(self._message())

    def stop(self) -> None:
        """Ends the watch: Ray is ended on purpose now, or has been."""
        self._stopped.set()

    def _message(self) -> str:
        return (
            f"Ray's process {self.dead} on this machine has ended: it was killed, or no memory was left; "
            "finished trials are kept, go on with the same command and --resume"
        )

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SEC):
            ended = [name for process, name in self.processes.items() if not _runs(process)]
            if ended:
                self.dead = ended[0]
                if not self._stopped.wait(_END_SEC):
                    self._end_this_process()
                return

    def _end_this_process(self) -> None:
        """The last resort, with the same message and exit code as the error has."""
        sys.stdout.flush()
        print(f"raydistill: {self._message()}", file=sys.stderr, flush=True)
        for child in psutil.Process().children(recursive=True):
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(RunError.exit_code)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
