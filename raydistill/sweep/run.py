"""One sweep: evaluator and teacher, then the search over students by Ray Tune and Optuna, then the report.

The ledger (`trials/*/trial.json`, `result.json`) is the truth. A resume reads it: trials with a result are
kept, the others go on from their checkpoints under the same number, and proposals continue from the results
so far. Ray's own snapshot is never read.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from raydistill import plugins, ray_address
from raydistill.cluster import nodes, ray_train, runtime
from raydistill.cluster.placement import Group, place_stages
from raydistill.config.base import canonical
from raydistill.config.space import TEACHER_FACTOR
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError, RunError
from raydistill.planning import scorers
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan
from raydistill.records import locks, mirror, owners, remote, store, stored_paths
from raydistill.records.budget import Clock, Limits
from raydistill.records.trials import read_trials
from raydistill.search import warm_start
from raydistill.sweep import plan_report, report, tracking_start, tracking_store
from raydistill.sweep.plan_report import PlanReport
from raydistill.sweep.sweep_result import SweepResult, load_sweep
from raydistill.sweep.sweep_run import Ended, SweepRun
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.trial_queue import MayStart
from raydistill.sweep.watch import log_watcher, signals_interrupt, watcher
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger
from raydistill.trials.stages import Stages, evaluator_done, stages_done, train_stages


def run_sweep(options: SweepOptions, *, verbose: bool = False) -> SweepResult:
    """Runs a sweep, or goes on with one: trains evaluator and teacher, then searches students.

    Ray that this process has initialised is used, and left running; else one is started for the sweep and
    ended with it, or the cluster that RAY_ADDRESS names is joined and left.

    Args:
        options: what `raydistill sweep` takes, by the names of its options.
        verbose: whether to print what the command prints; else nothing is printed.

    Returns:
        The sweep, as `load_sweep` reads it from its folder.

    Raises:
        InputError: something is wrong with the options, the data, the store or the cluster. Nothing was
            trained, where that could be known before.
        RunError: evaluator or teacher could not be trained, no student could, a trial was left without a
            result, or a lost node did not come back. What has ended is kept: `resume=True` goes on.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; the sweep goes on with `resume=True`.
    """
    if options.plan:
        raise ConfigError("--plan: it trains nothing: call plan_sweep")
    tracking_store.require_known_scheme(options.mlflow)
    terminal = Terminal(quiet=not verbose)
    plan = check(options, terminal.say)
    with opened(plan, terminal) as (folder, tracker):
        try:
            with on_ray([options]):
                trouble = run_one(plan, folder, tracker, terminal)
        except KeyboardInterrupt:
            terminal.say(
                "interrupted; finished trials are kept. "
                f"Go on: the same command with --resume --name {folder.name}"
            )
            raise
    if trouble:
        raise RunError(f"sweep {folder.name}: {trouble}")
    return load_sweep(folder)


def plan_sweep(options: SweepOptions) -> PlanReport:
    """What a sweep of these options will take: trials, costs, time, memory, trials at a time, disk.

    Everything is checked as for the sweep, data are prepared in the store, a few steps are timed. Nothing is
    trained and nothing printed.

    Raises:
        InputError: something is wrong with the options, the data, the store or the cluster.
    """
    tracking_store.require_known_scheme(options.mlflow)
    plan = check(options)
    if not ray_address() and not runtime.is_running():
        return plan_report.report_plan(plan, [runtime.this_machine()])
    with on_ray([options]):
        return plan_report.report_plan(plan, runtime.probe_nodes(plan.store))


@contextmanager
def opened(plan: Plan, terminal: Terminal) -> Iterator[tuple[Path, Tracker]]:
    """The sweep's folder, held by this process alone, and its tracker, closed at the end."""
    options = plan.options
    earlier = _find_sweep(plan) if options.resume else None
    tracker = Tracker(
        options.mlflow,
        options.experiment,
        plan.store,
        terminal,
        watches_machine=options.system_metrics,
    )
    tracking_store.require_tracking_server(options.mlflow, options.experiment, tracker.artifacts)
    folder = earlier or _new_sweep(plan)
    with locks.locked(folder / "lock", what=f"sweep {folder.name}", wait=False):
        owners.remove_left(folder, below=True)
        if url := mirror.url_of(folder):
            terminal.say(f"results go to {url}; this machine's copy:")
        terminal.say(f"sweep {folder.name} in {folder}; logs in {folder / 'trials'}/*/log.txt")
        terminal.say(f"follow it: raydistill watch {shlex.quote(mirror.sweep_given(folder))}")
        terminal.say(report.mlflow_line(tracker))
        try:
            yield folder, tracker
        finally:
            tracker.close()


