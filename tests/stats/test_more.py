"""Repeats, confidence, pooling and planning: against formulas worked by hand, brute force, and published results."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from medbench import stats
from medbench.errors import MedbenchError


def test_pass_at_k_equals_all_draws() -> None:
    for right, runs, k in ((2, 5, 1), (2, 5, 3), (0, 5, 2), (5, 5, 2), (4, 5, 3)):
        outcomes = [1] * right + [0] * (runs - right)
        draws = list(combinations(outcomes, k))
        assert stats.pass_at_k(np.array([right]), np.array([runs]), k)[0] == pytest.approx(
            np.mean([max(d) for d in draws])
        )
        assert stats.all_of_k(np.array([right]), np.array([runs]), k)[0] == pytest.approx(
            np.mean([min(d) for d in draws])
        )
    assert np.isnan(stats.pass_at_k(np.array([1]), np.array([2]), 3)[0])
    with pytest.raises(MedbenchError, match="at least one"):
        stats.pass_at_k(np.array([1]), np.array([2]), 0)


def test_same_answer() -> None:
    one, pairs = stats.same_answer([["A", "A", "B"], ["A", "A", "A"], [None, None], ["C"]])
    assert one[:3].tolist() == [0, 1, 1]
    assert pairs[:3] == pytest.approx([1 / 3, 1, 1])
    assert np.isnan(one[3])


def test_a_calibrated_model_has_no_corrected_error() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        sure = rng.uniform(0.25, 1, 400)
        found.append(stats.calibration(sure, rng.random(400) < sure))
    assert np.mean([c.ece.estimate for c in found]) < 0.025
    assert abs(np.mean([c.over.estimate for c in found])) < 0.01
    # Nobody could say that it is miscalibrated, and the bounds do not close over nothing.
    assert np.mean([c.ece.low == 0 for c in found]) > 0.9
    assert min(c.ece.high for c in found) > 0.02


def test_an_overconfident_model_is_measured() -> None:
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.8, 1, 4000)
    found = stats.calibration(sure, rng.random(4000) < sure - 0.3)
    assert found.ece.estimate == pytest.approx(0.3, abs=0.03)
    assert found.over.estimate == pytest.approx(0.3, abs=0.03)
    assert 0.25 < found.ece.low < found.ece.high < 0.35
    by_hand = stats.calibration([0.9, 0.6], [1, 0])
    assert by_hand.brier.estimate == pytest.approx((0.01 + 0.36) / 2)


def test_risk_falls_where_confidence_knows() -> None:
    coverage, risk = stats.risk_coverage([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 0, 1 / 3, 0.25])
    _, flat = stats.risk_coverage([0.5] * 4, [1, 0, 1, 0])
    assert set(flat) == {0.5}
    kept = stats.risk_at([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], 0.75)
    assert kept.estimate == pytest.approx(1 / 3)
    assert kept.low < 0.05 < 0.85 < kept.high
    assert stats.risk_at([0.5] * 4, [1, 0, 1, 0], 0.2).estimate == 0.5


def test_random_effects_against_metafor() -> None:
    """The BCG trials (Colditz et al. 1994), metafor's rma(yi, vi, method="PM", test="knha"): -0.7150, tau2 0.3181."""
    table = np.array(
        [
            [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619], [33, 5036, 47, 5761],
            [180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892], [29, 7470, 45, 7232],
            [17, 1699, 65, 1600], [186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825],
        ],
        dtype=float,
    )  # fmt: skip
    a, b, c, d = table.T
    effects = np.log(a / (a + b)) - np.log(c / (c + d))
    errors = np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
    found = stats.random_effects(effects, errors)
    assert found.mean.difference == pytest.approx(-0.7150, abs=2e-3)
    assert found.spread.estimate**2 == pytest.approx(0.3181, abs=2e-3)
    # metafor's confint() of the same trials, by the Q-profile: tau2 0.1197 to 1.1115
    assert [bound**2 for bound in found.spread[1:]] == pytest.approx([0.1197, 1.1115], abs=2e-3)
    assert found.next.low < found.mean.low < found.mean.high < found.next.high


def test_one_and_two_benchmarks_know_little() -> None:
    one = stats.random_effects([0.1], [0.01])
    assert np.isnan(one.mean.low)
    two = stats.random_effects([0.1, 0.1], [0.01, 0.01])
    assert two.mean.low < 0.05
    assert np.isnan(two.next.low)


