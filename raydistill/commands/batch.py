"""A batch: every sweep checked first, then one after the other on one Ray, and one table over all of them.

The sweeps' ledgers are the truth: a resume skips what is finished and goes on with what is not. Evaluator and teacher are shared, as all
sweeps have one store and its cache keys them. STORE/batches/<name>/ holds the time spent, the tables, and what made a sweep fail.
"""

import dataclasses
import json
import traceback
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from raydistill import plugins
from raydistill.config.base import digest
from raydistill.config.batch import Batch, Budget, Entry, Method, load_batch
from raydistill.config.paths import nearest, validated
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError, InputError, StoreError
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan
from raydistill.records import pareto, remote, store, tables
from raydistill.records.budget import Clock
from raydistill.records.files import write_atomic
from raydistill.records.trials import read_trials
from raydistill.sweep import run as sweep_run
from raydistill.sweep import tracking
from raydistill.terminal import Terminal

_OWN = ("space", "data", "store", "name", "resume", "plan", "seed", "set", "mlflow", "experiment")
"""Options of a sweep that the batch itself gives."""
FINISHED = "finished"


class Sweep(NamedTuple):
    entry: Entry
    plan: Plan

    @property
    def name(self) -> str:
        assert self.plan.options.name is not None
        return self.plan.options.name

    @property
    def folder(self) -> Path:
        return self.plan.store / "sweeps" / self.name


def run(path: Path, *, resume: bool, plan_only: bool) -> int:
    """Runs or resumes the batch of a file; returns the exit code: 0 all sweeps finished, 1 not all, 130 interrupted."""
    batch = load_batch(path)
    tracking.require_reachable(batch.mlflow)
    sweeps = check_all(batch, resume)
    folder = sweeps[0].plan.store / "batches" / batch.name
    terminal = Terminal()
    _say_plan(batch, sweeps, terminal)
    if plan_only:
        return 0
    with store.locked(folder / "lock", what=f"batch {batch.name}", wait=False):
        meter = Meter(batch.budget, folder / "batch.json", sweeps)
        try:
            states = _run_all(batch, sweeps, meter, terminal)
        except KeyboardInterrupt:
            terminal.say(f"interrupted; finished trials are kept. Go on: raydistill batch {path} --resume")
            return 130
        finally:
            meter.clock.sec()
            remote.push(folder)
        _report(batch, sweeps, states, folder, terminal)
        remote.push(folder)
    left = [f"{name} ({state})" for name, state in states.items() if state != FINISHED]
    if left:
        why = f"{meter.stopped}. " if meter.stopped else ""
        more = "; raise the budget in the file first" if meter.stopped else ""
        terminal.say(f"{why}Not finished: {', '.join(left)}. Go on: raydistill batch {path} --resume{more}")
    return 1 if left else 0


# ---- before any cost ---------------------------------------------------------------------------------------


def check_all(batch: Batch, resume: bool) -> list[Sweep]:
    """The plan of every sweep, in the batch's order. Raises ConfigError with everything that is wrong in any of them."""
    problems: dict[str, list[str]] = {}
    plans: dict[tuple[str, str], Plan] = {}
    for space, method in product(batch.spaces, batch.methods):
        try:
            plans[space, method.name] = check(_options(batch, space, method))
        except InputError as error:
            problems.setdefault(str(error), []).append(f"{Path(space).stem}-{method.name}")
    if problems:
        messages = [f"{', '.join(where)}: {what}" for what, where in problems.items()]
        raise ConfigError(f"batch {batch.name}: {len(messages)} things to correct:\n" + "\n".join(messages))
    _require_different(batch, plans)
    sweeps = []
    for entry in batch.sweeps():
        plan = plans[entry.space, entry.method.name]
        name = f"{batch.name}-{entry.label}"
        there = (plan.store / "sweeps" / name).exists()
        options = plan.options.model_copy(update={"seed": entry.seed, "name": name, "resume": there})
        sweeps.append(Sweep(entry, dataclasses.replace(plan, options=options)))
    _check_folders(batch, sweeps, resume)
    return sweeps


def _options(batch: Batch, space: str, method: Method) -> SweepOptions:
    """The options that `raydistill sweep` would get; the seed, which no check depends on, is filled in later."""
    known = [name for name in SweepOptions.model_fields if name not in _OWN]
    for where, given in (("options", batch.options), (f"method {method.name}: options", method.options)):
        for name in given:
            if name not in known:
                why = (
                    "the batch gives it itself"
                    if name in _OWN
                    else f"there is no such option. Nearest: {nearest(name, known)!r}"
                )
                raise ConfigError(f"{where}: {name!r}: {why}. Known: {', '.join(known)}")
    assignments = tuple(f"{path}={json.dumps(value)}" for path, value in (batch.set | method.set).items())
    own = {"space": space, "data": batch.data.get(space), "store": batch.store, "set": assignments}
    own |= {"mlflow": batch.mlflow, "experiment": batch.experiment}
    return validated(SweepOptions, batch.options | method.options | own, where="options")


