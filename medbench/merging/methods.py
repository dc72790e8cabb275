"""What becomes of the updates to one weight: the registered methods, the weights by module, the terms that they give.

The methods live in `coefficients`, `factored` and `dense`, by what they look at (see `registry`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from medbench.errors import MedbenchError
from medbench.merging import coefficients, dense, factored  # noqa: F401  (their import registers the methods)
from medbench.merging.adapters import LowRank
from medbench.merging.coefficients import inner_products
from medbench.merging.exact import Term
from medbench.merging.registry import METHODS, Method, method

__all__ = ["METHODS", "Method", "Weights", "generator_for", "low_rank_terms", "matches", "method"]


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
        return [Term(found[n] * u.scale, u.left, u.right) for n, u in updates.items()], 0.0, 0.0
    pairs = [factored.Pair(n, weights[n], u.scale * u.b.double(), u.a.double()) for n, u in updates.items()]
    b, a = chosen.function(pairs, tensor, **settings)
    turned = next(iter(updates.values())).transposed
    left, right = (part.float().contiguous() for part in ((a.T, b.T) if turned else (b, a)))
    kept = LowRank(left, right, 1.0)
    gram = inner_products([kept, *updates.values()])
    signs = torch.tensor([-1.0, *(weights[name] for name in updates)], dtype=torch.float64)
    whole = signs.clone()
    whole[0] = 0
    return [Term(1.0, left, right)], max(0.0, float(signs @ gram @ signs)), float(whole @ gram @ whole)


def generator_for(seed: int, tensor: str) -> torch.Generator:
    """A generator of its own for each tensor, so that results do not depend on the order of streaming."""
    digest = hashlib.sha256(f"{seed}:{tensor}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Weights:
    """Weights by adapter, with overrides for some modules: the last override that matches decides.

    An override is a pattern, either ``layers:A-B`` (both ends included) or a shell pattern on the tensor's name
    (``*.mlp.*``), and its weights by adapter; adapters that it leaves out keep their default weight.
    """

    default: dict[str, float]
    overrides: tuple[tuple[str, dict[str, float]], ...] = field(default=())

    def at(self, tensor: str) -> dict[str, float]:
        """The weights for one tensor."""
        found = dict(self.default)
        for pattern, weights in self.overrides:
            if matches(pattern, tensor):
                found |= weights
        return found

    def normalised(self) -> Weights:
        """Every set of weights scaled to a sum of 1."""
        overrides = tuple((pattern, _to_one({**self.default, **part})) for pattern, part in self.overrides)
        return Weights(_to_one(self.default), overrides)


def _to_one(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    if total == 0:
        raise MedbenchError(f"weights {weights} sum to 0: they cannot be scaled to a sum of 1.")
    return {name: weight / total for name, weight in weights.items()}


def matches(pattern: str, tensor: str) -> bool:
    """Whether an override's pattern means this tensor."""
    if layers := re.fullmatch(r"layers:(\d+)(?:-(\d+))?", pattern):
        number = re.search(r"\.(\d+)\.", tensor)
        return number is not None and int(layers[1]) <= int(number[1]) <= int(layers[2] or layers[1])
    return fnmatch.fnmatchcase(tensor, pattern)
