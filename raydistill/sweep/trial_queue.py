"""The trials of one call of Ray Tune: which it runs next, and what is made of what it tells."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from raydistill import search
from raydistill.records.trials import Evaluation, Trial
from raydistill.sweep.tracker import Tracker
from raydistill.sweep.unfinished import LivePage
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger

MayStart = Callable[[bool], bool]
"""Whether a trial may start now. It is given True for a new trial of the search, False for any other: a
baseline, a replicate, or one to go on with."""


@dataclass
class TrialQueue:
    """Hands out unfinished trials, then new ones, and takes what becomes of them into ledger and MLflow.

    Its methods are the callbacks of `cluster.ray_tune.run_trials`, which calls them one at a time.
    """

    ledger: Ledger
    tracker: Tracker
    terminal: Terminal
    may_start: MayStart
    """Asked before each trial."""
    propose: Callable[[], Trial | None]
    """Gives the next new trial; None: there is none."""
    num_gpus: float
    """GPUs that a trial holds while it runs."""
    unfinished: list[Trial]
    """Trials to go on with; those left are still to start."""
    num_new: int
    """New trials still to start."""
    page: LivePage
    """Drawn as trials end."""
    is_search: bool = True
    """Whether the new trials are the search's; else they are replicates."""
    was_refused: bool = field(default=False, init=False)
    """Whether `may_start` has refused a trial."""

    def __post_init__(self) -> None:
        self.total, self.num_ended, self.started = len(self.unfinished) + self.num_new, 0, time.monotonic()
        plan = self.ledger.plan
        self.early_stopping = search.EarlyStopping(plan.problem) if plan.options.early_stopping else None

    def next_trial(self) -> Trial | None:
        """The next trial to run; None: there is none, or it may not start."""
        if not self.unfinished and not self.num_new:
            return None
        if not self.may_start(self.is_search and not self.unfinished):
            self.was_refused = True
            return None
        if (trial := self._take()) is not None:
            self.tracker.send_trial(trial, self.ledger.folder_of(trial))
        return trial

    def _take(self) -> Trial | None:
        if self.unfinished:
            return self.unfinished.pop(0)
        self.num_new -= 1
        return self.propose()

    def should_stop(self, trial: Trial, evaluation: Evaluation) -> bool:
        """Takes an evaluation into the ledger, and says whether early stopping ends its trial there."""
        ledger = self.ledger
        ledger.take_in(trial, evaluation)
        is_last = evaluation.nimg >= trial.budget_nimg
        if self.early_stopping is None or trial.role != "search" or is_last:
            return False
        index = [searched.number for searched in ledger.searched].index(trial.number)
        return self.early_stopping(ledger.history(), index)

    def reported(self, trial: Trial, evaluation: Evaluation) -> None:
        """Sends an evaluation of a running trial to MLflow."""
        self.tracker.log_report(trial.trial_id, evaluation)

    def trial_ended(self, trial: Trial, stopped: bool, reason: str = "") -> None:
        """Takes the result of a trial into the ledger and MLflow, and says it. `reason`: why it failed."""
        trial = self.ledger.end(trial, stopped=stopped, num_gpus=self.num_gpus, reason=reason)
        self.tracker.send_trial(trial, self.ledger.folder_of(trial))
        self.num_ended += 1
        left_sec = (time.monotonic() - self.started) / self.num_ended * (self.total - self.num_ended)
        front = [member.trial_id for member in self.ledger.front()]
        self.terminal.trial_ended(trial, self.num_ended, self.total, front, left_sec)
        self.page.trial_ended()
