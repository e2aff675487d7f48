"""The students of one sweep, trained by Ray: what the search proposes, replicates, and the recheck."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from raydistill.cluster import ray_train, ray_tune
from raydistill.cluster.placement import DRIVER_CPUS, Placement, Placements
from raydistill.errors import BudgetError, RaydistillError
from raydistill.planning.plan import Plan
from raydistill.records import remote
from raydistill.records.budget import Limits
from raydistill.records.trials import Trial
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.trial_queue import MayStart, TrialQueue
from raydistill.sweep.unfinished import LivePage
from raydistill.sweep.watch import watcher
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger


class Ended(Enum):
    """How a sweep, or one step of it, ended."""

    DONE = "nothing of it is left to train"
    LIMIT = "a limit of the sweep is reached: what it has is reported"
    HELD_BACK = "the batch lets no further trial start: the sweep waits for a resume"
    NO_STUDENT = "no student could be trained"


@dataclass(frozen=True)
class SweepRun:
    """One sweep on a running Ray, once evaluator and teacher are there: its three steps, one after the other.

    What interrupts it, and who answers:

    * A signal (Ctrl-C, SIGTERM, SIGHUP) raises KeyboardInterrupt out of the step (`watch.signals_interrupt`,
      `watch.watcher`). `run.run_sweep` says how to go on. Trials keep their checkpoints.
    * A process or node that is lost: Ray Tune starts its trial again, from its checkpoint, twice
      (`cluster.ray_tune`); Ray Train starts stages and the recheck again, once (`cluster.ray_train`). A trial
      that still has no result counts as FAIL in memory, not on disk, so that a resume tries it again
      (`Ledger.end`). Where the cluster lacks room for --wait-for-nodes, `watch.watcher` raises RunError out
      of the step.
    * A budget that is spent: `limits`, then `permission`, are asked before each trial. A trial that runs
      goes on to its end, then the step ends with LIMIT or HELD_BACK.
    * A trial that fails has a result that says why. It ends nothing.
    """

    ledger: Ledger
    placements: Placements
    tracker: Tracker
    terminal: Terminal
    limits: Limits
    """The sweep's own limits of time and GPU-hours."""
    permission: MayStart = lambda is_new: True
    """Asked before each trial that the limits allow; a batch refuses where its budget is spent."""

    @property
    def plan(self) -> Plan:
        """What is to be trained."""
        return self.ledger.plan

    def run(self) -> Ended:
        """All steps, up to one that does not end as DONE; returns how that ended."""
        for step in (self.search, self.replicate, self.recheck):
            if (ended := step()) is not Ended.DONE:
                return ended
        return Ended.DONE

    def search(self) -> Ended:
        """Trains unfinished trials, then proposals, until the sweep has its number of searched trials."""
        num_new = max(0, self.plan.options.trials - len(self.ledger.searched))
        ended = self._train(self._queue(self.ledger.unfinished, num_new, self._propose))
        if ended is Ended.HELD_BACK or self.ledger.front():
            return ended
        return Ended.NO_STUDENT

    def replicate(self) -> Ended:
        """Trains front members with further seeds, until the front is certain, stable enough, or paid for."""
        # What still ran when the front looked stable may have changed that.
        while self.ledger.to_replicate() is not None:
            num_left = self.plan.options.replicates - len(self.ledger.replicates)
            ended = self._train(self._queue([], num_left, self._propose_replicate, is_search=False))
            if ended is not Ended.DONE:
                return ended
        return Ended.DONE

    def recheck(self) -> Ended:
        """Trains one front member once more, with its energy network, by a TorchTrainer of 2 workers.

        Nothing is trained where that is skipped.
        """
        if self.plan.options.skip_recheck:
            return Ended.DONE
        ledger, group = self.ledger, self.placements.recheck
        recheck = next((trial for trial in ledger.trials if trial.role == "recheck"), None)
        if recheck is None:
            recheck = ledger.add_recheck(to_recheck(ledger))
        if recheck.result is not None:
            return Ended.DONE
        if not self._may_start(False):
            return self._refused()
        self.terminal.say(f"trial {recheck.recheck_of} again, by a TorchTrainer of {group.workers} workers")
        folder = ledger.folder_of(recheck)
        self.tracker.send_trial(recheck, folder)
        try:
            watch = watcher(group, 0.0, self.plan.options.wait_for_nodes, self.terminal)
            ray_train.perform_sharded(recheck.job, folder, group, watch)
        except RaydistillError as error:
            (folder / "error.txt").write_text(str(error))
        self.tracker.send_trial(ledger.end(recheck), folder)
        return Ended.DONE

    def _may_start(self, is_new: bool) -> bool:
        return self.limits.may_start() and self.permission(is_new)

    def _refused(self) -> Ended:
        """How a step ended that `_may_start` has ended."""
        return Ended.LIMIT if self.limits.reached else Ended.HELD_BACK

    def _propose(self) -> Trial | None:
        try:
            return self.ledger.propose()
        except BudgetError as error:
            self.terminal.say(f"fewer trials than asked for: {error}")
            return None

    def _propose_replicate(self) -> Trial | None:
        original = self.ledger.to_replicate()
        return None if original is None else self.ledger.add_replicate(original)

    def _queue(
        self,
        unfinished: list[Trial],
        num_new: int,
        propose: Callable[[], Trial | None],
        *,
        is_search: bool = True,
    ) -> TrialQueue:
        group = self.placements.trials.group
        return TrialQueue(
            self.ledger,
            self.tracker,
            self.terminal,
            self._may_start,
            propose,
            group.workers * group.gpus,
            unfinished,
            num_new,
            LivePage(self.ledger.folder),
            is_search,
        )

    def _train(self, queue: TrialQueue) -> Ended:
        """Trains what the queue hands out."""
        placement, ledger = self.placements.trials, self.ledger
        if queue.total == 0:
            return Ended.DONE
        self.terminal.say(
            f"{queue.total} trials to train, {placement.max_concurrent} at a time, {how(placement)}"
        )
        driver_cpus = 0.0 if placement.inline else DRIVER_CPUS
        remote.remove(ledger.folder / "ray")
        ray_tune.run_trials(
            queue.next_trial,
            queue.reported,
            queue.trial_ended,
            should_stop=queue.should_stop,
            watch=watcher(placement.group, driver_cpus, self.plan.options.wait_for_nodes, self.terminal),
            folder_of=ledger.folder_of,
            num_trials=queue.total,
            placement=placement,
            storage=ledger.folder / "ray",
        )
        return self._refused() if queue.was_refused else Ended.DONE


def how(placement: Placement) -> str:
    """How each trial is trained, in words."""
    how = f"by Ray Train, {placement.group.workers} workers a trial"
    if placement.inline:
        how = "inline"
    return f"{how}, {placement.group.gpus:g} GPUs a worker" if placement.group.gpus else how


def to_recheck(ledger: Ledger) -> Trial:
    """The trial that is trained again: the best front member with a mutual-information term.

    Where the front has none, it is the best trial that has a term; else the best front member. The best one
    is so by the first objective that is no cost.
    """
    qualities = [objective for objective in ledger.plan.objectives if not objective[0].startswith("cost/")]
    name, direction = qualities[0]
    front = ledger.front()
    complete = [trial for trial in ledger.searched if trial.is_complete]
    with_term = [[trial for trial in group if trial.has_terms] for group in (front, complete)]
    candidates = next(group for group in (*with_term, front) if group)
    return (max if direction == "max" else min)(candidates, key=lambda trial: trial.value(name))
