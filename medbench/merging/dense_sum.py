"""A weight that becomes base + a dense update: what the dense methods give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from medbench.merging.proof import NotFinite
from medbench.merging.rounding import Block, measured, stochastic

if TYPE_CHECKING:
    from medbench.merging.stored import Readable


@dataclass(frozen=True)
class DenseSum:
    """base + a dense update, added in float32 and rounded once: to nearest, or stochastically with `key`."""

    update: torch.Tensor
    key: int | None = None

    def read(self, stored: Readable, first: int, last: int) -> torch.Tensor:
        """What `block` takes of a weight in a file."""
        return stored.read(first, last)

    def rows(self, base: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The merged rows; see `block`."""
        return self.block(base, first).rows

    def block(self, base: torch.Tensor, first: int = 0) -> Block:
        """The merged rows and what became of the update.

        Raises:
            NotFinite: the result holds NaN or Inf.
        """
        asked = self.update[first : first + len(base)]
        total = base.float() + asked
        merged = total.to(base.dtype)
        if not merged.sum(dtype=torch.float64).isfinite():
            raise NotFinite("the base or the merged weight holds NaN or Inf.")
        if self.key is not None:
            merged = stochastic(total, self.key, first, base.dtype)
        return measured(merged, base, asked)
