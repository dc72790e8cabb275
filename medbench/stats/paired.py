"""Two models on the same items: the difference of their rates, its exact test, and verdicts against a margin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import Comparison, Interval, clopper_pearson, normal_quantile
from medbench.stats.rates import Units, effective_size, unit_sums


def paired_rates(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Comparison:
    """Rate of second minus first on the *same* items, with an interval that never collapses and an exact test.

    Args:
        first, second: shape (n,), item means, 0-1, the same items in the same order.
        clusters: shape (n,) or None.

    Bounds: `gains_less_losses` of exact binomial intervals at the effective size; where items share contexts, t's
    (`padded_interval`), because few contexts that each hold gains and losses are no yes-or-no answers. p is
    `sign_flip_p`'s, exact McNemar for single right-or-wrong answers. The interval is stretched to hold 0 where the
    test does not show a difference, and ends at 0 where the test does: the two never contradict each other.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise MedbenchError(f"paired values must cover the same items; got {len(a)} and {len(b)}.")
    gap = b - a
    if len(gap) == 0:
        return Comparison(*[float("nan")] * 4)
    sums, weight = unit_sums(gap, clusters)
    change = float(gap.mean())
    if (weight == 1).all():
        low, high = _over_items(sums, confidence)
    else:
        low, high = padded_interval(sums, weight, 1.0, confidence, normal=False)
    p = sign_flip_p(sums)
    if p >= 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    elif change > 0:
        low = max(low, 0.0)
    else:
        high = min(high, 0.0)
    return Comparison(change, min(max(-1.0, low), change), max(min(1.0, high), change), p)


def _over_items(gap: np.ndarray, confidence: float) -> tuple[float, float]:
    # Single answers are known no better than one yes or no each; means over runs may be.
    outputs = float(len(gap)) if np.isin(gap, (-1.0, 0.0, 1.0)).all() else float("inf")
    parts = [Units(np.maximum(sign * gap, 0.0), np.ones(len(gap)), outputs) for sign in (1, -1)]
    sizes = [effective_size(part, confidence) for part in parts]
    gain, loss = (
        clopper_pearson(min(1.0, part.mean) * size, size, confidence) for part, size in zip(parts, sizes, strict=True)
    )
    return gains_less_losses(gain, loss, float(np.sqrt(sizes[0] * sizes[1])) / len(gap))


def gains_less_losses(gain: Interval, loss: Interval, tied: float = 1.0) -> tuple[float, float]:
    """Bounds of a paired difference of rates from two exact intervals: of what is gained, and of what is lost.

    Args:
        tied: how much more their estimates hang together than those of single answers do: over runs, effective size
            over items.

    Square and add (Newcombe 1998, method 10; with the correlation of the parts, Zou and Donner 2008). Gains and losses
    exclude each other, so their correlation is the multinomial one, taken at the pair of bounds that the limit is made
    of. Where all flips go one way the limit that matters is the exact bound of those flips: no symmetric interval has
    that, and a loss of just the margin would pass for "as good as" twice as often as stated. Checked by enumeration of
    all outcomes in `benchmarks/paired_exact.py`.
    """

    def half(up: float, down: float, share_gained: float, share_lost: float) -> float:
        apart = (1 - share_gained) * (1 - share_lost)
        together = min(1.0, tied * float(np.sqrt(share_gained * share_lost / apart))) if apart > 0 else 1.0
        return float(np.sqrt(up**2 + 2 * together * up * down + down**2))

    change = gain.estimate - loss.estimate
    low = change - half(gain.estimate - gain.low, loss.high - loss.estimate, gain.low, loss.high)
    high = change + half(gain.high - gain.estimate, loss.estimate - loss.low, gain.high, loss.low)
    return low, high


def padded_interval(
    sums: np.ndarray, weight: np.ndarray, reach: float, confidence: float, *, normal: bool
) -> tuple[float, float]:
    """Wald's interval of sum over weight after adding two typical units: one all `reach`, one all minus `reach`.

    Args:
        reach: the largest value that one item can have.
        normal: the normal quantile instead of t's with as many degrees of freedom as there were units.
    """
    typical = float(weight.mean())
    size, units_ = float(weight.sum()) + 2 * typical, len(sums) + 2
    centre = float(sums.sum()) / size
    square = float(np.sum((sums - centre * weight) ** 2)) + 2 * typical**2 * (reach**2 + centre**2)
    if not normal:
        square *= units_ / (units_ - 1)
    quantile = normal_quantile(confidence) if normal else float(scipy.special.stdtrit(units_ - 1, (1 + confidence) / 2))
    half = quantile * np.sqrt(square) / size
    return centre - float(half), centre + float(half)


# Values that are multiples of one over a number up to this have an exact sign-flip distribution.
_LARGEST_DENOMINATOR = 60


