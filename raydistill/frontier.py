"""All numbers about fronts: membership, ranks, hypervolume, contributions, who dominates whom, the knee.

Every function takes `points`, float64 (n, m) with m >= 2, one row per point, and `directions`, one of "min" or "max" per column.
A point dominates another when it is at least as good in every objective and better in one; equal points do not dominate each other,
so duplicates of a front point are all members. No points (n = 0) is a valid input.

All functions raise ValueError for NaN, an infinity, an unknown direction, or shapes that do not fit.
"""

from collections.abc import Sequence
from typing import Literal

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Direction = Literal["min", "max"]


def members(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.bool_]:
    """True (n,) for each point that no other point dominates."""
    return np.asarray(moocore.is_nondominated(_minimised(points, directions), keep_weakly=True), dtype=bool)


def ranks(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.int64]:
    """Non-dominated sorting, int (n,): 0 for the front, 1 for the front of what is left without it, and so on."""
    return np.asarray(moocore.pareto_rank(_minimised(points, directions)), dtype=np.int64)


def hypervolume(points: ArrayLike, directions: Sequence[Direction], reference: ArrayLike) -> float:
    """Volume that the points dominate, bounded by `reference` (m,), in the product of the objectives' units.

    A point that is not better than the reference in every objective adds 0.
    """
    costs = _minimised(points, directions)
    return float(moocore.hypervolume(costs, ref=_minimised_reference(reference, directions)))


def contributions(points: ArrayLike, directions: Sequence[Direction], reference: ArrayLike) -> NDArray[np.float64]:
    """Volume, float (n,), that the front loses without the point: hypervolume(front) - hypervolume(front without it).

    0 for points that are not members, for duplicates, and for points not better than `reference` (m,) in every objective.
    """
    costs = _minimised(points, directions)
    return np.asarray(moocore.hv_contributions(costs, ref=_minimised_reference(reference, directions)), dtype=np.float64)


def dominators(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.int64]:
    """Index, int (n,), of a member that dominates the point (the lowest such index); -1 for members."""
    costs = _minimised(points, directions)
    out = np.full(len(costs), -1, dtype=np.int64)
    for index in np.flatnonzero(members(points, directions))[::-1]:
        dominated = (costs[index] <= costs).all(axis=1) & (costs[index] < costs).any(axis=1)
        out[dominated] = index
    return out


def knee(points: ArrayLike, directions: Sequence[Direction], reference: ArrayLike) -> int:
    """Index of the knee: the member that lies farthest in front of the plane through the extremes of the front.

    Only members better than `reference` (m,) in every objective count. Each objective is scaled to z = 0 at its best (ideal) and
    z = 1 at its worst value (nadir) over them; an objective in which they all agree has z = 0. The plane is sum(z) = 1, for two
    objectives the line through the two ends of the front. The distance (1 - sum(z)) / sqrt(m) is positive on the ideal's side;
    ties go to the lowest index.

    Raises:
        ValueError: no point is better than the reference in every objective.
    """
    costs = _minimised(points, directions)
    candidates = np.flatnonzero(members(points, directions) & (costs < _minimised_reference(reference, directions)).all(axis=1))
    if len(candidates) == 0:
        raise ValueError("there is no knee: no point is better than the reference in every objective")
    front = costs[candidates]
    ideal, nadir = front.min(axis=0), front.max(axis=0)
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    distance = (1.0 - ((front - ideal) / span).sum(axis=1)) / np.sqrt(front.shape[1])
    return int(candidates[np.argmax(distance)])


def _signs(directions: Sequence[Direction]) -> NDArray[np.float64]:
    for direction in directions:
        if direction not in ("min", "max"):
            raise ValueError(f"a direction is 'min' or 'max', not {direction!r}")
    return np.array([1.0 if direction == "min" else -1.0 for direction in directions])


def _minimised(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    """`points`, checked, with the sign of every "max" column turned."""
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(directions) or len(directions) < 2:
        raise ValueError(
            f"points must be (n, m) with one column per direction and m >= 2, not {array.shape} for {len(directions)} directions"
        )
    if not np.isfinite(array).all():
        raise ValueError("points must be finite: a trial without a number has no place on a front")
    return np.ascontiguousarray(array * _signs(directions))


def _minimised_reference(reference: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    array = np.asarray(reference, dtype=np.float64)
    if array.shape != (len(directions),):
        raise ValueError(f"the reference point must have one number per direction ({len(directions)}), not shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("the reference point must be finite")
    return array * _signs(directions)
