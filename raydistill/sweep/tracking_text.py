"""The description of a sweep's run in MLflow, as Markdown."""

import shlex
from collections.abc import Sequence

import pandas as pd

from raydistill.records import outcome, tables
from raydistill.sweep.tracking_view import with_order

_MOST_ROWS = 30
"""Rows of the result table; the charts show all."""
_GAP = "\N{EM SPACE}"
"""Between columns: MLflow leaves no room there."""


def at_start(space: str, objectives: Sequence[tuple[str, str]], asked: int, split_rule: str) -> str:
    """What is searched, while it is searched.

    Args:
        space: name of the search space.
        objectives: (name, "min" or "max") of each.
        asked: how many trials were asked for.
        split_rule: the sentence that says how the splits came about.
    """
    return f"A search of {asked} students in the space `{space}` for {_aims(objectives)}. {split_rule}"


def at_end(
    table: pd.DataFrame,
    objectives: Sequence[tables.NamedDirection],
    *,
    space: str,
    ended_by: str,
    facts: dict[str, str],
    sweep: str,
) -> str:
    """How a sweep came out: a sentence, a table of the front and the baselines, and commands to go on.

    Args:
        table: the trials table with the front's columns, means over seeds.
        objectives: (name, "min" or "max") of each.
        space: name of the search space.
        ended_by: which limit ended the sweep.
        facts: what the page says of the sweep: name -> text.
        sweep: what the commands call it.
    """
    students, front = table[tables.competitors(table)], table[table["front.member"]]
    lines = [
        f"**{len(front)} of {len(students)} students are on the Pareto front** for {_aims(objectives)}, "
        f"in the space `{space}`. {outcome.sentence(table, objectives)} Ended by {ended_by}."
    ]
    rows = with_order(table, objectives)
    rows = rows[rows["front.member"] | ~rows["role"].isin(("search", "replicate"))].sort_values("front.order")
    lines.append(_rows(rows.head(_MOST_ROWS), objectives))
    if len(rows) > _MOST_ROWS:
        lines.append(f"The first {_MOST_ROWS} of {len(rows)}.")
    named, best = shlex.quote(sweep), next(iter(rows["trial_id"]), "0001")
    commands = (
        f"raydistill promote {named} --trial {best}   # registers its model",
        f"raydistill retrain {named} --front --nimg full   # trains the front at full length",
        f"raydistill export {named}/trials/{best}   # ONNX, with a model card",
        f"raydistill latency {named}   # measures the front on this machine",
    )
    lines.append("Go on:\n\n```sh\n" + "\n".join(commands) + "\n```")
    lines.append("\n".join(f"* {name}: {text}" for name, text in facts.items() if text))
    return "\n\n".join(lines)


def _aims(objectives: Sequence[tuple[str, str]]) -> str:
    words = {"max": "high", "min": "low"}
    return " and ".join(f"{words[direction]} `{name}`" for name, direction in objectives)


def _rows(rows: pd.DataFrame, objectives: Sequence[tuple[str, str]]) -> str:
    names = [name for name, _ in objectives]
    tests = [name.replace("val/", "test/", 1) for name in names if name.startswith("val/")]
    shown = {name: tables.column(name) for name in [*names, *tests] if tables.column(name) in rows}
    heads = ["trial", "what", "front", *shown]
    lines = [f"| {f'{_GAP} | '.join(heads)} |", f"|{'---|' * 3}{'---:|' * len(shown)}"]
    for _, row in rows.iterrows():
        what = str(row["label"]).replace("|", "/")
        cells = [str(row["trial_id"]), what, "yes" if row["front.member"] else ""]
        cells += [_short(row[column]) for column in shown.values()]
        lines.append(f"| {f'{_GAP} | '.join(cells)} |")
    return "\n".join(lines)


def _short(value: object) -> str:
    """A number with four digits; "" where there is none."""
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return ""
    number = float(value)  # type: ignore[arg-type]
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
