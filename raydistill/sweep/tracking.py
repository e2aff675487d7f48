"""The runs of one sweep in MLflow: a parent, and a child for each trial.

Whatever is called here waits for the tracking store, and raises StoreError where that fails. `sweep.tracker`
calls it on a thread of its own, and again until all is sent.
"""

import json
import logging
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from raydistill.errors import StoreError
from raydistill.records import measured
from raydistill.records.schema import MEASURED
from raydistill.records.trials import Evaluation, Trial, TrialResult
from raydistill.sweep import tracking_store

_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""Status of a trial -> status of its run."""
_PARENT = "mlflow.parentRunId"
_VIEW = "raydistill"
"""Name of the view `_FRONT_FIRST`."""
_COLUMNS = (
    "front/member",
    "final/miou",
    "final/kd_evaluator",
    "cost/macs",
    "cost/params",
    "test/miou",
    "front/hv_contribution",
    "time/wall_sec",
)
_FRONT_FIRST = {
    "searchFilter": "tags.`raydistill.role` != 'sweep'",
    "orderByKey": "metrics.`front/hv_contribution`",
    "orderByAsc": False,
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in _COLUMNS),
        "params.`widths`",
        "params.`student.terms.mi.weight`",
    ],
}
"""A view of the run table in MLflow's UI: students, the front first, with the columns that matter.

`SweepRuns.table_link` opens it.
"""


class SweepFacts(NamedTuple):
    """What the parent run shows of a sweep from its start."""

    name: str
    """What MLflow shows as the run's name."""
    sweep_id: str
    tags: Mapping[str, str]
    """What a resume may change."""
    params: Mapping[str, Any]
    """What stays the same; MLflow refuses a change."""


@dataclass
class SentTrial:
    """A trial whose run MLflow shall have, with all that is known of it."""

    trial: Trial
    """With its result, as soon as there is one."""
    folder: Path
    reports: list[tuple[int, Evaluation]] = field(default_factory=list)
    """Evaluations while it ran, each with its time in milliseconds since 1970."""
    front_row: pd.Series | None = None
    """Its row of the trials table at the end of the sweep; None: the sweep has not ended."""

    def is_behind(self, runs: "SweepRuns") -> bool:
        """Whether MLflow lacks something of it."""
        trial_id = self.trial.trial_id
        if trial_id not in runs.ended:
            reported = runs.reported.get(trial_id)
            if reported is None or self.trial.result is not None:
                return True
            if any(evaluation.nimg not in reported for _, evaluation in self.reports):
                return True
        return self.front_row is not None and trial_id not in runs.with_front


def require_tracking_server(uri: str | None, experiment: str, artifacts: Path) -> None:
    """Opens the experiment, or makes it, where `uri` is the address of a server.

    Raises NotATrackingServer where that will not change by itself. A server that does not answer may do so
    later: nothing is raised then.
    """
    if uri is not None and uri.startswith("http"):
        with tracking_store.answers_soon():
            try:
                open_experiment(uri, experiment, artifacts)
            except tracking_store.NotATrackingServer:
                raise
            except StoreError:
                pass  # `sweep.tracker` says it, and tries again


