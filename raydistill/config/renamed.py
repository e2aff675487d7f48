"""Names of the version before, understood for one release.

What a person types (options, config paths, objectives, imports) is accepted with a line that says the new name (`RenamedWarning`).
What the version before wrote (trials, tables, networks, reports) is read without a word: `trial_now`, `metric_now`.
"""

from collections.abc import Mapping
from typing import Any

from raydistill.errors import say_renamed

SECTIONS = {"judge": "evaluator"}
"""First part of a config path."""
METRICS = {"kd_judge": "kd_evaluator", "fd_judge": "fd_evaluator"}
"""Last part of a metric's name."""
COLUMNS = ("again",)
"""Old columns of the trials table: `again` is `replicate_of` now, and `recheck_of` in the rows of a recheck."""


def path_now(path: str) -> str:
    """A config path by its present name: `judge.network.width` -> `evaluator.network.width`, with a warning."""
    section, dot, rest = path.partition(".")
    if section not in SECTIONS:
        return path
    say_renamed(path, f"{SECTIONS[section]}{dot}{rest}")
    return f"{SECTIONS[section]}{dot}{rest}"


def metric_now(name: str) -> str:
    """A metric or the column of one by its present name: `val/kd_judge` -> `val/kd_evaluator`. Says nothing."""
    split, slash, quantity = name.rpartition("/")
    return f"{split}{slash}{METRICS.get(quantity, quantity)}"


def objective_now(name: str) -> str:
    """`metric_now` for a name that a person has given: with a warning."""
    now = metric_now(name)
    if now != name:
        say_renamed(name, now)
    return now


def job_now(job: Any) -> Any:
    """A job's JSON by its present names; anything else as it is."""
    if not isinstance(job, Mapping):
        return job
    now = {SECTIONS.get(name, name): value for name, value in job.items()}
    if isinstance(now.get("training"), Mapping) and now["training"].get("recipe") == "judge":
        now["training"] = {**now["training"], "recipe": "evaluator"}
    return now


def trial_now(trial: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a trial.json, by its present names."""
    now = dict(trial)
    if "again" in now:
        now["recheck_of" if now.get("role") == "recheck" else "replicate_of"] = now.pop("again")
    if "picked" in now:
        now["configuration"] = now.pop("picked")
    return now | {"job": job_now(now["job"])} if "job" in now else now


def result_now(result: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a result.json, by its present names."""
    now = dict(result)
    for name in ("metrics", "test"):
        if now.get(name):
            now[name] = {metric_now(metric): value for metric, value in now[name].items()}
    if now.get("evaluations"):
        now["evaluations"] = [
            {metric_now(metric): value for metric, value in point.items()} for point in now["evaluations"]
        ]
    for name in ("context", "test_context"):
        if now.get(name):
            now[name] = {**now[name], "extractor": kind_now(now[name].get("extractor"))}
    return now


def kind_now(name: Any) -> Any:
    """The kind of a stored network, or the extractor beside a score, by its present name; anything else as it is."""
    return SECTIONS.get(name, name) if isinstance(name, str) else name
