"""What an adapter adds to one weight: a low-rank update, or a weight that was trained whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from medbench.merging.proof import Term, as_array, as_tensor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class LowRank:
    """One weight's update: dW = scale * left @ right in the shape of the base's weight.

    The factors are float32, in numpy: left [rows, rank] and right [rank, columns] (tensors are taken too). `left` and
    `right` are the same in torch, on `device`.

    `transposed` says that the weight is stored [in, out] (an embedding, or GPT-2's Conv1D), so that left and right are
    A and B transposed rather than B and A.
    """

    left_array: np.ndarray
    right_array: np.ndarray
    scale: float
    transposed: bool = False
    embedding: bool = False
    device: torch.device | None = None

    def __post_init__(self) -> None:
        for name in ("left_array", "right_array"):
            object.__setattr__(self, name, as_array(getattr(self, name)))

    @cached_property
    def left(self) -> torch.Tensor:
        """The left factor in torch."""
        return as_tensor(self.left_array).to(self.device)

    @cached_property
    def right(self) -> torch.Tensor:
        """The right factor in torch."""
        return as_tensor(self.right_array).to(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of dW."""
        return (self.left_array.shape[0], self.right_array.shape[1])

    @property
    def rank(self) -> int:
        """Columns of the left factor."""
        return self.left_array.shape[1]

    @cached_property
    def size(self) -> float:
        """An upper bound of |dW|, from the factors' Frobenius norms."""
        return abs(self.scale) * float(np.linalg.norm(self.left_array) * np.linalg.norm(self.right_array))

    @property
    def a(self) -> torch.Tensor:
        """LoRA A, [rank, in]."""
        return self.left.T if self.transposed else self.right

    @property
    def b(self) -> torch.Tensor:
        """LoRA B, [out, rank]."""
        return self.right.T if self.transposed else self.left

    def term(self, coefficient: float) -> Term:
        """It as a term of a sum, times a coefficient; in torch where a device was asked for."""
        factors = (self.left_array, self.right_array) if self.device is None else (self.left, self.right)
        return Term(coefficient * self.scale, *factors)

    def delta(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """dW as one dense matrix, float32 by default."""
        return self.scale * (self.left.to(dtype) @ self.right.to(dtype))

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Rows `first` to `last` of dW, in float64."""
        return self.scale * (self.left[first:last].double() @ self.right.double())


@dataclass(frozen=True)
class Whole:
    """The update of a weight that was trained whole: dW = value - start; both of the weight's shape, as stored."""

    value: torch.Tensor
    start: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """That of dW."""
        return tuple(self.value.shape)

    def delta(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """dW as one dense tensor, float32 by default."""
        value, start = (part.float() if dtype is None else part.to(dtype) for part in (self.value, self.start))
        return value - start

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Rows `first` to `last` of dW, in float64."""
        return self.value[first:last].double() - self.start[first:last].double()


Update = LowRank | Whole
