"""Two models, each asked with the wording that did best for it on other items: what their difference says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.paired import paired_rates
from medbench.stats.proportions import Comparison
from medbench.stats.rates import unit_sums


@dataclass(frozen=True)
class TunedComparison:
    """A paired difference under each model's own wording.

    Attributes:
        asked: the difference with these two wordings, as `paired_rates` has it: it says nothing of other wordings.
        general: the same difference, with bounds and p-value that also hold for wordings like those tried: NaN bounds
            where only one was tried.
        spread: standard deviation over wordings of the difference between the models, as seen on the tuning items
            (0-1, their noise included); NaN where only one was tried.
    """

    asked: Comparison
    general: Comparison
    spread: float


def tuned_rates(
    first: ArrayLike,
    second: ArrayLike,
    tuning_first: ArrayLike,
    tuning_second: ArrayLike,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> TunedComparison:
    """Rate of second minus first on the tested items, each asked with its best wording, and what else it holds for.

    Args:
        first, second: shape (n,), 0-1, the same tested items in the same order.
        tuning_first, tuning_second: shape (k, m), 0-1: the same k wordings on the same m tuning items.
        clusters: shape (n,) or None, of the tested items.

    Picking the wording adds chance that tested items don't show: two models of equal skill differ, because a wording
    suits one of them by luck, and with enough items that difference is "significant" (up to every second time in
    `benchmarks/tuned_prompts.py`). So a claim about the models counts the spread of their difference over wordings as
    one more variance beside that of items, on its k - 1 degrees of freedom (Satterthwaite's approximation): the bounds
    are d +- t sqrt(s_items^2 + s_wordings^2), never narrower than `asked`, and p is the larger of both. The spread is
    taken as seen on the tuning items, whose noise it includes: with few of them the claim errs on the careful side.

    Raises:
        MedbenchError: tuning scores of different wordings or items.
    """
    one, two = (np.atleast_2d(np.asarray(x, dtype=float)) for x in (tuning_first, tuning_second))
    if one.shape != two.shape or 0 in one.shape:
        raise MedbenchError(
            f"both models' tuning scores must be of the same wordings and items; got {one.shape} and {two.shape}."
        )
    asked = paired_rates(first, second, clusters, confidence)
    nan = float("nan")
    if len(one) < 2:
        return TunedComparison(asked, Comparison(asked.difference, nan, nan, nan), nan)
    gap = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    of_wordings = float((two.mean(axis=1) - one.mean(axis=1)).var(ddof=1))
    of_items, units = _variance_of_mean(gap, clusters)
    total = of_items + of_wordings
    if not total > 0:
        return TunedComparison(asked, asked, 0.0)
    freedom = total**2 / (of_items**2 / max(units - 1, 1) + of_wordings**2 / (len(one) - 1))
    half = float(scipy.special.stdtrit(freedom, (1 + confidence) / 2) * np.sqrt(total))
    p = float(2 * scipy.special.stdtr(freedom, -abs(asked.difference) / np.sqrt(total)))
    low, high = min(asked.low, asked.difference - half), max(asked.high, asked.difference + half)
    general = Comparison(asked.difference, max(-1.0, low), min(1.0, high), max(asked.p, p))
    return TunedComparison(asked, general, float(np.sqrt(of_wordings)))


def _variance_of_mean(gap: np.ndarray, clusters: ArrayLike | None) -> tuple[float, int]:
    """Of a mean over items, units of one cluster together; and how many units there are."""
    sums, weight = unit_sums(gap, clusters)
    units = len(sums)
    if units < 2:
        return 0.0, units
    square = float(np.sum((sums - gap.mean() * weight) ** 2))
    return square * units / (units - 1) / len(gap) ** 2, units