def test_items_for_a_pair_equal_simulated_power() -> None:
    """About 80% of studies of the planned size show the difference; MedQA's unpaired case gives the known 4,041."""
    assert stats.items_for(stats.guessed_spread(0.6638, 0.6929), 0.0291) == pytest.approx(4041, abs=15)
    lost, gained = 0.10, 0.18
    n = stats.items_for(stats.guessed_spread(0.5, 0.58, lost + gained), gained - lost)
    rng = np.random.default_rng(5)
    u = rng.random((600, n))
    p = [stats.sign_flip_p((row < gained).astype(float) - ((row >= gained) & (row < gained + lost))) for row in u]
    assert 0.74 < np.mean(np.array(p) < 0.05) < 0.86


def test_runs_help_only_where_runs_differ() -> None:
    rng = np.random.default_rng(2)
    fixed = np.repeat(rng.integers(2, size=(200, 1)), 4, axis=1).astype(float)
    other = np.repeat(rng.integers(2, size=(200, 1)), 4, axis=1).astype(float)
    assert stats.pilot_spread(fixed, other).within == 0
    noisy = [rng.integers(2, size=(200, 4)).astype(float) for _ in range(2)]
    spread = stats.pilot_spread(*noisy)
    assert spread.within == pytest.approx(0.5, abs=0.06)
    assert stats.items_for(spread, 0.1, 5) < 0.4 * stats.items_for(spread, 0.1, 1)
    in_contexts = stats.pilot_spread(
        np.repeat(fixed, 5, axis=0), np.repeat(other, 5, axis=0), np.repeat(np.arange(200), 5)
    )
    assert in_contexts.design == pytest.approx(5, rel=0.05)


def test_plans_refuse_what_cannot_be() -> None:
    with pytest.raises(MedbenchError, match="66 percent"):
        stats.guessed_spread(66, 69)
    with pytest.raises(MedbenchError, match="can flip between"):
        stats.guessed_spread(0.66, 0.69, 0.01)
    with pytest.raises(MedbenchError, match="difference of 0"):
        stats.items_for(stats.PairSpread(0.2, 0), 0)
    assert stats.items_for(stats.PairSpread(1e-6, 0), 0.5) == 6


def test_equivalence_plan_equals_simulated_power() -> None:
    spread = stats.guessed_spread(0.5, 0.5, 0.2)
    n = stats.items_for_equivalence(spread, 0.05)
    rng = np.random.default_rng(3)
    shown = 0
    for _ in range(300):
        u = rng.random(n)
        gap = (u < 0.1).astype(float) - ((u >= 0.1) & (u < 0.2))
        low, high = stats.padded_interval(gap, np.ones(n), 1.0, 0.9, normal=True)
        shown += low > -0.05 and high < 0.05
    assert 0.72 < shown / 300 < 0.88


def test_the_next_benchmark_is_expected_wide_enough() -> None:
    """Ten benchmarks of spread .05: the plug-in interval held the eleventh in 87%."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(300):
        true = rng.normal(0.05, 0.05, 11)
        effects = true[:10] + rng.normal(0, 0.08, 10)
        next_one = stats.random_effects(effects, np.full(10, 0.08)).next
        held += next_one.low <= true[10] <= next_one.high
    assert held / 300 > 0.92


@pytest.mark.parametrize("over", [0.0, 0.2])
def test_the_calibration_error_lies_in_its_interval(over: float) -> None:
    rng, held = np.random.default_rng(4), 0
    for _ in range(200):
        sure = rng.uniform(0.3, 0.99, 100)
        p = np.clip(sure - over, 0.005, 0.995)
        found = stats.calibration(sure, rng.random(100) < p).ece
        held += found.low <= np.mean(sure - p) <= found.high
    assert held / 200 > 0.92


def test_two_benchmarks_that_happen_to_agree_leave_their_spread_open() -> None:
    """Counts over 50 items agree exactly once in 17 studies; "no spread at all" would then be claimed of any spread."""
    same = stats.random_effects([0.04, 0.04], [0.08, 0.08])
    assert same.spread.estimate == same.spread.low == 0
    # The chance median of one squared normal, 0.4549, over its 2.5% quantile, 0.000982 (chi-square tables).
    assert same.spread.high == pytest.approx(0.08 * (0.4549 / 0.000982 - 1) ** 0.5, rel=2e-3)


def test_few_outputs_have_the_calibration_error_of_their_means() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(300):
        sure = rng.uniform(0.3, 0.99, 5)
        found = stats.calibration(sure, rng.random(5) < sure)
        assert len(found.bins) == 1
        assert found.ece.high == pytest.approx(max(abs(found.over.low), abs(found.over.high), found.ece.estimate))
        held += found.ece.low <= 0 <= found.ece.high
    assert held >= 285
