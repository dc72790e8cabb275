"""How two adapters lie to each other: angles, common subspaces, conflicting signs, and what bf16 loses of their sum.

Cosines, energies and subspaces come from the factors and their Gram matrices; no update is formed as a dense matrix.
Signs and rounding are matters of single values: they are counted on a sample of whole rows of each weight, whose size
is stated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from medbench.errors import MedbenchError
from medbench.merging.adapters import Adapter
from medbench.merging.coefficients import inner_products
from medbench.merging.stored import Stored
from medbench.merging.updates import LowRank

# Values of one weight that are looked at singly: 2^18 put a share's standard error below 0.1 of a percent.
SAMPLE = 1 << 18
_PIECES = 16


@dataclass
class Counts:
    """Sums from which every figure of a weight, or of many, is made. Units: squared Frobenius norms, and counts.

    Attributes:
        one, other, product: |dW_1|^2, |dW_2|^2 and <dW_1, dW_2>, of the unweighted updates.
        columns, rows: sums of the squared cosines of the principal angles between the column (row) spaces.
        column_ranks, row_ranks: how many such angles there are.
        column_chance, row_chance: what those sums would be for random subspaces of these ranks.
        sampled: how many values were looked at; of all that the updates change, `size`, the following are expected.
        compared: values at which both updates are not zero.
        conflicts: how many of the compared have opposite signs.
        asked, kept: |u|^2 and <u, rounded - base> of the weighted sum u.
        unchanged: values that rounding to bf16 leaves as they were.
    """

    one: float = 0.0
    other: float = 0.0
    product: float = 0.0
    columns: float = 0.0
    rows: float = 0.0
    column_chance: float = 0.0
    row_chance: float = 0.0
    column_ranks: int = 0
    row_ranks: int = 0
    sampled: int = 0
    size: int = 0
    compared: float = 0.0
    conflicts: float = 0.0
    asked: float = 0.0
    kept: float = 0.0
    unchanged: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{key: mine[key] + theirs[key] for key in mine})

    def figures(self) -> dict[str, float | None]:
        """What is shown, each a number from -1 or 0 to 1 but the energies; None where there is nothing to divide by."""
        return {
            "cosine": _ratio(self.product, (self.one * self.other) ** 0.5),
            "energy_1": self.one,
            "energy_2": self.other,
            "column_overlap": _ratio(self.columns, self.column_ranks),
            "column_chance": _ratio(self.column_chance, self.column_ranks),
            "row_overlap": _ratio(self.rows, self.row_ranks),
            "row_chance": _ratio(self.row_chance, self.row_ranks),
            "sign_conflict": _ratio(self.conflicts, self.compared),
            "bf16_kept": _ratio(self.kept, self.asked),
            "bf16_unchanged": _ratio(self.unchanged, self.size),
        }


@dataclass(frozen=True)
class Geometry:
    """Two adapters on one base.

    Attributes:
        names: the adapters, in the order of `energy_1` and `energy_2`.
        weights: of the sum whose loss in bf16 is expected.
        by_weight: name of a weight -> its counts, for the weights that both change.
        alone: weights that one adapter changes only, or that were trained whole: they are left out.
    """

    names: tuple[str, str]
    weights: Mapping[str, float]
    by_weight: dict[str, Counts]
    alone: list[str] = field(default_factory=list)

    def total(self, names: Iterable[str] | None = None) -> Counts:
        """The counts of some weights together, of all by default."""
        return sum((self.by_weight[name] for name in (self.by_weight if names is None else names)), Counts())

    def by_kind(self) -> dict[str, Counts]:
        """The same by kind of module (q_proj), over all layers."""
        kinds: dict[str, list[str]] = {}
        for name in self.by_weight:
            kinds.setdefault(kind_of(name), []).append(name)
        return {kind: self.total(names) for kind, names in kinds.items()}


def kind_of(name: str) -> str:
    """The kind of module that a weight's name says: q_proj, attn.c_proj."""
    parts = re.split(r"\.\d+\.", name.removesuffix(".weight"))[-1].split(".")
    return ".".join(parts[-2:]) if parts[-1] == "c_proj" else parts[-1]


