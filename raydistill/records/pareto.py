"""Numbers about the Pareto front: the points that no other point dominates. Below it is called the front.

Every function takes `points`, float64 (n, m) with m >= 2, one row per point and one column per objective, and
`directions`, "min" or "max" for each column. A point dominates another when it is at least as good in every
objective and better in one. Equal points do not dominate each other, so duplicates of a member of the front
are members too. No points (n = 0) is a valid input.

All functions raise ValueError for NaN, an infinity, an unknown direction, or shapes that do not fit.
"""

import math
from collections.abc import Sequence
from typing import Literal

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Direction = Literal["min", "max"]
"""Which way is better."""
_POOLED_FREEDOM = 4
"""Degrees of freedom that the pooled variance counts as."""
_DRAWS = 2_000
"""Samples of the true means for the probability of membership."""
_SURFACES = 200
"""Samples of the true means for the attainment surfaces."""


def members(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.bool_]:
    """Whether each point belongs to the front, bool (n,)."""
    return np.asarray(moocore.is_nondominated(_minimised(points, directions), keep_weakly=True), dtype=bool)


def ranks(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.int64]:
    """Non-dominated sorting, int (n,): 0 for the front, 1 for the front of the other points, and so on."""
    return np.asarray(moocore.pareto_rank(_minimised(points, directions)), dtype=np.int64)


def hypervolume(points: ArrayLike, directions: Sequence[Direction], reference: ArrayLike) -> float:
    """Volume that the points dominate up to `reference` (m,), in the product of the objectives' units.

    A point that is not better than the reference in every objective adds 0.
    """
    costs = _minimised(points, directions)
    return float(moocore.hypervolume(costs, ref=_minimised_reference(reference, directions)))


def contributions(
    points: ArrayLike, directions: Sequence[Direction], reference: ArrayLike
) -> NDArray[np.float64]:
    """Volume, float (n,), that the front loses without each point.

    That is hypervolume(front) - hypervolume(front without the point). It is 0 for points that are not
    members, for duplicates, and for points that are not better than `reference` (m,) in every objective.
    """
    costs = _minimised(points, directions)
    volumes = moocore.hv_contributions(costs, ref=_minimised_reference(reference, directions))
    return np.asarray(volumes, dtype=np.float64)


def dominators(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.int64]:
    """Index, int (n,), of a member that dominates each point (the lowest such index); -1 for members."""
    costs = _minimised(points, directions)
    out = np.full(len(costs), -1, dtype=np.int64)
    for index in np.flatnonzero(members(points, directions))[::-1]:
        dominated = (costs[index] <= costs).all(axis=1) & (costs[index] < costs).any(axis=1)
        out[dominated] = index
    return out


def knee(points: ArrayLike, directions: Sequence[Direction], reference: ArrayLike) -> int:
    """Index of the knee: the member that lies farthest beyond the plane through the extremes of the front.

    Only members better than `reference` (m,) in every objective count. Each objective is scaled to z = 0 at
    its best value over them (ideal) and z = 1 at its worst (nadir); an objective in which they all agree has
    z = 0. The plane is sum(z) = 1; for two objectives it is the line through the two ends of the front. The
    distance from it is (1 - sum(z)) / sqrt(m), positive on the side of the ideal. Ties go to the lowest
    index.

    Raises:
        ValueError: no point is better than the reference in every objective.
    """
    costs = _minimised(points, directions)
    is_inside = (costs < _minimised_reference(reference, directions)).all(axis=1)
    candidates = np.flatnonzero(members(points, directions) & is_inside)
    if len(candidates) == 0:
        raise ValueError("there is no knee: no point is better than the reference in every objective")
    front = costs[candidates]
    ideal, nadir = front.min(axis=0), front.max(axis=0)
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    distance = (1.0 - ((front - ideal) / span).sum(axis=1)) / np.sqrt(front.shape[1])
    return int(candidates[np.argmax(distance)])


def attainment(
    fronts: Sequence[ArrayLike], directions: Sequence[Direction], share: float
) -> NDArray[np.float64]:
    """Corners, (k, m), of the surface that at least `share` of the fronts attain, in the order of the first
    objective.

    A front attains a point where a member of it is at least as good in every objective; so share 0.5 of the
    fronts of several seeds is the median front. Fronts without a point attain nothing, and count.

    Args:
        fronts: points of each, (n_i, m) with m of 2 or 3.
        share: above 0, at most 1.

    Source: the empirical attainment function of Fonseca, Guerreiro, Lopez-Ibanez and Paquete (2011).
    """
    costs = [_minimised(front, directions) for front in fronts]
    sizes = [len(each) for each in costs]
    wanted = math.ceil(share * len(costs) - 1e-9)
    present = [each for each in costs if len(each)]
    if wanted < 1 or wanted > len(present):
        return np.empty((0, len(directions)))
    sets = np.repeat(np.arange(1, len(present) + 1), [size for size in sizes if size])
    percent = 100 * wanted / len(present)
    corners = moocore.eaf(np.concatenate(present), sets, percentiles=[percent])[:, :-1] * _signs(directions)
    return np.asarray(corners[np.argsort(corners[:, 0], kind="stable")], dtype=np.float64)


