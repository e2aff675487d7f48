"""Why a worker of Ray's failed, in one line: what was raised in it, or how its process ended."""

import re

from ray.exceptions import OutOfDiskError, OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

DIED = "the worker process died (killed, or out of memory)"
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*")
"""A line that names an exception, as at the end of a traceback."""


def reason(error: BaseException) -> str:
    """Why, in one line. `error`: what Ray raised where the work was waited for."""
    text = str(error).strip()
    if isinstance(error, OutOfMemoryError):
        return "out of memory: Ray ended the worker that took most"
    if isinstance(error, OutOfDiskError):
        return "the disk is full: Ray could not write its objects"
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return f"{type(error.cause).__name__}: {_last_line(str(error.cause))}"
    raised = [line.strip() for line in text.splitlines() if _RAISED.match(line.strip())]
    if isinstance(error, RayActorError | WorkerCrashedError):
        if "creation task" in text and raised:
            return raised[-1]
        return "its node was lost" if "node has died" in text or "node is dead" in text else DIED
    return raised[-1] if raised else _last_line(text) or type(error).__name__


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
