"""The ledger of a sweep: its trials on disk. It is the truth that everything else is made from.

Each trial has a folder `trials/<trial_id>/` with `trial.json`, which is written when the trial is proposed,
and `result.json`, which is written by atomic rename when it ends.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from raydistill.config import renamed
from raydistill.config.base import canonical, digest
from raydistill.config.experiment import JOB_VERSION, Job
from raydistill.errors import StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records import mirror, stored_paths
from raydistill.records.base import FROM_FILE, NO_KEYS, Number, Record
from raydistill.records.files import write_json_atomic

SCHEMA_VERSION = 1
Status = Literal["COMPLETE", "PRUNED", "FAIL"]
"""How a trial ended. A trial without a result is RUNNING."""
Role = Literal["teacher", "search", "uniform", "no_teacher", "replicate", "recheck", "retrain"]
"""What a trial is for. `uniform` and `no_teacher` are baselines; `retrain` is one that `raydistill retrain`
made."""


class Evaluation(Record):
    """What was measured at once, during a training or at its end."""

    model_config = ConfigDict(extra="forbid")

    nimg: int
    """Images seen, over all workers."""
    wall_sec: Number
    """Seconds of training and evaluation until then, over all interruptions."""
    numbers: dict[str, Number]
    """What was measured, by name: "val/miou" -> 0.7."""
    scoring_sec: Annotated[Number, Field(ge=0)] | None = None
    """Seconds that this evaluation took, within `wall_sec`; None: not known."""

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, data: Any) -> Any:
        """On disk the numbers stand beside the other fields."""
        if isinstance(data, dict) and isinstance(data.get("numbers"), dict):
            return data
        if not isinstance(data, dict) or type(data.get("nimg")) is not int or "wall_sec" not in data:
            raise ValueError("an evaluation has nimg, a whole number, and wall_sec")
        place = {name: data[name] for name in ("nimg", "wall_sec", "scoring_sec") if name in data}
        return place | {"numbers": {name: value for name, value in data.items() if name not in place}}

    def to_json(self) -> dict[str, float]:
        """As it stands in a file: the other fields that are known, and the numbers by name."""
        known = {} if self.scoring_sec is None else {"scoring_sec": self.scoring_sec}
        return {"nimg": self.nimg, "wall_sec": self.wall_sec, **known, **self.numbers}


class Network(Record):
    """Where a result's network is, below the trial's folder."""

    path: str
    digest: str


class TrialResult(Record):
    """How a trial ended: a result.json."""

    schema_version: int = SCHEMA_VERSION
    status: Status
    reason: str
    """Why it failed or was stopped; "" where it is COMPLETE."""
    trial_key: str
    nimg: NonNegativeInt
    """Images seen, over all workers."""
    budget_nimg: NonNegativeInt
    """Images that the training was to see."""
    wall_sec: Annotated[Number, Field(ge=0)]
    """Seconds of training and evaluation, over all interruptions."""
    gpu_sec: Annotated[Number, Field(ge=0)]
    """The same times the GPUs that it held."""
    peak_memory_gb: Number | None = None
    """Most memory of a worker, GiB; None: not measured."""
    hardware: str
    """What it ran on, in words; "": not known."""
    git_revision: str
    """Commit of the code; "": not known."""
    metrics: dict[str, Number]
    """The numbers of the last evaluation by name; empty where there was none."""
    evaluations: list[Evaluation]
    """All evaluations, in order."""
    context: dict[str, Any]
    """What the scores were computed with."""
    network: Network | None = None
    """None unless COMPLETE."""
    discriminator: Network | None = None
    """A generator's discriminator, which a student's may start from; None: its recipe has none, or an earlier
    version trained it."""
    test: dict[str, Number] | None = None
    """Scores on the test split, by name; None: it was not scored there."""
    test_context: dict[str, Any] | None = None
    """What they were computed with."""

    @property
    def scoring_sec(self) -> float | None:
        """Seconds of `wall_sec` that its evaluations took; None: not known of all of them."""
        seconds = [each.scoring_sec for each in self.evaluations if each.scoring_sec is not None]
        return sum(seconds) if seconds and len(seconds) == len(self.evaluations) else None


class Trial(Record):
    """One training of a sweep: a trial.json, written when it was proposed, and its result."""

    schema_version: int = SCHEMA_VERSION
    number: NonNegativeInt
    """Counts the trials of a sweep in the order of their proposals."""
    trial_id: str
    """Name of its folder."""
    trial_key: str
    """Key of its job."""
    role: Role
    label: str
    """What a person calls it."""
    seed: int
    params: dict[str, Number | str | bool | None]
    """What it has of the search space: config path -> value."""
    widths: str | None = None
    """The generator's widths, in words."""
    costs: dict[str, Number | str]
    """Known before training: name -> number, and the convention under `macs_convention`."""
    job_json: dict[str, Any] = Field(alias="job")
    """Its job as JSON, with absolute paths. `job` reads it, which needs the plug-ins that it names."""
    digests: dict[str, str | None]
    """Digests of data, evaluator and teacher; "" or None: it has none."""
    configuration: dict[str, Number | int | str] | None = None
    """What the search proposed; None: it is no proposal."""
    replicate_of: str | None = None
    """Id of the trial that it repeats with another seed."""
    recheck_of: str | None = None
    """Id of the trial that it repeats by several workers."""
    lineage: dict[str, Any] | None = None
    """Of a trial that was trained again: sweep, sweep_id, trial_id, trial_key and nimg of the one that it
    repeats; None: it repeats none."""
    result: TrialResult | None = Field(default=None, exclude=True)
    """The content of its result.json; None: it has not ended."""

    @property
    def job(self) -> Job:
        """What is trained."""
        return Job.model_validate(self.job_json)

    @property
    def has_terms(self) -> bool:
        """Whether a mutual-information term has a weight."""
        terms = self.job_json["training"].get("terms", {})
        return any(term.get("weight") for term in terms.values())

    @property
    def budget_nimg(self) -> int:
        """Images that it is to see."""
        return int(self.job_json["training"]["budget_nimg"])

    @property
    def macs(self) -> float:
        """Multiply-accumulates of its generator for one image."""
        return self.value("cost/macs")

    @property
    def macs_convention(self) -> str:
        """How multiply-accumulates are counted."""
        return str(self.costs["macs_convention"])

    @property
    def is_complete(self) -> bool:
        """Whether it was trained to its end."""
        return self.result is not None and self.result.status == "COMPLETE"

    def value(self, name: str) -> float:
        """A number by name: a cost ("cost/macs") or, of a trial with a result, a score ("val/miou")."""
        return self.value_at(name, {} if self.result is None else self.result.metrics)

    def value_at(self, name: str, numbers: Mapping[str, float]) -> float:
        """As `value`, with a score taken from the numbers of one evaluation."""
        kind, _, rest = name.partition("/")
        return float(self.costs[rest] if kind == "cost" else numbers[name])

    def with_result(self, result: TrialResult | None) -> "Trial":
        """The same trial with another result."""
        return self.model_copy(update={"result": result})


