"""What a merge kept of what it was asked for: the update that is really in the rounded weights.

An element whose update is smaller than half a step of the stored dtype stays as it was when it is rounded to nearest.
So a merge counts, over all adapted weights: the share of the asked update U that its change D holds, <D, U> / <U, U>;
the effective weight of each adapter, by plain least squares of D on the dW_i; and the share of values that did not
change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.errors import MedbenchError
from medbench.merging.adapters import Adapter
from medbench.merging.bfloat16 import widened
from medbench.merging.coefficients import inner_products
from medbench.merging.proof import Rows, as_array
from medbench.merging.rounding import Block
from medbench.merging.updates import LowRank

if TYPE_CHECKING:
    import torch

    from medbench.merging.proof import Matrix

# Below this share of the update a merge is worth a warning. Chosen: what a reader of a sweep's x axis would see.
ENOUGH = 0.95


@dataclass(frozen=True)
class Kept:
    """What became of an update.

    Attributes:
        share: of the asked update that the change holds; 1 where nothing was asked for.
        effective: adapter -> the weight with which its update is in the merged model, by plain least squares; empty
            where two updates are proportional, so that their weights cannot be told apart.
        unchanged: share of the adapted values that are as the base's.
        values: how many values the adapters cover.
    """

    share: float
    effective: dict[str, float]
    unchanged: float
    values: int

    def facts(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "update_kept": self.share,
            "effective_weights": self.effective,
            "values_unchanged": self.unchanged,
            "adapted_values": self.values,
        }


class Products:
    """The sums behind `Kept`: inner products of the change with the adapters' updates, and of these with each other.

    Args:
        adapters: whose updates are asked about.

    One is filled per block and added up in the order of the blocks, so that threads do not change the last bit.
    """

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        self._adapters = adapters
        count = len(adapters)
        self._gram = np.zeros((count, count))
        self._right = np.zeros(count)
        self._sums = np.zeros(4)  # |U|^2, <U, D>, unchanged, values

    def add_weight(self, tensor: str) -> None:
        """Inner products of the updates of one weight, from their factors; of whole modules see `add_block`."""
        if any(tensor in adapter.whole for adapter in self._adapters):
            return
        here = [at for at, adapter in enumerate(self._adapters) if tensor in adapter.low_rank]
        if here:
            self._gram[np.ix_(here, here)] += inner_products([self._adapters[at].low_rank[tensor] for at in here])

    def add_block(
        self, tensor: str, block: Block, base: Rows, first: int, weights: Mapping[str, float] | None = None
    ) -> Products:
        """Count one block of a weight; returns itself.

        `base`: its rows there; `weights`: by adapter, where the asked update is just their weighted sum, so that the
        block's parts are their own.
        """
        self._sums += (block.square, block.product, block.unchanged, int(np.prod(base.shape)))
        here = slice(first, first + len(base))
        if any(tensor in adapter.whole for adapter in self._adapters):
            assert not isinstance(base, np.ndarray)  # a weight trained whole is summed in torch
            self._add_dense(tensor, changed(block.rows, base).double(), base, here)
            return self
        members = [at for at, adapter in enumerate(self._adapters) if tensor in adapter.low_rank]
        updates = [self._adapters[at].low_rank[tensor] for at in members]
        asked = [weights[self._adapters[at].name] for at in members] if weights and block.parts else []
        if asked and all(asked):
            # The terms of the sum are w_i dW_i: the inner products were counted on the way.
            found = [part / weight for part, weight in zip(block.parts, asked, strict=True)]
        elif members:
            along = _along(changed(block.rows, base), updates, here)
            found = [update.scale * value for update, value in zip(updates, along, strict=True)]
        self._right[members] += found if members else []
        return self

    def _add_dense(self, tensor: str, change: torch.Tensor, base: torch.Tensor, here: slice) -> None:
        """A weight that an adapter replaces whole."""
        start, dense = base.double().reshape(change.shape), {}
        for at, adapter in enumerate(self._adapters):
            if tensor in adapter.whole:
                dense[at] = adapter.whole[tensor][here].double().reshape(change.shape) - start
            elif tensor in adapter.low_rank:
                update = adapter.low_rank[tensor]
                dense[at] = update.scale * (update.left[here].double() @ update.right.double())
        for i, one in dense.items():
            self._right[i] += float((one * change).sum())
            for j, other in dense.items():
                self._gram[i, j] += float((one * other).sum())

    def add(self, other: Products) -> None:
        """Add what another one counted."""
        self._gram += other._gram
        self._right += other._right
        self._sums += other._sums

    def kept(self) -> Kept:
        """The result.

        Raises:
            MedbenchError: an update so large that its squares leave float32's range.
        """
        square, product, unchanged, values = self._sums.tolist()
        if not math.isfinite(square) or not math.isfinite(product):
            raise MedbenchError("the asked update is too large to be measured (its squares overflow): check weights.")
        return Kept(
            share=product / square if square > 0 else 1.0,
            effective=self._effective(),
            unchanged=unchanged / values if values else 0.0,
            values=int(values),
        )

    def _effective(self) -> dict[str, float]:
        norms = np.sqrt(np.maximum(self._gram.diagonal(), 0))
        used = np.flatnonzero(norms > 0)
        scaled = (self._gram[np.ix_(used, used)]) / np.outer(norms[used], norms[used])
        if len(used) and np.linalg.cond(scaled) > 1e10:
            return {}
        solved = np.linalg.solve(scaled, self._right[used] / norms[used]) / norms[used]
        found = dict(zip(used.tolist(), solved.tolist(), strict=True))
        return {adapter.name: found.get(at, 0.0) for at, adapter in enumerate(self._adapters)}


def changed(rows: Rows, base: Rows) -> Rows:
    """rows - base in float32, as a matrix; of arrays of bfloat16 patterns, or of tensors."""
    if isinstance(rows, np.ndarray):
        return widened(rows) - widened(base)
    difference = rows.float() - base.float()
    return difference if difference.ndim == 2 else difference.reshape(len(difference), -1)


def _along(change: Matrix, updates: Sequence[LowRank], here: slice) -> list[float]:
    """<D, L_i R_i> of some rows D, in numpy or torch, with each update's factors."""
    # = the sum of (D R') * L: one product with a thin matrix instead of a dense update an adapter.
    if isinstance(change, np.ndarray):
        projected = change @ np.concatenate([update.right_array for update in updates]).T
        lefts = np.concatenate([update.left_array[here] for update in updates], axis=1)
        columns = np.einsum("ij,ij->j", projected, lefts, dtype=np.float64)
    else:
        import torch

        products = change @ torch.cat([update.right for update in updates]).T
        factors = torch.cat([update.left[here] for update in updates], dim=1)
        columns = as_array((products * factors).sum(dim=0, dtype=torch.float64))
    ends = np.cumsum([update.rank for update in updates])[:-1]
    return [float(part.sum()) for part in np.split(columns, ends)]


def advice(kept: Kept, dtype: str, mode: str) -> str | None:
    """The warning for a merge that lost more than a twentieth of its update, or None."""
    if kept.share >= ENOUGH:
        return None
    text = f"rounding to {dtype} ({mode}) kept {kept.share:.2f} of the update"
    if kept.effective:
        text += f": {weights_text(kept.effective)} take effect"
    return (
        f"{text}. Use --rounding stochastic, which keeps all of it on average; or --dtype float32 or --format adapter, "
        "which round nothing away."
    )


def weights_text(weights: Mapping[str, float]) -> str:
    """Weights for people: ``pt 0.3000, sft 0.7000``."""
    return ", ".join(f"{name} {weight:.4f}" for name, weight in weights.items())