@contextmanager
def on_ray(sweeps: Sequence[SweepOptions]) -> Iterator[None]:
    """Inside, Ray runs for one sweep, or for several one after the other, and SIGTERM and SIGHUP interrupt.

    A Ray that this process has initialised before is used as it is, and is not ended.

    Raises:
        ConfigError: the cluster cannot be joined, or its nodes would run other code.
    """
    if runtime.is_running():
        runtime.set_up_driver()
        with signals_interrupt():
            _require_same_code()
            yield
        return
    sharded = any(options.executor == "train" or options.workers_per_trial > 1 for options in sweeps)
    try:
        runtime.start_ray(dashboard=sharded or torch.cuda.is_available())
        with signals_interrupt():  # after Ray, which installs a handler of its own
            if ray_address():  # an embedded cluster is this installation
                _require_same_code()
            yield
    finally:
        runtime.stop_ray()


def _require_same_code() -> None:
    """Raises ConfigError where a node of the cluster would run other code than this process."""
    nodes.require_same_versions()
    nodes.require_plugins(plugins.to_json())


def run_one(
    plan: Plan,
    folder: Path,
    tracker: Tracker,
    terminal: Terminal,
    *,
    tags: Mapping[str, str] = MappingProxyType({}),
    may_start: MayStart = lambda is_new: True,
) -> str:
    """Runs one sweep on a running Ray, from evaluator and teacher to the report.

    Args:
        folder: the sweep's folder, see `opened`.
        tags: further tags of the sweep's run in MLflow.
        may_start: asked before each trial; False ends the sweep there, unfinished, so that a resume can go
            on.

    Returns:
        What is wrong with its end, in words: no student could be trained, a trial was left without a result,
        or `may_start` ended it. "": nothing is, also where one of the sweep's own limits ended it.
    """
    options, clock = plan.options, Clock(folder / "spent.json")
    tracking_start.start(plan, folder, tracker, tags)
    nodes = runtime.probe_nodes(plan.store)
    placements = place_stages(nodes, options, plan.worker_bytes, plan.sharing)
    if options.max_gpu_hours is not None and not placements.trials.group.gpus:
        raise ConfigError(
            f"--max-gpu-hours {options.max_gpu_hours:g}: the trials use no GPU here; give --max-hours"
        )
    estimated = plan_report.for_sweep(plan, folder, placements, nodes, terminal)
    before_sec = clock.sec()
    were_there = stages_done(plan.experiment, plan.data, plan.store / "cache", plan.scoring)
    ledger = Ledger(plan, folder, _train_stages(plan, placements.stages, terminal))
    stages_sec = None if were_there else clock.sec() - before_sec
    tracking_start.add_evaluator(ledger.stages, folder, tracker)
    _catch_up(ledger, tracker)
    report.begin_page(ledger)
    for line in [*plan.warm_start.messages, *_references(ledger)]:
        terminal.say(line)
    for ngf in plan.excluded_baselines:
        terminal.say(f"uniform {ngf} lies outside the cost window and is left out")
    limits = Limits(options.max_hours, options.max_gpu_hours, clock, ledger.gpu_sec)
    ended = SweepRun(ledger, placements, tracker, terminal, limits, may_start).run()
    if ended is Ended.NO_STUDENT:
        return f"no student was trained: {_last_reason(ledger) or _ended_by(ledger, limits)}"
    if ended is Ended.HELD_BACK:
        return ended.value
    real_test = report.score_on_test(ledger, tracker, terminal)
    planned = plan_report.against_actual(ledger, estimated, placements.trials, clock.sec(), stages_sec)
    report.write_report(ledger, real_test, tracker, terminal, planned, ended_by=_ended_by(ledger, limits))
    clock.sec()
    remote.push(folder, skip=("trials",))
    # trials without a result, not even a failure
    lost = ", ".join(f"{trial.trial_id} ({trial.label})" for trial in ledger.unfinished)
    return f"not trained: {lost}; --resume trains what is left" if ended is Ended.DONE and lost else ""


def _references(ledger: Ledger) -> Iterator[str]:
    """Says the references that come from the teacher's scores."""
    for each, value in zip(ledger.plan.space.objectives, ledger.reference, strict=True):
        if each.reference is None and not each.name.startswith("cost/"):
            yield f"reference of {each.name}: {value:.6g}, {TEACHER_FACTOR:g} times the teacher's"


def _catch_up(ledger: Ledger, tracker: Tracker) -> None:
    """Has MLflow hold every trial that has a result."""
    for trial in ledger.trials:
        if trial.result is not None:
            tracker.send_trial(trial, ledger.folder_of(trial))


def _last_reason(ledger: Ledger) -> str:
    """Why the last student failed; "" where none has ended."""
    results = [trial.result for trial in ledger.trials if trial.role != "teacher"]
    reasons = [result.reason for result in results if result is not None]
    return reasons[-1] if reasons else ""


