"""Rates over items, runs and contexts: against exact tests, published formulas, and what must never collapse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as sps

from medbench import stats
from medbench.errors import MedbenchError


def test_single_answers_get_the_exact_interval() -> None:
    for right, n in ((0, 20), (3, 10), (40, 40), (1, 1)):
        x = np.r_[np.ones(right), np.zeros(n - right)]
        theirs = sps.binomtest(right, n).proportion_ci(method="exact")
        assert stats.rate(x)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert stats.rate([])[1:] == (0, 1)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 0.5, 1.0])
def test_the_same_everywhere_is_not_certainty(value: float) -> None:
    """Always right, or half right on every item: the bounds keep a width, and lie between those of n and of n runs."""
    n, runs = 40, 6
    found = stats.rate(np.full(n, value), runs=runs)
    widest = stats.clopper_pearson(value * n, n)
    tightest = stats.clopper_pearson(value * n * runs, n * runs)
    assert widest.low - 1e-12 <= found.low <= tightest.low + 1e-12
    assert tightest.high - 1e-12 <= found.high <= widest.high + 1e-12
    assert found.high - found.low > 0.03
    assert 0 <= found.low <= found.high <= 1


def test_runs_that_agree_add_nothing_and_runs_that_do_not_add_much() -> None:
    rng = np.random.default_rng(4)
    decided = rng.integers(2, size=200).astype(float)
    once, often = stats.rate(decided), stats.rate(decided, runs=5)
    assert often[1:] == pytest.approx(once[1:], abs=0.004)
    tossed = rng.binomial(5, 0.5, size=200) / 5
    narrow = stats.rate(tossed, runs=5)
    assert (narrow.high - narrow.low) < 0.6 * (once.high - once.low)


def test_one_fractional_item_changes_no_other_candidate() -> None:
    """40 of 40 stays [0.91, 1] whatever another candidate's items are: rates are computed one by one."""
    assert stats.rate(np.ones(40)).low == pytest.approx(0.025 ** (1 / 40))
    almost = np.r_[np.ones(39), 0.5]
    assert stats.rate(almost, runs=2).high <= 1


def test_clusters_of_copies_count_once() -> None:
    """Every item tenfold carries no more than the item once."""
    base = np.random.default_rng(8).integers(2, size=120).astype(float)
    once = stats.rate(base)
    tenfold = stats.rate(np.repeat(base, 10), np.repeat(np.arange(120), 10))
    assert tenfold[1:] == pytest.approx(once[1:], abs=4e-3)
    assert stats.rate(np.ones(60), np.repeat(np.arange(6), 10)).low == pytest.approx(0.025 ** (1 / 6))


def test_a_ratio_counts_only_what_was_asked() -> None:
    right, answered = np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0, 0])
    assert stats.ratio_rate(right, answered) == pytest.approx(stats.clopper_pearson(1, 2))
    assert stats.ratio_rate([0, 0], [0, 0])[1:] == (0, 1)


def test_bad_rates_are_refused() -> None:
    with pytest.raises(MedbenchError, match="0-1"):
        stats.rate([0.2, 1.2])
    with pytest.raises(MedbenchError, match="one cluster label per item"):
        stats.rate([0.2, 1.0], ["a"])
    with pytest.raises(MedbenchError, match="above 0"):
        stats.equivalence(stats.Comparison(0, -1, 1, 1), stats.Comparison(0, -1, 1, 1), 0)


def test_paired_bounds_are_squared_and_added() -> None:
    """5 losses and 15 gains of 100 items: scipy's exact bounds of each, put together by hand (Newcombe 1998)."""
    first = np.array([1] * 5 + [0] * 15 + [1] * 60 + [0] * 20)
    second = np.array([0] * 5 + [1] * 15 + [1] * 60 + [0] * 20)
    got = stats.paired_rates(first, second)
    gain, loss = (sps.binomtest(k, 100).proportion_ci(method="exact") for k in (15, 5))
    up, down, g, k = 0.15 - gain.low, loss.high - 0.05, gain.low, loss.high
    low = 0.10 - (up**2 + down**2 + 2 * up * down * (g * k / (1 - g) / (1 - k)) ** 0.5) ** 0.5
    up, down, g, k = gain.high - 0.15, 0.05 - loss.low, gain.high, loss.low
    high = 0.10 + (up**2 + down**2 + 2 * up * down * (g * k / (1 - g) / (1 - k)) ** 0.5) ** 0.5
    assert (got.low, got.high) == pytest.approx((low, high), abs=1e-9)
    assert got.p == pytest.approx(sps.binomtest(5, 20).pvalue, abs=1e-10)
    assert got.p == pytest.approx(stats.mcnemar(first, second).p, abs=1e-12)


