"""What a data set of a given size can show, and where the variance of repeated runs lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from medbench.errors import MedbenchError
from medbench.stats.proportions import Interval


def detectable_from_se(se: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true difference that a two-sided test finds with `power`, from the difference's standard error."""
    return float((scipy.stats.norm.isf(alpha / 2) + scipy.stats.norm.ppf(power)) * se)


def detectable_difference(n: int, base: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest gain over proportion `base` that two *independent* sets of `n` items each show with `power`.

    Returns NaN where even a gain to 1 would be missed.
    """

    def shortfall(gain: float) -> float:
        return _unpaired_power(base, base + gain, n, alpha) - power

    if n < 1 or shortfall(1 - base) < 0:
        return float("nan")
    return float(scipy.optimize.brentq(shortfall, 1e-9, 1 - base))


def detectable_difference_paired(n: int, discordant: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest difference of two models on the *same* `n` items that McNemar's test shows with `power`.

    Args:
        discordant: share of items, 0-1, on which exactly one of the two is right.

    Connor's (1987) formula solved for the difference; it cannot exceed `discordant`: NaN where even that is missed.
    """
    z_alpha, z_power = float(scipy.stats.norm.isf(alpha / 2)), float(scipy.stats.norm.ppf(power))

    def excess(difference: float) -> float:
        spread = z_alpha * np.sqrt(discordant) + z_power * np.sqrt(max(0.0, discordant - difference**2))
        return float(difference * np.sqrt(n) - spread)

    if n < 1 or discordant <= 0 or excess(discordant) < 0:
        return float("nan")
    return float(scipy.optimize.brentq(excess, 0, discordant))


def items_needed(first: float, second: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Items per model, unpaired, for a two-sided test of two proportions to find their difference with `power`."""
    if first == second:
        raise MedbenchError("no number of items shows a difference of 0.")
    n = 2
    while _unpaired_power(first, second, n, alpha) < power:
        n *= 2
    low = n // 2
    while n - low > 1:
        middle = (low + n) // 2
        low, n = (middle, n) if _unpaired_power(first, second, middle, alpha) < power else (low, middle)
    return n


def _unpaired_power(first: float, second: float, n: int, alpha: float) -> float:
    mean = (first + second) / 2
    null = np.sqrt(2 * mean * (1 - mean))
    real = np.sqrt(first * (1 - first) + second * (1 - second))
    distance = abs(second - first) * np.sqrt(n) - scipy.stats.norm.isf(alpha / 2) * null
    return float(scipy.stats.norm.cdf(distance / real)) if real > 0 else float(distance > 0)


@dataclass(frozen=True)
class VarianceSplit:
    """Where the variance of repeated runs lies.

    Attributes:
        mean: mean over items of their mean over seeds, with a t interval over items. It speaks of new items *and* new
            seeds of the same setting.
        within: variance between seeds of one item.
        between: variance between items' true means (never below 0).
        seeds: mean number of seeds per item.
        same_items_se: standard error of the mean if the items stay and only the seeds change.
        within_share: share of one run's variance that comes from the seed rather than the item, 0-1, with a jackknife
            interval over items (or contexts) on the logit scale; bounds NaN where the items do not tell.
    """

    mean: Interval
    within: float
    between: float
    seeds: float
    same_items_se: float
    within_share: Interval


def variance_split(values: np.ndarray, confidence: float = 0.95, clusters: np.ndarray | None = None) -> VarianceSplit:
    """Split repeated runs into within-item and between-item variance (one-way random effects, Searle 1971).

    Args:
        values: shape (items, seeds), NaN where a run lacks the item; items without any run are left out.
        clusters: shape (items,), contexts that are left out together for the interval of the share, or None.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2:
        raise MedbenchError(f"expected values of shape (items, seeds), got {values.shape}.")
    here = np.isfinite(values).any(axis=1)
    values = values[here]
    labels = np.arange(len(values)) if clusters is None else np.asarray(clusters)[here]
    runs = np.isfinite(values).sum(axis=1)
    items, total = len(values), int(runs.sum())
    if items < 2:
        nan = float("nan")
        return VarianceSplit(Interval(nan, nan, nan), nan, nan, float(total), nan, Interval(nan, nan, nan))
    means = np.nanmean(values, axis=1)
    spread = total - items
    within = float(np.nansum((values - means[:, None]) ** 2) / spread) if spread > 0 else float("nan")
    grand = float(np.nansum(values) / total)
    between_square = float(np.sum(runs * (means - grand) ** 2) / (items - 1))
    typical = (total - float(np.sum(runs**2)) / total) / (items - 1)
    between = max(0.0, (between_square - within) / typical) if spread > 0 else float("nan")
    centre = float(means.mean())
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, items - 1) * means.std(ddof=1) / np.sqrt(items))
    same_items = float(np.sqrt(within * np.sum(1 / runs)) / items) if spread > 0 else float("nan")
    mean, share = Interval(centre, centre - half, centre + half), _within_share(values, labels, confidence)
    return VarianceSplit(mean, within, between, total / items, same_items, share)


def _within_share(values: np.ndarray, labels: np.ndarray, confidence: float) -> Interval:
    """The seeds' share of one run's variance, and its jackknife interval over units."""
    known = np.isfinite(values)
    runs = known.sum(axis=1).astype(float)
    means = np.nanmean(values, axis=1)
    square = np.where(known, (values - means[:, None]) ** 2, 0.0).sum(axis=1)
    # Everything the split needs is a sum over items, so that leaving units out is a subtraction.
    parts = np.stack([np.ones_like(runs), runs, runs**2, square, runs * means, runs * means**2], axis=1)
    _, index = np.unique(labels, return_inverse=True)
    units = np.stack([np.bincount(index, weights=column) for column in parts.T], axis=1)
    estimate = float(_share_of_sums(units.sum(axis=0)))
    without = _share_of_sums(units.sum(axis=0) - units)
    count = len(units)
    unknown = Interval(estimate, float("nan"), float("nan"))
    if count < 3 or not np.isfinite(without).all() or not 0 < estimate < 1:
        return unknown
    turned = scipy.special.logit(np.clip(without, 1e-4, 1 - 1e-4))
    se = float(np.sqrt((count - 1) / count * np.sum((turned - turned.mean()) ** 2)))
    if se < 1e-12:
        return unknown
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, (count - 1) / 2)) * se
    centre = float(scipy.special.logit(estimate))
    return Interval(estimate, float(scipy.special.expit(centre - half)), float(scipy.special.expit(centre + half)))


def _share_of_sums(sums: np.ndarray) -> np.ndarray:
    """Within over within plus between from sums over items, shape (..., 6); NaN where the sums do not tell."""
    items, total, squares, inside, weighted, both = np.moveaxis(np.asarray(sums, dtype=float), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = inside / (total - items)
        typical = (total - squares / total) / (items - 1)
        between = np.maximum(0.0, ((both - weighted**2 / total) / (items - 1) - within) / typical)
        return np.asarray(within / (within + between))
