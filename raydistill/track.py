"""MLflow: one parent run a sweep, one child a trial. A mirror of the ledger: it can be brought up to date at any time."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raydistill.errors import StoreError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
_PARENT = "mlflow.parentRunId"


def default_uri(store: Path) -> str:
    return f"sqlite:///{store / 'mlflow.db'}"


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
            self.experiment_id = found.experiment_id if found else self.client.create_experiment(experiment, artifact_location=location)
        except (MlflowException, OSError) as error:
            raise StoreError(f"--mlflow {uri}: the tracking store cannot be used: {str(error).splitlines()[0]}") from error
        self.parent_id = ""
        self.run_ids: dict[str, str] = {}
        """trial_id -> child run"""

    def start_sweep(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any], run_id: str | None) -> str:
        """The parent run: a new one, or the one of a resumed sweep."""
        if run_id is None:
            run_id = self.client.create_run(self.experiment_id, run_name=name, tags={"raydistill.role": "sweep", **tags}).info.run_id
            self._log(run_id, params=params)
        self.client.update_run(run_id, status="RUNNING")
        self.parent_id = run_id
        self.run_ids = {run.data.tags["raydistill.trial_id"]: run.info.run_id for run in self._children()}
        return run_id

    def start_trial(self, trial: Mapping[str, Any]) -> None:
        """A child run with what is known before training: params, widths, costs, digests, resolved config."""
        tags = {
            _PARENT: self.parent_id,
            "raydistill.trial_id": trial["trial_id"],
            "raydistill.trial_key": trial["trial_key"],
            "raydistill.role": trial["role"],
            **{f"raydistill.digest.{name}": str(value) for name, value in trial["digests"].items()},
            "raydistill.macs_convention": trial["costs"]["macs_convention"],
        }
        name = f"{trial['trial_id']} {trial['label']}"
        run_id = self.client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id
        costs = {f"cost/{name}": value for name, value in trial["costs"].items() if name != "macs_convention"}
        self._log(run_id, metrics=costs, params=trial["params"] | {"widths": trial["widths"], "role": trial["role"], "seed": trial["seed"]})
        self.client.log_dict(run_id, trial["job"], "config.json")
        self.run_ids[trial["trial_id"]] = run_id

    def log_report(self, trial_id: str, numbers: Mapping[str, float]) -> None:
        """Numbers of one evaluation, at step nimg."""
        measured = {name: value for name, value in numbers.items() if "/" in name}
        self._log(self.run_ids[trial_id], metrics=measured, step=int(numbers["nimg"]))

    def end_trial(self, trial_id: str, trial_dir: Path, result: Mapping[str, Any]) -> None:
        """Final numbers, sample grid and status of a trial with a result."""
        run_id = self.run_ids[trial_id]
        finals = {name.replace("val/", "final/"): value for name, value in result["metrics"].items() if name.startswith("val/")}
        times = {"time/wall_sec": result["wall_sec"], "time/gpu_hours": result["gpu_sec"] / 3600}
        tags = {"raydistill.status": result["status"], "raydistill.git_revision": result["git_revision"]}
        if result["reason"]:
            tags["raydistill.reason"] = result["reason"][:4000]
        context = {f"raydistill.val.{name}": str(value) for name, value in result["context"].items()}
        self._log(run_id, metrics=finals | times, tags=tags | context)
        if (trial_dir / "samples.png").exists():
            self.client.log_artifact(run_id, str(trial_dir / "samples.png"))
        self.client.set_terminated(run_id, _STATUS[result["status"]])

    def log_front(self, row: pd.Series, trial: Mapping[str, Any]) -> None:
        """Front membership, so that sorting a column shows the frontier; test scores with their context.

        `row`: the trial's row of the result table. Only competitors for the front have a rank.
        """
        metrics = {"front/member": float(row["front.member"])}
        if not pd.isna(row["front.rank"]):
            metrics |= {"front/rank": float(row["front.rank"]), "front/hv_contribution": float(row["front.hv_contribution"])}
        result = trial["result"] or {}
        tags = {f"raydistill.test.{name}": str(value) for name, value in result.get("test_context", {}).items()}
        self._log(self.run_ids[trial["trial_id"]], metrics=metrics | result.get("test", {}), tags=tags)

    def end_sweep(self, metrics: Mapping[str, float], artifacts: list[Path]) -> None:
        self._log(self.parent_id, metrics=metrics)
        for path in artifacts:
            self.client.log_artifact(self.parent_id, str(path))
        self.client.set_terminated(self.parent_id, "FINISHED")

    def close(self) -> None:
        """No run stays RUNNING: what has not ended is KILLED, until a resume goes on with it."""
        if not self.parent_id:
            return
        parent = self.client.get_run(self.parent_id)
        for run in [*self._children(), parent]:
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _children(self) -> list[Any]:
        runs: list[Any] = []
        token = None
        while token != "":
            page = self.client.search_runs(
                [self.experiment_id], f"tags.`{_PARENT}` = '{self.parent_id}'", max_results=1000, page_token=token
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
