"""`raydistill batch`: checks every sweep, then runs them one after the other on one Ray.

The ledgers of the sweeps are the truth: a resume skips the sweeps that are finished and goes on with the
others. All sweeps have one store, so they share evaluators and teachers by its cache. STORE/batches/<name>/
has the time that was spent, the tables, and what made a sweep fail.
"""

import shlex
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from raydistill.commands import batch_compare, batch_settings
from raydistill.commands.batch_plan import FINISHED, Sweep, check_all, is_finished, num_searched
from raydistill.config.base import digest
from raydistill.config.batch import Batch, Budget, load_batch, with_data
from raydistill.config.command_options import BatchOptions
from raydistill.config.options import Cli
from raydistill.planning.plan import Plan
from raydistill.records import locks, pareto, remote, tables
from raydistill.records.budget import Clock
from raydistill.records.files import write_atomic
from raydistill.sweep import run as sweep_run
from raydistill.sweep import tracking_store
from raydistill.terminal import Terminal

_OF_WHERE, _FOR_SWEEPS = ("data", "store"), ("scale", "objectives", "extractors", "segmenters")
"""Options of the command that say where things are, and those that go to every sweep."""


def run(options: BatchOptions) -> int:
    """Runs or resumes the batch that a file defines.

    Returns:
        the exit code: 0 where all sweeps are finished, 1 where some are not, 130 where it was interrupted.

    Raises:
        InputError: something is wrong with the file, a sweep's options, the data or the store.
    """
    batch, again = with_options(load_batch(options.file), options), _command(options)
    tracking_store.require_known_scheme(batch.mlflow)
    sweeps = check_all(batch, options.resume)
    batch_settings.check_options(batch, [each.plan for each in sweeps])
    folder = sweeps[0].plan.store / "batches" / batch.name
    terminal = Terminal()
    _say_plan(batch, sweeps, terminal)
    if options.plan:
        return 0
    with locks.locked(folder / "lock", what=f"batch {batch.name}", wait=False):
        meter = Meter(batch.budget, folder / "batch.json", sweeps)
        try:
            states = _run_all(batch, sweeps, meter, terminal)
        except KeyboardInterrupt:
            terminal.say(f"interrupted; finished trials are kept. Go on: {again} --resume")
            return 130
        finally:
            meter.clock.sec()
            remote.push(folder)
        _report(batch, sweeps, states, folder, terminal)
        remote.push(folder)
    unfinished = [f"{name} ({state})" for name, state in states.items() if state != FINISHED]
    if unfinished:
        why = f"{meter.stopped}. " if meter.stopped else ""
        more = "; raise the budget in the file first" if meter.stopped else ""
        terminal.say(f"{why}Not finished: {', '.join(unfinished)}. Go on: {again} --resume{more}")
    return 1 if unfinished else 0


def with_options(batch: Batch, options: BatchOptions) -> Batch:
    """The batch with what the command line says of all its sweeps.

    Raises:
        ConfigError: a folder of pictures that no space would read.
    """
    given = {name: getattr(options, name) for name in _FOR_SWEEPS}
    changes: dict[str, Any] = {
        "options": batch.options | {name: each for name, each in given.items() if each}
    }
    if options.store is not None:
        changes["store"] = options.store
    return with_data(batch.model_copy(update=changes), options.data)


def _command(options: BatchOptions) -> str:
    """The command that goes on with a batch, but for --resume."""
    words = ["raydistill", "batch", str(options.file)]
    for name in _OF_WHERE + _FOR_SWEEPS:
        marks = [each for each in BatchOptions.model_fields[name].metadata if isinstance(each, Cli)]
        value = getattr(options, name) or ()
        for each in value if isinstance(value, tuple) else (value,):
            words += [marks[0].name or f"--{name}", str(each)]
    return shlex.join(words)