def best_within(points: ArrayLike, directions: Sequence[Direction], budget: float) -> float:
    """The best second objective of the points (n, 2) whose first one is not worse than `budget`.

    NaN: there is no such point.
    """
    costs = _minimised(points, directions)
    inside = costs[costs[:, 0] <= _signs(directions)[0] * budget]
    return float(inside[:, 1].min() * _signs(directions)[1]) if len(inside) else math.nan


def standard_errors(samples: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Standard error of the mean of each configuration over its seeds, (k, m).

    The variance of one training is an average of the configuration's own variance s_i^2 and the pooled
    variance s^2, weighted by their degrees of freedom, where the pooled one counts as 4:

        (4 s^2 + (n_i - 1) s_i^2) / (4 + n_i - 1)

    So a configuration with one seed has the pooled variance, and two seeds that happen to agree prove little.

    Args:
        samples: k arrays (n_i, m) with n_i >= 1: each configuration's objectives, one row per seed.

    Returns:
        NaN throughout where no configuration has two seeds.

    Source: the moderated variance of Smyth (2004, doi 10.2202/1544-6115.1027). What differs: the weight of
    the pooled variance is fixed, not fitted.
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
    """Probability, (n,), that each point belongs to the front of the true means.

    The true means are independent and normal around `means` (n, m) with the standard errors `errors` (n, m).
    The probability is a share of 2,000 draws from a fixed seed, so equal inputs give equal numbers; its own
    standard error is 0.011 at most. An error of 0 says that the mean is exact.

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


def uncertain_attainment(
    means: ArrayLike, errors: ArrayLike, directions: Sequence[Direction], shares: Sequence[float]
) -> list[NDArray[np.float64]]:
    """`attainment` by the fronts of draws of the true means, for each share.

    The draws are as in `membership`, but 200 of them.

    Args:
        means: (n, m), each point's mean objectives; m is 2 or 3.
        errors: (n, m), their standard errors.
        shares: each above 0, at most 1.

    Raises:
        ValueError: an error is negative or not finite.
    """
    array, spread = _minimised(means, directions), np.asarray(errors, dtype=np.float64)
    if spread.shape != array.shape or not np.isfinite(spread).all() or (spread < 0).any():
        raise ValueError(f"errors must be finite and not negative, of shape {array.shape}")
    rng, signs = np.random.default_rng(0), _signs(directions)
    draws = [(array + spread * rng.standard_normal(array.shape)) * signs for _ in range(_SURFACES)]
    fronts = [draw[members(draw, directions)] for draw in draws]
    return [attainment(fronts, directions, share) for share in shares]


def stability(means: ArrayLike, probability: ArrayLike, directions: Sequence[Direction]) -> float:
    """Expected overlap of the front of the means with the front of the true means, from 0 to 1.

    The overlap is the number of points on both fronts over the number of points on either. With p the
    probability of membership (n,), it is the sum of p over the members / (number of members + sum of p over
    the others). No points: 1.
    """
    chance, is_member = np.asarray(probability, dtype=np.float64), members(means, directions)
    if not len(chance):
        return 1.0
    return float(chance[is_member].sum() / (is_member.sum() + chance[~is_member].sum()))


def _signs(directions: Sequence[Direction]) -> NDArray[np.float64]:
    for direction in directions:
        if direction not in ("min", "max"):
            raise ValueError(f"a direction is 'min' or 'max', not {direction!r}")
    return np.array([1.0 if direction == "min" else -1.0 for direction in directions])


def _minimised(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    """`points`, checked, with the sign of each "max" column changed, so that all objectives are minimised."""
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(directions) or len(directions) < 2:
        raise ValueError(
            "points must be (n, m) with one column per direction and m >= 2, "
            f"not {array.shape} for {len(directions)} directions"
        )
    if not np.isfinite(array).all():
        raise ValueError("points must be finite: a trial without a number has no place on a front")
    return np.ascontiguousarray(array * _signs(directions))


def _minimised_reference(reference: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.float64]:
    array = np.asarray(reference, dtype=np.float64)
    if array.shape != (len(directions),):
        raise ValueError(
            f"the reference point must have one number per direction ({len(directions)}), "
            f"not shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("the reference point must be finite")
    return array * _signs(directions)
