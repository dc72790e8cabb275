"""Bootstrap and randomisation of corpus BLEU against sacreBLEU's own code."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import _paired_ar_test, _paired_bs_test
from scipy import stats as sps

from medbench import stats
from medbench.errors import MedbenchError
from medbench.stats.resampling import shift_p_value

WORDS = [f"w{i}" for i in range(30)]


def outputs(seed: int, n: int = 60, noise: float = 0.3) -> tuple[list[str], list[str]]:
    """References and a system that changes words with probability `noise`."""
    references = [" ".join(np.random.default_rng([7, i]).choice(WORDS, size=12)) for i in range(n)]
    rng = np.random.default_rng(seed)
    system = [
        " ".join(w if rng.random() > noise else str(rng.choice(WORDS)) for w in r.split()[: rng.integers(8, 13)])
        for r in references
    ]
    return references, system


def bleu_statistics(system: list[str], references: list[str]) -> np.ndarray:
    return np.array(BLEU()._extract_corpus_statistics(system, [references]), dtype=float)


def test_bleu_from_statistics_equals_sacrebleu() -> None:
    rng = np.random.default_rng(0)
    metric = BLEU()
    for _ in range(300):
        total = np.maximum(rng.integers(0, 40) - np.arange(4), 0)
        correct = np.minimum(np.sort(rng.integers(0, 12, size=4))[::-1], total)
        row = [int(total[0]), int(rng.integers(1, 60)), *correct.tolist(), *total.tolist()]
        assert stats.bleu_statistic(np.array(row)) == pytest.approx(
            metric._compute_score_from_stats(list(row)).score, abs=1e-9
        )


def test_nothing_written_is_zero() -> None:
    assert stats.bleu_statistic(np.array([0, 12, 0, 0, 0, 0, 0, 0, 0, 0])) == 0
    assert stats.bleu_statistic(np.zeros((3, 10))).tolist() == [0, 0, 0]


def test_randomisation_equals_sacrebleu() -> None:
    """The same generator draws the same exchanges, so the p-values are equal, not only close."""
    references, first = outputs(1)
    for noise in (0.28, 0.34, 0.45):
        second = outputs(2, noise=noise)[1]
        metric = BLEU(references=[references])
        a, b = bleu_statistics(first, references), bleu_statistics(second, references)
        baseline = {"BLEU": (a, metric._aggregate_and_compute(a))}
        _, theirs = _paired_ar_test(baseline, "s", second, None, {"BLEU": metric}, n_samples=500, seed=11)
        # sacreBLEU's selector picks the baseline, ours the exchange: the same set of divisions by symmetry.
        ours = stats.approximate_randomisation(stats.bleu_statistic, a, b, 500, np.random.default_rng(11))
        assert ours == pytest.approx(theirs["BLEU"].p_value, abs=1e-10)


def test_randomisation_of_all_pairs() -> None:
    references = outputs(1)[0]
    systems = [
        bleu_statistics(outputs(seed, noise=noise)[1], references) for seed, noise in ((1, 0.3), (2, 0.4), (3, 0.5))
    ]
    p = stats.randomisation_matrix(stats.bleu_statistic, np.stack(systems, axis=1), 400, np.random.default_rng(5))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        rng = np.random.default_rng(5)
        assert p[i, j] == stats.approximate_randomisation(stats.bleu_statistic, systems[i], systems[j], 400, rng)
        assert p[j, i] == p[i, j]


def test_tail_goes_on_where_counting_ends() -> None:
    """With few trials the tail agrees with the count of many, and leaves counted p-values alone."""
    references = outputs(1)[0]
    noises = ((1, 0.3), (2, 0.36), (3, 0.39), (4, 0.6))
    pairs = np.stack([bleu_statistics(outputs(s, noise=x)[1], references) for s, x in noises], axis=1)
    many = stats.randomisation_matrix(stats.bleu_statistic, pairs, 60_000, np.random.default_rng(1))
    few = stats.randomisation_matrix(stats.bleu_statistic, pairs, 1000, np.random.default_rng(2), tail=True)
    assert few[0, 3] < 1e-6
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert few[i, j] == pytest.approx(many[i, j], rel=0.5, abs=2e-4)


def test_bootstrap_scores_equal_sacrebleu() -> None:
    """sacreBLEU counts one side, so its p-value is about half; its interval is the same up to Monte Carlo error."""
    references, first = outputs(1)
    second = outputs(2, noise=0.36)[1]
    metric = BLEU(references=[references])
    a, b = bleu_statistics(first, references), bleu_statistics(second, references)
    baseline = {"BLEU": (a, metric._aggregate_and_compute(a))}
    _, theirs = _paired_bs_test(baseline, "s", second, None, {"BLEU": metric}, n_samples=4000, seed=1)
    ours = stats.paired_bootstrap(stats.bleu_statistic, a, b, 4000, np.random.default_rng(2))
    assert ours.p == pytest.approx(2 * theirs["BLEU"].p_value, abs=0.02)
    draws = stats.bleu_statistic(stats.bootstrap_sums(b, 4000, np.random.default_rng(3)))
    half = (np.quantile(draws, 0.975) - np.quantile(draws, 0.025)) / 2
    assert half == pytest.approx(theirs["BLEU"].ci, rel=0.05)
    assert ours.difference == pytest.approx(
        metric._aggregate_and_compute(b).score - baseline["BLEU"][1].score, abs=1e-9
    )


def test_the_bootstrap_of_a_mean_is_the_t_interval() -> None:
    x = np.random.default_rng(4).normal(size=25)
    sums = stats.bootstrap_sums(np.stack([x, np.ones_like(x)], axis=1), 40_000, np.random.default_rng(5))
    got = stats.bootstrap_interval(x.mean(), stats.mean_statistic(sums), len(x))
    theirs = sps.ttest_1samp(x, 0).confidence_interval()
    assert got.high - got.low == pytest.approx(theirs.high - theirs.low, rel=0.04)


def test_resamples_draw_n_items_and_whole_clusters() -> None:
    """Each item's own column sums to how often it was drawn."""
    counts = stats.Resamples(50, 200, np.random.default_rng(0)).sums(np.eye(50))
    assert (counts.sum(1) == 50).all()
    assert counts.std() == pytest.approx(1, abs=0.05)
    clustered = stats.Resamples(50, 200, np.random.default_rng(0), np.repeat(np.arange(10), 5)).sums(np.eye(50))
    assert (clustered.reshape(200, 10, 5).std(axis=2) == 0).all()
    assert (clustered.sum(1) == 50).all()


