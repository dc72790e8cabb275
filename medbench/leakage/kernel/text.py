"""Text as units and shingles: two readers of UTF-8 that agree, one with offsets and one as fast as can be.

A shingle is five consecutive units of one text. Its hash rolls over the units' hashes modulo 2**64, so that each step
costs one multiplication.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from medbench.compiling import announce
from medbench.leakage.kernel.compiled import compiled, inner
from medbench.leakage.units import COMBINING, EXPANSION, SEPARATOR, SINGLE, SKIP, WORD

SHINGLE = 5  # units per shingle, as the audit issue and the peers it is compared with have it
SHORT = 3  # units per short shingle, of which some survive where a text was edited
PAIR = 2  # units of what survives where three of ten units were edited

SEED = np.uint64(0x9E3779B97F4A7C15)
CHARACTER = np.uint64(0xD6E8FEB86659FD93)  # odd, so that each step of a word's hash is invertible
_MIX = np.uint64(0xC2B2AE3D27D4EB4F)
ROLL = np.uint64(0x100000001B3 | 0xA5A5 << 44)
STOP = 1 << 32  # in an ASCII table: characters at which reading stops
_STOP = np.uint64(STOP)
_HIGH = np.uint64(0x80)
_0, _1, _2, _3, _4, _6, _7, _11 = (np.uint64(n) for n in (0, 1, 2, 3, 4, 6, 7, 11))
_12, _15, _18, _29, _31, _32, _63 = (np.uint64(n) for n in (12, 15, 18, 29, 31, 32, 63))


@njit(inline="always")
def finish(h):
    """The last step of a word's hash."""
    h ^= h >> _32
    h *= _MIX
    return h ^ (h >> _29)


@inner
def split(buffer, i, end):
    """Whether an entity, a tag, or a word's split at a line's end may begin at byte `i`, one of ``&<-``."""
    i, end = np.int64(i), np.int64(end)
    if i + 1 >= end:
        return False
    after = buffer[i + 1]
    if buffer[i] == 45:  # -
        if i == 0 or not (buffer[i - 1] >= 0x80 or _letter(buffer[i - 1])):
            return False
        i += 1
        while i < end and (buffer[i] == 32 or buffer[i] == 9):
            i += 1
        # as it stands, or as JSON writes it
        line_end = i < end and (buffer[i] == 10 or buffer[i] == 13)
        return line_end or (i + 1 < end and buffer[i] == 92 and buffer[i + 1] in (110, 114, 116, 117))
    if buffer[i] == 60:  # <
        return after == 33 or after == 47 or after == 92 or _letter(after)
    if after == 35 or _letter(after):  # &
        for k in range(i + 2, min(end, i + 40)):
            if buffer[k] == 59:
                return True
    return False


@inner
def _letter(byte):
    return (byte | 32) >= 97 and (byte | 32) <= 122


