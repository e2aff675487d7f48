"""Configurations of a search space as rows of numbers: drawn, mutated and turned into features many at a time.

A row has one column a parameter, in the space's order: the index of an Int or a Choice, the quantile of a Float; NaN where the parameter is
inactive. A Choice whose options are all numbers counts as ordered.
"""

import itertools
import math

import numpy as np

from raydistill.config.space import Choice, Float, Int, SearchSpace, depth
from raydistill.search.problem import Configuration, at_quantile
from raydistill.search.surrogate import Array, Inputs

_LOG_FROM = 4
_STEPS = (0.01, 0.05, 0.2)
"""Standard deviations of a mutation of a Float's quantile."""


class Encoding:
    def __init__(self, space: SearchSpace):
        self.space = space
        self.paths = list(space.parameters)
        self.keys = {path: _ordered_keys(d) for path, d in space.parameters.items() if isinstance(d, Choice)}
        self.counts = np.array([_count(space, path) for path in self.paths])
        """Values of each parameter; 0: a Float."""
        self.is_ordered = np.array(
            [path not in self.keys or _are_numbers(space.parameters[path]) for path in self.paths]
        )
        self.top = np.maximum(1, self.counts - 1)
        self.log_span = np.array(
            [_log_span(d) if isinstance(d, Int) else 0.0 for d in space.parameters.values()]
        )
        self.conditional = [
            path for path in sorted(self.paths, key=lambda path: depth(space, path)) if path in space.when
        ]

    def encode(self, configurations: list[Configuration]) -> Array:
        rows = np.full((len(configurations), len(self.paths)), np.nan)
        for row, configuration in zip(rows, configurations):
            for column, path in enumerate(self.paths):
                if path in configuration:
                    row[column] = self._number(path, configuration[path])
        return rows

    def decode(self, row: Array) -> Configuration:
        configuration: Configuration = {}
        for path, number in zip(self.paths, row.tolist()):
            if number == number:  # active
                distribution = self.space.parameters[path]
                if isinstance(distribution, Choice):
                    configuration[path] = self.keys[path][int(number)]
                elif isinstance(distribution, Int):
                    configuration[path] = distribution.low + distribution.step * int(number)
                else:
                    configuration[path] = at_quantile(distribution, number)
        return configuration

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Random rows: a third each from the lower, the upper and the whole ranges, so that all of the cost axis is met."""
        reach, third = rng.random((count, 1)), np.arange(count)[:, None] % 3
        low, high = np.where(third == 1, 1 - reach, 0.0), np.where(third == 0, reach, 1.0)
        quantiles = np.where(
            self.is_ordered,
            low + (high - low) * rng.random((count, len(self.paths))),
            rng.random((count, len(self.paths))),
        )
        return self._masked(self._from_quantiles(quantiles))

    def mutate(self, parents: Array, rng: np.random.Generator, count: int) -> Array:
        """Copies of random parents with one parameter or few changed, to a neighbour or to any value."""
        rows = parents[rng.integers(len(parents), size=count)]
        width = len(self.paths)
        fresh = self._from_quantiles(rng.random((count, width)))
        rows = np.where(np.isnan(rows), fresh, rows)
        changed = rng.random((count, width)) < 1 / width
        changed[np.arange(count), rng.integers(width, size=count)] = True
        steps = np.where(
            self.counts > 0,
            rng.choice([-1.0, 1.0], size=(count, width)),
            rng.normal(size=(count, width)) * rng.choice(_STEPS, size=(count, 1)),
        )
        near = np.clip(rows + steps, 0.0, np.where(self.counts > 0, self.counts - 1, 1.0))
        is_near = self.is_ordered & (rng.random((count, width)) < 0.7)
        return self._masked(np.where(changed, np.where(is_near, near, fresh), rows))

    def grid(self, at_most: int) -> Array | None:
        """Every configuration; None where there are more than `at_most`, or a Float."""
        if (self.counts == 0).any() or math.prod(self.counts.tolist()) > at_most:
            return None
        rows = np.array(list(itertools.product(*(range(count) for count in self.counts))), dtype=np.float64)
        return distinct(self._masked(rows.reshape(-1, len(self.paths))))

    def features(self, rows: Array) -> Inputs:
        """Ordered parameters scaled to [0, 1], an inactive one in the middle; the rest, and what is active, as categories.

        Integers that span a factor of 4 or more are widths and the like: what counts is by how much they are multiplied.
        """
        inactive = np.isnan(rows)
        numbers = np.where(
            self.log_span > 0,
            np.log1p(rows * np.expm1(self.log_span) / self.top)
            / np.where(self.log_span > 0, self.log_span, 1.0),
            rows / self.top,
        )
        numbers = np.where(inactive, 0.5, numbers)[:, self.is_ordered]
        categories = np.where(inactive, -1, rows)[:, ~self.is_ordered].astype(np.int64)
        flags = [
            self.paths.index(path) for path in self.conditional if self.is_ordered[self.paths.index(path)]
        ]
        return Inputs(numbers, np.hstack([categories, inactive[:, flags].astype(np.int64)]))

    def _from_quantiles(self, quantiles: Array) -> Array:
        return np.where(self.counts > 0, np.floor(quantiles * self.counts), quantiles)

    def _masked(self, rows: Array) -> Array:
        """NaN where a parameter's condition does not hold; controllers first."""
        for path in self.conditional:
            condition = self.space.when[path]
            allowed = [self.keys[condition.parameter].index(key) for key in condition.keys]
            rows[
                ~np.isin(rows[:, self.paths.index(condition.parameter)], allowed), self.paths.index(path)
            ] = np.nan
        return rows

    def _number(self, path: str, value: object) -> float:
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
    """The rows without repeats and without those of `known`, in their order."""
    seen = set() if known is None else {row.tobytes() for row in known}
    kept: list[int] = []
    for index, row in enumerate(rows):
        if (mark := row.tobytes()) not in seen:
            seen.add(mark)
            kept.append(index)
    return rows[np.array(kept, dtype=np.int64)]


def _are_numbers(distribution: object) -> bool:
    return isinstance(distribution, Choice) and all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in distribution.options.values()
    )


def _ordered_keys(distribution: Choice) -> list[str]:
    """By value where all are numbers."""
    return (
        sorted(distribution.options, key=distribution.options.__getitem__)
        if _are_numbers(distribution)
        else list(distribution.options)
    )


def _log_span(distribution: Int) -> float:
    """log(high / low); 0 where the scale is linear."""
    return (
        math.log(distribution.high / distribution.low)
        if 0 < _LOG_FROM * distribution.low <= distribution.high
        else 0.0
    )


def _count(space: SearchSpace, path: str) -> int:
    distribution = space.parameters[path]
    if isinstance(distribution, Choice):
        return len(distribution.options)
    return (
        0
        if isinstance(distribution, Float)
        else (distribution.high - distribution.low) // distribution.step + 1
    )
