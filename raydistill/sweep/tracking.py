"""MLflow: one parent run a sweep, one child a trial. A mirror of the ledger: it can be brought up to date at any time."""

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
)  # a dead server is told of in seconds, not minutes

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

P = ParamSpec("P")
R = TypeVar("R")
_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
_PARENT = "mlflow.parentRunId"
_ANSWER_SEC = 5.0
_VIEW = "raydistill"
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
"""A view of the run table for the UI: students, the front first, the columns that matter. Opened by `Tracker.table_link`."""


def _named(method: Callable[P, R]) -> Callable[P, R]:
    """Trouble with the tracking store becomes a StoreError that names it."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise StoreError(
                f"the tracking store failed: {str(error).splitlines()[0]}; results are kept, go on with --resume"
            ) from error

    return wrapped


def default_uri(store: Path) -> str:
    return f"sqlite:///{store / 'mlflow.db'}"


def require_reachable(uri: str | None) -> None:
    """Raises StoreError where no server answers at an http address within seconds; MLflow itself would try again for minutes."""
    if uri is None or not uri.startswith(("http:", "https:")):
        return
    try:
        urllib.request.urlopen(uri, timeout=_ANSWER_SEC).close()
    except urllib.error.HTTPError:
        pass  # it answers; whether it is a tracking server is told by MLflow's first request
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise StoreError(
            f"--mlflow {uri}: the tracking server cannot be reached ({why}); start it, correct the address, or leave --mlflow out "
            "to track in the store"
        ) from error


def probe(uri: str) -> None:
    """Asks a tracking store without writing to it. Raises StoreError where it cannot be used."""
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
    """Writes to one experiment of a tracking server. Only the driver has one, so a fresh store is initialised once."""

    def __init__(self, uri: str, experiment: str, artifacts: Path):
        """Raises StoreError where the tracking store cannot be reached or written."""
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.uri = uri
        try:
            mlflow.set_tracking_uri(uri)
            self.client = MlflowClient(uri)
            found = self.client.get_experiment_by_name(experiment)
            location = artifacts.as_uri() if uri.startswith("sqlite:") else None
            self.experiment_id = (
                found.experiment_id
                if found
                else self.client.create_experiment(experiment, artifact_location=location)
            )
            self.client.set_experiment_tag(
                self.experiment_id, "mlflow.experimentKind", "custom_model_development"
            )
            self.client.set_experiment_tag(
                self.experiment_id, f"mlflow.sharedViewState.{_VIEW}", json.dumps(_FRONT_FIRST)
            )
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise StoreError(
                f"--mlflow {uri}: the tracking store cannot be used: {str(error).splitlines()[0]}"
            ) from error
        self.parent_id = ""
        self.run_ids: dict[str, str] = {}
        """trial_id -> child run"""
        self.ended: set[str] = set()
        """The trials whose runs have ended with a result."""

    @_named
    def start_sweep(
        self, name: str, sweep_id: str, tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> None:
        """The parent run: the one that carries the sweep's id, or a new one. `tags`: what a resume may change; MLflow keeps params."""
        found = self.client.search_runs(
            [self.experiment_id], f"tags.`raydistill.sweep_id` = '{sweep_id}'", max_results=1
        )
        if found:
            self.parent_id = found[0].info.run_id
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
        """A child run with what is known before training: params, widths, costs, digests, resolved config. An interrupted one goes on."""
        tags = {
            _PARENT: self.parent_id,
            "raydistill.trial_id": trial["trial_id"],
            "raydistill.trial_key": trial["trial_key"],
            "raydistill.role": trial["role"],
            **{f"raydistill.digest.{name}": str(value) for name, value in trial["digests"].items()},
            "raydistill.macs_convention": trial["costs"]["macs_convention"],
        }
        name = f"{trial['trial_id']} {trial['label']}"
        if trial["trial_id"] not in self.run_ids:
            self.run_ids[trial["trial_id"]] = self.client.create_run(
                self.experiment_id, run_name=name, tags=tags
            ).info.run_id
        run_id = self.run_ids[trial["trial_id"]]
        self.client.update_run(run_id, status="RUNNING")
        costs = {f"cost/{name}": value for name, value in trial["costs"].items() if name != "macs_convention"}
        self._log(
            run_id, metrics=costs, params=trial["params"] | {"widths": trial["widths"], "seed": trial["seed"]}
        )
        self.client.log_dict(run_id, trial["job"], "config.json")

    @_named
    def log_report(self, trial_id: str, numbers: Mapping[str, float]) -> None:
        """Numbers of one evaluation, at step nimg."""
        measured = {name: value for name, value in numbers.items() if "/" in name}
        self._log(self.run_ids[trial_id], metrics=measured, step=int(numbers["nimg"]))

    @_named
    def end_trial(self, trial: Mapping[str, Any], trial_dir: Path) -> None:
        """Final numbers, sample grid and status of a trial with a result; evaluations that were never reported."""
        trial_id, result = trial["trial_id"], trial["result"]
        run_id = self.run_ids[trial_id]
        reported = self._steps(run_id)
        for numbers in result["evaluations"]:
            if numbers["nimg"] not in reported:
                self.log_report(trial_id, numbers)
        finals = {
            name.replace("val/", "final/"): value
            for name, value in result["metrics"].items()
            if name.startswith("val/")
        }
        times = {"time/wall_sec": result["wall_sec"], "time/gpu_hours": result["gpu_sec"] / 3600}
        tags = {"raydistill.git_revision": result["git_revision"]}
        if result["reason"]:
            tags["raydistill.reason"] = result["reason"][:4000]
        context = {f"raydistill.val.{name}": str(value) for name, value in result["context"].items()}
        self._log(run_id, metrics=finals | times, tags=tags | context)
        if (trial_dir / "samples.png").exists():
            self.client.log_artifact(run_id, str(trial_dir / "samples.png"))
        self.client.set_terminated(run_id, _STATUS[result["status"]])
        self.client.set_tag(
            run_id, "raydistill.status", result["status"]
        )  # last: it says that nothing of this trial is missing here

    @_named
    def log_front(self, row: pd.Series, trial: Mapping[str, Any]) -> None:
        """Front membership, so that sorting a column shows the frontier; test scores with their context.

        `row`: the trial's row of the result table. Only competitors for the front have a rank.
        """
        metrics = {"front/member": float(row["front.member"])}
        if not pd.isna(row["front.rank"]):
            metrics |= {
                "front/rank": float(row["front.rank"]),
                "front/hv_contribution": float(row["front.hv_contribution"]),
            }
        if not pd.isna(row["front.probability"]):
            metrics |= {
                "front/probability": float(row["front.probability"]),
                "front/seeds": float(row["front.seeds"]),
            }
        result = trial["result"] or {}
        tags = {
            f"raydistill.test.{name}": str(value) for name, value in result.get("test_context", {}).items()
        }
        self._log(self.run_ids[trial["trial_id"]], metrics=metrics | result.get("test", {}), tags=tags)

    @_named
    def end_sweep(self, metrics: Mapping[str, float], artifacts: list[Path]) -> None:
        self._log(self.parent_id, metrics=metrics)
        for path in artifacts:
            self.client.log_artifact(self.parent_id, str(path))
        self.client.set_terminated(self.parent_id, "FINISHED")

    def table_link(self, server: str) -> str:
        """The page of the UI at `server` with the run table as `_FRONT_FIRST` says."""
        return f"{server}/#/experiments/{self.experiment_id}/runs?viewStateShareKey={_VIEW}"

    def compare_link(self, server: str, trial_ids: Sequence[str]) -> str:
        """The UI's comparison of these trials."""
        runs = urllib.parse.quote(json.dumps([self.run_ids[trial_id] for trial_id in trial_ids]))
        return f"{server}/#/compare-runs?runs={runs}&experiments={urllib.parse.quote(json.dumps([self.experiment_id]))}"

    @_named
    def close(self) -> None:
        """No run stays RUNNING: what has not ended is KILLED, until a resume goes on with it."""
        if not self.parent_id:
            return
        parent = self.client.get_run(self.parent_id)
        for run in [*self._children(), parent]:
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _steps(self, run_id: str) -> set[int]:
        """The images seen at which this run has an evaluation."""
        reported = {
            metric
            for metric in self.client.get_run(run_id).data.metrics
            if metric.startswith(("train/", "val/"))
        }
        return {
            metric.step
            for name in sorted(reported)[:1]
            for metric in self.client.get_metric_history(run_id, name)
        }

    def _children(self) -> list[Any]:
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
