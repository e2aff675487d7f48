"""Which student to train again with another seed: the one whose place on the front is least certain. No framework, no state.

One training is one draw, and the front of single trainings flatters itself. So after the search a student is chosen by p (1 - p) / n,
where p is the probability that it belongs to the front of the true means and n counts its trainings, running ones too: the variance of its
membership, shared among its seeds, so that two students that cannot be told apart do not take all of them. While too little is known about
the noise, members of the front are chosen in turn, fewest trainings first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from raydistill.records import pareto
from raydistill.records.pareto import Direction

_FEWEST_FREEDOM = 3
"""Trainings beyond the first of each student, before their spread is believed."""


class Seeds(NamedTuple):
    """The trainings of one configuration."""

    values: Sequence[Sequence[float]]
    """The objectives of each that ended, in the order of the space; the first is the trial's own."""
    running: int = 0


def next_to_repeat(
    measured: Sequence[Seeds], directions: Sequence[Direction], stability: float | None = None
) -> int | None:
    """Index of the student to train again; None: every place is certain, or the front is as stable as `stability` asks for."""
    if not measured:
        return None
    samples = [np.asarray(seeds.values, dtype=np.float64) for seeds in measured]
    counts = np.array([len(seeds.values) + seeds.running for seeds in measured])
    means = np.array([sample.mean(axis=0) for sample in samples])
    if sum(len(sample) - 1 for sample in samples) < _FEWEST_FREEDOM:
        return int(
            min(np.flatnonzero(pareto.members(means, directions)), key=lambda index: (counts[index], index))
        )
    probability = pareto.membership(means, pareto.standard_errors(samples), directions)
    if stability is not None and pareto.stability(means, probability, directions) >= stability:
        return None
    uncertainty = probability * (1 - probability) / counts
    return int(np.argmax(uncertainty)) if uncertainty.any() else None
