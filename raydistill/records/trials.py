"""The ledger of a sweep: its trials on disk. It is the truth that everything else is made from.

Each trial has a folder `trials/<trial_id>/` with `trial.json`, which is written when the trial is proposed,
and `result.json`, which is written by atomic rename when it ends.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from raydistill.config import renamed
from raydistill.config.base import canonical, digest
from raydistill.config.experiment import JOB_VERSION, Job
from raydistill.errors import StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records import mirror
from raydistill.records.files import write_json_atomic

SCHEMA_VERSION = 1
STATUSES = ("COMPLETE", "PRUNED", "FAIL")
"""Statuses of a result. A trial without a result is RUNNING."""
ENDING_KEYS = ("status", "reason", "nimg", "budget_nimg", "wall_sec", "gpu_sec", "hardware", "git_revision")
"""What a result says of how the trial ended."""


def _with_its_place(evaluation: object) -> object:
    """Refuses an evaluation that does not say when it was."""
    if isinstance(evaluation, dict) and type(evaluation.get("nimg")) is int and "wall_sec" in evaluation:
        return evaluation
    raise ValueError("an evaluation has nimg, a whole number, and wall_sec")


Evaluation = Annotated[dict[str, float], BeforeValidator(_with_its_place)]
"""What was measured at once: `nimg`, `wall_sec`, and the numbers by name."""


class _Record(BaseModel):
    """A file of the ledger: keys of these types, and whatever else was written beside them."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Trial(_Record):
    """A trial.json."""

    number: NonNegativeInt
    trial_id: str
    trial_key: str
    role: str
    label: str
    seed: int
    params: dict[str, float | str | bool | None]
    costs: dict[str, float | str]
    job: dict[str, Any]
    digests: dict[str, str | None]
    configuration: dict[str, float | str | bool | None] | None = None
    replicate_of: str | None = None
    recheck_of: str | None = None


class _Network(_Record):
    """Where a result's network is, below the trial's folder."""

    path: str
    digest: str


class _Result(_Record):
    """A result.json."""

    status: Literal["COMPLETE", "PRUNED", "FAIL"]
    reason: str
    trial_key: str
    nimg: NonNegativeInt
    budget_nimg: NonNegativeInt
    wall_sec: NonNegativeFloat
    gpu_sec: NonNegativeFloat
    hardware: str
    git_revision: str
    metrics: dict[str, float]
    evaluations: list[Evaluation]
    context: dict[str, Any]
    network: _Network | None = None
    peak_memory_gb: float | None = None
    test: dict[str, float] | None = None
    test_context: dict[str, Any] | None = None


def write_trial(trial_dir: Path, trial: dict[str, Any]) -> dict[str, Any]:
    """Write `trial.json`, what was proposed, and return what was written.

    Raises:
        ValueError: a key is missing.
        StoreError: the file cannot be written.
    """
    _require(trial, _Trial)
    written = {"schema_version": SCHEMA_VERSION, **trial}
    write_json_atomic(trial_dir / "trial.json", written)
    return written


