"""A Gaussian process over mixed inputs, fitted to few and noisy observations. NumPy and SciPy alone.

Kernel: Matern 5/2 over the numbers, times exp(-sum of the weights of the categories that differ). Length
scales, category weights and noise are at the maximum of their posterior; mean and variance of the process
follow in closed form. Priors: length scales as in Hvarfner et al. 2024 (arXiv 2402.02229), but correlated
with each other; noise log-normal around 1e-2 of the variance; variance inverse gamma around 1.

Observations may come from several sources, such as earlier sweeps. For each source there is a category: is
from it, or is not. So how much a source says about the present sweep is fitted. And each source has a level
of its own, normal around the common one with the variance of the process.

Where it is asked for, a part of the variance belongs to single values of some parameters and to pairs of
them: functions of one or two parameters alone, in which a value says hardly anything about the next. So what
was never tried is uncertain, however sure the fitted length scales are that it changes nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
_FIT_AT_MOST = 150
"""Largest number of observations that the kernel is fitted to. The prediction uses all observations."""
_LENGTH_SD, _WEIGHT_SD, _NOISE_SD = np.sqrt(3.0), 1.5, 1.5
"""Prior standard deviations of a log length scale, a log category weight and the log noise."""
_OWN_SD = 1.0
"""Prior standard deviation of each log length scale, and of each log weight, around the common one. They
share most of their deviation, because a few observations cannot tell which parameter matters."""
_NOISE_MEAN = np.log(1e-2)
_VARIANCE_PRIOR = 2.0
"""Weight of the prior that the variance is 1, in pseudo observations."""
_JITTER = 1e-8
_LEVEL = 1.0
"""Variance of a source's own level, where there are several sources."""
_VALUE_SHARE, _VALUE_LENGTH = 0.1, 0.15
"""Part of the variance that functions of single values and of pairs of them have, half each, and their length
scale; numbers span [0, 1]."""


class Inputs(NamedTuple):
    """n configurations as features."""

    numbers: Array
    """(n, p), about in [0, 1]"""
    categories: NDArray[np.int64]
    """(n, q)"""
    num_sources: int = 0
    """Number of other sources. The last categories, one per source, say whether an observation is from it: 1
    in one of them, or 0 in all for an observation of the present sweep."""

    def rows(self, index: NDArray[np.int64] | list[int]) -> "Inputs":
        """The configurations at these indices."""
        return Inputs(self.numbers[index], self.categories[index], self.num_sources)

    def __add__(self, other: object) -> "Inputs":
        """The configurations of both, those of `other` last."""
        assert isinstance(other, Inputs)
        return Inputs(
            np.vstack([self.numbers, other.numbers]),
            np.vstack([self.categories, other.categories]),
            self.num_sources,
        )


class GaussianProcess:
    """Posterior of a function given noisy observations."""

    def __init__(self, inputs: Inputs, values: Array, by_value: Sequence[int] = ()):
        """Fit to `values` (n,), finite, observed at n >= 2 configurations. They are standardised inside.

        Args:
            by_value: the columns, numbers before categories, whose single values have effects of their own.
        """
        self.by_value = by_value
        self.offset, spread = float(values.mean()), float(values.std())
        self.scale = spread if spread > 1e-12 * max(1.0, abs(self.offset)) else 1.0
        standard = (values - self.offset) / self.scale
        sample = _to_fit(inputs)
        self.theta = _fitted(inputs.rows(sample), standard[sample], by_value)
        self.inputs = inputs
        self.root = cholesky(_noisy(self._kernel(inputs, inputs), self.theta), lower=True)
        ones = np.ones(len(values))
        weights = cho_solve((self.root, True), ones)
        self.mean = float(weights @ standard / weights.sum())
        self.weights = cho_solve((self.root, True), standard - self.mean)
        rest = float((standard - self.mean) @ self.weights)
        self.variance = (rest + _VARIANCE_PRIOR) / (len(values) + _VARIANCE_PRIOR)
        log_size = float(np.log(np.diag(self.root)).sum() + len(values) * np.log(self.scale))
        self.evidence = -0.5 * (len(values) + _VARIANCE_PRIOR) * float(np.log(self.variance)) - log_size
        """Log density of the values, up to what depends on their number alone."""
        self._given: tuple[Inputs, Array] | None = None
        """The last configurations that ran, and the root of all covariances: a search asks for them often."""

    def predict(self, inputs: Inputs) -> tuple[Array, Array]:
        """Mean and standard deviation (n,) of the function at `inputs`, without the noise of observations."""
        cross = self._kernel(self.inputs, inputs)
        return self._mean(cross), self._deviation(inputs, self.root, cross)

    def predict_given(self, inputs: Inputs, running: Inputs) -> tuple[Array, Array]:
        """`predict`, as if `running` had been observed with their predicted means.

        So the means stay as they are, and the deviations shrink around the running configurations.
        """
        if len(running.numbers) == 0:
            return self.predict(inputs)
        both = self.inputs + running
        if self._given is None or self._given[0] is not running:
            self._given = running, cholesky(_noisy(self._kernel(both, both), self.theta), lower=True)
        cross = self._kernel(both, inputs)
        return self._mean(cross[: len(self.weights)]), self._deviation(inputs, self._given[1], cross)

    def _mean(self, cross: Array) -> Array:
        return np.asarray(self.offset + self.scale * (self.mean + self.weights @ cross))

    def _kernel(self, left: Inputs, right: Inputs) -> Array:
        return _kernel(left, right, self.theta, self.by_value)

    def _deviation(self, inputs: Inputs, root: Array, cross: Array) -> Array:
        explained = (solve_triangular(root, cross, lower=True) ** 2).sum(axis=0)
        prior = 1.0 + _LEVEL * (inputs.num_sources > 0)
        return np.asarray(self.scale * np.sqrt(self.variance * np.maximum(prior - explained, 1e-12)))


