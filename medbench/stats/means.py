"""Means over items, and paired differences of means, where items may share a context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import Comparison, Interval, normal_quantile


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
    half = float(scipy.special.stdtrit(groups - 1, (1 + confidence) / 2)) * se
    return Interval(mean, mean - half, mean + half)


def bounded_mean(
    values: ArrayLike, top: float, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Interval:
    """The mean of values in 0 to `top` with a t interval on the logit scale: for per-item scores, which are skewed.

    Args as in `clustered_mean`. Half of its degrees of freedom, as for corpus scores (`bootstrap_interval`): with few
    skewed values the standard error itself is little known. Bounds are NaN where `clustered_mean`'s are, or where all
    values are 0 or all `top`.
    """
    plain = clustered_mean(values, clusters, confidence)
    se, groups = clustered_error(values, clusters)
    share = plain.estimate / top
    if not np.isfinite(se) or se == 0 or not 0 < share < 1:
        return Interval(plain.estimate, float("nan"), float("nan"))
    half = float(scipy.special.stdtrit((groups - 1) / 2, (1 + confidence) / 2)) * se / top / (share * (1 - share))
    low, high = (top * float(scipy.special.expit(scipy.special.logit(share) + side * half)) for side in (-1, 1))
    return Interval(plain.estimate, low, high)


def count_mean(values: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Interval:
    """The mean of counts per item with a Poisson interval (Garwood 1936), widened where counts vary more.

    Args as in `clustered_mean`, values 0 or more. The total is divided by the dispersion (variance of the mean over
    that of a Poisson mean, at least 1; t quantile over the normal one, squared): none seen in n items is at most
    3.7 / n.
    """
    x = _vector(values)
    if len(x) == 0:
        return Interval(float("nan"), 0.0, float("nan"))
    mean = float(x.mean())
    se, groups = clustered_error(x, clusters)
    dispersion = 1.0
    if mean > 0 and np.isfinite(se):
        t = float(scipy.special.stdtrit(groups - 1, (1 + confidence) / 2)) / normal_quantile(confidence)
        dispersion = max(1.0, se**2 * len(x) / mean * t**2)
    size, tail = len(x) / dispersion, (1 - confidence) / 2
    total = mean * size
    low = float(scipy.special.gammaincinv(total, tail)) / size if total > 0 else 0.0
    return Interval(mean, low, float(scipy.special.gammaincinv(total + 1, 1 - tail)) / size)


def paired_difference(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Comparison:
    """Mean of second minus first on the same items, in any unit: the clustered t interval and test.

    Args:
        first, second: shape (n,), the same items in the same order. Rates in 0-1 belong to `paired_rates`.
        clusters: shape (n,) or None.

    Bounds and p are NaN for fewer than two clusters, and where the differences do not vary.
    """
    a, b = _vector(first), _vector(second)
    if len(a) != len(b):
        raise MedbenchError(f"paired values must cover the same items; got {len(a)} and {len(b)}.")
    if len(a) == 0:
        return Comparison(*[float("nan")] * 4)
    difference = b - a
    mean = float(difference.mean())
    se, groups = clustered_error(difference, clusters)
    if not np.isfinite(se) or se == 0:
        return Comparison(mean, float("nan"), float("nan"), 1.0 if mean == 0 and groups > 1 else float("nan"))
    half = float(scipy.special.stdtrit(groups - 1, (1 + confidence) / 2)) * se
    p = float(2 * scipy.special.stdtr(groups - 1, -abs(mean) / se))
    return Comparison(mean, mean - half, mean + half, p)


@dataclass(frozen=True)
class Fieller:
    """The values that a ratio of two uncertain numbers may have.

    Attributes:
        estimate: the ratio of the estimates.
        low, high: bounds of the set where `kind` is ``bounded``; what is ruled out, all else being possible, where it
            is ``exclusive``; NaN where it is ``all`` (no value is ruled out).
        weak: the denominator lies less than 3.5 standard errors from 0: the ratio is skewed, its estimate unreliable.
    """

    estimate: float
    low: float
    high: float
    kind: str
    weak: bool


def fieller(numerator: float, denominator: float, covariance: np.ndarray, n: int, confidence: float = 0.95) -> Fieller:
    """Fieller's (1954) set for numerator over denominator: covers as stated however weak the denominator is.

    Args:
        covariance: shape (2, 2), of the two estimates, e.g. of bootstrap replicates.
        n: items (or clusters) behind them; n - 1 degrees of freedom, and the covariance is widened by n / (n - 1).
    """
    estimate = numerator / denominator if denominator else float("nan")
    if n < 2 or not np.isfinite(covariance).all():
        return Fieller(estimate, float("nan"), float("nan"), "all", True)
    (vn, vnd), (_, vd) = np.asarray(covariance, dtype=float) * n / (n - 1)
    t2 = float(scipy.special.stdtrit(n - 1, (1 + confidence) / 2)) ** 2
    # The set of r with (numerator - r denominator)^2 <= t2 var(numerator - r denominator): a parabola in r.
    a, b, c = denominator**2 - t2 * vd, numerator * denominator - t2 * vnd, numerator**2 - t2 * vn
    weak = denominator**2 < 3.5**2 * vd or vd <= 0
    root = b * b - a * c
    if vd <= 0 or (a <= 0 and root <= 0) or a == 0:
        return Fieller(estimate, float("nan"), float("nan"), "all", True)
    ends = sorted(((b - np.sqrt(max(root, 0.0))) / a, (b + np.sqrt(max(root, 0.0))) / a))
    return Fieller(estimate, float(ends[0]), float(ends[1]), "bounded" if a > 0 else "exclusive", bool(weak))


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
    half = float(scipy.special.stdtrit(fewest - 1, (1 + confidence) / 2)) * se
    p = float(2 * scipy.special.stdtr(fewest - 1, -abs(difference) / se)) if se > 0 else float("nan")
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


def _vector(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1:
        raise MedbenchError(f"expected one value per item, a flat list; got shape {x.shape}.")
    if np.isnan(x).any():
        raise MedbenchError(f"{int(np.isnan(x).sum())} of {len(x)} values are missing (NaN): drop those items first.")
    return x
