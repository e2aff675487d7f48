"""Reports on a sweep. They read the result tables only.

All numbers about the Pareto front come from `raydistill.records.pareto`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.page import Moment, axis_order, write_page
from analysis.plots import frontier_csv, frontier_png
from raydistill.records.tables import NamedDirection, mean_over_seeds, with_front

__all__ = ["Moment", "Report", "write_report"]


class Report(NamedTuple):
    """The files of a report."""

    html: Path
    png: Path
    csv: Path


def write_report(
    table: pd.DataFrame,
    evaluations: pd.DataFrame,
    out_dir: Path,
    *,
    title: str,
    objectives: Sequence[NamedDirection],
    reference: Sequence[float],
    facts: Mapping[str, str],
    moment: Moment,
    ceiling: float | None = None,
    samples: Mapping[str, Path] | None = None,
    planned: pd.DataFrame | None = None,
) -> Report:
    """Write `frontier.html`, `frontier.png` and `frontier.csv` into `out_dir` and return their paths.

    The arguments are those of `page.write_page`, except that the front columns of `table` are computed here,
    and that it may have replicates.

    Raises:
        RunError: a trial that competes lacks an objective, or two were measured under different conditions.
        StoreError: a file cannot be written.
    """
    table = mean_over_seeds(with_front(table, objectives, reference))
    report = Report(out_dir / "frontier.html", out_dir / "frontier.png", out_dir / "frontier.csv")
    (x, x_better), (y, y_better) = axis_order(objectives)[:2]
    write_page(
        table,
        evaluations,
        report.html,
        title=title,
        objectives=objectives,
        reference=reference,
        facts=facts,
        moment=moment,
        ceiling=ceiling,
        samples=samples,
        planned=planned,
    )
    frontier_png(table, report.png, x, y, (x_better, y_better), ceiling=ceiling)
    frontier_csv(table, report.csv)
    return report