def test_blocks_do_not_change_the_resamples() -> None:
    """A generator of one seed gives the same sums for any other axes: comparisons across calls stay paired."""
    x = np.random.default_rng(1).normal(size=(9000, 3))
    together = stats.bootstrap_sums(x, 1000, np.random.default_rng(6))
    alone = stats.bootstrap_sums(x[:, 1], 1000, np.random.default_rng(6))
    assert together.shape == (1000, 3)
    np.testing.assert_allclose(together[:, 1], alone, atol=1e-8)


def test_identical_systems_are_never_different() -> None:
    references, system = outputs(1)
    a = bleu_statistics(system, references)
    got = stats.paired_bootstrap(stats.bleu_statistic, a, a, 500, np.random.default_rng(0))
    assert (got.difference, got.p) == (0, 1)
    assert np.isnan(got.low)
    assert stats.approximate_randomisation(stats.mean_statistic, a[:, :2], a[:, :2], 99, np.random.default_rng(0)) <= 1


def test_clustered_exchange_moves_clusters() -> None:
    """With one cluster only two exchanges exist, both as far from 0 as the observed: nothing can be shown."""
    x = np.random.default_rng(1).normal(size=(30, 1))
    a, b = np.hstack([x, np.ones_like(x)]), np.hstack([x + 1, np.ones_like(x)])
    one = np.zeros(30)
    assert stats.approximate_randomisation(stats.mean_statistic, a, b, 999, np.random.default_rng(0)) < 0.01
    got = stats.approximate_randomisation(stats.mean_statistic, a, b, 999, np.random.default_rng(0), one)
    assert got == 1
    few = stats.approximate_randomisation(stats.mean_statistic, a[:3], b[:3], 999, np.random.default_rng(0))
    assert few > 0.2


def test_bad_shapes_and_nothing_are_refused() -> None:
    with pytest.raises(MedbenchError, match="same items"):
        stats.approximate_randomisation(
            stats.mean_statistic, np.ones((3, 2)), np.ones((4, 2)), 10, np.random.default_rng(0)
        )
    with pytest.raises(MedbenchError, match="nothing to resample"):
        stats.bootstrap_sums(np.ones((0, 2)), 10, np.random.default_rng(0))
    assert np.isnan(shift_p_value(1.0, np.array([np.nan])))
    assert np.isnan(stats.bootstrap_interval(1.0, np.ones(10), 1).low)


def test_the_bootstraps_p_value_of_a_mean_is_that_of_the_t_test() -> None:
    """For normal data the correction for few items turns the bootstrap's p-value into the t test's."""
    x = np.random.default_rng(8).normal(0.45, 1, size=20)
    zero = np.stack([np.zeros(20), np.ones(20)], axis=1)
    found = stats.paired_bootstrap(
        stats.mean_statistic, zero, np.stack([x, np.ones(20)], axis=1), 200_000, np.random.default_rng(9)
    )
    assert found.p == pytest.approx(sps.ttest_1samp(x, 0).pvalue, rel=0.1)
