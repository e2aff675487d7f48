"""The end of a sweep: test scores, tables, page, MLflow and terminal. Everything comes from the ledger."""

import shlex
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from raydistill.config.base import Stored
from raydistill.config.scoring import Scoring
from raydistill.evaluation.evaluator_scores import score_network, score_real
from raydistill.models import cost
from raydistill.records import measured, pareto, tables
from raydistill.records.files import write_atomic
from raydistill.records.trials import TrialResult, write_result
from raydistill.sweep import page, tracking_record, tracking_text
from raydistill.sweep.sweep_result import write_ended_by
from raydistill.sweep.tracker import Tracker
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger
from raydistill.trials.stages import network_of

_SAY_EVERY_SEC = 10.0
BASELINES = ("teacher", "uniform", "no_teacher")
"""Roles of the trials that are shown beside the searched ones."""


def score_on_test(ledger: Ledger, tracker: Tracker, terminal: Terminal) -> dict[str, float]:
    """Scores front members, baselines and teacher on the test split, each once, into their results; where
    the space says so, all students.

    It is called after the search. What is trained again later is scored by `scored_on_test`, too; nothing
    else reads that split.

    Returns:
        the scores that the real pictures of the split get, which are the ceiling: metric -> value.
    """
    plan = ledger.plan
    scored = ledger.searched if plan.space.test == "all" else ledger.front()
    members, said_sec = {trial.trial_id for trial in scored}, time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = [each for each in ledger.trials if each.trial_id in members or each.role in BASELINES]
    left = [each for each in chosen if each.is_complete and each.result and each.result.test is None]
    if left:
        terminal.say(f"scoring {len(left)} networks on the {plan.info.counts['test']:,} pictures of test")
    for number, trial in enumerate(left, 1):
        result = trial.result
        assert result is not None
        folder = ledger.folder_of(trial)
        network = ledger.stages.teacher if trial.role == "teacher" else network_of(folder, result)
        given = (network, plan.data, ledger.stages.evaluator, plan.scoring)
        tracker.send_trial(ledger.put(trial, scored_on_test(result, folder, *given)), folder)
        if number < len(left) and time.monotonic() - said_sec >= _SAY_EVERY_SEC:
            said_sec = time.monotonic()
            terminal.say(f"scored {number} of {len(left)}")
    return score_real(plan.data, ledger.stages.evaluator, "test", device)


def scored_on_test(
    result: TrialResult,
    folder: Path,
    network: Stored,
    data: Stored,
    evaluator: Stored,
    scoring: Scoring | None,
) -> TrialResult:
    """A trial's result with the scores of its network on the test split, which it did not have; it is written
    to the trial's folder.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores, context = score_network(network, data, evaluator, "test", device, scoring)
    scored = result.model_copy(update={"test": scores, "test_context": context})
    write_result(folder, scored)
    return scored


def write_report(
    ledger: Ledger,
    real_test: dict[str, float],
    tracker: Tracker,
    terminal: Terminal,
    planned: pd.DataFrame,
    *,
    ended_by: str,
) -> None:
    """Writes tables and page into the sweep's folder, the front into MLflow, and all of it onto the terminal.

    Args:
        real_test: what `score_on_test` returned.
        planned: what was predicted, beside what the sweep took.
        ended_by: which limit ended the sweep, in words.
    """
    folder = ledger.folder
    table = measured.in_table(ledger.table(), folder)
    evaluations = tables.evaluation_table(ledger.trials, sweep_id=folder.name)
    tables.write_tables(folder, table, evaluations)
    write_ended_by(folder, ended_by)
    write_atomic(folder / page.PLANNED, partial(planned.to_csv, index=False))
    facts = _facts(ledger, table) | {
        "ended by": ended_by,
        "real test pictures": ", ".join(f"{name} {value:.4f}" for name, value in real_test.items()),
    }
    says = page_record(ledger, facts)
    page.write_record(folder, says)
    drawn = page.draw(folder, table, evaluations, says, _samples(ledger))
    members = table["trial_id"][table["front.member"]].tolist()
    metrics = {"front/hypervolume": float(facts["hypervolume"]), "front/num_members": len(members)}
    files = [folder / name for name in ("trials.csv", "trials.parquet", "evaluations.parquet", "plan.csv")]
    artifacts = [*drawn, *files]
    record = tracking_record.read(folder)
    description = tracking_text.at_end(
        tables.mean_over_seeds(table),
        ledger.plan.objectives,
        space=ledger.plan.options.space,
        ended_by=ended_by,
        facts=facts,
        sweep=_named(folder),
    )
    names = tuple(path.name for path in artifacts)
    changes = {"metrics": metrics, "artifacts": names, "description": description}
    record = record.model_copy(update=changes)
    tracking_record.write(folder, record)
    tracker.know(tracking_record.facts(folder, record))
    tracker.end_sweep(table, metrics, artifacts)
    _print(ledger, tables.mean_over_seeds(table), terminal)
    _say_end(ledger, facts, planned, terminal)
    terminal.say(f"page: {drawn.html}")
    if tracker.flush():
        _say_link(tracker, terminal)


def _say_end(ledger: Ledger, facts: dict[str, str], planned: pd.DataFrame, terminal: Terminal) -> None:
    """What there is to say of a sweep that has ended, beside its table."""
    scoring, num_test = ledger.plan.scoring, ledger.plan.info.counts["test"]
    num_scored = num_test if scoring is None else min(num_test, scoring.num or num_test)
    ceiling = facts["real test pictures"]
    terminal.say(f"{num_scored:,} real pictures of the test split, the ceiling there: {ceiling}")
    terminal.say(f"hypervolume {facts['hypervolume']} against the reference {facts['reference point']}")
    if facts["stability"]:
        terminal.say(f"qualities are means over seeds; the front's stability: {facts['stability']}")
    title = "predicted before the sweep, and what it took"
    terminal.rows(title, planned, keys=["what"], texts=["what"])
    terminal.say(f"ended by {facts['ended by']}")


def page_record(ledger: Ledger, facts: dict[str, str]) -> page.PageRecord:
    """What the sweep's page says beside the tables. `facts`: lines of its block of facts."""
    return page.PageRecord(
        title=f"raydistill: {ledger.folder.name}",
        objectives=tuple(ledger.plan.objectives),
        reference=tuple(ledger.reference),
        facts=facts,
        ceiling=ledger.stages.evaluator_result.metrics.get("val/miou"),
    )