def test_flips_that_go_one_way_have_their_exact_bound() -> None:
    first, second = np.ones(200), np.r_[np.zeros(10), np.ones(190)]
    bound = sps.binomtest(10, 200).proportion_ci(0.90, method="exact").high
    assert stats.paired_rates(first, second, confidence=0.90).low == pytest.approx(-bound, abs=1e-9)
    assert stats.paired_rates(second, first, confidence=0.90).high == pytest.approx(bound, abs=1e-9)


@pytest.mark.parametrize("n", [5, 12, 20])
def test_every_outcome_of_pairs(n: int) -> None:
    """Coverage and false "not worse" at the margin, added up over all outcomes: no Monte Carlo error."""
    outcomes = [(up, down) for up in range(n + 1) for down in range(n + 1 - up)]
    both = [np.ones(n - up - down) for up, down in outcomes]
    pairs = [
        (np.r_[np.zeros(up), np.ones(down), rest], np.r_[np.ones(up), np.zeros(down), rest])
        for (up, down), rest in zip(outcomes, both, strict=True)
    ]
    wide = [stats.paired_rates(*pair) for pair in pairs]
    narrow = [stats.paired_rates(*pair, confidence=0.90) for pair in pairs]
    for gain, loss in ((0, 0), (0, 0.05), (0, 0.3), (0.02, 0.4), (0.1, 0.1), (0.1, 0.6), (0.3, 0.5), (0.5, 0.5)):
        chance = sps.multinomial.pmf([(u, d, n - u - d) for u, d in outcomes], n, [gain, loss, 1 - gain - loss])
        covered = [w.low - 1e-9 <= gain - loss <= w.high + 1e-9 for w in wide]
        assert chance @ covered >= 0.95
        if loss > gain:
            passed = [b.low > gain - loss + 1e-9 for b in narrow]
            assert chance @ passed <= 0.055


def test_no_flips_still_leave_a_width() -> None:
    same = np.tile([1, 0], 10)
    got = stats.paired_rates(same, same)
    assert (got.difference, got.p) == (0, 1)
    assert got.low < -0.05 < 0.05 < got.high
    clustered = stats.paired_rates(same, same, np.repeat(np.arange(5), 4))
    assert clustered.low <= got.low + 0.02


@pytest.mark.parametrize("n", range(1, 9))
def test_interval_and_test_do_not_contradict(n: int) -> None:
    got = stats.paired_rates(np.zeros(n), np.ones(n))
    assert got.p == pytest.approx(2 * 0.5**n if n > 1 else 1)
    assert (got.low > 0) == (got.p < 0.05)


def test_a_shown_difference_of_contexts_does_not_hold_zero() -> None:
    """Twelve contexts of five items each that all gain a little: p = 2 / 2**12, and the interval agrees."""
    labels = np.repeat(np.arange(12), 5)
    gained = np.tile([1.0, 0, 0, 0, 0], 12)
    for confidence in (0.90, 0.95, 1 - 0.05 / 6):
        got = stats.paired_rates(np.zeros(60), gained, labels, confidence)
        assert got.p == pytest.approx(2 / 2**12)
        assert 0 <= got.low < got.difference == pytest.approx(0.2)


