"""One interval for every rate: any number of items, runs per item, shared contexts, and fractional item means.

A rate over items that each ran several times, or that share contexts, is known as well as one over some number of
independent yes-or-no answers: its effective size. Every interval here is the exact binomial one (Clopper and Pearson
1934) at that size, as Korn and Graubard (1998) do for surveys. It never collapses, at 0, at 1 or anywhere between,
and it is conservative: it covers at least the stated share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import Comparison, Interval, clopper_pearson, normal_quantile

# Weight, in items, of the prior guess that an item's runs (a context's items) all agree. Chosen by simulation: at less,
# a handful of items whose means happen to lie close pass for many independent answers (benchmarks/report_worlds.py).
_PRIOR_UNITS = 3.0


@dataclass(frozen=True)
class Units:
    """A rate's independent units: items, or the contexts that items share.

    Attributes:
        total: summed values per unit, shape (g,).
        weight: items per unit, shape (g,).
        outputs: outputs behind all of them: the effective size is never larger.
    """

    total: np.ndarray
    weight: np.ndarray
    outputs: float

    @property
    def mean(self) -> float:
        """The rate, 0-1."""
        return float(self.total.sum() / self.weight.sum())

    @property
    def fewest(self) -> float:
        """The effective size if everything within a unit agreed: the number of units, for units of one size."""
        return float(self.weight.sum() ** 2 / np.sum(self.weight**2))


def units(values: ArrayLike, clusters: ArrayLike | None = None, runs: ArrayLike | float = 1) -> Units:
    """Item means as independent units.

    Args:
        values: shape (n,), item means, 0-1.
        clusters: shape (n,), labels of the contexts that items share; None makes every item its own unit.
        runs: outputs per item, one number or shape (n,).

    Raises:
        MedbenchError: values outside 0-1 or missing, or labels that do not match.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 1:
        raise MedbenchError(f"expected one rate per item, a flat list; got shape {x.shape}.")
    if not np.all((x >= -1e-12) & (x <= 1 + 1e-12)):
        raise MedbenchError("rates lie in 0-1, none missing: drop items without a value first.")
    outputs = float(np.sum(np.broadcast_to(np.asarray(runs, dtype=float), x.shape)))
    if clusters is None:
        return Units(x, np.ones(len(x)), max(outputs, float(len(x))))
    labels = np.asarray(clusters)
    if labels.shape != x.shape:
        raise MedbenchError(f"one cluster label per item: got {labels.shape} labels for {x.shape} items.")
    _, index = np.unique(labels, return_inverse=True)
    return Units(np.bincount(index, weights=x), np.bincount(index).astype(float), max(outputs, float(len(x))))


def effective_size(given: Units, confidence: float = 0.95) -> float:
    """How many independent yes-or-no answers know the rate as well.

    The variance between units (linearised ratio, G/(G-1)) is mixed with that of units whose parts all agree, which
    weighs three units: where few units are neither all right nor all wrong, the data cannot say how much their parts
    agree. The result is divided by the square of the t over the normal quantile, and kept between the size if
    everything within a unit agreed and the number of outputs.
    """
    count = len(given.total)
    if count == 0:
        return 0.0
    least, most = given.fewest, max(given.outputs, given.fewest)
    if least >= most - 1e-9 or count < 2:
        return least
    items = float(given.weight.sum())
    # The prior's own rate is drawn to one half a little, so that "never" leaves it a variance.
    centre = (float(given.total.sum()) + 0.5) / (items + 1)
    unlike = centre * (1 - centre) / least
    deviations = given.total - given.mean * given.weight
    seen = float(deviations @ deviations) * count / (count - 1) / items**2
    # Units that are all wrong tell nothing of how much the others agree within themselves, nor do those all right.
    telling = min(int(np.sum(given.total > 1e-9)), int(np.sum(given.total < given.weight - 1e-9)))
    variance = (telling * seen + _PRIOR_UNITS * unlike) / (telling + _PRIOR_UNITS)
    t = float(scipy.special.stdtrit(telling + _PRIOR_UNITS, (1 + confidence) / 2)) / normal_quantile(confidence)
    spread = given.mean * (1 - given.mean)
    size = (spread if spread > 0 else centre * (1 - centre)) / variance / t**2
    return float(np.clip(size, least, most))


def rate(
    values: ArrayLike, clusters: ArrayLike | None = None, runs: ArrayLike | float = 1, confidence: float = 0.95
) -> Interval:
    """A rate over items with its interval.

    Args:
        values: shape (n,), item means over their runs, 0-1.
        clusters: shape (n,), labels of contexts that items share, or None.
        runs: outputs per item, one number or shape (n,).

    Returns:
        Interval(NaN, 0, 1) for no items. One run per item and no contexts: the exact binomial interval.
    """
    given = units(values, clusters, runs)
    if len(given.total) == 0:
        return Interval(float("nan"), 0.0, 1.0)
    return _interval(given, confidence)


