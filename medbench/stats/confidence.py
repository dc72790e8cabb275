"""Does a model know when it is right? Calibration of its probabilities, and risk against coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.paired import padded_interval
from medbench.stats.proportions import Interval
from medbench.stats.rates import effective_size, rate, unit_sums, units


@dataclass(frozen=True)
class Bin:
    """Outputs of like confidence: how sure they were on average, and how often they were right."""

    confidence: float
    accuracy: Interval
    n: int


@dataclass(frozen=True)
class Calibration:
    """Confidence in the given answer against being right. All intervals speak of outputs of these confidences.

    Attributes:
        ece: expected calibration error over bins of equal size, root mean square, with the part that chance alone adds
            taken off (Kumar, Liang and Ma 2019); 0-1, never below 0.
        brier: mean squared distance of confidence from being right (1) or wrong (0).
        over: mean confidence minus accuracy: above 0 is overconfident.
        bins: in order of confidence.
    """

    ece: Interval
    brier: Interval
    over: Interval
    bins: tuple[Bin, ...]
    n: int


def calibration(
    confidence: ArrayLike, right: ArrayLike, clusters: ArrayLike | None = None, bins: int = 10, level: float = 0.95
) -> Calibration:
    """Calibration of the probability of the given answer.

    Args:
        confidence: shape (n,), probability of the answer that was given, 0-1.
        right: shape (n,), 1 where it was right.
        clusters: shape (n,) or None: the item (where it ran several times) or context of each output.
        bins: of equal size; fewer where there are fewer than ten outputs to a bin.
        level: of the intervals. That of `brier` is the exact binomial one of as many units as there are, which is wide
            for a number in 0-1 that seldom is 0 or 1; that of `over` is `padded_interval`'s.

    Raises:
        MedbenchError: probabilities outside 0-1.
    """
    c, y = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if c.shape != y.shape or not np.all((c >= 0) & (c <= 1 + 1e-9)):
        raise MedbenchError("calibration takes one probability in 0-1 per answer.")
    labels = None if clusters is None else np.asarray(clusters)
    if len(c) < 2:
        unknown = Interval(*[float("nan")] * 3)
        return Calibration(unknown, unknown, unknown, (), len(c))
    order = np.argsort(c, kind="stable")
    parts = [part for part in np.array_split(order, max(1, min(bins, len(c) // 10))) if len(part) > 1]
    found = [
        Bin(float(c[part].mean()), rate(y[part], None if labels is None else labels[part], confidence=level), len(part))
        for part in parts
    ]
    sums, weight = unit_sums(c - y, labels)
    over = float((c - y).mean())
    low, high = padded_interval(sums, weight, 1.0, level, normal=False)
    gap = Interval(over, min(over, max(-1.0, low)), max(over, min(1.0, high)))
    error = _error(found, len(c) / effective_size(units(y, labels), level), level)
    return Calibration(
        error if len(found) > 1 else _one_bin(error.estimate, gap),
        rate(np.clip((c - y) ** 2, 0, 1), labels, confidence=level),
        gap,
        tuple(found),
        len(c),
    )


def _one_bin(estimate: float, gap: Interval) -> Interval:
    """Fewer than twenty outputs make one bin: its error is how far confidence and accuracy lie apart on the whole."""
    sides = sorted((abs(gap.low), abs(gap.high)))
    low = 0.0 if gap.low <= 0 <= gap.high else sides[0]
    return Interval(estimate, min(estimate, low), max(estimate, sides[1]))


def _error(bins: list[Bin], design: float, level: float) -> Interval:
    """Root mean square gap of the bins, with the interval that a noncentral chi-square leaves open.

    The bins' gaps are normal around their true values with the binomial variance, times `design` for outputs that hang
    together. Their weighted sum of squares over the mean variance is then a noncentral chi-square with a degree of
    freedom per bin; bounds are the noncentralities under which what was seen is no surprise. The bound above is never
    less than for a sum of squares that is typical of a perfectly calibrated model.
    """
    total = sum(b.n for b in bins)
    # A bin's squared gap is too large by the variance of its accuracy; a bin all right or all wrong has some, too.
    seen = sum(b.n * (b.confidence - b.accuracy.estimate) ** 2 for b in bins) / total
    added = sum(b.n * b.accuracy.estimate * (1 - b.accuracy.estimate) / (b.n - 1) for b in bins) / total
    shares = [(b.accuracy.estimate * b.n + 0.5) / (b.n + 1) for b in bins]
    noise = design * sum(b.n * s * (1 - s) / b.n for b, s in zip(bins, shares, strict=True)) / total
    count, square = len(bins), seen * len(bins) / noise
    tail = (1 - level) / 2
    low, high = 0.0, 0.0
    if scipy.special.chndtr(square, count, 0.0) > 1 - tail:
        low = float(scipy.special.chndtrinc(square, count, 1 - tail))
    high = float(scipy.special.chndtrinc(max(square, float(scipy.special.chdtri(count, 0.5))), count, tail))
    estimate = float(np.sqrt(max(0.0, seen - added)))
    bounds = np.sqrt(np.array([low, high]) * noise / count)
    return Interval(estimate, min(estimate, float(bounds[0])), min(1.0, max(estimate, float(bounds[1]))))


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Error rate among the most confident answers, for every share of answers kept.

    Returns:
        coverage and risk, shape (n,), from the surest answer alone to all of them; equal confidences count together.
    """
    c, y = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    order = np.argsort(-c, kind="stable")
    n = len(c)
    risk = np.cumsum(1 - y[order]) / np.arange(1, n + 1)
    if n:
        # Answers of one confidence are kept or dropped together: each gets the risk at the end of its run.
        last = np.r_[c[order][1:] != c[order][:-1], True]
        ends = np.flatnonzero(last)
        risk = risk[ends[np.searchsorted(ends, np.arange(n))]]
    return np.arange(1, n + 1) / max(1, n), risk


def risk_at(
    confidence: ArrayLike, right: ArrayLike, share: float, clusters: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Error rate among the surest `share` of answers, those as sure as the last of them included, with its interval.

    Args as in `calibration`. Answers are kept by confidence alone, so those kept are outputs like any others.
    """
    c, y = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if not len(c):
        return Interval(float("nan"), 0.0, 1.0)
    kept = c >= np.sort(c)[::-1][max(0, int(np.ceil(share * len(c))) - 1)]
    return rate(1 - y[kept], None if clusters is None else np.asarray(clusters)[kept], confidence=level)
