"""Kappa against statsmodels and published values, AUC against scipy and the DeLong paper's estimator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sps
from statsmodels.stats.inter_rater import cohens_kappa

from medbench import stats
from medbench.errors import MedbenchError


def test_kappa_equals_statsmodels() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(3, size=450)
    second = np.where(rng.random(450) < 0.8, first, rng.integers(3, size=450))
    table = np.zeros((3, 3))
    np.add.at(table, (first, second), 1)
    theirs = cohens_kappa(table)
    got = stats.cohen_kappa(first.tolist(), second.tolist())
    assert got == pytest.approx((theirs.kappa, theirs.kappa_low, theirs.kappa_upp), abs=1e-10)


def test_kappa_of_nothing_and_of_one_label() -> None:
    assert np.isnan(stats.cohen_kappa([], [])).all()
    assert np.isnan(stats.cohen_kappa(["a", "a"], ["a", "a"])).all()
    assert stats.cohen_kappa(["a", "b"], ["a", "b"]).estimate == 1
    with pytest.raises(MedbenchError, match="same items"):
        stats.cohen_kappa(["a"], [])


def test_auc_equals_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=300)
    scores = np.round(rng.normal(size=300) + 0.6 * labels, 1)
    u = sps.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert stats.auc(scores, labels).estimate == pytest.approx(u / (labels.sum() * (1 - labels).sum()), abs=1e-12)


def test_auc_error_follows_delong_by_direct_sums() -> None:
    """DeLong et al. (1988), equations 5-7, summed pair by pair."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.7, 1, 40), rng.normal(0, 1, 55)
    wins = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    area = wins.mean()
    se = (wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 55) ** 0.5
    got = stats.auc(np.r_[x, y], np.r_[np.ones(40), np.zeros(55)])
    t = sps.t.ppf(0.975, 39) / sps.norm.ppf(0.975)
    size = area * (1 - area) / (se * t) ** 2
    assert got == pytest.approx(stats.clopper_pearson(area * size, size), rel=1e-5)


def test_clusters_of_copies_do_not_sharpen_an_auc() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=100)
    scores = rng.normal(size=100) + labels
    once = stats.auc(scores, labels)
    copies = stats.auc(np.repeat(scores, 5), np.repeat(labels, 5), np.repeat(np.arange(100), 5))
    assert copies == pytest.approx(once, abs=5e-3)


def test_auc_at_the_ends() -> None:
    assert np.isnan(stats.auc([1, 2], [1, 1])).all()
    perfect = stats.auc([1, 2, 3, 4], [0, 0, 1, 1])
    assert perfect.estimate == 1
    assert perfect.low < 0.5
    assert stats.auc([1, 1, 1, 1], [0, 0, 1, 1]).estimate == 0.5
    with pytest.raises(MedbenchError, match="one label per score"):
        stats.auc([1, 2], [1])


def test_concordance_compares_only_answers_to_one_item() -> None:
    """Scores that follow the item, not the answer, have a high pooled AUC and no concordance."""
    labels = np.array([[1, 0], [1, 0], [0, 1], [1, 1]])
    scores = np.array([[9.0, 8.0], [2.0, 3.0], [4.0, 4.0], [1.0, 9.0]])
    got, items = stats.within_item_concordance(scores, labels)
    assert items == 3
    assert got.estimate == pytest.approx(0.5)