def _require_different(batch: Batch, plans: dict[tuple[str, str], Plan]) -> None:
    """Raises ConfigError where two methods would train the same."""
    seen: dict[tuple[Any, ...], str] = {}
    for (space, method), plan in plans.items():
        key = (
            space,
            plan.space.model_dump_json(),
            plan.experiment.model_dump_json(),
            plan.options.model_copy(update={"set": ()}),
        )
        if key in seen:
            raise ConfigError(
                f"batch {batch.name}: methods {seen[key]} and {method} are the same on space {space}; remove one"
            )
        seen[key] = method


def _check_folders(batch: Batch, sweeps: Sequence[Sweep], resume: bool) -> None:
    """Raises StoreError where the batch is there and --resume is not given, the other way round, or a sweep has other settings."""
    root = sweeps[0].plan.store
    folder = root / "batches" / batch.name
    remote.pull(folder)
    if resume and not folder.exists():
        raise StoreError(
            f"--resume: there is no batch {batch.name} in {root / 'batches'}; leave --resume out to start it"
        )
    for there in (folder, *(each.folder for each in sweeps)):
        if there.exists() and not resume:
            raise StoreError(
                f"batch {batch.name}: {there} exists; add --resume to go on with it, or give the batch another name"
            )
    problems = []
    for each in sweeps:
        remote.pull(each.folder)
        if each.folder.exists():
            try:
                store.find_sweep(root, each.name, each.plan.definition, plugins.sweep_record())
            except StoreError as error:
                problems.append(str(error))
    if problems:
        raise StoreError(f"batch {batch.name}: {len(problems)} sweeps to correct:\n" + "\n".join(problems))


def _say_plan(batch: Batch, sweeps: Sequence[Sweep], terminal: Terminal) -> None:
    rows = []
    for each in sweeps:
        state = FINISHED if is_finished(each) else "goes on" if each.folder.exists() else "new"
        rows.append((each.name, state, each.plan.options.trials, len(each.plan.baselines)))
    table = pd.DataFrame(rows, columns=["sweep", "state", "searched trials", "baselines"])
    terminal.rows(f"batch {batch.name}", table, keys=["sweep"])
    teachers = {
        digest([each.plan.experiment.evaluator, each.plan.experiment.teacher, each.plan.data.digest])
        for each in sweeps
    }
    limits = [] if batch.budget.hours is None else [f"{batch.budget.hours:g} hours"]
    limits += [] if batch.budget.trials is None else [f"{batch.budget.trials} searched trials"]
    terminal.say(
        f"{len(sweeps)} sweeps: {table['searched trials'].sum()} searched trials, {table['baselines'].sum()} baselines, one recheck each; "
        f"evaluator and teacher of {len(teachers)} kinds, each trained once; budget: {' and '.join(limits) or 'no limit'}"
    )


# ---- running -----------------------------------------------------------------------------------------------


class Meter:
    """What of the budget is spent, over every start of the batch."""

    def __init__(self, budget: Budget, file: Path, sweeps: Sequence[Sweep]):
        self.budget, self.clock, self.sweeps = budget, Clock(file), sweeps
        self.stopped = ""
        """Why nothing more may start."""
        self.clock.sec()

    def may_start(self, is_new: bool) -> bool:
        """Whether one more trial may start; `is_new`: a searched one that is not in a ledger yet."""
        spent_hours = self.clock.sec() / 3600
        if self.budget.hours is not None and spent_hours >= self.budget.hours:
            self.stopped = f"the budget of {self.budget.hours:g} hours is spent"
        elif (
            is_new
            and self.budget.trials is not None
            and sum(map(_num_searched, self.sweeps)) >= self.budget.trials
        ):
            self.stopped = f"the budget of {self.budget.trials} searched trials is spent"
        return not self.stopped


def is_finished(each: Sweep) -> bool:
    """Whether a resume would find nothing to do: every trial has a result, and the tables are written."""
    if not (each.folder / "trials.parquet").exists():
        return False
    trials = read_trials(each.folder)
    return (
        all(trial["result"] is not None for trial in trials)
        and _num_searched(each) >= each.plan.options.trials
    )


def _num_searched(each: Sweep) -> int:
    return sum(trial["role"] == "search" for trial in read_trials(each.folder)) if each.folder.exists() else 0