@compiled
def tokenise(buffer, text_start, table, pool, unit_hash, unit_begin, unit_end, unit_start, marked):
    """Units of each text: hashes, and byte offsets within the text; a caller provides arrays of the buffer's length.

    Args:
        buffer: uint8, valid UTF-8.
        text_start: int64 of shape (texts + 1,).
        table, pool: from `units.character_table`.
        unit_hash, unit_begin, unit_end: uint64, int32, int32: filled; an expansion may hold more units than bytes, so
            their length is `capacity(buffer)`.
        unit_start: int64 of shape (texts + 1,): filled; units of text s are ``unit_start[s]:unit_start[s + 1]``.
        marked: bool of shape (texts,): set where a text needs `written.restore` first: combining marks, tags, entities,
            words split at a line's end.
    """
    n = 0
    for s in range(text_start.size - 1):
        unit_start[s] = n
        a, b = text_start[s], text_start[s + 1]
        i = a
        h = SEED
        begin = end = np.int64(-1)  # begin >= 0 inside a word
        while i < b:
            c = np.int32(buffer[i])
            width = 1
            if c >= 0x80:
                if c < 0xE0:
                    c = (c & 0x1F) << 6 | (buffer[i + 1] & 0x3F)
                    width = 2
                elif c < 0xF0:
                    c = (c & 0x0F) << 12 | (buffer[i + 1] & 0x3F) << 6 | (buffer[i + 2] & 0x3F)
                    width = 3
                else:
                    c = (
                        (c & 0x07) << 18
                        | (buffer[i + 1] & 0x3F) << 12
                        | (buffer[i + 2] & 0x3F) << 6
                        | (buffer[i + 3] & 0x3F)
                    )
                    width = 4
            entry = table[c]
            kind = entry & 3
            if kind == WORD:
                if begin < 0:
                    begin = i
                    h = SEED
                h = (h ^ np.uint64(entry >> 2)) * CHARACTER
                end = i + width
            elif entry == SEPARATOR:
                if c < 0x40 and (c == 38 or c == 45 or c == 60) and split(buffer, np.uint64(i), np.uint64(b)):
                    marked[s] = True
                if begin >= 0:
                    unit_hash[n], unit_begin[n], unit_end[n] = finish(h), begin - a, end - a
                    n += 1
                    begin = -1
            elif kind == SINGLE:
                if begin >= 0:
                    unit_hash[n], unit_begin[n], unit_end[n] = finish(h), begin - a, end - a
                    n += 1
                    begin = -1
                unit_hash[n] = finish((SEED ^ np.uint64(entry >> 2)) * CHARACTER)
                unit_begin[n], unit_end[n] = i - a, i + width - a
                n += 1
            elif entry == COMBINING:
                marked[s] = True
                if begin < 0:
                    begin = i
                    h = SEED
                h = (h ^ np.uint64(c)) * CHARACTER
                end = i + width
            elif kind == EXPANSION:
                first = entry >> 2
                for k in range(first + 1, first + 1 + pool[first]):
                    part = pool[k]
                    if part & 3 == WORD:
                        if begin < 0:
                            begin = i
                            h = SEED
                        h = (h ^ np.uint64(part >> 2)) * CHARACTER
                        end = i + width
                    elif part != SKIP:
                        if begin >= 0:
                            unit_hash[n], unit_begin[n], unit_end[n] = finish(h), begin - a, end - a
                            n += 1
                            begin = -1
                        if part & 3 == SINGLE:
                            unit_hash[n] = finish((SEED ^ np.uint64(part >> 2)) * CHARACTER)
                            unit_begin[n], unit_end[n] = i - a, i + width - a
                            n += 1
            i += width
        if begin >= 0:
            unit_hash[n], unit_begin[n], unit_end[n] = finish(h), begin - a, end - a
            n += 1
    unit_start[text_start.size - 1] = n


announce(tokenise, "the audit", 30)


@compiled
def shingles(unit_hash, unit_start, shingle_hash, shingle_start, size):
    """Hashes of shingles of `size` units, none across texts; text s owns ``shingle_start[s]:shingle_start[s + 1]``."""
    n = 0
    beyond = ROLL
    for _ in range(size - 1):
        beyond *= ROLL
    for s in range(unit_start.size - 1):
        shingle_start[s] = n
        h = np.uint64(0)
        for i in range(unit_start[s], unit_start[s + 1]):
            h = h * ROLL + unit_hash[i]
            k = i - unit_start[s]
            if k >= size:
                h -= unit_hash[i - size] * beyond
            if k >= size - 1:
                shingle_hash[n] = h
                n += 1
    shingle_start[unit_start.size - 1] = n


@compiled
def all_shingles(unit_hash, unit_start, size):
    """`shingles` in arrays of its own: hashes of all texts, and where each text's start, with the end."""
    out, start = np.empty(unit_hash.size, np.uint64), np.empty_like(unit_start)
    shingles(unit_hash, unit_start, out, start, size)
    return out[: start[-1]], start


@compiled
def shingle_hashes(unit_hash, size):
    """Hashes of the shingles of one text."""
    return all_shingles(unit_hash, np.array([0, unit_hash.size]), size)[0]


