"""What a sweep may spend beside its number of trials.

It is asked before each trial. A trial that runs when a limit is reached goes on to its end.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from raydistill.errors import StoreError
from raydistill.records import remote
from raydistill.records.files import write_json_atomic


class Clock:
    """Wall-clock time in seconds over every start of a command.

    Each reading is written to disk, so a kill loses only the time since the last one.
    """

    def __init__(self, file: Path):
        """Go on from what `file` says, if it is there.

        Raises:
            StoreError: the file is damaged.
        """
        self.file, self.started, self.before_sec = file, time.monotonic(), 0.0
        remote.pull(file)
        if file.exists():
            try:
                self.before_sec = float(json.loads(file.read_text())["spent_sec"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{file}: damaged or unreadable: {error}. Remove it: the time is then counted anew."
                ) from error

    def sec(self) -> float:
        """The time so far, which is written to disk too."""
        spent = self.before_sec + time.monotonic() - self.started
        write_json_atomic(self.file, {"spent_sec": spent})
        remote.push(self.file)
        return spent


class Limits:
    """Ends a sweep when its time or its GPU-hours are spent."""

    def __init__(
        self, hours: float | None, gpu_hours: float | None, clock: Clock, gpu_sec: Callable[[], float]
    ):
        """None: no limit. `gpu_sec` says what the trials have spent."""
        self.hours, self.gpu_hours, self.clock, self.gpu_sec = hours, gpu_hours, clock, gpu_sec
        self.reached = ""
        """The option that ended the sweep, as it was given; empty while none has."""

    def may_start(self) -> bool:
        """Whether one more trial may start."""
        spent_hours = self.clock.sec() / 3600
        if self.hours is not None and spent_hours >= self.hours:
            self.reached = f"--max-hours {self.hours:g}"
        elif self.gpu_hours is not None and self.gpu_sec() / 3600 >= self.gpu_hours:
            self.reached = f"--max-gpu-hours {self.gpu_hours:g}"
        return not self.reached