def _run_all(batch: Batch, sweeps: Sequence[Sweep], meter: Meter, terminal: Terminal) -> dict[str, str]:
    """Every sweep's name with its state: finished, failed with the reason, unfinished, or not started."""
    states = {each.name: FINISHED if is_finished(each) else "not started" for each in sweeps}
    left = [each for each in sweeps if states[each.name] != FINISHED]
    if not left:
        return states
    with sweep_run.on_ray([each.plan.options for each in left]):
        for each in left:
            if not meter.may_start(_num_searched(each) < each.plan.options.trials):
                break
            terminal.say(f"sweep {sweeps.index(each) + 1} of {len(sweeps)}")
            states[each.name] = _run_one(batch, each, meter, terminal)
    return states


def _run_one(batch: Batch, each: Sweep, meter: Meter, terminal: Terminal) -> str:
    """The sweep's state afterwards. Whatever makes it fail is its own: the others go on."""
    try:
        with sweep_run.opened(each.plan, terminal) as (folder, tracker):
            tags = {"raydistill.config.batch": batch.name}
            code = sweep_run.run_one(
                each.plan, folder, tracker, terminal, tags=tags, may_start=meter.may_start
            )
    except Exception as error:
        log = meter.clock.file.parent / f"{each.name}.error.txt"
        log.write_text(traceback.format_exc())
        terminal.say(f"sweep {each.name} failed: {type(error).__name__}: {error}; see {log}")
        return f"failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if code == 0:
        return FINISHED
    return "unfinished" if meter.stopped else "failed: no student could be trained"


# ---- the tables --------------------------------------------------------------------------------------------


def batch_tables(
    sweeps: Sequence[Sweep], states: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One row a sweep; mean and standard deviation over seeds, one row a space and method; every front member of the finished sweeps.

    All from the sweeps' result tables. An unfinished sweep has no numbers: its front is not yet what the others' are.
    """
    rows, fronts = [], []
    for each in sweeps:
        plan = each.plan
        place: dict[str, Any] = {
            "space": Path(each.entry.space).stem,
            "method": each.entry.method.name,
            "seed": each.entry.seed,
        }
        row = {"sweep": each.name, **place, "state": states[each.name], "searched": _num_searched(each)}
        if states[each.name] == FINISHED:
            table = tables.read_table(each.folder / "trials.parquet")
            points = tables.objective_points(tables.mean_over_seeds(table), plan.objectives)
            front = table[table["front.member"]]
            row |= {
                "front_members": len(front),
                "hypervolume": pareto.hypervolume(
                    points, [direction for _, direction in plan.objectives], plan.reference
                ),
                "reference": ", ".join(
                    f"{name} {value:g}"
                    for (name, _), value in zip(plan.objectives, plan.reference, strict=True)
                ),
                "wall_sec": table["wall_sec"].sum(),
            }
            fronts.append(front.drop(columns="seed").assign(**place)[[*place, *front.columns.drop("seed")]])
        rows.append(row)
    columns = [
        "sweep",
        "space",
        "method",
        "seed",
        "state",
        "searched",
        "front_members",
        "hypervolume",
        "reference",
        "wall_sec",
    ]
    by_sweep = pd.DataFrame(rows, columns=columns).astype(
        {"front_members": "Int64", "hypervolume": "float64", "wall_sec": "float64"}
    )
    grouped = by_sweep[by_sweep["state"] == FINISHED].groupby(["space", "method"], sort=False)
    summary = grouped.agg(
        seeds=("seed", "count"),
        hypervolume_mean=("hypervolume", "mean"),
        hypervolume_sd=("hypervolume", "std"),
        front_members_mean=("front_members", "mean"),
    ).reset_index()
    return by_sweep, summary, pd.concat(fronts, ignore_index=True) if fronts else pd.DataFrame()


def _report(
    batch: Batch, sweeps: Sequence[Sweep], states: dict[str, str], folder: Path, terminal: Terminal
) -> None:
    by_sweep, summary, fronts = batch_tables(sweeps, states)
    for name, table in (("sweeps", by_sweep), ("summary", summary), ("fronts", fronts)):
        write_atomic(folder / f"{name}.csv", partial(table.to_csv, index=False))
    terminal.console.print()
    terminal.rows(
        f"batch {batch.name}: every sweep",
        by_sweep.drop(columns=["space", "method", "seed"]),
        keys=["sweep"],
        texts=["state", "reference"],
    )
    if len(summary):
        terminal.rows("mean and standard deviation over seeds", summary, keys=["space", "method"])
    terminal.say(f"tables: {folder}/sweeps.csv, summary.csv and fronts.csv (every front member)")
    terminal.say(
        f"in MLflow: tags.`raydistill.config.batch` = '{batch.name}' in experiment {batch.experiment}"
    )
