"""One difference over several benchmarks: a mean of unlike things, and how far the things are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.stats.proportions import Comparison, Interval


@dataclass(frozen=True)
class Pooled:
    """A random-effects estimate.

    Attributes:
        mean: the average difference over benchmarks like these, with its interval and test.
        spread: standard deviation of the true differences between benchmarks (tau), in the differences' unit.
        next: where the true difference on another benchmark of this kind is to be expected (prediction interval); NaN
            for fewer than three.
        k: benchmarks.
    """

    mean: Comparison
    spread: float
    next: Interval
    k: int


def random_effects(effects: ArrayLike, errors: ArrayLike, confidence: float = 0.95) -> Pooled:
    """Random-effects mean of independent differences.

    Args:
        effects, errors: shape (k,), differences and their standard errors, all above 0.

    The spread is Paule and Mandel's (1982), the interval Hartung, Knapp, Sidik and Jonkman's with t on k - 1 degrees of
    freedom and never narrower than without their factor (Roever et al. 2015); the prediction interval is Higgins et
    al.'s (2009) with k - 2. One benchmark: nothing to average, bounds NaN.
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(errors, dtype=float) ** 2
    k, nan = len(y), float("nan")
    if k < 2:
        only = float(y[0]) if k else nan
        return Pooled(Comparison(only, nan, nan, nan), nan, Interval(only, nan, nan), k)

    def excess(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float(np.sum(w * (y - np.sum(w * y) / np.sum(w)) ** 2) - (k - 1))

    top = float(np.ptp(y) ** 2 * k + v.max())
    tau2 = 0.0 if excess(0.0) <= 0 else float(scipy.optimize.brentq(excess, 0.0, max(top, 1e-12)))
    w = 1 / (v + tau2)
    mean = float(np.sum(w * y) / np.sum(w))
    factor = max(1.0, float(np.sum(w * (y - mean) ** 2) / (k - 1)))
    se = float(np.sqrt(factor / np.sum(w)))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, k - 1)) * se
    p = float(2 * scipy.stats.t.sf(abs(mean) / se, k - 1))
    reach = nan
    if k > 2:
        reach = float(scipy.stats.t.ppf((1 + confidence) / 2, k - 2)) * float(np.sqrt(tau2 + 1 / np.sum(w)))
    return Pooled(
        Comparison(mean, mean - half, mean + half, p),
        float(np.sqrt(tau2)),
        Interval(mean, mean - reach, mean + reach),
        k,
    )
