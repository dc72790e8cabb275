"""The statistics of cards against scipy, scikit-learn and published figures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from medbench.meta.evaluate import Settings, figure
from medbench.stats.association import association, best_threshold, held_out_kappa, picked_share, preferred_pairs
from medbench.stats.raters import alpha_of, coincidences, confusions, kappa_of, krippendorff_alpha, scale_of
from medbench.stats.resampling import Resamples, bootstrap_interval

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": four observers, twelve units.
_ = np.nan
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
).T


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_equals_its_published_example(level: str, expected: float) -> None:
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(expected, abs=5e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_rank_figures_equal_scipy_on_rows_repeated_by_their_cluster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 60))
    x, y = np.round(rng.normal(size=n), 1), rng.integers(0, 3, n).astype(float)
    clusters = rng.integers(0, max(2, n // 3), n)
    weights = rng.integers(0, 3, (4, clusters.max() + 1)).astype(float)
    weights[0] = 1
    found = association(x, y, clusters, weights)
    for draw, weight in enumerate(weights):
        times = weight[clusters].astype(int)
        many_x, many_y = np.repeat(x, times), np.repeat(y, times)
        if len(set(many_y)) < 2 or len(set(many_x)) < 2:
            continue
        assert found.spearman[draw] == pytest.approx(scipy_stats.spearmanr(many_x, many_y).statistic, abs=1e-12)
        assert found.kendall[draw] == pytest.approx(scipy_stats.kendalltau(many_x, many_y).statistic, abs=1e-12)
        better = np.sign(many_x[:, None] - many_x[None, :])[many_y[:, None] > many_y[None, :]]
        assert found.auc[draw] == pytest.approx((better + 1).mean() / 2, abs=1e-12)
    labels = (y > 0).astype(float)
    assert association(x, labels, clusters, weights[:1]).auc[0] == pytest.approx(roc_auc_score(labels, x), abs=1e-12)


def test_figures_are_undefined_where_nothing_differs() -> None:
    ones, rising = np.ones(5), np.arange(5.0)
    constant_metric = association(ones, rising, np.arange(5), np.ones((1, 5)))
    assert np.isnan([constant_metric.spearman[0], constant_metric.kendall[0]]).all()
    assert constant_metric.auc[0] == 0.5
    same_truth = association(rising, ones, np.arange(5), np.ones((1, 5)))
    assert np.isnan([same_truth.spearman[0], same_truth.kendall[0], same_truth.auc[0]]).all()


def _held_out_by_hand(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    called = np.zeros(len(x), dtype=bool)
    for group in np.unique(groups):
        train = groups != group
        best, cut = 1e-12, np.inf
        for threshold in np.unique(x[train]):
            kappa = cohen_kappa_score(y[train], x[train] >= threshold)
            if kappa > best + 1e-12:
                best, cut = kappa, threshold
        called[~train] = x[~train] >= cut
    return float(cohen_kappa_score(y, called))


@pytest.mark.parametrize("seed", range(5))
def test_held_out_kappa_equals_fitting_and_holding_out_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    x = np.round(rng.normal(size=n), 1)
    y = x + rng.normal(size=n) > 0.4
    groups = np.unique(rng.integers(0, 9, n), return_inverse=True)[1]
    count = groups.max() + 1
    weights = np.ones((1, count))
    assert held_out_kappa(x, y, groups, np.arange(count), weights)[0] == pytest.approx(_held_out_by_hand(x, y, groups))
    # A cluster that is drawn twice is held out as one: the same as its rows twice, under one label.
    weights[0, 2], weights[0, 0] = 2, 0
    times = weights[0][groups].astype(int)
    by_hand = _held_out_by_hand(np.repeat(x, times), np.repeat(y, times), np.repeat(groups, times))
    assert held_out_kappa(x, y, groups, np.arange(count), weights)[0] == pytest.approx(by_hand)


def test_the_best_threshold_is_the_observed_score_of_the_highest_kappa() -> None:
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([0, 0, 1, 1, 1], dtype=bool)
    assert best_threshold(x, y) == 3
    assert np.isnan(best_threshold(x, ~y))  # no threshold of "at least" is better than chance
    assert np.isnan(held_out_kappa(x, y, np.zeros(5, int), np.zeros(1), np.ones((1, 1)))[0])


def test_pairs_are_counted_within_groups_only_and_ties_are_half() -> None:
    scores = np.array([1.0, 2, 2, 9, 0])
    truth = np.array([0.0, 1, 0, 5, 0.1 + 0.2])
    pairs = preferred_pairs(scores, truth, np.array([0, 0, 0, 1, 2]))
    assert pairs.tolist() == [[2, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert picked_share(pairs.sum(axis=0)) == 0.75
    # sums in another order differ in their last digits, and are the same rating
    assert preferred_pairs(np.array([1.0, 2]), np.array([0.3, 0.1 + 0.2]), np.zeros(2, int)).tolist() == [[0, 0, 0]]


def test_kappa_from_summed_counts_equals_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 3, 60).astype(float)
    second = np.where(rng.random(60) < 0.6, first, rng.integers(0, 3, 60))
    table = confusions(first, second, np.arange(3.0)).sum(axis=0)
    squares = (np.arange(3)[:, None] - np.arange(3)[None, :]) ** 2.0
    assert kappa_of(table) == pytest.approx(cohen_kappa_score(first, second))
    assert kappa_of(table, squares) == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))


def test_alpha_of_one_value_or_one_rater_is_undefined() -> None:
    assert np.isnan(krippendorff_alpha(np.ones((4, 2))))
    assert np.isnan(krippendorff_alpha(np.array([[1.0, _], [_, 2.0]])))
    values = scale_of(PUBLISHED)
    twice = coincidences(np.concatenate([PUBLISHED, PUBLISHED])).sum(axis=0)
    assert alpha_of(twice, values, "interval") == pytest.approx(
        krippendorff_alpha(np.tile(PUBLISHED, (2, 1)), "interval")
    )


def test_replication_intervals_are_wider_on_the_same_scale_and_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    draws = np.clip(0.9 + 0.05 * rng.normal(size=500), -1, 1)
    plain = bootstrap_interval(0.9, draws, 30, top=1, bottom=-1)
    again = bootstrap_interval(0.9, draws, 30, top=1, bottom=-1, widen=np.sqrt(2))
    assert -1 < again.low < plain.low < 0.9 < plain.high < again.high < 1
    assert np.arctanh(again.high) - np.arctanh(0.9) == pytest.approx(
        np.sqrt(2) * (np.arctanh(plain.high) - np.arctanh(0.9))
    )


def test_shares_near_one_keep_bounds_that_say_something() -> None:
    draws = np.clip(0.98 + 0.01 * np.random.default_rng(0).normal(size=500), 0, 1)
    bounds = bootstrap_interval(0.98, draws, 40, top=1, delta=True)
    assert 0.9 < bounds.low < 0.98 < bounds.high < 1
    settled = figure(np.ones(101), 20, Settings())
    assert settled["estimate"] == 1
    assert settled["interval"] == pytest.approx([0.025 ** (1 / 20), 1])
    assert settled["replication_interval"][0] < settled["interval"][0]


def test_drawn_counts_give_the_sums_of_the_same_resamples() -> None:
    clusters = np.array([0, 0, 1, 2])
    resamples = Resamples(4, 20, np.random.default_rng(1), clusters)
    values = np.array([[1.0], [2], [3], [4]])
    assert np.allclose(resamples.drawn @ np.array([[3.0], [3], [4]]), resamples.sums(values))