def _ended_by(ledger: Ledger, limits: Limits) -> str:
    """Which limit ended the sweep, and what was not trained because of it."""
    asked = ledger.plan.options.trials
    if not limits.reached:
        trained = sum(trial.result is not None for trial in ledger.searched)
        fewer = "" if trained >= asked else f": only {trained} configurations fit"
        return f"--trials {asked}{fewer}"
    left = len(ledger.unfinished) + max(0, asked - len(ledger.searched))
    if ledger.plan.options.skip_recheck:  # a limit that left no trial was reached by replicates
        what = f"{left} trials were not trained" if left else "replicates were not trained"
    else:
        what = f"{left} trials and the recheck were not trained" if left else "the recheck was not trained"
    return f"{limits.reached}: {what}; --resume with a higher limit goes on"


def _train_stages(plan: Plan, group: Group, terminal: Terminal) -> Stages:
    """Evaluator and teacher: from the cache, or trained now by Ray Train."""
    cache, outputs_gb = plan.store / "cache", plan.options.teacher_cache_gb
    with locks.locked(cache / "lock", what="the teacher", wait=True):
        if not stages_done(plan.experiment, plan.data, cache, plan.scoring):
            terminal.say(
                f"{_work_of_stages(plan, cache)}, by a TorchTrainer of "
                f"{group.workers} workers; logs in {cache}/*/*/log.txt"
            )
            watch_logs = log_watcher(cache, terminal)
            watch_run = watcher(group, 0.0, plan.options.wait_for_nodes, terminal)

            def watch() -> None:
                watch_logs()
                watch_run()

            ray_train.train_stages_sharded(
                plan.experiment, plan.data, cache, outputs_gb, group, watch, plan.scoring
            )
        stages = train_stages(
            plan.experiment, plan.data, cache, lambda evaluation: None, outputs_gb, plan.scoring
        )
    context, num_val = stages.teacher_result.context, plan.info.counts["val"]
    scored = f"on {context['num_samples']:,} pictures of val, resized by: {context['resize']}"
    ceiling = f"on {num_val:,} real pictures of val: the ceiling"
    for name, digest, result, what in (
        ("evaluator", stages.evaluator.digest, stages.evaluator_result, ceiling),
        ("teacher", stages.teacher.digest, stages.teacher_result, scored),
    ):
        is_given = name == "teacher" and plan.experiment.given_teacher is not None
        metrics = result.metrics.items()
        scores = ", ".join(f"{metric} {value:.4f}" for metric, value in metrics if metric.startswith("val/"))
        terminal.say(
            f"{name} {digest}: {scores} ({what}), {result.wall_sec:.0f} s of "
            + ("scoring" if is_given else "training")
        )
    return stages


def _work_of_stages(plan: Plan, cache: Path) -> str:
    """What has to be done for evaluator and teacher; a teacher that was given is not trained."""
    if plan.experiment.given_teacher is None:
        return "evaluator and teacher: training once"
    if evaluator_done(plan.experiment, plan.data, cache) is not None:
        return "given teacher: scoring once"
    return "evaluator: training once, given teacher: scoring once"


def _find_sweep(plan: Plan) -> Path:
    """The folder of the sweep that --resume means. Raises StoreError where there is none or it is damaged."""
    folder = store.find_sweep(plan.store, plan.options.name, plan.definition, plugins.sweep_record())
    read_trials(folder)  # says now that a file is damaged, not after the teacher is trained
    return folder


def _copies(plan: Plan) -> dict[str, str]:
    """Option that named a file -> its copy, below the store: what a resume takes where the file is gone."""
    options, teacher = plan.options, plan.experiment.given_teacher
    files = () if plan.scoring is None else plan.scoring.files
    named = dict(zip(scorers.options_of(options), (each.file.path for each in files), strict=True))
    if teacher is not None:
        named[f"--teacher {options.teacher}"] = teacher.path
    if (features := plan.experiment.given_features) is not None:
        named[f"--features {options.features}"] = features.path
    within = {option: Path(path) for option, path in named.items()}
    return {
        option: str(path.relative_to(plan.store))
        for option, path in within.items()
        if path.is_relative_to(plan.store)
    }


def _new_sweep(plan: Plan) -> Path:
    """Makes the folder of a new sweep, with all that its resume has to find there."""
    options = plan.options
    facts = {
        "definition": plan.definition,
        "seed": options.seed,
        "sampler": options.sampler,
        "early_stopping": options.early_stopping,
        "data": plan.data.digest,
        "space": canonical(plan.space),
        "experiment": canonical(plan.experiment),
        "plugins": plugins.sweep_record(),
        "copies": _copies(plan),
        **({"lengths": lengths} if (lengths := plan.lengths) else {}),
    }
    files: dict[str, Any] = {f"{stored_paths.DATA}/info.json": plan.info.model_dump(mode="json")}
    if options.warm_start:
        known, rows = warm_start.sweep_record(options.warm_start, plan.warm_start.rows)
        facts |= known
        files |= rows
    return store.create_sweep(plan.store, options.name, Path(options.space).stem, facts, files)
