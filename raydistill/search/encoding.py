"""Configurations of a search space as rows of numbers, which are drawn and mutated many at a time.

A row has one column per parameter, in the space's order: the index of the value of an Int or a Choice, the
quantile of a Float, NaN where the parameter is inactive. A Choice whose options are all numbers counts as
ordered.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from raydistill.config.configurations import Configuration, ParameterValue, depth
from raydistill.config.space import Choice, Distribution, Float, Int, SearchSpace
from raydistill.search.candidates import at_quantile
from raydistill.search.surrogate import Array, Inputs

_LOG_FROM = 4
"""Integers that span at least this factor have a logarithmic scale."""
_STEPS = (0.01, 0.05, 0.2)
"""Standard deviations of a mutation of a Float's quantile."""


class Encoding:
    """Turns the configurations of one space into rows, and rows into configurations or features."""

    def __init__(self, space: SearchSpace):
        self.space = space
        distributions = space.parameters
        self.paths = list(distributions)
        self.keys = {path: _ordered_keys(d) for path, d in distributions.items() if isinstance(d, Choice)}
        """The keys of each Choice in the order of their indices."""
        self.counts = np.array([_count(d) for d in distributions.values()])
        """Number of values of each parameter; 0: a Float."""
        self.is_ordered = np.array(
            [path not in self.keys or _are_numbers(d) for path, d in distributions.items()]
        )
        self.top = np.maximum(1, self.counts - 1)
        """Highest index of each parameter, at least 1."""
        self.log_span = np.array(
            [_log_span(d) if isinstance(d, Int) else 0.0 for d in distributions.values()]
        )
        self.conditional = sorted(
            (path for path in self.paths if path in space.when), key=lambda path: depth(space, path)
        )
        """Parameters with a condition; those that others depend on first."""

    def encode(self, configurations: list[Configuration]) -> Array:
        """Configurations -> rows (n, parameters)."""
        rows = np.full((len(configurations), len(self.paths)), np.nan)
        for row, configuration in zip(rows, configurations):
            for column, path in enumerate(self.paths):
                if path in configuration:
                    row[column] = self._number(path, configuration[path])
        return rows

    def decode(self, row: Array) -> Configuration:
        """One row (parameters,) -> its configuration."""
        return self.decode_all(row[None])[0]

    def decode_all(self, rows: Array) -> list[Configuration]:
        """Rows (n, parameters) -> their configurations."""
        configurations: list[Configuration] = [{} for _ in rows]
        for path, column in zip(self.paths, rows.T.tolist()):
            distribution = self.space.parameters[path]
            for configuration, number in zip(configurations, column):
                if number != number:  # inactive
                    continue
                if isinstance(distribution, Choice):
                    configuration[path] = self.keys[path][int(number)]
                elif isinstance(distribution, Int):
                    configuration[path] = distribution.low + distribution.step * int(number)
                else:
                    configuration[path] = at_quantile(distribution, number)
        return configurations

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """`count` random rows: a third each from the lower, the upper and the whole ranges.

        So they are spread over all of the cost axis.
        """
        reach, third = rng.random((count, 1)), np.arange(count)[:, None] % 3
        low, high = np.where(third == 1, 1 - reach, 0.0), np.where(third == 0, reach, 1.0)
        within = low + (high - low) * rng.random((count, len(self.paths)))
        anywhere = rng.random((count, len(self.paths)))
        quantiles = np.where(self.is_ordered, within, anywhere)
        return self._masked(self._from_quantiles(quantiles))

    def mutate(self, parents: Array, rng: np.random.Generator, count: int) -> Array:
        """`count` copies of random parents with one parameter or a few changed, to a near or to any value."""
        rows = parents[rng.integers(len(parents), size=count)]
        width = len(self.paths)
        fresh = self._from_quantiles(rng.random((count, width)))
        rows = np.where(np.isnan(rows), fresh, rows)
        changed = rng.random((count, width)) < 1 / width
        changed[np.arange(count), rng.integers(width, size=count)] = True
        up_or_down = rng.choice([-1.0, 1.0], size=(count, width))
        normal = rng.normal(size=(count, width)) * rng.choice(_STEPS, size=(count, 1))
        steps = np.where(self.counts > 0, up_or_down, normal)
        near = np.clip(rows + steps, 0.0, np.where(self.counts > 0, self.counts - 1, 1.0))
        is_near = self.is_ordered & (rng.random((count, width)) < 0.7)
        return self._masked(np.where(changed, np.where(is_near, near, fresh), rows))

    def grid(self, at_most: int) -> Array | None:
        """Rows of every configuration; None where they are more than `at_most`, or where there is a Float."""
        if (self.counts == 0).any() or math.prod(self.counts.tolist()) > at_most:
            return None
        rows = np.array(list(itertools.product(*(range(count) for count in self.counts))), dtype=np.float64)
        return distinct(self._masked(rows.reshape(-1, len(self.paths))))

    def features(self, rows: Array) -> Inputs:
        """Rows as inputs of a Gaussian process.

        The ordered parameters are numbers scaled to [0, 1], 0.5 where inactive. The others are categories,
        and so is whether each conditional parameter is active. Integers that span a factor of 4 or more, such
        as widths, have a logarithmic scale: what counts is the factor between two of them.
        """
        inactive = np.isnan(rows)
        span = np.where(self.log_span > 0, self.log_span, 1.0)
        logarithmic = np.log1p(rows * np.expm1(self.log_span) / self.top) / span
        numbers = np.where(self.log_span > 0, logarithmic, rows / self.top)
        numbers = np.where(inactive, 0.5, numbers)[:, self.is_ordered]
        categories = np.where(inactive, -1, rows)[:, ~self.is_ordered].astype(np.int64)
        columns = [self.paths.index(path) for path in self.conditional]
        flags = [column for column in columns if self.is_ordered[column]]
        return Inputs(numbers, np.hstack([categories, inactive[:, flags].astype(np.int64)]))

    def columns(self, paths: Sequence[str]) -> list[int]:
        """The columns of `features`, numbers before categories, that are these parameters."""
        ordered = np.array(self.paths)[np.argsort(~self.is_ordered, kind="stable")]
        return [index for index, path in enumerate(ordered) if path in paths]

    def _from_quantiles(self, quantiles: Array) -> Array:
        return np.where(self.counts > 0, np.floor(quantiles * self.counts), quantiles)

    def _masked(self, rows: Array) -> Array:
        """`rows`, changed in place: NaN where a parameter's condition does not hold."""
        for path in self.conditional:
            condition = self.space.when[path]
            allowed = [self.keys[condition.parameter].index(key) for key in condition.keys]
            is_active = np.isin(rows[:, self.paths.index(condition.parameter)], allowed)
            rows[~is_active, self.paths.index(path)] = np.nan
        return rows

    def _number(self, path: str, value: ParameterValue) -> float:
        """A parameter's value as it stands in a row."""
        distribution = self.space.parameters[path]
        if isinstance(distribution, Choice):
            return float(self.keys[path].index(str(value)))
        assert isinstance(value, int | float)
        if isinstance(distribution, Int):
            return (value - distribution.low) / distribution.step
        if distribution.high == distribution.low:
            return 0.0
        if distribution.log:
            return math.log(value / distribution.low) / math.log(distribution.high / distribution.low)
        return (value - distribution.low) / (distribution.high - distribution.low)


