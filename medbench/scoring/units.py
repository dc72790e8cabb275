"""What a score's number is, by the name of its metric, and the one interval that belongs to its mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medbench import stats

RATES = {
    "accuracy",
    "accuracy_answered",
    "accuracy_best",
    "answered",
    "answered_accuracy",
    "trace",
    "trace_unterminated",
    "trace_share",
    "refusal",
    "partial",
    "compliance",
    "support",
    "declined",
    "declined_in_part",
    "comprehensiveness",
    "contradicted",
    "claims_judged",
}
_SCORES = ("bleu", "rouge")  # 0-100
COUNTS = {"hallucination_rate"}  # of claims per answer: no share, and lower is better


def is_rate(metric: str) -> bool:
    """Whether a metric lies in 0-1 (the others are 0-100 scores, or have bounds of their own)."""
    return metric.removesuffix("_floor") in RATES or metric.startswith(("accuracy_", "answered_"))


def mean_interval(
    metric: str,
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    runs: ArrayLike | float = 1,
    confidence: float = 0.95,
) -> stats.Interval:
    """The mean of a metric over items: what the report, `medbench import` and tables of variance print.

    Args:
        metric: a name as in ``<metric>/<view>``.
        values: shape (n,), item means in the metric's unit, none missing.
        clusters: shape (n,), labels of the contexts that items share, or None.
        runs: outputs behind each item's mean.

    Returns:
        `stats.rate` for rates, `stats.bounded_mean` for 0-100 scores and probabilities, `stats.count_mean` for counts,
        else `stats.clustered_mean`.
    """
    x = np.asarray(values, dtype=float)
    if is_rate(metric):
        return stats.rate(x, clusters, runs, confidence)
    if metric.startswith(_SCORES):
        return stats.bounded_mean(x, 100.0, clusters, confidence)
    if metric in COUNTS:
        return stats.count_mean(x, clusters, confidence)
    if metric in ("margin", "mass") and len(x) and x.min() >= 0 and x.max() <= 1:
        return stats.bounded_mean(x, 1.0, clusters, confidence)
    return stats.clustered_mean(x, clusters, confidence)
