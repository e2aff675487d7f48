"""One sweep: evaluator and teacher, then the search over students by Ray Tune and Optuna, then the frontier.

The ledger (`trials/*/trial.json`, `result.json`) is the truth. Resume reads it: finished trials are kept, running ones go on from
their checkpoints under the same number, proposals continue from the told history. Ray's own snapshot is never read.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType

import torch

from raydistill import plugins, ray_address, search
from raydistill.cluster import nodes, ray_train, ray_tune, runtime
from raydistill.cluster.placement import DRIVER_CPUS, Group, Placement, place_stages
from raydistill.config.base import canonical
from raydistill.config.experiment import Job
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import BudgetError, ConfigError, RaydistillError
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan
from raydistill.records import mirror, remote, store
from raydistill.records.budget import Clock, Limits
from raydistill.records.trials import read_trials
from raydistill.search import warm_start
from raydistill.sweep import plan_report, report, tracking
from raydistill.sweep.tracking import Tracker, default_uri
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger, Trial
from raydistill.trials.stages import Stages, stages_done, train_stages

MayStart = Callable[[bool], bool]
"""Whether a trial may start now; True is given for a new searched one, False for one that is there: a baseline, or one to go on with."""


def run(options: SweepOptions) -> int:
    """Runs or resumes a sweep; returns the exit code: 0, 1 where no student could be trained, 130 interrupted."""
    tracking.require_reachable(options.mlflow)
    plan, terminal = check(options), Terminal()
    if options.plan:
        with on_ray([options]) if ray_address() else nullcontext():
            nodes = runtime.probe_nodes(plan.store) if ray_address() else [runtime.this_machine()]
            plan_report.say_plan(plan, nodes, terminal)
        return 0
    with opened(plan, terminal) as (folder, tracker):
        try:
            with on_ray([options]):
                return run_one(plan, folder, tracker, terminal)
        except KeyboardInterrupt:
            terminal.say(
                f"interrupted; finished trials are kept. Go on: the same command with --resume --name {folder.name}"
            )
            return 130


@contextmanager
def opened(plan: Plan, terminal: Terminal) -> Iterator[tuple[Path, Tracker]]:
    """The sweep's folder, held by this process alone, and its tracker, closed at the end."""
    options = plan.options
    found = _find_sweep(plan) if options.resume else None
    with store.locked(plan.store / "mlflow.lock", what="the tracking store", wait=True):
        tracker = Tracker(
            options.mlflow or default_uri(plan.store), options.experiment, plan.store / "mlartifacts"
        )
    folder = found or _new_sweep(plan)
    with store.locked(folder / "lock", what=f"sweep {folder.name}", wait=False):
        if url := mirror.url_of(folder):
            terminal.say(f"results go to {url}; this machine's copy:")
        terminal.say(f"sweep {folder.name} in {folder}; logs in {folder / 'trials'}/*/log.txt")
        try:
            yield folder, tracker
        finally:
            tracker.close()


@contextmanager
def on_ray(sweeps: Sequence[SweepOptions]) -> Iterator[None]:
    """Ray for one sweep or for several, one after the other; SIGTERM interrupts meanwhile."""
    sharded = any(options.executor == "train" or options.workers_per_trial > 1 for options in sweeps)
    try:
        runtime.start_ray(dashboard=sharded or torch.cuda.is_available())
        with _sigterm_interrupts():  # after Ray, which installs a handler of its own
            if ray_address():  # an embedded cluster is this installation
                nodes.require_same_versions()
                nodes.require_plugins(plugins.to_json())
            yield
    finally:
        runtime.stop_ray()


