"""Which weights a merged model really used: Equation (1) solved for the weights, by least squares over all layers.

The columns of the problem are the updates dW_i, its right side merged - base. Inner products of low-rank updates come
from their factors, and those with the right side need one pass over the weights, so nothing of full size is kept.

There are two answers. The plain solution says how much of each update is in the merged model: the *effective* weights.
Rounding to nearest drops whatever is small beside the base, which pulls them towards zero. The weights that were
*asked* for are the plain solution corrected by what it fails to explain: w <- w + G^-1 X' (merged - round(base + X w)),
repeated until it stands. At the weights really used the bracket is exactly zero. Stochastic rounding leaves no such
bias: where small updates are there in full, the plain solution is both answers.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from medbench.errors import MedbenchError
from medbench.merging.adapters import LowRank
from medbench.merging.checkpoints import Readable
from medbench.merging.exact import ExactSum, Replacement, Term

# Rows of a block hold about this many values: its float64 copies stay within a core's cache.
BLOCK = 1 << 18
_ROUNDS, _SETTLED = 8, 1e-5
# Residuals up to one unit in the last place (root mean square) are what several roundings on the way leave; merges
# computed in bfloat16 throughout leave up to 2% of the change.
_ULPS, _SHARE = 1.0, 0.02
_CROSS = 0.02
# An update below an eighth of a step never survives rounding to nearest, even where three fifths of it are lost and it
# really was a third of a step; rounded stochastically it is there on average. At a thousand values the two are 6
# standard errors apart (the variance of one is |u| times the step).
_SMALL, _FEWEST, _SAMPLE = 0.125, 1000, 1 << 24


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


@dataclass(frozen=True)
class Recovered:
    """What a merged model was made of.

    Attributes:
        weights: adapter -> weight in Equation (1) that was asked for.
        effective: adapter -> weight by plain least squares: how much of its update is in the merged model.
        rounding: ``nearest``, or ``stochastic`` where small updates are there in full.
        errors: adapter -> standard error of that weight, from what the solution leaves unexplained.
        groups: layer -> adapter -> the weight solved on that layer alone; where that leaves more than rounding of some
            weight of the layer, each of them has an entry of its own, under its name.
        group_errors: likewise, the standard errors.
        cross: (i, j) -> coefficient of the cross term sqrt(s_i s_j) B_i A_j, which Equation (1) does not have.
        residual: |merged - round(base + sum)| / |merged - base|, Frobenius.
        ulps: root mean square of that residual in units in the last place of the stored dtype.
        unexplained: name of a weight -> share of its change that its group's own weights leave, where that is more than
            rounding.
        unequal: share of values that are not the correctly rounded sum for `weights`; under stochastic rounding, that
            are further from the sum than a step.
        values: how many values were compared.
    """

    weights: dict[str, float]
    effective: dict[str, float]
    rounding: str
    errors: dict[str, float]
    groups: dict[str, dict[str, float]]
    group_errors: dict[str, dict[str, float]]
    cross: dict[tuple[str, str], float]
    residual: float
    ulps: float
    unexplained: dict[str, float]
    unequal: float
    values: int

    @property
    def has_form(self) -> bool:
        """Whether base + sum of w_i dW_i explains it, be it with other weights in some places."""
        return not self.cross and not self.unexplained

    @property
    def is_rounded_once(self) -> bool:
        """Whether what is left can be rounding alone, rather than a merge computed in 16 bits."""
        return self.ulps <= _ULPS

    def outliers(self, reference: Mapping[str, float], tolerance: float) -> dict[str, dict[str, float]]:
        """Groups whose own weights differ from `reference` by more than `tolerance` and five standard errors."""
        return {
            group: weights
            for group, weights in self.groups.items()
            if any(
                abs(weight - reference[name]) > max(tolerance, 5 * self.group_errors[group][name])
                for name, weight in weights.items()
            )
        }

    def typical(self) -> dict[str, float]:
        """The median of each adapter's weight over the groups."""
        return {
            name: statistics.median(weights[name] for weights in self.groups.values() if name in weights)
            for name in self.weights
        }