def _say_plan(batch: Batch, sweeps: Sequence[Sweep], terminal: Terminal) -> None:
    """Says which sweeps there are, how many trials they have, and the budget."""
    rows = []
    for each in sweeps:
        state = FINISHED if is_finished(each) else "goes on" if each.folder.exists() else "new"
        rows.append((each.name, state, each.plan.options.trials, len(each.plan.baselines)))
    table = pd.DataFrame(rows, columns=["sweep", "state", "searched trials", "baselines"])
    terminal.rows(f"batch {batch.name}", table, keys=["sweep"])
    experiments = [(each.plan.experiment, each.plan.data.digest) for each in sweeps]
    teachers = {
        digest([experiment.evaluator, experiment.teacher, experiment.given_teacher, data])
        for experiment, data in experiments
    }
    is_given = any(experiment.given_teacher is not None for experiment, _ in experiments)
    once = "trained once, or scored where a teacher is given" if is_given else "trained once"
    limits = [] if batch.budget.hours is None else [f"{batch.budget.hours:g} hours"]
    limits += [] if batch.budget.trials is None else [f"{batch.budget.trials} searched trials"]
    num_rechecks = sum(not each.plan.options.skip_recheck for each in sweeps)
    terminal.say(
        f"{len(sweeps)} sweeps: {table['searched trials'].sum()} searched trials, "
        f"{table['baselines'].sum()} baselines, {num_rechecks} rechecks; "
        f"evaluator and teacher of {len(teachers)} kinds, each {once}; "
        f"budget: {' and '.join(limits) or 'no limit'}"
    )


# ---- running -----------------------------------------------------------------------------------------------


class Meter:
    """How much of the budget is spent, over every start of the batch."""

    def __init__(self, budget: Budget, file: Path, sweeps: Sequence[Sweep]):
        """`file`: where the time that was spent is kept."""
        self.budget, self.clock, self.sweeps = budget, Clock(file), sweeps
        self.stopped = ""
        """Why nothing more may start; "" while something may."""
        self.clock.sec()

    def may_start(self, is_new: bool) -> bool:
        """Whether one more trial may start. `is_new`: it is a searched one that is in no ledger yet."""
        hours, trials, spent_hours = self.budget.hours, self.budget.trials, self.clock.sec() / 3600
        if hours is not None and spent_hours >= hours:
            self.stopped = f"the budget of {hours:g} hours is spent"
        elif is_new and trials is not None and sum(map(num_searched, self.sweeps)) >= trials:
            self.stopped = f"the budget of {trials} searched trials is spent"
        return not self.stopped


def _run_all(batch: Batch, sweeps: Sequence[Sweep], meter: Meter, terminal: Terminal) -> dict[str, str]:
    """Runs the sweeps that are not finished.

    Returns:
        name of a sweep -> its state: finished, unfinished, not started, or failed with the reason.
    """
    states = {each.name: FINISHED if is_finished(each) else "not started" for each in sweeps}
    unfinished = [each for each in sweeps if states[each.name] != FINISHED]
    if not unfinished:
        return states
    with sweep_run.on_ray([each.plan.options for each in unfinished]):
        for each in unfinished:
            if not meter.may_start(num_searched(each) < each.plan.options.trials):
                break
            terminal.say(f"sweep {sweeps.index(each) + 1} of {len(sweeps)}")
            states[each.name] = _run_one(batch, each, meter, terminal)
    return states


def _run_one(batch: Batch, each: Sweep, meter: Meter, terminal: Terminal) -> str:
    """Runs one sweep; returns its state afterwards. What makes it fail stops no other sweep."""
    try:
        with sweep_run.opened(each.plan, terminal) as (folder, tracker):
            tags = {"raydistill.batch": batch.name}
            trouble = sweep_run.run_one(
                each.plan, folder, tracker, terminal, tags=tags, may_start=meter.may_start
            )
    except Exception as error:
        log = meter.clock.file.parent / f"{each.name}.error.txt"
        log.write_text(traceback.format_exc())
        terminal.say(f"sweep {each.name} failed: {type(error).__name__}: {error}; see {log}")
        return f"failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if not trouble:
        return FINISHED
    return "unfinished" if meter.stopped else f"failed: {trouble}"


# ---- the tables --------------------------------------------------------------------------------------------


class Tables(NamedTuple):
    """What a batch leaves, from the result tables of its finished sweeps.

    An unfinished sweep has no numbers: its front is not yet what those of the others are.
    """

    sweeps: pd.DataFrame
    """One row for each sweep: state, trials, size and hypervolume of its front."""
    summary: pd.DataFrame
    """One row for each space and method: mean and standard deviation over the seeds."""
    fronts: pd.DataFrame
    """One row for each front member, with the sweep it comes from; no columns where no sweep is finished."""
    options: pd.DataFrame
    """One row for each option of `Settings` and quality, see `batch_settings.by_option`."""


