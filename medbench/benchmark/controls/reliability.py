"""Right under all variations of an item, and answered the same: ReMedQA's ReAcc and ReCon, per item.

Cocchieri et al., "ReMedQA: Are We Done With Medical Multiple-Choice Benchmarks?", EACL 2026 (2026.eacl-long.124): ReAcc
is the share of questions answered correctly across all variations, ReCon the share answered consistently regardless of
correctness. Where the paper leaves something open, the published code is followed (disi-unibo-nlp/remedqa,
src/utils/calculate_rel_scores.py): a variation that an item does not have is passed over, no answer is wrong, and a
variation without an answer takes no part in consistency.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def right_under_all(right: ArrayLike) -> np.ndarray:
    """Whether each item is right under every variation that it was asked in.

    Args:
        right: shape (variations, items), 1 or 0; NaN where an item was not asked in a variation.

    Returns:
        shape (items,), 1 or 0; NaN for an item that was not asked at all. Its mean is ReAcc, 0-1.
    """
    x = np.asarray(right, dtype=float)
    asked = np.isfinite(x)
    every = np.where(asked, x, 1.0).min(axis=0, initial=1.0)
    return np.where(asked.any(axis=0), (every >= 1.0).astype(float), np.nan)


def answered_the_same(answers: Sequence[Sequence[object]]) -> np.ndarray:
    """Whether each item got one and the same answer under all variations.

    Args:
        answers: per item one answer for each variation, in the letters of the original; None for no answer.

    Returns:
        shape (items,), 1 or 0; NaN for an item that was never answered. Its mean is ReCon, 0-1.
    """
    distinct = [len({answer for answer in given if answer is not None}) for given in answers]
    return np.array([float(count == 1) if count else np.nan for count in distinct])
