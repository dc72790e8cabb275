"""What becomes of the updates to one weight: all registered methods, and the terms that they give.

The methods live in `coefficients`, `factored` and `dense`, by what they look at (see `registry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medbench.merging import coefficients, dense, factored  # noqa: F401  (their import registers the methods)
from medbench.merging.coefficients import inner_products
from medbench.merging.proof import Term
from medbench.merging.registry import METHODS, Method, method
from medbench.merging.updates import LowRank

__all__ = ["METHODS", "Method", "low_rank_terms", "method"]


def low_rank_terms(
    chosen: Method,
    settings: Mapping[str, Any],
    weights: Mapping[str, float],
    updates: Mapping[str, LowRank],
    tensor: str,
) -> tuple[list[Term], float, float]:
    """The low-rank terms that a coefficient or factor method makes of the updates to one weight.

    Returns the terms, and for a factor method the squared Frobenius norms of its distance from the weighted sum of
    Equation (1), and of that sum.
    """
    if not updates:
        return [], 0.0, 0.0
    if chosen.kind == "coefficients":
        found = chosen.function(weights, updates, **settings)
        return [update.term(found[name]) for name, update in updates.items()], 0.0, 0.0
    pairs = [factored.Pair(n, weights[n], u.scale * u.b.double(), u.a.double()) for n, u in updates.items()]
    b, a = chosen.function(pairs, tensor, **settings)
    turned = next(iter(updates.values())).transposed
    left, right = (part.float().contiguous() for part in ((a.T, b.T) if turned else (b, a)))
    kept = LowRank(left, right, 1.0)
    gram = inner_products([kept, *updates.values()])
    signs = np.array([-1.0, *(weights[name] for name in updates)])
    whole = signs.copy()
    whole[0] = 0
    return [Term(1.0, left, right)], max(0.0, float(signs @ gram @ signs)), float(whole @ gram @ whole)
