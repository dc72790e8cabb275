"""Merge methods: what becomes of several updates to one weight.

Three kinds, by what they look at. A *coefficient* method only chooses the numbers in Equation (1), from the weights and
the updates' inner products, so it keeps the exact sum and both output formats. A *factor* method turns the low-rank sum
into another one. A *dense* method works on the full matrices and can only be stored as a checkpoint.

The sparsifying methods act on dW itself, whereas PEFT applies the same arithmetic to A and B one by one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from medbench.errors import MedbenchError, unknown
from medbench.merging.adapters import LowRank
from medbench.merging.exact import Term

Kind = Literal["coefficients", "factors", "dense"]


@dataclass(frozen=True)
class Input:
    """One declared setting of a method; `check` returns what is wrong with a value, or an empty string."""

    type: type
    default: Any
    check: Callable[[Any], str] = lambda value: ""


@dataclass(frozen=True)
class Method:
    """A registered merge method: its function, what it works on, and its inputs beyond the weights."""

    name: str
    kind: Kind
    function: Callable[..., Any]
    inputs: dict[str, Input]
    normalise: bool = False

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The method's inputs with defaults filled in.

        Raises:
            MedbenchError: an input it does not declare, one that is missing, of another type or out of range.
        """
        for name in given:
            if name not in self.inputs:
                if not self.inputs:
                    raise MedbenchError(f"merge method {self.name} takes no settings, and {name!r} was given.")
                raise unknown(f"setting of merge method {self.name}", name, self.inputs)
        resolved = {}
        for name, declared in self.inputs.items():
            value = given.get(name, declared.default)
            if value is None:
                raise MedbenchError(f"merge method {self.name} needs {name} ({declared.type.__name__}).")
            try:
                value = declared.type(value)
            except (TypeError, ValueError):
                problem = f"expected {declared.type.__name__}"
            else:
                problem = declared.check(value)
            if problem:
                raise MedbenchError(f"merge method {self.name}: {name} is {value!r}; {problem}.")
            resolved[name] = value
        return resolved


METHODS: dict[str, Method] = {}


def register(
    name: str, kind: Kind, *, normalise: bool = False, **inputs: Input
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a merge method under `name`; `normalise` scales its weights to a sum of 1."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        METHODS[name] = Method(name, kind, function, inputs, normalise)
        return function

    return add


def method(name: str) -> Method:
    """The registered method, or the error that names the nearest ones."""
    if name not in METHODS:
        raise unknown("merge method", name, METHODS)
    return METHODS[name]


def _density(value: float) -> str:
    return "" if 0 < value <= 1 else "expected a share above 0 and at most 1"


def _rank(value: int) -> str:
    return "" if value > 0 else "expected a rank above 0"


# ---- coefficients: (weights by adapter, updates by adapter) -> coefficients by adapter ----


@register("linear", "coefficients")
def linear(weights: Mapping[str, float], updates: Mapping[str, LowRank]) -> dict[str, float]:
    """Equation (1): sum of w_i dW_i."""
    return {name: weights[name] for name in updates}


@register("soup", "coefficients", normalise=True)
def soup(weights: Mapping[str, float], updates: Mapping[str, LowRank]) -> dict[str, float]:
    """Average of checkpoints of one run (Wortsman et al., 2022): weights are scaled to sum to 1 by the caller.

    The average is of the merged models, that is of dW; averaging A and B apart would mix the products.
    """
    return {name: weights[name] for name in updates}


@register("norm_preserving", "coefficients")
def norm_preserving(weights: Mapping[str, float], updates: Mapping[str, LowRank]) -> dict[str, float]:
    """The linear sum, scaled per weight to the Frobenius norm sum |w_i| |dW_i|.

    Updates that are nearly orthogonal shorten each other in a linear sum (0.3 and 0.7 of equal ones to 0.76): this
    merge tells that attenuation from interference.
    """
    names = list(updates)
    gram = inner_products([updates[name] for name in names])
    vector = torch.tensor([weights[name] for name in names], dtype=torch.float64)
    wanted = float(vector.abs() @ gram.diagonal().clamp_min(0).sqrt())
    actual = float((vector @ gram @ vector).clamp_min(0).sqrt())
    factor = wanted / actual if actual > 1e-9 * wanted else 1.0
    return {name: factor * weights[name] for name in names}


@register("project_out", "coefficients", remove=Input(str, None))
def project_out(weights: Mapping[str, float], updates: Mapping[str, LowRank], *, remove: str) -> dict[str, float]:
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


# ---- factors: terms -> (terms, squared error, squared norm) ----


@register("svd", "factors", rank=Input(int, None, _rank))
def svd(terms: Sequence[Term], *, rank: int) -> tuple[list[Term], float, float]:
    """The best approximation of a low-rank sum by one of `rank` (Eckart-Young).

    Works on the factors (QR, then the SVD of a small matrix): the full matrix is never formed.

    Returns the approximation, and the squared Frobenius norms of what it drops and of the whole sum.
    """
    left = torch.cat([term.coefficient * term.left.double() for term in terms], dim=1)
    right = torch.cat([term.right.double() for term in terms])
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.T)
    u, s, vh = torch.linalg.svd(r_left @ r_right.T)
    root = s[:rank].sqrt()
    new_left, new_right = q_left @ (u[:, :rank] * root), (root[:, None] * vh[:rank]) @ q_right.T
    kept = Term(1.0, new_left.float().contiguous(), new_right.float().contiguous())
    return [kept], float(s[rank:].square().sum()), float(s.square().sum())


