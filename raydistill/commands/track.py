"""`raydistill track`: brings MLflow, and a study of Optuna's, to what the ledger of a sweep says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raydistill.config.analysis_options import TrackOptions
from raydistill.config.paths import validated
from raydistill.config.space import SearchSpace
from raydistill.errors import StoreError, without_passwords
from raydistill.records import locks, measured, mirror, remote, retrained, store, stored_paths, tables
from raydistill.records.trials import Trial, read_trials
from raydistill.search import optuna_study
from raydistill.sweep import tracking_record, tracking_store
from raydistill.sweep.tracker import Tracker
from raydistill.terminal import Terminal
from raydistill.training import checkpoint


def run(options: TrackOptions) -> int:
    """Sends what MLflow lacks of a sweep; what it has is not sent again.

    Returns:
        the exit code: 0 where MLflow has everything afterwards, else 1.

    Raises:
        StoreError: there is no such sweep, it is running, or the tracking store or the study's database does
            not answer.
    """
    terminal, folder = Terminal(), mirror.sweep_of(options.sweep)
    results = stored_paths.store_of(folder)
    remote.require_bucket(folder)
    remote.pull(folder)
    trials, record = read_trials(folder), tracking_record.read(folder)
    uri, experiment = options.mlflow or record.uri, options.experiment or record.experiment
    tracking_store.require_known_scheme(uri)
    with locks.locked(folder / "lock", what=f"sweep {folder.name}", wait=False):
        tracker = Tracker(uri, experiment, results, terminal)
        with tracking_store.answers_soon():
            tracking_store.open_experiment(tracker.uri, experiment, tracker.artifacts)
        tracker.start_sweep(folder, tracking_record.facts(folder, record))
        again = retrained.read_retrained(folder)
        for trial in [*trials, *again]:
            its_folder = folder / (retrained.FOLDER if trial in again else "trials") / trial.trial_id
            reported = [] if trial.result else checkpoint.read_history(its_folder)
            if trial.result or reported:
                tracker.send_trial(trial, its_folder)
            for evaluation in reported:
                tracker.log_report(trial.trial_id, evaluation)
        if record.metrics:
            table = measured.in_table(tables.read_table(folder / "trials.parquet"), folder)
            table = retrained.below(table, retrained.retrained_table(again, trials, sweep_id=folder.name))
            tracker.end_sweep(table, record.metrics, [folder / name for name in record.artifacts])
        if not tracker.close():
            return 1
    num_ended = sum(trial.result is not None for trial in trials)
    terminal.say(f"MLflow at {tracker.address}, experiment {experiment}: {num_ended} trials of {folder.name}")
    if options.study is not None:
        terminal.say(_write_study(options.study, folder, trials))
    return 0


def _write_study(url: str, folder: Path, trials: Sequence[Trial]) -> str:
    """Brings the sweep's study of Optuna's to the ledger's state; returns a line that says how to open it."""
    sweep = store.read_sweep(folder)
    if "space" not in sweep:
        raise StoreError(f"{folder}: an earlier version ran this sweep, and did not write its space down")
    name = optuna_study.name_of(folder.name, sweep["sweep_id"])
    keys = ("sweep_id", "definition", "seed", "sampler", "data")
    facts: dict[str, Any] = {key: sweep[key] for key in keys if key in sweep}
    space = validated(SearchSpace, sweep["space"], where=f"{folder / 'sweep.json'}: space")
    number = optuna_study.write_study(url, name, facts, space, trials)
    address = without_passwords(url)
    return f'{number} trials written: optuna.load_study(study_name="{name}", storage="{address}")'
