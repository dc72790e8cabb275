"""Clustered means and paired differences against statsmodels and a published example."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats as sps

from medbench import stats
from medbench.errors import MedbenchError


def clustered_data(seed: int, groups: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), rng.integers(1, 9, size=groups))
    return rng.normal(size=groups)[labels] + rng.normal(size=len(labels)), labels


def test_without_clusters_it_is_the_t_interval() -> None:
    x = np.random.default_rng(0).normal(3, 2, size=57)
    theirs = sps.ttest_1samp(x, 0).confidence_interval()
    assert stats.clustered_mean(x)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-10)


def test_clustered_error_equals_statsmodels() -> None:
    """statsmodels' correction is G/(G-1) (n-1)/(n-k), and n-k = n-1 for an intercept alone."""
    x, labels = clustered_data(1)
    fit = sm.OLS(x, np.ones_like(x)).fit(
        cov_type="cluster", cov_kwds={"groups": labels, "df_correction": True}, use_t=True
    )
    assert stats.clustered_mean(x, labels)[1:] == pytest.approx(fit.conf_int()[0], abs=1e-10)


def test_paired_difference_equals_statsmodels_and_scipy() -> None:
    first, labels = clustered_data(2)
    second = first + np.random.default_rng(5).normal(0.2, 1, size=len(first))
    got = stats.paired_difference(first, second, labels)
    fit = sm.OLS(second - first, np.ones_like(first)).fit(cov_type="cluster", cov_kwds={"groups": labels}, use_t=True)
    assert got == pytest.approx((fit.params[0], *fit.conf_int()[0], fit.pvalues[0]), abs=1e-10)
    assert stats.paired_difference(first, second).p == pytest.approx(sps.ttest_rel(first, second).pvalue, abs=1e-10)


def test_paired_proportions_follow_bonett_and_price() -> None:
    """Worked by hand from Bonett and Price (2012), equation 2: 5 and 15 flips of 100 items."""
    first = np.array([1] * 5 + [0] * 15 + [1] * 60 + [0] * 20)
    second = np.array([0] * 5 + [1] * 15 + [1] * 60 + [0] * 20)
    got = stats.paired_difference(first, second)
    centre, se = 10 / 102, ((22 / 102 - (10 / 102) ** 2) / 102) ** 0.5
    assert got.difference == pytest.approx(0.10)
    assert (got.low, got.high) == pytest.approx((centre - 1.959964 * se, centre + 1.959964 * se), abs=1e-6)
    assert got.p == pytest.approx(sps.binomtest(5, 20).pvalue, abs=1e-10)


def test_no_flips_still_leave_a_width() -> None:
    same = np.tile([1, 0], 10)
    got = stats.paired_difference(same, same)
    assert got.difference == 0
    assert got.low < -0.05
    assert got.high > 0.05
    assert got.p == 1
    clustered = stats.paired_difference(same, same, np.repeat(np.arange(5), 4))
    assert clustered.low < got.low


def test_clusters_of_copies_count_once() -> None:
    """Every item tenfold carries no more than the item once: the design effect is 10."""
    base = np.random.default_rng(8).integers(2, size=120)
    once = stats.clustered_proportion(base, np.arange(120))
    tenfold = stats.clustered_proportion(np.repeat(base, 10), np.repeat(np.arange(120), 10))
    assert once[1:] == pytest.approx(stats.wilson(base.sum(), 120)[1:], abs=2e-3)
    assert tenfold[1:] == pytest.approx(once[1:], abs=3e-3)


def test_all_right_in_clusters_counts_clusters() -> None:
    got = stats.clustered_proportion(np.ones(60), np.repeat(np.arange(6), 10))
    assert got.high == 1
    assert got.low < stats.wilson(6, 6).low + 1e-9


def test_what_cannot_be_determined_is_nan() -> None:
    assert np.isnan(stats.clustered_mean([1.0, 2.0], ["a", "a"]).low)
    assert np.isnan(stats.clustered_mean([])).all()
    assert np.isnan(stats.paired_difference([], [])).all()
    constant = stats.paired_difference([1.5, 2.5], [2.5, 3.5])
    assert constant.difference == 1
    assert np.isnan(constant.low)


def test_missing_values_and_lengths_are_refused() -> None:
    with pytest.raises(MedbenchError, match="1 of 2 values are missing"):
        stats.clustered_mean([1.0, float("nan")])
    with pytest.raises(MedbenchError, match="same items"):
        stats.paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(MedbenchError, match="one cluster label per item"):
        stats.clustered_mean([1.0, 2.0], ["a"])


def test_exact_interval_in_clusters() -> None:
    """Without clusters Clopper-Pearson; in clusters that agree completely each counts once."""
    x = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert stats.clustered_exact(x) == stats.clopper_pearson(2, 10)
    none = stats.clustered_exact(np.zeros(40), np.repeat(np.arange(10), 4))
    t = sps.t.ppf(0.975, 9)
    effective = 10 * (sps.norm.ppf(0.975) / t) ** 2
    assert none.high == pytest.approx(1 - 0.025 ** (1 / effective))
    assert none.high > stats.clopper_pearson(0, 40).high


def test_unpaired_difference_in_clusters_equals_a_clustered_regression() -> None:
    """statsmodels' cluster-robust OLS on the side, its G/(G-1) correction alone."""
    rng = np.random.default_rng(3)
    side = rng.integers(2, size=90)
    clusters = rng.integers(25, size=90)
    y = rng.normal(size=90) + 0.5 * side + rng.normal(size=25)[clusters]
    ours = stats.unpaired_mean_difference(
        y[side == 0], y[side == 1], clusters=(clusters[side == 0], clusters[side == 1])
    )
    fit = sm.OLS(y, sm.add_constant(side)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False, "df_correction": False}
    )
    groups = len(np.unique(clusters))
    se = fit.bse[1] * np.sqrt(groups / (groups - 1))
    fewest = min(len(np.unique(clusters[side == s])) for s in (0, 1))
    assert ours.difference == pytest.approx(fit.params[1], abs=1e-10)
    assert ours.high - ours.difference == pytest.approx(sps.t.ppf(0.975, fewest - 1) * se, abs=1e-10)
    one = stats.unpaired_mean_difference([0.0, 1.0], [1.0, 0.0], clusters=(["a", "a"], ["b", "c"]))
    assert np.isnan(one.low)


def test_a_pair_that_differs_on_every_item_of_every_cluster() -> None:
    """Each of eight clusters counts as one coin toss: p = 2 / 2**8, and the interval is on the difference's side."""
    labels = np.repeat(np.arange(8), 5)
    found = stats.paired_difference(np.zeros(40), np.ones(40), labels)
    assert found.difference == 1
    assert found.p == pytest.approx(sps.binomtest(8, 8).pvalue)
    assert 0.4 < found.low < found.high <= 1
    back = stats.paired_difference(np.ones(40), np.zeros(40), labels)
    assert (back.low, back.high, back.p) == (-found.high, -found.low, found.p)
