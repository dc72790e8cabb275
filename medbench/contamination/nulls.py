"""What a score is compared with. Pure functions of arrays; higher always means more like seen text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats as scipy_stats

DRAWS = 9_999  # of a randomisation test: p-values are multiples of 1 / 10,000


def reference_p(published: Sequence[float], shuffled: Sequence[Sequence[float]]) -> float:
    """The p-value of Oren et al.'s sharded rank comparison test, as their program computes it.

    "Proving Test Set Contamination in Black Box Language Models", 2310.17623; tatsu-lab/test_set_contamination. It is a
    one-sided t-test over shards, whose standard deviation divides by n (not n - 1), so that with few shards p is a
    little too small: `published_p` is exact.

    Args:
        published: log-likelihood of each shard in the published order, (shards,).
        shuffled: of the same shards in random orders, (shards, permutations).

    Returns:
        p; NaN with fewer than two shards or without any variation.
    """
    differences = np.asarray(published, dtype=float) - np.asarray(shuffled, dtype=float).mean(axis=1)
    deviation = differences.std()
    if len(differences) < 2 or deviation == 0:
        return float("nan")
    z = differences.mean() / deviation * np.sqrt(len(differences))
    return float(scipy_stats.t.sf(z, df=len(differences) - 1))


def published_p(rows: Sequence[np.ndarray], rng: np.random.Generator, draws: int = DRAWS) -> float:
    """Is the first value of each row larger than chance would make it? An exact one-sided randomisation test.

    Where the model has not seen the published form, it is one of several that were equally possible (an order of items
    or options, a rewrite), so each value of a row is as likely to come first as any other. Rows are standardised by
    all of their values, summed over their first ones, and compared with draws of another first value for every row.

    Args:
        rows: per shard or item its values, those of the published form first; rows may differ in length.
        rng: draws; its seed decides p's last digits.
        draws: how many.

    Returns:
        p = (1 + draws at least as large) / (1 + draws), so that P(p <= a) <= a for a clean model; NaN without rows.
    """
    standard = [_standardised(np.asarray(row, dtype=float)) for row in rows if len(row) > 1]
    if not standard:
        return float("nan")
    observed = sum(row[0] for row in standard)
    totals = np.zeros(draws)
    for row in standard:
        totals += row[rng.integers(0, len(row), draws)]
    return _share_at_least(totals, float(observed))


def sample_p(scores: Sequence[float], controls: Sequence[float], rng: np.random.Generator, draws: int = DRAWS) -> float:
    """Is the mean of `scores` larger than that of `controls`? A one-sided permutation test of their labels.

    Exact where set and controls are drawn alike and the model saw neither. NaN where either is empty.
    """
    a, b = np.asarray(scores, dtype=float), np.asarray(controls, dtype=float)
    if not len(a) or not len(b):
        return float("nan")
    pooled = np.concatenate([a, b])
    orders = rng.random((draws, len(pooled))).argsort(axis=1)[:, : len(a)]
    return _share_at_least(pooled[orders].mean(axis=1), float(a.mean()))


def rank_p(row: np.ndarray) -> float:
    """One item's p-value: the share of a row's values that reach its first one, itself included."""
    return float((np.asarray(row) >= row[0]).mean())


def z_score(row: np.ndarray) -> float:
    """The first value in standard deviations of the whole row; at most sqrt(n - 1)."""
    return float(_standardised(np.asarray(row, dtype=float))[0])


def _standardised(row: np.ndarray) -> np.ndarray:
    deviation = row.std()
    centred = row - row.mean()
    # Rounding alone must not decide: values that are equal but for it carry nothing
    return centred / deviation if deviation > 1e-9 * max(1.0, np.abs(row).max()) else np.zeros_like(row)


def _share_at_least(drawn: np.ndarray, observed: float) -> float:
    tolerance = 1e-9 * max(1.0, abs(observed))
    return (1 + int((drawn >= observed - tolerance).sum())) / (1 + len(drawn))