def write_trial(trial_dir: Path, trial: Trial) -> None:
    """Write `trial.json`, what was proposed. Paths inside of the store are relative to it there.

    Raises:
        StoreError: the file cannot be written.
    """
    content = trial.to_json()
    content["job"] = stored_paths.relative(trial.job_json, trial_dir)
    write_json_atomic(trial_dir / "trial.json", {"schema_version": SCHEMA_VERSION, **content})


def read_job(trial_dir: Path) -> Job:
    """The job of a trial's folder, from its trial.json. What it names has absolute paths.

    Raises:
        OSError, ValueError, KeyError, TypeError: the file cannot be read, or holds no job.
    """
    content = parse_json(read_text(trial_dir / "trial.json"))
    return Job.model_validate(stored_paths.absolute(content["job"], trial_dir))


def as_read(content: dict[str, Any], trial_dir: Path) -> Trial:
    """The trial of the content of a trial.json, by the names of today and with absolute paths."""
    trial = Trial.model_validate(renamed.trial_now(content))
    return trial.model_copy(update={"job_json": stored_paths.absolute(trial.job_json, trial_dir)})


def write_result(trial_dir: Path, result: TrialResult) -> None:
    """Write `result.json`, how the trial ended.

    Raises:
        ValueError: a number is NaN or infinite.
        StoreError: the file cannot be written.
    """
    write_json_atomic(trial_dir / "result.json", {"schema_version": SCHEMA_VERSION, **result.to_json()})


