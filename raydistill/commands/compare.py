"""`raydistill compare`: sweeps side by side, as tables, sentences and a page."""

from typing import TYPE_CHECKING

import pandas as pd

from raydistill.commands.printed_json import print_json, rows
from raydistill.config.analysis_options import CompareOptions
from raydistill.terminal import Terminal

if TYPE_CHECKING:
    from analysis.compare import Comparison


def run(options: CompareOptions) -> int:
    """Prints what differs, and writes the page; returns the exit code, 0.

    Raises:
        ConfigError: two sweeps cannot be compared, or an option cannot be used.
        StoreError: a sweep has not ended or is damaged, or the page cannot be written.
    """
    from analysis.compare import compare
    from analysis.report import write_comparison

    comparison = compare(options.sweeps, labels=options.labels, budgets=options.budgets)
    write_comparison(comparison, options.out)
    if options.as_json:
        print_json(as_json(comparison) | {"page": str(options.out)})
        return 0
    show(comparison, Terminal())
    print(f"page: {options.out}")
    return 0


def show(comparison: "Comparison", terminal: Terminal) -> None:
    """Prints the sides, and sentence by sentence what differs."""
    summary = comparison.summary
    spread = [
        "" if pd.isna(row["low"]) else f"{row['low']:.5g} to {row['high']:.5g}"
        for row in summary.to_dict("records")
    ]
    shown = summary.drop(columns=["low", "high"]).copy()
    shown.insert(3, "95 % over seeds", spread)
    points = [
        f"{name} {value:g}"
        for (name, _), value in zip(comparison.objectives, comparison.reference, strict=True)
    ]
    terminal.rows(f"hypervolume against {', '.join(points)}; means over seeds", shown, keys=["side"])
    for sentence in comparison.sentences:
        terminal.entry("* ", sentence)


def as_json(comparison: "Comparison") -> dict[str, object]:
    """All of a comparison as JSON data."""
    return {
        "objectives": [{"name": name, "direction": way} for name, way in comparison.objectives],
        "reference": list(comparison.reference),
        "budgets": list(comparison.budgets),
        "sides": rows(comparison.summary),
        "sweeps": rows(comparison.sweeps),
        "differences": rows(comparison.differences),
    }
