"""Pages beside a sweep's own: figures and tables in one HTML file that opens without a network."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from plotly import graph_objects as go
from plotly.offline import get_plotlyjs

from analysis.compare import Comparison
from analysis.figures import fronts_figure, volumes_figure
from analysis.plots import INK, MARKS
from analysis.shapes import SIDE_MARKS
from analysis.templates import asset, filled
from raydistill.records.files import write_atomic


@dataclass(frozen=True, eq=False)
class Section:
    """One section of a page: a heading, and below it sentences, a figure and a table, where there are any."""

    title: str
    sentences: Sequence[str] = ()
    figure: go.Figure | None = None
    table: pd.DataFrame | None = None
    note: str = ""
    is_low: bool = False
    """Whether the figure is a low one."""


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Writes the page of a comparison. Raises StoreError where it cannot be written."""
    sides = [f"{side.label} ({len(side.members)})" for side in comparison.sides]
    reference = ", ".join(
        f"{name} {value:g}"
        for (name, _), value in zip(comparison.objectives, comparison.reference, strict=True)
    )
    said = comparison.sentences or ["One side alone: its sweeps differ in nothing but their seeds."]
    note = "line: median front over the seeds; band: from what one seed attains to what all attain"
    test = "side minus than, seed by seed; low, high: 95 % interval (Student); p: exact sign-flip test"
    sections = [
        Section("What differs", said),
        Section("Fronts", figure=fronts_figure(comparison), note=note),
        Section("Hypervolume", figure=volumes_figure(comparison), is_low=True, table=comparison.summary,
                note=f"reference point of all: {reference}; bars: 95 % intervals over seeds (Student)"),
        Section("Sweeps", table=comparison.sweeps),
    ]  # fmt: skip
    if len(comparison.differences):
        shown = comparison.differences.drop(columns="sentence")
        sections.insert(3, Section("Differences", table=shown, note=test))
    write_page(path, "raydistill: " + " against ".join(side.label for side in comparison.sides),
               "sides, with their numbers of sweeps: " + ", ".join(sides), sections)  # fmt: skip


def write_page(path: Path, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Writes one HTML file of these sections, in the look of a sweep's page.

    Raises:
        StoreError: the file cannot be written.
    """
    plots = {
        f"plot-{place}": json.loads(str(section.figure.to_json()))
        for place, section in enumerate(sections)
        if section.figure is not None
    }
    dark = {mark.light: mark.dark for mark in SIDE_MARKS}
    dark |= {mark.light: mark.dark for mark in MARKS.values()}
    dark |= {INK: "#e8eaee", "#ecebe6": "#272b33", "white": "#1b1e24"}
    data = json.dumps({"plots": plots, "dark": dark}, separators=(",", ":")).replace("<", "\\u003c")
    # A `<` in JSON is escaped: nothing in it can end the script element in which it stands.
    parts = {
        "title": html.escape(title),
        "summary": html.escape(summary),
        "style": asset("page.css"),
        "sections": "\n".join(_section(place, section) for place, section in enumerate(sections)),
        "plotly": get_plotlyjs(),
        "data": data,
        "script": asset("report.js"),
    }
    text = filled(asset("report.html"), parts)
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _section(place: int, section: Section) -> str:
    parts = [f"<section><h2>{html.escape(section.title)}</h2>"]
    if section.sentences:
        items = "".join(f'<li class="said">{html.escape(each)}</li>' for each in section.sentences)
        parts.append(f"<ul>{items}</ul>")
    if section.figure is not None:
        look = "plot low" if section.is_low else "plot"
        parts.append(f'<div id="plot-{place}" class="{look}"></div>')
    if section.table is not None:
        parts.append(f'<div class="scroll">{_table(section.table)}</div>')
    if section.note:
        parts.append(f'<p class="note">{html.escape(section.note)}</p>')
    return "\n".join([*parts, "</section>"])


def _table(table: pd.DataFrame) -> str:
    """A table in HTML: numbers with five digits to the right, texts to the left."""
    kinds = ["" if pd.api.types.is_numeric_dtype(table[name]) else ' class="text"' for name in table]
    titles = [html.escape(str(name)) for name in table]
    head = "".join(f"<th{kind}>{title}</th>" for kind, title in zip(kinds, titles, strict=True))
    rows = []
    for row in table.itertuples(index=False):
        cells = [
            f"<td{kind}>{html.escape(_cell(value))}</td>" for kind, value in zip(kinds, row, strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(value: object) -> str:
    if not isinstance(value, str) and pd.isna(value):  # type: ignore[call-overload]
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
