"""The students of one sweep, trained by Ray: what the search proposes, replicates, and the recheck."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from raydistill import search
from raydistill.cluster import ray_train, ray_tune
from raydistill.cluster.placement import DRIVER_CPUS, Placement, Placements
from raydistill.config.experiment import Job
from raydistill.errors import BudgetError, RaydistillError
from raydistill.records import remote
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.watch import watcher
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger, Trial

MayStart = Callable[[bool], bool]
"""Whether a trial may start now. It is given True for a new trial of the search, False for any other: a
baseline, a replicate, or one to go on with."""


@dataclass
class Students:
    """Trains the students of one sweep. Each step returns False where `may_start` ended it."""

    ledger: Ledger
    placements: Placements
    tracker: Tracker
    terminal: Terminal
    may_start: MayStart

    def search(self) -> bool:
        """Trains unfinished trials, then proposals, until the sweep has its number of searched trials."""

        def propose() -> Trial | None:
            try:
                return self.ledger.propose()
            except BudgetError as error:
                self.terminal.say(f"fewer trials than asked for: {error}")
                return None

        num_new = max(0, self.ledger.plan.options.trials - len(self.ledger.searched))
        return self._train(self.ledger.unfinished, num_new, propose, self.may_start)

    def replicate(self) -> bool:
        """Trains front members with further seeds, until the front is certain, stable enough, or paid for."""

        def propose() -> Trial | None:
            original = self.ledger.to_replicate()
            return None if original is None else self.ledger.add_replicate(original)

        # What still ran when the front looked stable may have changed that.
        while self.ledger.to_replicate() is not None:
            num_left = self.ledger.plan.options.replicates - len(self.ledger.replicates)
            if not self._train([], num_left, propose, lambda is_new: self.may_start(False)):
                return False
        return True

    def recheck(self) -> bool:
        """Trains one front member once more, with its energy network, by a TorchTrainer of 2 workers."""
        ledger, group = self.ledger, self.placements.recheck
        recheck = next((trial for trial in ledger.trials if trial["role"] == "recheck"), None)
        if recheck is None:
            recheck = ledger.add_recheck(to_recheck(ledger))
        if recheck["result"] is not None:
            return True
        if not self.may_start(False):
            return False
        self.terminal.say(
            f"trial {recheck['recheck_of']} again, by a TorchTrainer of {group.workers} workers"
        )
        folder = ledger.folder_of(recheck)
        self.tracker.start_trial(recheck, folder)
        try:
            watch = watcher(group, 0.0, ledger.plan, self.terminal)
            ray_train.perform_sharded(Job.model_validate(recheck["job"]), folder, group, watch)
        except RaydistillError as error:
            (folder / "error.txt").write_text(str(error))
        ledger.end(recheck)
        self.tracker.end_trial(recheck, folder)
        return True

    def _train(
        self, unfinished: list[Trial], num_new: int, propose: Callable[[], Trial | None], may_start: MayStart
    ) -> bool:
        """Trains the unfinished trials, then up to `num_new` that `propose` gives."""
        queue = _Queue(self, unfinished, num_new, propose, may_start)
        placement, ledger = self.placements.trials, self.ledger
        if queue.total == 0:
            return True
        self.terminal.say(
            f"{queue.total} trials to train, {placement.max_concurrent} at a time, {_how(placement)}"
        )
        driver_cpus = 0.0 if placement.inline else DRIVER_CPUS
        remote.remove(ledger.folder / "ray")
        ray_tune.run_trials(
            queue.next_trial,
            lambda trial, numbers: self.tracker.log_report(trial["trial_id"], numbers),
            queue.trial_ended,
            should_stop=queue.should_stop,
            watch=watcher(placement.group, driver_cpus, ledger.plan, self.terminal),
            folder_of=ledger.folder_of,
            num_trials=queue.total,
            placement=placement,
            storage=ledger.folder / "ray",
        )
        return not queue.is_held_back


def _how(placement: Placement) -> str:
    """How each trial is trained, in words."""
    how = f"by Ray Train, {placement.group.workers} workers a trial"
    if placement.inline:
        how = "inline"
    return f"{how}, {placement.group.gpus:g} GPUs a worker" if placement.group.gpus else how


class _Queue:
    """The trials of one call of Ray Tune: what it asks for next, and what it tells."""

    def __init__(
        self,
        students: Students,
        unfinished: list[Trial],
        num_new: int,
        propose: Callable[[], Trial | None],
        may_start: MayStart,
    ):
        self.students, self.unfinished, self.num_new = students, unfinished, num_new
        self.propose, self.may_start = propose, may_start
        self.total, self.num_ended, self.started = len(unfinished) + num_new, 0, time.monotonic()
        self.is_held_back = False
        """Whether `may_start` refused a trial."""
        plan = students.ledger.plan
        self.early_stopping = search.EarlyStopping(plan.problem) if plan.options.early_stopping else None

    def next_trial(self) -> Trial | None:
        """The next trial to run; None: there is none, or it may not start."""
        if not self.unfinished and not self.num_new:
            return None
        if not self.may_start(not self.unfinished):
            self.is_held_back = True
            return None
        if self.unfinished:
            trial = self.unfinished.pop(0)
        else:
            self.num_new -= 1
            if (proposed := self.propose()) is None:
                return None
            trial = proposed
        self.students.tracker.start_trial(trial, self.students.ledger.folder_of(trial))
        return trial

    def should_stop(self, trial: Trial, numbers: ray_tune.Numbers) -> bool:
        """Takes an evaluation into the ledger, and says whether early stopping ends its trial there."""
        ledger = self.students.ledger
        ledger.take_in(trial, numbers)
        is_last = numbers["nimg"] >= trial["job"]["training"]["budget_nimg"]
        if self.early_stopping is None or trial["role"] != "search" or is_last:
            return False
        index = [searched["number"] for searched in ledger.searched].index(trial["number"])
        return self.early_stopping(ledger.history(), index)

    def trial_ended(self, trial: Trial, stopped: bool, reason: str = "") -> None:
        """Takes the result of a trial into the ledger and MLflow, and says it. `reason`: why it failed."""
        ledger, group = self.students.ledger, self.students.placements.trials.group
        ledger.end(trial, stopped=stopped, num_gpus=group.workers * group.gpus, reason=reason)
        self.students.tracker.end_trial(trial, ledger.folder_of(trial))
        self.num_ended += 1
        left_sec = (time.monotonic() - self.started) / self.num_ended * (self.total - self.num_ended)
        front = [member["trial_id"] for member in ledger.front()]
        self.students.terminal.trial_ended(trial, self.num_ended, self.total, front, left_sec)


def to_recheck(ledger: Ledger) -> Trial:
    """The trial that is trained again: the best front member with a mutual-information term.

    Where the front has none, it is the best trial that has a term; else the best front member. The best one
    is so by the first objective that is no cost.
    """
    qualities = [objective for objective in ledger.plan.objectives if not objective[0].startswith("cost/")]
    name, direction = qualities[0]
    front = ledger.front()
    complete = [trial for trial in ledger.searched if trial["result"]["status"] == "COMPLETE"]
    with_term = [
        [trial for trial in group if trial["params"].get("student.mi.weight")] for group in (front, complete)
    ]
    candidates = next(group for group in (*with_term, front) if group)
    return (max if direction == "max" else min)(candidates, key=lambda trial: ledger.value(trial, name))
