"""Sets of hashes: which elements of a sorted set a sequence holds."""

from __future__ import annotations

import numpy as np

from medbench.leakage.kernel.compiled import inner

_1, _6, _58, _63 = (np.uint64(n) for n in (1, 6, 58, 63))
SMALLEST = 64  # words of a bitmap at least


@inner
def ordered(hashes):
    """Sorted, by merging runs; `np.sort` takes long to compile."""
    n = hashes.size
    runs, merged = hashes.copy(), np.empty(n, np.uint64)
    width = 1
    while width < n:
        for begin in range(0, n, 2 * width):
            i, middle = begin, min(begin + width, n)
            j, end = middle, min(begin + 2 * width, n)
            for k in range(begin, end):
                if j == end or (i < middle and runs[i] <= runs[j]):
                    merged[k] = runs[i]
                    i += 1
                else:
                    merged[k] = runs[j]
                    j += 1
        runs, merged = merged, runs
        width *= 2
    return runs


@inner
def position(ordered_set, h):
    """Where in a sorted set a hash is, or would be put in."""
    low, high = 0, ordered_set.size
    while low < high:
        middle = (low + high) >> 1
        if ordered_set[middle] < h:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def elements(hashes, target, element):
    """How many elements of a sorted set occur; into `element`, if long enough, which one each hash is, or -1."""
    # most hashes are none: a small bitmap says so without a search
    bitmap = np.zeros(64, np.uint64)
    for h in target:
        bitmap[h >> _58] |= _1 << ((h >> _6) & _63)
    seen = np.zeros(target.size, np.bool_)
    wanted = element.size >= hashes.size
    n = 0
    for i in range(hashes.size):
        h = hashes[i]
        which = -1
        if (bitmap[h >> _58] >> ((h >> _6) & _63)) & _1:
            k = position(target, h)
            if k < target.size and target[k] == h:
                which = k
                n += not seen[k]
                seen[k] = True
        if wanted:
            element[i] = which
    return n


@inner
def mark(hashes, room):
    """A bitmap of hashes, of some sixteen bits each, laid into `room`: uint64, a power of two of words of it."""
    words = SMALLEST
    while words < hashes.size // 4 and 2 * words <= room.size:
        words *= 2
    bitmap = room[:words]
    bitmap[:] = 0
    shift = np.uint64(64 - int(np.log2(words)))
    for h in hashes:
        bitmap[h >> shift] |= _1 << (h & _63)
    return bitmap


@inner
def marked(bitmap, h):
    """Whether a hash may be among those that were marked: surely not where the answer is no."""
    return (bitmap[h >> np.uint64(64 - int(np.log2(bitmap.size)))] >> (h & _63)) & _1 != 0


@inner
def may_hold(bitmap, target, least):
    """Whether what is marked may hold so many elements of a set: surely not where the answer is no."""
    shift = np.uint64(64 - int(np.log2(bitmap.size)))
    n = np.uint64(0)
    for h in target:
        n += (bitmap[h >> shift] >> (h & _63)) & _1
    return n >= np.uint64(least)
