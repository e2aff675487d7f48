"""Expected hypervolume improvement of candidates over a Pareto front, here called the front.

Each objective of a candidate is an independent normal variable, or a known number (deviation 0). All
objectives are minimised. With E(t) = E max(t - y, 0), the expected volume of the part of a box [l, u] that a
point y dominates is the product over the axes of E(u) - E(l); for a known number that is plain arithmetic. So
for two and three objectives the improvement is a closed-form sum over the cells between the front's
coordinates, however many objectives are known. For more objectives the integral of P(y <= z) over the z that
nothing dominates is taken over Sobol points.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from raydistill.records import pareto

Array = NDArray[np.float64]
_SOBOL_POINTS = 4096
_CHUNK = 64
"""Candidates at a time where the integral is sampled."""


def non_dominated(points: Array) -> NDArray[np.bool_]:
    """Which of the points (n, m), minimised, nothing dominates; with one objective, the lowest."""
    if points.shape[1] == 1:
        return np.asarray(points[:, 0] <= points[:, 0].min(initial=np.inf))
    directions: tuple[pareto.Direction, ...] = ("min",) * points.shape[1]
    return pareto.members(points, directions)


def expected_below(levels: Array, mean: Array, deviation: Array, is_log: bool = False) -> Array:
    """E max(level - y, 0) for each candidate and level, (c, k).

    Args:
        levels: (k,), ascending or not.
        mean, deviation: (c,), of y, which is normal; deviation 0: y is known.
        is_log: mean and deviation are those of log y.
    """
    spread = np.where(deviation > 0, deviation, 1.0)[:, None]
    middle = mean[:, None]
    if is_log:
        with np.errstate(divide="ignore"):
            z = (np.log(np.maximum(levels, 0.0))[None, :] - middle) / spread
        smooth = levels[None, :] * ndtr(z) - np.exp(middle + 0.5 * spread**2) * ndtr(z - spread)
        middle = np.exp(middle)
    else:
        z = (levels[None, :] - middle) / spread
        smooth = (levels[None, :] - middle) * ndtr(z) + spread * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    exact = np.maximum(levels[None, :] - middle, 0.0)
    return np.where(deviation[:, None] > 0, np.maximum(smooth, 0.0), exact)


def hypervolume_improvement(
    front: Array, reference: Array, mean: Array, deviation: Array, is_log: Sequence[bool] | None = None
) -> Array:
    """Expected volume (c,) that each candidate adds to what `front` dominates below `reference`.

    Args:
        front: (n, m) points, n >= 0; dominated ones, and those not better than the reference, change nothing.
        reference: (m,), m >= 1; with one objective the volume is a length, and this is the expected
            improvement.
        mean, deviation: (c, m); deviation 0: the objective is known.
        is_log: (m,), whether mean and deviation are those of the objective's logarithm; None: nowhere. Front,
            reference and volume never are logarithms.
    """
    front = front[(front < reference).all(axis=1)]
    is_log = [False] * len(reference) if is_log is None else is_log
    if len(reference) <= 3:
        return _closed_form(front, reference, mean, deviation, is_log)
    return _sampled(front, reference, mean, deviation, is_log)


def _closed_form(
    front: Array, reference: Array, mean: Array, deviation: Array, is_log: Sequence[bool]
) -> Array:
    edges = [
        np.concatenate([[-np.inf], np.unique(front[:, axis]), [reference[axis]]])
        for axis in range(1, len(reference))
    ]
    shares = [
        np.diff(_from_below(edge, mean[:, axis], deviation[:, axis], is_log[axis]), axis=1)
        for axis, edge in enumerate(edges, start=1)
    ]
    reached = [front[:, axis][None, :] <= edge[:-1, None] for axis, edge in enumerate(edges, start=1)]
    levels = np.append(np.sort(front[:, 0]), reference[0])
    gains = expected_below(levels, mean[:, 0], deviation[:, 0], is_log[0])
    if not edges:
        return np.asarray(gains[:, 0])
    if len(edges) == 1:
        return np.asarray((shares[0] * gains[:, _level_index(reached[0], front, levels)]).sum(axis=1))
    total = np.zeros(len(mean))
    for row, is_reached in enumerate(reached[0]):
        gain = gains[:, _level_index(reached[1] & is_reached, front, levels)]
        total += shares[0][:, row] * (shares[1] * gain).sum(axis=1)
    return total


def _from_below(edges: Array, mean: Array, deviation: Array, is_log: bool) -> Array:
    """`expected_below` at edges, the first of which is minus infinity."""
    inner = expected_below(edges[1:], mean, deviation, is_log)
    return np.hstack([np.zeros((len(mean), 1)), inner])


def _level_index(reached: NDArray[np.bool_], front: Array, levels: Array) -> NDArray[np.int64]:
    """Index in `levels`, (cells,), of the best first objective of the front's points that reach each cell.

    Args:
        reached: (cells, n), whether point n of the front dominates the cell in the other objectives.
    """
    best = np.where(reached, front[:, 0][None, :], levels[-1]).min(axis=1, initial=levels[-1])
    return np.asarray(np.searchsorted(levels, best), dtype=np.int64)


def _sampled(front: Array, reference: Array, mean: Array, deviation: Array, is_log: Sequence[bool]) -> Array:
    low = (mean - 5 * deviation).min(axis=0)
    low = np.minimum(np.where(is_log, np.exp(np.where(is_log, low, 0.0)), low), reference)
    if (low >= reference).any():
        return np.zeros(len(mean))
    from scipy.stats import qmc  # a second to import, in every process of a sweep

    sobol = qmc.Sobol(len(reference), rng=np.random.default_rng(0))
    points = low + (reference - low) * sobol.random(_SOBOL_POINTS)
    is_free = ~(front[None, :, :] <= points[:, None, :]).all(axis=2).any(axis=1)
    free, cell = points[is_free], float(np.prod(reference - low)) / _SOBOL_POINTS
    free = np.where(is_log, np.log(np.where(is_log, np.maximum(free, 1e-300), 1.0)), free)
    out = np.zeros(len(mean))
    for start in range(0, len(mean), _CHUNK):
        part = slice(start, start + _CHUNK)
        probability = np.ones((len(mean[part]), len(free)))
        for axis in range(len(reference)):
            gap = free[None, :, axis] - mean[part, axis][:, None]
            spread = deviation[part, axis][:, None]
            probability *= np.where(spread > 0, ndtr(gap / np.where(spread > 0, spread, 1.0)), gap >= 0)
        out[part] = cell * probability.sum(axis=1)
    return out
