"""The end of a sweep: test scores, tables, page, MLflow and the terminal. Everything comes from the ledger."""

import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from raydistill.evaluation.scorer import score_network, score_real
from raydistill.models import cost
from raydistill.records import pareto, tables
from raydistill.records.files import write_atomic
from raydistill.records.trials import write_result
from raydistill.sweep.tracking import Tracker
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger
from raydistill.trials.stages import network_of

BASELINES = ("teacher", "uniform", "no_teacher")


def score_on_test(ledger: Ledger) -> dict[str, float]:
    """The only reader of the test split: front members, baselines and teacher, once each, after the search.

    Returns the scores of the real test pictures: the ceiling.
    """
    members = [trial["trial_id"] for trial in ledger.front()]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for trial in ledger.trials:
        result = trial["result"]
        if (
            result is not None
            and result["status"] == "COMPLETE"
            and "test" not in result
            and (trial["trial_id"] in members or trial["role"] in BASELINES)
        ):
            network = (
                ledger.stages.teacher
                if trial["role"] == "teacher"
                else network_of(ledger.folder_of(trial), result)
            )
            result["test"], result["test_context"] = score_network(
                network, ledger.plan.data, ledger.stages.evaluator, "test", device
            )
            write_result(ledger.folder_of(trial), result)
    return score_real(ledger.plan.data, ledger.stages.evaluator, "test", device)


def write_report(
    ledger: Ledger,
    real_test: dict[str, float],
    tracker: Tracker,
    terminal: Terminal,
    planned: pd.DataFrame,
    *,
    ended_by: str,
) -> None:
    """Tables and page into the sweep's folder, front membership into MLflow, tables and places onto the terminal.

    `planned`: what was predicted, against what it took.
    """
    plan, folder = ledger.plan, ledger.folder
    table = ledger.table()
    evaluations = tables.evaluation_table(ledger.trials, sweep_id=folder.name)
    tables.write_tables(folder, table, evaluations)
    write_atomic(folder / "plan.csv", partial(planned.to_csv, index=False))
    facts = _facts(ledger, table) | {
        "ended by": ended_by,
        "real test pictures": ", ".join(f"{name} {value:.4f}" for name, value in real_test.items()),
    }
    import analysis  # matplotlib and plotly: a second, and only who draws needs them

    report = analysis.write_report(
        table,
        evaluations,
        folder,
        title=f"raydistill: {folder.name}",
        objectives=plan.objectives,
        reference=plan.reference,
        facts=facts,
        ceiling=ledger.stages.evaluator_result["metrics"].get("val/miou"),
        samples=_samples(ledger),
    )
    for (_, row), trial in zip(table.iterrows(), ledger.trials, strict=True):
        if trial["trial_id"] in tracker.run_ids:  # a limit may have come before it started
            tracker.log_front(row, trial)
    metrics = {
        "front/hypervolume": float(facts["hypervolume"]),
        "front/num_members": int(table["front.member"].sum()),
    }
    files = [folder / name for name in ("trials.csv", "trials.parquet", "evaluations.parquet", "plan.csv")]
    tracker.end_sweep(metrics, [*report, *files])
    _print(ledger, tables.mean_over_seeds(table), terminal)
    terminal.say(f"real pictures of the test split, the ceiling there: {facts['real test pictures']}")
    terminal.say(f"hypervolume {facts['hypervolume']} against the reference {facts['reference point']}")
    if facts["stability"]:
        terminal.say(f"qualities are means over seeds; the front's stability: {facts['stability']}")
    terminal.rows("predicted before the sweep, and what it took", planned, keys=["what"], texts=["what"])
    terminal.say(f"ended by {ended_by}")
    terminal.say(f"page: {report.html}")
    front = table["trial_id"][table["front.member"]].tolist()
    if tracker.uri.startswith("http"):
        server = tracker.uri
    else:
        server = "http://127.0.0.1:5000"
        terminal.say(
            f"MLflow: mlflow ui --backend-store-uri {shlex.quote(tracker.uri)} --host 127.0.0.1 --port 5000"
        )
    terminal.say(f"then all trials, the front first: {tracker.table_link(server)}")
    terminal.say(f"and the front compared: {tracker.compare_link(server, front)}")


def _samples(ledger: Ledger) -> dict[str, Path]:
    paths = {
        trial["trial_id"]: ledger.folder_of(trial) / "samples.png"
        for trial in ledger.trials
        if trial["role"] != "teacher"
    }
    teacher = next(trial["trial_id"] for trial in ledger.trials if trial["role"] == "teacher")
    paths[teacher] = Path(ledger.stages.teacher.path).parent / "samples.png"
    return {trial_id: path for trial_id, path in paths.items() if path.exists()}


def _facts(ledger: Ledger, table: pd.DataFrame) -> dict[str, str]:
    plan = ledger.plan
    directions = [direction for _, direction in plan.objectives]
    points = tables.objective_points(tables.mean_over_seeds(table), plan.objectives)
    volume, probability = (
        pareto.hypervolume(points, directions, plan.reference),
        table["front.probability"][tables.competitors(table)],
    )
    repeated = int((table["role"] == "replicate").sum())
    stable = (
        f"{pareto.stability(points, probability, directions):.3f} after {repeated} replicates"
        if probability.notna().all()
        else ""
    )
    return {
        "sweep": ledger.folder.name,
        "data": f"{plan.data.digest}: {plan.info.split_rule}",
        "reference point": ", ".join(
            f"{name} {value:g}" for (name, _), value in zip(plan.objectives, plan.reference, strict=True)
        ),
        "hypervolume": f"{volume:.6g}",
        "stability": stable,
        "MACs convention": cost.MACS_CONVENTION,
        "evaluator features": str(ledger.stages.teacher_result["context"]["num_features"]),
    }


def _print(ledger: Ledger, table: pd.DataFrame, terminal: Terminal) -> None:
    front = table[table["front.member"]].sort_values("cost.macs")
    terminal.console.print()
    terminal.table(
        f"frontier of {ledger.folder.name}: {len(front)} of {int(tables.competitors(table).sum())} students",
        front,
    )
    terminal.table("baselines (* on the frontier)", table[table["role"].isin(BASELINES)])
    for trial in ledger.trials:
        if trial["role"] == "recheck":
            terminal.table(
                "the same trial inline and by 2 workers",
                table[table["trial_id"].isin([trial["recheck_of"], trial["trial_id"]])],
            )
    terminal.table("other searched trials", table[(table["role"] == "search") & ~table["front.member"]])
    for trial in ledger.trials:
        if trial["result"] is not None and trial["result"]["status"] == "FAIL":
            terminal.say(f"trial {trial['trial_id']} ({trial['label']}) failed: {trial['result']['reason']}")
