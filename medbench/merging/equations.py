"""The normal equations behind `solve`: one pass over a weight, its updates by their factors, everything in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from medbench.errors import MedbenchError
from medbench.merging.exact import ExactSum
from medbench.merging.proof import Replacement
from medbench.merging.stored import Readable
from medbench.merging.updates import LowRank

# Rows of a block hold about this many values: its float64 copies stay within a core's cache.
BLOCK = 1 << 18
# Residuals up to one unit in the last place (root mean square) are what several roundings on the way leave; merges
# computed in bfloat16 throughout leave up to 2% of the change.
ULPS, SHARE = 1.0, 0.02


@dataclass(frozen=True)
class Weight:
    """One weight of the model with what the adapters say about it.

    Attributes:
        name: the tensor's name.
        group: what its weights are reported under (its layer).
        base, merged: the weight before and after.
        updates: adapter -> low-rank update.
        whole: adapter -> weight that replaces the base's (modules_to_save).
    """

    name: str
    group: str
    base: Readable
    merged: Readable
    updates: Mapping[str, LowRank]
    whole: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Equations:
    """Normal equations of one or more weights in float64: columns are the adapters, then the cross terms."""

    gram: torch.Tensor
    right: torch.Tensor
    square: float = 0.0
    change: float = 0.0
    ulp_square: float = 0.0
    unequal: int = 0
    values: int = 0

    def own(self, count: int) -> torch.Tensor:
        """The solution for the first `count` columns, 0 where an adapter does not change these weights."""
        return torch.linalg.pinv(self.gram[:count, :count]) @ self.right[:count]

    def left(self, solution: torch.Tensor) -> float:
        """What a solution leaves of the right side: its share of the change, or 0 where it can be rounding."""
        count = len(solution)
        explained = float(solution @ (2 * self.right[:count] - self.gram[:count, :count] @ solution))
        square = max(0.0, self.square - explained)
        if square <= ULPS**2 * self.ulp_square or square <= SHARE**2 * self.change:
            return 0.0
        return (square / self.change) ** 0.5 if self.change > 0 else 1.0

    def add(self, other: Equations) -> None:
        """Accumulate another weight's equations."""
        self.gram += other.gram
        self.right += other.right
        self.square += other.square
        self.change += other.change
        self.ulp_square += other.ulp_square
        self.unequal += other.unequal
        self.values += other.values


def total_of(equations: Sequence[Equations]) -> Equations:
    """The equations of several weights together."""
    size = len(equations[0].right)
    total = Equations(torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64))
    for one in equations:
        total.add(one)
    return total


def equations_of(
    weight: Weight,
    names: list[str],
    pairs: list[tuple[str, str]],
    at: dict[str, float] | None,
    *,
    stochastic: bool = False,
) -> Equations:
    """Normal equations of one weight for the right side merged - base (`at` None), or merged - round(base + X at).

    With `stochastic` the sum on the right is not rounded.
    """
    columns = _columns(weight, names, pairs)
    size = len(names) + len(pairs)
    result = Equations(torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64))
    exact = _exact(weight, at) if at is not None and not stochastic else None
    projected = {index: torch.zeros_like(right) for index, (_, _, right) in columns.items()}
    for first, last in weight.merged.blocks(BLOCK):
        base, merged = weight.base.read(first, last), weight.merged.read(first, last)
        explained = exact.rows(base, first) if exact else base
        if stochastic and at is not None:
            explained = base.double() + _asked(weight, at, base, first, last)
        if at is not None and torch.equal(explained, merged):
            difference = None
        else:
            difference = merged.double() - explained.double()
            # Beside a power of two the steps on its two sides differ.
            step = torch.maximum(spacing(merged), spacing(base)) * (1 + 1e-6) if stochastic else 0.0
            result.unequal += int(torch.count_nonzero(difference.abs() > step))
            result.square += float(difference.square().sum())
            for index, (scale, left, _) in columns.items():
                projected[index].addmm_(left[first:last].T, difference, alpha=scale)
        result.ulp_square += float(spacing(merged).square().sum())
        result.change += float((merged.double() - base.double()).square().sum())
        result.values += merged.numel()
        if weight.whole:
            _add_dense(result, weight, names, base, difference, first, last)
    for index, (_, _, right) in columns.items():
        result.right[index] += (projected[index] * right).sum()
    for i, (scale, left, right) in columns.items():
        for j, (other, other_left, other_right) in columns.items():
            if not weight.whole:
                result.gram[i, j] += scale * other * ((left.T @ other_left) * (right @ other_right.T)).sum()
    return result