def distinct(rows: Array, known: Array | None = None) -> Array:
    """The rows without repeats and without those of `known`, in their order. `known` None: no others."""
    seen = set() if known is None else {row.tobytes() for row in known}
    indices: list[int] = []
    for index, row in enumerate(rows):
        if (content := row.tobytes()) not in seen:
            seen.add(content)
            indices.append(index)
    return rows[np.array(indices, dtype=np.int64)]


def _are_numbers(distribution: Distribution) -> bool:
    """Whether all options of a Choice are numbers. A truth value is none."""
    if not isinstance(distribution, Choice):
        return False
    options = distribution.options.values()
    return all(isinstance(option, int | float) and not isinstance(option, bool) for option in options)


def _ordered_keys(distribution: Choice) -> list[str]:
    """The keys by option where all are numbers, else in the order of the space."""
    options = distribution.options
    return sorted(options, key=options.__getitem__) if _are_numbers(distribution) else list(options)


def _log_span(distribution: Int) -> float:
    """log(high / low); 0 where the scale is linear."""
    low, high = distribution.low, distribution.high
    return math.log(high / low) if 0 < _LOG_FROM * low <= high else 0.0


def _count(distribution: Distribution) -> int:
    """Number of values of a parameter; 0: a Float."""
    if isinstance(distribution, Choice):
        return len(distribution.options)
    if isinstance(distribution, Float):
        return 0
    return (distribution.high - distribution.low) // distribution.step + 1
