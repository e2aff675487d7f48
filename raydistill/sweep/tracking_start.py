"""What MLflow gets to know of a sweep before its first trial: where it comes from, its options and data."""

import getpass
from collections.abc import Mapping
from pathlib import Path

from raydistill.config.sweep_options import SweepOptions
from raydistill.planning.plan import Plan
from raydistill.sweep import tracking_record, tracking_text
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.tracking_facts import EvaluatorFacts, SplitFacts
from raydistill.sweep.tracking_record import TrackingRecord
from raydistill.trials.run_job import git_revision
from raydistill.trials.stages import Stages

_NO_PARAMS = {"resume", "plan", "mlflow", "experiment", "name", "store", "system_metrics", "as_json"}
"""Options that say nothing about the numbers."""


def start(plan: Plan, folder: Path, tracker: Tracker, tags: Mapping[str, str]) -> None:
    """Starts, or goes on with, the run in MLflow of the sweep in `folder`. `tags`: further ones of it."""
    options = plan.options
    facts = {
        "raydistill.space": options.space,
        "raydistill.definition": plan.definition,
        "raydistill.data": plan.data.digest,
        "raydistill.trials": str(options.trials),
        **_origin(),
    }
    before = tracking_record.read(folder) if (folder / tracking_record.FILE).exists() else None
    start = tracking_text.at_start(options.space, plan.objectives, options.trials, plan.info.split_rule)
    record = TrackingRecord(
        uri=options.mlflow and tracking_record.without_user(options.mlflow),
        experiment=options.experiment,
        tags=facts | dict(tags),
        params=_params(options) | {"preset": plan.space.preset},
        objectives=tuple(plan.objectives),
        splits=_splits(plan),
        evaluator=before and before.evaluator,
        description=start,
    )
    tracking_record.write(folder, record)
    tracker.start_sweep(folder, tracking_record.facts(folder, record))


def add_evaluator(stages: Stages, folder: Path, tracker: Tracker) -> None:
    """Gives MLflow the evaluator of the sweep in `folder`, which has been trained by now."""
    result = stages.evaluator_result
    evaluator = EvaluatorFacts(
        digest=stages.evaluator.digest,
        curves=tuple((each.nimg, _named(each.numbers)) for each in result.evaluations),
        last=_named({name: number for name, number in result.metrics.items() if name.startswith("val/")}),
        wall_sec=result.wall_sec,
    )
    record = tracking_record.read(folder).model_copy(update={"evaluator": evaluator})
    tracking_record.write(folder, record)
    tracker.know(tracking_record.facts(folder, record))


def _named(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers that MLflow gets: those of a group."""
    return {name: number for name, number in numbers.items() if "/" in name}


def _origin() -> dict[str, str]:
    """Who runs which code, as MLflow's own tags."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for the user
        user = ""
    origin = {
        "mlflow.user": user,
        "mlflow.source.name": "raydistill sweep",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git_revision(),
    }
    return {name: value for name, value in origin.items() if value}


def _params(options: SweepOptions) -> dict[str, str | int | float | bool]:
    """The options that were given or have a default, by name."""
    given = options.model_dump(mode="json", exclude=_NO_PARAMS, exclude_none=True)
    return {
        name: value if isinstance(value, str | int | float | bool) else ", ".join(map(str, value))
        for name, value in given.items()
        if value not in ([], (), {})
    }


def _splits(plan: Plan) -> tuple[SplitFacts, ...]:
    """Train, val and test."""
    info, kind = plan.info, plan.experiment.data.kind
    return tuple(
        SplitFacts(
            split=split,
            name=f"{kind} {split}",
            digest=plan.data.digest,
            count=info.counts[split],
            size=(info.height, info.width),
            rule=info.split_rule,
        )
        for split in ("train", "val", "test")
    )
