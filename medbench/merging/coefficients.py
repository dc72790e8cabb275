"""Merge methods that choose the coefficients of Equation (1): (weights, updates) by adapter -> coefficients by adapter.

They look at the updates only through their inner products, which come from the factors; the sum stays exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from medbench.errors import MedbenchError, unknown
from medbench.merging.registry import register
from medbench.merging.updates import LowRank, Update

_BLOCK = 1 << 20  # values of whole weights whose products are summed at a time


@register("linear", "coefficients", "Ilharco et al. 2023, Editing models with task arithmetic, arXiv:2212.04089")
def linear(weights: Mapping[str, float], updates: Mapping[str, Update]) -> dict[str, float]:
    """Equation (1): sum of w_i dW_i."""
    return {name: weights[name] for name in updates}


@register("soup", "coefficients", "Wortsman et al. 2022, Model soups, arXiv:2203.05482", normalise=True)
def soup(weights: Mapping[str, float], updates: Mapping[str, Update]) -> dict[str, float]:
    """Average of checkpoints of one run (Wortsman et al., 2022): weights are scaled to sum to 1 by the caller.

    The average is of the merged models, that is of dW; averaging A and B apart would mix the products.
    """
    return {name: weights[name] for name in updates}


@register("norm_preserving", "coefficients", "medbench, docs/merging.md")
def norm_preserving(weights: Mapping[str, float], updates: Mapping[str, Update]) -> dict[str, float]:
    """The linear sum, scaled per weight to the Frobenius norm sum |w_i| |dW_i|.

    Updates that are nearly orthogonal shorten each other in a linear sum (0.3 and 0.7 of equal ones to 0.76): this
    merge tells that attenuation from interference.
    """
    names = list(updates)
    gram = inner_products([updates[name] for name in names])
    vector = np.array([weights[name] for name in names])
    wanted = float(np.abs(vector) @ np.sqrt(np.maximum(gram.diagonal(), 0)))
    actual = float(max(vector @ gram @ vector, 0.0)) ** 0.5
    factor = wanted / actual if actual > 1e-9 * wanted else 1.0
    return {name: factor * weights[name] for name in names}


@register("project_out", "coefficients", "medbench, docs/merging.md")
def project_out(weights: Mapping[str, float], updates: Mapping[str, Update], *, remove: str) -> dict[str, float]:
    """The linear sum of the others, less its component along the update of `remove` (its own weight is not used).

    What is left is orthogonal to that update in every weight, by the Frobenius inner product.
    """
    if remove not in weights:
        raise unknown("adapter to project out", remove, weights)
    others = {name: weights[name] for name in updates if name != remove}
    if remove not in updates:
        return others
    gram = inner_products([updates[remove], *(updates[name] for name in others)])
    square = float(gram[0, 0])
    along = sum(weight * float(gram[0, at]) for at, weight in enumerate(others.values(), start=1))
    return {**others, remove: -along / square if square > 0 else 0.0}


@register("slerp", "coefficients", "Shoemake 1985, doi:10.1145/325334.325242")
def slerp(weights: Mapping[str, float], updates: Mapping[str, Update]) -> dict[str, float]:
    """Spherical interpolation of two updates, at t = the second weight's share; the sum of the weights multiplies it.

    dW = (w_1 + w_2) (sin((1 - t) a) dW_1 + sin(t a) dW_2) / sin(a), a being the angle between the updates. mergekit
    interpolates the fine-tuned weights themselves; beside the base's, two updates span almost no angle, and the result
    is the linear one. Nearly parallel updates (|cos| > 0.9995, as there) are interpolated linearly.
    """
    if len(weights) != 2:
        raise MedbenchError(f"slerp lies between two updates, and {len(weights)} adapters were given.")
    if len(updates) < 2:  # a weight that only one adapter changes
        return {name: weights[name] for name in updates}
    (first, one), (second, other) = ((name, weights[name]) for name in updates)
    total = one + other
    if min(one, other) < 0 or total == 0:
        raise MedbenchError(f"slerp needs weights of at least 0 that do not sum to 0; they are {one:g} and {other:g}.")
    t = other / total
    cosine = _cosines(updates)[0]
    if abs(cosine) > 0.9995:
        return {first: one, second: other}
    angle = math.acos(cosine)
    return {
        first: total * math.sin((1 - t) * angle) / math.sin(angle),
        second: total * math.sin(t * angle) / math.sin(angle),
    }


@register("model_stock", "coefficients", "Jang et al. 2024, Model Stock, arXiv:2403.19522", weighted=False)
def model_stock(weights: Mapping[str, float], updates: Mapping[str, Update]) -> dict[str, float]:
    """t times the mean update, t = k cos / (1 + (k - 1) cos) by weight; cos averages over the pairs of k updates.

    The coefficients come from the angles, so no weights are taken. At the pole of t the base is kept, as in mergekit.
    """
    count = len(updates)
    if count < 2:
        return dict.fromkeys(updates, 1.0)
    cosines = _cosines(updates)
    cosine = sum(cosines) / len(cosines)
    below = 1 + (count - 1) * cosine
    t = count * cosine / below if abs(below) >= 1e-6 else 0.0
    return dict.fromkeys(updates, t / count)


def _cosines(updates: Mapping[str, Update]) -> list[float]:
    """The cosine of each pair of updates, 0 where one of them is zero."""
    gram = inner_products(list(updates.values()))
    norms = np.sqrt(np.maximum(gram.diagonal(), 0))
    return [
        float(np.clip(gram[i, j] / (norms[i] * norms[j]), -1, 1)) if norms[i] * norms[j] > 0 else 0.0
        for i in range(len(gram))
        for j in range(i)
    ]


def inner_products(updates: Sequence[Update]) -> np.ndarray:
    """Frobenius inner products <dW_i, dW_j> in float64, [n, n]: from the factors, or by blocks where one is whole."""
    gram = np.zeros((len(updates), len(updates)))
    if all(isinstance(update, LowRank) for update in updates):
        return _of_factors(updates)  # type: ignore[arg-type]  # checked
    for i, one in enumerate(updates):
        for j, other in enumerate(updates[: i + 1]):
            gram[i, j] = gram[j, i] = _inner(one, other)
    return gram


def _of_factors(updates: Sequence[LowRank]) -> np.ndarray:
    """<L_i R_i, L_j R_j> = the sum of (L_i' L_j) * (R_i R_j')."""
    left = np.concatenate([update.left_array for update in updates], axis=1).astype(np.float64)
    right = np.concatenate([update.right_array for update in updates]).astype(np.float64)
    products = (left.T @ left) * (right @ right.T)
    ends = np.cumsum([0, *(update.rank for update in updates)]).tolist()
    parts = [slice(*pair) for pair in pairwise(ends)]
    scales = np.array([update.scale for update in updates])
    return np.array([[products[i, j].sum() for j in parts] for i in parts]) * np.outer(scales, scales)


def _inner(one: Update, other: Update) -> float:
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        return float(_of_factors([one, other])[0, 1])
    value = next(update.value for update in (one, other) if not isinstance(update, LowRank))
    step = max(1, _BLOCK // max(1, value[:1].numel()))
    blocks = ((at, min(at + step, len(value))) for at in range(0, len(value), step))
    return sum(float((one.rows(*rows) * other.rows(*rows)).sum()) for rows in blocks)