def run_one(
    plan: Plan,
    folder: Path,
    tracker: Tracker,
    terminal: Terminal,
    *,
    tags: Mapping[str, str] = MappingProxyType({}),
    may_start: MayStart = lambda is_new: True,
) -> int:
    """One sweep on a running Ray, from evaluator and teacher to the frontier.

    Args:
        tags: further tags of the sweep's MLflow run.
        may_start: asked before each trial; False ends the sweep there, unfinished, for a resume to go on.

    Returns: 0, also where a limit of its own ended it; 1 where no student could be trained, or `may_start` ended it.
    """
    options, clock = plan.options, Clock(folder / "spent.json")
    facts = {
        "raydistill.config.space": options.space,
        "raydistill.definition": plan.definition,
        "raydistill.data": plan.data.digest,
    }
    facts["raydistill.trials"] = str(options.trials)
    params = {"space": options.space, "preset": plan.space.preset, "seed": options.seed}
    params |= {"sampler": options.sampler, "early_stopping": options.early_stopping}
    tracker.start_sweep(folder.name, store.read_sweep(folder)["sweep_id"], facts | dict(tags), params)
    nodes = runtime.probe_nodes(plan.store)
    placements = place_stages(nodes, options, lambda: plan.trial_bytes)
    if options.max_gpu_hours is not None and not placements.trials.group.gpus:
        raise ConfigError(
            f"--max-gpu-hours {options.max_gpu_hours:g}: the trials use no GPU here; give --max-hours"
        )
    estimated = plan_report.for_sweep(plan, folder, placements, nodes, terminal)
    before_sec, were_there = clock.sec(), stages_done(plan.experiment, plan.data, plan.store / "cache")
    ledger = Ledger(plan, folder, _train_stages(plan, placements.stages, terminal))
    stages_sec = None if were_there else clock.sec() - before_sec
    for known in ledger.trials:
        if known["result"] is not None and known["trial_id"] not in tracker.ended:
            tracker.start_trial(known)
            tracker.end_trial(known, ledger.folder_of(known))
    for line in plan.warm_start.messages:
        terminal.say(line)
    for ngf in plan.excluded_baselines:
        terminal.say(f"uniform {ngf} lies outside the cost window and is left out")
    limits = Limits(options.max_hours, options.max_gpu_hours, clock, ledger.gpu_sec)

    def allowed(is_new: bool) -> bool:
        return limits.may_start() and may_start(is_new)

    if not _search(ledger, placements.trials, tracker, terminal, allowed) and not limits.reached:
        return 1
    if not ledger.front():
        reasons = [
            known["result"]["reason"]
            for known in ledger.trials
            if known["result"] is not None and known["role"] != "teacher"
        ]
        terminal.say(f"no student was trained: {reasons[-1] if reasons else _ended_by(ledger, limits)}")
        return 1
    if (
        not limits.reached
        and not _replicate(ledger, placements.trials, tracker, terminal, allowed)
        and not limits.reached
    ):
        return 1
    if (
        not limits.reached
        and not _recheck(ledger, placements.recheck, tracker, terminal, allowed)
        and not limits.reached
    ):
        return 1
    real_test = report.score_on_test(ledger)
    planned = plan_report.against_actual(
        ledger, estimated, placements.trials.group.gpus, clock.sec(), stages_sec
    )
    report.write_report(ledger, real_test, tracker, terminal, planned, ended_by=_ended_by(ledger, limits))
    clock.sec()
    remote.push(folder, skip=("trials",))
    return 0


def _ended_by(ledger: Ledger, limits: Limits) -> str:
    """Which limit ended the sweep, and what it left out."""
    asked, trained = ledger.plan.options.trials, sum(known["result"] is not None for known in ledger.searched)
    if not limits.reached:
        return (
            f"--trials {asked}"
            if trained >= asked
            else f"--trials {asked}: only {trained} configurations fit"
        )
    left = len(ledger.unfinished) + max(0, asked - len(ledger.searched))
    what = f"{left} trials and the recheck were not trained" if left else "the recheck was not trained"
    return f"{limits.reached}: {what}; --resume with a higher limit goes on"


def _watcher(group: Group, driver_cpus: float, plan: Plan, terminal: Terminal) -> Callable[[], None]:
    """Ends what runs where SIGTERM came, or where the nodes lack room for it."""
    watch_nodes = runtime.ShortageWatch(group, driver_cpus, plan.options.wait_for_nodes, terminal.say)

    def watch() -> None:
        if _SIGTERM_CAME.is_set():
            raise KeyboardInterrupt
        watch_nodes()

    return watch


