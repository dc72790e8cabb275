"""Rounding float32 sums to 16 bits, compiled: one pass over a block instead of a dozen.

Each kernel takes bit patterns and float32 values as plain arrays, works row by row, and releases the GIL. bfloat16 is
the upper half of float32, so that rounding to it is integer arithmetic on the bits.

Stochastic rounding takes the neighbour above with a probability that is the distance from the one below, in units of
their distance: its expectation is the sum itself (Croci et al., 2022, "Stochastic rounding: implementation, error
analysis and applications"). Its random numbers are a function of key, row and column, so that results do not depend on
the order or the size of blocks.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types, uint16, uint32, uint64
from numba.core.extending import intrinsic

_GOLDEN32, _GOLDEN64 = 0x9E3779B9, 0x9E3779B97F4A7C15
_FAST = {"reassoc", "contract"}  # sums in any order, so that they run in vector lanes; NaN and Inf stay what they are


@intrinsic
def _bits(typing_context, value):
    """The bit pattern of a float32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


@intrinsic
def _float(typing_context, bits):
    """The float32 of a bit pattern."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), generate


@njit(inline="always")
def _widen(pattern):
    """The float32 of a bfloat16 pattern."""
    return _float(uint32(uint32(pattern) << uint32(16)))


@njit(inline="always")
def _row_key(key, row):
    """splitmix64 (Steele et al., 2014) of a tensor's key and a row."""
    z = uint64(key) + uint64(row + 1) * uint64(_GOLDEN64)
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


@njit(inline="always")
def _random32(low, high, column):
    """32 random bits: lowbias32 (Wellons, 2018) of a Weyl sequence that starts at the row's key."""
    x = uint32(low + uint32(column) * uint32(_GOLDEN32))
    x = uint32((x ^ (x >> uint32(16))) * uint32(0x7FEB352D))
    x = uint32((x ^ (x >> uint32(15)) ^ high) * uint32(0x846CA68B))
    return uint32(x ^ (x >> uint32(16)))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def nearest_bfloat16(base, update, bound, relative, out, open_at):
    """base + update rounded to nearest even, and where the float32 sum cannot prove that.

    Args:
        base: uint16 [rows, columns], bfloat16 patterns.
        update: float32 [rows, columns]; becomes the change, out - base.
        bound: float32 [rows]: how far an update may be from the exact one.
        relative: how far the sum's own rounding may take it, as a share of the sum.
        out: uint16 [rows, columns], filled.
        open_at: int64 [capacity]: filled with the flat positions of values whose rounding is not proven.

    Returns how many values are open (more than the capacity: the rest is not listed), not finite, and as they were;
    |update|^2, and the inner product of update and change.
    """
    rows, columns = base.shape
    flags = np.empty(columns, np.uint8)
    listed, wrong, same, square, product = 0, 0, 0, 0.0, 0.0
    share = np.float32(relative)
    for i in range(rows):
        row_open, row_wrong, row_same = uint32(0), uint32(0), uint32(0)
        row_square, row_product, limit = np.float32(0), np.float32(0), bound[i]
        for j in range(columns):
            start = _widen(base[i, j])
            asked = update[i, j]
            value = start + asked
            bits = _bits(value)
            rounded = uint32(uint32(bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16))
            end = _widen(rounded)
            change = end - start
            # Rounding turns at half of bfloat16's spacing. Below a power of two the spacing is half as wide: where the
            # allowance comes near that, the value is left open too.
            magnitude = max(uint32(bits & uint32(0x7F800000)), uint32(9 << 23))
            half = _float(uint32(magnitude - uint32(8 << 23)))
            allowed = limit + abs(value) * share
            is_open = uint32(half - abs(value - end) <= allowed) | uint32(np.float32(4) * allowed >= half)
            flags[j] = is_open
            row_open = uint32(row_open + is_open)
            row_wrong = uint32(row_wrong + uint32((rounded & uint32(0x7F80)) == uint32(0x7F80)))
            row_same = uint32(row_same + uint32(change == np.float32(0)))
            row_square += asked * asked
            row_product += asked * change
            out[i, j] = uint16(rounded)
            update[i, j] = change
        if row_open > 0:
            for j in range(columns):
                if flags[j]:
                    if listed < open_at.size:
                        open_at[listed] = i * columns + j
                    listed += 1
        wrong += row_wrong
        same += row_same
        square += row_square
        product += row_product
    return listed, wrong, same, square, product


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def stochastic_bfloat16(base, update, key, first, out):
    """base + update rounded stochastically.

    Args:
        base: uint16 [rows, columns], bfloat16 patterns.
        update: float32 [rows, columns]; becomes the change, out - base.
        key: uint64: of the seed and the tensor.
        first: the first row's number in the tensor.
        out: uint16 [rows, columns], filled.

    Returns how many values are not finite, and as they were; |update|^2, and the inner product of update and change.
    """
    rows, columns = base.shape
    wrong, same, square, product = 0, 0, 0.0, 0.0
    for i in range(rows):
        row_wrong, row_same = uint32(0), uint32(0)
        row_square, row_product = np.float32(0), np.float32(0)
        mixed = _row_key(key, first + i)
        low, high = uint32(mixed & uint64(0xFFFFFFFF)), uint32(mixed >> uint64(32))
        for j in range(columns):
            start = _widen(base[i, j])
            asked = update[i, j]
            # Of the sum's 16 lower bits, the share of a spacing: with that chance the addition carries.
            bits = _bits(start + asked)
            rounded = uint32(uint32(bits + (_random32(low, high, j) >> uint32(16))) >> uint32(16))
            change = _widen(rounded) - start
            row_wrong = uint32(row_wrong + uint32((rounded & uint32(0x7F80)) == uint32(0x7F80)))
            row_same = uint32(row_same + uint32(change == np.float32(0)))
            row_square += asked * asked
            row_product += asked * change
            out[i, j] = uint16(rounded)
            update[i, j] = change
        wrong += row_wrong
        same += row_same
        square += row_square
        product += row_product
    return wrong, same, square, product


@njit(nogil=True, cache=True)
def random32(key, first, out):
    """Fill uint32 [rows, columns] with the random numbers of a tensor's rows from `first` on."""
    for i in range(out.shape[0]):
        mixed = _row_key(key, first + i)
        low, high = uint32(mixed & uint64(0xFFFFFFFF)), uint32(mixed >> uint64(32))
        for j in range(out.shape[1]):
            out[i, j] = _random32(low, high, j)


def load() -> None:
    """Bring the kernels to where they run at once, so that this can be done beside other work."""
    patterns, update = np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.float32)
    stochastic_bfloat16(patterns, update, np.uint64(0), 0, patterns.copy())