def geometry(
    base: Mapping[str, Stored], adapters: Sequence[Adapter], weights: Mapping[str, float], *, sample: int = SAMPLE
) -> Geometry:
    """Compare two adapters, fitted to their base, weight by weight.

    Args:
        base: the checkpoint's tensors.
        adapters: exactly two.
        weights: by adapter; they decide only what rounding the sum to bf16 would lose.
        sample: values of each weight that are looked at singly.

    Raises:
        MedbenchError: not two adapters, or no weight that both change.
    """
    if len(adapters) != 2:
        raise MedbenchError(f"geometry compares two adapters, and {len(adapters)} were given.")
    one, other = adapters
    if one.name == other.name:
        raise MedbenchError(f"both adapters are called {one.name}: name them apart, NAME=DIR.")
    both = [name for name in base if name in one.low_rank and name in other.low_rank]
    if not both:
        raise MedbenchError(f"{one.name} and {other.name} have no weight in common to compare.")
    counts = {}
    for name in both:
        updates = one.low_rank[name], other.low_rank[name]
        counts[name] = _subspaces(*updates) + _sampled(
            base[name], updates, (weights[one.name], weights[other.name]), sample
        )
    return Geometry((one.name, other.name), weights, counts, sorted((one.targets | other.targets) - set(both)))


def _subspaces(one: LowRank, other: LowRank) -> Counts:
    """Energies, and the principal angles between the column and row spaces (Bjorck and Golub 1973)."""
    gram = inner_products([one, other])
    # Columns are outputs and rows inputs, however the weight is stored.
    columns, column_ranks, column_chance = _overlap(one.b.T, other.b.T)
    rows, row_ranks, row_chance = _overlap(one.a, other.a)
    return Counts(
        one=float(gram[0, 0]),
        other=float(gram[1, 1]),
        product=float(gram[0, 1]),
        columns=columns,
        rows=rows,
        column_chance=column_chance,
        row_chance=row_chance,
        column_ranks=column_ranks,
        row_ranks=row_ranks,
    )


def _overlap(one: torch.Tensor, other: torch.Tensor) -> tuple[float, int, float]:
    """Sum of cos^2 of the principal angles between two row spaces, their number, and the sum for random ones."""
    left, right = _whitening(one), _whitening(other)
    cosines = left @ (one.double() @ other.double().T) @ right.T
    ranks = len(left), len(right)
    return float(cosines.square().sum()), min(ranks), ranks[0] * ranks[1] / one.shape[1]


def _whitening(factor: torch.Tensor) -> torch.Tensor:
    """W with W F an orthonormal basis of the rows of F [rank, n], from the Gram matrix F F'."""
    values, vectors = torch.linalg.eigh(factor.double() @ factor.double().T)
    kept = values > values.max() * 1e-10
    return (vectors[:, kept] * values[kept].rsqrt()).T


def _sampled(stored: Stored, updates: tuple[LowRank, LowRank], weights: tuple[float, float], sample: int) -> Counts:
    """What is counted value by value, scaled from the sample to the weight: so large weights count as such in sums."""
    total = Counts()
    for first, last in _pieces(stored, sample):
        one, other = (update.scale * (update.left[first:last] @ update.right) for update in updates)
        total.conflicts += int(torch.count_nonzero((one * other) < 0))
        total.compared += int(torch.count_nonzero(one * other))
        change = weights[0] * one + weights[1] * other
        start = stored.read(first, last).bfloat16().float()
        rounded = (start + change).bfloat16().float().sub_(start)
        total.sampled += change.numel()
        total.unchanged += change.numel() - int(torch.count_nonzero(rounded))
        total.asked += float(change.flatten().double().square().sum())
        total.kept += float((change * rounded).sum(dtype=torch.float64))
    total.size = stored.shape[0] * stored.shape[1]
    scale = total.size / total.sampled
    for name in ("compared", "conflicts", "asked", "kept", "unchanged"):
        setattr(total, name, getattr(total, name) * scale)
    return total


def _pieces(stored: Stored, sample: int) -> list[tuple[int, int]]:
    """Ranges of rows spread evenly over a weight that hold about `sample` values; all rows if there are fewer."""
    width = stored.shape[1]
    wanted = max(1, min(stored.rows, sample // width))
    pieces = min(_PIECES, wanted)
    height = wanted // pieces
    if wanted == stored.rows:
        step = max(1, SAMPLE // width)
        return [(at, min(at + step, wanted)) for at in range(0, wanted, step)]
    return [(start, start + height) for start in (stored.rows * piece // pieces for piece in range(pieces))]


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def rows_of(found: Geometry) -> list[dict[str, Any]]:
    """One row of figures for each weight, with its kind and layer, for files and drawings."""
    rows = []
    for name, counts in found.by_weight.items():
        layer = re.search(r"\.(\d+)\.", name)
        at = int(layer[1]) if layer else None
        rows.append({"weight": name, "kind": kind_of(name), "layer": at, **counts.figures()})
    return rows
