"""The steps of a sweep, each with how it ended; without Ray, training and MLflow."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_results import synthetic_trials

from raydistill.cluster import ray_train, ray_tune
from raydistill.cluster.placement import Group, Placement, Placements
from raydistill.errors import BudgetError, RunError
from raydistill.records import remote
from raydistill.records.trials import Trial
from raydistill.sweep import run, sweep_run
from raydistill.sweep.sweep_run import Ended, SweepRun
from raydistill.sweep.trial_queue import TrialQueue
from raydistill.sweep.unfinished import LivePage

COMPLETE = synthetic_trials()[8].result
FAILED = synthetic_trials()[12].result


class Pretended:
    """A ledger whose trials end at once, with `result`; it proposes at most `most` of them."""

    def __init__(self, folder: Path, trials: int = 3, replicates: int = 0, skip_recheck: bool = False):
        options = SimpleNamespace(
            trials=trials,
            replicates=replicates,
            skip_recheck=skip_recheck,
            early_stopping=False,
            wait_for_nodes=0,
        )
        objectives = [("val/miou", "max"), ("cost/macs", "min")]
        self.plan = SimpleNamespace(options=options, objectives=objectives, problem=None)
        self.folder, self.trials, self.result, self.most = folder, list[Trial](), COMPLETE, 9

    searched = property(lambda self: [trial for trial in self.trials if trial.role == "search"])
    replicates = property(lambda self: [trial for trial in self.trials if trial.role == "replicate"])
    unfinished = property(lambda self: [trial for trial in self.trials if trial.result is None])

    def folder_of(self, trial: Trial) -> Path:
        return self.folder

    def add(self, role: str, **changes: Any) -> Trial:
        number = len(self.trials)
        changes |= {"number": number, "trial_id": f"{number:04d}", "role": role, "result": None}
        self.trials.append(synthetic_trials()[8].model_copy(update=changes))
        return self.trials[-1]

    def propose(self) -> Trial:
        if len(self.searched) == self.most:
            raise BudgetError("the space is exhausted")
        return self.add("search")

    def to_replicate(self) -> Trial | None:
        return self.trials[0] if len(self.replicates) < self.plan.options.replicates else None

    def add_replicate(self, original: Trial) -> Trial:
        return self.add("replicate", replicate_of=original.trial_id)

    def add_recheck(self, original: Trial) -> Trial:
        return self.add("recheck", recheck_of=original.trial_id)

    def end(self, trial: Trial, **how: Any) -> Trial:
        self.trials[trial.number] = trial.with_result(self.result)
        return self.trials[trial.number]

    def front(self) -> list[Trial]:
        return [trial for trial in self.searched if trial.is_complete][:1]


class Spent:
    """Limits that are reached once so many trials have been asked for."""

    def __init__(self, after: int = 99):
        self.after, self.reached = after, ""

    def may_start(self) -> bool:
        self.after -= 1
        self.reached = "--max-hours 1" if self.after < 0 else ""
        return not self.reached


Make = Callable[..., tuple[SweepRun, Any, list[str]]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A sweep with its ledger, and what is told: a line for each trial that starts or ends, or is said."""

    def run_trials(next_trial: Any, reported: Any, ended: Any, **rest: Any) -> None:
        while (trial := next_trial()) is not None:
            ended(trial, False, "")

    monkeypatch.setattr(ray_tune, "run_trials", run_trials)
    monkeypatch.setattr(ray_train, "perform_sharded", lambda *arguments: None)
    monkeypatch.setattr(remote, "remove", lambda folder: None)
    monkeypatch.setattr(sweep_run, "watcher", lambda *arguments: lambda: None)

    def made(spent: int = 99, permission: Any = lambda is_new: True, **sweep: int) -> Any:
        told: list[str] = []
        tracker: Any = SimpleNamespace(
            send_trial=lambda trial, folder: told.append(
                f"{trial.role} {trial.trial_id} starts"
                if trial.result is None
                else f"{trial.trial_id} {trial.result.status}"
            ),
        )
        terminal: Any = SimpleNamespace(say=told.append, trial_ended=lambda *arguments: None)
        ledger: Any = Pretended(tmp_path, **sweep)
        one = Placement(True, Group(1, 1.0), 1)
        placements = Placements(stages=one.group, trials=one, recheck=Group(2, 1.0))
        limits: Any = Spent(spent)
        return SweepRun(ledger, placements, tracker, terminal, limits, permission), ledger, told

    return made


def test_a_sweep_that_nothing_ends_trains_its_trials_replicates_and_recheck_in_turn(make: Make) -> None:
    sweep, ledger, told = make(replicates=2)
    ledger.add("uniform")
    assert sweep.run() is Ended.DONE
    roles = ["uniform", "search", "search", "search", "replicate", "replicate", "recheck"]
    assert [trial.role for trial in ledger.trials] == roles and ledger.unfinished == []
    starts = [line for line in told if line.endswith("starts")]
    assert starts == [f"{role} {number:04d} starts" for number, role in enumerate(roles)]
    assert [line for line in told if line.endswith("COMPLETE")] == [f"{n:04d} COMPLETE" for n in range(7)]
    assert sweep.run() is Ended.DONE and len(ledger.trials) == 7, "nothing is left for a resume"


