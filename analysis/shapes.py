"""Lines and bands of fronts as coordinates, and the colours of sides: what plotly and matplotlib share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.records.pareto import Direction


class SideMark(NamedTuple):
    """How a side is drawn; two differ in colour, line and marker, so that either alone tells them apart."""

    light: str
    dark: str
    dash: str
    """As plotly names it."""
    line: str
    """As matplotlib names it."""
    symbol: str
    marker: str


SIDE_MARKS = (
    SideMark("#0072b2", "#56b4e9", "solid", "-", "circle", "o"),
    SideMark("#d55e00", "#f28c4b", "dash", "--", "square", "s"),
    SideMark("#009e73", "#35c79a", "dot", ":", "diamond", "D"),
    SideMark("#b5548c", "#e39ac3", "dashdot", "-.", "triangle-up", "^"),
    SideMark("#b58900", "#e6c04a", "longdash", (0, (8, 3)), "x", "X"),  # type: ignore[arg-type]
    SideMark("#6b7280", "#9aa0ab", "longdashdot", (0, (8, 3, 1, 3)), "cross", "P"),  # type: ignore[arg-type]
)
"""Colours of Okabe and Ito, which people with any colour vision tell apart; of the seventh side the first
comes again."""


def mark_of(place: int) -> SideMark:
    """The mark of the side in a place, from 0."""
    return SIDE_MARKS[place % len(SIDE_MARKS)]


def steps(corners: NDArray[np.float64], directions: Sequence[Direction], end: float) -> NDArray[np.float64]:
    """The edge, (k, 2), of what the corners (n, 2) of a front attain, as a line of steps.

    It begins at the corner with the best x and goes on to `end`, the worst x that is drawn; empty without a
    corner.
    """
    if not len(corners):
        return np.empty((0, 2))
    ordered = corners[np.argsort(corners[:, 0] * (1 if directions[0] == "min" else -1), kind="stable")]
    xs = np.append(np.repeat(ordered[:, 0], 2)[1:], end)
    return np.column_stack([xs, np.repeat(ordered[:, 1], 2)])


def band(
    better: NDArray[np.float64],
    worse: NDArray[np.float64],
    directions: Sequence[Direction],
    end: float,
    floor: float,
) -> NDArray[np.float64]:
    """The outline, (k, 2), of what lies between two edges, closed.

    Args:
        better, worse: corners of the two.
        end: the worst x that is drawn.
        floor: the worst y that is drawn: the worse edge goes down to it where it has not begun yet.
    """
    upper, lower = steps(better, directions, end), steps(worse, directions, end)
    if not len(upper):
        return np.empty((0, 2))
    begins = lower[0, 0] if len(lower) else end
    closed = [[begins, floor], [upper[0, 0], floor]]
    return np.concatenate([upper, lower[::-1], np.array(closed)])


def ends(points: NDArray[np.float64], directions: Sequence[Direction]) -> tuple[float, float]:
    """The worst x and y that are drawn of points (n, 2): a little beyond the worst of them."""
    out = []
    for values, direction in zip(points.T, directions, strict=True):
        low, high = float(values.min()), float(values.max())
        reach = 0.04 * (high - low or abs(high) or 1.0)
        out.append(high + reach if direction == "min" else low - reach)
    return out[0], out[1]
