"""Figures for print, by matplotlib: readable at the width of a column, in colours that all can tell apart.

They show what the figures of the pages show, from the same functions.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare import Comparison, attained, columns_of
from analysis.plots import INK, MARKS, RELATIVE_SIZE, axis_title, groups, shorten_numbers
from analysis.shapes import band, ends, mark_of, steps
from analysis.sides import front_of
from raydistill.errors import ConfigError
from raydistill.records import ablated
from raydistill.records.files import write_atomic
from raydistill.records.pareto import Direction
from raydistill.records.tables import column, mean_over_seeds

_Look = dict[str, Any]
"""What matplotlib is told of a line or of points."""
FORMATS = (".pdf", ".svg", ".png")
_RATIO = 0.78
"""Height over width."""
_POINT = 7.5
"""Size of the text in points, as captions have it."""
_MOST_CURVES = 6
_SHARES = (0.75, 0.5, 0.25)
"""What --kind attainment draws: what so many of the seeds attain."""
_STYLE: Any = {
    **{
        "font.size": _POINT,
        "axes.titlesize": _POINT,
        "axes.labelsize": _POINT,
        "legend.fontsize": _POINT - 0.5,
    },
    **{"xtick.labelsize": _POINT - 0.5, "ytick.labelsize": _POINT - 0.5, "axes.linewidth": 0.6},
    **{"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "raydistill", "text.parse_math": False},
}
"""Fonts that stay text in a pdf; a label with dollars is no formula; the same file each time."""


def write_figure(path: Path, draw: Callable[[Axes], None], width: float) -> None:
    """Writes a figure of one pair of axes; the file's ending says the format.

    Args:
        draw: draws on the axes.
        width: in inches.

    Raises:
        ConfigError: a format that is not known.
        StoreError: the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {path}: the ending says the format; known: {', '.join(FORMATS)}")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, width * _RATIO), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.grid(color="#e7e9ee", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        save = partial(figure.savefig, format=kind, dpi=300, metadata=metadata)
        write_atomic(path, save)


def draw_fronts(axes: Axes, comparison: Comparison) -> None:
    """The front of each side, the median over its seeds, with a band and the members of all its fronts.

    Of one sweep alone, its trials by group, as its page has them.
    """
    (x, _), (y, _) = comparison.axes
    directions: list[Direction] = [way for _, way in comparison.axes]
    columns = columns_of(comparison.objectives, comparison.axes)
    every = [member.points[:, columns] for side in comparison.sides for member in side.members]
    is_one = len(every) == 1
    fronts = [front_of(member, columns, directions) for side in comparison.sides for member in side.members]
    end, floor = ends(np.concatenate(every if is_one else fronts), directions)
    for place, side in enumerate(comparison.sides):
        mark, number = mark_of(place), len(side.members)
        if number > 1:
            best, worst = (
                attained(side, comparison.objectives, comparison.axes, share) for share in (1 / number, 1.0)
            )
            outline = band(best, worst, directions, end, floor)
            axes.fill(outline[:, 0], outline[:, 1], color=mark.light, alpha=0.15, linewidth=0)
        edge = steps(attained(side, comparison.objectives, comparison.axes, 0.5), directions, end)
        seeds = "" if number == 1 else f", median of {number}"
        look: _Look = {
            "color": INK if is_one else mark.light,
            "linestyle": mark.line,
            "linewidth": 1.2,
        }
        axes.plot(edge[:, 0], edge[:, 1], label="front" if is_one else f"{side.label}{seeds}", **look)
        for member in () if is_one else side.members:
            points = front_of(member, columns, directions)
            axes.scatter(points[:, 0], points[:, 1], s=9, color=mark.light, marker=mark.marker, alpha=0.7)
    if is_one:
        _draw_groups(axes, mean_over_seeds(comparison.sides[0].members[0].sweep.trials), x, y)
    _finish(axes, comparison)