def _train_stages(plan: Plan, group: Group, terminal: Terminal) -> Stages:
    """Evaluator and teacher: from the cache, or trained now by Ray Train."""
    cache, outputs_gb = plan.store / "cache", plan.options.teacher_cache_gb
    with store.locked(cache / "lock", what="the teacher", wait=True):
        if not stages_done(plan.experiment, plan.data, cache):
            terminal.say(
                f"evaluator and teacher: training once, by a TorchTrainer of {group.workers} workers; logs in {cache}/*/*/log.txt"
            )
            watch_logs, watch_run = _log_watcher(cache, terminal), _watcher(group, 0.0, plan, terminal)

            def watch() -> None:
                watch_logs()
                watch_run()

            ray_train.train_stages_sharded(plan.experiment, plan.data, cache, outputs_gb, group, watch)
        stages = train_stages(plan.experiment, plan.data, cache, lambda numbers: None, outputs_gb)
    for name, digest, result in (
        ("evaluator", stages.evaluator.digest, stages.evaluator_result),
        ("teacher", stages.teacher.digest, stages.teacher_result),
    ):
        scores = ", ".join(
            f"{metric} {value:.4f}"
            for metric, value in result["metrics"].items()
            if metric.startswith("val/")
        )
        what = "on real pictures: the ceiling" if name == "evaluator" else "on val"
        terminal.say(f"{name} {digest}: {scores} ({what}), {result['wall_sec']:.0f} s of training")
    return stages


def _log_watcher(cache: Path, terminal: Terminal) -> Callable[[], None]:
    """Shows every line that is added to the logs of evaluators and teachers from now on."""

    def lines() -> dict[Path, list[str]]:
        return {
            path: path.read_text().splitlines()
            for kind in ("evaluator", "teacher")
            for path in (cache / kind).glob("*/log.txt")
        }

    shown = {path: len(there) for path, there in lines().items()}

    def watch() -> None:
        for path, there in lines().items():
            for line in there[shown.get(path, 0) :]:
                terminal.say(f"{path.parent.parent.name}: {line}")
            shown[path] = len(there)

    return watch


def _search(
    ledger: Ledger, placement: Placement, tracker: Tracker, terminal: Terminal, may_start: MayStart
) -> bool:
    """Runs what is unfinished, then proposals, until the sweep has its number of searched trials. False: `may_start` ended it before."""

    def propose() -> Trial | None:
        try:
            return ledger.propose()
        except BudgetError as error:
            terminal.say(f"fewer trials than asked for: {error}")
            return None

    num_new = max(0, ledger.plan.options.trials - len(ledger.searched))
    return _train(ledger, ledger.unfinished, num_new, propose, placement, tracker, terminal, may_start)


def _replicate(
    ledger: Ledger, placement: Placement, tracker: Tracker, terminal: Terminal, may_start: MayStart
) -> bool:
    """Further seeds of front members, until every place is certain, stable enough, or paid for. False: `may_start` ended it before."""

    def propose() -> Trial | None:
        original = ledger.to_replicate()
        return None if original is None else ledger.add_replicate(original)

    while (
        ledger.to_replicate() is not None
    ):  # what still ran when the front looked stable may have changed that
        left = ledger.plan.options.replicates - len(ledger.replicates)
        if not _train(
            ledger, [], left, propose, placement, tracker, terminal, lambda is_new: may_start(False)
        ):
            return False
    return True