def test_a_recheck_that_is_skipped_is_not_trained(make: Make) -> None:
    sweep, ledger, _ = make(trials=1, skip_recheck=True)
    assert sweep.run() is Ended.DONE and [trial.role for trial in ledger.trials] == ["search"]


@pytest.mark.parametrize(
    ("skip_recheck", "left", "says"),
    [
        (False, 2, "2 trials and the recheck were not trained"),
        (False, 0, "the recheck was not trained"),
        (True, 2, "2 trials were not trained"),
        (True, 0, "replicates were not trained"),
    ],
)
def test_what_a_limit_has_left_out_is_said(make: Make, skip_recheck: bool, left: int, says: str) -> None:
    _, ledger, _ = make(trials=3, skip_recheck=skip_recheck)
    for _ in range(3 - left):
        ledger.end(ledger.add("search"))
    limits: Any = SimpleNamespace(reached="--max-hours 1")
    assert run._ended_by(ledger, limits) == f"--max-hours 1: {says}; --resume with a higher limit goes on"


@pytest.mark.parametrize(("spent", "roles"), [(1, 1), (3, 3), (4, 4), (5, 6)])
def test_a_limit_ends_the_step_that_it_is_reached_in_and_no_other_begins(
    make: Make, spent: int, roles: int
) -> None:
    """Of 3 searched trials, 2 replicates and the recheck, which is in the ledger before it may start."""
    sweep, ledger, _ = make(spent, replicates=2)
    assert sweep.run() is Ended.LIMIT and sweep.limits.reached == "--max-hours 1"
    assert len(ledger.trials) == roles and len([t for t in ledger.trials if t.result]) == spent


@pytest.mark.parametrize("allowed", [0, 2, 4, 5])
def test_a_batch_that_lets_no_trial_start_holds_the_sweep_back(make: Make, allowed: int) -> None:
    asked: list[bool] = []

    def permission(is_new: bool) -> bool:
        asked.append(is_new)
        return len(asked) <= allowed

    sweep, ledger, _ = make(permission=permission, replicates=1)
    ledger.add("uniform")
    assert sweep.run() is Ended.HELD_BACK and sweep.limits.reached == ""
    assert asked == [False, True, True, True, False, False][: allowed + 1], "new are the search's alone"
    assert len([trial for trial in ledger.trials if trial.result]) == allowed


def test_without_a_student_that_could_be_trained_there_is_no_second_step(make: Make) -> None:
    sweep, ledger, _ = make(replicates=1)
    ledger.result = FAILED
    assert sweep.run() is Ended.NO_STUDENT and [trial.role for trial in ledger.trials] == ["search"] * 3
    held_back, _, _ = make(permission=lambda is_new: False)
    assert held_back.search() is Ended.HELD_BACK, "a resume may still train one"
    at_its_limit, _, _ = make(0)
    assert at_its_limit.search() is Ended.NO_STUDENT


def test_a_space_that_is_exhausted_is_said_and_ends_nothing(make: Make) -> None:
    sweep, ledger, told = make(trials=5)
    ledger.most = 2
    assert sweep.search() is Ended.DONE and len(ledger.trials) == 2
    assert "fewer trials than asked for: the space is exhausted" in told


def test_a_recheck_that_fails_has_a_result_and_its_reason_in_its_folder(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> None:
        raise RunError("Ray Train gave up")

    sweep, ledger, told = make(trials=1)
    assert sweep.search() is Ended.DONE
    monkeypatch.setattr(ray_train, "perform_sharded", fails)
    ledger.result = FAILED
    assert sweep.recheck() is Ended.DONE and told[-1] == "0001 FAIL"
    assert (ledger.folder / "error.txt").read_text() == "Ray Train gave up"
    assert sweep.recheck() is Ended.DONE and len(ledger.trials) == 2, "one recheck a sweep"


def test_a_queue_hands_out_what_is_unfinished_before_it_asks_for_new_trials(make: Make) -> None:
    sweep, ledger, _ = make()
    old = [ledger.add("uniform"), ledger.add("search")]
    queue = TrialQueue(
        ledger,
        sweep.tracker,
        sweep.terminal,
        lambda is_new: True,
        ledger.propose,
        0.0,
        list(old),
        1,
        LivePage(ledger.folder),
    )
    assert queue.total == 3 and [queue.next_trial() for _ in range(2)] == old
    assert queue.next_trial() == ledger.trials[2] and queue.next_trial() is None
    assert not queue.was_refused, "it has ended: nothing was refused"


def test_an_evaluation_is_told_from_what_tune_adds_to_a_report() -> None:
    evaluation = COMPLETE.evaluations[0]
    of_tune = {"trial_id": "a1", "time_total_s": 2.5, "done": False, "config": {"job": "{}"}}
    of_tune |= {"config/job": "{}", "config/placement": Placement(True, Group(1, 1.0), 1)}
    assert ray_tune._evaluation(evaluation.to_json() | of_tune) == evaluation
    assert ray_tune._evaluation(of_tune) is None
