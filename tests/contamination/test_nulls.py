"""p-values against the reference implementation's arithmetic, scipy, exhaustive enumeration, and their own promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from medbench.contamination import measures, nulls

# Log-likelihoods of 5 shards in the published order and in 4 random ones.
PUBLISHED = [-812.4, -790.1, -845.9, -801.0, -770.3]
SHUFFLED = [
    [-815.0, -813.9, -816.2, -814.4],
    [-789.9, -791.5, -792.0, -790.8],
    [-846.1, -845.2, -847.7, -846.0],
    [-803.3, -802.2, -801.9, -803.1],
    [-771.0, -770.1, -772.5, -770.9],
]


def test_the_t_test_is_that_of_the_reference_implementation() -> None:
    # Restated from the formulas of tatsu-lab/test_set_contamination: population deviation over shards, t with n - 1.
    # scipy's own one-sample t-test uses n - 1 in the deviation too; the two differ by exactly sqrt(n / (n - 1)).
    differences = np.array(PUBLISHED) - np.array(SHUFFLED).mean(axis=1)
    sample = scipy_stats.ttest_1samp(differences, 0, alternative="greater")
    expected = 1 - scipy_stats.t.cdf(sample.statistic * np.sqrt(5 / 4), df=4)
    assert nulls.reference_p(PUBLISHED, SHUFFLED) == pytest.approx(expected, rel=1e-9)
    # worked by hand: mean 1.245, population deviation 0.7378, z 3.773
    assert nulls.reference_p(PUBLISHED, SHUFFLED) == pytest.approx(0.0098, abs=1e-4)
    assert np.isnan(nulls.reference_p([-1.0], [[-2.0, -3.0]]))
    assert np.isnan(nulls.reference_p([-1.0, -1.0], [[-2.0], [-2.0]]))


def test_the_exact_test_equals_enumeration() -> None:
    rows = [np.array([PUBLISHED[i], *SHUFFLED[i]]) for i in range(4)]
    standard = [(row - row.mean()) / row.std() for row in rows]
    observed = sum(row[0] for row in standard)
    sums = [sum(values) for values in itertools.product(*standard)]
    exact = np.mean([total >= observed - 1e-9 for total in sums])
    assert nulls.published_p(rows, np.random.default_rng(1), draws=40_000) == pytest.approx(exact, abs=0.01)


def test_p_values_of_exchangeable_rows_hold_their_level() -> None:
    rng = np.random.default_rng(0)
    found = [nulls.published_p([rng.standard_t(2, size=6) for _ in range(12)], rng, draws=199) for _ in range(1500)]
    for level in (0.01, 0.05, 0.2):
        rate = np.mean(np.array(found) <= level)
        assert rate <= level + 3 * np.sqrt(level / 1500)
    assert np.mean(np.array(found) <= 0.2) > 0.15  # and are not merely large


def test_ragged_and_constant_rows() -> None:
    rng = np.random.default_rng(0)
    assert nulls.published_p([np.array([1.0, 1.0, 1.0])], rng) == 1.0
    assert np.isnan(nulls.published_p([np.array([1.0])], rng))
    rows = [np.array([3.0, 1.0]), np.array([9.0, 1.0, 2.0, 3.0]), np.array([5.0, 5.0])]
    assert nulls.published_p(rows, rng) == pytest.approx(1 / 8, abs=0.02)  # first of 2, of 4, and a row of no account


def test_two_samples() -> None:
    scores, controls = [5.0, 6.0, 7.0], [1.0, 2.0, 3.0, 4.0]
    assert nulls.sample_p(scores, controls, np.random.default_rng(0)) == pytest.approx(1 / 35, abs=0.005)
    assert nulls.sample_p(controls, scores, np.random.default_rng(0)) == 1.0
    assert np.isnan(nulls.sample_p([], controls, np.random.default_rng(0)))
    assert nulls.rank_p(np.array([2.0, 1.0, 3.0, 2.0])) == 0.75


def test_min_k_plus_plus_is_the_authors() -> None:
    # As mink-plus-plus/run.py computes it: the int(n * share) lowest z, then their mean.
    logprobs, mean = np.array([-1.0, -6.0, -0.5, -3.0, -2.0]), np.array([-2.0, -2.0, -1.0, -2.5, -2.0])
    deviation = np.array([1.0, 2.0, 0.5, 1.0, 0.0])
    assert measures.min_k_plus_plus(logprobs, mean, deviation, 0.4) == pytest.approx((-2.0 - 0.5) / 2)
    assert measures.min_k_plus_plus(logprobs, mean, deviation, 0.1) == pytest.approx(-2.0)  # one token at least
    assert measures.min_k(logprobs, 0.4) == pytest.approx(-4.5)


def test_codec_and_verbatim_runs() -> None:
    alone, after = np.array([-9.0, -2.0, -2.0, -2.0]), np.array([-1.0, -3.0, -3.0, -3.0])
    assert measures.codec_change(alone, after) == pytest.approx(-1.0)  # a quarter of the tokens is left out
    assert measures.codec_change(np.full(100, -2.0), np.r_[np.zeros(10), np.full(90, -2.5)]) == pytest.approx(-0.5)
    assert measures.verbatim_run(np.array([0, 0, 0, 1, 1, 0, 1], dtype=bool)) == (2, 0.5)
    assert measures.verbatim_run(np.array([0, 0, 1, 1], dtype=bool)) == (2, 1.0)