@dataclass
class _Equations:
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
        if square <= _ULPS**2 * self.ulp_square or square <= _SHARE**2 * self.change:
            return 0.0
        return (square / self.change) ** 0.5 if self.change > 0 else 1.0

    def add(self, other: _Equations) -> None:
        """Accumulate another weight's equations."""
        self.gram += other.gram
        self.right += other.right
        self.square += other.square
        self.change += other.change
        self.ulp_square += other.ulp_square
        self.unequal += other.unequal
        self.values += other.values


def recover_weights(
    weights: Sequence[Weight], names: Sequence[str], *, start: Mapping[str, float] | None = None
) -> Recovered:
    """Solve Equation (1) for the adapters' weights over all given weights of the model.

    Args:
        weights: the weights that at least one adapter changes.
        names: the adapters, in the order of the result.
        start: weights to try first (those that were expected): if they explain every value, one pass is enough.

    Raises:
        MedbenchError: two adapters' updates are proportional, so that their weights cannot be told apart.
    """
    names = list(names)
    pairs = [(i, j) for i in names for j in names if i != j and _crossable(weights, i, j)]
    plain = _solve(_total([_equations(weight, names, pairs, None) for weight in weights]), len(names), names)
    effective = dict(zip(names, plain.tolist(), strict=True))
    if _keeps_small_updates(weights, effective):
        members = [_equations(weight, names, pairs, effective, stochastic=True) for weight in weights]
        found = {w.name: (w.group, e) for w, e in zip(weights, members, strict=True)}
        return _describe(names, pairs, plain, effective, "stochastic", found, _total(members))
    solution = plain if start is None else torch.tensor([start[name] for name in names], dtype=torch.float64)
    tried: set[tuple[float, ...]] = set()
    for _ in range(_ROUNDS):
        # People type few decimals: if the rounded weights explain every value, they are the ones that were used.
        trial = solution.round(decimals=3)
        if tuple(trial.tolist()) in tried:
            trial = solution
        tried.add(tuple(trial.tolist()))
        at = dict(zip(names, trial.tolist(), strict=True))
        equations = [_equations(weight, names, pairs, at) for weight in weights]
        total = _total(equations)
        step = _solve(total, len(names), names)
        solution = trial + step
        if float(step.abs().max()) < _SETTLED:
            break
    found = {w.name: (w.group, e) for w, e in zip(weights, equations, strict=True)}
    return _describe(names, pairs, trial, effective, "nearest", found, total)


def _keeps_small_updates(weights: Sequence[Weight], at: Mapping[str, float]) -> bool:
    """Whether updates far below half a step are in the merged weights, as only unbiased rounding leaves them there."""
    kept = asked = 0.0
    small_values = values = 0
    for weight in weights:
        if weight.whole or values > _SAMPLE:
            continue
        for first, last in weight.merged.blocks(BLOCK):
            base, merged = weight.base.read(first, last), weight.merged.read(first, last)
            if base.dtype == torch.float32:
                continue
            update = _unrounded(weight, at, first, last)
            small = update.abs() < _SMALL * spacing(base)
            update = update[small]
            kept += float((update * (merged.double() - base.double())[small]).sum())
            asked += float(update.square().sum())
            small_values, values = small_values + update.numel(), values + base.numel()
    return small_values >= _FEWEST and kept > 0.5 * asked > 0


def _unrounded(weight: Weight, at: Mapping[str, float], first: int, last: int) -> torch.Tensor:
    """The update of a weight's rows in float64."""
    parts = [
        at[name] * update.scale * (update.left[first:last].double() @ update.right.double())
        for name, update in weight.updates.items()
    ]
    return torch.stack(parts).sum(dim=0)


def _crossable(weights: Sequence[Weight], i: str, j: str) -> bool:
    shared = [weight for weight in weights if i in weight.updates and j in weight.updates]
    return bool(shared) and all(weight.updates[i].rank == weight.updates[j].rank for weight in shared)


def _total(equations: Sequence[_Equations]) -> _Equations:
    size = len(equations[0].right)
    total = _Equations(torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64))
    for one in equations:
        total.add(one)
    return total