def ratio_rate(
    part: ArrayLike,
    whole: ArrayLike,
    clusters: ArrayLike | None = None,
    runs: ArrayLike | float = 1,
    confidence: float = 0.95,
) -> Interval:
    """A rate among some of the outputs, e.g. accuracy among answered ones: summed part over summed whole.

    Args:
        part, whole: shape (n,), item means of both, 0-1, `part` never above `whole`.
        clusters, runs: as in `rate`, runs counting all outputs of an item.
    """
    above, below = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    here = below > 1e-12
    if not here.any():
        return Interval(float("nan"), 0.0, 1.0)
    counts = np.broadcast_to(np.asarray(runs, dtype=float), below.shape)[here] * below[here]
    total, weight = above[here], below[here]
    if clusters is not None:
        labels = np.asarray(clusters)[here]
        total, weight = unit_sums(total, labels)[0], unit_sums(weight, labels)[0]
    return _interval(Units(total, weight, max(float(counts.sum()), 1.0)), confidence)


def _interval(given: Units, confidence: float) -> Interval:
    size = effective_size(given, confidence)
    share = min(1.0, max(0.0, given.mean))
    bounds = clopper_pearson(share * size, size, confidence)
    return Interval(share, bounds.low, bounds.high)


def rate_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    runs: tuple[ArrayLike | float, ArrayLike | float] = (1, 1),
    confidence: float = 0.95,
) -> Interval:
    """Rate of second minus first over *different* items, from two exact intervals (Newcombe 1998, square and add).

    Args as in `rate`, one of each per side. Items of one context on both sides are taken as unrelated: conservative.
    """
    sides = clusters or (None, None)
    one = rate(first, sides[0], runs[0], confidence)
    two = rate(second, sides[1], runs[1], confidence)
    change = two.estimate - one.estimate
    low = change - np.hypot(two.estimate - two.low, one.high - one.estimate)
    high = change + np.hypot(two.high - two.estimate, one.estimate - one.low)
    return Interval(change, max(-1.0, float(low)), min(1.0, float(high)))


def paired_rates(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Comparison:
    """Rate of second minus first on the *same* items, with an interval that never collapses and an exact test.

    Args:
        first, second: shape (n,), item means, 0-1, the same items in the same order.
        clusters: shape (n,) or None.

    The interval is Bonett and Price's (2012): Wald's after adding one unit that the first alone gets right and one that
    the second alone gets right, here for any units: with item means or contexts the variance is that between units and
    the quantile t's. p is `sign_flip_p`'s, exact McNemar for single right-or-wrong answers. Where the test does not
    show a difference the interval is stretched to hold 0: the two never contradict each other in that direction.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise MedbenchError(f"paired values must cover the same items; got {len(a)} and {len(b)}.")
    gap = b - a
    if len(gap) == 0:
        return Comparison(*[float("nan")] * 4)
    sums, weight = unit_sums(gap, clusters)
    change = float(gap.mean())
    single = clusters is None and bool(np.isin(gap, (-1.0, 0.0, 1.0)).all())
    low, high = padded_interval(sums, weight, 1.0, confidence, normal=single)
    p = sign_flip_p(sums)
    if p >= 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    return Comparison(change, min(max(-1.0, low), change), max(min(1.0, high), change), p)


def unit_sums(gap: np.ndarray, clusters: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Differences summed over the items of each unit, and the items per unit."""
    if clusters is None:
        return gap, np.ones(len(gap))
    labels = np.asarray(clusters)
    if labels.shape != gap.shape:
        raise MedbenchError(f"one cluster label per item: got {labels.shape} labels for {gap.shape} items.")
    _, index = np.unique(labels, return_inverse=True)
    return np.bincount(index, weights=gap), np.bincount(index).astype(float)


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


def label_p(
    values: ArrayLike, flagged: ArrayLike, rng: np.random.Generator, clusters: ArrayLike | None = None
) -> float:
    """Two-sided p-value that a rate is the same on flagged and other items.

    Args:
        values: shape (n,), item means, 0-1.
        flagged: shape (n,), bool.
        clusters: shape (n,) or None; with them whole contexts change sides, among those of one size and number flagged.

    Fisher's exact test for single answers; otherwise the flags are dealt anew 4,999 times (Ernst 2004).
    """
    x, flag = np.asarray(values, dtype=float), np.asarray(flagged, dtype=bool)
    if not flag.any() or flag.all():
        return float("nan")
    if clusters is None and np.isin(x, (0.0, 1.0)).all():
        hit, other = x[flag], x[~flag]
        table = [[hit.sum(), (1 - hit).sum()], [other.sum(), (1 - other).sum()]]
        return float(scipy.stats.fisher_exact(table).pvalue)
    sums, weight = unit_sums(x, clusters)
    flags = unit_sums(flag.astype(float), clusters)[0]
    share = flags / weight  # of a context's items; its flags change places with those of others
    observed = abs(_side_gap(sums, weight, share[None])[0])
    dealt = rng.permuted(np.tile(share, (4999, 1)), axis=1)
    far = int(np.sum(np.abs(_side_gap(sums, weight, dealt)) >= observed - 1e-9))
    return (far + 1) / 5000


def _side_gap(sums: np.ndarray, weight: np.ndarray, share: np.ndarray) -> np.ndarray:
    hit, other = share @ weight, (1 - share) @ weight
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(share @ sums / hit - (1 - share) @ sums / other)
