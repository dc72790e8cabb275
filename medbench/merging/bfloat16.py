"""Low-rank sums on bfloat16 weights, on a CPU and without torch: bit patterns in, bit patterns out.

A block of rows takes one product of the factors in float32 and one compiled pass (`kernels`). This is the way of nearly
every checkpoint; `exact` covers the other dtypes and devices, and weights that were trained whole.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from medbench.merging.deltas import DenseUpdate
from medbench.merging.proof import NOT_FINITE, NotFinite, Prover, Term, as_array
from medbench.merging.rounding import Block

if TYPE_CHECKING:
    from medbench.merging.stored import Stored

# Values that are settled at a time: bounds the float64 copies of their factors to some 10 MB.
_AT_ONCE = 16_384


class _Scratch(threading.local):
    """Arrays of one thread that are filled anew for every block: giving memory back and asking for it costs more than
    the arithmetic."""

    def __init__(self) -> None:
        self._held: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An array of whatever was in it."""
        size = math.prod(shape)
        if name not in self._held or self._held[name].size < size:
            self._held[name] = np.empty(size, dtype)
        return self._held[name][:size].reshape(shape)


_SCRATCH = _Scratch()


class Bfloat16Sum:
    """base + sum of c_i * left_i @ right_i, rounded once to bfloat16.

    Rounded to nearest, every value is proven: the kernel says where the float32 sum cannot, and those are summed again.
    Rounded stochastically there is nothing to prove: the float32 sum errs by 2^-16 of a spacing, far below the noise.

    Args:
        terms: with factors that are exact in float32.
        key: of the random numbers that round (`rounding.Rounding.key`); None rounds to nearest.
    """

    def __init__(self, terms: Sequence[Term], *, key: int | None = None) -> None:
        self._count, self._key = len(terms), key
        self._used = [at for at, term in enumerate(terms) if term.coefficient != 0]
        used = [terms[at] for at in self._used]
        wide = [as_array(term.left).astype(np.float64) * term.coefficient for term in used]
        self._lefts = [left.astype(np.float32) for left in wide]
        self._rights = [np.ascontiguousarray(as_array(term.right)) for term in used]
        if key is None and used:
            # Any order of summation errs by less than (rank + 4) u sum_k |l_ik r_kj| (Higham, Accuracy and Stability
            # of Numerical Algorithms, 3.1), and by Cauchy-Schwarz that sum is at most |l_i| max_j |r_j|: one bound a
            # row. The left factors are rounded once; what is below the smallest normal number may be flushed.
            rank = sum(len(right) for right in self._rights)
            norms = np.sqrt(sum(np.einsum("ij,ij->j", right, right, dtype=np.float64) for right in self._rights))
            sizes = np.sqrt(sum(np.einsum("ij,ij->i", left, left) for left in wide)) * norms.max()
            tiny = 2 * rank * np.finfo(np.float32).smallest_normal
            self._bound = ((rank + 5) * 2.0**-24 * 1.001 * sizes).astype(np.float32) + tiny
            self._prover = Prover(used)

    def read(self, stored: Stored, first: int, last: int) -> np.ndarray:
        """What `block` takes of a weight in a file; the array is filled anew by the thread's next call."""
        return stored.array_into(_SCRATCH.array("base", stored.part(first, last), np.uint16), first)

    def block(self, base: np.ndarray, first: int = 0) -> Block:
        """The merged rows from `first` on, as patterns, and what became of the update in them.

        Args:
            base: uint16 [n, columns], the base's rows.
            first: the number of the first one in its weight.

        The rows are filled anew by the thread's next call.

        Raises:
            NotFinite: a value is NaN or Inf, or leaves bfloat16's range.
        """
        parts_of = [0.0] * self._count
        if not self._used:
            return Block(base, 0.0, 0.0, base.size, parts_of)
        parts = _SCRATCH.array("parts", (len(self._used), *base.shape), np.float32)
        for at, (left, right) in enumerate(zip(self._lefts, self._rights, strict=True)):
            np.matmul(left[first : first + len(base)], right, out=parts[at])
        out, sums = _SCRATCH.array("out", base.shape, np.uint16), np.zeros(3 + len(parts))
        if self._key is None:
            self._nearest(base, first, parts, out, sums)
        else:
            _stochastic(base, first, parts, out, sums, self._key)
        for at, product in zip(self._used, sums[3:].tolist(), strict=True):
            parts_of[at] = product
        return Block(out, float(sums[2]), float(sums[3:].sum()), int(sums[1]), parts_of)

    def _nearest(self, base: np.ndarray, first: int, parts: np.ndarray, out: np.ndarray, sums: np.ndarray) -> None:
        room = _SCRATCH.array("open", (max(base.size // 64, 64),), np.int64)
        found = _nearest(base, parts, self._bound[first : first + len(base)], out, sums, room)
        if found <= len(room):
            self._settle(room[:found], base, first, parts, out, sums)
            return
        # Factors so large beside their sum that float32 proves little, and counts little right.
        self._settle(np.arange(base.size), base, first, parts, out, sums)
        exact = self._prover.parts(first, len(base))
        sums[2] = float(np.square(sum(exact)).sum())
        sums[3:] = [float((part * (widened(out) - widened(base))).sum()) for part in exact]

    def _settle(
        self, open_: np.ndarray, base: np.ndarray, first: int, parts: np.ndarray, out: np.ndarray, sums: np.ndarray
    ) -> None:
        """Put the correctly rounded sum at the flat positions `open_` into `out`, and count it in place of what was."""
        for at in range(0, len(open_), _AT_ONCE):
            i, j = np.divmod(open_[at : at + _AT_ONCE], base.shape[1])
            start, before = widened(base[i, j]), widened(out[i, j])
            rounded = self._prover.settle(start.astype(np.float64), i + first, j, "bfloat16").astype(np.float32)
            out[i, j] = (rounded.view(np.uint32) >> 16).astype(np.uint16)
            sums[1] += int((rounded == start).sum()) - int((before == start).sum())
            sums[3:] += parts[:, i, j].astype(np.float64) @ (rounded.astype(np.float64) - before)


class Bfloat16Dense:
    """base + a dense update, added in float32 and rounded once: to nearest, or with `key` stochastically."""

    def __init__(self, update: DenseUpdate, *, key: int | None = None) -> None:
        self._update, self._key = update, key

    def read(self, stored: Stored, first: int, last: int) -> np.ndarray:
        """What `block` takes of a weight in a file; the array is filled anew by the thread's next call."""
        return stored.array_into(_SCRATCH.array("base", stored.part(first, last), np.uint16), first)

    def block(self, base: np.ndarray, first: int = 0) -> Block:
        """The merged rows from `first` on, see `Bfloat16Sum.block`."""
        matrix = base.reshape(len(base), -1)
        parts = self._update.rows(first, first + len(base))[None]
        out, sums = _SCRATCH.array("out", matrix.shape, np.uint16), np.zeros(4)
        if self._key is None:
            # The float32 sum is what is rounded: no bound, and ties of it to even.
            _nearest(matrix, parts, np.zeros(len(base), np.float32), out, sums, np.empty(0, np.int64))
        else:
            _stochastic(matrix, first, parts, out, sums, self._key)
        return Block(out.reshape(base.shape), float(sums[2]), float(sums[3]), int(sums[1]))


def _stochastic(base: np.ndarray, first: int, parts: np.ndarray, out: np.ndarray, sums: np.ndarray, key: int) -> None:
    from medbench.merging.kernels import stochastic_bfloat16

    rows = _SCRATCH.array("row", (3, base.shape[1]), np.float32)
    stochastic_bfloat16(base, parts, key, first, out, rows, sums)
    if sums[0]:
        raise NotFinite(NOT_FINITE.format("bfloat16"))


def _nearest(
    base: np.ndarray, parts: np.ndarray, bound: np.ndarray, out: np.ndarray, sums: np.ndarray, room: np.ndarray
) -> int:
    """How many values are open; their positions are in `room`, as far as it goes."""
    from medbench.merging.kernels import nearest_bfloat16

    rows = _SCRATCH.array("row", (3, base.shape[1]), np.float32)
    # The sum's own rounding: two units of float32, of which one is a margin.
    found = nearest_bfloat16(base, parts, bound, 2.0**-22, out, rows, sums, room)
    if sums[0]:
        raise NotFinite(NOT_FINITE.format("bfloat16"))
    return found


def widened(patterns: np.ndarray) -> np.ndarray:
    """bfloat16 patterns as float32."""
    return (patterns.astype(np.uint32) << 16).view(np.float32)
