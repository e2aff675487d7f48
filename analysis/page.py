"""The trials and their Pareto front as one HTML file that opens without a network.

The template is `assets/page.html`, with the styles and scripts beside it; the numbers are embedded as JSON.
The page computes nothing about fronts: for every pair of axes the members are embedded, from
`raydistill.records.pareto`. Plotly is embedded compressed, and unpacked by the browser.
"""

import base64
import functools
import gzip
import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from plotly.offline import get_plotlyjs

from analysis import page_data, pictures, summaries
from analysis.plots import MARKS
from analysis.templates import asset, filled
from raydistill.records import outcome, pareto
from raydistill.records.files import write_atomic
from raydistill.records.tables import NamedDirection, competitors, objective_points

SCRIPTS = ("text", "state", "charts", "front", "answer", "table", "details", "compare", "more", "main")
"""The scripts of the page, in the order in which they are run."""


@dataclass(frozen=True)
class Moment:
    """When the page was drawn, and what the sweep was doing."""

    drawn: str
    """Time in UTC, such as 2026-11-29T09:10:00Z."""
    state: str
    """"ended"; "running": it is trained now, and the page loads itself again; "unfinished": it was
    interrupted, or this is a copy of one that runs elsewhere."""


def write_page(
    table: pd.DataFrame,
    evaluations: pd.DataFrame,
    path: Path,
    *,
    title: str,
    objectives: Sequence[NamedDirection],
    reference: Sequence[float],
    facts: Mapping[str, str],
    moment: Moment,
    ceiling: float | None = None,
    samples: Mapping[str, Path] | None = None,
    planned: pd.DataFrame | None = None,
) -> None:
    """Write the page of one sweep.

    Args:
        table: the trials table, as `records.tables.with_front` returns it.
        evaluations: the evaluations table.
        path: the HTML file to write.
        title: heading of the page.
        objectives: the first two are shown first, a cost on the x axis.
        reference: reference point of the hypervolume, one number per objective.
        facts: further lines of the facts block; one with the key of a computed line replaces it. Where there
            is "evaluator features" (their number), sample counts that do not exceed it are marked as biased.
        moment: when it is drawn, and whether the sweep has ended.
        ceiling: mIoU of the evaluator on real pictures; None: no line.
        samples: trial_id -> PNG file, for the trials that have one; None: no pictures. Those of the front and
            the baselines are embedded, the others are found beside the page.
        planned: what was predicted, beside what the sweep took: what, predicted, actual; None: not known.

    Raises:
        RunError: the objectives of two trials were measured under different conditions.
        StoreError: the page cannot be written.
        FileNotFoundError: a picture in `samples` does not exist.
    """
    axes, samples = page_data.axes_of(table, objectives), samples or {}
    shown = pictures.inside(table)
    data = {
        "folder": path.parent.name,
        "moment": asdict(moment),
        "outcome": outcome.sentence(table, objectives),
        "objectives": [list(each) for each in objectives],
        "axes": axes,
        "start": [name for name, _ in axis_order(objectives)[:2]],
        "rows": page_data.rows_of(table, objectives),
        "values": page_data.values_of(table, axes),
        "intervals": page_data.intervals(table, axes),
        "fronts": page_data.fronts(table, axes),
        "attainment": summaries.attainment(table, objectives),
        "importance": summaries.importance(table, objectives),
        "progress": summaries.progress(table, objectives, reference),
        "planned": _planned(planned),
        "marks": {name: asdict(mark) for name, mark in MARKS.items()},
        "ceiling": ceiling,
        "curves": page_data.curves(table, evaluations),
        "samples": pictures.embedded(samples, shown),
        "beside": _beside(samples, path.parent, shown),
        "facts": _facts(table, objectives, reference, facts, ceiling),
    }
    parts = {"title": html.escape(title), "data": _script_json(data), "plotly": _packed_plotly()}
    parts |= {"styles": asset("page.css"), "script": "\n".join(asset(f"{name}.js") for name in SCRIPTS)}
    text = filled(asset("page.html"), parts)
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def axis_order(objectives: Sequence[NamedDirection]) -> list[NamedDirection]:
    """The objectives with costs first, because a cost belongs on the x axis."""
    return sorted(objectives, key=lambda objective: not objective[0].startswith("cost/"))