def test_sign_flips_equal_enumeration() -> None:
    """The convolved distribution against all 2**k signs, for thirds, fifths, and sums over contexts."""
    rng = np.random.default_rng(0)
    for denominator in (1, 3, 5, 15):
        x = rng.integers(-denominator, denominator + 1, size=10) / denominator
        signs = 1 - 2 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1)
        expected = np.mean(np.abs(signs @ np.abs(x)) >= abs(x.sum()) - 1e-9)
        assert stats.sign_flip_p(x) == pytest.approx(expected, abs=1e-12)
    irrational = rng.normal(size=8)
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    expected = np.mean(np.abs(signs @ np.abs(irrational)) >= abs(irrational.sum()) - 1e-9)
    assert stats.sign_flip_p(irrational) == pytest.approx(expected)
    assert stats.sign_flip_p([]) == stats.sign_flip_p([0.0]) == 1


def test_the_matrix_equals_its_pairs() -> None:
    rng = np.random.default_rng(3)
    for values in (rng.integers(2, size=(4, 30)).astype(float), rng.integers(4, size=(4, 30)) / 3):
        for clusters in (None, np.repeat(np.arange(10), 3)):
            p = stats.sign_flip_matrix(values, clusters)
            for i in range(4):
                for j in range(4):
                    one = stats.paired_rates(values[i], values[j], clusters).p
                    assert p[i, j] == pytest.approx(one, abs=1e-12)


def test_a_pair_that_differs_on_every_item_of_every_cluster() -> None:
    """Each of eight clusters counts as one coin toss: p = 2 / 2**8, and the interval is on the difference's side."""
    labels = np.repeat(np.arange(8), 5)
    found = stats.paired_rates(np.zeros(40), np.ones(40), labels)
    assert found.p == pytest.approx(sps.binomtest(8, 8).pvalue)
    assert 0.25 < found.low < found.high <= 1
    back = stats.paired_rates(np.ones(40), np.zeros(40), labels)
    assert (back.low, back.high, back.p) == pytest.approx((-found.high, -found.low, found.p))


def test_one_leaked_item_shows_nothing() -> None:
    """Fisher's exact p of one right item against 40 of which half are right."""
    values = np.r_[np.ones(1), np.tile([1.0, 0.0], 20)]
    flagged = np.arange(41) == 0
    p = stats.label_p(values, flagged, np.random.default_rng(0))
    assert p == pytest.approx(sps.fisher_exact([[1, 0], [20, 20]]).pvalue)
    fractional = stats.label_p(np.r_[np.full(6, 0.9), np.full(30, 0.1)], np.arange(36) < 6, np.random.default_rng(0))
    assert fractional < 0.001
    assert np.isnan(stats.label_p(values, np.zeros(41, dtype=bool), np.random.default_rng(0)))


def test_equivalence_verdicts() -> None:
    def judged(first: np.ndarray, second: np.ndarray) -> str:
        wide, narrow = stats.paired_rates(first, second), stats.paired_rates(first, second, confidence=0.9)
        return stats.equivalence(wide, narrow, 0.05).verdict

    same = np.tile([1.0, 0.0], 500)
    assert judged(same, same) == "equivalent"
    assert judged(same[:10], same[:10]) == "open"
    gained = same.copy()
    gained[1:200:2] = 1
    assert judged(same, gained) == "better"
    assert judged(gained, same) == "worse"
    some = same.copy()
    some[1:80:2] = 1
    assert judged(same, some) == "better"


def test_fieller_bounded_exclusive_and_all() -> None:
    """Bounded: against the delta method where the denominator is strong. Weak denominators leave the set unbounded."""
    strong = stats.fieller(5, 10, np.diag([0.04, 0.04]), 1000)
    delta = np.sqrt(0.04 + 0.25 * 0.04) / 10
    assert strong.kind == "bounded"
    assert (strong.low, strong.high) == pytest.approx((0.5 - 1.96 * delta, 0.5 + 1.96 * delta), abs=2e-3)
    assert stats.fieller(0.1, 0.1, np.diag([1.0, 1.0]), 1000).kind == "all"
    assert stats.fieller(8, 0.1, np.diag([1.0, 1.0]), 1000).kind == "exclusive"
    assert stats.fieller(1, 1, np.zeros((2, 2)), 10).kind == "all"
    assert stats.fieller(5, 2.5, np.diag([1.0, 1.0]), 1000).weak
