"""The table of the shingles that are looked for, and the sieve: which targets a record may hold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medbench.leakage.kernel.compiled import compiled
from medbench.leakage.kernel.text import ROLL, SEED, SHINGLE, SHORT, finish, read

# The hash table keeps 36 bits of a shingle's hash beside 28 bits for where its postings begin. Two shingles that agree
# in those are one to it, which costs a comparison and nothing else: what it proposes is compared in full.
POSTING_BITS = 28
_POSTING_BITS, _POSTING_MASK = np.uint64(POSTING_BITS), np.uint64((1 << POSTING_BITS) - 1)
_KEY_SHIFT = np.uint64(POSTING_BITS)
_ROLL4, _ROLL2 = (np.uint64(pow(int(ROLL), size - 1, 1 << 64)) for size in (SHINGLE, SHORT))
_0, _1, _6, _58, _63 = (np.uint64(n) for n in (0, 1, 6, 58, 63))


@compiled
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


class Sought(NamedTuple):
    """What `sift` looks for.

    Attributes:
        bloom, slots: from `fill_table`.
        posting: int32: targets, those of one key together, the last of them as ``~target``.
        enough: uint8 (targets,), at least 1: how many of its shingles in the table must come up before a target is
            compared.
        target_start, target_hash, least: as in `compare`.
        reach: int32 (targets,): units within which `least` of its shingles must stand; 0: anywhere in the record.
        first: int64 (1,): what is added to the number of a target where it is reported.
    """

    bloom: np.ndarray
    slots: np.ndarray
    posting: np.ndarray
    enough: np.ndarray
    target_start: np.ndarray
    target_hash: np.ndarray
    least: np.ndarray
    reach: np.ndarray
    first: np.ndarray


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


class Sieve(NamedTuple):
    """Both tables with their scratch space: shingles, and short shingles for what was edited."""

    sought: Sought
    scratch: Scratch
    short: Sought
    short_scratch: Scratch


PIECE = 1 << 15  # units whose shingles are looked up together


@compiled
def _roll(raw, bloom, every, n, passed, n_passed):
    """Append the hashes of shingles to `every`, and those that the filter lets through to `passed`."""
    shift = np.uint64(64 - int(np.log2(bloom.size)))
    h = w0 = w1 = w2 = w3 = w4 = _0
    for i in range(raw.size):
        w4, w3, w2, w1, w0 = w3, w2, w1, w0, finish(raw[i])
        h = h * ROLL + w0
        if i >= SHINGLE - 1:
            every[n] = h
            n += 1
            # written always and kept if it passes: no branch to guess wrong
            bits = bloom[h >> shift]
            passed[n_passed] = h
            n_passed += np.int64((bits >> (h & _63)) & (bits >> ((h >> _6) & _63)) & _1)
            h -= w4 * _ROLL4
    return n, n_passed


@compiled
def _roll_short(raw, bloom, every, n, passed, n_passed):
    """`_roll` for short shingles."""
    shift = np.uint64(64 - int(np.log2(bloom.size)))
    h = w0 = w1 = w2 = _0
    for i in range(raw.size):
        w2, w1, w0 = w1, w0, finish(raw[i])
        h = h * ROLL + w0
        if i >= SHORT - 1:
            every[n] = h
            n += 1
            bits = bloom[h >> shift]
            passed[n_passed] = h
            n_passed += np.int64((bits >> (h & _63)) & (bits >> ((h >> _6) & _63)) & _1)
            h -= w2 * _ROLL2
    return n, n_passed


@compiled
def take(n_raw, record, now, sieve, count, found, n_found):
    """The shingles of a text, of which `scratch.raw` holds so many units: the last two arguments, brought forward.

    Args:
        count: int64 (4,): shingles of the record so far, those in `passed`, and the same of short shingles; updated.
    """
    raw = sieve.scratch.raw
    for a in range(0, n_raw, PIECE):
        if count[1] > PIECE:
            passed = sieve.scratch.passed[: count[1]]
            found, n_found = _look_up(passed, record, now, sieve.sought, sieve.scratch, found, n_found)
            count[1] = 0
        piece = raw[max(0, a - SHINGLE + 1) : min(n_raw, a + PIECE)]
        scratch = sieve.scratch
        count[0], count[1] = _roll(piece, sieve.sought.bloom, scratch.every, count[0], scratch.passed, count[1])
        if sieve.short.posting.size == 0:
            continue
        scratch = sieve.short_scratch
        if count[3] > PIECE:
            found, n_found = _look_up(scratch.passed[: count[3]], record, now, sieve.short, scratch, found, n_found)
            count[3] = 0
        piece = raw[max(0, a - SHORT + 1) : min(n_raw, a + PIECE)]
        count[2], count[3] = _roll_short(piece, sieve.short.bloom, scratch.every, count[2], scratch.passed, count[3])
    return found, n_found


@compiled
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
                found[n_found, 0], found[n_found, 1] = record, t + sought.first[0]
                n_found += 1
    return found, n_found


@compiled
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
            k = np.searchsorted(target, h)
            if k < target.size and target[k] == h:
                which = k
                n += not seen[k]
                seen[k] = True
        if wanted:
            element[i] = which
    return n


@compiled
def _within(hashes, target, reach, least):
    """Whether some `reach` shingles in a row hold `least` different ones of a sorted set."""
    element = np.empty(hashes.size, np.int32)
    if elements(hashes, target, element) < least:
        return False
    held = np.zeros(target.size, np.int32)
    distinct = first = 0
    for i in range(hashes.size):
        k = element[i]
        if k >= 0:
            distinct += held[k] == 0
            held[k] += 1
        while first <= i - reach:
            gone = element[first]
            first += 1
            if gone >= 0:
                held[gone] -= 1
                distinct -= held[gone] == 0
        if distinct >= least:
            return True
    return False


@compiled
def finish_record(record, now, sieve, count, found, before, n_found):
    """Look the rest up, and keep of what was found for a record the targets of which it holds `least` shingles."""
    sought, scratch, short, short_scratch = sieve.sought, sieve.scratch, sieve.short, sieve.short_scratch
    found, n_found = _look_up(scratch.passed[: count[1]], record, now, sought, scratch, found, n_found)
    if count[3]:
        found, n_found = _look_up(short_scratch.passed[: count[3]], record, now, short, short_scratch, found, n_found)
    kept = before
    nowhere = np.empty(0, np.int32)
    for k in range(before, n_found):
        t = found[k, 1]
        if t < short.first[0]:
            target = sought.target_hash[sought.target_start[t] : sought.target_start[t + 1]]
            worth = elements(scratch.every[: count[0]], target, nowhere) >= sought.least[t]
        else:
            t -= short.first[0]
            target = short.target_hash[short.target_start[t] : short.target_start[t + 1]]
            worth = _within(short_scratch.every[: count[2]], target, short.reach[t], short.least[t])
        if worth:
            found[kept] = found[k]
            kept += 1
    return found, kept


@compiled
def sift(
    buffer, text_start, record_start, ascii_table, table, pool, sieve, epoch, record_shingles, marked
):  # fmt: skip
    """Targets of which a record holds at least ``least`` distinct shingles.

    Args:
        buffer: uint8, valid UTF-8, and three more bytes.
        text_start, record_start: int64, see above.
        ascii_table: uint64 (128,): what each ASCII character becomes in a word, 0 where it separates.
        table, pool: from `units.character_table`.
        sieve: `Sieve`.
        epoch: the number of records counted in the tallies before, plus one; at most 2**24 less the records here.
        record_shingles: int64 (records,): filled with each record's number of shingles.
        marked: bool (records,): set where a text needs `written.restore` first; what is found here does not count.

    Returns:
        int64 array of shape (candidates, 2): record, target (those of short shingles after the others); ordered by
        record.
    """
    found = np.empty((256, 2), np.int64)
    n_found = 0
    raw = sieve.scratch.raw
    count = np.zeros(4, np.int64)
    for r in range(record_start.size - 1):
        now = np.uint32(epoch + r) << np.uint32(8)
        before = n_found
        count[:] = 0
        for s in range(record_start[r], record_start[r + 1]):
            begin, end = np.uint64(text_start[s]), np.uint64(text_start[s + 1])
            _, units, h, inside, mark = read(buffer, begin, end, ascii_table, table, pool, raw, _0, SEED, _0)
            raw[units] = h
            marked[r] |= mark
            found, n_found = take(np.int64(units + inside), r, now, sieve, count, found, n_found)
        record_shingles[r] = count[0]
        found, n_found = finish_record(r, now, sieve, count, found, before, n_found)
    return found[:n_found]
