"""Means over items, and paired differences of means, where items may share a context."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import (
    Comparison,
    Interval,
    binary_pair,
    clopper_pearson,
    mcnemar,
    normal_quantile,
    wilson,
)


def clustered_mean(values: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Interval:
    """The mean of items with a t interval over clusters (items that share a passage, a patient, a source).

    Args:
        values: shape (n,), any unit.
        clusters: shape (n,), labels of any type; None makes every item its own cluster.

    The standard error is the cluster-robust one of an intercept-only regression with the G/(G-1) correction (Liang and
    Zeger 1986; Miller 2024 for model evaluation), with G - 1 degrees of freedom. One cluster leaves the bounds NaN.
    """
    x = _vector(values)
    if len(x) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    mean = float(x.mean())
    se, groups = clustered_error(x, clusters)
    if not np.isfinite(se):
        return Interval(mean, float("nan"), float("nan"))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, groups - 1)) * se
    return Interval(mean, mean - half, mean + half)


def clustered_proportion(values: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Interval:
    """A proportion with Wilson's interval, at the effective sample size where items share clusters.

    Args:
        values: shape (n,), 1/0.
        clusters: shape (n,) or None; without clusters this is `wilson`.

    n is divided by the design effect and by the square of the t over the normal quantile (Korn and Graubard 1998, who
    do so for the exact interval; Dean and Pagano 2015 for Wilson's). It never exceeds the number of items. With all
    answers right or all wrong the design effect is unknown, and each cluster counts once.
    """
    x = _vector(values)
    n = len(x)
    if clusters is None or n == 0:
        return wilson(float(x.sum()), n, confidence)
    share = float(x.mean())
    effective = _effective_size(x, clusters, confidence)
    if effective is None:
        return Interval(share, 0.0, 1.0)
    bounds = wilson(share * effective, effective, confidence)
    return Interval(share, bounds.low, bounds.high)


def clustered_exact(values: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Interval:
    """A proportion with the exact binomial interval, at the effective sample size where items share clusters.

    Args and effective size as in `clustered_proportion` (Korn and Graubard 1998); without clusters this is
    `clopper_pearson`.
    """
    x = _vector(values)
    if clusters is None or len(x) == 0:
        return clopper_pearson(int(x.sum()), len(x), confidence)
    share = float(x.mean())
    effective = _effective_size(x, clusters, confidence)
    if effective is None:
        return Interval(share, 0.0, 1.0)
    bounds = clopper_pearson(share * effective, effective, confidence)
    return Interval(share, bounds.low, bounds.high)


def _effective_size(x: np.ndarray, clusters: ArrayLike, confidence: float) -> float | None:
    """Items divided by the design effect and the t correction; None for fewer than two clusters."""
    share = float(x.mean())
    se, groups = clustered_error(x, clusters)
    if groups < 2:
        return None
    effective = share * (1 - share) / se**2 if se > 0 else float(groups)
    if groups < len(x):
        t = float(scipy.stats.t.ppf((1 + confidence) / 2, groups - 1))
        effective *= (normal_quantile(confidence) / t) ** 2
    return min(effective, float(len(x)))


def paired_difference(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Comparison:
    """Mean of second minus first on the same items.

    Args:
        first, second: shape (n,), the same items in the same order, any unit.
        clusters: shape (n,) or None.

    Right/wrong values without clusters: Bonett and Price's (2012) adjusted interval, which keeps a width when no item
    flips, and exact McNemar's p. Everything else: the clustered t interval and test; where the differences have no
    variance at all the adjusted interval is computed over clusters if the values are 1/0, and p is that of as many coin
    tosses on one side; both are NaN otherwise.
    """
    a, b = _vector(first), _vector(second)
    if len(a) != len(b):
        raise MedbenchError(f"paired values must cover the same items; got {len(a)} and {len(b)}.")
    if len(a) == 0:
        return Comparison(*[float("nan")] * 4)
    difference = b - a
    mean = float(difference.mean())
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    se, groups = clustered_error(difference, clusters)
    if binary and groups == len(a):
        low, high = _bonett_price(*_flips(a, b), len(a), confidence)
        return Comparison(mean, low, high, mcnemar(a, b).p)
    if not np.isfinite(se):
        return Comparison(mean, float("nan"), float("nan"), float("nan"))
    if se == 0:
        lost, gained = (groups if mean < 0 else 0), (groups if mean > 0 else 0)
        low, high = _bonett_price(lost, gained, groups, confidence) if binary else (float("nan"), float("nan"))
        # All differences are alike: what is left is their sign, once per cluster.
        alike = 2 * 0.5**groups if binary else float("nan")
        return Comparison(mean, low, high, 1.0 if mean == 0 else alike)
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, groups - 1)) * se
    p = float(2 * scipy.stats.t.sf(abs(mean) / se, groups - 1))
    return Comparison(mean, mean - half, mean + half, p)


def unpaired_mean_difference(
    first: ArrayLike,
    second: ArrayLike,
    confidence: float = 0.95,
    *,
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
) -> Comparison:
    """Mean of second minus first over different items: Welch's t interval and test.

    Args:
        clusters: labels of both sides' items, which may share clusters. The standard error is then the cluster-robust
            one of a regression on the side (Liang and Zeger 1986), with one degree of freedom less than the side with
            fewer clusters has: a handful of clusters on one side carries the difference.

    With fewer than two items (or clusters) on a side, or no variance at all, the bounds are NaN.
    """
    a, b = _vector(first), _vector(second)
    if clusters is not None:
        return _clustered_difference(a, b, clusters, confidence)
    if min(len(a), len(b)) < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        difference = float(b.mean() - a.mean()) if len(a) and len(b) else float("nan")
        return Comparison(difference, float("nan"), float("nan"), float("nan"))
    result = scipy.stats.ttest_ind(b, a, equal_var=False)
    bounds = result.confidence_interval(confidence)
    return Comparison(float(b.mean() - a.mean()), float(bounds.low), float(bounds.high), float(result.pvalue))


def _clustered_difference(
    a: np.ndarray, b: np.ndarray, clusters: tuple[ArrayLike, ArrayLike], confidence: float
) -> Comparison:
    labels = [np.asarray(side) for side in clusters]
    if [len(side) for side in labels] != [len(a), len(b)]:
        raise MedbenchError(f"one cluster label per item: got {len(labels[0])}, {len(labels[1])} labels.")
    difference = float(b.mean() - a.mean()) if len(a) and len(b) else float("nan")
    fewest = min(len(np.unique(side)) for side in labels)
    if fewest < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return Comparison(difference, float("nan"), float("nan"), float("nan"))
    _, index = np.unique(np.concatenate(labels), return_inverse=True)
    pull = np.concatenate([-(a - a.mean()) / len(a), (b - b.mean()) / len(b)])
    sums = np.bincount(index, weights=pull)
    se = float(np.sqrt(np.sum(sums**2) * len(sums) / (len(sums) - 1)))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, fewest - 1)) * se
    p = float(2 * scipy.stats.t.sf(abs(difference) / se, fewest - 1)) if se > 0 else float("nan")
    return Comparison(difference, difference - half, difference + half, p)


def clustered_error(values: ArrayLike, clusters: ArrayLike | None) -> tuple[float, int]:
    """Standard error of the mean and the number of clusters; NaN for fewer than two clusters."""
    x = _vector(values)
    if clusters is None:
        sums, groups = x - x.mean(), len(x)
    else:
        labels = np.asarray(clusters)
        if labels.shape != x.shape:
            raise MedbenchError(f"one cluster label per item: got {labels.shape} labels for {x.shape} items.")
        _, index = np.unique(labels, return_inverse=True)
        sums = np.bincount(index, weights=x - x.mean())
        groups = len(sums)
    if groups < 2:
        return float("nan"), groups
    error = float(np.sqrt(np.sum(sums**2) * groups / (groups - 1))) / len(x)
    # Constant values leave 1e-17 behind, which would pass for a very certain mean.
    return (0.0 if np.ptp(x) == 0 else error), groups


def _flips(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    first, second = binary_pair(a, b)
    return int(np.sum(first & ~second)), int(np.sum(~first & second))


def _bonett_price(only_first: int, only_second: int, n: int, confidence: float) -> tuple[float, float]:
    lost, gained = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    centre = gained - lost
    half = normal_quantile(confidence) * float(np.sqrt((gained + lost - centre**2) / (n + 2)))
    return max(-1.0, centre - half), min(1.0, centre + half)


def _vector(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1:
        raise MedbenchError(f"expected one value per item, a flat list; got shape {x.shape}.")
    if np.isnan(x).any():
        raise MedbenchError(f"{int(np.isnan(x).sum())} of {len(x)} values are missing (NaN): drop those items first.")
    return x