def _train(
    ledger: Ledger,
    queue: list[Trial],
    num_new: int,
    propose: Callable[[], Trial | None],
    placement: Placement,
    tracker: Tracker,
    terminal: Terminal,
    may_start: MayStart,
) -> bool:
    """Trains the queue, then up to `num_new` that `propose` gives. False: `may_start` ended it before."""
    total = len(queue) + num_new
    if total == 0:
        return True
    how = "inline" if placement.inline else f"by Ray Train, {placement.group.workers} workers a trial"
    if placement.group.gpus:
        how += f", {placement.group.gpus:g} GPUs a worker"
    terminal.say(f"{total} trials to train, {placement.max_concurrent} at a time, {how}")
    early_stopping = search.EarlyStopping(ledger.plan.problem) if ledger.plan.options.early_stopping else None
    started, ended, held_back = time.monotonic(), 0, False

    def next_trial() -> Trial | None:
        nonlocal num_new, held_back
        if (queue or num_new) and not may_start(not queue):
            held_back = True
            return None
        if queue:
            following = queue.pop(0)
        elif num_new:
            num_new -= 1
            if (proposed := propose()) is None:
                return None
            following = proposed
        else:
            return None
        tracker.start_trial(following)
        return following

    def should_stop(running: Trial, numbers: ray_tune.Numbers) -> bool:
        ledger.take_in(running, numbers)
        if (
            early_stopping is None
            or running["role"] != "search"
            or numbers["nimg"] >= running["job"]["training"]["budget_nimg"]
        ):
            return False
        return early_stopping(
            ledger.history(), [known["number"] for known in ledger.searched].index(running["number"])
        )

    def trial_ended(ended_trial: Trial, stopped: bool) -> None:
        nonlocal ended
        ledger.end(ended_trial, stopped=stopped, num_gpus=placement.group.workers * placement.group.gpus)
        tracker.end_trial(ended_trial, ledger.folder_of(ended_trial))
        ended += 1
        left_sec = (time.monotonic() - started) / ended * (total - ended)
        front = [member["trial_id"] for member in ledger.front()]
        terminal.trial_ended(ended_trial, ended, total, front, left_sec)

    remote.remove(ledger.folder / "ray")
    ray_tune.run_trials(
        next_trial,
        lambda running, numbers: tracker.log_report(running["trial_id"], numbers),
        trial_ended,
        should_stop=should_stop,
        watch=_watcher(placement.group, 0.0 if placement.inline else DRIVER_CPUS, ledger.plan, terminal),
        folder_of=ledger.folder_of,
        num_trials=total,
        placement=placement,
        storage=ledger.folder / "ray",
    )
    return not held_back


def _recheck(ledger: Ledger, group: Group, tracker: Tracker, terminal: Terminal, may_start: MayStart) -> bool:
    """One front member again, student and energy together, by a TorchTrainer of 2 workers. False: `may_start` forbade it."""
    recheck = next((known for known in ledger.trials if known["role"] == "recheck"), None)
    if recheck is None:
        recheck = ledger.add_recheck(_to_recheck(ledger))
    if recheck["result"] is None:
        if not may_start(False):
            return False
        terminal.say(f"trial {recheck['recheck_of']} again, by a TorchTrainer of {group.workers} workers")
        tracker.start_trial(recheck)
        try:
            watch = _watcher(group, 0.0, ledger.plan, terminal)
            ray_train.perform_sharded(
                Job.model_validate(recheck["job"]), ledger.folder_of(recheck), group, watch
            )
        except RaydistillError as error:
            (ledger.folder_of(recheck) / "error.txt").write_text(str(error))
        ledger.end(recheck)
        tracker.end_trial(recheck, ledger.folder_of(recheck))
    return True


def _to_recheck(ledger: Ledger) -> Trial:
    """The best front member with the MI term; where the front has none, the best trial that has one; else the best front member."""
    name, direction = next(
        objective for objective in ledger.plan.objectives if not objective[0].startswith("cost/")
    )
    front = ledger.front()
    complete = [known for known in ledger.searched if known["result"]["status"] == "COMPLETE"]
    with_energy = [
        [known for known in group if known["params"].get("student.mi.weight")] for group in (front, complete)
    ]
    candidates = next(group for group in (*with_energy, front) if group)
    return (max if direction == "max" else min)(candidates, key=lambda known: ledger.value(known, name))


def _find_sweep(plan: Plan) -> Path:
    folder = store.find_sweep(plan.store, plan.options.name, plan.definition, plugins.sweep_record())
    read_trials(folder)  # a damaged file is told now, not after the teacher
    return folder


def _new_sweep(plan: Plan) -> Path:
    options = plan.options
    facts = {
        "definition": plan.definition,
        "seed": options.seed,
        "sampler": options.sampler,
        "early_stopping": options.early_stopping,
    }
    facts |= {
        "data": plan.data.digest,
        "space": canonical(plan.space),
        "experiment": canonical(plan.experiment),
    }
    facts |= {"plugins": plugins.sweep_record()}
    known, files = (
        warm_start.sweep_record(options.warm_start, plan.warm_start.rows) if options.warm_start else ({}, {})
    )
    return store.create_sweep(plan.store, options.name, Path(options.space).stem, facts | known, files)


_SIGTERM_CAME = threading.Event()
"""Looked at by every watcher: Python drops an exception that a signal raises inside a destructor or a callback from C."""


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, as a cluster's queue sends it, ends a sweep as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        _SIGTERM_CAME.set()
        raise KeyboardInterrupt

    _SIGTERM_CAME.clear()
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
