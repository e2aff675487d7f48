"""Which student to train again with another seed. No framework, no state.

One training is one draw, and a Pareto front (here: front) of single trainings looks better than it is. So
after the search the student whose place on the front is least certain is trained again: the one with the
largest p (1 - p) / n. Here p is the probability that it belongs to the front of the true means, and n is the
number of its trainings, with those that run. p (1 - p) is the variance of its membership; it is shared among
the seeds, so that two students that cannot be distinguished do not take all of them. While too little is
known about the noise, the members of the front are trained again in turn, those with the fewest trainings
first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from raydistill.records import pareto
from raydistill.records.pareto import Direction

_FEWEST_FREEDOM = 3
"""Number of trainings beyond the first of each student, in all, from which on their spread is trusted."""


class Seeds(NamedTuple):
    """The trainings of one configuration."""

    values: Sequence[Sequence[float]]
    """The objectives of each training that ended, in the order of the space; the first is the trial's own."""
    running: int = 0
    """Number of trainings that run."""


def next_to_repeat(
    measured: Sequence[Seeds], directions: Sequence[Direction], stability: float | None = None
) -> int | None:
    """Index of the student to train again; None: none.

    Args:
        measured: the trainings of each student that ended.
        directions: of the objectives.
        stability: stop when the front is at least as stable as this (see `pareto.stability`); None: when the
            place of every student is certain.
    """
    if not measured:
        return None
    samples = [np.asarray(seeds.values, dtype=np.float64) for seeds in measured]
    counts = np.array([len(seeds.values) + seeds.running for seeds in measured])
    means = np.array([sample.mean(axis=0) for sample in samples])
    if sum(len(sample) - 1 for sample in samples) < _FEWEST_FREEDOM:
        members = np.flatnonzero(pareto.members(means, directions))
        return int(min(members, key=lambda index: (counts[index], index)))
    probability = pareto.membership(means, pareto.standard_errors(samples), directions)
    if stability is not None and pareto.stability(means, probability, directions) >= stability:
        return None
    uncertainty = probability * (1 - probability) / counts
    return int(np.argmax(uncertainty)) if uncertainty.any() else None
