"""Does a model know when it is right? Calibration of its probabilities, and risk against coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import Interval
from medbench.stats.rates import rate


@dataclass(frozen=True)
class Bin:
    """Outputs of like confidence: how sure they were on average, and how often they were right."""

    confidence: float
    accuracy: Interval
    n: int


@dataclass(frozen=True)
class Calibration:
    """Confidence in the given answer against being right.

    Attributes:
        ece: expected calibration error over bins of equal size, root mean square, with the part that chance alone adds
            taken off (Kumar, Liang and Ma 2019); 0-1, never below 0.
        ece_plain: the usual mean absolute gap, which is never 0 for a finite sample, however well calibrated.
        brier: mean squared distance of confidence from being right (1) or wrong (0), with its parts' sum.
        over: mean confidence minus accuracy: above 0 is overconfident.
        bins: in order of confidence.
    """

    ece: float
    ece_plain: float
    brier: float
    over: float
    bins: tuple[Bin, ...]
    n: int


def calibration(
    confidence: ArrayLike, right: ArrayLike, clusters: ArrayLike | None = None, bins: int = 10
) -> Calibration:
    """Calibration of the probability of the given answer.

    Args:
        confidence: shape (n,), probability of the answer that was given, 0-1.
        right: shape (n,), 1 where it was right.
        clusters: shape (n,) or None; they widen the bins' intervals.
        bins: of equal size; fewer where there are fewer than ten outputs to a bin.

    Raises:
        MedbenchError: probabilities outside 0-1.
    """
    c, y = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if c.shape != y.shape or not np.all((c >= 0) & (c <= 1 + 1e-9)):
        raise MedbenchError("calibration takes one probability in 0-1 per answer.")
    labels = None if clusters is None else np.asarray(clusters)
    nan = float("nan")
    if len(c) < 2:
        return Calibration(nan, nan, nan, nan, (), len(c))
    order = np.argsort(c, kind="stable")
    parts = [part for part in np.array_split(order, max(1, min(bins, len(c) // 10))) if len(part) > 1]
    squares = plain = total = 0.0
    found = []
    for part in parts:
        gap, hits = float(c[part].mean() - y[part].mean()), float(y[part].mean())
        # The squared gap of a bin is too large by the variance of its accuracy.
        squares += len(part) * (gap**2 - hits * (1 - hits) / (len(part) - 1))
        plain += len(part) * abs(gap)
        total += len(part)
        found.append(Bin(float(c[part].mean()), rate(y[part], None if labels is None else labels[part]), len(part)))
    ece = float(np.sqrt(max(0.0, squares / total)))
    return Calibration(
        ece, plain / total, float(np.mean((c - y) ** 2)), float(c.mean() - y.mean()), tuple(found), len(c)
    )


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
