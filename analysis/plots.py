"""The trials as a picture, and their Pareto front as a small table.

All numbers about fronts come from `raydistill.records.pareto`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from raydistill.records import pareto
from raydistill.records.files import write_atomic
from raydistill.records.pareto import Direction
from raydistill.records.tables import column, competitors, objective_points

MI_WEIGHT = "param.student.terms.mi.weight"
"""Column of the weight of the mutual-information term."""
INK = "#22262e"
"""Colour of text and lines."""
RELATIVE_SIZE = {"*": 4.0, "X": 2.0}
"""Area of a marker over that of a dot, so that all look equally large."""


@dataclass(frozen=True)
class Mark:
    """How a group of trials is drawn.

    It has colours for a light and a dark page, a marker for matplotlib and a symbol for plotly.
    """

    title: str
    light: str
    dark: str
    marker: str
    symbol: str


MARKS = {
    "mi": Mark("searched, MI term on", "#0072b2", "#56b4e9", "o", "circle"),
    "no_mi": Mark("searched, MI term off", "#d55e00", "#f28c4b", "o", "circle"),
    "search": Mark("searched", "#0072b2", "#56b4e9", "o", "circle"),
    "uniform": Mark("uniform widths", "#009e73", "#35c79a", "s", "square"),
    "no_teacher": Mark("no teacher", "#b5548c", "#e39ac3", "X", "x"),
    "teacher": Mark("teacher", INK, "#eceef2", "*", "star"),
    "recheck": Mark("repeated by 2 workers", "#8a8f99", "#9aa0ab", "d", "diamond"),
}
"""Group of trials -> mark, in the order of the legend."""


def groups(table: pd.DataFrame) -> pd.Series:
    """The key in MARKS of each row; "" for rows that are not drawn, because they are not COMPLETE."""
    group = table["role"].where(table["status"] == "COMPLETE", "")
    if MI_WEIGHT in table:
        is_searched = group == "search"
        group = group.mask(is_searched & (table[MI_WEIGHT] > 0), "mi")
        group = group.mask(is_searched & (table[MI_WEIGHT] == 0), "no_mi")
    return group


def pair_members(
    table: pd.DataFrame, names: Sequence[str], directions: Sequence[Direction]
) -> NDArray[np.bool_]:
    """Whether each row is on the front of two numbers, over the competitors that have both.

    Args:
        names: such as ("cost/macs", "val/miou").
        directions: which way is better for each.

    Raises:
        RunError: the numbers were measured under different conditions.
    """
    complete = table.reindex(columns=[column(name) for name in names]).notna().all(axis=1).to_numpy()
    rows = competitors(table).to_numpy() & complete
    points = objective_points(table[rows], list(zip(names, directions, strict=True)))
    out = np.zeros(len(table), dtype=bool)
    out[rows] = pareto.members(points, directions)
    return out


def axis_title(name: str, direction: Direction | None) -> str:
    """The title of an axis, with an arrow to the better side. `direction` None: neither side is better."""
    titles = {"cost/macs": "MACs", "cost/params": "parameters", "time/wall_sec": "wall time (s)"}
    return titles.get(name, name) + {"min": " ↓", "max": " ↑", None: ""}[direction]


def frontier_csv(table: pd.DataFrame, path: Path) -> None:
    """Write the members of the front, cheapest first, with column titles for people.

    Args:
        table: the trials table, as `records.tables.with_front` returns it.
        path: the CSV file to write.

    Raises:
        StoreError: the file cannot be written.
    """
    columns = [str(name) for name in table]
    titles = {
        "trial_id": "trial",
        "label": "label",
        "role": "role",
        "seed": "seed",
        "cost.macs": "MACs",
        "cost.params": "parameters",
    }
    scores = [name for name in columns if name.startswith(("metric.val/", "metric.test/"))]
    titles |= {name: name.removeprefix("metric.") for name in scores}
    if table["front.seeds"].notna().any():
        errors = [name for name in columns if name.startswith("se.")]
        titles |= {"front.seeds": "seeds", "front.probability": "P(on the front)"}
        titles |= {name: f"standard error of {name.removeprefix('se.')}" for name in errors}
    titles |= {"front.hv_contribution": "hypervolume contribution", "wall_sec": "wall time (s)"}
    titles |= {name: name.removeprefix("param.") for name in columns if name.startswith("param.")}
    front = table[table["front.member"]].reindex(columns=list(titles)).sort_values(["cost.macs", "trial_id"])
    write_atomic(path, partial(front.rename(columns=titles).to_csv, index=False))


def frontier_png(
    table: pd.DataFrame,
    path: Path,
    x: str = "cost/macs",
    y: str = "val/miou",
    directions: tuple[Direction, Direction] = ("min", "max"),
    *,
    ceiling: float | None = None,
) -> None:
    """Draw the trials and their front in two numbers.

    Args:
        table: the trials table.
        path: the PNG file to write.
        x, y: the numbers that the axes show.
        directions: which way is better on each axis.
        ceiling: mIoU of the evaluator on real pictures, drawn where y is an mIoU; None: no line.

    Raises:
        RunError: the numbers were measured under different conditions.
        StoreError: the file cannot be written.
    """
    figure = Figure(figsize=(7.6, 5.2), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    _draw_style(axes, x, y, directions)
    drawn = table.reindex(columns=list(dict.fromkeys([*table.columns, column(x), column(y)])))
    drawn = drawn[groups(drawn).ne("") & drawn[[column(x), column(y)]].notna().all(axis=1)]
    member = pair_members(drawn, (x, y), directions)
    names = _draw_front(axes, drawn[member], x, y, directions)
    _draw_trials(axes, drawn, member, x, y)
    if ceiling is not None and y.endswith("/miou"):
        dashes = (0, (5, 4))
        label = "evaluator on real pictures"
        axes.axhline(ceiling, color="#6b7280", linewidth=1.1, linestyle=dashes, label=label, zorder=1)
    _draw_scale(axes, drawn[column(x)].to_numpy(dtype=float))
    figure.legend(
        loc="outside lower center", ncols=4, frameon=False, fontsize=9, handletextpad=0.4, columnspacing=1.6
    )
    _part(figure, names, 1 if directions[1] == "max" else -1)
    write_atomic(path, partial(figure.savefig, dpi=200))


def _draw_style(axes: Axes, x: str, y: str, directions: Sequence[Direction]) -> None:
    axes.set_xlabel(axis_title(x, directions[0]), color=INK)
    axes.set_ylabel(axis_title(y, directions[1]), color=INK)
    axes.grid(color="#e7e9ee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#4b5260", labelsize=9, length=0, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c3c8d1")
    axes.margins(0.08)


def _draw_front(
    axes: Axes, front: pd.DataFrame, x: str, y: str, directions: Sequence[Direction]
) -> list[Annotation]:
    """Draws the step line of what the front reaches, and each member's id, which is returned, on the side
    where nothing is better."""
    front = front.sort_values([column(x), column(y)])
    xs, ys = front[column(x)], front[column(y)]
    step = "steps-post" if directions[0] == "min" else "steps-pre"
    axes.plot(xs, ys, drawstyle=step, color=INK, linewidth=1.2, alpha=0.75, label="front", zorder=2)
    left, up = directions[0] == "min", directions[1] == "max"
    return [
        axes.annotate(
            row["trial_id"],
            (row[column(x)], row[column(y)]),
            xytext=(-5 if left else 5, 5 if up else -5),
            textcoords="offset points",
            ha="right" if left else "left",
            va="bottom" if up else "top",
            fontsize=8.5,
            color=INK,
        )
        for _, row in front.iterrows()
    ]


def _part(figure: Figure, names: Sequence[Annotation], side: int) -> None:
    """Moves names that would lie upon others up (`side` 1) or down (-1), line by line."""
    figure.draw_without_rendering()
    taken: list[Bbox] = []
    for name in names:
        while any(name.get_window_extent().overlaps(box) for box in taken):
            along, away = name.get_position()
            name.set_position((along, away + side * float(name.get_fontsize())))
        taken.append(name.get_window_extent())


def _draw_trials(axes: Axes, drawn: pd.DataFrame, member: NDArray[np.bool_], x: str, y: str) -> None:
    """Draws each group of trials in its mark, members of the front larger and with a dark edge."""
    group = groups(drawn)
    for name, mark in MARKS.items():
        rows = (group == name).to_numpy()
        if not rows.any():
            continue
        scatter = partial(axes.scatter, marker=mark.marker, color=mark.light)
        relative_size = RELATIVE_SIZE.get(mark.marker, 1.0)
        sizes = np.where(member[rows], 62, 38) * relative_size
        edges = [INK if is_member else "white" for is_member in member[rows]]
        xs, ys = drawn.loc[rows, column(x)], drawn.loc[rows, column(y)]
        scatter(xs, ys, s=sizes, edgecolors=edges, linewidths=0.8, zorder=3)
        scatter([], [], s=30 * relative_size, label=mark.title)  # for the legend


def _draw_scale(axes: Axes, values: NDArray[np.float64]) -> None:
    """Makes the x axis logarithmic where positive numbers span more than a decade; large ones end in k, M,
    G."""
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if len(values):
        shorten_numbers(axes, values.max())


def shorten_numbers(axes: Axes, highest: float) -> None:
    """Makes large numbers of the x axis end in k, M, G; where the highest is small, they stay as they are."""
    if highest >= 1000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
