"""`raydistill promote`: the model of one trial of a sweep into the model registry of MLflow."""

from pathlib import Path

import pandas as pd

from raydistill.config.analysis_options import PromoteOptions
from raydistill.errors import ConfigError
from raydistill.records import mirror, remote, retrained, tables
from raydistill.records.trials import Trial, read_trials
from raydistill.sweep import registry, tracking_record, tracking_store


def run(options: PromoteOptions) -> int:
    """Registers the model and prints how to load it; returns the exit code, 0.

    Raises:
        ConfigError: there is no such trial, it has failed, or no trial is cheap or good enough; or the alias
            means a model that cannot be compared.
        StoreError: there is no such sweep, or MLflow refuses.
    """
    folder = mirror.sweep_of(options.sweep)
    remote.require_bucket(folder)
    remote.pull(folder)
    trials = [*read_trials(folder), *retrained.read_retrained(folder)]
    record = tracking_record.read(folder)
    trial = _trial(trials, _chosen(options, folder, record.objectives), options.sweep)
    where = retrained.FOLDER if trial.lineage is not None else "trials"
    uri = options.mlflow or record.uri or tracking_store.default_uri(folder.parent.parent)
    tracking_store.require_known_scheme(uri)
    with tracking_store.answers_soon():
        promoted = registry.promote(
            uri,
            options.experiment or record.experiment,
            folder,
            trial,
            folder / where / trial.trial_id,
            name=options.name or folder.name,
            alias=options.alias,
            licence=options.licence,
            replace=options.replace,
        )
    before = f", before: version {promoted.before}" if promoted.before else ""
    print(f"trial {trial.trial_id}: version {promoted.version} of {promoted.name}, {promoted.alias}{before}")
    print(f'mlflow.pyfunc.load_model("{promoted.uri}")')
    return 0


def _trial(trials: list[Trial], trial_id: str, sweep: str) -> Trial:
    """The trial of that id, or number. Raises ConfigError where there is none, or it has no network."""
    wanted = trial_id.zfill(4) if trial_id.isdigit() else trial_id
    found = next((trial for trial in trials if trial.trial_id == wanted), None)
    if found is None:
        known = ", ".join(trial.trial_id for trial in trials)
        raise ConfigError(f"--trial {trial_id}: {sweep} has no such trial; it has {known}")
    if not found.is_complete:
        result = found.result
        why = "it has not ended" if result is None else f"{result.status}: {result.reason}"
        raise ConfigError(f"--trial {trial_id}: it has no model: {why}; give one that is COMPLETE")
    return found


def _chosen(options: PromoteOptions, folder: Path, objectives: tuple[tuple[str, str], ...]) -> str:
    """The id of the trial that the options mean."""
    ways = (options.trial, options.under, options.within)
    if sum(way is not None for way in ways) != 1:
        raise ConfigError("give one of --trial N, --under MACS and --within PERCENT")
    if options.trial is not None:
        return options.trial
    if not objectives:
        raise ConfigError(f"{folder}: an earlier version ran this sweep; give --trial N")
    table = tables.mean_over_seeds(tables.read_table(folder / "trials.parquet"))
    name, direction = objectives[0]
    front = table[table["front.member"]].assign(quality=table[tables.column(name)] * _sign(direction))
    if options.under is not None:
        allowed = front[front["cost.macs"] <= options.under]
        if allowed.empty:
            least = front["cost.macs"].min()
            raise ConfigError(
                f"--under {options.under:g}: the cheapest of the front has {least:,.0f} MACs; give more"
            )
        return str(allowed.sort_values("quality")["trial_id"].iloc[-1])
    assert options.within is not None
    return _within(front, table, options.within, name, direction)


def _within(front: pd.DataFrame, table: pd.DataFrame, percent: float, name: str, direction: str) -> str:
    """The cheapest of the front that is at most so many percent worse than the teacher."""
    teacher = float(table.loc[table["role"] == "teacher", tables.column(name)].iloc[0])
    least = teacher * _sign(direction) - abs(teacher) * percent / 100
    allowed = front[front["quality"] >= least]
    if allowed.empty:
        best = front["quality"].max() * _sign(direction)
        raise ConfigError(
            f"--within {percent:g}%: the teacher's {name} is {teacher:.6g}, the best of the front's "
            f"{best:.6g}; give more, or --trial N"
        )
    return str(allowed.sort_values("cost.macs")["trial_id"].iloc[0])


def _sign(direction: str) -> int:
    return 1 if direction == "max" else -1
