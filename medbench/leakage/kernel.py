"""The compiled part of the audit: tokenise, look shingles up, count, compare. Plain arrays in, plain arrays out.

A shingle is five consecutive units of one text. Its hash rolls over the units' hashes modulo 2**64, so that each step
costs one multiplication. Every function releases the GIL and is compiled once per machine (numba's cache).

Layout shared by all functions: texts lie one after another in a byte buffer (UTF-8), text s being
``buffer[text_start[s]:text_start[s + 1]]``; record r owns the texts ``record_start[r]:record_start[r + 1]``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from medbench.leakage.units import COMBINING, EXPANSION, SEPARATOR, SINGLE, SKIP, WORD

SHINGLE = 5  # units per shingle, as the audit issue and the peers it is compared with have it

_SEED = np.uint64(0x9E3779B97F4A7C15)
_CHARACTER = np.uint64(0xD6E8FEB86659FD93)  # odd, so that each step of a word's hash is invertible
_MIX = np.uint64(0xC2B2AE3D27D4EB4F)
_ROLL = np.uint64(0x100000001B3 | 0xA5A5 << 44)
_ROLL4, _ROLL5 = (np.uint64(pow(int(_ROLL), n, 1 << 64)) for n in (SHINGLE - 1, SHINGLE))
_0, _1, _2, _3, _4, _6, _7, _11, _12, _15, _18 = (np.uint64(n) for n in (0, 1, 2, 3, 4, 6, 7, 11, 12, 15, 18))
_10, _29, _31, _32, _58, _63, _HIGH, _1023 = (np.uint64(n) for n in (10, 29, 31, 32, 58, 63, 0x80, 1023))
STOP = 1 << 32  # in an ASCII table: characters at which reading stops
_STOP = np.uint64(STOP)
# The hash table keeps 36 bits of a shingle's hash beside 28 bits for where its postings begin. Two shingles that agree
# in those are one to it, which costs a comparison and nothing else: what it proposes is compared in full.
POSTING_BITS = 28
_POSTING_BITS, _POSTING_MASK = np.uint64(POSTING_BITS), np.uint64((1 << POSTING_BITS) - 1)
_KEY_SHIFT = np.uint64(POSTING_BITS)


@njit(inline="always")
def _finish(h):
    h ^= h >> _32
    h *= _MIX
    return h ^ (h >> _29)


@njit(nogil=True, cache=True)
def tokenise(buffer, text_start, table, pool, unit_hash, unit_begin, unit_end, unit_start, marked):
    """Units of each text: hashes, and byte offsets within the text; a caller provides arrays of the buffer's length.

    Args:
        buffer: uint8, valid UTF-8.
        text_start: int64 of shape (texts + 1,).
        table, pool: from `units.character_table`.
        unit_hash, unit_begin, unit_end: uint64, int32, int32: filled; an expansion may hold more units than bytes, so
            their length is `capacity(buffer)`.
        unit_start: int64 of shape (texts + 1,): filled; units of text s are ``unit_start[s]:unit_start[s + 1]``.
        marked: bool of shape (texts,): set where a text holds combining marks, whose units need `units.compose` first.
    """
    n = 0
    for s in range(text_start.size - 1):
        unit_start[s] = n
        a, b = text_start[s], text_start[s + 1]
        i = a
        h = _SEED
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
                    h = _SEED
                h = (h ^ np.uint64(entry >> 2)) * _CHARACTER
                end = i + width
            elif entry == SEPARATOR:
                if begin >= 0:
                    unit_hash[n], unit_begin[n], unit_end[n] = _finish(h), begin - a, end - a
                    n += 1
                    begin = -1
            elif kind == SINGLE:
                if begin >= 0:
                    unit_hash[n], unit_begin[n], unit_end[n] = _finish(h), begin - a, end - a
                    n += 1
                    begin = -1
                unit_hash[n] = _finish((_SEED ^ np.uint64(entry >> 2)) * _CHARACTER)
                unit_begin[n], unit_end[n] = i - a, i + width - a
                n += 1
            elif entry == COMBINING:
                marked[s] = True
                if begin < 0:
                    begin = i
                    h = _SEED
                h = (h ^ np.uint64(c)) * _CHARACTER
                end = i + width
            elif kind == EXPANSION:
                first = entry >> 2
                for k in range(first + 1, first + 1 + pool[first]):
                    part = pool[k]
                    if part & 3 == WORD:
                        if begin < 0:
                            begin = i
                            h = _SEED
                        h = (h ^ np.uint64(part >> 2)) * _CHARACTER
                        end = i + width
                    elif part != SKIP:
                        if begin >= 0:
                            unit_hash[n], unit_begin[n], unit_end[n] = _finish(h), begin - a, end - a
                            n += 1
                            begin = -1
                        if part & 3 == SINGLE:
                            unit_hash[n] = _finish((_SEED ^ np.uint64(part >> 2)) * _CHARACTER)
                            unit_begin[n], unit_end[n] = i - a, i + width - a
                            n += 1
            i += width
        if begin >= 0:
            unit_hash[n], unit_begin[n], unit_end[n] = _finish(h), begin - a, end - a
            n += 1
    unit_start[text_start.size - 1] = n


@njit(nogil=True, cache=True)
def shingles(unit_hash, unit_start, shingle_hash, shingle_start):
    """Hashes of all shingles of each text, none across texts; text s owns ``shingle_start[s]:shingle_start[s + 1]``."""
    n = 0
    for s in range(unit_start.size - 1):
        shingle_start[s] = n
        h = np.uint64(0)
        for i in range(unit_start[s], unit_start[s + 1]):
            h = h * _ROLL + unit_hash[i]
            k = i - unit_start[s]
            if k >= SHINGLE:
                h -= unit_hash[i - SHINGLE] * _ROLL5
            if k >= SHINGLE - 1:
                shingle_hash[n] = h
                n += 1
    shingle_start[unit_start.size - 1] = n


@njit(nogil=True, cache=True)
def fill_table(keys, first_posting, hashes, bloom, slots):
    """Enter shingles into the hash table, and two bits of each into the bitmap filter.

    Args:
        keys: uint64, distinct: what the hash table keeps of a shingle's hash (`key_of`).
        first_posting: int64: where each key's postings begin.
        hashes: uint64: the shingles themselves, for the filter.
        bloom, slots: zeros of a power of two of words; a slot is a key << POSTING_BITS | first posting + 1, or 0.
    """
    shift = np.uint64(64 - int(np.log2(bloom.size)))
    mask = np.uint64(slots.size - 1)
    for h in hashes:
        bloom[h >> shift] |= (_1 << (h & _63)) | (_1 << ((h >> _6) & _63))
    for k in range(keys.size):
        slot = keys[k] & mask
        while slots[slot]:
            slot = (slot + _1) & mask
        slots[slot] = keys[k] << _POSTING_BITS | np.uint64(first_posting[k] + 1)


@njit(nogil=True, cache=True)
def _elements(hashes, target, element):
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
            k = np.searchsorted(target, h)
            if k < target.size and target[k] == h:
                which = k
                n += not seen[k]
                seen[k] = True
        if wanted:
            element[i] = which
    return n


@njit(nogil=True, cache=True)
def _put(code, table, pool, raw, n, h, inside):
    """One character of a text: the new `n`, `h` and `inside` of `_read`, and whether it is a combining mark."""
    entry = table[code]
    kind = entry & 3
    if kind == WORD:
        return n, (h ^ np.uint64(entry >> 2)) * _CHARACTER, _1, False
    if kind == SINGLE or entry == SEPARATOR:
        raw[n] = h
        n += inside
        raw[n] = (_SEED ^ np.uint64(entry >> 2)) * _CHARACTER
        n += np.uint64(kind == SINGLE)
        return n, _SEED, _0, False
    if kind == EXPANSION:
        first = entry >> 2
        for k in range(first + 1, first + 1 + pool[first]):
            part = pool[k]
            if part & 3 == WORD:
                h = (h ^ np.uint64(part >> 2)) * _CHARACTER
                inside = _1
            elif part != SKIP:
                raw[n] = h
                n += inside
                raw[n] = (_SEED ^ np.uint64(part >> 2)) * _CHARACTER
                n += np.uint64(part & 3 == SINGLE)
                h = _SEED
                inside = _0
    return n, h, inside, entry == COMBINING


@njit(nogil=True, cache=True)
def _read(buffer, i, end, ascii_table, table, pool, raw, n, h, inside):
    """Hashes of units into `raw`, not yet finished, from byte `i` up to a byte that `ascii_table` stops at, or `end`.

    As `tokenise`, without offsets, and it also stops at what is not UTF-8 (three more bytes can be read at the end). A
    unit is written at every character and kept where it ends: words are short, and a branch at each end would be
    guessed wrong.

    Args:
        n: units in `raw` so far.
        h, inside: the hash of the word begun, and 1 inside a word.

    Returns:
        Where it stopped, `n`, `h`, `inside`, and whether a combining mark came up.
    """
    marked = False
    while i < end:
        byte = np.uint64(buffer[i])
        if byte < 0x80:
            folded = ascii_table[byte]
            if folded >= _STOP:
                break
            word = np.uint64(folded != 0)
            raw[n] = h
            n += inside & ~word
            h = (h ^ folded) * _CHARACTER if folded != 0 else _SEED
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
        if kind == SINGLE or entry == SEPARATOR:  # as in `_put`, here because calls take time
            raw[n] = h
            n += inside
            raw[n] = (_SEED ^ np.uint64(entry >> 2)) * _CHARACTER
            n += np.uint64(kind == SINGLE)
            h = _SEED
            inside = _0
        else:
            n, h, inside, mark = _put(code, table, pool, raw, n, h, inside)
            marked |= mark
    return i, n, h, inside, marked


class Sought(NamedTuple):
    """What `sift` looks for.

    Attributes:
        bloom, slots: from `fill_table`.
        posting: int32: targets, those of one key together, the last of them as ``~target``.
        enough: uint8 (targets,), at least 1: how many of its shingles in the table must come up before a target is
            compared.
        target_start, target_hash, least: as in `compare`.
    """

    bloom: np.ndarray
    slots: np.ndarray
    posting: np.ndarray
    enough: np.ndarray
    target_start: np.ndarray
    target_hash: np.ndarray
    least: np.ndarray


class Scratch(NamedTuple):
    """Space to work in, and what is kept between calls.

    Attributes:
        raw, every: uint64: room for the units of the longest record.
        passed, home: uint64 (2 * PIECE,).
        tally: uint32 (targets,): epoch << 8 | count. A count belongs to the record whose epoch it carries, so nothing
            is cleared between records.
    """

    raw: np.ndarray
    every: np.ndarray
    passed: np.ndarray
    home: np.ndarray
    tally: np.ndarray


PIECE = 1 << 15  # units whose shingles are looked up together


@njit(nogil=True, cache=True)
def _roll(raw, bloom, every, n, passed, n_passed):
    """Append the hashes of shingles to `every`, and those that the filter lets through to `passed`."""
    shift = np.uint64(64 - int(np.log2(bloom.size)))
    h = w0 = w1 = w2 = w3 = w4 = _0
    for i in range(raw.size):
        w4, w3, w2, w1, w0 = w3, w2, w1, w0, _finish(raw[i])
        h = h * _ROLL + w0
        if i >= SHINGLE - 1:
            every[n] = h
            n += 1
            # written always and kept if it passes: no branch to guess wrong
            bits = bloom[h >> shift]
            passed[n_passed] = h
            n_passed += np.int64((bits >> (h & _63)) & (bits >> ((h >> _6) & _63)) & _1)
            h -= w4 * _ROLL4
    return n, n_passed


@njit(nogil=True, cache=True)
def _take(n_raw, record, now, sought, scratch, n, n_passed, found, n_found):
    """The shingles of a text, of which `scratch.raw` holds so many units: the last four arguments, brought forward."""
    for a in range(0, n_raw, PIECE):
        if n_passed > PIECE:
            found, n_found = _look_up(scratch.passed[:n_passed], record, now, sought, scratch, found, n_found)
            n_passed = 0
        raw = scratch.raw[max(0, a - SHINGLE + 1) : min(n_raw, a + PIECE)]
        n, n_passed = _roll(raw, sought.bloom, scratch.every, n, scratch.passed, n_passed)
    return n, n_passed, found, n_found


@njit(nogil=True, cache=True)
def _look_up(passed, record, now, sought, scratch, found, n_found):
    """Count shingles of a record for their targets; append those that reach `enough` to `found`, grown if need be.

    Args:
        passed: those that the filter let through; overwritten.
        now: the record's epoch << 8.
        found, n_found: int64 (..., 2): pairs of record and target, and their number.
    """
    slots, home, tally, posting = sought.slots, scratch.home, scratch.tally, sought.posting
    mask = np.uint64(slots.size - 1)
    # in stages: loads that wait for nothing but memory wait together
    for j in range(passed.size):
        home[j] = slots[(passed[j] >> _KEY_SHIFT) & mask]
    n = 0
    for j in range(passed.size):
        passed[n], home[n] = passed[j], home[j]
        n += home[j] != 0
    for j in range(n):
        key = passed[j] >> _KEY_SHIFT
        where = home[j]
        slot = key & mask
        while where and where >> _POSTING_BITS != key:
            slot = (slot + _1) & mask
            where = slots[slot]
        if not where:
            continue
        p = np.int64(where & _POSTING_MASK) - 1
        last = False
        while not last:
            t = posting[p]
            last = t < 0
            t = ~t if last else t
            p += 1
            count = (tally[t] & np.uint32(255)) + 1 if tally[t] >= now else 1
            if count > sought.enough[t]:
                continue
            tally[t] = now | np.uint32(count)
            if count == sought.enough[t]:
                if n_found == found.shape[0]:
                    larger = np.empty((2 * n_found, 2), np.int64)
                    larger[:n_found] = found
                    found = larger
                found[n_found, 0], found[n_found, 1] = record, t
                n_found += 1
    return found, n_found


@njit(nogil=True, cache=True)
def _finish_record(n, n_passed, record, now, sought, scratch, found, before, n_found):
    """Look the rest up, and keep of what was found for a record the targets of which it holds `least` shingles."""
    found, n_found = _look_up(scratch.passed[:n_passed], record, now, sought, scratch, found, n_found)
    kept = before
    nowhere = np.empty(0, np.int32)
    for k in range(before, n_found):
        t = found[k, 1]
        target = sought.target_hash[sought.target_start[t] : sought.target_start[t + 1]]
        if _elements(scratch.every[:n], target, nowhere) >= sought.least[t]:
            found[kept] = found[k]
            kept += 1
    return found, kept


@njit(nogil=True, cache=True)
def sift(
    buffer, text_start, record_start, ascii_table, table, pool, sought, scratch, epoch, record_shingles, marked
):  # fmt: skip
    """Targets of which a record holds at least ``least`` distinct shingles.

    Args:
        buffer: uint8, valid UTF-8, and three more bytes.
        text_start, record_start: int64, see above.
        ascii_table: uint64 (128,): what each ASCII character becomes in a word, 0 where it separates.
        table, pool: from `units.character_table`.
        sought: `Sought`.
        scratch: `Scratch`.
        epoch: the number of records counted in `scratch.tally` before, plus one; at most 2**24 less the records here.
        record_shingles: int64 (records,): filled with each record's number of shingles.
        marked: bool (records,): set where a text holds combining marks: compose it first (`units.compose`), what is
            found here does not count.

    Returns:
        int64 array of shape (candidates, 2): record, target; ordered by record.
    """
    found = np.empty((256, 2), np.int64)
    n_found = 0
    for r in range(record_start.size - 1):
        now = np.uint32(epoch + r) << np.uint32(8)
        before = n_found
        n = n_passed = 0
        for s in range(record_start[r], record_start[r + 1]):
            begin, end = np.uint64(text_start[s]), np.uint64(text_start[s + 1])
            _, units, h, inside, mark = _read(buffer, begin, end, ascii_table, table, pool, scratch.raw, _0, _SEED, _0)
            scratch.raw[units] = h
            marked[r] |= mark
            n_raw = np.int64(units + inside)
            n, n_passed, found, n_found = _take(n_raw, r, now, sought, scratch, n, n_passed, found, n_found)
        record_shingles[r] = n
        found, n_found = _finish_record(n, n_passed, r, now, sought, scratch, found, before, n_found)
    return found[:n_found]


# What a line of JSON is to `sift_lines`.
BLANK, PLAIN, OTHER = 0, 1, 2
_DEEPEST = 32  # nested containers, and keys of one object, of a plain line
_OBJECT = 1


@njit(nogil=True, cache=True)
def sift_lines(
    buffer, line_begin, line_end, json_table, table, pool, sought, scratch, epoch, kind, record_shingles, record_bytes
):  # fmt: skip
    """`sift` over lines of JSON as they lie in a file, one record each, its texts being all strings that are no keys.

    Args:
        buffer: uint8; after each line a line feed, after the last three more bytes.
        line_begin, line_end: int64: where the lines are, without their line feeds.
        json_table: `ascii_table`, with `STOP` for quotation mark, backslash and control characters.
        kind: uint8 (lines,): filled. PLAIN lines are valid JSON whose texts were read here. OTHER lines hold something
            that needs a second look (broken, not UTF-8, combining marks, lone surrogates, repeated keys, very deep or
            wide): what is found in them does not count.
        record_shingles, record_bytes: int64 (lines,): filled with the number of shingles, and of bytes of UTF-8, of the
            texts of PLAIN lines.

    Returns:
        int64 array of shape (candidates, 2): line, target; ordered by line.
    """
    raw = scratch.raw
    found = np.empty((256, 2), np.int64)
    n_found = 0
    containers = np.empty(_DEEPEST, np.int64)
    keys = np.empty((_DEEPEST, _DEEPEST), np.uint64)
    n_keys = np.empty(_DEEPEST, np.int64)
    for r in range(line_begin.size):
        kind[r] = BLANK
        for byte in buffer[line_begin[r] : line_end[r]]:
            if byte != 32 and (byte < 9 or byte > 13):  # more than what `bytes.isspace` takes for space
                kind[r] = OTHER
                break
        if kind[r] == BLANK:
            continue
        i, end = np.uint64(line_begin[r]), np.uint64(line_end[r])
        now = np.uint32(epoch + r) << np.uint32(8)
        before = n_found
        n = n_passed = depth = 0
        size = _0
        wanted = _VALUE
        while i < end:
            byte = buffer[i]
            if byte == 32 or byte == 9 or byte == 13:
                i += _1
            elif byte == 34:  # "
                if wanted in (_VALUE, _VALUE_OR_END):
                    i, units, held = _json_string(buffer, i + _1, end, json_table, table, pool, raw)
                    if i == _0:
                        break
                    size += held
                    n_raw = np.int64(units)
                    n, n_passed, found, n_found = _take(n_raw, r, now, sought, scratch, n, n_passed, found, n_found)
                    wanted = _MORE_OR_END
                elif wanted in (_KEY, _KEY_OR_END):
                    i, key = _json_key(buffer, i + _1, end, json_table, table, pool, raw)
                    if i == _0 or n_keys[depth - 1] == _DEEPEST:
                        break
                    repeated = False
                    for k in range(n_keys[depth - 1]):
                        repeated |= keys[depth - 1, k] == key
                    if repeated:  # the last one counts, and that is not known yet
                        break
                    keys[depth - 1, n_keys[depth - 1]] = key
                    n_keys[depth - 1] += 1
                    wanted = _COLON
                else:
                    break
            elif byte == 58:  # :
                if wanted != _COLON:
                    break
                i += _1
                wanted = _VALUE
            elif byte == 44:  # ,
                if wanted != _MORE_OR_END or depth == 0:
                    break
                i += _1
                wanted = _KEY if containers[depth - 1] == _OBJECT else _VALUE
            elif byte == 123 or byte == 91:  # { [
                if wanted not in (_VALUE, _VALUE_OR_END) or depth == _DEEPEST:
                    break
                i += _1
                containers[depth] = byte == 123
                n_keys[depth] = 0
                wanted = _KEY_OR_END if byte == 123 else _VALUE_OR_END
                depth += 1
            elif byte == 125 or byte == 93:  # } ]
                empty = _KEY_OR_END if byte == 125 else _VALUE_OR_END
                closes = depth > 0 and containers[depth - 1] == (byte == 125)
                if not closes or (wanted not in (_MORE_OR_END, empty)):
                    break
                i += _1
                depth -= 1
                wanted = _MORE_OR_END
            else:
                if wanted not in (_VALUE, _VALUE_OR_END):
                    break
                i = _json_literal(buffer, i, end)
                if i == _0:
                    break
                wanted = _MORE_OR_END
        if i != end or depth > 0 or wanted != _MORE_OR_END:
            n_found = before
            continue
        kind[r] = PLAIN
        record_shingles[r] = n
        record_bytes[r] = size
        found, n_found = _finish_record(n, n_passed, r, now, sought, scratch, found, before, n_found)
    return found[:n_found]


# What may come next in a line of JSON.
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _MORE_OR_END = range(6)


@njit(nogil=True, cache=True)
def _json_string(buffer, i, end, json_table, table, pool, raw):
    """A string from after its first quotation mark: where it ends (0 for OTHER), its units in `raw`, its bytes."""
    n = inside = size = _0
    h = _SEED
    while True:
        begin = i
        i, n, h, inside, mark = _read(buffer, i, end, json_table, table, pool, raw, n, h, inside)
        size += i - begin
        if mark or i >= end:
            return _0, n, size
        if buffer[i] == 34:
            raw[n] = h
            return i + _1, n + inside, size
        if buffer[i] != 92 or i + _1 >= end:
            return _0, n, size
        after = buffer[i + _1]
        if after == 117:  # u
            code, i = _json_escape(buffer, i, end)
            if i == _0:
                return _0, n, size
            n, h, inside, mark = _put(code, table, pool, raw, n, h, inside)
            if mark:
                return _0, n, size
            size += _1 + np.uint64(code > 0x7F) + np.uint64(code > 0x7FF) + np.uint64(code > 0xFFFF)
        elif after in (34, 92, 47, 98, 102, 110, 114, 116):  # " \\ / b f n r t: all of them separate words
            raw[n] = h
            n += inside
            h = _SEED
            inside = _0
            size += _1
            i += _2
        else:
            return _0, n, size


@njit(nogil=True, cache=True)
def _json_escape(buffer, i, end):
    r"""The character that ``\u`` at byte `i` or a pair of surrogates stands for, and where it ends (0 for OTHER)."""
    code, i = _json_hex(buffer, i, end)
    if i == _0 or code < 0xD800 or code > 0xDFFF:
        return code, i
    if code > 0xDBFF or i + _6 > end or buffer[i] != 92 or buffer[i + _1] != 117:
        return _0, _0
    low, i = _json_hex(buffer, i, end)
    if i == _0 or low < 0xDC00 or low > 0xDFFF:
        return _0, _0
    return np.uint64(0x10000) + ((code & _1023) << _10 | (low & _1023)), i


@njit(nogil=True, cache=True)
def _json_hex(buffer, i, end):
    if i + _6 > end:
        return _0, _0
    code = _0
    for k in range(np.int64(i) + 2, np.int64(i) + 6):
        digit = np.int64(buffer[k])
        if digit >= 48 and digit <= 57:
            digit -= 48
        elif (digit >= 65 and digit <= 70) or (digit >= 97 and digit <= 102):
            digit = (digit & 31) + 9
        else:
            return _0, _0
        code = code << _4 | np.uint64(digit)
    return code, i + _6


@njit(nogil=True, cache=True)
def _json_key(buffer, i, end, json_table, table, pool, raw):
    """A key without escapes from after its first quotation mark: where it ends (0 for OTHER), and its hash."""
    begin = i
    h = _SEED
    high = False
    while i < end and buffer[i] != 34:
        if buffer[i] == 92 or buffer[i] < 32:
            return _0, h
        high |= buffer[i] >= 0x80
        h = (h ^ np.uint64(buffer[i])) * _CHARACTER
        i += _1
    if i >= end or (high and _read(buffer, begin, i, json_table, table, pool, raw, _0, _SEED, _0)[0] != i):
        return _0, h
    return i + _1, _finish(h)


@njit(nogil=True, cache=True)
def _json_literal(buffer, i, end):
    """A number, true, false or null that begins at byte `i`: where it ends, 0 for OTHER."""
    byte = buffer[i]
    if byte == 116 or byte == 110:
        word = (116, 114, 117, 101) if byte == 116 else (110, 117, 108, 108)
        for k in range(4):
            if i + np.uint64(k) >= end or buffer[i + np.uint64(k)] != word[k]:
                return _0
        return i + _4
    if byte == 102:
        word = (97, 108, 115, 101)
        for k in range(4):
            if i + np.uint64(k + 1) >= end or buffer[i + np.uint64(k + 1)] != word[k]:
                return _0
        return i + _4 + _1
    if byte == 45:
        i += _1
    first = i
    i = _digits(buffer, i, end)
    if i == first or (buffer[first] == 48 and i > first + _1):
        return _0
    if i < end and buffer[i] == 46:
        first = i + _1
        i = _digits(buffer, first, end)
        if i == first:
            return _0
    if i < end and (buffer[i] == 101 or buffer[i] == 69):
        first = i + _1
        if first < end and (buffer[first] == 43 or buffer[first] == 45):
            first += _1
        i = _digits(buffer, first, end)
        if i == first:
            return _0
    return i


@njit(nogil=True, cache=True)
def _digits(buffer, i, end):
    while i < end and buffer[i] >= 48 and buffer[i] <= 57:
        i += _1
    return i


@njit(nogil=True, cache=True)
def sequence_hash(unit_hash):
    """One hash of a whole sequence of units."""
    h = np.uint64(unit_hash.size)
    for u in unit_hash:
        h = (h ^ u) * _CHARACTER
        h ^= h >> _32
    return h


@njit(nogil=True, cache=True)
def shingle_sets(shingle_hash, begin, end, out, out_start):
    """Sorted distinct shingles of ``shingle_hash[begin[t]:end[t]]``: ``out[out_start[t]:out_start[t + 1]]``."""
    n = 0
    for t in range(begin.size):
        out_start[t] = n
        ordered = np.sort(shingle_hash[begin[t] : end[t]])
        for i in range(ordered.size):
            if i == 0 or ordered[i] != ordered[i - 1]:
                out[n] = ordered[i]
                n += 1
    out_start[begin.size] = n


@njit(nogil=True, cache=True)
def choose(
    unit_hash, unit_start, shingle_hash, shingle_start, first_text, beyond_text,
    target_hash, target_start, frequency, number, spaced, chosen,
):  # fmt: skip
    """Mark in `chosen` the shingles of each target to look for; those are the rare ones where there is a choice.

    Args:
        unit_hash, unit_start: the texts of the test side, from `tokenise`.
        shingle_hash, shingle_start: their shingles.
        first_text, beyond_text: the texts of each target.
        target_hash, target_start: its sorted distinct shingles.
        frequency: of each of those, the number of targets that have it.
        number: how many to mark at least; 0 leaves the target out.
        spaced: where not 0, one of every so many in a row is marked, and every one that begins with a four-gram that
            the target repeats.
        chosen: bool, as long as `target_hash`, all False.
    """
    for t in range(target_start.size - 1):
        begin, end = target_start[t], target_start[t + 1]
        own = target_hash[begin:end]
        wanted = min(number[t], end - begin)
        if wanted > 0 and spaced[t] > 0:
            units = unit_start[beyond_text[t]] - unit_start[first_text[t]]
            fours = np.empty(units, np.uint64)
            n = 0
            for s in range(first_text[t], beyond_text[t]):
                for i in range(unit_start[s], unit_start[s + 1] - SHINGLE + 2):
                    fours[n] = sequence_hash(unit_hash[i : i + SHINGLE - 1])
                    n += 1
            ordered = np.sort(fours[:n])
            for s in range(first_text[t], beyond_text[t]):
                for a in range(shingle_start[s], shingle_start[s + 1]):
                    i = unit_start[s] + a - shingle_start[s]
                    four = sequence_hash(unit_hash[i : i + SHINGLE - 1])
                    at = np.searchsorted(ordered, four)
                    if at + 1 < n and ordered[at + 1] == four:
                        chosen[begin + np.searchsorted(own, shingle_hash[a])] = True
                for a in range(shingle_start[s], shingle_start[s + 1], spaced[t]):
                    best = -1
                    for i in range(a, min(a + spaced[t], shingle_start[s + 1])):
                        k = begin + np.searchsorted(own, shingle_hash[i])
                        if best < 0 or frequency[k] < frequency[best]:
                            best = k
                    chosen[best] = True
        left = wanted - chosen[begin:end].sum()
        if left <= 0:
            continue
        for k in np.argsort(frequency[begin:end], kind="mergesort"):
            if left > 0 and not chosen[begin + k]:
                chosen[begin + k] = True
                left -= 1


@njit(nogil=True, cache=True)
def _distinct(hashes, most):
    """How many hashes differ; some number above `most` where more do."""
    size = 1
    while size < 2 * (min(most, hashes.size) + 1):
        size *= 2
    mask = np.uint64(size - 1)
    table = np.zeros(size, np.uint64)
    n = has_zero = 0
    for h in hashes:
        if h == 0:
            has_zero = 1
            continue
        slot = (h >> _32) & mask
        while table[slot] and table[slot] != h:
            slot = (slot + _1) & mask
        if not table[slot]:
            table[slot] = h
            n += 1
            if n > most:
                break
    return n + has_zero


@njit(nogil=True, cache=True)
def _jaccard(hashes, shared, size, threshold):
    """Shared / distinct in either, of hashes and a set of `size`; 0 where that is below the threshold."""
    # shared / (size + d - shared) >= threshold; one more, because the bound is rounded
    most = np.int64(shared / threshold) + shared - size + 1
    if most < shared:
        return 0.0
    distinct = _distinct(hashes, most)
    return shared / (size + distinct - shared) if distinct <= most else 0.0


# Columns of what `compare` returns per candidate.
SHARED, EXACT_TEXT, SPAN_TEXT, SPAN_BEGIN, SPAN_UNITS, CLUSTER_TEXT, CLUSTER_BEGIN, CLUSTER_END = range(8)
COLUMNS = 8


@njit(nogil=True, cache=True)
def compare(
    candidates, unit_hash, unit_start, record_start,
    target_start, target_hash, target_sequence, least, threshold, gap,
):  # fmt: skip
    """Exact counts of each candidate: what record and target share, and where.

    Args:
        candidates: int64 (candidates, 2), from `sift`, ordered by record.
        unit_hash, unit_start, record_start: the batch.
        target_start, target_hash: the distinct shingles of target t, sorted, are
            ``target_hash[target_start[t]:target_start[t + 1]]``.
        target_sequence: uint64 (targets,): `sequence_hash` of a target of one text, 0 for one of several.
        least: int32 (targets,): a candidate that shares fewer distinct shingles with its target is not looked into; its
            row holds only SHARED.
        threshold: Jaccard similarity below which the similarity does not matter.
        gap: shared shingles further apart than this many units belong to different clusters.

    Returns:
        int64 (candidates, COLUMNS), and float64 (candidates,): the Jaccard similarity of the record or the text that is
        most similar to the target, 0 below the threshold. SHARED counts distinct shingles over the whole record;
        EXACT_TEXT is the first text equal to the target, or -1; SPAN_ is the longest run of units of which every
        shingle is shared; CLUSTER_ the densest group of shared shingles, units from BEGIN up to END. Units count from
        the start of their text, texts from the batch's.
    """
    out = np.full((candidates.shape[0], COLUMNS), -1, np.int64)
    jaccard = np.zeros(candidates.shape[0], np.float64)
    previous = np.int64(-1)
    hashes = np.empty(0, np.uint64)
    element = np.empty(0, np.int32)
    text_at = np.empty(0, np.int64)
    for c in range(candidates.shape[0]):
        r, t = candidates[c, 0], candidates[c, 1]
        s0, s1 = record_start[r], record_start[r + 1]
        if r != previous:
            previous = r
            start = unit_start[s0 : s1 + 1] - unit_start[s0]
            hashes, text_at = all_shingles(unit_hash[unit_start[s0] : unit_start[s1]], start)
            element = np.empty(hashes.size, np.int32)
        target = target_hash[target_start[t] : target_start[t + 1]]
        out[c, SHARED] = _elements(hashes, target, element)
        if out[c, SHARED] < least[t]:
            continue
        if s1 - s0 > 1:
            jaccard[c] = _jaccard(hashes, out[c, SHARED], target.size, threshold)
        mark = np.full(target.size, -1, np.int64)  # the last text that held this shingle of the target
        most = 0
        for s in range(s0, s1):
            in_text = 0
            run = 0
            cluster_begin = cluster_end = cluster_count = 0
            first, beyond = text_at[s - s0], text_at[s - s0 + 1]
            for i in range(first, beyond):
                k = element[i]
                at = i - first
                if k < 0:
                    run = 0
                    continue
                if mark[k] != s:
                    in_text += 1
                    mark[k] = s
                run += 1
                if run + SHINGLE - 1 > out[c, SPAN_UNITS]:
                    out[c, SPAN_TEXT], out[c, SPAN_BEGIN], out[c, SPAN_UNITS] = s, at - run + 1, run + SHINGLE - 1
                if cluster_count == 0 or at >= cluster_end + gap:
                    cluster_begin, cluster_count = at, 0
                cluster_end = at + SHINGLE
                cluster_count += 1
                if cluster_count > most:
                    most = cluster_count
                    out[c, CLUSTER_TEXT], out[c, CLUSTER_BEGIN], out[c, CLUSTER_END] = s, cluster_begin, cluster_end
            jaccard[c] = max(jaccard[c], _jaccard(hashes[first:beyond], in_text, target.size, threshold))
            if out[c, EXACT_TEXT] < 0 and in_text == target.size:
                text = unit_hash[unit_start[s] : unit_start[s + 1]]
                if sequence_hash(text) == target_sequence[t]:
                    out[c, EXACT_TEXT] = s
    return out, jaccard


@njit(nogil=True, cache=True)
def align(unit_hash, target_hash):
    """First and last position in `target_hash` of shingles that some units hold too; (-1, -1) where none does."""
    first = last = -1
    ordered = np.sort(shingle_hashes(unit_hash))
    for k in range(target_hash.size):
        at = np.searchsorted(ordered, target_hash[k])
        if at < ordered.size and ordered[at] == target_hash[k]:
            if first < 0:
                first = k
            last = k
    return first, last


@njit(nogil=True, cache=True)
def option_window(region, options, option_start):
    """The shortest stretch of units in which every option occurs, in any order.

    An occurrence that lies wholly inside longer options does not count ("fever" within "yellow fever").

    Args:
        region: uint64 unit hashes.
        options, option_start: the options' unit hashes one after another, and where each starts, with the end.

    Returns:
        begin and end in units of the region, (-1, -1) if some option is missing; and the position of each option.
    """
    k, n = option_start.size - 1, region.size
    size = np.diff(option_start)
    following = np.full((k, n + 1), -1, np.int64)  # the next start of each option at or after a position
    covered = np.zeros(n, np.bool_)
    for j in np.argsort(-size):
        occurs = np.zeros(n, np.bool_)
        for i in range(n - size[j], -1, -1):
            same = size[j] > 0
            free = False
            for m in range(size[j]):
                if region[i + m] != options[option_start[j] + m]:
                    same = False
                    break
                free = free or not covered[i + m]
            occurs[i] = same and free
        for i in range(n - 1, -1, -1):
            following[j, i] = i if occurs[i] else following[j, i + 1]
        for i in range(n):
            if occurs[i]:
                covered[i : i + size[j]] = True
    begin = end = -1
    for i in range(n):
        stop = 0
        starts_here = False
        for j in range(k):
            at = following[j, i]
            if at < 0:
                return begin, end, _positions(following, begin)
            starts_here = starts_here or at == i
            stop = max(stop, at + size[j])
        if starts_here and (begin < 0 or stop - i < end - begin):
            begin, end = i, stop
    return begin, end, _positions(following, begin)


@njit(nogil=True, cache=True)
def _positions(following, begin):
    if begin < 0:
        return np.empty(0, np.int64)
    return following[:, begin].copy()


@njit(nogil=True, cache=True)
def all_shingles(unit_hash, unit_start):
    """`shingles` in arrays of its own: hashes of all texts, and where each text's start, with the end."""
    out, start = np.empty(unit_hash.size, np.uint64), np.empty_like(unit_start)
    shingles(unit_hash, unit_start, out, start)
    return out[: start[-1]], start


@njit(nogil=True, cache=True)
def shingle_hashes(unit_hash):
    """Hashes of the shingles of one text."""
    return all_shingles(unit_hash, np.array([0, unit_hash.size]))[0]


@njit(nogil=True, cache=True)
def occurrences(region, wanted):
    """Positions in `region` where the units `wanted` stand in a row."""
    found = [0 for _ in range(0)]
    for i in range(region.size - wanted.size + 1):
        same = wanted.size > 0
        for m in range(wanted.size):
            if region[i + m] != wanted[m]:
                same = False
                break
        if same:
            found.append(i)
    return np.array(found, np.int64)
