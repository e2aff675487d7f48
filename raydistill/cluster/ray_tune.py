"""Ray Tune: asks for trials one at a time, runs each where it fits, and tells how it ended.

Its own snapshots are never read: the ledger is the truth.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from raydistill import plugins
from raydistill.cluster import causes
from raydistill.cluster.placement import Placement
from raydistill.cluster.ray_train import perform_sharded, set_up_process
from raydistill.config.experiment import Job
from raydistill.records import remote
from raydistill.records.trials import Evaluation, Trial
from raydistill.trials.run_job import perform

_LOST_PROCESSES = 2
"""So many times a trial starts again, from its checkpoint, after its process or its node was lost."""


def run_trials(
    next_trial: Callable[[], Trial | None],
    reported: Callable[[Trial, Evaluation], None],
    ended: Callable[[Trial, bool, str], None],
    *,
    should_stop: Callable[[Trial, Evaluation], bool] = lambda trial, evaluation: False,
    watch: Callable[[], None] = lambda: None,
    folder_of: Callable[[Trial], Path],
    num_trials: int,
    placement: Placement,
    storage: Path,
) -> None:
    """Runs up to `num_trials` trials, and returns when all have ended.

    The callbacks are called on this thread, one at a time. What one of them raises ends the trials.

    Args:
        next_trial: gives the next trial to run; None: there is none.
        reported: is given each evaluation of a running trial.
        ended: is given each trial that has ended, with or without a result in its folder; whether it ended
            because `should_stop` said so; and in one line why it failed, "" where Ray knows of no failure.
        should_stop: asked after each evaluation of a running trial but its last, which has a result by then.
        watch: called several times a second; what it raises ends all trials at once.
        folder_of: the folder of a trial.
        placement: resources of each trial, and how many run at a time.
        storage: folder that Ray Tune writes to.
    """
    # Failures are told from the ledger, in one line.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    source = _Source(next_trial, ended, folder_of, placement)
    resources = {"cpu": placement.trial_cpus, "gpu": placement.group.gpus if placement.inline else 0}
    tuner = tune.Tuner(
        tune.with_resources(_trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=source,
            scheduler=_Stops(source, should_stop),
            num_samples=num_trials,
            max_concurrent_trials=placement.max_concurrent,
            reuse_actors=placement.inline,
        ),
        run_config=tune.RunConfig(
            name="trials",
            verbose=0,
            callbacks=[_Reports(source, reported, watch)],
            failure_config=tune.FailureConfig(max_failures=_LOST_PROCESSES),
            **remote.ray_storage(storage),
        ),
    )
    try:
        tuner.fit()
    except Exception:
        if source.failure is None:
            raise
    if source.failure is not None:
        raise source.failure


class _Source(Searcher):
    """Hands the ledger's trials to Ray Tune, as if they came from a search algorithm of its own."""

    def __init__(
        self,
        next_trial: Callable[[], Trial | None],
        ended: Callable[[Trial, bool, str], None],
        folder_of: Callable[[Trial], Path],
        placement: Placement,
    ):
        super().__init__(metric="nimg", mode="max")  # Ray Tune demands a metric; nothing reads it
        self.next_trial, self.ended, self.folder_of, self.placement = next_trial, ended, folder_of, placement
        self.running: dict[str, Trial] = {}
        """Tune's trial id -> our trial."""
        self.stopped: set[str] = set()
        """Tune's ids of the trials that `should_stop` ended."""
        self.reasons: dict[str, str] = {}
        """Tune's id of a trial that failed -> why, in one line."""
        self.failure: Exception | None = None
        """What a callback raised first. It ends the sweep; Tune would take it for a failure of the trial."""

    def guarded(self, call: Callable[..., Any], *args: Any) -> Any:
        """What the callback returns; None where it, or one before it, has raised: see `failure`."""
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
        (self.folder_of(trial) / "error.txt").unlink(missing_ok=True)  # of an earlier start
        return {
            "job": trial.job.model_dump_json(),
            "folder": str(self.folder_of(trial)),
            "placement": self.placement,
            "plugins": plugins.to_json(),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        reason = self.reasons.get(trial_id, "")
        self.guarded(self.ended, self.running[trial_id], trial_id in self.stopped, reason)

    def save(self, checkpoint_path: str) -> None:
        """The ledger is the truth: there is nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its ledger")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Stops(FIFOScheduler):
    """Ends a trial early where `should_stop` says so, and notes why one failed."""

    def __init__(self, source: _Source, should_stop: Callable[[Trial, Evaluation], bool]):
        super().__init__()
        self.source, self.should_stop = source, should_stop

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        evaluation, running = _evaluation(result), self.source.running[trial.trial_id]
        if evaluation is not None and self.source.guarded(self.should_stop, running, evaluation):
            self.source.stopped.add(trial.trial_id)
            return FIFOScheduler.STOP
        return FIFOScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tune calls it before it tells the searcher that the trial has ended."""
        if (error := trial.get_error()) is not None:
            self.source.reasons[trial.trial_id] = causes.reason(error)
        super().on_trial_error(tune_controller, trial)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Reports(tune.Callback):
    """Passes evaluations on, and calls `watch`."""

    def __init__(
        self, source: _Source, reported: Callable[[Trial, Evaluation], None], watch: Callable[[], None]
    ):
        self.source, self.reported, self.watch = source, reported, watch

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if (evaluation := _evaluation(result)) is not None:
            self.source.guarded(self.reported, self.source.running[trial.trial_id], evaluation)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        try:
            self.watch()
        except Exception as error:
            self.source.failure = self.source.failure or error
            raise  # at once: other failures wait for the trial's end, and one without a node may have none

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _evaluation(result: Mapping[str, Any]) -> Evaluation | None:
    """The evaluation in a report of Tune's, which has entries of its own; None: there is none in it."""
    if "nimg" not in result:
        return None
    names = [name for name in result if "/" in name and not name.startswith("config/")]
    numbers = {name: result[name] for name in names}
    fields = {name: result.get(name) for name in ("nimg", "wall_sec", "scoring_sec")}
    return Evaluation.model_validate({**fields, "numbers": numbers})


def _trainable(config: dict[str, Any]) -> None:
    """One trial, in a Tune actor that may run others after it."""
    plugins.load_json(config["plugins"])
    job, folder = Job.model_validate_json(config["job"]), Path(config["folder"])
    placement: Placement = config["placement"]
    try:
        if placement.inline:
            set_up_process(placement.group)
            perform(job, folder, lambda evaluation: tune.report(evaluation.to_json()), placement.group.gpus)
        else:
            perform_sharded(job, folder, placement.group, in_tune=True)
    except Exception:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc())
        remote.push(folder)
        raise
