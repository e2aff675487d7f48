"""The ledger of a sweep: its trials on disk. It is the truth that everything else is made from.

Each trial has a folder `trials/<trial_id>/` with `trial.json`, which is written when the trial is proposed,
and `result.json`, which is written by atomic rename when it ends.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill.config import renamed
from raydistill.errors import StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records.files import write_json_atomic

SCHEMA_VERSION = 1
STATUSES = ("COMPLETE", "PRUNED", "FAIL")
"""Statuses of a result. A trial without a result is RUNNING."""
ENDING_KEYS = ("status", "reason", "nimg", "budget_nimg", "wall_sec", "gpu_sec", "hardware", "git_revision")
"""What a result says of how the trial ended."""
_TRIAL_KEYS = (
    *("number", "trial_id", "trial_key", "role", "label", "seed"),
    *("params", "costs", "job", "digests"),
)
_RESULT_KEYS = (*ENDING_KEYS, "metrics", "evaluations", "context")


def write_trial(trial_dir: Path, trial: dict[str, Any]) -> dict[str, Any]:
    """Write `trial.json`, what was proposed, and return what was written.

    Raises:
        ValueError: a key is missing.
        StoreError: the file cannot be written.
    """
    _require(trial, _TRIAL_KEYS, "trial")
    written = {"schema_version": SCHEMA_VERSION, **trial}
    write_json_atomic(trial_dir / "trial.json", written)
    return written


def write_result(trial_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write `result.json`, how the trial ended, and return what was written.

    Raises:
        ValueError: a key is missing, or the status is none of STATUSES.
        StoreError: the file cannot be written.
    """
    _require(result, _RESULT_KEYS, "result")
    if result["status"] not in STATUSES:
        raise ValueError(f"status is one of {', '.join(STATUSES)}, not {result['status']!r}")
    written = {"schema_version": SCHEMA_VERSION, **result}
    write_json_atomic(trial_dir / "result.json", written)
    return written


def read_result(trial_dir: Path) -> dict[str, Any] | None:
    """The trial's result; None when it has none yet.

    Raises:
        StoreError: the file is damaged or of another version.
    """
    path = trial_dir / "result.json"
    return renamed.result_now(_read_json(path, _RESULT_KEYS)) if path.exists() else None


def read_trials(sweep_dir: Path) -> list[dict[str, Any]]:
    """Every trial of the sweep by number, with its result or None under the key "result".

    Raises:
        StoreError: there is no such folder, or a file is damaged or of another version.
    """
    if not sweep_dir.is_dir():
        raise StoreError(f"{sweep_dir}: there is no such results folder")
    trials = [
        renamed.trial_now(_read_json(path, _TRIAL_KEYS)) | {"result": read_result(path.parent)}
        for path in sweep_dir.glob("trials/*/trial.json")
    ]
    return sorted(trials, key=lambda trial: trial["number"])


def _require(data: Mapping[str, object], keys: Sequence[str], what: str) -> None:
    missing = [key for key in keys if key not in data]
    if missing:
        raise ValueError(f"a {what} needs the keys {', '.join(missing)}")


def _read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        data = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: damaged or unreadable: {error}. Remove the file to run the trial again."
        ) from error
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: not written by schema version {SCHEMA_VERSION} of raydistill. "
            "Use the version that wrote it."
        )
    if missing := [key for key in keys if key not in data]:
        raise StoreError(
            f"{path}: damaged: without {', '.join(missing)}. Remove the file to run the trial again."
        )
    return data
