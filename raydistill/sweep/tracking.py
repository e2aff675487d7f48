"""MLflow: one parent run for each sweep, one child for each trial.

It mirrors the ledger, so it can be brought up to date at any time.
"""

import contextlib
import functools
import http.client
import json
import logging
import os
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from raydistill.errors import StoreError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault(
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"
)  # a dead server is noticed in seconds, not minutes

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

P = ParamSpec("P")
R = TypeVar("R")
_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""Status of a trial -> status of its run."""
_PARENT = "mlflow.parentRunId"
_ANSWER_SEC = 5.0
"""Seconds that a tracking server may take to answer."""
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
        "params.`student.mi.weight`",
    ],
}
"""A view of the run table in MLflow's UI: students, the front first, with the columns that matter.

`Tracker.table_link` opens it.
"""


def _named(method: Callable[P, R]) -> Callable[P, R]:
    """The method; an error of the tracking store becomes a StoreError that names the store."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = str(error).splitlines()[0]
            message = f"the tracking store failed: {reason}; results are kept, go on with --resume"
            raise StoreError(message) from error

    return wrapped


def default_uri(store: Path) -> str:
    """Tracking URI of a results folder where none is given: an sqlite file in it."""
    return f"sqlite:///{store / 'mlflow.db'}"


def require_reachable(uri: str | None) -> None:
    """Raises StoreError where no server answers at an http address within seconds.

    MLflow itself would try again for minutes. None, or another kind of URI: nothing is asked.
    """
    if uri is None or not uri.startswith(("http:", "https:")):
        return
    try:
        urllib.request.urlopen(uri, timeout=_ANSWER_SEC).close()
    except urllib.error.HTTPError:
        pass  # it answers; whether it is a tracking server is told by MLflow's first request
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise StoreError(
            f"--mlflow {uri}: the tracking server cannot be reached ({why}); "
            "start it, correct the address, or leave --mlflow out to track in the store"
        ) from error


def probe(uri: str) -> None:
    """Asks a tracking store without writing to it. Raises StoreError where it cannot be used.

    `uri`: its tracking URI.
    """
    require_reachable(uri)
    try:
        if uri.startswith("sqlite:///"):
            path = Path(uri.removeprefix("sqlite:///"))
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise PermissionError(f"{path} cannot be written")
            if path.exists():
                with contextlib.closing(sqlite3.connect(path, timeout=_ANSWER_SEC)) as connection:
                    connection.execute("BEGIN IMMEDIATE")  # takes the lock of a writer and gives it back
                    connection.rollback()
        else:
            MlflowClient(uri).search_experiments(max_results=1)
    except (MlflowException, sqlite3.Error, OSError) as error:
        raise StoreError(
            f"--mlflow {uri}: the tracking store cannot be used: {str(error).splitlines()[0]}"
        ) from error