def _to_fit(inputs: Inputs) -> NDArray[np.int64]:
    """Indices of the observations that the kernel's parameters are fitted to.

    They are spread evenly over all observations; those of other sources only where there is room left.
    """
    others = inputs.categories[:, inputs.categories.shape[1] - inputs.num_sources :].any(axis=1)
    out = np.empty(0, dtype=np.int64)
    for group in (np.flatnonzero(~others), np.flatnonzero(others)):
        count = min(len(group), _FIT_AT_MOST - len(out))
        even = np.linspace(0, max(0, len(group) - 1), count).round().astype(np.int64)
        out = np.concatenate([out, group[even]])
    return out


def _squares(left: Inputs, right: Inputs) -> Array:
    """Squared differences of the numbers, (p, n, m)."""
    return np.asarray((left.numbers.T[:, :, None] - right.numbers.T[:, None, :]) ** 2)


def _differ(left: Inputs, right: Inputs) -> Array:
    """1 where the categories differ, (q, n, m)."""
    is_different = left.categories.T[:, :, None] != right.categories.T[:, None, :]
    return np.asarray(is_different, dtype=np.float64)


def _levels(left: Inputs, right: Inputs) -> Array:
    """What the sources' own levels add to the kernel: (n, m), or a zero (1, 1) for a single source."""
    if not left.num_sources:
        return np.zeros((1, 1))
    flags = [inputs.categories[:, -inputs.num_sources :] for inputs in (left, right)]
    is_same_source = (flags[0][:, None, :] == flags[1][None, :, :]).all(axis=2)
    return np.asarray(_LEVEL * is_same_source)


def _value_effects(left: Inputs, right: Inputs, columns: Sequence[int]) -> Array:
    """Covariances (n, m) of variance 1: of functions of one of the columns, and of functions of two."""
    p, count = left.numbers.shape[1], len(columns)
    single, pair = np.zeros((2, len(left.numbers), len(right.numbers)))
    for column in columns:
        if column < p:
            root = np.abs(left.numbers[:, column][:, None] - right.numbers[:, column][None, :])
            root *= np.sqrt(5) / _VALUE_LENGTH
            alike = np.exp(-root)
            alike *= 1 + root + root**2 / 3
        else:
            alike = left.categories[:, column - p][:, None] == right.categories[:, column - p][None, :]
        pair += alike * single
        single += alike
    if count == 1:
        return np.asarray(single)
    return np.asarray(0.5 * single / count + 0.5 * pair / (count * (count - 1) / 2))


def _beside(left: Inputs, right: Inputs, by_value: Sequence[int]) -> Array:
    """What sources' own levels and the effects of values add to the kernel: (n, m), or (1, 1) for nothing."""
    levels = _levels(left, right)
    return levels + _VALUE_SHARE * _value_effects(left, right, by_value) if by_value else levels


