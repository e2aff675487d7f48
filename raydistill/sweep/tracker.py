"""Keeps MLflow at the state of the ledger, on a thread of its own: no sweep waits for it, or fails by it.

What could not be sent is sent later, by a new connection that looks first at what MLflow has: so a tracking
store that was locked, stopped, emptied or put back has everything afterwards, and nothing twice. What is
still missing at the end is said, with the command that sends it.
"""

import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from raydistill.errors import ConfigError, RunError, without_passwords
from raydistill.records.trials import Evaluation, Trial
from raydistill.sweep import tracking_models, tracking_parts, tracking_store, tracking_view
from raydistill.sweep.tracking import SentTrial, SweepRuns
from raydistill.sweep.tracking_facts import SweepFacts
from raydistill.sweep.tracking_record import without_user
from raydistill.terminal import Terminal

_LAST_SEC = 30.0
"""Seconds that the end of a sweep waits for a tracking store that fails; MLflow waits 20 for a lock."""
_HUNG_SEC = 120.0
"""Seconds that it waits for one that does nothing."""
_PAUSES_SEC = (1.0, 15.0)
"""The first and the longest time between two tries."""
_FAILURES = 3
"""With so many trials that could not be sent one after the other, it is the store and not the trial."""


class Tracker:
    """Sends one sweep to a tracking store. Nothing here raises, and only `flush` and `close` wait."""

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        results: Path,
        terminal: Terminal,
        *,
        watches_machine: bool = False,
    ):
        """Takes the address of the tracking store; nothing is sent yet.

        Args:
            uri: tracking URI; None: an sqlite file in the results folder.
            experiment: name of the experiment.
            results: the results folder.
            terminal: is told when the store fails, and when it answers again.
            watches_machine: whether the sweep's run gets how busy this machine is.
        """
        self.given, self.uri = uri, uri or tracking_store.default_uri(results)
        self.artifacts = results / tracking_store.ARTIFACTS
        self.experiment, self.terminal = experiment, terminal
        self.runs: SweepRuns | None = None
        """What MLflow had when it was asked last; None: it has never answered."""
        self._sent: dict[str, SentTrial] = {}
        """Trial id -> the trial, in the order of their starts."""
        self._facts, self._folder = SweepFacts("", "", {}, {}), Path()
        self._monitor = tracking_parts.Monitor() if watches_machine else None
        self._no_model: set[str] = set()
        """Trials whose models cannot be made."""
        self._parameters: list[str] = []
        """What was searched, known at the end."""
        self._ending: tuple[Mapping[str, float], Sequence[Path]] | None = None
        self._num_changes, self._num_done = 0, 0
        """How many things there were to send, and how many of the first of them are sent."""
        self._failure: Exception | None = None
        """Why the last try failed; None: it did not."""
        self._is_connected = self._has_ended = self._is_closing = self._gave_up = self._is_over = False
        self._progress_sec = 0.0
        """When something was sent last, by `time.monotonic`."""
        self._changed, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_sending, name="tracking", daemon=True)

    # ---- what the sweep says -------------------------------------------------------------------------------

    def start_sweep(self, folder: Path, facts: SweepFacts) -> None:
        """Begins to send the sweep in `folder`."""
        self._folder, self._facts = folder, facts
        self._thread.start()
        self._change()

    def know(self, facts: SweepFacts) -> None:
        """Takes what became known of the sweep, which was started."""
        self._facts = facts
        self._change()

    def send_trial(self, trial: Trial, folder: Path) -> None:
        """Sends a trial as it is now: one that starts or goes on, or that has a result. `folder`: its own."""
        self._sent.setdefault(trial.trial_id, SentTrial(trial, folder)).trial = trial
        self._change()

    def log_report(self, trial_id: str, evaluation: Evaluation) -> None:
        """Sends the numbers of one evaluation of a trial that has started."""
        self._sent[trial_id].reports.append((int(time.time() * 1000), evaluation))
        self._change()

    def end_sweep(self, table: pd.DataFrame, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """Sends the front, and the sweep's own numbers and files.

        Args:
            table: the trials table with the front's columns. A trial that never started has no run: a limit
                came before.
            metrics: name -> number.
            artifacts: files in the sweep's folder.
        """
        self._parameters = tracking_view.searched(table)
        for _, row in tracking_view.with_order(table, self._facts.objectives).iterrows():
            if row["trial_id"] in self._sent:
                self._sent[row["trial_id"]].front_row = row
        self._ending = (metrics, artifacts)
        self._change()

    def flush(self) -> bool:
        """Waits until all is sent, as long as that goes on; returns whether it is."""
        self._progress_sec = time.monotonic()
        self._hurry.set()
        while self._thread.is_alive() and self._num_done < self._num_changes and not self._gave_up:
            limit_sec = _HUNG_SEC if self._failure is None else _LAST_SEC
            self._gave_up = time.monotonic() - self._progress_sec > limit_sec
            time.sleep(0.02)
        return self._num_done == self._num_changes

    def close(self) -> bool:
        """Ends the runs that nobody goes on with, and says what MLflow does not have.

        Returns:
            whether it has everything.
        """
        if self._monitor is not None:
            self._monitor.end()
        if self._thread.is_alive():
            self._is_closing = True
            self._change()
            self._is_over = not self.flush()
        if self._is_over:
            self.terminal.say(
                f"not yet in MLflow at {self.address}: {self._missing()}. Send it later: {self._command()}"
            )
        return not self._is_over

    @property
    def address(self) -> str:
        """Address of the tracking store, without a password."""
        return without_passwords(self.uri)

    # ---- the thread ----------------------------------------------------------------------------------------

    def _keep_sending(self) -> None:
        pause_sec = _PAUSES_SEC[0]
        while not (self._is_over or (self._is_closing and self._num_done == self._num_changes)):
            self._changed.wait()
            self._changed.clear()
            num_changes = self._num_changes
            try:
                self._send()
            except Exception as error:  # whatever a tracking store may answer: it never ends a sweep
                self._failed(error)
                self._changed.set()
                if not self._hurry.wait(pause_sec):
                    pause_sec = min(2 * pause_sec, _PAUSES_SEC[1])
                else:
                    time.sleep(_PAUSES_SEC[0])
            else:
                self._num_done, pause_sec = num_changes, _PAUSES_SEC[0]
                if self._failure is not None:
                    self.terminal.say("MLflow has everything again")
                self._failure = None

    def _failed(self, error: Exception) -> None:
        """Says why, the first time; the next try makes a new connection."""
        is_first, self._failure, self._is_connected = self._failure is None, error, False
        if is_first:
            why = tracking_store.first_line(error)
            self.terminal.say(f"MLflow: {why}. Training goes on; what MLflow lacks is sent later")

    def _send(self) -> None:
        """Brings MLflow to what is known now. Raises what MLflow raises, once all has been tried."""
        if self.runs is None or not self._is_connected or self.runs.is_replaced():
            self.runs = SweepRuns(self.uri, self.experiment, self.artifacts, self._facts)
            self._is_connected, self._has_ended = True, False
            if self._monitor is not None:
                self._monitor.start(self.uri, self.runs.parent_id)
        if self.runs.facts != self._facts:
            self.runs.describe(self._facts)
        failures: list[Exception] = []
        for each in list(self._sent.values()):
            if each.is_behind(self.runs) and not self._is_over:
                try:
                    self.runs.send(each)
                    self._progress_sec = time.monotonic()
                except Exception as error:
                    failures.append(error)
                    if len(failures) == _FAILURES:
                        break
        if failures:
            raise failures[0]
        if self._ending is not None and not self._has_ended:
            self.runs.describe(self._facts, self._parameters)
            self.runs.end(*self._ending)
            self._has_ended = True
        if self._has_ended and not self._is_over:
            self._send_models(self.runs)
        if self._is_closing:
            self.runs.mark_killed()

    def _send_models(self, runs: SweepRuns) -> None:
        """Sends the models of front and baselines, after everything else: each is made and tried first."""
        for each in self._sent.values():
            trial, trial_id = each.trial, each.trial.trial_id
            is_member = each.front_row is not None and bool(each.front_row["front.member"])
            if trial_id in runs.modelled | self._no_model or not tracking_models.is_wanted(trial, is_member):
                continue
            where = (runs.client, runs.experiment_id, runs.run_ids[trial_id])
            try:
                tracking_models.log(*where, trial, each.folder, self._facts.name)
            except (ConfigError, RunError) as error:
                self._no_model.add(trial_id)
                self.terminal.say(f"MLflow has no model of trial {trial_id}: {error}")
                if not tracking_models.can_write():
                    self._no_model |= set(self._sent)
            else:
                runs.modelled.add(trial_id)
                self._progress_sec = time.monotonic()

    # ---- what is left --------------------------------------------------------------------------------------

    def _change(self) -> None:
        self._num_changes += 1
        self._changed.set()

    def _missing(self) -> str:
        """What MLflow does not have, in words."""
        runs, trials = self.runs, self._sent.values()
        behind = sum(runs is None or each.is_behind(runs) for each in trials)
        ending = self._ending is not None and not self._has_ended
        parts = [f"{behind} of {len(trials)} trials"] * (behind > 0) + ["the front"] * ending
        return " and ".join(parts) or "how its runs ended"

    def _command(self) -> str:
        words = ["raydistill", "track", str(self._folder)]
        if self.given and without_user(self.given) != self.given:
            words += ["--mlflow", without_passwords(self.given)]
        return shlex.join(words)
