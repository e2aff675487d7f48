"""Where Ray's own files lie, and where its workers look for modules."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ray.job_config import JobConfig

import raydistill
from raydistill.errors import RunError, say_notice
from raydistill.records import owners

TEMPORARY = "RAY_TMPDIR"
"""Environment variable: where Ray makes its folder. Without it, that is the system's folder for temporary
files, which TMPDIR names."""
_SOCKET = "rd-12345678/ray/session_2026-11-28_12-00-00_000000_1234567/sockets/plasma_store"
"""The longest path of a socket below the folder for temporary files."""
_LONGEST = 103 if sys.platform == "darwin" else 107
"""Bytes of the longest path that a socket may have."""


def make_folder() -> Path:
    """A new folder for an embedded Ray, short enough for its sockets.

    What an embedded Ray of a dead process has left beside it is removed.

    Raises:
        RunError: every folder that there is has too long a path, or cannot be written.
    """
    usual = os.environ.get(TEMPORARY) or tempfile.gettempdir()
    name = TEMPORARY if os.environ.get(TEMPORARY) else "TMPDIR"
    parent = next(
        (each for each in (usual, *owners.SHORT_FOLDERS) if _is_short(each) and os.access(each, os.W_OK)),
        None,
    )
    longest = _LONGEST - len(_SOCKET) - 1
    if parent is None:
        raise RunError(
            f"{name}={usual}: cannot be written, or too long for Ray's sockets: {len(os.fsencode(usual))} "
            f"bytes, allowed are {longest}; set {TEMPORARY} to a folder with a shorter path"
        )
    if parent != usual:
        say_notice(
            f"{name}={usual} cannot be written, or is too long for Ray's sockets: {len(os.fsencode(usual))} "
            f"bytes, allowed are {longest}. Ray's own files go to {parent}; set {TEMPORARY} for another place"
        )
    owners.remove_left_temporaries()
    own = Path(tempfile.mkdtemp(prefix="rd-", dir=parent))
    (own / owners.OWNER).write_text(owners.mark())
    return own


def _is_short(folder: str) -> bool:
    return len(os.fsencode(folder)) + 1 + len(_SOCKET) <= _LONGEST


class Job(JobConfig):
    """A job of Ray whose workers import what is installed, and nothing from the driver's working folder.

    Ray puts the folder of the driver's script and its working folder before everything else that its workers
    may import: an `optuna.py` there would be imported in place of Optuna. What workers need of a user's files
    is sent to them as text (`raydistill.plugins`).
    """

    def _serialize(self) -> Any:
        home = Path(raydistill.__file__).parent.parent
        # run from a checkout that is not installed: its workers find it only there
        self._py_driver_sys_path = [str(home)] if home == Path.cwd() else []
        return super()._serialize()
