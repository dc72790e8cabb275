"""Agreement of two labellings, and how well a score tells right from wrong answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import Interval, clopper_pearson, normal_quantile
from medbench.stats.rates import rate


def cohen_kappa(
    first: Sequence[object],
    second: Sequence[object],
    confidence: float = 0.95,
    *,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Cohen's kappa of two labellings of the same items.

    Args:
        clusters: shape (n,), labels of what belongs together (claims of one question); None makes items independent.

    The interval is the large-sample one of Fleiss et al. (1969); with clusters the jackknife's, which leaves out one
    cluster at a time, with t at one degree of freedom less than there are clusters. Returns NaN where chance agreement
    is complete (both use one and the same label), NaN bounds for fewer than three clusters.
    """
    if len(first) != len(second):
        raise MedbenchError(f"kappa compares labels of the same items; got {len(first)} and {len(second)}.")
    if len(first) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    labels = sorted(set(first) | set(second), key=str)
    index = {label: i for i, label in enumerate(labels)}
    a, b = np.array([index[label] for label in first]), np.array([index[label] for label in second])
    if clusters is not None:
        return _jackknifed(a, b, len(labels), np.asarray(clusters), confidence)
    table = _crossed(a, b, len(labels)) / len(a)
    rows, columns = table.sum(1), table.sum(0)
    agreed, chance = float(np.trace(table)), float(rows @ columns)
    if chance >= 1:
        return Interval(float("nan"), float("nan"), float("nan"))
    kappa = (agreed - chance) / (1 - chance)
    diagonal = np.sum(np.diag(table) * ((1 - chance) - (rows + columns) * (1 - agreed)) ** 2)
    weights = (columns[:, None] + rows[None, :]) ** 2
    off = np.sum((table - np.diag(np.diag(table))) * weights) * (1 - agreed) ** 2
    variance = (diagonal + off - (agreed * chance - 2 * chance + agreed) ** 2) / (len(a) * (1 - chance) ** 4)
    half = normal_quantile(confidence) * float(np.sqrt(max(0.0, variance)))
    return Interval(kappa, max(-1.0, kappa - half), min(1.0, kappa + half))


def _crossed(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    return np.bincount(a * k + b, minlength=k * k).reshape(k, k).astype(float)


def _kappa(tables: np.ndarray) -> np.ndarray:
    """Kappa of tables of counts, shape (..., k, k); NaN where chance agreement is complete."""
    total = tables.sum(axis=(-2, -1))
    agreed = np.trace(tables, axis1=-2, axis2=-1) / total
    chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / total**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1 - 1e-12, (agreed - chance) / (1 - chance), np.nan)


def _jackknifed(a: np.ndarray, b: np.ndarray, k: int, clusters: np.ndarray, confidence: float) -> Interval:
    if clusters.shape != a.shape:
        raise MedbenchError(f"one cluster label per item: got {clusters.shape} labels for {a.shape} items.")
    _, group = np.unique(clusters, return_inverse=True)
    groups = int(group.max()) + 1
    each = np.bincount((group * k + a) * k + b, minlength=groups * k * k).reshape(groups, k, k).astype(float)
    whole = each.sum(axis=0)
    kappa = float(_kappa(whole))
    if groups < 3 or not np.isfinite(kappa):
        return Interval(kappa, float("nan"), float("nan"))
    without = _kappa(whole - each)
    known = without[np.isfinite(without)]
    error = float(np.sqrt((groups - 1) / groups * np.sum((known - known.mean()) ** 2)))
    half = float(scipy.special.stdtrit(groups - 1, (1 + confidence) / 2)) * error
    return Interval(kappa, max(-1.0, kappa - half), min(1.0, kappa + half))


