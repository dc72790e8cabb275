"""The smallest values of an array that is seen block by block, told from the others exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """So many of the smallest values: those below `limit`, and of those that equal it the ones up to a flat position.

    That is the order of a stable sort: of equal values the first ones are the smaller ones.
    """

    limit: float
    last: int

    def below(self, values: np.ndarray, first: int = 0) -> np.ndarray:
        """Which of these values are among the smallest; `first`: the flat position of the first one in the whole."""
        found: np.ndarray = values < self.limit
        equal = np.flatnonzero(values == self.limit)
        found.reshape(-1)[equal[equal + first <= self.last]] = True
        return found


def split(blocks: Callable[[], Iterator[np.ndarray]], size: int, rank: int) -> Split:
    """The `rank` smallest of `size` values, finite and of one floating dtype.

    Args:
        blocks: gives the values from the first to the last, and gives them again when it is called again.

    Holds the values once, whole.
    """
    if rank <= 0:
        return Split(-np.inf, -1)
    values, at = np.empty(0), 0
    for block in blocks():
        if at == 0:
            values = np.empty(size, block.dtype)
        values[at : at + block.size] = block.reshape(-1)
        at += block.size
    values.partition(rank - 1)
    limit = values[rank - 1]
    wanted = rank - int(np.count_nonzero(values[:rank] < limit))
    if wanted == np.count_nonzero(values == limit):
        return Split(limit, size)
    at = 0
    for block in blocks():
        equal = np.flatnonzero(block == limit)
        if len(equal) >= wanted:
            return Split(limit, at + int(equal[wanted - 1]))
        wanted, at = wanted - len(equal), at + block.size
    raise AssertionError("the blocks gave other values when they were asked again")