def _kernel(left: Inputs, right: Inputs, theta: Array, by_value: Sequence[int] = ()) -> Array:
    """Covariances (n, m) in units of the variance.

    Args:
        theta: (p + q + 1,): p log length scales, q log category weights, log noise.
        by_value: columns that have effects of single values.
    """
    p = left.numbers.shape[1]
    inverse = np.exp(-theta[:p])
    a, b = left.numbers * inverse, right.numbers * inverse
    square = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T, 0.0)
    root = np.sqrt(5 * square)
    exponent = root
    for weight, of_left, of_right in zip(np.exp(theta[p:-1]), left.categories.T, right.categories.T):
        exponent = exponent + weight * (of_left[:, None] != of_right[None, :])
    common = _common_share(by_value) * (1 + root + 5 / 3 * square) * np.exp(-exponent)
    return np.asarray(common + _beside(left, right, by_value))


def _common_share(by_value: Sequence[int]) -> float:
    """Part of the variance that the fitted length scales and weights are about."""
    return 1 - _VALUE_SHARE if by_value else 1.0


def _noisy(kernel: Array, theta: Array) -> Array:
    """The covariances of observations, which have noise."""
    return np.asarray(kernel + (np.exp(theta[-1]) + _JITTER) * np.eye(len(kernel)))


def _fitted(inputs: Inputs, standard: Array, by_value: Sequence[int]) -> Array:
    """theta at the maximum of its posterior, searched from two starts.

    Args:
        standard: (n,), the standardised values.
    """
    p, q = inputs.numbers.shape[1], inputs.categories.shape[1]
    dimension = max(1, p + q)
    length_means = np.full(p, np.sqrt(2.0) + 0.5 * np.log(dimension))
    weight_means = np.full(q, -0.5 * np.log(dimension))
    prior_mean = np.concatenate([length_means, weight_means, [_NOISE_MEAN]])
    blocks = [
        _OWN_SD**2 * np.eye(count) + sd**2 - _OWN_SD**2 for count, sd in ((p, _LENGTH_SD), (q, _WEIGHT_SD))
    ]
    precision = np.linalg.inv(block_diag(*(block for block in blocks if block.size), _NOISE_SD**2))
    squares, differ = _squares(inputs, inputs), _differ(inputs, inputs)
    share, beside = _common_share(by_value), _beside(inputs, inputs, by_value)
    bounds = [(-4.0, 6.0)] * p + [(-8.0, 3.0)] * q + [(-14.0, 1.0)]

    def loss(theta: Array) -> tuple[float, Array]:
        return _negative_log_posterior(theta, standard, squares, differ, share, beside, prior_mean, precision)

    short = np.concatenate([np.full(p, np.log(0.5)), np.full(q, -0.5), [_NOISE_MEAN]])
    runs = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
        for start in (prior_mean, short)
    ]
    return np.asarray(min(runs, key=lambda run: run.fun).x)


def _negative_log_posterior(
    theta: Array,
    standard: Array,
    squares: Array,
    differ: Array,
    share: float,
    beside: Array,
    prior_mean: Array,
    precision: Array,
) -> tuple[float, Array]:
    """The loss that `_fitted` minimises, and its gradient (p + q + 1,).

    Mean and variance of the process are at their best for theta.

    Args:
        share: the part of the variance that theta is about.
        beside: (n, n) or (1, 1), covariances that do not depend on theta.
    """
    p, n = len(squares), len(standard)
    inverse_square = np.exp(-2 * theta[:p])
    square = (inverse_square @ squares.reshape(p, n * n)).reshape(n, n) if p else np.zeros((n, n))
    root = np.sqrt(5 * square)
    category_weights = np.exp(theta[p:-1])
    decay = share * np.exp(-root - (category_weights @ differ.reshape(len(differ), n * n)).reshape(n, n))
    kernel = (1 + root + 5 / 3 * square) * decay
    factor = cholesky(_noisy(kernel + beside, theta), lower=True)
    inverse = cho_solve((factor, True), np.eye(n))
    sums = inverse.sum(axis=1)
    residual = standard - sums @ standard / sums.sum()
    alpha = inverse @ residual
    variance = (residual @ alpha + _VARIANCE_PRIOR) / (n + _VARIANCE_PRIOR)
    away = theta - prior_mean
    pull = precision @ away
    loss = 0.5 * (n + _VARIANCE_PRIOR) * np.log(variance) + np.log(np.diag(factor)).sum() + 0.5 * away @ pull
    inner = 0.5 * (inverse - np.outer(alpha, alpha) / variance)
    gradient = pull.copy()
    by_square = (inner * 5 / 3 * (1 + root) * decay).ravel()
    gradient[:p] += inverse_square * (squares.reshape(p, n * n) @ by_square)
    gradient[p:-1] -= category_weights * (differ.reshape(len(differ), n * n) @ (inner * kernel).ravel())
    gradient[-1] += np.exp(theta[-1]) * np.trace(inner)
    return float(loss), gradient
