"""Rounding float32 sums to 16 bits, compiled: one pass over a block instead of a dozen.

This is the source alone: `kernels` keeps what numba makes of it on the disk, and is what callers import. Each kernel
takes pointers to bit patterns and float32 values and works row by row. bfloat16 is the upper half of float32, so that
rounding to it is integer arithmetic on the bits.

Stochastic rounding takes the neighbour above with a probability that is the distance from the one below, in units of
their distance: its expectation is the sum itself (Croci et al., 2022, "Stochastic rounding: implementation, error
analysis and applications"). Its random numbers are a function of key, row and column, so that results do not depend on
the order or the size of blocks.
"""

from __future__ import annotations

import numpy as np
from numba import carray, cfunc, njit, types, uint16, uint32, uint64
from numba.core.extending import intrinsic

_GOLDEN32, _GOLDEN64 = 0x9E3779B9, 0x9E3779B97F4A7C15
_FAST = {"reassoc", "contract"}  # sums in any order, so that they run in vector lanes; NaN and Inf stay what they are


_P16, _P32, _P64 = (types.CPointer(kind) for kind in (types.uint16, types.uint32, types.int64))
_PF, _PD = types.CPointer(types.float32), types.CPointer(types.float64)
_SIZE = types.int64


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


@njit(inline="always")
def _rest(parts, row, room):
    """What a row is asked to change by beside the first part: the sum of the other parts, or zeros."""
    if len(parts) == 2:
        return parts[1, row]
    room[:] = 0
    for k in range(1, len(parts)):
        for j in range(room.size):
            room[j] += parts[k, row, j]
    return room


@njit(inline="always")
def _count(counts, products, moved, parts, row, sums):
    """Add a row's counts to `sums`, and the inner products of its change with the first part and with the others."""
    sums[0] += counts[0]
    sums[1] += counts[1]
    sums[2] += counts[2]
    sums[3] += products[0]
    if len(parts) == 2:
        sums[4] += products[1]
    for k in range(1, len(parts) if len(parts) > 2 else 0):
        product = np.float32(0)
        for j in range(moved.size):
            product += moved[j] * parts[k, row, j]
        sums[3 + k] += product


@cfunc(
    _SIZE(_P16, _PF, _PF, types.float32, _P16, _PF, _PD, _P64, _SIZE, _SIZE, _SIZE, _SIZE),
    error_model="numpy",
    fastmath=_FAST,
)
def nearest_bfloat16(
    base_at, parts_at, bound_at, relative, out_at, row_of_at, sums_at, open_at, terms, rows, columns, capacity
):
    """base + the sum of the parts rounded to nearest even, and where the float32 sum cannot prove that.

    Args:
        base: uint16 [rows, columns], bfloat16 patterns.
        parts: float32 [terms, rows, columns].
        bound: float32 [rows]: how far the parts' sum may be from the exact one.
        relative: how far the sum's own rounding may take it, as a share of the sum.
        out: uint16 [rows, columns], filled.
        row_of: float32 [3, columns], room to work in.
        sums: float64 [3 + terms]: added to it are how many values are not finite, and as they were, |update|^2, and the
            inner products of the change, out - base, with each part.
        open: int64 [capacity]: filled with the flat positions of values whose rounding is not proven.

    Returns how many values are open (more than the capacity: the rest is not listed).
    """
    base, out = carray(base_at, (rows, columns)), carray(out_at, (rows, columns))
    parts, bound = carray(parts_at, (terms, rows, columns)), carray(bound_at, (rows,))
    row_of, sums = carray(row_of_at, (3, columns)), carray(sums_at, (3 + terms,))
    listing = carray(open_at, (capacity,))
    room, moved, flags = row_of[0], row_of[1], row_of[2]
    listed = 0
    share = np.float32(relative)
    for i in range(rows):
        first, rest = parts[0, i], _rest(parts, i, room)
        is_any, wrong, same, limit = uint32(0), uint32(0), uint32(0), bound[i]
        square, along, across = np.float32(0), np.float32(0), np.float32(0)
        for j in range(columns):
            start = _widen(base[i, j])
            asked = first[j] + rest[j]
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
            is_any = uint32(is_any + is_open)
            wrong = uint32(wrong + uint32((rounded & uint32(0x7F80)) == uint32(0x7F80)))
            same = uint32(same + uint32(change == np.float32(0)))
            square += asked * asked
            along += change * first[j]
            across += change * rest[j]
            out[i, j] = uint16(rounded)
            moved[j] = change
        if is_any > 0:
            for j in range(columns):
                if flags[j] > 0:
                    if listed < capacity:
                        listing[listed] = i * columns + j
                    listed += 1
        _count((wrong, same, square), (along, across), moved, parts, i, sums)
    return listed


@cfunc(
    types.void(_P16, _PF, types.uint64, _SIZE, _P16, _PF, _PD, _SIZE, _SIZE, _SIZE),
    error_model="numpy",
    fastmath=_FAST,
)
def stochastic_bfloat16(base_at, parts_at, key, first, out_at, row_of_at, sums_at, terms, rows, columns):
    """base + the sum of the parts rounded stochastically.

    Args:
        key: of the seed and the tensor.
        first: the first row's number in the tensor.
        base, parts, out, row_of, sums: see `nearest_bfloat16`.
    """
    base, out = carray(base_at, (rows, columns)), carray(out_at, (rows, columns))
    parts = carray(parts_at, (terms, rows, columns))
    row_of, sums = carray(row_of_at, (3, columns)), carray(sums_at, (3 + terms,))
    room, moved = row_of[0], row_of[1]
    for i in range(rows):
        part, rest = parts[0, i], _rest(parts, i, room)
        wrong, same, square = uint32(0), uint32(0), np.float32(0)
        along, across = np.float32(0), np.float32(0)
        mixed = _row_key(key, first + i)
        low, high = uint32(mixed & uint64(0xFFFFFFFF)), uint32(mixed >> uint64(32))
        for j in range(columns):
            start = _widen(base[i, j])
            asked = part[j] + rest[j]
            # Of the sum's 16 lower bits, the share of a spacing: with that chance the addition carries.
            bits = _bits(start + asked)
            rounded = uint32(uint32(bits + (_random32(low, high, j) >> uint32(16))) >> uint32(16))
            change = _widen(rounded) - start
            wrong = uint32(wrong + uint32((rounded & uint32(0x7F80)) == uint32(0x7F80)))
            same = uint32(same + uint32(change == np.float32(0)))
            square += asked * asked
            along += change * part[j]
            across += change * rest[j]
            out[i, j] = uint16(rounded)
            moved[j] = change
        _count((wrong, same, square), (along, across), moved, parts, i, sums)


@cfunc(types.void(types.uint64, _SIZE, _P32, _SIZE, _SIZE))
def random32(key, first, out_at, rows, columns):
    """Fill uint32 [rows, columns] with the random numbers of a tensor's rows from `first` on."""
    out = carray(out_at, (rows, columns))
    for i in range(rows):
        mixed = _row_key(key, first + i)
        low, high = uint32(mixed & uint64(0xFFFFFFFF)), uint32(mixed >> uint64(32))
        for j in range(columns):
            out[i, j] = _random32(low, high, j)


KERNELS = (nearest_bfloat16, stochastic_bfloat16, random32)