# ---- dense: (updates [rows, columns], weights, generator) -> update ----


def _prune_small(update: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the `density` largest values by magnitude, set the others to zero."""
    keep = int(density * update.numel())
    kept = torch.zeros_like(update).reshape(-1)
    largest = update.abs().reshape(-1).topk(keep, sorted=False).indices
    kept[largest] = update.reshape(-1)[largest]
    return kept.reshape(update.shape)


def _drop_and_rescale(update: torch.Tensor, density: float, generator: torch.Generator) -> torch.Tensor:
    """DARE (Yu et al., 2023): keep each value with probability `density`, divided by it."""
    if density == 1:
        return update
    kept = torch.bernoulli(torch.full(update.shape, density), generator=generator)
    return update * kept.to(update.device) / density


def _weighted(updates: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    total = torch.zeros_like(updates[0])
    for update, weight in zip(updates, weights, strict=True):
        total += weight * update
    return total


def _elect_and_average(updates: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """TIES (Yadav et al., 2023): per element, the mean of the weighted updates whose sign is that of the plain sum."""
    sign = torch.where(_weighted(updates, [1.0] * len(updates)) >= 0, 1.0, -1.0)
    total, count = torch.zeros_like(updates[0]), torch.zeros_like(updates[0])
    for update, weight in zip(updates, weights, strict=True):
        agrees = update.sign() == sign
        total += weight * update * agrees
        count += agrees
    return total / count.clamp_min(1)


_DENSITY = Input(float, 0.5, _density)
_SEED = Input(int, 0)


@register("magnitude_prune", "dense", density=_DENSITY)
def magnitude_prune(
    updates: Sequence[torch.Tensor], weights: Sequence[float], generator: torch.Generator, *, density: float
) -> torch.Tensor:
    """Weighted sum of updates of which only the largest values are kept."""
    return _weighted([_prune_small(update, density) for update in updates], weights)


@register("ties", "dense", density=_DENSITY)
def ties(
    updates: Sequence[torch.Tensor], weights: Sequence[float], generator: torch.Generator, *, density: float
) -> torch.Tensor:
    """Trim, elect signs, average those that agree (TIES-Merging)."""
    return _elect_and_average([_prune_small(update, density) for update in updates], weights)


@register("dare_linear", "dense", density=_DENSITY, seed=_SEED)
def dare_linear(
    updates: Sequence[torch.Tensor], weights: Sequence[float], generator: torch.Generator, *, density: float, seed: int
) -> torch.Tensor:
    """Weighted sum of randomly thinned and rescaled updates (DARE)."""
    return _weighted([_drop_and_rescale(update, density, generator) for update in updates], weights)


@register("dare_ties", "dense", density=_DENSITY, seed=_SEED)
def dare_ties(
    updates: Sequence[torch.Tensor], weights: Sequence[float], generator: torch.Generator, *, density: float, seed: int
) -> torch.Tensor:
    """DARE's thinning followed by TIES' election of signs."""
    return _elect_and_average([_drop_and_rescale(update, density, generator) for update in updates], weights)


# ---- shared ----


def inner_products(updates: Sequence[LowRank]) -> torch.Tensor:
    """Frobenius inner products <dW_i, dW_j> in float64, [n, n], from the factors alone."""
    count = len(updates)
    gram = torch.zeros(count, count, dtype=torch.float64)
    for i, one in enumerate(updates):
        for j, other in enumerate(updates[: i + 1]):
            lefts = one.left.double().T @ other.left.double()
            rights = one.right.double() @ other.right.double().T
            gram[i, j] = gram[j, i] = one.scale * other.scale * float((lefts * rights).sum())
    return gram


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
