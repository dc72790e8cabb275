"""Bootstrap and randomisation of any score that is a function of summed per-item statistics.

A score is a `Statistic`: sums of per-item statistics, shape (..., k), to scores, shape (...). Means, rates among
answered items, and corpus BLEU all have this form, so nothing is tokenized again and a resample is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import Comparison, Interval

Statistic = Callable[[np.ndarray], np.ndarray]

# Resamples drawn at once: bounds memory at 8 bytes x this, whatever the number of items.
_BLOCK_VALUES = 4_000_000
# Exceeded by fewer trials than this, a counted p-value has a relative error above a third.
_COUNTED_FROM = 10


def mean_statistic(sums: np.ndarray) -> np.ndarray:
    """The mean from per-item statistics (value, 1)."""
    return ratio_statistic(sums)


def ratio_statistic(sums: np.ndarray) -> np.ndarray:
    """Sum of the first over sum of the second statistic, e.g. (right, answered); NaN where the second is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


def bleu_statistic(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4, 0-100, from summed statistics [sys_len, ref_len, correct 1-4, total 1-4], shape (..., 10).

    Equals sacreBLEU's `BLEU.compute_bleu` with `smooth_method="exp"` and no effective order.
    """
    sums = np.asarray(sums, dtype=float)
    sys_len, ref_len = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2:6], sums[..., 6:10]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Each order without a match halves the credit given to it and the next such order (mteval-v13a.pl).
        halvings = np.cumsum(correct == 0, axis=-1)
        precision = np.where(correct > 0, correct, 0.5**halvings) / total
        log_mean = np.log(precision).mean(axis=-1)
        brevity = np.where(sys_len < ref_len, np.exp(1 - ref_len / sys_len), 1.0)
        score = 100 * brevity * np.exp(log_mean)
    defined = (total > 0).all(axis=-1) & (correct > 0).any(axis=-1)
    return np.where(defined, score, 0.0)


class Resamples:
    """Bootstrap resamples of items, drawn once for all scores of a table: scores on common resamples are paired.

    Attributes:
        resamples: how many.
    """

    def __init__(self, n: int, resamples: int, rng: np.random.Generator, clusters: ArrayLike | None = None) -> None:
        """Draw.

        Args:
            n: items; clusters: shape (n,), labels of what is drawn together, or None.
        """
        if n == 0:
            raise MedbenchError("nothing to resample: no items.")
        self.resamples, self._index = resamples, _cluster_index(clusters, n)
        drawn = n if self._index is None else int(self._index.max()) + 1
        # A byte holds how often one of them is drawn: never more than 255 of up to 255, and of more with a chance of
        # less than 1e-500.
        self._counts = np.concatenate(
            [
                _draw(drawn, size, rng).astype(np.uint8)
                for size in _block_sizes(resamples, max(1, _BLOCK_VALUES // drawn))
            ]
        )

    @property
    def drawn(self) -> np.ndarray:
        """How often each item, or each cluster in the order of its sorted labels, is drawn: shape (resamples, ...)."""
        return self._counts

    def sums(self, statistics: np.ndarray) -> np.ndarray:
        """Summed statistics of every resample.

        Args:
            statistics: shape (n, ...), per-item statistics.

        Returns:
            shape (resamples, ...).
        """
        x = np.asarray(statistics, dtype=float)
        flat = x.reshape(len(x), -1)
        if self._index is not None:
            flat = np.stack([np.bincount(self._index, weights=column) for column in flat.T], axis=1)
        size = max(1, _BLOCK_VALUES // len(flat))
        blocks = [self._counts[k : k + size].astype(float) @ flat for k in range(0, self.resamples, size)]
        return np.concatenate(blocks).reshape(self.resamples, *x.shape[1:])


def bootstrap_sums(
    statistics: np.ndarray, resamples: int, rng: np.random.Generator, clusters: ArrayLike | None = None
) -> np.ndarray:
    """Summed statistics of bootstrap resamples of the items.

    Args:
        statistics: shape (n, ...): per-item statistics. Candidates and metrics stacked on further axes are resampled
            together, which makes comparisons between them paired.

    Returns:
        shape (resamples, ...).
    """
    return Resamples(len(statistics), resamples, rng, clusters).sums(statistics)


def bootstrap_interval(
    estimate: float,
    replicates: np.ndarray,
    n: int,
    confidence: float = 0.95,
    top: float | None = None,
    *,
    bottom: float = 0.0,
    widen: float = 1.0,
    delta: bool = False,
) -> Interval:
    """The t interval with the standard error of bootstrap replicates; of a bounded score, on a logit scale.

    Args:
        estimate: the score on the actual items.
        replicates: shape (resamples,); undefined ones (NaN) are left out.
        n: number of items (or clusters) resampled.
        top: the highest score: 100 for BLEU and ROUGE, 1 for rates and coefficients; None for differences.
        bottom: the least score: -1 for correlations and kappa, whose logit scale is then Fisher's z.
        widen: by how much the standard error is multiplied: sqrt(2) gives the range in which the estimate of another
            study of the same size lands (both are uncertain), not the truth.
        delta: take the standard error of the replicates as they are, and move it to the logit scale at the estimate:
            for shares and coefficients, some of whose replicates are exactly 1, where no logit exists.

    Corpus BLEU of few items is skewed, and its bootstrap says how uncertain it is but not where: percentiles hold the
    truth in 79% at n = 5 and 89% at 20, this in 93% or more (docs/statistics.md). The standard error is widened by
    sqrt(n / (n - 1)). A score has half of n - 1 degrees of freedom, because long items weigh more than short ones.
    Bounds are NaN where the replicates do not vary.
    """
    draws = replicates[np.isfinite(replicates)]
    unknown = Interval(float(estimate), float("nan"), float("nan"))
    if n < 2 or len(draws) < 2 or not np.isfinite(estimate):
        return unknown
    inner = top is not None and bottom < estimate < top
    wide = 1.0 if top is None else top - bottom
    if inner and delta:
        share = (estimate - bottom) / wide
        draws = draws / (wide * share * (1 - share))
    elif inner:
        draws = scipy.special.logit(np.clip((draws - bottom) / wide, 1e-4, 1 - 1e-4))
    se = float(draws.std()) * np.sqrt(n / (n - 1)) * widen
    if se < 1e-12:
        return unknown
    half = float(scipy.special.stdtrit((n - 1) / (1 if top is None else 2), (1 + confidence) / 2)) * se
    if inner:
        centre = scipy.special.logit((estimate - bottom) / wide)
        low, high = (bottom + wide * float(scipy.special.expit(centre + side * half)) for side in (-1, 1))
        return Interval(float(estimate), low, high)
    low, high = float(estimate) - half, float(estimate) + half
    return Interval(float(estimate), *((low, high) if top is None else (max(bottom, low), min(top, high))))


def paired_bootstrap(
    statistic: Statistic,
    first: np.ndarray,
    second: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Score of second minus first on the same items, by paired bootstrap.

    Args:
        first, second: per-item statistics, shape (n, k), the same items in the same order.

    p is two-sided by the shift method (Noreen 1989): how often the resampled difference lies as far from the observed
    one as that lies from 0, widened for few items like the interval.
    sacreBLEU's `paired-bs` counts one side of absolute differences, about half of this.
    """
    first, second = _paired_statistics(first, second)
    sums = bootstrap_sums(np.stack([first, second], axis=1), resamples, rng, clusters)
    scores = statistic(sums)
    differences = scores[:, 1] - scores[:, 0]
    observed = float(statistic(second.sum(0)) - statistic(first.sum(0)))
    groups = len(first) if clusters is None else len(np.unique(np.asarray(clusters)))
    bounds = bootstrap_interval(observed, differences, groups, confidence)
    return Comparison(observed, bounds.low, bounds.high, shift_p_value(observed, differences, groups))


def shift_p_value(observed: float, differences: np.ndarray, n: int | None = None) -> float:
    """Two-sided p-value of a difference from its bootstrap replicates moved to the null hypothesis.

    With `n`, the number of items (or clusters) resampled, the p-value allows for few items as `bootstrap_interval`
    does: the quantile that the count stands for is taken as one of the t distribution, sqrt((n-1)/n) as far out.
    """
    differences = differences[np.isfinite(differences)]
    if len(differences) == 0:
        return float("nan")
    far = np.sum(np.abs(differences - observed) >= abs(observed) - 1e-12)
    p = float((far + 1) / (len(differences) + 1))
    if n is None or n < 2:
        return p
    return float(2 * scipy.stats.t.sf(scipy.stats.norm.isf(p / 2) * np.sqrt((n - 1) / n), n - 1))


def approximate_randomisation(
    statistic: Statistic,
    first: np.ndarray,
    second: np.ndarray,
    trials: int,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
) -> float:
    """Two-sided p-value of the difference of two scores on the same items (Noreen 1989; Riezler and Maxwell 2005).

    Args:
        first, second: per-item statistics, shape (n, k).
        clusters: shape (n,); the outputs of a cluster are exchanged together.

    In each trial the two models' outputs change places with probability one half per item, and one is added to both
    counts. sacreBLEU's `paired-ar` leaves out trials that equal the observed difference; with a handful of items these
    are most of what makes the test exact, so they count here.
    """
    first, second = _paired_statistics(first, second)
    return float(randomisation_matrix(statistic, np.stack([first, second], axis=1), trials, rng, clusters)[0, 1])


def randomisation_matrix(
    statistic: Statistic,
    statistics: np.ndarray,
    trials: int,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    tail: bool = False,
) -> np.ndarray:
    """`approximate_randomisation` of all pairs of candidates with common exchanges.

    Args:
        statistics: shape (n, candidates, k).
        tail: p-values that fewer than ten trials exceeded come from the normal distribution with the trials' variance.
            Counting alone cannot go below 1 / (trials + 1), which a correction over many pairs would turn into
            "nothing is shown" whatever the data.

    Returns:
        Symmetric p-values, shape (candidates, candidates), 1 on the diagonal, uncorrected. The cost grows with the
        number of candidates, not of pairs, but for the evaluation of the score.
    """
    statistics = np.asarray(statistics, dtype=float)
    n, count = statistics.shape[:2]
    totals = statistics.sum(0)
    grouped = statistics.reshape(n, -1)
    if clusters is not None:
        _, index = np.unique(np.asarray(clusters), return_inverse=True)
        grouped = np.stack([np.bincount(index, weights=column) for column in grouped.T], axis=1)
    if count < 2:
        return np.ones((count, count))
    scores = statistic(totals)
    larger, squares = np.zeros((count, count)), np.zeros((count, count))
    for size in _block_sizes(trials, max(1, _BLOCK_VALUES // n)):
        exchanged = rng.integers(2, size=(size, len(grouped)), dtype=bool).astype(float)
        moved = (exchanged @ grouped).reshape(size, count, -1)
        for i in range(count):
            gap = moved[:, i + 1 :] - moved[:, [i]]
            differences = statistic(totals[i + 1 :] - gap) - statistic(totals[i] + gap)
            observed = np.abs(scores[i + 1 :] - scores[i])
            # Sums of floats in another order differ in the last digits, and are as large all the same.
            larger[i, i + 1 :] += np.sum(np.abs(differences) >= observed - 1e-9 * np.maximum(1.0, observed), axis=0)
            squares[i, i + 1 :] += np.sum(differences**2, axis=0)
    counted = (larger + 1) / (trials + 1)
    if tail:
        spread = np.sqrt(squares / trials)
        gaps = np.abs(scores[:, None] - scores[None, :])
        z = np.divide(gaps, spread, out=np.zeros_like(gaps), where=spread > 0)
        far = np.maximum(2 * scipy.stats.norm.sf(z), 2.0 ** (1 - len(grouped)))
        counted = np.where(larger < _COUNTED_FROM, np.minimum(counted, far), counted)
    p = np.triu(counted, 1)
    return p + p.T + np.eye(count)


def _cluster_index(clusters: ArrayLike | None, n: int) -> np.ndarray | None:
    if clusters is None:
        return None
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    if len(index) != n:
        raise MedbenchError(f"one cluster label per item: got {len(index)} labels for {n} items.")
    return index


def _draw(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(n, size=(resamples, n))
    drawn += np.arange(resamples)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n)


def _block_sizes(total: int, block: int) -> Iterator[int]:
    while total > 0:
        yield min(block, total)
        total -= block


def _paired_statistics(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 2 or len(a) == 0:
        raise MedbenchError(f"expected per-item statistics of the same items; got shapes {a.shape} and {b.shape}.")
    return a, b
