"""Names of the version before, understood for one release.

What a person types (options, config paths, objectives, imports) is accepted with a `RenamedWarning` that says
the new name. What the version before wrote (trials, tables, networks, reports) is read without a warning.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from raydistill.errors import say_renamed

Name = TypeVar("Name")

SECTIONS = {"judge": "evaluator"}
"""First part of a config path, old -> new."""
SHORT = {
    "mi": "terms.mi",
    "l1_weight": "base.l1_weight",
    "ssim_weight": "base.ssim_weight",
}
"""Beginning of a path below `student`, short -> in full: how the version before wrote it, and people may go
on writing it."""
METRICS = {"kd_judge": "kd_evaluator", "fd_judge": "fd_evaluator"}
"""Last part of a metric's name, old -> new."""
COLUMNS = ("again",)
"""Old columns of the trials table: `again` is `replicate_of` now, and `recheck_of` in the row of a
recheck."""


def path_now(path: str) -> str:
    """The present name of a config path, with a warning where it differs.

    `judge.network.width` -> `evaluator.network.width`; `student.mi.weight` -> `student.terms.mi.weight`,
    which is short and gives no warning."""
    section, dot, rest = path.partition(".")
    if section not in SECTIONS:
        return in_full(path)
    new_path = f"{SECTIONS[section]}{dot}{rest}"
    say_renamed(path, new_path)
    return new_path


def metric_now(name: str) -> str:
    """The present name of a metric or its column, without a warning: `val/kd_judge` -> `val/kd_evaluator`."""
    split, slash, quantity = name.rpartition("/")
    return f"{split}{slash}{METRICS.get(quantity, quantity)}"


def objective_now(name: str) -> str:
    """`metric_now` for a name that a person typed: with a warning where it differs."""
    new_name = metric_now(name)
    if new_name != name:
        say_renamed(name, new_name)
    return new_name


def in_full(path: str) -> str:
    """A config path without abbreviation: `student.mi.weight` -> `student.terms.mi.weight`."""
    section, _, rest = path.partition(".")
    name, dot, below = rest.partition(".")
    return f"student.{SHORT[name]}{dot}{below}" if section == "student" and name in SHORT else path


def student_now(training: object) -> object:
    """The JSON of a student's training as it is written now; anything else is returned as it is."""
    if not isinstance(training, Mapping) or not SHORT.keys() & training.keys():
        return training
    now = {name: value for name, value in training.items() if name not in SHORT}
    if "mi" in training:
        now["terms"] = {**training.get("terms", {}), "mi": training["mi"]}
    weights = {name: training[name] for name in ("l1_weight", "ssim_weight") if name in training}
    if weights:
        now["base"] = {"kind": "plain", **training.get("base", {}), **weights}
    return now


def params_now(params: Mapping[str, Any]) -> dict[str, Any]:
    """Config path -> value, of a trial, with present paths."""
    return {in_full(path): value for path, value in params.items()}


def job_now(job: object) -> object:
    """A job's JSON with present names; anything that is no dictionary is returned as it is."""
    if not isinstance(job, Mapping):
        return job
    now = {SECTIONS.get(name, name): value for name, value in job.items()}
    if isinstance(training := now.get("training"), Mapping):
        if training.get("recipe") == "judge":
            now["training"] = {**training, "recipe": "evaluator"}
        if training.get("recipe") == "distill":
            now["training"] = student_now(training)
        if training.get("budget_nimg") == 0:  # a given teacher was a training of no images
            now["training"] = {**training, "budget_nimg": training.get("report_every_nimg"), "start": None}
            now["teacher"] = training.get("start")
    return now


def trial_now(trial: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a trial.json with present names."""
    now = dict(trial)
    if "again" in now:
        now["recheck_of" if now.get("role") == "recheck" else "replicate_of"] = now.pop("again")
    if "picked" in now:
        now["configuration"] = now.pop("picked")
    for name in ("configuration", "params"):
        if isinstance(now.get(name), Mapping):
            now[name] = params_now(now[name])
    return now | {"job": job_now(now["job"])} if "job" in now else now


def result_now(result: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a result.json with present names."""
    now = dict(result)
    for name in ("metrics", "test"):
        if now.get(name):
            now[name] = {metric_now(metric): value for metric, value in now[name].items()}
    if now.get("evaluations"):
        now["evaluations"] = [
            {metric_now(metric): value for metric, value in point.items()} for point in now["evaluations"]
        ]
    for name in ("context", "test_context"):
        if now.get(name) and "extractor" in now[name]:
            now[name] = {**now[name], "extractor": kind_now(now[name]["extractor"])}
    return now


def kind_now(name: Name) -> Name | str:
    """The present name of a stored network's kind or of a score's extractor; anything else as it is."""
    return SECTIONS.get(name, name) if isinstance(name, str) else name
