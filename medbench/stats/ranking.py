"""Orders of several candidates: corrected tests, ranks that admit ties, regret of a choice, trends along a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.paired import paired_rates
from medbench.stats.proportions import Comparison, Interval
from medbench.stats.resampling import Statistic


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's (1979) step-down adjusted p-values, in the order given; an untested pair (NaN) stays so, uncounted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


@dataclass(frozen=True)
class OrderAgreement:
    """How far two scores put the same candidates in one order: tau-a, so a pair tied on either side counts 0.

    Attributes:
        tau: share of pairs in the same order minus share in opposite order, with the bounds that the pairs' tests
            leave open: a pair of which a difference is not shown on both sides may stand either way.
        same, opposite, tied: pairs by their estimates.
        p: two-sided p-value of Kendall's tau-b over candidates, NaN where one side is constant.
    """

    tau: Interval
    same: int
    opposite: int
    tied: int
    p: float


def order_agreement(first: ArrayLike, second: ArrayLike, shown: np.ndarray) -> OrderAgreement:
    """Agreement of two orders of the same candidates.

    Args:
        first, second: scores, shape (c,).
        shown: shape (c, c), True where both scores' tests show the pair to differ (each side corrected over all pairs).

    The bounds hold at once with the tests: they are wide, and right, where few pairs are shown.
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(x) < 2:
        return OrderAgreement(Interval(*[float("nan")] * 3), 0, 0, 0, float("nan"))
    i, j = np.triu_indices(len(x), 1)
    # A difference in the last digit of a sum is a tie.
    signs = [np.where(np.abs(v[i] - v[j]) < 1e-9, 0, np.sign(v[i] - v[j])) for v in (x, y)]
    product = signs[0] * signs[1]
    known = np.asarray(shown, dtype=bool)[i, j]
    pairs = len(product)
    settled, open_ = float(product[known].sum()), int((~known).sum())
    tau = Interval(float(product.mean()), (settled - open_) / pairs, (settled + open_) / pairs)
    constant = np.ptp(x) < 1e-9 or np.ptp(y) < 1e-9
    p = float("nan") if constant else float(scipy.stats.kendalltau(x, y).pvalue)
    same, opposite = int((product > 0).sum()), int((product < 0).sum())
    return OrderAgreement(tau, same, opposite, pairs - same - opposite, p)


def rank_intervals(scores: ArrayLike, p_adjusted: np.ndarray, alpha: float = 0.05) -> list[tuple[int, int]]:
    """Ranks that each candidate may hold: 1 is best.

    Args:
        scores: shape (c,), higher is better.
        p_adjusted: shape (c, c), symmetric, familywise-corrected p-values of all pairs; NaN counts as "not shown".

    A candidate's best rank is 1 + the number shown to be better, its worst c - the number shown to be worse. With
    Holm-corrected tests all these intervals hold at once with confidence 1 - alpha (Klein, Wright and Wieczorek 2020;
    Mogstad et al. 2024).
    """
    x = np.asarray(scores, dtype=float)
    shown = _shown(p_adjusted, len(x), alpha)
    better = (shown & (x[None, :] > x[:, None])).sum(1)
    worse = (shown & (x[None, :] < x[:, None])).sum(1)
    return [(int(1 + b), int(len(x) - w)) for b, w in zip(better, worse, strict=True)]


def indistinguishable_groups(scores: ArrayLike, p_adjusted: np.ndarray, alpha: float = 0.05) -> list[list[int]]:
    """All largest sets of candidates of which no two are shown to differ, best first; sets may overlap.

    Args and alpha as in `rank_intervals`. Piepho's (2004) insert-and-absorb algorithm for compact letter displays.
    """
    x = np.asarray(scores, dtype=float)
    shown = _shown(p_adjusted, len(x), alpha)
    groups: list[frozenset[int]] = [frozenset(range(len(x)))] if len(x) else []
    for i, j in np.argwhere(np.triu(shown, 1)):
        split = [g - {k} for g in groups if i in g and j in g for k in (int(i), int(j))]
        kept = [g for g in groups if not (i in g and j in g)]
        groups = []
        for group in sorted({*kept, *split}, key=len, reverse=True):
            if not any(group < other for other in groups):
                groups.append(group)
    order = np.argsort(np.argsort(-x, kind="stable"))
    ranked = [sorted(group, key=lambda i: int(order[i])) for group in groups]
    return sorted(ranked, key=lambda group: [int(order[i]) for i in group])


def letters(groups: Sequence[Sequence[int]], count: int) -> list[str]:
    """The groups as a compact letter display: candidates that share a letter cannot be told apart."""
    names = [
        chr(ord("a") + i) if i < 26 else f"{chr(ord('a') + i // 26 - 1)}{chr(ord('a') + i % 26)}"
        for i in range(len(groups))
    ]
    separator = "" if len(groups) <= 26 else " "
    return [separator.join(n for n, g in zip(names, groups, strict=True) if i in g) for i in range(count)]


@dataclass(frozen=True)
class Regret:
    """What a choice costs against the best candidate.

    Attributes:
        best: index of the best by the estimates; the chosen one where it is among the best.
        loss: best minus chosen, 0-1, never below 0, with simultaneous bounds over all candidates.
        p: paired test of the two, corrected over the candidates that might have been best (Bonferroni); 1 without loss.
        real: a corrected test shows a loss; then the interval lies above 0 or ends there, else it holds 0.
    """

    best: int
    loss: Interval
    p: float
    real: bool


def regret(values: ArrayLike, chosen: int, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Regret:
    """What taking candidate `chosen` costs in a rate, against whichever is best.

    Args:
        values: shape (c, n): item means, 0-1, of all candidates on the same items.
        clusters: shape (n,), labels of contexts that items share, or None.

    Multiple comparisons with the best (Hsu 1984) from the paired intervals and exact tests of `paired_rates`, each at
    confidence 1 - (1 - confidence) / (c - 1): which candidate is best is unknown too, and is allowed for.
    """
    x = np.asarray(values, dtype=float)
    others = [k for k in range(len(x)) if k != chosen]
    if not others:
        return Regret(chosen, Interval(0.0, 0.0, 0.0), 1.0, False)
    level = 1 - (1 - confidence) / len(others)
    found = {k: paired_rates(x[chosen], x[k], clusters, level) for k in others}
    best = max(others, key=lambda k: found[k].difference)
    gap = found[best]
    bounds = max(0.0, *[c.low for c in found.values()]), max(0.0, *[c.high for c in found.values()])
    if gap.difference < 1e-12:
        return Regret(chosen, Interval(0.0, 0.0, bounds[1]), 1.0, False)
    p = min(1.0, gap.p * len(others))
    # Another candidate than the best may be the one shown to be better: its items hang closer together.
    real = any(c.p < 1 - level and c.difference > 0 for c in found.values())
    return Regret(best, Interval(gap.difference, *bounds), p, real)


@dataclass(frozen=True)
class Monotonicity:
    """Whether a score moves one way along a sweep.

    Attributes:
        verdict: ``rises`` or ``falls`` (whatever is shown, of the steps and the trend, goes that way), ``turns`` (both
            ways are shown), or ``flat`` (nothing is shown).
        slope: least-squares slope over the sweep's positions.
        steps: differences between neighbours.
        p_adjusted: of the steps, then the slope, corrected together (Holm).
    """

    verdict: str
    slope: Comparison
    steps: tuple[Comparison, ...]
    p_adjusted: tuple[float, ...]


def monotonicity(steps: Sequence[Comparison], slope: Comparison, alpha: float = 0.05) -> Monotonicity:
    """Whether steps and trend along a sweep show a rise, a fall, both or neither.

    Args:
        steps: tested differences between neighbours, in order.
        slope: the tested trend over all.

    Steps and trend are one family of tests (Holm): looking at all of them does not raise the false alarms. "Rises" says
    that a rise and no fall was shown; it does not prove that none exists.
    """
    if not steps:
        raise MedbenchError("a trend needs at least two settings.")
    family = [*steps, slope] if len(steps) > 1 else list(steps)
    adjusted = holm([c.p for c in family])
    rises = any(p < alpha and c.difference > 0 for c, p in zip(family, adjusted, strict=True))
    falls = any(p < alpha and c.difference < 0 for c, p in zip(family, adjusted, strict=True))
    verdict = "turns" if rises and falls else "rises" if rises else "falls" if falls else "flat"
    return Monotonicity(verdict, slope, tuple(steps), tuple(float(p) for p in adjusted))


def slope_weights(positions: ArrayLike) -> np.ndarray:
    """Weights that make a least-squares slope of scores at these positions.

    Raises:
        MedbenchError: positions that do not ascend.
    """
    at = np.asarray(positions, dtype=float)
    if len(at) < 2 or np.any(np.diff(at) <= 0):
        raise MedbenchError("a trend needs at least two settings, in ascending order without repeats.")
    return (at - at.mean()) / np.sum((at - at.mean()) ** 2)


def reversal_p(
    statistic: Statistic,
    statistics: np.ndarray,
    weights: np.ndarray,
    trials: int,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
) -> float:
    """Two-sided p-value of a slope: in each trial every unit's outputs run along the sweep forwards or backwards.

    Args:
        statistics: shape (n, k, d): per-item statistics at each of k positions.
        weights: shape (k,), of `slope_weights`.

    Exact where nothing changes along the sweep; at n units it cannot fall below 2 / 2**n.
    """
    x = np.asarray(statistics, dtype=float)
    if clusters is not None:
        _, index = np.unique(np.asarray(clusters), return_inverse=True)
        grouped = np.zeros((int(index.max()) + 1, *x.shape[1:]))
        np.add.at(grouped, index, x)
        x = grouped
    total, change = x.sum(0), (x[:, ::-1] - x).reshape(len(x), -1)
    observed = abs(float(statistic(total) @ weights))
    far = 0
    for start in range(0, trials, 500):
        size = min(500, trials - start)
        flips = rng.integers(2, size=(size, len(x))).astype(float)
        moved = total + (flips @ change).reshape(size, *total.shape)
        far += int(np.sum(np.abs(statistic(moved) @ weights) >= observed - 1e-9 * max(1.0, observed)))
    return (far + 1) / (trials + 1)


def _shown(p_adjusted: np.ndarray, count: int, alpha: float) -> np.ndarray:
    p = np.asarray(p_adjusted, dtype=float)
    if p.shape != (count, count):
        raise MedbenchError(f"expected p-values of all pairs, shape ({count}, {count}); got {p.shape}.")
    with np.errstate(invalid="ignore"):
        shown = p < alpha
    np.fill_diagonal(shown, False)
    return shown