class Tracker:
    """Writes one sweep to an experiment of a tracking store. Its methods raise StoreError where that fails.

    The driver alone has a tracker, so that a fresh store is initialised once.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path):
        """Opens the experiment, or makes it.

        Args:
            uri: tracking URI of a server or an sqlite file.
            experiment: name of the experiment.
            artifacts: folder of its artifacts where the store is an sqlite file.
        """
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.uri = uri
        try:
            mlflow.set_tracking_uri(uri)
            self.client = MlflowClient(uri)
            if existing := self.client.get_experiment_by_name(experiment):
                self.experiment_id = existing.experiment_id
            else:
                location = artifacts.as_uri() if uri.startswith("sqlite:") else None
                self.experiment_id = self.client.create_experiment(experiment, artifact_location=location)
            for tag, value in (
                ("mlflow.experimentKind", "custom_model_development"),
                (f"mlflow.sharedViewState.{_VIEW}", json.dumps(_FRONT_FIRST)),
            ):
                self.client.set_experiment_tag(self.experiment_id, tag, value)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise StoreError(
                f"--mlflow {uri}: the tracking store cannot be used: {str(error).splitlines()[0]}"
            ) from error
        self.parent_id = ""
        self.run_ids: dict[str, str] = {}
        """Trial id -> id of its child run."""
        self.ended: set[str] = set()
        """Ids of the trials whose runs have ended with a result."""

    @_named
    def start_sweep(
        self, name: str, sweep_id: str, tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> None:
        """Starts the parent run, or goes on with the one that has the sweep's id.

        Args:
            name: what MLflow shows as the run's name.
            tags: what a resume may change.
            params: what stays the same; MLflow refuses a change.
        """
        same_sweep = f"tags.`raydistill.sweep_id` = '{sweep_id}'"
        if earlier := self.client.search_runs([self.experiment_id], same_sweep, max_results=1):
            self.parent_id = earlier[0].info.run_id
        else:
            tags = {"raydistill.role": "sweep", "raydistill.sweep_id": sweep_id, **tags}
            self.parent_id = self.client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id
        self._log(self.parent_id, params=params, tags=tags)
        self.client.update_run(self.parent_id, status="RUNNING")
        for run in self._children():
            trial_id = run.data.tags["raydistill.trial_id"]
            self.run_ids[trial_id] = run.info.run_id
            if "raydistill.status" in run.data.tags:
                self.ended.add(trial_id)

    @_named
    def start_trial(self, trial: Mapping[str, Any]) -> None:
        """Starts the child run of a trial, or goes on with it after an interrupt.

        It gets what is known before training: params, widths, costs, digests and the resolved config.
        """
        tags = {
            _PARENT: self.parent_id,
            "raydistill.trial_id": trial["trial_id"],
            "raydistill.trial_key": trial["trial_key"],
            "raydistill.role": trial["role"],
            **{f"raydistill.digest.{name}": str(value) for name, value in trial["digests"].items()},
            "raydistill.macs_convention": trial["costs"]["macs_convention"],
        }
        trial_id = trial["trial_id"]
        if trial_id not in self.run_ids:
            name = f"{trial_id} {trial['label']}"
            run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
            self.run_ids[trial_id] = run.info.run_id
        run_id = self.run_ids[trial_id]
        self.client.update_run(run_id, status="RUNNING")
        costs = {f"cost/{name}": value for name, value in trial["costs"].items() if name != "macs_convention"}
        params = trial["params"] | {"widths": trial["widths"], "seed": trial["seed"]}
        self._log(run_id, metrics=costs, params=params)
        self.client.log_dict(run_id, trial["job"], "config.json")

    @_named
    def log_report(self, trial_id: str, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of one evaluation, at the step `nimg`: the images seen."""
        measured = {name: value for name, value in numbers.items() if "/" in name}
        self._log(self.run_ids[trial_id], metrics=measured, step=int(numbers["nimg"]))

    @_named
    def end_trial(self, trial: Mapping[str, Any], trial_dir: Path) -> None:
        """Ends the run of a trial that has a result, with its final numbers, sample grid and status.

        Evaluations that were never reported are written, too. `trial_dir`: the trial's folder.
        """
        trial_id, result = trial["trial_id"], trial["result"]
        run_id = self.run_ids[trial_id]
        reported = self._steps(run_id)
        for numbers in result["evaluations"]:
            if numbers["nimg"] not in reported:
                self.log_report(trial_id, numbers)
        scores = [(name, value) for name, value in result["metrics"].items() if name.startswith("val/")]
        finals = {name.replace("val/", "final/"): value for name, value in scores}
        times = {"time/wall_sec": result["wall_sec"], "time/gpu_hours": result["gpu_sec"] / 3600}
        tags = {"raydistill.git_revision": result["git_revision"]}
        if result["reason"]:
            tags["raydistill.reason"] = result["reason"][:4000]
        context = {f"raydistill.val.{name}": str(value) for name, value in result["context"].items()}
        self._log(run_id, metrics=finals | times, tags=tags | context)
        if (trial_dir / "samples.png").exists():
            self.client.log_artifact(run_id, str(trial_dir / "samples.png"))
        self.client.set_terminated(run_id, _STATUS[result["status"]])
        # This comes last, because it says that nothing of this trial is missing here.
        self.client.set_tag(run_id, "raydistill.status", result["status"])

    @_named
    def log_front(self, row: pd.Series, trial: Mapping[str, Any]) -> None:
        """Writes whether a trial is on the front, for the UI to sort by, and test scores with their context.

        `row`: the trial's row of the trials table. Only competitors for the front have a rank.
        """
        metrics = {"front/member": float(row["front.member"])}
        if not pd.isna(row["front.rank"]):
            metrics |= {f"front/{name}": float(row[f"front.{name}"]) for name in ("rank", "hv_contribution")}
        if not pd.isna(row["front.probability"]):
            metrics |= {f"front/{name}": float(row[f"front.{name}"]) for name in ("probability", "seeds")}
        result = trial["result"] or {}
        context = result.get("test_context", {})
        tags = {f"raydistill.test.{name}": str(value) for name, value in context.items()}
        self._log(self.run_ids[trial["trial_id"]], metrics=metrics | result.get("test", {}), tags=tags)

    @_named
    def end_sweep(self, metrics: Mapping[str, float], artifacts: list[Path]) -> None:
        """Ends the parent run, with the sweep's own numbers and files."""
        self._log(self.parent_id, metrics=metrics)
        for path in artifacts:
            self.client.log_artifact(self.parent_id, str(path))
        self.client.set_terminated(self.parent_id, "FINISHED")

    def table_link(self, server: str) -> str:
        """Address of the run table in the UI at `server`, in the view `_FRONT_FIRST`."""
        return f"{server}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={_VIEW}"

    def compare_link(self, server: str, trial_ids: Sequence[str]) -> str:
        """Address of the comparison of these trials in the UI at `server`."""
        runs = urllib.parse.quote(json.dumps([self.run_ids[trial_id] for trial_id in trial_ids]))
        experiments = urllib.parse.quote(json.dumps([self.experiment_id]))
        return f"{server}/#/compare-runs?runs={runs}&experiments={experiments}"

    @_named
    def close(self) -> None:
        """Marks runs that have not ended as KILLED, until a resume goes on with them; none stays RUNNING."""
        if not self.parent_id:
            return
        parent = self.client.get_run(self.parent_id)
        for run in [*self._children(), parent]:
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _steps(self, run_id: str) -> set[int]:
        """The numbers of images seen at which this run has an evaluation."""
        metrics = self.client.get_run(run_id).data.metrics
        reported = sorted(name for name in metrics if name.startswith(("train/", "val/")))
        if not reported:
            return set()
        return {metric.step for metric in self.client.get_metric_history(run_id, reported[0])}

    def _children(self) -> list[Any]:
        """The runs of the sweep's trials, as MLflow has them."""
        runs: list[Any] = []
        token = None
        while token != "":
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`{_PARENT}` = '{self.parent_id}'",
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
    ) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), now, step) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )
