"""Figures of plotly: the trials and front of a sweep, sweeps side by side, and what one change gives.

Their colours are those of a light page; `compare_page` redraws them for a dark one.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from plotly import graph_objects as go

from analysis.compare import HYPERVOLUME, Comparison, attained, columns_of
from analysis.plots import INK, MARKS, axis_title, groups, pair_members
from analysis.shapes import band, ends, mark_of, steps
from raydistill.records import pareto
from raydistill.records.pareto import Direction
from raydistill.records.tables import NamedDirection, column

_FAINT = 0.16
"""How opaque a band is."""


def front_figure(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], *, title: str, ceiling: float | None = None
) -> go.Figure:
    """The trials of a sweep and their front, in the first cost and the first quality.

    Args:
        table: the trials table without replicates, see `records.tables.mean_over_seeds`.
        objectives: of the sweep.
        ceiling: mIoU of the evaluator on real pictures; None: no line.
    """
    (x, x_better), (y, y_better) = sorted(objectives, key=lambda each: not each[0].startswith("cost/"))[:2]
    directions: list[Direction] = [x_better, y_better]
    drawn = table[groups(table).ne("") & table[[column(x), column(y)]].notna().all(axis=1)]
    figure = _styled(go.Figure(), title, axis_title(x, x_better), axis_title(y, y_better))
    member = pair_members(drawn, (x, y), directions)
    points = drawn[[column(x), column(y)]].to_numpy(dtype=float)
    if member.any():
        edge = steps(points[member], directions, ends(points, directions)[0])
        line = {"color": INK, "width": 1.5}
        figure.add_scatter(
            x=edge[:, 0], y=edge[:, 1], mode="lines", line=line, name="front", hoverinfo="skip"
        )
    group = groups(drawn)
    for name, mark in MARKS.items():
        rows = (group == name).to_numpy()
        if not rows.any():
            continue
        edges = np.where(member[rows], 1.6, 0.8)
        texts = drawn.loc[rows, "trial_id"] + " " + drawn.loc[rows, "label"].map(_escaped)
        look = {"symbol": mark.symbol, "color": mark.light, "size": np.where(member[rows], 11, 8)}
        figure.add_scatter(
            x=points[rows, 0],
            y=points[rows, 1],
            mode="markers",
            marker=look | {"line": {"color": np.where(member[rows], INK, "white"), "width": edges}},
            name=mark.title,
            text=texts,
            hovertemplate="%{text}<br>%{x:.4s}, %{y:.4g}<extra></extra>",
        )
    if ceiling is not None and y.endswith("/miou"):
        figure.add_hline(y=ceiling, line={"color": "#6b7280", "dash": "dash"})
    return figure


def _escaped(text: str) -> str:
    """A text in which plotly sees no tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fronts_figure(comparison: Comparison) -> go.Figure:
    """The fronts of the sweeps over each other: a line of steps for each side, the median over its seeds,
    with the members of all fronts, and a band from what one seed attains to what all attain."""
    (x, x_better), (y, y_better) = comparison.axes
    directions: list[Direction] = [x_better, y_better]
    figure = _styled(go.Figure(), "", axis_title(x, x_better), axis_title(y, y_better))
    columns = columns_of(comparison.objectives, comparison.axes)
    fronts = {side.label: [_front(each.points[:, columns], directions) for each in side.members]
              for side in comparison.sides}  # fmt: skip
    end, floor = ends(np.concatenate([each for some in fronts.values() for each in some]), directions)
    for place, side in enumerate(comparison.sides):
        mark, number, label = mark_of(place), len(side.members), _escaped(side.label)
        if number > 1:
            best, worst = (
                attained(side, comparison.objectives, comparison.axes, share) for share in (1 / number, 1.0)
            )
            outline = band(best, worst, directions, end, floor)
            figure.add_scatter(
                x=outline[:, 0], y=outline[:, 1], fill="toself", mode="none", fillcolor=_faint(mark.light),
                hoverinfo="skip", name=f"{label}: all {number} seeds", legendgroup=label, showlegend=False,
            )  # fmt: skip
        edge = steps(attained(side, comparison.objectives, comparison.axes, 0.5), directions, end)
        seeds = "1 seed" if number == 1 else f"median of {number} seeds"
        figure.add_scatter(
            x=edge[:, 0], y=edge[:, 1], mode="lines", name=f"{label}, {seeds}", legendgroup=label,
            line={"color": mark.light, "dash": mark.dash, "width": 2.2}, hoverinfo="skip",
        )  # fmt: skip
        points = np.concatenate(fronts[side.label])
        texts = [f"{_escaped(member.sweep.name)}" for member, front in zip(side.members, fronts[side.label])
                 for _ in front]  # fmt: skip
        figure.add_scatter(
            x=points[:, 0], y=points[:, 1], mode="markers", name=label, legendgroup=label, showlegend=False,
            marker={"color": mark.light, "symbol": mark.symbol, "size": 7, "opacity": 0.75}, text=texts,
            hovertemplate="%{text}<br>%{x:.4s}, %{y:.4g}<extra></extra>",
        )  # fmt: skip
    for budget in comparison.budgets:
        figure.add_vline(x=budget, line={"color": "#9aa0ab", "dash": "dot", "width": 1})
    return figure


def volumes_figure(comparison: Comparison) -> go.Figure:
    """The hypervolume of every sweep, and each side's mean with its 95 % interval over the seeds."""
    figure = _styled(go.Figure(), "", "", HYPERVOLUME)
    for place, row in comparison.summary.iterrows():
        mark, label = mark_of(int(str(place))), _escaped(str(row["side"]))
        part = comparison.sweeps[comparison.sweeps["side"] == row["side"]]
        reach = 0.0 if np.isnan(row["low"]) else row["high"] - row[HYPERVOLUME]
        figure.add_scatter(
            x=[label] * len(part), y=part[HYPERVOLUME], mode="markers", showlegend=False,
            marker={"color": mark.light, "symbol": f"{mark.symbol}-open", "size": 8},
            text=[_escaped(name) for name in part["sweep"]],
            hovertemplate="%{text}<br>%{y:.5g}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[label], y=[row[HYPERVOLUME]], mode="markers", showlegend=False,
            marker={"color": mark.light, "symbol": "line-ew-open", "size": 26, "line": {"width": 2.5}},
            error_y={"array": [reach], "color": mark.light, "thickness": 1.6, "visible": reach > 0},
            hovertemplate=f"mean of {int(row['seeds'])}: %{{y:.5g}}<extra></extra>",
        )  # fmt: skip
    return figure


def _front(points: NDArray[np.float64], directions: Sequence[Direction]) -> NDArray[np.float64]:
    return points[pareto.members(points, directions)]


def _faint(color: str) -> str:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{_FAINT})"


def _styled(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    """An empty figure in the look of the pages."""
    axis = {"gridcolor": "#ecebe6", "zeroline": False, "automargin": True}
    return figure.update_layout(
        title={"text": _escaped(title), "font": {"size": 16}, "y": 0.97} if title else None,
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, Liberation Sans, Arial, sans-serif", "size": 13, "color": INK},
        margin={"l": 60, "r": 16, "t": 100 if title else 60, "b": 50},
        legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#9aa0ab"},
        hovermode="closest",
        xaxis=axis | {"title": {"text": x}},
        yaxis=axis | {"title": {"text": y}},
    )
