"""The runs of one sweep in MLflow: a parent, and a child for each trial.

Whatever is called here waits for the tracking store, and raises StoreError where that fails. `sweep.tracker`
calls it on a thread of its own, and again until all is sent.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Metric, Param, RunTag

from raydistill.records import measured
from raydistill.records.schema import MEASURED
from raydistill.records.trials import Evaluation, Trial, TrialResult
from raydistill.sweep import tracking_models, tracking_parts, tracking_store, tracking_view
from raydistill.sweep.tracking_facts import EvaluatorFacts, SweepFacts

_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""Status of a trial -> status of its run."""
_PARENT = "mlflow.parentRunId"
_MOST_METRICS = 800
"""A request is sent once it has more; MLflow takes 1,000."""
_PICTURES_AT = "raydistill.pictures_at"
"""Tag of the parent run: after how many images its view shows pictures."""


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
        self.client, self.experiment_id = tracking_store.open_experiment(uri, experiment, artifacts)
        self.uri, self.identity, self.facts = uri, tracking_store.identity(uri), facts
        self.run_ids: dict[str, str] = {}
        """Trial id -> id of its child run."""
        self.ended: set[str] = set()
        """Ids of the trials whose runs have ended with a result."""
        self.with_front: set[str] = set()
        """Ids of the trials whose runs say whether they are on the front."""
        self.reported: dict[str, set[int]] = {}
        """Trial id -> the images seen at which its run has an evaluation."""
        self.modelled: set[str] = set()
        """Ids of the trials whose models are there."""
        self.links: dict[str, str] = {}
        """What the notes of trials call a run that they rest on -> its id."""
        self.pictures_at = 0
        """The most images after which a trial has sent pictures; 0: none has."""
        self.view_refused = ""
        """Why MLflow did not take the view of the sweep; "": it did."""
        self._known: dict[str, Mapping[str, float]] = {}
        """Run id -> the newest value of each of its metrics, when MLflow was asked."""
        self.parent_id = self._start(facts)
        self.describe(facts)

    def _start(self, facts: SweepFacts) -> str:
        """Starts the parent run, or goes on with the one that has the sweep's id, and finds its children."""
        same_sweep = f"tags.`raydistill.sweep_id` = '{facts.sweep_id}'"
        if earlier := self.client.search_runs([self.experiment_id], same_sweep, max_results=1):
            parent_id, had = earlier[0].info.run_id, dict(earlier[0].data.params)
            self.pictures_at = int(earlier[0].data.tags.get(_PICTURES_AT, 0))
            self._known[parent_id] = earlier[0].data.metrics
        else:
            had = {}
            tags = {"raydistill.role": "sweep", "raydistill.sweep_id": facts.sweep_id, **facts.tags}
            parent_id = self.client.create_run(self.experiment_id, run_name=facts.name, tags=tags).info.run_id
        now = {name: str(value) for name, value in facts.params.items()}
        changed = {
            f"raydistill.now.{name}": now[name] for name in now if had.get(name, now[name]) != now[name]
        }
        new = {name: value for name, value in now.items() if name not in had}
        self._log(parent_id, params=new, tags={**facts.tags, **changed})
        self.client.update_run(parent_id, status="RUNNING")
        tracking_parts.log_splits(self.client, parent_id, facts.splits)
        self.links["sweep"] = str(parent_id)
        for run in self._children(parent_id):
            self._note_role(run.data.tags["raydistill.role"], run.info.run_id)
            if (trial_id := run.data.tags.get("raydistill.trial_id")) is None:
                continue  # the evaluator's
            self.run_ids[trial_id] = run.info.run_id
            self._known[run.info.run_id] = run.data.metrics
            if tracking_models.TAG in run.data.tags:
                self.modelled.add(trial_id)
            if "raydistill.status" in run.data.tags:
                self.ended.add(trial_id)
        return str(parent_id)

    def describe(self, facts: SweepFacts, parameters: Sequence[str] = ()) -> None:
        """Gives the parent run its description, the evaluator its run, and the sweep its view.

        Args:
            facts: what is known of the sweep now.
            parameters: what was searched, for a parallel plot.
        """
        self.facts = facts
        if facts.evaluator is not None and "evaluator" not in self.links:
            self._send_evaluator(facts.evaluator)
        self.client.set_tag(self.parent_id, _PICTURES_AT, str(self.pictures_at))
        shown = (facts.objectives, parameters, self.pictures_at)
        try:
            if facts.objectives:
                tag = tracking_view.tag(facts.sweep_id, self.parent_id, *shown)
                self.client.set_experiment_tag(self.experiment_id, *tag)
        except tracking_store.ERRORS as error:  # the runs are there without it, and `table_link` shows them
            self.view_refused = tracking_store.first_line(error)
        if facts.description:
            note = (facts.description, self.experiment_id, facts.sweep_id, self.parent_id)
            self.client.set_tag(self.parent_id, tracking_parts.NOTE, tracking_parts.note_of_sweep(*note))

    def _note_role(self, role: str, run_id: str) -> None:
        if role in ("teacher", "evaluator"):
            self.links[role] = run_id

    def _send_evaluator(self, evaluator: EvaluatorFacts) -> None:
        """Makes the run of the network that scores; it is no trial."""
        tags = {
            **self._given_tags(),
            _PARENT: self.parent_id,
            "raydistill.role": "evaluator",
            "raydistill.digest.evaluator": evaluator.digest,
            tracking_parts.NOTE: "The network that scores. Its scores are those of real pictures of val: "
            "the ceiling.",
        }
        name = f"evaluator {evaluator.digest}"
        run_id = self.client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id
        for nimg, numbers in evaluator.curves:
            self._log(run_id, metrics=numbers, step=nimg)
        last = {tracking_view.shown(metric): value for metric, value in evaluator.last.items()}
        self._log(run_id, metrics=last | {"time/wall_sec": evaluator.wall_sec})
        tracking_parts.log_splits(self.client, run_id, self.facts.splits[:2])
        self.client.set_terminated(run_id, "FINISHED")
        self._note_role("evaluator", run_id)

    def _given_tags(self) -> dict[str, str]:
        """User, source and revision, which MLflow shows of every run."""
        return {name: value for name, value in self.facts.tags.items() if name.startswith("mlflow.")}

    def is_replaced(self) -> bool:
        """Whether the tracking store is a file that was removed, or another one by now."""
        return tracking_store.identity(self.uri) != self.identity

    def send(self, sent: SentTrial) -> None:
        """Brings the run of a trial to what is known of it. Nothing is sent twice."""
        trial, trial_id = sent.trial, sent.trial.trial_id
        if trial_id not in self.ended:
            self._start_trial(trial)
            reports: list[tuple[int | None, Evaluation]] = [*sent.reports]
            if trial.result is not None:
                reports += [(None, evaluation) for evaluation in trial.result.evaluations]
            self._report(trial_id, reports, sent.folder)
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
            **self._given_tags(),
            _PARENT: self.parent_id,
            "raydistill.trial_id": trial_id,
            "raydistill.trial_key": trial.trial_key,
            "raydistill.role": trial.role,
            **{f"raydistill.digest.{name}": str(value) for name, value in trial.digests.items()},
            "raydistill.macs_convention": trial.macs_convention,
        }
        if trial.lineage is not None:
            tags["raydistill.retrain_of"] = str(trial.lineage["trial_id"])
            if "change" in trial.lineage:
                tags["raydistill.ablation"] = str(trial.lineage["change"])
        is_new = trial_id not in self.run_ids
        if is_new:
            name = f"{trial_id} {trial.label}"
            run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
            self.run_ids[trial_id] = run.info.run_id
        run_id = self.run_ids[trial_id]
        self._note_role(trial.role, run_id)
        if not is_new:
            self.client.update_run(run_id, status="RUNNING")
        tracking_parts.log_splits(self.client, run_id, self.facts.splits)
        costs = {
            f"cost/{name}": value for name, value in trial.costs.items() if isinstance(value, int | float)
        }
        params = trial.params | {"widths": trial.widths, "seed": trial.seed}
        self._log(run_id, metrics=self._changed(run_id, costs), params=params)
        self.client.log_dict(run_id, trial.job_json, "config.json")
        self.reported[trial_id] = set() if is_new else self._steps(run_id)

    def _report(self, trial_id: str, reports: Sequence[tuple[int | None, Evaluation]], folder: Path) -> None:
        """Writes the numbers and pictures of evaluations, each at the step `nimg`: the images seen.

        Many go into one request. One with pictures ends it: what has numbers has its pictures, too.

        Args:
            trial_id: whose they are.
            reports: each with its time in milliseconds since 1970; None: now.
            folder: the trial's.
        """
        run_id, batch = self.run_ids[trial_id], dict[int, list[Metric]]()
        for when, evaluation in reports:
            nimg, numbers = evaluation.nimg, evaluation.numbers
            if nimg in self.reported[trial_id] or nimg in batch:
                continue
            has_pictures = tracking_parts.log_pictures(self.client, run_id, folder, nimg, when)
            if has_pictures:
                self.pictures_at = max(self.pictures_at, nimg)
            named = {name: value for name, value in numbers.items() if "/" in name}
            batch[nimg] = _metrics(named, nimg, when)
            if has_pictures or sum(map(len, batch.values())) > _MOST_METRICS:
                self._send_reports(trial_id, batch)
        self._send_reports(trial_id, batch)

    def _send_reports(self, trial_id: str, batch: dict[int, list[Metric]]) -> None:
        """Sends the metrics of evaluations, by images seen, and empties the batch."""
        if batch:
            self.client.log_batch(self.run_ids[trial_id], metrics=list(chain.from_iterable(batch.values())))
            self.reported[trial_id] |= batch.keys()
            batch.clear()

    def _end_trial(self, trial: Trial, result: TrialResult, folder: Path) -> None:
        """Ends the run of a trial that has a result, with its final numbers, sample grid and status.

        `folder`: the trial's.
        """
        trial_id = trial.trial_id
        run_id = self.run_ids[trial_id]
        scores = [(name, value) for name, value in result.metrics.items() if name.startswith("val/")]
        finals = {tracking_view.shown(name): value for name, value in scores}
        times = {"time/wall_sec": result.wall_sec, "time/gpu_hours": result.gpu_sec / 3600}
        tags = {"raydistill.git_revision": result.git_revision}
        if result.reason:
            tags["raydistill.reason"] = result.reason[:4000]
        context = {f"raydistill.val.{name}": str(value) for name, value in result.context.items()}
        links = {name: its for name, its in self.links.items() if its != run_id}
        tags[tracking_parts.NOTE] = tracking_parts.note_of_trial(trial, self.experiment_id, links)
        self._log(run_id, metrics=finals | times, tags=tags | context, step=result.nimg)
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
        metrics = {"front/member": float(row["front.member"]), tracking_view.ORDER: float(row["front.order"])}
        if not pd.isna(row["front.rank"]):
            metrics |= {f"front/{name}": float(row[f"front.{name}"]) for name in ("rank", "hv_contribution")}
        if not pd.isna(row["front.probability"]):
            metrics |= {f"front/{name}": float(row[f"front.{name}"]) for name in ("probability", "seeds")}
        context = (trial.result and trial.result.test_context) or {}
        scores = (trial.result and trial.result.test) or {}
        tags = {f"raydistill.test.{name}": str(value) for name, value in context.items()}
        run_id, nimg = self.run_ids[trial.trial_id], trial.result.nimg if trial.result else 0
        self._log(run_id, metrics=self._changed(run_id, metrics))
        self._log(run_id, metrics=self._changed(run_id, scores), tags=tags, step=nimg)
        self._send_measured(row, run_id)

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
        self._log(self.parent_id, metrics=self._changed(self.parent_id, metrics))
        for path in artifacts:
            self.client.log_artifact(self.parent_id, str(path))
        self.client.set_terminated(self.parent_id, "FINISHED")

    def _changed(self, run_id: str, metrics: Mapping[str, float]) -> dict[str, float]:
        """Those of these metrics that a run does not have yet, or by another value."""
        known = self._known.get(run_id, {})
        return {name: value for name, value in metrics.items() if known.get(name) != float(value)}

    def mark_killed(self) -> None:
        """Marks runs that have not ended as KILLED, until a resume goes on with them; none stays RUNNING."""
        for run in [*self._children(self.parent_id), self.client.get_run(self.parent_id)]:
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")

    def table_link(self, server: str) -> str:
        """Address of all trials, the front first, in the UI at `server`: with charts, or else as a table."""
        if self.view_refused or not self.facts.objectives:
            return tracking_view.plain_link(server, self.experiment_id, self.parent_id)
        return tracking_view.link(server, self.experiment_id, self.facts.sweep_id)

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
        if metrics or params or tags:
            self.client.log_batch(
                run_id,
                metrics=_metrics(metrics or {}, step, time_ms),
                params=[Param(name, str(value)) for name, value in (params or {}).items()],
                tags=[RunTag(name, value) for name, value in (tags or {}).items()],
            )


def _metrics(numbers: Mapping[str, float], step: int, time_ms: int | None) -> list[Metric]:
    """Numbers as MLflow takes them. `time_ms`: in milliseconds since 1970; None: now."""
    when = int(time.time() * 1000) if time_ms is None else time_ms
    return [Metric(name, float(value), when, step) for name, value in numbers.items()]