def _planned(planned: pd.DataFrame | None) -> list[list[object]]:
    """Rows of what was predicted, what it was, and the ratio."""
    if planned is None or planned.empty:
        return []
    columns = [page_data.cells(planned[name]) for name in ("what", "predicted", "actual")]
    return [list(row) for row in zip(*columns, strict=True)]


def _beside(samples: Mapping[str, Path], folder: Path, shown: Sequence[str]) -> dict[str, str]:
    """Trial -> where its picture lies, from the page's folder, for those below it that are not embedded."""
    return {
        trial: Path(os.path.relpath(path, folder)).as_posix()
        for trial, path in samples.items()
        if trial not in shown and path.is_relative_to(folder)
    }


def _facts(
    table: pd.DataFrame,
    objectives: Sequence[NamedDirection],
    reference: Sequence[float],
    given: Mapping[str, str],
    ceiling: float | None,
) -> dict[str, str]:
    """The lines of the facts block: key -> text. `given` replaces or adds some; empty ones are left out."""
    points, directions = objective_points(table, objectives), [direction for _, direction in objectives]
    volume = pareto.hypervolume(points, directions, reference)
    facts = {
        "sweep": _distinct(table["sweep_id"]),
        "objectives": ", ".join(f"{name} {direction}" for name, direction in objectives),
        "reference point": ", ".join(f"{value:g}" for value in reference),
        "hypervolume": f"{volume:.6g}",
    }
    if volume > 0:
        facts["knee"] = table["trial_id"][competitors(table)].iloc[pareto.knee(points, directions, reference)]
    if ceiling is not None:
        facts["evaluator ceiling"] = f"{ceiling:.4g} mIoU"
    facts["MACs convention"] = _distinct(table["macs_convention"])
    for split, name in (("val", "num_samples"), ("test", "test_num_samples")):
        if table[name].notna().any():
            facts[f"{split} samples"] = _sample_counts(table[name], given.get("evaluator features"))
    for key in ("teacher", "data", "evaluator"):
        facts[key] = _distinct(table[f"digest.{key}"])
    facts["real statistics"] = _distinct(table["real_statistics"])
    facts["scoring"] = _scoring_share(table)
    facts["code"] = _distinct(table["git_revision"])
    return {key: value for key, value in {**facts, **given}.items() if value}


def _scoring_share(table: pd.DataFrame) -> str:
    """How much of the trials' time their scores took, where that is known; empty where it is not."""
    known = table[table["scoring_sec"].notna() & (table["wall_sec"] > 0)]
    if known.empty:
        return ""
    total, scoring = known["wall_sec"].sum(), known["scoring_sec"].sum()
    trials = f"{len(known)} trial{'s' if len(known) > 1 else ''}"
    return f"{scoring / total:.1%} of the {total:.0f} s of {trials}"


def _sample_counts(counts: pd.Series, feature_width: str | None) -> str:
    """The numbers of samples, with a remark where a Frechet distance of so few is biased."""
    few = feature_width is not None and (counts <= int(feature_width)).any()
    remark = f" (biased: FD needs more samples than the {feature_width} features)" if few else ""
    return _distinct(counts.dropna()) + remark


def _distinct(values: pd.Series) -> str:
    return ", ".join(str(value) for value in values.unique() if value != "")


@functools.cache
def _packed_plotly() -> str:
    """Plotly as gzip in base64: 1.9 MiB instead of 4.6."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _script_json(data: object) -> str:
    """JSON that cannot end the script element in which it stands."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