@compiled
def sequence_hash(unit_hash):
    """One hash of a whole sequence of units."""
    h = np.uint64(unit_hash.size)
    for u in unit_hash:
        h = (h ^ u) * CHARACTER
        h ^= h >> _32
    return h


@inner
def put(code, table, pool, raw, n, h, inside):
    """One character of a text: the new `n`, `h` and `inside` of `read`, and whether it is a combining mark."""
    entry = table[code]
    kind = entry & 3
    if kind == WORD:
        return n, (h ^ np.uint64(entry >> 2)) * CHARACTER, _1, False
    if kind == SINGLE or entry == SEPARATOR:
        raw[n] = h
        n += inside
        raw[n] = (SEED ^ np.uint64(entry >> 2)) * CHARACTER
        n += np.uint64(kind == SINGLE)
        return n, SEED, _0, False
    if kind == EXPANSION:
        first = entry >> 2
        for k in range(first + 1, first + 1 + pool[first]):
            part = pool[k]
            if part & 3 == WORD:
                h = (h ^ np.uint64(part >> 2)) * CHARACTER
                inside = _1
            elif part != SKIP:
                raw[n] = h
                n += inside
                raw[n] = (SEED ^ np.uint64(part >> 2)) * CHARACTER
                n += np.uint64(part & 3 == SINGLE)
                h = SEED
                inside = _0
    return n, h, inside, entry == COMBINING


@inner
def read(buffer, i, end, ascii_table, table, pool, raw, n, h, inside):
    """Hashes of units into `raw`, not yet finished, from byte `i` up to a byte that `ascii_table` stops at, or `end`.

    As `tokenise`, without offsets, and it also stops at what is not UTF-8 (three more bytes can be read at the end). A
    unit is written at every character and kept where it ends: words are short, and a branch at each end would be
    guessed wrong.

    Args:
        n: units in `raw` so far.
        h, inside: the hash of the word begun, and 1 inside a word.

    Returns:
        Where it stopped, `n`, `h`, `inside`, and whether something came up that `written.restore` has to look at.
    """
    marked = False
    while i < end:
        byte = np.uint64(buffer[i])
        if byte < 0x80:
            folded = ascii_table[byte]
            if folded >= _STOP:
                if byte != 38 and byte != 45 and byte != 60:
                    break
                if split(buffer, i, end):
                    return i, n, h, inside, True
                folded = _0
            word = np.uint64(folded != 0)
            raw[n] = h
            n += inside & ~word
            h = (h ^ folded) * CHARACTER if folded != 0 else SEED
            inside = word
            i += _1
            continue
        second = np.uint64(buffer[i + _1]) ^ _HIGH  # 0 to 63, as bytes that go on a character are
        if byte < 0xE0:
            code = (byte & _31) << _6 | second
            width = _2
            if byte < 0xC2 or second > _63:
                break
        elif byte < 0xF0:
            third = np.uint64(buffer[i + _2]) ^ _HIGH
            code = (byte & _15) << _12 | second << _6 | third
            width = _3
            if (second | third) > _63 or code < 0x800 or code >> _11 == 0xD800 >> 11:
                break
        else:
            third, fourth = np.uint64(buffer[i + _2]) ^ _HIGH, np.uint64(buffer[i + _3]) ^ _HIGH
            code = (byte & _7) << _18 | second << _12 | third << _6 | fourth
            width = _4
            if (second | third | fourth) > _63 or byte > 0xF4 or code < 0x10000 or code > 0x10FFFF:
                break
        i += width
        entry = table[code]
        kind = entry & 3
        if kind == SINGLE or entry == SEPARATOR:  # as in `put`, here because calls take time
            raw[n] = h
            n += inside
            raw[n] = (SEED ^ np.uint64(entry >> 2)) * CHARACTER
            n += np.uint64(kind == SINGLE)
            h = SEED
            inside = _0
        else:
            n, h, inside, mark = put(code, table, pool, raw, n, h, inside)
            marked |= mark
    return i, n, h, inside, marked
