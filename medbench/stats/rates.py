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
from medbench.stats.proportions import Interval, clopper_pearson, normal_quantile

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


def effective_size(given: Units, confidence: float = 0.95, agree: float = 1.0) -> float:
    """How many independent yes-or-no answers know the rate as well.

    Args:
        agree: how far the parts of a unit are guessed to agree where the data cannot say: 1 wholly, 0 not at all.

    The variance between units (linearised ratio, G/(G-1)) is mixed with that of units whose parts `agree`, which
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
    unlike = centre * (1 - centre) * (agree / least + (1 - agree) / most)
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


def unit_sums(gap: np.ndarray, clusters: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Differences summed over the items of each unit, and the items per unit."""
    if clusters is None:
        return gap, np.ones(len(gap))
    labels = np.asarray(clusters)
    if labels.shape != gap.shape:
        raise MedbenchError(f"one cluster label per item: got {labels.shape} labels for {gap.shape} items.")
    _, index = np.unique(labels, return_inverse=True)
    return np.bincount(index, weights=gap), np.bincount(index).astype(float)


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