def auc(scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95) -> Interval:
    """Area under the ROC curve of `scores` for `labels` (1 = positive), ties counted half.

    Args:
        clusters: shape (n,), e.g. the item where several models answered it; None makes rows independent.

    The variance is DeLong et al.'s (1988), by placements, and Obuchowski's (1997) with clusters. The bounds are the
    exact binomial ones at the effective size that this variance stands for, divided by the square of the t over the
    normal quantile and never below the number of clusters that hold the rarer class: they stay in 0-1 and do not
    collapse where all pairs are in order. With one class absent everything is NaN.
    """
    x, y = np.asarray(scores, dtype=float), np.asarray(labels).astype(bool)
    if x.shape != y.shape or x.ndim != 1:
        raise MedbenchError(f"one label per score: got shapes {x.shape} and {y.shape}.")
    positives, negatives = int(y.sum()), int((~y).sum())
    if positives == 0 or negatives == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    ranks = scipy.stats.rankdata(x)
    # Share of the other class that each row beats (positives) or is beaten by (negatives).
    placement = np.empty(len(x))
    placement[y] = (ranks[y] - scipy.stats.rankdata(x[y])) / negatives
    placement[~y] = 1 - (ranks[~y] - scipy.stats.rankdata(x[~y])) / positives
    area = float(placement[y].mean())
    index = np.arange(len(x)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    fewest = min(len(np.unique(index[y])), len(np.unique(index[~y])))
    variance = _placement_variance(placement - area, y, index, clusters is not None)
    size = float(fewest)
    if fewest > 1 and variance > 0:
        t = float(scipy.stats.t.ppf((1 + confidence) / 2, fewest - 1)) / normal_quantile(confidence)
        size = float(np.clip(area * (1 - area) / variance / t**2, fewest, len(x)))
    bounds = clopper_pearson(area * size, size, confidence)
    return Interval(area, bounds.low, bounds.high)


def within_item_concordance(
    scores: np.ndarray, labels: np.ndarray, clusters: np.ndarray | None = None, confidence: float = 0.95
) -> tuple[Interval, int]:
    """Among outputs to one item, one right and one wrong: how often the right one scores higher.

    Args:
        scores: shape (items, outputs); labels: the same shape, 1 = right. NaN scores are left out.
        clusters: shape (items,), labels of contexts that items share, or None.

    Returns:
        The mean over items of the share of such pairs in which the right output has the higher score (ties half), with
        its interval over items as of any rate; and the number of items that have such a pair. 0.5 is chance.
    """
    shares, held, runs = [], [], []
    for item, (row, truth) in enumerate(zip(scores, labels, strict=True)):
        known = np.isfinite(row) & np.isfinite(truth)
        right, wrong = row[known & (truth == 1)], row[known & (truth == 0)]
        if len(right) and len(wrong):
            gap = right[:, None] - wrong[None, :]
            shares.append(float(np.mean((gap > 0) + 0.5 * (gap == 0))))
            held.append(item)
            # Pairs that share an output say little that is new: as many as outputs of the rarer kind.
            runs.append(min(len(right), len(wrong)))
    here = None if clusters is None else np.asarray(clusters)[held]
    return rate(np.array(shares), here, np.array(runs), confidence), len(shares)


def _placement_variance(centred: np.ndarray, positive: np.ndarray, index: np.ndarray, clustered: bool) -> float:
    m, n = int(positive.sum()), int((~positive).sum())
    groups = int(index.max()) + 1
    for_positives = np.bincount(index, weights=np.where(positive, centred, 0.0), minlength=groups)
    for_negatives = np.bincount(index, weights=np.where(positive, 0.0, centred), minlength=groups)
    with_positives = len(np.unique(index[positive]))
    with_negatives = len(np.unique(index[~positive]))
    if with_positives < 2 or with_negatives < 2:
        return float("nan")
    variance = (
        with_positives / (with_positives - 1) * float(for_positives @ for_positives) / m**2
        + with_negatives / (with_negatives - 1) * float(for_negatives @ for_negatives) / n**2
    )
    if clustered and groups > 1:
        variance += 2 * groups / (groups - 1) * float(for_positives @ for_negatives) / (m * n)
    return max(variance, 0.0)