def sign_flip_p(sums: ArrayLike) -> float:
    """Two-sided p-value that paired differences favour neither side: each unit's sign is a fair coin's.

    Args:
        sums: shape (g,), differences summed over the items of each independent unit.

    The randomisation test of Fisher and Pitman, exact wherever the sums are multiples of one common fraction (means
    over runs are), by convolving the units' two-point distributions; McNemar's exact test for single answers. With k
    units that differ it cannot fall below 2 / 2**k. Sums without a common fraction: all 2**k signs up to k = 12, the
    normal distribution with the flips' variance above.
    """
    x = np.abs(np.asarray(sums, dtype=float))
    signed = float(np.sum(np.asarray(sums, dtype=float)))
    x = x[x > 1e-12]
    if len(x) == 0:
        return 1.0
    whole = _as_integers(x)
    if whole is not None:
        return _lattice_p(whole[0], round(abs(signed) * whole[1]))
    if len(x) <= 12:
        signs = 1 - 2 * ((np.arange(2 ** len(x))[:, None] >> np.arange(len(x))) & 1)
        return float(np.mean(np.abs(signs @ x) >= abs(signed) - 1e-9))
    return float(2 * scipy.special.ndtr(-abs(signed) / np.sqrt(x @ x)))


def _as_integers(x: np.ndarray) -> tuple[np.ndarray, int] | None:
    for scale in (1, 2, 3, 4, 5, 6, 8, 10, 12, 20, 30, _LARGEST_DENOMINATOR):
        scaled = x * scale
        if np.all(np.abs(scaled - np.round(scaled)) < 1e-6):
            return np.round(scaled).astype(int), scale
    return None


def _lattice_p(weights: np.ndarray, observed: int) -> float:
    """P(|sum of +-weights| >= observed), units of one weight at a time: their sum is binomial."""
    mass = np.ones(1)  # of sum of weights chosen positive, from 0
    for weight, count in zip(*np.unique(weights, return_counts=True), strict=True):
        step = np.zeros(int(weight) * int(count) + 1)
        chosen = np.arange(count + 1)
        logs = scipy.special.gammaln([count + 1, *(chosen + 1), *(count - chosen + 1)])
        step[:: int(weight)] = np.exp(logs[0] - logs[1 : count + 2] - logs[count + 2 :] - count * np.log(2))
        mass = np.convolve(mass, step) if min(len(mass), len(step)) < 500 else scipy.signal.fftconvolve(mass, step)
    # sum = 2 * positive - total
    total = int(weights.sum())
    position = np.abs(2 * np.arange(len(mass)) - total)
    return float(min(1.0, max(0.0, mass[position >= observed].sum())))


def sign_flip_matrix(values: np.ndarray, clusters: ArrayLike | None = None) -> np.ndarray:
    """`sign_flip_p` of all pairs of candidates, uncorrected.

    Args:
        values: shape (c, n), item means.

    Returns:
        shape (c, c), symmetric, 1 on the diagonal.
    """
    x = np.asarray(values, dtype=float)
    grouped = np.stack([unit_sums(row, clusters)[0] for row in x]) if len(x) else x
    if np.isin(grouped, (0.0, 1.0)).all():
        only = grouped @ (1 - grouped).T
        return np.minimum(1.0, 2 * scipy.special.bdtr(np.minimum(only, only.T), only + only.T, 0.5))
    p = np.ones((len(x), len(x)))
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            p[i, j] = p[j, i] = sign_flip_p(grouped[j] - grouped[i])
    return p


def least_p(groups: int) -> float:
    """The smallest two-sided p-value that a paired randomisation test over `groups` independent units can reach."""
    return float(min(1.0, 2.0 ** (1 - groups)))


@dataclass(frozen=True)
class Equivalence:
    """Whether a paired difference (second minus first) is shown to be too small to matter.

    Attributes:
        change: the difference with its two-sided interval and test.
        low, high: the 90% bounds that both one-sided tests at 5% read (two one-sided tests, Schuirmann 1987).
        margin: the largest difference that does not matter, > 0.
        verdict: ``equivalent`` (both bounds within the margin), ``not worse`` (second is not below first by the
            margin), ``better``, ``worse`` (a difference is shown that the margin does not excuse), or ``open``.
    """

    change: Comparison
    low: float
    high: float
    margin: float
    verdict: str


def equivalence(change: Comparison, narrow: Comparison, margin: float, alpha: float = 0.05) -> Equivalence:
    """The verdict of a difference against a margin.

    Args:
        change: with its interval at 1 - alpha; narrow: the same difference with its interval at 1 - 2 alpha.
        margin: in the difference's unit.

    Raises:
        MedbenchError: a margin that is not positive.
    """
    if not margin > 0:
        raise MedbenchError(f"a margin is the largest difference that does not matter: above 0, not {margin!r}.")
    above, below = narrow.low > -margin, narrow.high < margin
    if above and below:
        verdict = "equivalent"
    elif change.p < alpha and change.difference > 0:
        verdict = "better"
    elif above:
        verdict = "not worse"
    elif change.p < alpha and change.difference < 0:
        verdict = "worse"
    else:
        verdict = "open"
    return Equivalence(change, narrow.low, narrow.high, margin, verdict)