_SWEEP_COLUMNS = ["sweep", "space", "method", "seed", "state", "searched", "front_members", "hypervolume"]
_SWEEP_COLUMNS += ["reference", "wall_sec"]


def batch_tables(batch: Batch, sweeps: Sequence[Sweep], states: dict[str, str]) -> Tables:
    """The tables of a batch. `states`: name of a sweep -> its state."""
    rows, fronts, finished = [], [], []
    for each in sweeps:
        origin: dict[str, Any] = {
            "space": Path(each.entry.space).stem,
            "method": each.entry.method.name,
            "seed": each.entry.seed,
        }
        row = {"sweep": each.name, **origin, "state": states[each.name], "searched": num_searched(each)}
        if states[each.name] == FINISHED:
            table = tables.read_table(each.folder / "trials.parquet")
            finished.append((origin, each.plan, table))
            front = table[table["front.member"]]
            row |= {"front_members": len(front), **_front_facts(each.plan, table)}
            others = front.columns.drop("seed")
            fronts.append(front.drop(columns="seed").assign(**origin)[[*origin, *others]])
        rows.append(row)
    by_sweep = pd.DataFrame(rows, columns=_SWEEP_COLUMNS)
    by_sweep = by_sweep.astype({"front_members": "Int64", "hypervolume": "float64", "wall_sec": "float64"})
    grouped = by_sweep[by_sweep["state"] == FINISHED].groupby(["space", "method"], sort=False)
    summary = grouped.agg(
        seeds=("seed", "count"),
        hypervolume_mean=("hypervolume", "mean"),
        hypervolume_sd=("hypervolume", "std"),
        front_members_mean=("front_members", "mean"),
    )
    all_fronts = pd.concat(fronts, ignore_index=True) if fronts else pd.DataFrame()
    by_option = batch_settings.by_option(batch, finished)
    return Tables(by_sweep, summary.reset_index(), all_fronts, by_option)


def _front_facts(plan: Plan, table: pd.DataFrame) -> dict[str, Any]:
    """Hypervolume of a sweep's front, the reference point of it, and the seconds of all trials."""
    directions = [direction for _, direction in plan.objectives]
    points = tables.objective_points(tables.mean_over_seeds(table), plan.objectives)
    metrics = table[table["role"] == "teacher"].filter(like="metric.").to_dict("records")
    of_teacher = {str(name).removeprefix("metric."): value for row in metrics for name, value in row.items()}
    reference = plan.reference(of_teacher)
    worst = [f"{name} {value:g}" for (name, _), value in zip(plan.objectives, reference, strict=True)]
    return {
        "hypervolume": pareto.hypervolume(points, directions, reference),
        "reference": ", ".join(worst),
        "wall_sec": table["wall_sec"].sum(),
    }


def _report(
    batch: Batch, sweeps: Sequence[Sweep], states: dict[str, str], folder: Path, terminal: Terminal
) -> None:
    """Writes the tables of the batch into its folder, and prints them."""
    written = batch_tables(batch, sweeps, states)
    for name, table in written._asdict().items():
        write_atomic(folder / f"{name}.csv", partial(table.to_csv, index=False))
    terminal.console.print()
    terminal.rows(
        f"batch {batch.name}: every sweep",
        written.sweeps.drop(columns=["space", "method", "seed"]),
        keys=["sweep"],
        texts=["state", "reference"],
    )
    if len(written.summary):
        title = "mean and standard deviation over seeds"
        terminal.rows(title, written.summary, keys=["space", "method"])
    if len(written.options):
        title = "options: means over seeds with 95 % intervals (Student), differences seed by seed"
        terminal.rows(title, batch_settings.shown(written.options), keys=["option"])
    batch_compare.report(written.sweeps, sweeps, folder, terminal)
    terminal.say(f"tables: {folder}/sweeps.csv, summary.csv, fronts.csv (every front member) and options.csv")
    terminal.say(f"in MLflow: tags.`raydistill.batch` = '{batch.name}' in experiment {batch.experiment}")