def _equations(
    weight: Weight,
    names: list[str],
    pairs: list[tuple[str, str]],
    at: dict[str, float] | None,
    *,
    stochastic: bool = False,
) -> _Equations:
    """Normal equations of one weight for the right side merged - base (`at` None), or merged - round(base + X at).

    With `stochastic` the sum on the right is not rounded.
    """
    columns = _columns(weight, names, pairs)
    size = len(names) + len(pairs)
    result = _Equations(torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64))
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
    """`_unrounded`, and what whole modules add."""
    total = torch.zeros(base.shape, dtype=torch.float64)
    if weight.updates:
        total += _unrounded(weight, at, first, last)
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
    result: _Equations,
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
    terms = [Term(at[name] * update.scale, update.left, update.right) for name, update in weight.updates.items()]
    return ExactSum(terms, [Replacement(at[name], value) for name, value in weight.whole.items()])


def spacing(values: torch.Tensor) -> torch.Tensor:
    """The unit in the last place of each value in its own dtype, as float64."""
    info = torch.finfo(values.dtype)
    power = values.float().view(torch.int32).bitwise_and(0x7F800000).view(torch.float32)
    return power.double().clamp_min(info.smallest_normal) * info.eps


def _solve(equations: _Equations, count: int, names: Sequence[str]) -> torch.Tensor:
    gram = equations.gram[:count, :count]
    norms = gram.diagonal().sqrt()
    if bool((norms == 0).any()):
        empty = names[int((norms == 0).nonzero()[0])]
        raise MedbenchError(f"adapter {empty} changes nothing (its B A is zero), so its weight cannot be found.")
    scaled = gram / torch.outer(norms, norms)
    if float(torch.linalg.cond(scaled)) > 1e10:
        raise MedbenchError(f"the updates of {', '.join(names)} are proportional: their weights cannot be told apart.")
    return torch.linalg.solve(scaled, equations.right[:count] / norms) / norms


def _errors(equations: _Equations, count: int) -> torch.Tensor:
    """Standard errors of a solution, from the residual's mean square but at least one rounding's."""
    variance = max(equations.square, equations.ulp_square / 12) / equations.values
    return (variance * torch.linalg.pinv(equations.gram[:count, :count]).diagonal().clamp_min(0)).sqrt()


def _describe(
    names: list[str],
    pairs: list[tuple[str, str]],
    solution: torch.Tensor,
    effective: dict[str, float],
    rounding: str,
    weights: Mapping[str, tuple[str, _Equations]],
    total: _Equations,
) -> Recovered:
    """The result: `weights` maps each weight's name to its group and its equations at `solution`."""
    count = len(names)
    cross: dict[tuple[str, str], float] = {}
    if pairs and total.square > 0:
        # The joint solution on the residual: what the cross terms explain of it, and the weights beside them.
        joint = torch.linalg.pinv(total.gram, rtol=1e-10) @ total.right
        errors = _errors(total, count + len(pairs))[count:]
        found = joint[count:]
        if bool(((found.abs() > _CROSS) & (found.abs() > 5 * errors)).any()):
            cross = dict(zip(pairs, found.tolist(), strict=True))
            solution = solution + joint[:count]
    groups: dict[str, dict[str, _Equations]] = {}
    for name, (group, equations) in weights.items():
        groups.setdefault(group, {})[name] = equations
    own, own_errors, unexplained = {}, {}, {}
    for group, members in groups.items():
        together = _total(list(members.values()))
        step = together.own(count)
        alone = any(equations.left(step) for equations in members.values())
        for name, equations in members.items() if alone else [(group, together)]:
            step = equations.own(count)
            errors = _errors(equations, count)
            present = [at for at in range(count) if equations.gram[at, at] > 0]
            own[name] = {names[at]: float(solution[at] + step[at]) for at in present}
            own_errors[name] = {names[at]: float(errors[at]) for at in present}
            if alone and (share := equations.left(step)):
                unexplained[name] = share
    return Recovered(
        weights=dict(zip(names, solution.tolist(), strict=True)),
        effective=effective,
        rounding=rounding,
        errors=dict(zip(names, _errors(total, count).tolist(), strict=True)),
        groups=own,
        group_errors=own_errors,
        cross=cross,
        residual=(total.square / total.change) ** 0.5 if total.change > 0 else 0.0,
        ulps=(total.square / total.ulp_square) ** 0.5,
        unexplained=unexplained,
        unequal=total.unequal / total.values,
        values=total.values,
    )
