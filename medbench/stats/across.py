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
        spread: standard deviation of the true differences between benchmarks (tau), in the differences' unit, with
            the Q-profile interval (Viechtbauer 2007), whose upper bound is never less than for differences as far apart
            as equal ones would be by chance: two that happen to agree, as counts do, do not make the spread certain.
        next: where the true difference on another benchmark of this kind is to be expected (prediction interval, from
            the spread's confidence distribution: Nagashima, Noma and Furukawa 2019); NaN for fewer than three.
        k: benchmarks.
    """

    mean: Comparison
    spread: Interval
    next: Interval
    k: int


def random_effects(effects: ArrayLike, errors: ArrayLike, confidence: float = 0.95) -> Pooled:
    """Random-effects mean of independent differences.

    Args:
        effects, errors: shape (k,), differences and their standard errors, all above 0.

    The spread is Paule and Mandel's (1982), the interval Hartung, Knapp, Sidik and Jonkman's with t on k - 1 degrees of
    freedom and never narrower than without their factor (Roever et al. 2015). One benchmark: nothing to average, bounds
    NaN.
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(errors, dtype=float) ** 2
    k, nan = len(y), float("nan")
    if k < 2:
        only = float(y[0]) if k else nan
        return Pooled(Comparison(only, nan, nan, nan), Interval(nan, nan, nan), Interval(only, nan, nan), k)
    tau2 = _between(y, v, k - 1)
    tail = (1 - confidence) / 2
    low, high = (_between(y, v, float(scipy.special.chdtri(k - 1, q))) for q in (tail, 1 - tail))
    median, least = (float(scipy.special.chdtri(k - 1, q)) for q in (0.5, 1 - tail))
    high = max(high, k / float(np.sum(1 / v)) * (median / least - 1))
    w = 1 / (v + tau2)
    mean = float(np.sum(w * y) / np.sum(w))
    factor = max(1.0, float(np.sum(w * (y - mean) ** 2) / (k - 1)))
    se = float(np.sqrt(factor / np.sum(w)))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, k - 1)) * se
    p = float(2 * scipy.stats.t.sf(abs(mean) / se, k - 1))
    return Pooled(
        Comparison(mean, mean - half, mean + half, p),
        Interval(*(float(np.sqrt(x)) for x in (tau2, low, high))),
        _another(y, v, mean, confidence) if k > 2 else Interval(mean, nan, nan),
        k,
    )


def _between(y: np.ndarray, v: np.ndarray, target: float) -> float:
    """The variance between effects under which their weighted squares around the mean add up to `target`; least 0."""

    def excess(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float(np.sum(w * (y - np.sum(w * y) / np.sum(w)) ** 2) - target)

    if excess(0.0) <= 0:
        return 0.0
    # With tau2 at this the sum is below the target, whatever the weights.
    top = float(np.sum((y - y.mean()) ** 2)) / target + float(v.max())
    return float(scipy.optimize.brentq(excess, 0.0, top))


# Draws of the confidence distribution: its 2.5% quantiles then vary by less than a twentieth of their distance.
_DRAWS = 4000


def _another(y: np.ndarray, v: np.ndarray, mean: float, confidence: float) -> Interval:
    """Where another true difference lies: the plug-in interval (Higgins et al. 2009) forgets that tau is uncertain.

    The weighted squares around the mean are a chi-square at the true variance between effects: each of its draws names
    one such variance. Around the mean under that variance, another difference varies by it and by the mean's own error.
    """
    k, rng = len(y), np.random.default_rng(0)
    grid = np.r_[0.0, np.geomspace(1e-4, 1e4, 400) * max(float(np.var(y)), float(v.mean()))]
    w = 1 / (v[None, :] + grid[:, None])
    means = np.sum(w * y, axis=1) / np.sum(w, axis=1)
    squares = np.sum(w * (y - means[:, None]) ** 2, axis=1)
    # Squares fall as the variance grows; interpolation wants them to ascend.
    tau2 = np.interp(rng.chisquare(k - 1, _DRAWS), squares[::-1], grid[::-1])
    at = np.interp(tau2, grid, means)
    errors = np.interp(tau2, grid, np.sqrt(np.maximum(squares / (k - 1), 1.0) / np.sum(w, axis=1)))
    drawn = at + np.sqrt(tau2) * rng.normal(size=_DRAWS) - errors * rng.standard_t(k - 1, _DRAWS)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, min(mean, float(low)), max(mean, float(high)))