def begin_page(ledger: Ledger) -> None:
    """Stores what the page says while the sweep runs: what is known before its first student."""
    page.write_record(ledger.folder, page_record(ledger, _known_facts(ledger)))


def _named(folder: Path) -> str:
    """What a command calls a sweep's folder: as it lies below the working folder, where it does."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def mlflow_line(tracker: Tracker) -> str:
    """Where MLflow shows a sweep: its server, or the command that starts one."""
    if tracker.address.startswith("http"):
        return f"MLflow: {tracker.address}"
    uri = shlex.quote(tracker.address)
    return f"MLflow: mlflow ui --backend-store-uri {uri} --host 127.0.0.1 --port 5000"


def _say_link(tracker: Tracker, terminal: Terminal) -> None:
    """Says where MLflow shows the sweep: its server, or the command that starts one."""
    server, runs = tracker.address, tracker.runs
    assert runs is not None
    if not server.startswith("http"):
        server = "http://127.0.0.1:5000"
        terminal.say(mlflow_line(tracker))
    if runs.view_refused:
        terminal.say(f"MLflow did not take the view with charts ({runs.view_refused}): a plain table follows")
    terminal.say(f"then all trials, the front first: {runs.table_link(server)}")


def _samples(ledger: Ledger) -> dict[str, Path]:
    """Trial id -> its grid of samples, where there is one."""
    paths = {
        trial.trial_id: ledger.folder_of(trial) / "samples.png"
        for trial in ledger.trials
        if trial.role != "teacher"
    }
    teacher = next(trial.trial_id for trial in ledger.trials if trial.role == "teacher")
    paths[teacher] = Path(ledger.stages.teacher.path).parent / "samples.png"
    return {trial_id: path for trial_id, path in sorted(paths.items()) if path.exists()}


def _facts(ledger: Ledger, table: pd.DataFrame) -> dict[str, str]:
    """What the page says about the sweep: name -> text. "stability" is "" without replicates."""
    plan = ledger.plan
    directions = [direction for _, direction in plan.objectives]
    points = tables.objective_points(tables.mean_over_seeds(table), plan.objectives)
    probability = table["front.probability"][tables.competitors(table)]
    stable = ""
    if probability.notna().all():
        num_replicates = int((table["role"] == "replicate").sum())
        stability = pareto.stability(points, probability, directions)
        stable = f"{stability:.3f} after {num_replicates} replicates"
    known = _known_facts(ledger)
    return known | {
        "hypervolume": f"{pareto.hypervolume(points, directions, ledger.reference):.6g}",
        "stability": stable,
    }


def _known_facts(ledger: Ledger) -> dict[str, str]:
    """What is known before the first student: name -> text."""
    plan = ledger.plan
    reference = [
        f"{name} {value:g}" for (name, _), value in zip(plan.objectives, ledger.reference, strict=True)
    ]
    return {
        "sweep": ledger.folder.name,
        "data": f"{plan.data.digest}: {plan.info.split_rule}",
        "reference point": ", ".join(reference),
        "MACs convention": cost.MACS_CONVENTION,
        "evaluator features": str(ledger.stages.teacher_result.context["num_features"]),
    }


def _print(ledger: Ledger, table: pd.DataFrame, terminal: Terminal) -> None:
    """Prints the trials as tables: the front, the baselines, the recheck, the others; and what failed."""
    front = table[table["front.member"]].sort_values("cost.macs")
    num_students = int(tables.competitors(table).sum())
    terminal.console.print()
    terminal.table(f"Pareto front of {ledger.folder.name}: {len(front)} of {num_students} students", front)
    terminal.table("baselines (* on the Pareto front)", table[table["role"].isin(BASELINES)])
    for trial in ledger.trials:
        if trial.role == "recheck":
            both = table["trial_id"].isin([trial.recheck_of, trial.trial_id])
            terminal.table("the same trial inline and by 2 workers", table[both])
    terminal.table("other searched trials", table[(table["role"] == "search") & ~table["front.member"]])
    for trial in ledger.trials:
        if trial.result is not None and trial.result.status == "FAIL":
            terminal.say(f"trial {trial.trial_id} ({trial.label}) failed: {trial.result.reason}")
