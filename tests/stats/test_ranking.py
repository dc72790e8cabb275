"""Corrections, ranks and trends against statsmodels, scipy, R's published displays, and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sps
from statsmodels.stats.multitest import multipletests

from medbench import stats
from medbench.errors import MedbenchError


def test_holm_equals_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 10, 300):
        p = rng.random(size) ** 3
        np.testing.assert_allclose(stats.holm(p), multipletests(p, method="holm")[1], atol=1e-10)


def test_holm_leaves_untested_pairs_out() -> None:
    got = stats.holm([0.01, np.nan, 0.04])
    assert np.isnan(got[1])
    assert got[[0, 2]].tolist() == multipletests([0.01, 0.04], method="holm")[1].tolist()


def test_order_agreement_counts_pairs_and_ties() -> None:
    """tau-a by hand, scipy's p; a pair that no test settles may stand either way."""
    x, y = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]
    everything = np.ones((5, 5), dtype=bool)
    found = stats.order_agreement(x, y, everything)
    assert (found.same, found.opposite, found.tied) == (8, 2, 0)
    assert found.tau == pytest.approx((0.6, 0.6, 0.6))
    assert found.p == pytest.approx(sps.kendalltau(x, y).pvalue)
    open_ = stats.order_agreement(x, y, ~everything).tau
    assert open_[1:] == (-1, 1)
    tied = stats.order_agreement([1, 2, 2], [1, 2, 3], np.ones((3, 3), dtype=bool))
    assert (tied.same, tied.tied) == (2, 1)
    assert tied.tau.estimate == pytest.approx(2 / 3)
    assert np.isnan(stats.order_agreement([1, 1], [1, 2], everything).p)


def pair_matrix(count: int, shown: list[tuple[int, int]]) -> np.ndarray:
    p = np.ones((count, count))
    for i, j in shown:
        p[i, j] = p[j, i] = 0.001
    return p


def test_rank_intervals_admit_ties() -> None:
    scores = [0.9, 0.85, 0.5, 0.48]
    p = pair_matrix(4, [(0, 2), (0, 3), (1, 2), (1, 3)])
    assert stats.rank_intervals(scores, p) == [(1, 2), (1, 2), (3, 4), (3, 4)]
    assert stats.rank_intervals(scores, np.ones((4, 4))) == [(1, 4)] * 4


def test_groups_hold_exactly_the_pairs_not_shown() -> None:
    """What defines a compact letter display: a pair shares a letter if and only if no difference was shown."""
    pairs = [(1, 7), (1, 8), (2, 4), (2, 5), (2, 7), (2, 8), (3, 7), (3, 8), (4, 7), (4, 8)]
    shown = [(i - 1, j - 1) for i, j in pairs]
    groups = stats.indistinguishable_groups(np.arange(8, 0, -1), pair_matrix(8, shown))
    found = {frozenset(g) for g in groups}
    for i in range(8):
        for j in range(i):
            together = any({i, j} <= g for g in found)
            assert together == ((j, i) not in shown)
    assert not any(a < b for a in found for b in found)
    assert groups[0][0] == 0


def test_letters_overlap() -> None:
    groups = stats.indistinguishable_groups([3, 2, 1], pair_matrix(3, [(0, 2)]))
    assert groups == [[0, 1], [1, 2]]
    assert stats.letters(groups, 3) == ["a", "ab", "b"]


def answers(rates: list[float], n: int, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random((len(rates), n)) < np.array(rates)[:, None]).astype(float)


def test_regret_of_the_best_and_of_a_clear_loser() -> None:
    values = answers([0.70, 0.70, 0.40], 400, seed=2)
    best = stats.regret(values, int(values.mean(1).argmax()))
    assert (best.loss.estimate, best.loss.low, best.real) == (0, 0, False)
    assert best.loss.high > 0.01
    worst = stats.regret(values, 2)
    assert worst.loss.estimate == pytest.approx(values.mean(1).max() - values[2].mean())
    assert worst.real
    assert 0.1 < worst.loss.low < worst.loss.estimate < worst.loss.high < 0.5
    assert stats.regret(values[:1], 0).loss == (0, 0, 0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_a_handful_of_items_shows_no_loss(n: int) -> None:
    """Every item speaks for the other candidate, and still no exact test at n <= 5 shows anything."""
    found = stats.regret(np.stack([np.zeros(n), np.ones(n)]), 0)
    assert (found.loss.low, found.real) == (0, False)
    assert found.p == pytest.approx(2 * 0.5**n)
    assert found.loss.high == 1


def test_no_flips_leave_regret_a_width() -> None:
    alike = np.tile([1.0, 0.0], 10)
    assert stats.regret(np.stack([alike, alike]), 0).loss.high > 0.05


def trend(values: np.ndarray) -> stats.Monotonicity:
    """Rates of candidates along a sweep, from answers of shape (k, n)."""
    steps = [stats.paired_rates(values[k], values[k + 1]) for k in range(len(values) - 1)]
    weights = stats.slope_weights(np.linspace(0, 1, len(values)))
    counts = np.stack([values.T, np.ones_like(values.T)], axis=2)
    p = stats.reversal_p(stats.mean_statistic, counts, weights, 1999, np.random.default_rng(0))
    return stats.monotonicity(steps, stats.Comparison(float(values.mean(1) @ weights), np.nan, np.nan, p))


def test_monotonicity_verdicts() -> None:
    assert trend(answers([0.2, 0.4, 0.6], 300)).verdict == "rises"
    assert trend(answers([0.9, 0.6, 0.3, 0.2], 300)).verdict == "falls"
    assert trend(answers([0.2, 0.6, 0.2], 300)).verdict == "turns"
    assert trend(answers([0.5, 0.5, 0.5], 300)).verdict == "flat"
    slow = trend(answers([0.50, 0.54, 0.58, 0.62, 0.66], 400))
    assert slow.verdict == "rises"
    assert slow.slope.p < 0.01
    with pytest.raises(MedbenchError, match="ascending"):
        stats.slope_weights([0.5, 0.5])


def test_three_items_show_no_trend() -> None:
    assert trend(np.array([[0, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=float)).verdict == "flat"


def test_wrong_shape_of_p_values_is_refused() -> None:
    with pytest.raises(MedbenchError, match=r"shape \(2, 2\)"):
        stats.rank_intervals([1, 2], np.ones((3, 3)))
