"""How many items, and how many runs of each, show a paired difference: from guesses or from a pilot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from medbench.errors import MedbenchError


@dataclass(frozen=True)
class PairSpread:
    """What decides how many items a paired comparison needs.

    Attributes:
        between: variance between items of the true paired difference (of item means over endlessly many runs).
        within: variance that one run of each model adds to an item's difference.
        design: how much larger the variance of a mean is because items share contexts, at least 1 is usual.
    """

    between: float
    within: float
    design: float = 1.0

    def variance(self, runs: int) -> float:
        """Variance of one item's measured difference with `runs` runs of each model, contexts included."""
        return self.design * (self.between + self.within / runs)


def guessed_spread(first: float, second: float, flips: float | None = None, between: float | None = None) -> PairSpread:
    """The spread of two models' single answers from guesses.

    Args:
        first, second: accuracies, 0-1.
        flips: share of items on which exactly one of the two is right; by default that of models which answer
            independently, the most that is usual.
        between: the part of that variance which stays when an item is run again, 0-1 of the whole; by default all of
            it: without a pilot nothing says that more runs help.

    Raises:
        MedbenchError: rates outside 0-1, or flips that such rates cannot have.
    """
    if not (0 <= first <= 1 and 0 <= second <= 1):
        raise MedbenchError(f"accuracies lie in 0-1: got {first:g} and {second:g}. 66 percent is 0.66.")
    least, most = abs(second - first), min(first + second, 2 - first - second)
    share = first * (1 - second) + second * (1 - first) if flips is None else flips
    if not least - 1e-9 <= share <= most + 1e-9:
        raise MedbenchError(
            f"accuracies {first:g} and {second:g} can flip between {least:g} and {most:g} of the items, not {share:g}."
        )
    variance = share - (second - first) ** 2
    stays = 1.0 if between is None else between
    return PairSpread(variance * stays, variance * (1 - stays))


def pilot_spread(first: np.ndarray, second: np.ndarray, clusters: np.ndarray | None = None) -> PairSpread:
    """The spread of two models from a pilot.

    Args:
        first, second: shape (items, runs), 1 right and 0 wrong, NaN where a run is missing; every item has one of each.
        clusters: shape (items,) or None.

    One pseudo-item is added that each gains alone: a pilot without flips does not prove that there are none.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    gap = np.nanmean(b, axis=1) - np.nanmean(a, axis=1)
    n = len(gap)
    if n < 2:
        raise MedbenchError(f"a pilot needs two items that both candidates have; got {n}.")
    padded = np.r_[gap, 1.0, -1.0]
    total = float(padded.var(ddof=1))
    noise = 0.0
    for side in (a, b):
        runs = np.isfinite(side).sum(axis=1)
        several = runs > 1
        if several.any():
            within = float(np.nanvar(side[several], axis=1, ddof=1).mean())
            noise += within / float(runs.mean())
    runs_mean = float((np.isfinite(a).sum() + np.isfinite(b).sum()) / (2 * n))
    noise = min(noise, total)
    design = 1.0
    if clusters is not None:
        _, index = np.unique(np.asarray(clusters), return_inverse=True)
        sums = np.bincount(index, weights=gap - gap.mean())
        plain = float(np.sum((gap - gap.mean()) ** 2))
        if len(sums) > 1 and plain > 0:
            design = max(1.0, float(sums @ sums) / plain)
    return PairSpread(total - noise, noise * runs_mean, design)


def items_for(spread: PairSpread, difference: float, runs: int = 1, power: float = 0.8, alpha: float = 0.05) -> int:
    """Items on which a two-sided paired test shows a true difference with `power` (normal approximation).

    Args:
        difference: 0-1, not 0.

    Raises:
        MedbenchError: a difference of 0: no number of items shows it.
    """
    if difference == 0:
        raise MedbenchError("no number of items shows a difference of 0; for 'as good as' name a margin instead.")
    z = float(scipy.stats.norm.isf(alpha / 2) + scipy.stats.norm.ppf(power))
    # An exact test cannot reach significance below six units that all go one way.
    return max(6, int(np.ceil(z**2 * spread.variance(runs) / difference**2)))


def items_for_equivalence(
    spread: PairSpread, margin: float, runs: int = 1, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Items on which two truly equal models are shown to differ by less than `margin`, 0-1, with `power` (TOST)."""
    if not margin > 0:
        raise MedbenchError(f"a margin is above 0, not {margin:g}.")
    z = float(scipy.stats.norm.isf(alpha) + scipy.stats.norm.ppf((1 + power) / 2))
    return max(6, int(np.ceil(z**2 * spread.variance(runs) / margin**2)))


def shown_by(spread: PairSpread, items: int, runs: int = 1, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true difference, 0-1, that so many items show with `power`."""
    z = float(scipy.stats.norm.isf(alpha / 2) + scipy.stats.norm.ppf(power))
    return float(z * np.sqrt(spread.variance(runs) / items))
