"""Several runs of one item: how often they agree, and what k of them reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy

from medbench.errors import MedbenchError


def pass_at_k(right: np.ndarray, runs: np.ndarray, k: int) -> np.ndarray:
    """Chance that at least one of `k` runs is right, per item: the unbiased estimate of Chen et al. (2021).

    Args:
        right, runs: shape (n,), runs of each item that are right, and all of them.

    Returns:
        1 - C(runs - right, k) / C(runs, k); NaN for items with fewer than k runs.
    """
    return 1 - _all_of(np.asarray(runs) - np.asarray(right), np.asarray(runs), k)


def all_of_k(right: np.ndarray, runs: np.ndarray, k: int) -> np.ndarray:
    """Chance that all of `k` runs are right, per item: C(right, k) / C(runs, k), unbiased like `pass_at_k`."""
    return _all_of(np.asarray(right), np.asarray(runs), k)


def _all_of(hits: np.ndarray, runs: np.ndarray, k: int) -> np.ndarray:
    if k < 1:
        raise MedbenchError(f"k runs are at least one, not {k}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        share = scipy.special.comb(hits, k) / scipy.special.comb(runs, k)
    return np.where(runs >= k, share, np.nan)


def same_answer(answers: Sequence[Sequence[object]]) -> tuple[np.ndarray, np.ndarray]:
    """Agreement of each item's answers with one another.

    Args:
        answers: per item its runs' answers; an answer of None agrees with another None.

    Returns:
        shape (n,): 1 where all runs gave one answer, and the share of pairs of runs that agree; NaN for one run.
    """
    one, pairs = np.full(len(answers), np.nan), np.full(len(answers), np.nan)
    for index, given in enumerate(answers):
        if len(given) < 2:
            continue
        counts = np.array(list(Counter(given).values()))
        one[index] = float(len(counts) == 1)
        pairs[index] = float(np.sum(counts * (counts - 1)) / (len(given) * (len(given) - 1)))
    return one, pairs
