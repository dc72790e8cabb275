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