def read_result(trial_dir: Path) -> TrialResult | None:
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
    return TrialResult.model_validate(renamed.result_now(read_record(path, TrialResult, advice)))


def read_trials(sweep_dir: Path) -> list[Trial]:
    """Every trial of the sweep by number, with its result where it has one.

    Raises:
        StoreError: there is no such folder; or a file is damaged, of another version, or of another trial.
    """
    if not sweep_dir.is_dir():
        raise StoreError(f"{sweep_dir}: there is no such results folder")
    trials: dict[int, Trial] = {}
    for folder in sorted((sweep_dir / "trials").glob("*/")):
        if (trial := _read_trial(folder)) is None:
            continue
        if (other := trials.get(trial.number)) is not None:
            raise StoreError(
                f"{folder / 'trial.json'}: number {trial.number} is used twice, in "
                f"{other.trial_id}/trial.json too. {another_in_its_place(folder)}"
            )
        trials[trial.number] = trial
    _require_originals(sweep_dir, trials)
    return [trials[number] for number in sorted(trials)]


def _read_trial(folder: Path) -> Trial | None:
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
    written = read_record(path, Trial, another_in_its_place(folder))
    trial = as_read(written, folder)
    if trial.trial_id != folder.name:
        raise StoreError(
            f"{path}: the trial of another folder, {trial.trial_id}. "
            + another_in_its_place(folder, "Give the folder its name again")
        )
    if (key := _key_of(written["job"], path)) not in (None, trial.trial_key):
        raise StoreError(
            f"{path}: job: the job of another trial: its key is {key}, trial_key says {trial.trial_key}. "
            f"{another_in_its_place(folder)}"
        )
    result = read_result(folder)
    if result is not None and result.trial_key != trial.trial_key:
        raise StoreError(
            f"{folder / 'result.json'}: the result of another trial: its trial_key is {result.trial_key}, "
            f"that of trial.json {trial.trial_key}. Put back what was there, or remove "
            f"{_named(folder / 'result.json')}: the sweep with --resume then trains the trial again"
        )
    return trial.with_result(result)


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


def _require_originals(sweep_dir: Path, trials: Mapping[int, Trial]) -> None:
    """Raises StoreError where a replicate or recheck is of a trial that is not there."""
    known = {trial.trial_id for trial in trials.values()}
    for trial in trials.values():
        for name, original in (("replicate_of", trial.replicate_of), ("recheck_of", trial.recheck_of)):
            if original is not None and original not in known:
                folder = sweep_dir / "trials" / trial.trial_id
                raise StoreError(
                    f"{folder / 'trial.json'}: {name}: there is no trial {original}. "
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


def read_record(path: Path, record: type[Record], advice: str) -> dict[str, Any]:
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
        record.model_validate(data, context=FROM_FILE)
    except ValidationError as error:
        raise _damaged(path, error, advice) from error
    return data


def _damaged(path: Path, error: ValidationError, advice: str, prefix: str = "") -> StoreError:
    """The error of a file with a key that is missing or of another type. `prefix`: of the key's path."""
    first = error.errors()[0]
    key = ".".join(part for part in map(str, first["loc"]) if part not in (*NO_KEYS, "numbers"))
    given = "" if first["type"] == "missing" else f" (given: {repr(first['input'])[:60]})"
    return StoreError(f"{path}: damaged: {prefix}{key}: {first['msg']}{given}. {advice}")
