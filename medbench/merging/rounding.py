"""How a sum becomes 16 bits: to the nearest value, or stochastically, so that its expectation is the sum."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from medbench.errors import unknown

if TYPE_CHECKING:
    import torch

Mode = Literal["nearest", "stochastic"]
MODES = ("nearest", "stochastic")
# Measured (docs/merging.md): of a short training's update nearest keeps two fifths, stochastic all.
DEFAULT: Mode = "stochastic"


@dataclass(frozen=True)
class Rounding:
    """A way of rounding. `seed` decides the stochastic one: the same seed gives the same bytes."""

    mode: Mode = DEFAULT
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("rounding", str(self.mode), MODES)

    def key(self, tensor: str) -> int | None:
        """What a tensor's random numbers start from, 64 bits; None where nothing is random."""
        if self.mode == "nearest":
            return None
        return int.from_bytes(hashlib.sha256(f"rounding:{self.seed}:{tensor}".encode()).digest()[:8], "big")


class Block(NamedTuple):
    """Some rows of a merged weight.

    Attributes:
        rows: [n, ...] in the base's dtype; bfloat16 in numpy as patterns (uint16).
        square: |asked update|^2 of these rows.
        product: the inner product of asked update and change, rows - base.
        unchanged: values that are as the base's.
        parts: the inner product of the change and each term of the sum; empty where that was not counted on the way.
    """

    rows: Any
    square: float
    product: float
    unchanged: int
    parts: Sequence[float] = ()


def measured(rows: torch.Tensor, base: torch.Tensor, asked: torch.Tensor) -> Block:
    """A block from merged rows and the update that was asked for, where no kernel counted on the way."""
    import torch

    change = rows.float() - base.float()
    asked = asked.reshape(change.shape)
    square, product = (float((asked.double() * other).sum()) for other in (asked, change))
    return Block(rows, square, product, change.numel() - int(torch.count_nonzero(change)))


def stochastic(values: torch.Tensor, key: int, first: int, dtype: torch.dtype) -> torch.Tensor:
    """float32 values [rows, columns] rounded stochastically to bfloat16 or float16.

    Args:
        values: finite, within the range of `dtype`.
        key: from `Rounding.key`.
        first: the number of the first row in its tensor.
        dtype: what to round to; float32 comes back as it is.
    """
    import torch

    from medbench.merging.kernels import random32

    if dtype == torch.float32:
        return values
    filled = np.empty(tuple(values.shape), np.uint32)
    random32(key, first, filled)
    random = torch.from_numpy(filled.view(np.int32)).to(values.device)
    lower = 16 if dtype == torch.bfloat16 else 13
    carried = values.view(torch.int32) + (random >> (32 - lower) & (1 << lower) - 1)
    rounded = (carried >> lower << lower).view(torch.float32)
    if dtype == torch.float16:
        # Below float16's smallest normal number the spacing no longer shrinks with the value.
        unit = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
        share = (random.double() + 2.0**31) / 2.0**32
        small = torch.floor(values.double() / unit + share) * unit
        rounded = torch.where(values.abs() < torch.finfo(dtype).smallest_normal, small.float(), rounded)
    return rounded.to(dtype)
