"""Merge methods on dense updates: (some rows of the updates, weights) -> the same rows of the combined update.

The sparsifying ones act on dW itself, whereas PEFT applies the same arithmetic to A and B one by one. What they ask
about a whole update (its largest values) is found once for all its rows (`deltas`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np

from medbench.errors import MedbenchError
from medbench.merging.deltas import Part
from medbench.merging.registry import Check, Density, Share, register
from medbench.merging.selection import split

Arrays = Sequence[np.ndarray]
Weights = Sequence[float]


def prune_small(update: np.ndarray, density: float) -> np.ndarray:
    """Keep the `density` largest values of a whole array by magnitude, set the others to zero."""
    sizes = np.abs(update)
    smallest = split(lambda: iter([sizes.reshape(-1)]), sizes.size, sizes.size - int(density * sizes.size))
    return np.where(smallest.below(sizes), 0, update)


def _pruned(part: Part, density: float) -> list[np.ndarray]:
    """The same for rows of each update, by its size in the whole weight."""
    drop = part.whole.size - int(density * part.whole.size)
    return [np.where(_smallest(part, at, drop), 0, update) for at, update in enumerate(part.updates)]


def _smallest(part: Part, at: int, rank: int) -> np.ndarray:
    """Which values of an update are among its `rank` smallest by magnitude."""
    limit = part.whole.smallest(("size", at), lambda other: np.abs(other.updates[at]), rank)
    return limit.below(np.abs(part.updates[at]), part.first)


def _drop_and_rescale(part: Part, density: float, seed: int) -> list[np.ndarray]:
    """DARE: keep each value with probability `density`, divided by it."""
    if density == 1:
        return part.updates
    return [
        np.where(part.whole.uniform(part, at, seed) < density, update / np.float32(density), 0)
        for at, update in enumerate(part.updates)
    ]


def _weighted(updates: Arrays, weights: Weights) -> np.ndarray:
    total = np.zeros_like(updates[0])
    for update, weight in zip(updates, weights, strict=True):
        total += update.dtype.type(weight) * update
    return total


def elect_and_average(updates: Arrays, weights: Weights) -> np.ndarray:
    """TIES: per element, the mean of the weighted updates whose sign is that of the plain sum."""
    positive = sum(updates[1:], updates[0]) >= 0
    total, count = np.zeros_like(updates[0]), np.zeros(updates[0].shape, np.uint8)
    for update, weight in zip(updates, weights, strict=True):
        agrees = np.where(positive, update > 0, update < 0)
        total += update.dtype.type(weight) * np.where(agrees, update, 0)
        count += agrees
    return total / np.maximum(count, 1).astype(total.dtype)


@register("magnitude_prune", "dense", "Han et al. 2015, arXiv:1506.02626, as in PEFT")
def magnitude_prune(part: Part, weights: Weights, *, density: Density = 0.5) -> np.ndarray:
    """Weighted sum of updates of which only the largest values are kept."""
    return _weighted(_pruned(part, density), weights)


@register("ties", "dense", "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708")
def ties(part: Part, weights: Weights, *, density: Density = 0.5) -> np.ndarray:
    """Trim, elect signs, average those that agree.

    Weights do not sum as in Equation (1): each value is divided by the number of updates that agree there.
    """
    return elect_and_average(_pruned(part, density), weights)


@register("dare_linear", "dense", "Yu et al. 2024, DARE, arXiv:2311.03099")
def dare_linear(part: Part, weights: Weights, *, density: Density = 0.5, seed: int = 0) -> np.ndarray:
    """Weighted sum of randomly thinned and rescaled updates."""
    return _weighted(_drop_and_rescale(part, density, seed), weights)


@register("dare_ties", "dense", "Yu et al. 2024, DARE, arXiv:2311.03099")
def dare_ties(part: Part, weights: Weights, *, density: Density = 0.5, seed: int = 0) -> np.ndarray:
    """DARE's thinning followed by TIES' election of signs."""
    return elect_and_average(_drop_and_rescale(part, density, seed), weights)


@register("della", "dense", "Deep et al. 2024, DELLA-Merging, arXiv:2406.11617")
def della(
    part: Part,
    weights: Weights,
    *,
    density: Density = 0.5,
    epsilon: Annotated[float, Check(lambda value: 0 <= value < 1, "expected a width of at least 0 and below 1")] = 0.2,
    seed: int = 0,
) -> np.ndarray:
    """Drop by magnitude and rescale (MAGPRUNE), then elect signs and average those that agree.

    Within each row the chance to be kept rises evenly with the rank of the magnitude, from density - epsilon / 2 to
    density + epsilon / 2, and what is kept is divided by its chance. mergekit's epsilon is half of this one, and it
    rescales to the l1 norm instead.
    """
    if density < 1 and not (density - epsilon / 2 > 0 and density + epsilon / 2 <= 1):
        raise MedbenchError(f"della: density {density:g} with epsilon {epsilon:g} leaves the range of chances (0, 1].")
    if density == 1:
        return elect_and_average(part.updates, weights)
    pruned = []
    for at, update in enumerate(part.updates):
        ranks = np.abs(update).argsort(axis=1, kind="stable").argsort(axis=1)
        chance = density - epsilon / 2 + epsilon * ranks / max(update.shape[1] - 1, 1)
        kept = part.whole.uniform(part, at, seed) < chance
        pruned.append(np.where(kept, update / chance, 0).astype(update.dtype))
    return elect_and_average(pruned, weights)


@register("breadcrumbs", "dense", "Davari and Belilovsky 2024, Model Breadcrumbs, arXiv:2312.06795")
def breadcrumbs(part: Part, weights: Weights, *, density: Density = 0.9, gamma: Share = 0.01) -> np.ndarray:
    """Weighted sum of updates without their largest values (the share gamma) and their smallest: density of them stay.

    As in mergekit, fewer of the largest are dropped where density and gamma sum to more than 1.
    """
    size = part.whole.size
    keep = int(density * size)
    skip = max(0, size - keep - int(gamma * size))
    between = [
        np.where(_smallest(part, at, skip + keep) & ~_smallest(part, at, skip), update, 0)
        for at, update in enumerate(part.updates)
    ]
    return _weighted(between, weights)


@register("sce", "dense", "Wan et al. 2024, FuseChat, arXiv:2408.07990", weighted=False)
def sce(part: Part, weights: Weights, *, select_topk: Density = 1.0) -> np.ndarray:
    """Select the elements of largest variance, weigh each update by its squares, erase minority signs.

    The weights are found, so none are taken. mergekit weighs updates evenly where their mean squares sum to less than
    1e-6, which adapters' nearly always do; here only where they are zero.
    """
    stack = _selected(part, select_topk)
    whole = part.whole
    squares = whole.once(
        "squares", lambda: np.sum([_squares(_selected(p, select_topk)) for p in whole.parts()], axis=0)
    )
    shares = squares / squares.sum() if squares.sum() > 0 else np.full(len(squares), 1 / len(squares))
    sign = np.where(stack.sum(axis=0) >= 0, 1, -1)
    agreeing = (np.sign(stack) == sign) * shares.astype(stack.dtype)[:, None, None]
    below = agreeing.sum(axis=0)
    combined: np.ndarray = (stack * agreeing).sum(axis=0) / np.where(below > 0, below, 1)
    return combined


def _selected(part: Part, select_topk: float) -> np.ndarray:
    """The updates' rows, [updates, rows, columns], without the elements that vary less than the chosen share."""
    stack = np.stack(part.updates)
    if select_topk == 1:
        return stack
    whole = part.whole
    varying = whole.once("varying", lambda: sum(int(np.count_nonzero(_variance(other))) for other in whole.parts()))
    limit = whole.smallest("variance", _variance, whole.size - int(select_topk * varying))
    return np.where(limit.below(_variance(part), part.first), 0, stack)


def _variance(part: Part) -> np.ndarray:
    return np.stack(part.updates).var(axis=0)


def _total(arrays: Iterable[np.ndarray]) -> np.ndarray:
    total: np.ndarray = np.sum(list(arrays), axis=0)
    return total


def _squares(stack: np.ndarray) -> np.ndarray:
    """The sum of each update's squares, float64."""
    return np.einsum("kij,kij->k", stack, stack, dtype=np.float64)
