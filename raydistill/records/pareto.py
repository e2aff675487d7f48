"""All numbers about fronts: membership, ranks, hypervolume, contributions, who dominates whom, the knee, how sure membership is.

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
_POOLED_FREEDOM = 4
_DRAWS = 2_000


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


def contributions(
    points: ArrayLike, directions: Sequence[Direction], reference: ArrayLike
) -> NDArray[np.float64]:
    """Volume, float (n,), that the front loses without the point: hypervolume(front) - hypervolume(front without it).

    0 for points that are not members, for duplicates, and for points not better than `reference` (m,) in every objective.
    """
    costs = _minimised(points, directions)
    return np.asarray(
        moocore.hv_contributions(costs, ref=_minimised_reference(reference, directions)), dtype=np.float64
    )


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
    candidates = np.flatnonzero(
        members(points, directions) & (costs < _minimised_reference(reference, directions)).all(axis=1)
    )
    if len(candidates) == 0:
        raise ValueError("there is no knee: no point is better than the reference in every objective")
    front = costs[candidates]
    ideal, nadir = front.min(axis=0), front.max(axis=0)
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    distance = (1.0 - ((front - ideal) / span).sum(axis=1)) / np.sqrt(front.shape[1])
    return int(candidates[np.argmax(distance)])


def standard_errors(samples: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Standard error of each configuration's mean, (k, m), from its trainings by different seeds: `samples` are k arrays (n_i >= 1, m).

    The variance of one training is the configuration's own s_i^2 and the pooled s^2, weighed by their degrees of freedom, where the
    pooled one counts as 4: (4 s^2 + (n_i - 1) s_i^2) / (4 + n_i - 1). So a configuration with one seed has the pooled one, and two seeds
    that happen to agree prove little. It is the moderated variance of Smyth (2004, doi 10.2202/1544-6115.1027) with that weight fixed, not
    fitted. NaN where no configuration has two seeds.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    freedom = np.array([len(array) - 1 for array in arrays])
    squares = np.array([((array - array.mean(axis=0)) ** 2).sum(axis=0) for array in arrays])
    if not freedom.sum():
        return np.full(squares.shape, np.nan)
    pooled = squares.sum(axis=0) / freedom.sum()
    variance = (_POOLED_FREEDOM * pooled + squares) / (_POOLED_FREEDOM + freedom[:, None])
    return np.asarray(np.sqrt(variance / (freedom[:, None] + 1)))


def membership(means: ArrayLike, errors: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    """Probability, (n,), that a point belongs to the front of the true means: normal around `means`, independent, standard errors `errors`.

    By 2,000 draws from a fixed seed, so equal inputs give equal numbers; their own standard error is .011 at most. An error of 0: the
    mean is known.

    Raises:
        ValueError: an error is negative or not finite.
    """
    array, spread = _minimised(means, directions), np.asarray(errors, dtype=np.float64)
    if spread.shape != array.shape or not np.isfinite(spread).all() or (spread < 0).any():
        raise ValueError(f"errors must be finite and not negative, of shape {array.shape}")
    rng, count = np.random.default_rng(0), np.zeros(len(array))
    for _ in range(_DRAWS if len(array) else 0):
        count += moocore.is_nondominated(array + spread * rng.standard_normal(array.shape), keep_weakly=True)
    return count / _DRAWS


def stability(means: ArrayLike, probability: ArrayLike, directions: Sequence[Direction]) -> float:
    """How much of the front of the means and of the true one, together, is in both, in expectation; 1 for no points.

    With p the probability of membership: sum of p over the members / (number of members + sum of p over the others).
    """
    chance, is_member = np.asarray(probability, dtype=np.float64), members(means, directions)
    return (
        float(chance[is_member].sum() / (is_member.sum() + chance[~is_member].sum())) if len(chance) else 1.0
    )


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
        raise ValueError(
            f"the reference point must have one number per direction ({len(directions)}), not shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("the reference point must be finite")
    return array * _signs(directions)