def _asked(weight: Weight, at: Mapping[str, float], base: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """`unrounded`, and what whole modules add."""
    total = torch.zeros(base.shape, dtype=torch.float64)
    if weight.updates:
        total += unrounded(weight, at, first, last)
    for name, value in weight.whole.items():
        total += at[name] * (value[first:last].double() - base.double())
    return total


def _columns(
    weight: Weight, names: list[str], pairs: list[tuple[str, str]]
) -> dict[int, tuple[float, torch.Tensor, torch.Tensor]]:
    """Column -> scale, left, right (float64) of the low-rank updates and their cross terms at this weight."""
    if weight.whole:
        return {}
    updates = {name: (u.scale, u.left.double(), u.right.double()) for name, u in weight.updates.items()}
    columns = {names.index(name): update for name, update in updates.items()}
    for at, (i, j) in enumerate(pairs):
        if i in updates and j in updates:
            (scale, left, _), (other, _, right) = updates[i], updates[j]
            columns[len(names) + at] = (abs(scale * other) ** 0.5, left, right)
    return columns


def _add_dense(
    result: Equations,
    weight: Weight,
    names: list[str],
    base: torch.Tensor,
    difference: torch.Tensor | None,
    first: int,
    last: int,
) -> None:
    """A weight that an adapter replaces whole: its columns are formed block by block."""
    dense = {name: value[first:last].double() - base.double() for name, value in weight.whole.items()}
    for name, update in weight.updates.items():
        dense[name] = update.scale * (update.left[first:last].double() @ update.right.double())
    for name, column in dense.items():
        if difference is not None:
            result.right[names.index(name)] += (column * difference).sum()
        for other, other_column in dense.items():
            result.gram[names.index(name), names.index(other)] += (column * other_column).sum()


def _exact(weight: Weight, at: Mapping[str, float]) -> ExactSum:
    terms = [update.term(at[name]) for name, update in weight.updates.items()]
    return ExactSum(terms, [Replacement(at[name], value) for name, value in weight.whole.items()])


def spacing(values: torch.Tensor) -> torch.Tensor:
    """The unit in the last place of each value in its own dtype, as float64."""
    info = torch.finfo(values.dtype)
    power = values.float().view(torch.int32).bitwise_and(0x7F800000).view(torch.float32)
    return power.double().clamp_min(info.smallest_normal) * info.eps


def solution_of(equations: Equations, count: int, names: Sequence[str]) -> torch.Tensor:
    """The weights of the first `count` columns.

    Raises:
        MedbenchError: an update that is zero, or updates that are proportional.
    """
    gram = equations.gram[:count, :count]
    norms = gram.diagonal().sqrt()
    if bool((norms == 0).any()):
        empty = names[int((norms == 0).nonzero()[0])]
        raise MedbenchError(f"adapter {empty} changes nothing (its B A is zero), so its weight cannot be found.")
    scaled = gram / torch.outer(norms, norms)
    if float(torch.linalg.cond(scaled)) > 1e10:
        raise MedbenchError(f"the updates of {', '.join(names)} are proportional: their weights cannot be told apart.")
    return torch.linalg.solve(scaled, equations.right[:count] / norms) / norms


def standard_errors(equations: Equations, count: int) -> torch.Tensor:
    """Standard errors of a solution, from the residual's mean square but at least one rounding's."""
    variance = max(equations.square, equations.ulp_square / 12) / equations.values
    return (variance * torch.linalg.pinv(equations.gram[:count, :count]).diagonal().clamp_min(0)).sqrt()


def unrounded(weight: Weight, at: Mapping[str, float], first: int, last: int) -> torch.Tensor:
    """The update of a weight's rows in float64."""
    parts = [
        at[name] * update.scale * (update.left[first:last].double() @ update.right.double())
        for name, update in weight.updates.items()
    ]
    return torch.stack(parts).sum(dim=0)
