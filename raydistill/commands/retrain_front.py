"""The members of a sweep's front, trained again by Ray: as many at a time as fit, each on workers of its own.

What is interrupted goes on by the same command. At the end each is scored once on test, and goes into tables,
page and MLflow beside the short trial that it repeats.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from raydistill.cluster import ray_tune, runtime
from raydistill.cluster.placement import DRIVER_CPUS, Placement, place_trials
from raydistill.config.analysis_options import AblateOptions
from raydistill.config.command_options import RetrainOptions
from raydistill.config.experiment import Job
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import read_info
from raydistill.data.tensors import num_bytes
from raydistill.models import saved
from raydistill.planning import memory, rehearsal
from raydistill.records import ablated, locks, measured, owners, remote, retrained, stored_paths, tables
from raydistill.records.retrained import FOLDER
from raydistill.records.trials import Evaluation, Trial, read_result, read_trials, write_trial
from raydistill.sweep import page, tracking_record
from raydistill.sweep.report import scored_on_test
from raydistill.sweep.run import on_ray
from raydistill.sweep.sweep_run import how
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.watch import watcher
from raydistill.terminal import Terminal
from raydistill.trials.ledger import failure_in
from raydistill.trials.run_job import is_network_whole, network_of


def run(options: RetrainOptions, sweep: Path, originals: Sequence[Trial], again: Sequence[Trial]) -> int:
    """Trains those that have no result yet, scores all, and records them.

    Args:
        options: where they run.
        sweep: the sweep's folder.
        originals: the trials that are trained again.
        again: the trainings, in the same order.

    Returns:
        the exit code: 0, 1 where a training failed, 130 where it was interrupted.

    Raises:
        ConfigError: a training does not fit on the nodes.
        RunError: nodes were lost, and no other came within --wait-for-nodes.
    """
    terminal = Terminal()
    terminal.say(
        f"{len(again)} of the front of {sweep.name} at {again[0].budget_nimg:,} images; in {sweep / FOLDER}"
    )

    def report(done: Sequence[Trial], tracker: Tracker) -> None:
        table, is_drawn = recorded(sweep, tracker)
        _print(table, done, sweep, is_drawn, terminal)

    return train_all(options, sweep, again, terminal, report)


def train_all(
    options: RetrainOptions | AblateOptions,
    sweep: Path,
    again: Sequence[Trial],
    terminal: Terminal,
    report: Callable[[Sequence[Trial], Tracker], None],
) -> int:
    """Trains those that have no result yet, by Ray, and scores all on test; returns and raises as `run`.

    Args:
        report: is given the trainings with their results, and MLflow's runs of the sweep.
    """
    with _tracked(sweep, terminal) as tracker, _held(sweep, again):
        queue = _Queue(sweep, tracker, terminal, list(again))
        try:
            if queue.left:
                place = SweepOptions.model_validate({name: getattr(options, name) for name in _PLACE_OPTIONS})
                with on_ray([place]):
                    _train(queue, place, sweep)
        except KeyboardInterrupt:
            terminal.say("interrupted; finished trainings are kept. Go on: the same command")
            return 130
        done = [_scored_on_test(each, sweep, tracker) for each in again]
        report(done, tracker)
    for trial in done:
        if trial.result is None or trial.result.status != "COMPLETE":
            reason = queue.failures.get(trial.trial_id, "") if trial.result is None else trial.result.reason
            terminal.say(f"{trial.trial_id} failed: {reason or 'it ended without a result'}")
    return int(not all(trial.is_complete for trial in done))


_PLACE_OPTIONS = (
    *("executor", "workers_per_trial", "cpus_per_worker", "gpus_per_worker", "max_concurrent"),
    "wait_for_nodes",
)
"""Options that say where trainings run."""


@contextlib.contextmanager
def _held(sweep: Path, again: Sequence[Trial]) -> Iterator[None]:
    """The folders of these trainings, each with its trial.json; no other process trains them meanwhile."""
    with contextlib.ExitStack() as stack:
        for trial in again:
            folder = sweep / FOLDER / trial.trial_id
            lock = sweep / FOLDER / f"{trial.trial_id}.lock"
            stack.enter_context(locks.locked(lock, what=f"{folder}", wait=False))
            remote.pull(folder)
            owners.remove_left(folder, below=True)
            if not (folder / "trial.json").exists():
                write_trial(folder, trial)
                remote.push(folder)
        yield


@contextlib.contextmanager
def _tracked(sweep: Path, terminal: Terminal) -> Iterator[Tracker]:
    """The sweep's runs in MLflow, where the sweep has sent them."""
    record = tracking_record.read(sweep)
    tracker = Tracker(record.uri, record.experiment, stored_paths.store_of(sweep), terminal)
    tracker.start_sweep(sweep, tracking_record.facts(sweep, record))
    try:
        yield tracker
    finally:
        tracker.close()


