"""What runs in MLflow show beside numbers: data sets, pictures, and notes that link to other runs.

As in `sweep.tracking`, everything waits for the tracking store, and raises what MLflow raises.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient

from raydistill.data import picture_files
from raydistill.records.trials import Trial
from raydistill.sweep import tracking_view
from raydistill.sweep.tracking_facts import SplitFacts
from raydistill.training.loop import REPORTED

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run."""


def log_splits(client: MlflowClient, run_id: str, splits: Sequence[SplitFacts]) -> None:
    """Names the splits as data sets of a run. MLflow keeps one that it has."""
    inputs = [
        DatasetInput(
            Dataset(
                name=split.name,
                digest=split.digest,
                source_type="raydistill",
                source=json.dumps({"digest": split.digest, "rule": split.rule}),
                profile=json.dumps(
                    {"num_rows": split.count, "height": split.size[0], "width": split.size[1]}
                ),
            ),
            [InputTag("mlflow.data.context", split.split)],
        )
        for split in splits
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


def log_pictures(client: MlflowClient, run_id: str, folder: Path, nimg: int, time_ms: int | None) -> bool:
    """Sends the pictures that a trial in `folder` drew at a report; returns whether it drew any."""
    path = folder / REPORTED / f"{nimg:09d}.png"
    if not path.exists():
        return False
    picture = picture_files.opened(path.read_bytes(), str(path)).image
    client.log_image(
        run_id, picture, key=tracking_view.PICTURES, step=nimg, timestamp=time_ms, synchronous=True
    )
    return True


class Monitor:
    """How busy this machine is, sent to one run by a thread of MLflow's, which gives up where that fails."""

    def __init__(self) -> None:
        self._run: SystemMetricsMonitor | None = None

    def start(self, uri: str, run_id: str) -> None:
        """Begins, or goes on after a new connection. A run that a resume goes on with keeps its numbers."""
        if self._run is None:
            self._run = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
            self._run.start()

    def end(self) -> None:
        """Sends nothing more."""
        if self._run is not None:
            self._run.finish()


def note_of_trial(trial: Trial, experiment_id: str, run_ids: Mapping[str, str]) -> str:
    """Markdown that says what a trial is and how it ended, with links to the runs that it rests on.

    Args:
        trial: which one.
        experiment_id: of all its runs.
        run_ids: what a link is called -> run.
    """
    lines = [f"{trial.role.replace('_', ' ').capitalize()}: {trial.label}."]
    if trial.result is not None and trial.result.status != "COMPLETE":
        how = "Stopped early" if trial.result.status == "PRUNED" else "Failed"
        lines.append(f"**{how}** after {trial.result.nimg:,} images: {trial.result.reason}")
    links = [f"[{name}]({run_link('', experiment_id, run_id)})" for name, run_id in run_ids.items()]
    return "\n\n".join([*lines, " · ".join(links)] if links else lines)


def note_of_sweep(description: str, experiment_id: str, sweep_id: str, parent_id: str) -> str:
    """The description of a sweep's run, with links to its two pages."""
    charts = tracking_view.link("", experiment_id, sweep_id).removeprefix("/")
    table = tracking_view.plain_link("", experiment_id, parent_id).removeprefix("/")
    return f"{description}\n\n[Charts of all trials]({charts}) · [table of all trials]({table})"


def run_link(server: str, experiment_id: str, run_id: str) -> str:
    """Address of a run in the UI at `server`; "": relative to the UI."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}".removeprefix("" if server else "/")