def open_experiment(uri: str, experiment: str, artifacts: Path) -> tuple[MlflowClient, str]:
    """A client of the tracking store, and the id of the experiment, which is made where it is missing.

    Args:
        uri: tracking URI of a server or a database.
        experiment: its name.
        artifacts: folder of its artifacts where the store is an sqlite file.

    Raises:
        StoreError: the tracking store cannot be used, or the experiment was deleted there.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if (file := tracking_store.sqlite_file(uri)) is not None:
        tracking_store.make_file(file, artifacts)
        tracking_store.forget_connections(uri)
    try:
        client = MlflowClient(uri)
        if (experiment_id := tracking_store.find_experiment(client, experiment)) is None:
            location = None if file is None else artifacts.as_uri()
            experiment_id = str(client.create_experiment(experiment, artifact_location=location))
        for tag, value in (
            ("mlflow.experimentKind", "custom_model_development"),
            (f"mlflow.sharedViewState.{_VIEW}", json.dumps(_FRONT_FIRST)),
        ):
            client.set_experiment_tag(experiment_id, tag, value)
    except tracking_store.ERRORS as error:
        raise tracking_store.unusable(uri, error) from error
    return client, experiment_id


class SweepRuns:
    """One sweep in an experiment of a tracking store. What has failed can be called again."""

    def __init__(self, uri: str, experiment: str, artifacts: Path, facts: SweepFacts):
        """Opens the experiment, or makes it, and starts the parent run, or goes on with it.

        Args:
            uri: tracking URI of a server or a database.
            experiment: name of the experiment.
            artifacts: folder of its artifacts where the store is an sqlite file.
            facts: of the sweep; the parent run is found again by its id.
        """
        self.client, self.experiment_id = open_experiment(uri, experiment, artifacts)
        self.uri, self.identity = uri, tracking_store.identity(uri)
        self.run_ids: dict[str, str] = {}
        """Trial id -> id of its child run."""
        self.ended: set[str] = set()
        """Ids of the trials whose runs have ended with a result."""
        self.with_front: set[str] = set()
        """Ids of the trials whose runs say whether they are on the front."""
        self.reported: dict[str, set[int]] = {}
        """Trial id -> the images seen at which its run has an evaluation."""
        self.parent_id = self._start(facts)

    def _start(self, facts: SweepFacts) -> str:
        """Starts the parent run, or goes on with the one that has the sweep's id, and finds its children."""
        same_sweep = f"tags.`raydistill.sweep_id` = '{facts.sweep_id}'"
        if earlier := self.client.search_runs([self.experiment_id], same_sweep, max_results=1):
            parent_id = earlier[0].info.run_id
        else:
            tags = {"raydistill.role": "sweep", "raydistill.sweep_id": facts.sweep_id, **facts.tags}
            parent_id = self.client.create_run(self.experiment_id, run_name=facts.name, tags=tags).info.run_id
        self._log(parent_id, params=facts.params, tags=facts.tags)
        self.client.update_run(parent_id, status="RUNNING")
        for run in self._children(parent_id):
            trial_id = run.data.tags["raydistill.trial_id"]
            self.run_ids[trial_id] = run.info.run_id
            if "raydistill.status" in run.data.tags:
                self.ended.add(trial_id)
        return str(parent_id)

    def is_replaced(self) -> bool:
        """Whether the tracking store is a file that was removed, or another one by now."""
        return tracking_store.identity(self.uri) != self.identity

    def send(self, sent: SentTrial) -> None:
        """Brings the run of a trial to what is known of it. Nothing is sent twice."""
        trial, trial_id = sent.trial, sent.trial.trial_id
        if trial_id not in self.ended:
            self._start_trial(trial)
            for time_ms, evaluation in list(sent.reports):
                self._report(trial_id, evaluation, time_ms)
            if trial.result is not None:
                self._end_trial(trial, trial.result, sent.folder)
        if sent.front_row is not None and trial_id not in self.with_front:
            self._send_front(sent.front_row, trial)
            self.with_front.add(trial_id)

    def _start_trial(self, trial: Trial) -> None:
        """Starts the child run of a trial, or goes on with it after an interrupt.

        It gets what is known before training: params, widths, costs, digests and the resolved config.
        """
        trial_id = trial.trial_id
        if trial_id in self.reported:
            return
        tags = {
            _PARENT: self.parent_id,
            "raydistill.trial_id": trial_id,
            "raydistill.trial_key": trial.trial_key,
            "raydistill.role": trial.role,
            **{f"raydistill.digest.{name}": str(value) for name, value in trial.digests.items()},
            "raydistill.macs_convention": trial.macs_convention,
        }
        if trial.lineage is not None:
            tags["raydistill.retrain_of"] = str(trial.lineage["trial_id"])
        if trial_id not in self.run_ids:
            name = f"{trial_id} {trial.label}"
            run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
            self.run_ids[trial_id] = run.info.run_id
        run_id = self.run_ids[trial_id]
        self.client.update_run(run_id, status="RUNNING")
        costs = {
            f"cost/{name}": value for name, value in trial.costs.items() if isinstance(value, int | float)
        }
        params = trial.params | {"widths": trial.widths, "seed": trial.seed}
        self._log(run_id, metrics=costs, params=params)
        self.client.log_dict(run_id, trial.job_json, "config.json")
        self.reported[trial_id] = self._steps(run_id)

    def _report(self, trial_id: str, evaluation: Evaluation, time_ms: int | None = None) -> None:
        """Writes the numbers of one evaluation, at the step `nimg`: the images seen.

        `time_ms`: when it was reported, in milliseconds since 1970; None: now.
        """
        nimg = evaluation.nimg
        if nimg not in self.reported[trial_id]:
            measured = {name: value for name, value in evaluation.numbers.items() if "/" in name}
            self._log(self.run_ids[trial_id], metrics=measured, step=nimg, time_ms=time_ms)
            self.reported[trial_id].add(nimg)

    def _end_trial(self, trial: Trial, result: TrialResult, folder: Path) -> None:
        """Ends the run of a trial that has a result, with its final numbers, sample grid and status.

        Evaluations that were never reported are written, too. `folder`: the trial's.
        """
        trial_id = trial.trial_id
        run_id = self.run_ids[trial_id]
        for evaluation in result.evaluations:
            self._report(trial_id, evaluation)
        scores = [(name, value) for name, value in result.metrics.items() if name.startswith("val/")]
        finals = {name.replace("val/", "final/"): value for name, value in scores}
        times = {"time/wall_sec": result.wall_sec, "time/gpu_hours": result.gpu_sec / 3600}
        tags = {"raydistill.git_revision": result.git_revision}
        if result.reason:
            tags["raydistill.reason"] = result.reason[:4000]
        context = {f"raydistill.val.{name}": str(value) for name, value in result.context.items()}
        self._log(run_id, metrics=finals | times, tags=tags | context)
        if (folder / "samples.png").exists():
            self.client.log_artifact(run_id, str(folder / "samples.png"))
        self.client.set_terminated(run_id, _STATUS[result.status])
        # This comes last, because it says that nothing of this trial is missing here.
        self.client.set_tag(run_id, "raydistill.status", result.status)
        self.ended.add(trial_id)

    def _send_front(self, row: pd.Series, trial: Trial) -> None:
        """Writes whether a trial is on the front, for the UI to sort by, and test scores with their context.

        `row`: the trial's row of the trials table. Only competitors for the front have a rank.
        """
        metrics = {"front/member": float(row["front.member"])}
        if not pd.isna(row["front.rank"]):
            metrics |= {f"front/{name}": float(row[f"front.{name}"]) for name in ("rank", "hv_contribution")}
        if not pd.isna(row["front.probability"]):
            metrics |= {f"front/{name}": float(row[f"front.{name}"]) for name in ("probability", "seeds")}
        context = (trial.result and trial.result.test_context) or {}
        scores = (trial.result and trial.result.test) or {}
        tags = {f"raydistill.test.{name}": str(value) for name, value in context.items()}
        self._log(self.run_ids[trial.trial_id], metrics=metrics | scores, tags=tags)
        self._send_measured(row, self.run_ids[trial.trial_id])

    def _send_measured(self, row: pd.Series, run_id: str) -> None:
        """Writes what was measured of a trial after its sweep, each with when and how; twice is as once.

        `row`: the trial's row of the trials table.
        """
        for name in measured.names_in(row.index):
            column = f"{MEASURED}{name}"
            if not (when := str(row[f"{column}.when"])):
                continue
            tags = {
                f"raydistill.measured.{name}.{part}": str(row[f"{column}.{part}"])[:4000]
                for part in ("when", "how", "conditions")
            }
            parts = {"": "", ".low": "/low", ".high": "/high"}
            numbers = {f"measured/{name}{end}": row.get(f"{column}{part}") for part, end in parts.items()}
            present = {key: float(number) for key, number in numbers.items() if not pd.isna(number)}
            self._log(run_id, metrics=present, tags=tags, time_ms=measured.milliseconds(when))

    def end(self, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """Ends the parent run, with the sweep's own numbers and files."""
        self._log(self.parent_id, metrics=metrics)
        for path in artifacts:
            self.client.log_artifact(self.parent_id, str(path))
        self.client.set_terminated(self.parent_id, "FINISHED")

    def mark_killed(self) -> None:
        """Marks runs that have not ended as KILLED, until a resume goes on with them; none stays RUNNING."""
        for run in [*self._children(self.parent_id), self.client.get_run(self.parent_id)]:
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")

    def table_link(self, server: str) -> str:
        """Address of the run table in the UI at `server`, in the view `_FRONT_FIRST`."""
        return f"{server}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={_VIEW}"

    def compare_link(self, server: str, trial_ids: Sequence[str]) -> str:
        """Address of the comparison of these trials in the UI at `server`."""
        runs = urllib.parse.quote(json.dumps([self.run_ids[trial_id] for trial_id in trial_ids]))
        experiments = urllib.parse.quote(json.dumps([self.experiment_id]))
        return f"{server}/#/compare-runs?runs={runs}&experiments={experiments}"

    def _steps(self, run_id: str) -> set[int]:
        """The numbers of images seen at which this run has an evaluation."""
        metrics = self.client.get_run(run_id).data.metrics
        reported = sorted(name for name in metrics if name.startswith(("train/", "val/")))
        if not reported:
            return set()
        return {metric.step for metric in self.client.get_metric_history(run_id, reported[0])}

    def _children(self, parent_id: str) -> list[Any]:
        """The runs of the sweep's trials, as MLflow has them."""
        runs: list[Any] = []
        token = None
        while token != "":
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`{_PARENT}` = '{parent_id}'",
                max_results=1000,
                page_token=token,
            )
            runs += list(page)
            token = page.token or ""
        return runs

    def _log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
        time_ms: int | None = None,
    ) -> None:
        when = int(time.time() * 1000) if time_ms is None else time_ms
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), when, step) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )
