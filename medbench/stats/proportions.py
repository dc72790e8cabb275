"""Rates of one model, and of two models on the same or on different items."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError


class Interval(NamedTuple):
    """An estimate with its confidence bounds, in the unit of the estimate."""

    estimate: float
    low: float
    high: float


class Comparison(NamedTuple):
    """A difference (second minus first) with its confidence bounds and two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


class Discordance(NamedTuple):
    """How two models' right answers differ item by item: counts, and the exact McNemar p-value."""

    only_first: int
    only_second: int
    n: int
    p: float


def normal_quantile(confidence: float) -> float:
    """The two-sided standard normal quantile: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise MedbenchError(f"a confidence level lies strictly between 0 and 1, not {confidence!r}.")
    return float(scipy.special.ndtri((1 + confidence) / 2))


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927). Fractional counts are allowed: effective sample sizes.

    Returns Interval(NaN, 0, 1) for n = 0.

    Raises:
        MedbenchError: successes outside 0..n.
    """
    _check_counts(successes, n)
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0)
    z2 = normal_quantile(confidence) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2) / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def clopper_pearson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """The exact binomial interval (Clopper and Pearson 1934): covers at least `confidence` at every n.

    0 of 20 gives an upper bound of 0.168: none seen is not none. Fractional counts are allowed: effective sample sizes.
    Returns Interval(NaN, 0, 1) for n = 0.

    Raises:
        MedbenchError: successes outside 0..n.
    """
    _check_counts(successes, n)
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0)
    tail = (1 - confidence) / 2
    low = 0.0 if successes <= 0 else float(scipy.special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes >= n else float(scipy.special.betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(successes / n, low, high)


def mcnemar(first: ArrayLike, second: ArrayLike) -> Discordance:
    """Exact McNemar test of two models on the same items.

    Args:
        first: right or wrong (1/0) per item, first model.
        second: the same items in the same order, second model.

    Only the items that the two disagree on carry information: the p-value is the two-sided binomial one of their split.
    """
    a, b = binary_pair(first, second)
    only_first, only_second = int(np.sum(a & ~b)), int(np.sum(~a & b))
    return Discordance(only_first, only_second, len(a), float(_even_split_p(only_first, only_second)))


def mcnemar_matrix(right: np.ndarray) -> np.ndarray:
    """`mcnemar`'s p-values of all pairs, uncorrected: symmetric, shape (c, c), from 1/0 of shape (c, n)."""
    right = np.asarray(right, dtype=float)
    only_first = right @ (1 - right).T
    return _even_split_p(only_first, only_first.T)


def _even_split_p(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Two-sided exact p-value of a split of first + second coin tosses."""
    a, b = np.asarray(first), np.asarray(second)
    return np.minimum(1.0, 2 * scipy.special.bdtr(np.minimum(a, b), a + b, 0.5))


def unpaired_difference(
    first: float, first_n: int, second: float, second_n: int, confidence: float = 0.95
) -> Comparison:
    """Difference of two proportions from different items, for when only published totals are known.

    Args:
        first: proportion, 0-1, over `first_n` items; `second` likewise.

    The bounds are Newcombe's (1998, method 10, from two Wilson intervals); p is the pooled z-test's.
    """
    one, two = wilson(first * first_n, first_n, confidence), wilson(second * second_n, second_n, confidence)
    difference = second - first
    low = difference - np.hypot(second - two.low, one.high - first)
    high = difference + np.hypot(two.high - second, first - one.low)
    pooled = (first * first_n + second * second_n) / (first_n + second_n)
    se = np.sqrt(pooled * (1 - pooled) * (1 / first_n + 1 / second_n))
    p = 1.0 if se == 0 else float(2 * scipy.stats.norm.sf(abs(difference) / se))
    return Comparison(difference, float(low), float(high), p)


def binary_pair(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of 1/0 as booleans, checked to be of one length."""
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1:
        raise MedbenchError(f"paired values must be two lists of one length; got shapes {a.shape} and {b.shape}.")
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise MedbenchError("McNemar's test takes right (1) or wrong (0); for other values use paired_difference.")
    return a.astype(bool), b.astype(bool)


def _check_counts(successes: float, n: float) -> None:
    if not 0 <= successes <= n:
        raise MedbenchError(f"{successes} successes of {n} cannot be: expected 0 <= successes <= n.")
