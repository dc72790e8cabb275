"""The updates to one weight as dense matrices, seen by blocks of rows: what the dense methods work on.

No update is ever held whole. What a method has to know of a whole one, such as the limit below which its values are
dropped, is found once, in a pass of its own over the blocks.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from medbench.merging.selection import Split, split
from medbench.merging.updates import LowRank, Update

T = TypeVar("T")
# Values of one update in a block. The blocks lie on one grid, whoever asks for which rows: so values are the same.
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Part:
    """Some rows of all the updates to a weight.

    Attributes:
        updates: float32 [rows, columns] each.
        row, first: the number of its first row, and the flat position of its first value, in the weight.
        whole: the weight.
    """

    updates: list[np.ndarray]
    row: int
    first: int
    whole: Deltas


class Deltas:
    """All updates to one weight.

    Args:
        updates: of one shape; a vector's are one row.
        tensor: the weight's name, from which its random numbers start.
    """

    def __init__(self, updates: Sequence[Update], tensor: str) -> None:
        self._updates, self._tensor = updates, tensor
        shape = updates[0].shape
        self.is_vector = len(shape) == 1
        self.rows, self.columns = (1, shape[0]) if self.is_vector else (shape[0], math.prod(shape[1:]))
        self.size = self.rows * self.columns
        self.step = max(1, _BLOCK // max(self.columns, 1))
        self._found: dict[Hashable, Any] = {}
        self._lock = threading.RLock()

    def part(self, row: int) -> Part:
        """The block that begins at a row, a multiple of `step`."""
        last = min(row + self.step, self.rows)
        return Part([self._dense(u, row, last) for u in self._updates], row, row * self.columns, self)

    def _dense(self, update: Update, first: int, last: int) -> np.ndarray:
        if isinstance(update, LowRank):
            left = update.left_array[first:last].astype(np.float64) * update.scale
            product: np.ndarray = left.astype(np.float32) @ update.right_array
            return product
        whole = update.rows(0, self.columns) if self.is_vector else update.rows(first, last)
        return whole.float().cpu().numpy().reshape(last - first, self.columns)

    def parts(self) -> Iterator[Part]:
        """All blocks, from the first to the last."""
        return (self.part(row) for row in range(0, self.rows, self.step))

    def once(self, name: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, found by the first who asks for that name."""
        with self._lock:
            if name not in self._found:
                self._found[name] = compute()
            found: T = self._found[name]
            return found

    def smallest(self, name: Hashable, values: Callable[[Part], np.ndarray], rank: int) -> Split:
        """The `rank` smallest of some values, one for each of the weight's, as `values` gives them for a part."""
        return self.once((name, rank), lambda: split(lambda: map(values, self.parts()), self.size, rank))

    def uniform(self, part: Part, at: int, seed: int) -> np.ndarray:
        """Random numbers in [0, 1) for the values of update number `at` in a part, whatever the order of parts."""
        from medbench.merging.kernels import random32

        digest = hashlib.sha256(f"{seed}:{self._tensor}:{at}".encode()).digest()
        bits = np.empty(part.updates[at].shape, np.uint32)
        random32(int.from_bytes(digest[:8], "big"), part.row, bits)
        return bits * 2.0**-32


@dataclass(frozen=True)
class DenseUpdate:
    """What a dense method makes of the updates to one weight."""

    deltas: Deltas
    weights: list[float]
    function: Callable[..., np.ndarray]
    settings: Mapping[str, Any]

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last` of the combined update, float32 [n, columns]; of a vector its values, [n, 1]."""
        if self.deltas.is_vector:
            return self._block(0).reshape(-1, 1)[first:last]
        step = self.deltas.step
        blocks = [self._block(row) for row in range(first // step * step, last, step)]
        found = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return found[first % step : first % step + last - first]

    def _block(self, row: int) -> np.ndarray:
        return self.function(self.deltas.part(row), self.weights, **self.settings)
