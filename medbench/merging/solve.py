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
from dataclasses import dataclass

import torch

from medbench.merging.equations import (
    BLOCK,
    ULPS,
    Equations,
    Weight,
    equations_of,
    solution_of,
    spacing,
    standard_errors,
    total_of,
    unrounded,
)

_ROUNDS, _SETTLED = 8, 1e-5
_CROSS = 0.02
# An update below an eighth of a step never survives rounding to nearest, even where three fifths of it are lost and it
# really was a third of a step; rounded stochastically it is there on average. At a thousand values the two are 6
# standard errors apart (the variance of one is |u| times the step).
_SMALL, _FEWEST, _SAMPLE = 0.125, 1000, 1 << 24


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
        return self.ulps <= ULPS

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
    plain = solution_of(total_of([equations_of(weight, names, pairs, None) for weight in weights]), len(names), names)
    effective = dict(zip(names, plain.tolist(), strict=True))
    if _keeps_small_updates(weights, effective):
        members = [equations_of(weight, names, pairs, effective, stochastic=True) for weight in weights]
        found = {w.name: (w.group, e) for w, e in zip(weights, members, strict=True)}
        return _describe(names, pairs, plain, effective, "stochastic", found, total_of(members))
    solution = plain if start is None else torch.tensor([start[name] for name in names], dtype=torch.float64)
    tried: set[tuple[float, ...]] = set()
    for _ in range(_ROUNDS):
        # People type few decimals: if the rounded weights explain every value, they are the ones that were used.
        trial = solution.round(decimals=3)
        if tuple(trial.tolist()) in tried:
            trial = solution
        tried.add(tuple(trial.tolist()))
        at = dict(zip(names, trial.tolist(), strict=True))
        equations = [equations_of(weight, names, pairs, at) for weight in weights]
        total = total_of(equations)
        step = solution_of(total, len(names), names)
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
            update = unrounded(weight, at, first, last)
            small = update.abs() < _SMALL * spacing(base)
            update = update[small]
            kept += float((update * (merged.double() - base.double())[small]).sum())
            asked += float(update.square().sum())
            small_values, values = small_values + update.numel(), values + base.numel()
    return small_values >= _FEWEST and kept > 0.5 * asked > 0


def _crossable(weights: Sequence[Weight], i: str, j: str) -> bool:
    shared = [weight for weight in weights if i in weight.updates and j in weight.updates]
    return bool(shared) and all(weight.updates[i].rank == weight.updates[j].rank for weight in shared)


def _describe(
    names: list[str],
    pairs: list[tuple[str, str]],
    solution: torch.Tensor,
    effective: dict[str, float],
    rounding: str,
    weights: Mapping[str, tuple[str, Equations]],
    total: Equations,
) -> Recovered:
    """The result: `weights` maps each weight's name to its group and its equations at `solution`."""
    count = len(names)
    cross: dict[tuple[str, str], float] = {}
    if pairs and total.square > 0:
        # The joint solution on the residual: what the cross terms explain of it, and the weights beside them.
        joint = torch.linalg.pinv(total.gram, rtol=1e-10) @ total.right
        errors = standard_errors(total, count + len(pairs))[count:]
        found = joint[count:]
        if bool(((found.abs() > _CROSS) & (found.abs() > 5 * errors)).any()):
            cross = dict(zip(pairs, found.tolist(), strict=True))
            solution = solution + joint[:count]
    groups: dict[str, dict[str, Equations]] = {}
    for name, (group, equations) in weights.items():
        groups.setdefault(group, {})[name] = equations
    own, own_errors, unexplained = {}, {}, {}
    for group, members in groups.items():
        together = total_of(list(members.values()))
        step = together.own(count)
        alone = any(equations.left(step) for equations in members.values())
        for name, equations in members.items() if alone else [(group, together)]:
            step = equations.own(count)
            errors = standard_errors(equations, count)
            present = [at for at in range(count) if equations.gram[at, at] > 0]
            own[name] = {names[at]: float(solution[at] + step[at]) for at in present}
            own_errors[name] = {names[at]: float(errors[at]) for at in present}
            if alone and (share := equations.left(step)):
                unexplained[name] = share
    return Recovered(
        weights=dict(zip(names, solution.tolist(), strict=True)),
        effective=effective,
        rounding=rounding,
        errors=dict(zip(names, standard_errors(total, count).tolist(), strict=True)),
        groups=own,
        group_errors=own_errors,
        cross=cross,
        residual=(total.square / total.change) ** 0.5 if total.change > 0 else 0.0,
        ulps=(total.square / total.ulp_square) ** 0.5,
        unexplained=unexplained,
        unequal=total.unequal / total.values,
        values=total.values,
    )
