"""What a ledger keeps for the end of each trial is what its table says."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_results import synthetic_trial

from raydistill.records import tables
from raydistill.records.trials import Evaluation, Trial
from raydistill.trials.ledger import Ledger

OBJECTIVES = [("val/miou", "max"), ("cost/macs", "min")]


def trials() -> list[Trial]:
    """Thirty searched ones, two with replicates that change the front, some without a result, a baseline."""
    rng, made = np.random.default_rng(0), []
    for number in range(30):
        status = "COMPLETE" if number % 7 else ("FAIL", "PRUNED", "RUNNING")[number // 7 % 3]
        macs = int(rng.integers(10, 99))
        row = ("search", "", macs, macs / 100 + 0.2 * float(rng.random()), 0.3, 16, "instance", status, "")
        made.append(synthetic_trial(number, *row).model_copy(update={"configuration": {"a": number}}))
    made.append(synthetic_trial(30, "uniform", "uniform 16", 9, 0.5, 0, 16, "instance", "COMPLETE", ""))
    for number, original in enumerate((made[3], made[3], made[8]), start=31):
        values = ("replicate", "", original.costs["macs"] // 10**6, 0.01, 0.3, 16, "instance", "COMPLETE", "")
        made.append(synthetic_trial(number, *values).model_copy(update={"replicate_of": original.trial_id}))
    return made


def bare(folder: Path, trials: Sequence[Trial] = ()) -> Ledger:
    """A ledger of these trials with objectives and nothing else of a plan."""
    made = object.__new__(Ledger)
    made.folder, made.plan = folder, SimpleNamespace(objectives=OBJECTIVES)  # type: ignore[assignment]
    made.trials, made._reports, made._points, made._told = list(trials), {}, {}, {}
    made._without_network = set()
    for trial in trials:
        made._note(trial)
    return made


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return bare(tmp_path)


def in_table(of: list[Trial]) -> list[str]:
    table = tables.with_front(tables.trial_table(of, sweep_id="s"), OBJECTIVES, [0.0, 1e9])
    return table["trial_id"][table["front.member"]].tolist()


def test_the_front_is_that_of_the_table_after_every_trial(ledger: Ledger) -> None:
    assert ledger.front() == []
    fronts = set()
    for trial in trials():
        ledger.trials.append(trial)
        ledger._note(trial)
        found = [member.trial_id for member in ledger.front()]
        if any(each.is_complete for each in ledger.trials):
            assert found == in_table(ledger.trials)
        fronts.add(tuple(found))
    assert len(fronts) > 4


def test_another_result_changes_front_and_history(ledger: Ledger) -> None:
    for trial in trials():
        ledger.trials.append(trial)
        ledger._note(trial)
    member = next(each for each in ledger.front() if each.role == "search")
    assert member.result is not None
    failed = ledger.put(member, member.result.model_copy(update={"status": "FAIL"}))
    assert member.trial_id not in [each.trial_id for each in ledger.front()] == in_table(ledger.trials)
    assert ledger.history()[failed.number].state == "FAIL" and ledger.history()[failed.number].values is None


def test_the_history_is_what_each_searched_trial_says_now(ledger: Ledger) -> None:
    for trial in trials():
        ledger.trials.append(trial)
        ledger._note(trial)
    assert ledger.history() == [ledger._observation(trial) for trial in ledger.searched]
    running = next(trial for trial in ledger.searched if trial.result is None)
    numbers = {"val/miou": 0.25}
    half = Evaluation(nimg=running.budget_nimg // 2, wall_sec=1.0, numbers=numbers)
    ledger.take_in(running, half)
    (share, values), *_ = ledger.history()[running.number].curve
    assert values == [0.25, running.costs["macs"]] and 0.4 < share < 0.6