@dataclass
class _Queue:
    """Hands out the trainings without a result, and takes what becomes of them.

    Its methods are the callbacks of `cluster.ray_tune.run_trials`, which calls them one at a time.
    """

    sweep: Path
    tracker: Tracker
    terminal: Terminal
    left: list[Trial]
    failures: dict[str, str] = field(default_factory=dict)
    """Trial id -> why it ended without a result."""

    def __post_init__(self) -> None:
        self.left = [trial for trial in self.left if not _is_done(trial, self.folder_of(trial))]
        self.total, self.num_ended = len(self.left), 0

    def folder_of(self, trial: Trial) -> Path:
        return self.sweep / FOLDER / trial.trial_id

    def next_trial(self) -> Trial | None:
        if not self.left:
            return None
        trial = self.left.pop(0)
        self.tracker.send_trial(trial, self.folder_of(trial))
        return trial

    def reported(self, trial: Trial, evaluation: Evaluation) -> None:
        self.tracker.log_report(trial.trial_id, evaluation)

    def trial_ended(self, trial: Trial, stopped: bool, reason: str = "") -> None:
        folder = self.folder_of(trial)
        remote.pull(folder)
        result = read_result(folder)
        self.num_ended += 1
        if result is None:
            self.failures[trial.trial_id] = failure_in(folder) or reason
        else:
            self.tracker.send_trial(trial.with_result(result), folder)
        how_it_ended = "FAIL" if result is None else result.status
        self.terminal.say(f"{self.num_ended}/{self.total} {trial.trial_id}: {how_it_ended}")


def _is_done(trial: Trial, folder: Path) -> bool:
    """Whether a training has a result of this job, with its network."""
    result = read_result(folder)
    return result is not None and result.trial_key == trial.trial_key and is_network_whole(folder, result)


def _train(queue: _Queue, options: SweepOptions, sweep: Path) -> None:
    jobs = [trial.job for trial in queue.left]
    nodes = runtime.probe_nodes(stored_paths.store_of(sweep))

    def worker_bytes(gpus: float, gpu_bytes: int) -> int:
        return max(_worker_bytes(job, options.workers_per_trial, gpus) for job in jobs)

    placement: Placement = place_trials(nodes, options, worker_bytes)
    queue.terminal.say(f"{queue.total} to train, {placement.max_concurrent} at a time, {how(placement)}")
    driver_cpus = 0.0 if placement.inline else DRIVER_CPUS
    storage = sweep / FOLDER / "ray"
    remote.remove(storage)
    ray_tune.run_trials(
        queue.next_trial,
        queue.reported,
        queue.trial_ended,
        watch=watcher(placement.group, driver_cpus, options.wait_for_nodes, queue.terminal),
        folder_of=queue.folder_of,
        num_trials=queue.total,
        placement=placement,
        storage=storage,
    )


def _worker_bytes(job: Job, workers: int, gpus: float) -> int:
    """Predicted memory of a worker of a training; on a GPU with the training pictures, too."""
    training, info = job.training, read_info(job.data)
    assert isinstance(training, DistillTraining | GeneratorTraining) and job.evaluator is not None
    has_own_features = job.features is not None and Path(job.features.path).is_dir()
    setup = memory.MemorySetup(
        evaluator=saved.evaluator_config(job.evaluator),
        info=info,
        teacher=training.generator if job.teacher is None else saved.generator_config(job.teacher),
        num_workers=workers,
        scoring=job.scoring,
        features=rehearsal.STAND_IN if job.features is None or has_own_features else None,
    )
    needed = memory.training_bytes(training, setup)
    return needed + num_bytes(info) if gpus else memory.in_process(needed)


# ---- the end -----------------------------------------------------------------------------------------------


def _scored_on_test(trial: Trial, sweep: Path, tracker: Tracker) -> Trial:
    """The training with its result, scored on test once, by the evaluator and all networks of its job."""
    folder = sweep / FOLDER / trial.trial_id
    result = read_result(folder)
    if result is not None and result.status == "COMPLETE" and result.test is None:
        job = trial.job
        assert job.evaluator is not None
        given = (network_of(folder, result), job.data, job.evaluator, job.scoring)
        result = scored_on_test(result, folder, *given)
        remote.push(folder)
    trial = trial.with_result(result)
    tracker.send_trial(trial, folder)
    return trial


def recorded(sweep: Path, tracker: Tracker) -> tuple[pd.DataFrame, bool]:
    """Writes tables and page of the sweep anew, and ends the runs in MLflow.

    Returns:
        the table of what was trained again, and whether the page was drawn.
    """
    everything = read_trials(sweep)
    with (
        measured.locked(sweep),
        locks.locked(sweep / "lock", what=f"sweep {sweep.name}", wait=True),
    ):
        table = retrained.write_table(sweep, everything)
        ablated.write_table(sweep, everything)
        is_drawn = page.renew(sweep)
    record = tracking_record.read(sweep)
    own = (f"{name}.{ending}" for name in (FOLDER, ablated.NAME) for ending in ("csv", "parquet"))
    artifacts = [sweep / name for name in (*record.artifacts, *own)]
    every = retrained.below(tables.read_table(sweep / "trials.parquet"), table)
    tracker.end_sweep(every, record.metrics, [path for path in artifacts if path.exists()])
    return table, is_drawn


def _print(
    table: pd.DataFrame, done: Sequence[Trial], sweep: Path, is_drawn: bool, terminal: Terminal
) -> None:
    """Prints both lengths of each."""
    names = ["nimg", *sorted({str(name) for name in table if str(name).startswith("metric.val/")})]
    ids = [trial.trial_id for trial in done]
    rows = table[table["trial_id"].isin(ids)]
    shown = rows[["retrain_of", "widths" if "widths" in table else "label"]].copy()
    for name in names:
        shown[f"{name.removeprefix('metric.val/')}, short"] = rows.get(f"{retrained.SHORT}{name}")
        shown[name.removeprefix("metric.val/")] = rows[name]
    terminal.rows(f"{sweep.name}, trained again", shown, keys=["retrain_of"], texts=["retrain_of", "label"])
    terminal.say(f"tables: {sweep / FOLDER}.csv and .parquet{'; in the page, too' if is_drawn else ''}")
