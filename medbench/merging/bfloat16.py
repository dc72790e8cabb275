"""Low-rank sums on bfloat16 weights, on a CPU and without torch: bit patterns in, bit patterns out.

A block of rows takes one product of the factors in float32 and one compiled pass (`kernels`). This is the way of nearly
every checkpoint; `exact` covers the other dtypes and devices, and weights that were trained whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medbench.merging.proof import NOT_FINITE, NotFinite, Prover, Term, as_array
from medbench.merging.rounding import Block

if TYPE_CHECKING:
    from medbench.merging.stored import Stored

# Values that are settled at a time: bounds the float64 copies of their factors to some 10 MB.
_AT_ONCE = 16_384


class Bfloat16Sum:
    """base + sum of c_i * left_i @ right_i, rounded once to bfloat16.

    Rounded to nearest, every value is proven: the kernel says where the float32 sum cannot, and those are summed again.
    Rounded stochastically there is nothing to prove: the float32 sum errs by 2^-16 of a spacing, far below the noise.

    Args:
        terms: with factors that are exact in float32.
        key: of the random numbers that round (`rounding.Rounding.key`); None rounds to nearest.
    """

    def __init__(self, terms: Sequence[Term], *, key: int | None = None) -> None:
        self._terms = [term for term in terms if term.coefficient != 0]
        self._key = key
        if not self._terms:
            return
        lefts = [as_array(term.left).astype(np.float64) * term.coefficient for term in self._terms]
        self._right = np.concatenate([as_array(term.right) for term in self._terms])
        self._left = np.concatenate(lefts, axis=1).astype(np.float32)
        if key is None:
            # Any order of summation errs by less than (rank + 4) u sum_k |l_ik r_kj| (Higham, Accuracy and Stability
            # of Numerical Algorithms, 3.1), and by Cauchy-Schwarz that sum is at most |l_i| max_j |r_j|: one bound a
            # row. The left factors are rounded once; what is below the smallest normal number may be flushed.
            rank = self._left.shape[1]
            norms = np.sqrt(np.einsum("ij,ij->j", self._right, self._right, dtype=np.float64))
            sizes = np.sqrt(sum(np.einsum("ij,ij->i", left, left) for left in lefts)) * norms.max()
            tiny = 2 * rank * np.finfo(np.float32).smallest_normal
            self._bound = ((rank + 5) * 2.0**-24 * 1.001 * sizes).astype(np.float32) + tiny
            self._prover = Prover(self._terms)

    def read(self, stored: Stored, first: int, last: int) -> np.ndarray:
        """What `block` takes of a weight in a file."""
        return stored.array(first, last)

    def block(self, base: np.ndarray, first: int = 0) -> Block:
        """The merged rows from `first` on, as patterns, and what became of the update in them.

        Args:
            base: uint16 [n, columns], the base's rows.
            first: the number of the first one in its weight.

        Raises:
            NotFinite: a value is NaN or Inf, or leaves bfloat16's range.
        """
        if not self._terms:
            return Block(base.copy(), np.zeros(base.shape, np.float32), 0.0, 0.0, base.size)
        change = self._left[first : first + len(base)] @ self._right
        if self._key is None:
            return self._nearest(base, first, change)
        return self._stochastic(base, first, change, self._key)

    def _stochastic(self, base: np.ndarray, first: int, change: np.ndarray, key: int) -> Block:
        from medbench.merging.kernels import stochastic_bfloat16

        out = np.empty_like(base)
        wrong, same, square, product = stochastic_bfloat16(base, change, np.uint64(key), first, out)
        if wrong:
            raise NotFinite(NOT_FINITE.format("bfloat16"))
        return Block(out, change, square, product, same)

    def _nearest(self, base: np.ndarray, first: int, change: np.ndarray) -> Block:
        from medbench.merging.kernels import nearest_bfloat16

        bound, relative = self._bound[first : first + len(base)], np.float32(2 * np.finfo(np.float32).eps)
        out, room = np.empty_like(base), np.empty(max(base.size // 64, 64), np.int64)
        found, wrong, same, square, product = nearest_bfloat16(base, change, bound, relative, out, room)
        if wrong:
            raise NotFinite(NOT_FINITE.format("bfloat16"))
        if found > len(room):
            return self._one_by_one(base, first, change, out)
        open_ = room[:found]
        same_before, square_before = _counts(change, open_)
        self._settle(open_, base, first, out, change)
        same_after, square_after = _counts(change, open_)
        # An open value's update is the tie between both of its changes: a (b - c) with a = (b + c) / 2.
        product += (square_after - square_before) / 2
        return Block(out, change, square, product, same + same_after - same_before)

    def _one_by_one(self, base: np.ndarray, first: int, change: np.ndarray, out: np.ndarray) -> Block:
        """Factors so large beside their sum that float32 proves little."""
        self._settle(np.arange(base.size), base, first, out, change)
        asked, change64 = self._prover.update(first, len(base)), change.astype(np.float64)
        square, product = float((asked * asked).sum()), float((asked * change64).sum())
        return Block(out, change, square, product, int((change == 0).sum()))

    def _settle(self, open_: np.ndarray, base: np.ndarray, first: int, out: np.ndarray, change: np.ndarray) -> None:
        """Put the correctly rounded sum at the flat positions `open_` into `out`, and its change into `change`."""
        for at in range(0, len(open_), _AT_ONCE):
            i, j = np.divmod(open_[at : at + _AT_ONCE], base.shape[1])
            start = widened(base[i, j])
            rounded = self._prover.settle(start.astype(np.float64), i + first, j, "bfloat16").astype(np.float32)
            out[i, j] = (rounded.view(np.uint32) >> 16).astype(np.uint16)
            change[i, j] = rounded - start


def widened(patterns: np.ndarray) -> np.ndarray:
    """bfloat16 patterns as float32."""
    return (patterns.astype(np.uint32) << 16).view(np.float32)


def _counts(change: np.ndarray, positions: np.ndarray) -> tuple[int, float]:
    """Of the values at flat positions: how many are zero, and the sum of their squares."""
    values = change.ravel()[positions].astype(np.float64)
    return int((values == 0).sum()), float(values @ values)
