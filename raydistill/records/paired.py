"""Means over seeds and paired differences: intervals, an exact test, and what they allow to be said.

Intervals are Student's at 95 %. The test is the exact sign-flip permutation test of paired differences: its
p-value is the share of all 2^n choices of signs whose mean is at least as far from 0. None is corrected for
how many there are.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95
FEWEST_PAIRS = 6
"""With fewer pairs not even differences of one sign have p of 1 - CONFIDENCE or less: 2 / 2^5 > 0.05."""
Verdict = Literal["better", "worse", "not told apart"]
NOT_TOLD_APART: Verdict = "not told apart"
_MOST_PAIRS, _DRAWS = 20, 2**16
"""Of more pairs so many choices of signs are drawn, from a fixed seed."""
_POWER = 0.8
"""Probability of telling a difference apart that `pairs_needed` aims at."""


class Interval(NamedTuple):
    """The mean over seeds, and where it lies; `low` and `high` are NaN below two seeds."""

    mean: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """What paired differences say."""

    pairs: int
    gain: Interval
    """Mean of the differences; all NaN without a pair."""
    p: float
    """Of the sign-flip test, two-sided; NaN without a pair."""
    verdict: Verdict
    pairs_needed: int | None
    """Pairs that would do to tell them apart, where they are not; None: they are, or no number is known."""


def interval(values: NDArray[np.float64]) -> Interval:
    """Student's interval of the mean of `values`, (n,) with n of at least 1."""
    mean, number = float(values.mean()), len(values)
    if number < 2:
        return Interval(mean, np.nan, np.nan)
    reach = float(stdtrit(number - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / number**0.5)
    return Interval(mean, mean - reach, mean + reach)


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of paired differences (n,) under the hypothesis that each sign is a coin's.

    It is exact for up to 20 pairs; of more, 65,536 choices of signs are drawn. n = 0 gives NaN.
    """
    number = len(differences)
    if number == 0:
        return math.nan
    if number > _MOST_PAIRS:
        signs = np.random.default_rng(0).integers(0, 2, (_DRAWS, number)) * 2 - 1
        sums = np.concatenate([signs @ differences, [differences.sum()]])
    else:
        sums = np.zeros(1)
        for each in differences:
            sums = np.concatenate([sums + each, sums - each])
    limit = abs(differences.sum()) * (1 - 1e-12)
    return float((np.abs(sums) >= limit).mean())


def paired(differences: NDArray[np.float64], direction: str) -> PairedDifference:
    """What the differences (n,) of one side to another say, pair by pair.

    Args:
        direction: "max" where a positive difference is better, else "min".
    """
    number = len(differences)
    if number == 0:
        empty = Interval(math.nan, math.nan, math.nan)
        return PairedDifference(0, empty, math.nan, NOT_TOLD_APART, FEWEST_PAIRS)
    gain, p = interval(differences), sign_flip_p(differences)
    if number >= FEWEST_PAIRS and p <= 1 - CONFIDENCE:
        verdict: Verdict = "better" if (gain.mean > 0) == (direction == "max") else "worse"
        return PairedDifference(number, gain, p, verdict, None)
    return PairedDifference(number, gain, p, NOT_TOLD_APART, pairs_needed(differences))


def pairs_needed(differences: NDArray[np.float64]) -> int | None:
    """Pairs that tell a difference of this mean and spread apart with a probability of about 80 %.

    At least `FEWEST_PAIRS`, and that where two pairs or fewer say nothing about the spread. None: the mean
    is 0, so no number would do.
    """
    number = len(differences)
    if number < 2:
        return FEWEST_PAIRS
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if mean == 0:
        return None
    wanted = float(((ndtri((1 + CONFIDENCE) / 2) + ndtri(_POWER)) * spread / mean) ** 2)
    return max(FEWEST_PAIRS, math.ceil(min(wanted, 1e9)) + 1)


def needed_in_words(difference: PairedDifference) -> str:
    """How many pairs of seeds would do, as a sentence's end; "" where they are told apart."""
    if difference.verdict != NOT_TOLD_APART:
        return ""
    number, needed = difference.pairs, difference.pairs_needed
    have = f"{number} {'pair' if number == 1 else 'pairs'} of seeds"
    if needed is None:
        return f"{have}; the mean difference is 0"
    if number < FEWEST_PAIRS and needed == FEWEST_PAIRS:
        return f"{have}; {FEWEST_PAIRS} would do at the earliest"
    return f"{have}; about {needed:,} would do for a difference of this size"