def _draw_groups(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    group = groups(table)
    for name, mark in MARKS.items():
        rows = table[(group == name) & table[[column(x), column(y)]].notna().all(axis=1)]
        if len(rows):
            look: _Look = {
                "marker": mark.marker,
                "color": mark.light,
                "linewidths": 0.4,
            }
            size = 14 * RELATIVE_SIZE.get(mark.marker, 1.0)
            axes.scatter(
                rows[column(x)],
                rows[column(y)],
                s=size,
                label=mark.title,
                zorder=3,
                edgecolors="white",
                **look,
            )


def draw_attainment(axes: Axes, comparison: Comparison) -> None:
    """What a quarter, a half and three quarters of each side's seeds attain; the half is the thick line.

    Raises:
        ConfigError: no side has two seeds.
    """
    if all(len(side.members) < 2 for side in comparison.sides):
        raise ConfigError(
            "--kind attainment: no side has two sweeps that differ in their seed alone; give more"
        )
    directions: list[Direction] = [way for _, way in comparison.axes]
    columns = columns_of(comparison.objectives, comparison.axes)
    fronts = [front_of(member, columns, directions) for side in comparison.sides for member in side.members]
    end, _ = ends(np.concatenate(fronts), directions)
    for place, side in enumerate(comparison.sides):
        mark = mark_of(place)
        for share in _SHARES:
            edge = steps(attained(side, comparison.objectives, comparison.axes, share), directions, end)
            label = f"{side.label}, {len(side.members)} seeds" if share == 0.5 else None
            width, alpha = (1.4, 1.0) if share == 0.5 else (0.7, 0.6)
            look: _Look = {
                "color": mark.light,
                "linestyle": mark.line,
                "linewidth": width,
                "alpha": alpha,
            }
            axes.plot(edge[:, 0], edge[:, 1], label=label, **look)
    _finish(axes, comparison)


def draw_curves(axes: Axes, comparison: Comparison, metric: str | None) -> None:
    """Learning curves of the front's members, of each side's first sweep; at most six of a side.

    Raises:
        ConfigError: no evaluation has the metric.
    """
    name = metric or comparison.axes[1][0]
    for place, side in enumerate(comparison.sides):
        sweep, mark = side.members[0].sweep, mark_of(place)
        found = sweep.evaluations[sweep.evaluations["metric"] == name]
        if found.empty:
            known = ", ".join(sorted(sweep.evaluations["metric"].unique()))
            raise ConfigError(f"--metric {name}: no evaluation of {sweep.name} has it. Metrics: {known}")
        for number, trial_id in enumerate(sweep.front["trial_id"][:_MOST_CURVES]):
            curve = found[found["trial_id"] == trial_id].sort_values("nimg")
            is_one = len(comparison.sides) == 1
            own = mark_of(number) if is_one else mark
            label = trial_id if is_one else (side.label if number == 0 else None)
            look: _Look = {
                "color": own.light,
                "linestyle": own.line,
                "marker": own.marker,
                "markersize": 2.5,
            }
            axes.plot(curve["nimg"], curve["value"], linewidth=1.0, label=label, **look)
    axes.set_xlabel("images")
    axes.set_ylabel(axis_title(name, None))
    shorten_numbers(axes, axes.get_xlim()[1])
    _legend(axes)


def draw_ablation(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    """Each change's paired differences, seed by seed, with the mean and its 95 % interval.

    Args:
        table: as `records.ablated.pair_table` has it.

    Raises:
        ConfigError: there is no pair, or none has the metric.
    """
    known = sorted(set(table["metric"])) if len(table) else []
    if metric not in known:
        there = f"Metrics: {', '.join(known)}" if known else "raydistill ablate makes pairs"
        raise ConfigError(f"--kind ablation: no pair of trainings has {metric}. {there}")
    own = table[table["metric"] == metric]
    said = ablated.verdict_table(own)
    rows = [*said.groupby(["change", "equal", "trial_id"], sort=False)]
    for place, ((change, equal, trial_id), verdict) in enumerate(rows):
        mark = mark_of([*dict.fromkeys(key[:2] for key, _ in rows)].index((change, equal)))
        part = own[(own["change"] == change) & (own["equal"] == equal)]
        part = part if trial_id == ablated.ALL else part[part["trial_id"] == trial_id]
        values = part["difference"]
        if trial_id == ablated.ALL:
            values = part.groupby("seed")["difference"].mean()
        axes.scatter(values, [place] * len(values), s=9, color=mark.light, alpha=0.5, marker=mark.marker)
        first = verdict.iloc[0]
        if not pd.isna(first["low"]):
            axes.plot([first["low"], first["high"]], [place, place], color=mark.light, linewidth=1.2)
        axes.scatter([first["difference"]], [place], s=26, color=mark.light, marker="|", linewidths=1.6)
    names = [
        f"{trial_id}\n{_short(str(change))}{', equal time' if equal == 'time' else ''}"
        for (change, equal, trial_id), _ in rows
    ]
    axes.set_yticks(range(len(rows)), names)
    axes.margins(y=0.25)
    axes.invert_yaxis()
    axes.axvline(0, color=INK, linewidth=0.8)
    way = str(own["direction"].iloc[0])
    better = "right" if way == "max" else "left"
    axes.set_xlabel(f"{metric}: changed - unchanged (better: {better})")


def _short(change: str) -> str:
    return change.replace("student.terms.", "").replace("student.", "")[:28]


def _finish(axes: Axes, comparison: Comparison) -> None:
    (x, x_better), (y, y_better) = comparison.axes
    axes.set_xlabel(axis_title(x, x_better))
    axes.set_ylabel(axis_title(y, y_better))
    shorten_numbers(axes, axes.get_xlim()[1])
    _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, handlelength=2.4,
                columnspacing=1.0, handletextpad=0.5)  # fmt: skip
