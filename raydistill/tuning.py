"""Ray Tune: asks for trials one at a time, runs them where they fit, tells how they ended. Its own snapshots are never read."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.search import Searcher

from raydistill.config import Job
from raydistill.ledger import Trial
from raydistill.perform import perform
from raydistill.place import Placement
from raydistill.trial import perform_sharded


def run_trials(
    next_trial: Callable[[], Trial | None],
    reported: Callable[[Trial, dict[str, float]], None],
    ended: Callable[[Trial], None],
    *,
    folder_of: Callable[[Trial], Path],
    num_trials: int,
    placement: Placement,
    storage: Path,
) -> None:
    """Runs up to `num_trials` trials; returns when all have ended. The callbacks are called on this thread, one at a time.

    Args:
        next_trial: the next trial to run; None: there is none.
        reported: an evaluation of a running trial.
        ended: a trial ended, with or without a result in its folder.
    """
    source = _Source(next_trial, ended, folder_of, placement)
    tuner = tune.Tuner(
        tune.with_resources(_trainable, {"cpu": placement.trial_cpus}),
        tune_config=tune.TuneConfig(
            search_alg=source, num_samples=num_trials, max_concurrent_trials=placement.max_concurrent, reuse_actors=placement.inline
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            callbacks=[_Reports(source, reported)],
            failure_config=tune.FailureConfig(max_failures=1 if placement.inline else 0),  # Ray Train has a retry of its own
        ),
    )
    tuner.fit()
    if source.failure is not None:
        raise source.failure


class _Source(Searcher):
    """Hands the ledger's trials to Tune."""

    def __init__(
        self,
        next_trial: Callable[[], Trial | None],
        ended: Callable[[Trial], None],
        folder_of: Callable[[Trial], Path],
        placement: Placement,
    ):
        super().__init__(metric="nimg", mode="max")  # Tune wants one; nothing reads it
        self.next_trial, self.ended, self.folder_of, self.placement = next_trial, ended, folder_of, placement
        self.running: dict[str, Trial] = {}
        self.failure: Exception | None = None
        """What a callback raised first. Tune would take it for the trial's failure; it ends the sweep instead, with its own message."""

    def guarded(self, call: Callable[..., Any], *args: Any) -> Any:
        if self.failure is None:
            try:
                return call(*args)
            except Exception as error:
                self.failure = error
        return None

    def suggest(self, trial_id: str) -> Any:
        trial = self.guarded(self.next_trial)
        if trial is None:
            return Searcher.FINISHED
        self.running[trial_id] = trial
        job = Job.model_validate(trial["job"])
        return {"job": job.model_dump_json(), "folder": str(self.folder_of(trial)), **self.placement._asdict()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.guarded(self.ended, self.running[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """The ledger is the truth: there is nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its ledger")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Reports(tune.Callback):
    def __init__(self, source: _Source, reported: Callable[[Trial, dict[str, float]], None]):
        self.source, self.reported = source, reported

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        ours = {name: value for name, value in result.items() if "/" in name or name == "nimg"}
        if "nimg" in ours:
            self.source.guarded(self.reported, self.source.running[trial.trial_id], ours)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _trainable(config: dict[str, Any]) -> None:
    """One trial, in a reused Tune actor."""
    job, folder = Job.model_validate_json(config["job"]), Path(config["folder"])
    torch.set_num_threads(max(1, int(config["trial_cpus"])))
    try:
        if config["inline"]:
            perform(job, folder, lambda numbers: tune.report(numbers))
        else:
            perform_sharded(job, folder, config["workers_per_trial"], worker_cpus=config["worker_cpus"], in_tune=True)
    except Exception:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc())
        raise
