"""Merge methods on dense updates: (updates [rows, columns], weights, generator) -> update.

The sparsifying ones act on dW itself, whereas PEFT applies the same arithmetic to A and B one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch

from medbench.errors import MedbenchError
from medbench.merging.registry import Check, Density, Share, register

Updates = Sequence[torch.Tensor]
Weights = Sequence[float]


def prune_small(update: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the `density` largest values by magnitude, set the others to zero."""
    drop = update.numel() - int(density * update.numel())
    if drop == 0:
        return update
    # Partitioning one copy takes a tenth of the memory that topk does, which sorts pairs of values and positions.
    sizes = update.abs().reshape(-1)
    limit = float(np.partition(sizes.cpu().numpy(), drop - 1)[drop - 1])
    dropped = sizes < limit
    # Of those that are as large as the limit, the first ones.
    equal = (sizes == limit).nonzero().reshape(-1)
    dropped[equal[: drop - int(torch.count_nonzero(dropped))]] = True
    return update.masked_fill(dropped.reshape(update.shape), 0.0)


def _drop_and_rescale(update: torch.Tensor, density: float, generator: torch.Generator) -> torch.Tensor:
    """DARE: keep each value with probability `density`, divided by it."""
    if density == 1:
        return update
    kept = torch.bernoulli(torch.full(update.shape, density), generator=generator)
    return update * kept.to(update.device, update.dtype) / density


def _weighted(updates: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    total = torch.zeros_like(updates[0])
    for update, weight in zip(updates, weights, strict=True):
        total += weight * update
    return total


def elect_and_average(updates: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """TIES: per element, the mean of the weighted updates whose sign is that of the plain sum."""
    sign = torch.where(_weighted(updates, [1.0] * len(updates)) >= 0, 1.0, -1.0)
    total, count = torch.zeros_like(updates[0]), torch.zeros_like(updates[0])
    for update, weight in zip(updates, weights, strict=True):
        agrees = update.sign() == sign
        total += weight * update * agrees
        count += agrees
    return total / count.clamp_min(1)


@register("magnitude_prune", "dense", "Han et al. 2015, arXiv:1506.02626, as in PEFT")
def magnitude_prune(
    updates: Updates, weights: Weights, generator: torch.Generator, *, density: Density = 0.5
) -> torch.Tensor:
    """Weighted sum of updates of which only the largest values are kept."""
    return _weighted([prune_small(update, density) for update in updates], weights)


@register("ties", "dense", "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708")
def ties(updates: Updates, weights: Weights, generator: torch.Generator, *, density: Density = 0.5) -> torch.Tensor:
    """Trim, elect signs, average those that agree.

    Weights do not sum as in Equation (1): each value is divided by the number of updates that agree there.
    """
    return elect_and_average([prune_small(update, density) for update in updates], weights)


@register("dare_linear", "dense", "Yu et al. 2024, DARE, arXiv:2311.03099")
def dare_linear(
    updates: Updates, weights: Weights, generator: torch.Generator, *, density: Density = 0.5, seed: int = 0
) -> torch.Tensor:
    """Weighted sum of randomly thinned and rescaled updates."""
    return _weighted([_drop_and_rescale(update, density, generator) for update in updates], weights)


@register("dare_ties", "dense", "Yu et al. 2024, DARE, arXiv:2311.03099")
def dare_ties(
    updates: Updates, weights: Weights, generator: torch.Generator, *, density: Density = 0.5, seed: int = 0
) -> torch.Tensor:
    """DARE's thinning followed by TIES' election of signs."""
    return elect_and_average([_drop_and_rescale(update, density, generator) for update in updates], weights)


@register("della", "dense", "Deep et al. 2024, DELLA-Merging, arXiv:2406.11617")
def della(
    updates: Updates,
    weights: Weights,
    generator: torch.Generator,
    *,
    density: Density = 0.5,
    epsilon: Annotated[float, Check(lambda value: 0 <= value < 1, "expected a width of at least 0 and below 1")] = 0.2,
    seed: int = 0,
) -> torch.Tensor:
    """Drop by magnitude and rescale (MAGPRUNE), then elect signs and average those that agree.

    Within each row the chance to be kept rises evenly with the rank of the magnitude, from density - epsilon / 2 to
    density + epsilon / 2, and what is kept is divided by its chance. mergekit's epsilon is half of this one, and it
    rescales to the l1 norm instead.
    """
    if density < 1 and not (density - epsilon / 2 > 0 and density + epsilon / 2 <= 1):
        raise MedbenchError(f"della: density {density:g} with epsilon {epsilon:g} leaves the range of chances (0, 1].")
    pruned = [update if density == 1 else _magprune(update, density, epsilon, generator) for update in updates]
    return elect_and_average(pruned, weights)


def _magprune(update: torch.Tensor, density: float, epsilon: float, generator: torch.Generator) -> torch.Tensor:
    rows = update if update.ndim > 1 else update[None]
    ranks = rows.abs().argsort(dim=1).argsort(dim=1).to(update.dtype)
    chance = density - epsilon / 2 + epsilon * ranks / max(rows.shape[1] - 1, 1)
    kept = torch.bernoulli(chance.cpu(), generator=generator).to(update.device)
    return (rows * kept / chance).reshape(update.shape)


@register("breadcrumbs", "dense", "Davari and Belilovsky 2024, Model Breadcrumbs, arXiv:2312.06795")
def breadcrumbs(
    updates: Updates, weights: Weights, generator: torch.Generator, *, density: Density = 0.9, gamma: Share = 0.01
) -> torch.Tensor:
    """Weighted sum of updates without their largest values (the share gamma) and their smallest: density of them stay.

    As in mergekit, fewer of the largest are dropped where density and gamma sum to more than 1.
    """
    return _weighted([_between(update, density, gamma) for update in updates], weights)


def _between(update: torch.Tensor, density: float, gamma: float) -> torch.Tensor:
    count = update.numel()
    keep = int(density * count)
    skip = max(0, count - keep - int(gamma * count))
    order = update.abs().reshape(-1).argsort(stable=True)
    kept = torch.zeros_like(update).reshape(-1)
    middle = order[skip : skip + keep]
    kept[middle] = update.reshape(-1)[middle]
    return kept.reshape(update.shape)


@register("sce", "dense", "Wan et al. 2024, FuseChat, arXiv:2408.07990", weighted=False)
def sce(updates: Updates, weights: Weights, generator: torch.Generator, *, select_topk: Density = 1.0) -> torch.Tensor:
    """Select the elements of largest variance, weigh each update by its squares, erase minority signs.

    The weights are found, so none are taken. mergekit weighs updates evenly where their mean squares sum to less than
    1e-6, which adapters' nearly always do; here only where they are zero.
    """
    stack = torch.stack(list(updates))
    if select_topk < 1:
        variance = stack.var(dim=0, unbiased=False).reshape(-1)
        chosen = torch.zeros_like(variance)
        chosen[variance.topk(int(select_topk * int(torch.count_nonzero(variance)))).indices] = 1
        stack = stack * chosen.reshape(updates[0].shape)
    squares = torch.stack([update.square().mean() for update in stack])
    shares = squares / squares.sum() if squares.sum() > 0 else torch.full_like(squares, 1 / len(stack))
    sign = torch.where(stack.sum(dim=0) >= 0, 1.0, -1.0).to(stack.dtype)
    agreeing = (stack.sign() == sign) * shares.reshape(-1, *[1] * updates[0].ndim)
    below = agreeing.sum(dim=0)
    return (stack * agreeing).sum(dim=0) / torch.where(below > 0, below, 1.0)
