"""The correctly rounded sum at single values: float64 with a bound, rational arithmetic where that leaves it open.

This settles the few values of a weight that a sum in float32 or float64 over whole blocks cannot prove.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from medbench.errors import MedbenchError

if TYPE_CHECKING:
    import torch

    Matrix = np.ndarray | torch.Tensor

# Rows of a weight, in numpy or torch: what goes in so comes out so.
Rows = TypeVar("Rows", np.ndarray, "torch.Tensor")

# dtype -> exponents of its machine epsilon and of its smallest normal number.
_GRIDS = {"float32": (-23, -126), "bfloat16": (-7, -126), "float16": (-10, -14)}
NOT_FINITE = "the base or the merged weight holds NaN or Inf, or leaves the range of {}."


class NotFinite(MedbenchError):
    """The base or the sum holds NaN, Inf or a value beyond the stored dtype's range."""


@dataclass(frozen=True)
class Term:
    """coefficient * left @ right: left [rows, rank], right [rank, columns], both float32, in numpy or torch."""

    coefficient: float
    left: Matrix
    right: Matrix


@dataclass(frozen=True)
class Replacement:
    """coefficient * (value - base): a weight that was trained whole (PEFT's modules_to_save); value [rows, columns]."""

    coefficient: float
    value: torch.Tensor

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Its values at some positions, float64."""
        import torch

        found = self.value[
            torch.from_numpy(rows).to(self.value.device), torch.from_numpy(columns).to(self.value.device)
        ]
        return found.double().cpu().numpy()


def as_array(matrix: Matrix) -> np.ndarray:
    """A float32 matrix in numpy, without a copy where it lies in the machine's memory."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.detach().cpu().numpy()


def as_tensor(matrix: Matrix) -> torch.Tensor:
    """A matrix in torch, without a copy."""
    import torch

    return torch.from_numpy(matrix) if isinstance(matrix, np.ndarray) else matrix


class Prover:
    """The sum of a weight at single positions, rounded once to nearest."""

    def __init__(self, terms: Sequence[Term], replacements: Sequence[Replacement] = ()) -> None:
        self._terms = [(term.coefficient, as_array(term.left), as_array(term.right)) for term in terms]
        self._replacements = replacements
        if self._terms:
            self._left = np.concatenate([left.astype(np.float64) * c for c, left, _ in self._terms], axis=1)
            self._columns = np.ascontiguousarray(np.concatenate([right for _, _, right in self._terms]).T)

    def settle(self, base: np.ndarray, rows: np.ndarray, columns: np.ndarray, dtype: str) -> np.ndarray:
        """base + sum at these positions, as `dtype` rounds it; float64 [n], like the base's values there, `base`.

        Raises:
            NotFinite: the base holds NaN or Inf there.
        """
        if not np.isfinite(base).all():
            raise NotFinite("the base weight holds NaN or Inf.")
        value, size, rank = base, np.abs(base), 0
        if self._terms:
            products = self._left[rows] * self._columns[columns]
            value, size, rank = value + products.sum(axis=1), size + np.abs(products).sum(axis=1), products.shape[1]
        for item in self._replacements:
            other = item.at(rows, columns)
            value = value + item.coefficient * (other - base)
            size = size + abs(item.coefficient) * (np.abs(other) + np.abs(base))
        bound = (rank + 4 * len(self._replacements) + 4) * 2.0**-53 * size
        rounded = round_to_grid(value, dtype)
        low, high = round_to_grid(value - bound, dtype), round_to_grid(value + bound, dtype)
        for at in np.flatnonzero(low != high):
            rounded[at] = self._rational(float(base[at]), int(rows[at]), int(columns[at]), dtype)
        return rounded

    def parts(self, first: int, count: int) -> list[np.ndarray]:
        """Some rows of each term in float64."""
        here = slice(first, first + count)
        return [c * left[here].astype(np.float64) @ right.astype(np.float64) for c, left, right in self._terms]

    def _rational(self, base: float, row: int, column: int, dtype: str) -> float:
        total = Fraction(base)
        for coefficient, left, right in self._terms:
            pairs = zip(left[row].tolist(), right[:, column].tolist(), strict=True)
            total += Fraction(coefficient) * sum(Fraction(a) * Fraction(b) for a, b in pairs)
        for item in self._replacements:
            other = float(item.at(np.array([row]), np.array([column]))[0])
            total += Fraction(item.coefficient) * (Fraction(other) - Fraction(base))
        # A float64 nearest to the sum finds its binade; the tie itself is decided on the rational number.
        _, exponent = np.frexp(float(total))
        quantum = Fraction(2) ** int(_quantum(exponent, dtype))
        return float(round(total / quantum) * quantum)


def round_to_grid(values: np.ndarray, dtype: str) -> np.ndarray:
    """float64 values rounded half to even to the numbers of `dtype` (torch's name), as float64.

    `Tensor.to(torch.bfloat16)` goes from float64 over float32 and so rounds twice.
    """
    _, exponent = np.frexp(values)
    quantum = _quantum(exponent, dtype)
    return np.ldexp(np.rint(np.ldexp(values, -quantum)), quantum)


def _quantum(exponent: np.ndarray | int, dtype: str) -> np.ndarray | int:
    """Exponent of the spacing of `dtype` at values in [2^(exponent - 1), 2^exponent)."""
    epsilon, normal = _GRIDS[dtype]
    return np.maximum(exponent, normal + 1) - 1 + epsilon
