"""A weight that becomes base + a dense update: what the dense methods give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from medbench.merging.deltas import DenseUpdate
from medbench.merging.proof import NotFinite
from medbench.merging.rounding import Block, measured, stochastic

if TYPE_CHECKING:
    from medbench.merging.stored import Readable


@dataclass(frozen=True)
class DenseSum:
    """base + a dense update, added in float32 and rounded once: to nearest, or stochastically with `key`.

    In torch, for any stored dtype and device; see `bfloat16.Bfloat16Dense` for files in bfloat16.
    """

    update: DenseUpdate
    key: int | None = None

    def read(self, stored: Readable, first: int, last: int) -> torch.Tensor:
        """What `block` takes of a weight in a file."""
        return stored.read(first, last)

    def rows(self, base: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The merged rows; see `block`."""
        rows: torch.Tensor = self.block(base, first).rows
        return rows

    def block(self, base: torch.Tensor, first: int = 0) -> Block:
        """The merged rows and what became of the update.

        Raises:
            NotFinite: the result holds NaN or Inf.
        """
        asked = torch.from_numpy(self.update.rows(first, first + len(base))).to(base.device).reshape(base.shape)
        total = base.float() + asked
        merged = total.to(base.dtype)
        if not merged.sum(dtype=torch.float64).isfinite():
            raise NotFinite("the base or the merged weight holds NaN or Inf.")
        if self.key is not None:
            flat = total if total.ndim == 2 else total.reshape(len(total), -1)
            merged = stochastic(flat, self.key, first, base.dtype).reshape(base.shape)
        return measured(merged, base, asked)