def write_result(trial_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write `result.json`, how the trial ended, and return what was written.

    Raises:
        ValueError: a key is missing, or the status is none of STATUSES.
        StoreError: the file cannot be written.
    """
    _require(result, _Result)
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
    if not path.exists():
        return None
    advice = (
        f"Remove {_named(path)}: the same command (a sweep's with --resume) then trains it again, "
        "from its last checkpoint where there is one"
    )
    return renamed.result_now(_read_json(path, _Result, advice))


def read_trials(sweep_dir: Path) -> list[dict[str, Any]]:
    """Every trial of the sweep by number, with its result or None under the key "result".

    Raises:
        StoreError: there is no such folder; or a file is damaged, of another version, or of another trial.
    """
    if not sweep_dir.is_dir():
        raise StoreError(f"{sweep_dir}: there is no such results folder")
    trials: dict[int, dict[str, Any]] = {}
    for folder in sorted((sweep_dir / "trials").glob("*/")):
        if (trial := _read_trial(folder)) is None:
            continue
        if (other := trials.get(trial["number"])) is not None:
            raise StoreError(
                f"{folder / 'trial.json'}: number {trial['number']} is used twice, in "
                f"{other['trial_id']}/trial.json too. {another_in_its_place(folder)}"
            )
        trials[trial["number"]] = trial
    _require_originals(sweep_dir, trials)
    return [trials[number] for number in sorted(trials)]


def _read_trial(folder: Path) -> dict[str, Any] | None:
    """The trial of a folder, with its result; None where nothing was proposed there.

    Raises:
        StoreError: see `read_trials`.
    """
    path = folder / "trial.json"
    if not path.exists():
        if (folder / "result.json").exists():
            raise StoreError(
                f"{folder}: a result.json without the trial.json of its trial. {another_in_its_place(folder)}"
            )
        return None
    trial = renamed.trial_now(written := _read_json(path, _Trial, another_in_its_place(folder)))
    if trial["trial_id"] != folder.name:
        raise StoreError(
            f"{path}: the trial of another folder, {trial['trial_id']}. "
            + another_in_its_place(folder, "Give the folder its name again")
        )
    if (key := _key_of(written["job"], path)) not in (None, trial["trial_key"]):
        raise StoreError(
            f"{path}: job: the job of another trial: its key is {key}, trial_key says {trial['trial_key']}. "
            f"{another_in_its_place(folder)}"
        )
    result = read_result(folder)
    if result is not None and result["trial_key"] != trial["trial_key"]:
        raise StoreError(
            f"{folder / 'result.json'}: the result of another trial: its trial_key is {result['trial_key']}, "
            f"that of trial.json {trial['trial_key']}. Put back what was there, or remove "
            f"{_named(folder / 'result.json')}: the sweep with --resume then trains the trial again"
        )
    return trial | {"result": result}


def _key_of(job: dict[str, Any], path: Path) -> str | None:
    """The trial key of a job as it stands in a trial.json; None: it needs a plug-in, which may have changed.

    Raises:
        StoreError: it is no job.
    """
    try:
        valid = Job.model_validate(job)
    except ValidationError as error:
        if all(item["type"] == "unknown_kind" and item["loc"] != ("training",) for item in error.errors()):
            return None
        raise _damaged(path, error, another_in_its_place(path.parent), "job.") from error
    if '"plugin"' in json.dumps(canonical(valid)):
        return None
    # a job of the version before has the names of then in its key
    return valid.key if valid.version == JOB_VERSION else digest(_without_places(job))


def _without_places(value: object) -> object:
    """JSON data of a config without what is no part of its digest."""
    if isinstance(value, dict):
        return {
            name: _without_places(item) for name, item in value.items() if name not in ("path", "execution")
        }
    return [_without_places(item) for item in value] if isinstance(value, list) else value


def _require_originals(sweep_dir: Path, trials: Mapping[int, dict[str, Any]]) -> None:
    """Raises StoreError where a replicate or recheck is of a trial that is not there."""
    known = {trial["trial_id"] for trial in trials.values()}
    for trial in trials.values():
        for name in ("replicate_of", "recheck_of"):
            if trial.get(name) not in (None, *known):
                folder = sweep_dir / "trials" / trial["trial_id"]
                raise StoreError(
                    f"{folder / 'trial.json'}: {name}: there is no trial {trial[name]}. "
                    + another_in_its_place(folder, "Put its folder back")
                )


def another_in_its_place(folder: Path, otherwise: str = "Put back the file that was there") -> str:
    """What to do about a trial.json that cannot be used. `otherwise`: what to do instead."""
    then = "the sweep with --resume then trains another trial in its place"
    return f"{otherwise}, or remove {_named(folder)}: {then}"


def _named(path: Path) -> str:
    """A file or folder to remove; where an object store has it, too, the object as well."""
    mirrored = mirror.mirrored_path(path)
    return str(path) if mirrored is None else f"{path} here and {mirrored.key} on {mirrored.url}"


def _require(data: Mapping[str, object], record: type[_Record]) -> None:
    needed = [name for name, field in record.model_fields.items() if field.is_required()]
    if missing := [name for name in needed if name not in data]:
        raise ValueError(f"a {record.__name__.lower()[1:]} needs the keys {', '.join(missing)}")


def _read_json(path: Path, record: type[_Record], advice: str) -> dict[str, Any]:
    """The content of a file of the ledger, as it was written.

    Raises:
        StoreError: it cannot be read, has another version, or a key is missing or of another type; with the
            file, the key and `advice`.
    """
    try:
        data = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: damaged or unreadable: {error}. {advice}") from error
    if not isinstance(data, dict) or "schema_version" not in data:
        raise StoreError(f"{path}: damaged: no schema_version. {advice}")
    if data["schema_version"] != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: not written by schema version {SCHEMA_VERSION} of raydistill. "
            "Use the version that wrote it."
        )
    try:
        record.model_validate(data)
    except ValidationError as error:
        raise _damaged(path, error, advice) from error
    return data


def _damaged(path: Path, error: ValidationError, advice: str, prefix: str = "") -> StoreError:
    """The error of a file with a key that is missing or of another type. `prefix`: of the key's path."""
    first = error.errors()[0]
    key = ".".join(part for part in map(str, first["loc"]) if part not in ("float", "str"))
    given = "" if first["type"] == "missing" else f" (given: {repr(first['input'])[:60]})"
    return StoreError(f"{path}: damaged: {prefix}{key}: {first['msg']}{given}. {advice}")
