"""What paired differences over seeds allow to be said."""

import itertools

import numpy as np
import pytest
from scipy import stats

from raydistill.records.paired import FEWEST_PAIRS, NOT_TOLD_APART, needed_in_words, paired, sign_flip_p


def test_the_p_value_is_that_of_scipy_over_all_signs() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1.0, 9)
    scipy = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(differences) == pytest.approx(scipy.pvalue)


@pytest.mark.parametrize("number", range(1, 9))
def test_six_pairs_of_one_sign_are_the_fewest_that_are_told_apart(number: int) -> None:
    said = paired(np.linspace(1.0, 2.0, number), "max")
    assert said.p == pytest.approx(2 / 2**number)
    assert said.verdict == ("better" if number >= FEWEST_PAIRS else NOT_TOLD_APART)
    assert paired(-np.linspace(1.0, 2.0, 6), "max").verdict == "worse"
    assert paired(-np.linspace(1.0, 2.0, 6), "min").verdict == "better"


def test_no_difference_is_told_apart_in_about_one_of_twenty_cases() -> None:
    """Under the hypothesis, of all sign choices of eight differences at most 5 % are told apart."""
    sizes = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5])
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))
    told = [paired(each * sizes, "max").verdict != NOT_TOLD_APART for each in signs]
    assert 0.03 < np.mean(told) <= 0.05


def test_it_says_how_many_pairs_would_do() -> None:
    assert "0 pairs of seeds; 6 would do at the earliest" in needed_in_words(paired(np.array([]), "max"))
    assert "1 pair of seeds; 6 would" in needed_in_words(paired(np.array([0.3]), "max"))
    noisy = np.array([1.0, -1.2, 0.9, -0.8, 1.1, -0.7, 0.4])
    number = paired(noisy, "max").pairs_needed
    effect = noisy.mean() / noisy.std(ddof=1)
    assert number is not None and number > 7
    power = stats.norm.cdf(abs(effect) * number**0.5 - stats.norm.ppf(0.975))
    assert 0.79 < power < 0.82
    assert paired(np.array([1.0, -1.0]), "max").pairs_needed is None
    assert needed_in_words(paired(np.ones(6), "max")) == ""
