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
_0, _1, _6, _8, _58, _63 = (np.uint64(n) for n in (0, 1, 6, 8, 58, 63))
# A tally: epoch << 40 | where the target's last shingle stood << 8 | how many came up, 255 once reported.
EPOCH_BITS = 40
_EPOCH_BITS, _COUNT, _PLACE = np.uint64(EPOCH_BITS), np.uint64(255), np.uint64((1 << 32) - 1)
# Units of a text that may be a short question as a whole (`brief`)
BRIEFEST, LONGEST = 8, 30


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
        every: uint64: room for the shingles of the longest record.
        passed, home: uint64 (2 * PIECE,).
        at: int32 (2 * PIECE,): where in the record each of `passed` stands; empty where that does not matter.
        tally: uint64 (targets,), as above. A count belongs to the record whose epoch it carries, so nothing is cleared
            between records.
    """

    every: np.ndarray
    passed: np.ndarray
    home: np.ndarray
    at: np.ndarray
    tally: np.ndarray


class Sieve(NamedTuple):
    """The tables with their scratch space: shingles; short shingles for what was edited; pairs for texts that are short
    questions as a whole. `raw`, uint64, has room for the units of the longest record."""

    raw: np.ndarray
    sought: Sought
    scratch: Scratch
    short: Sought
    short_scratch: Scratch
    brief: Sought
    brief_scratch: Scratch


PIECE = 1 << 15  # units whose shingles are looked up together


@compiled
def _roll(raw, bloom, scratch, n, n_passed):
    """Append the hashes of shingles to `every`, and those that the filter lets through to `passed`."""
    every, passed = scratch.every, scratch.passed
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
def _roll_both(raw, first, sieve, count):
    """`_roll` for shingles and short ones in one pass; the latter from those that end with unit `first` of `raw` on."""
    bloom, every, passed = sieve.sought.bloom, sieve.scratch.every, sieve.scratch.passed
    bloom3, every3, passed3 = sieve.short.bloom, sieve.short_scratch.every, sieve.short_scratch.passed
    at3 = sieve.short_scratch.at
    shift, shift3 = np.uint64(64 - int(np.log2(bloom.size))), np.uint64(64 - int(np.log2(bloom3.size)))
    n, n_passed, n3, n_passed3 = count[0], count[1], count[2], count[3]
    h = h3 = w0 = w1 = w2 = w3 = w4 = _0
    for i in range(raw.size):
        w4, w3, w2, w1, w0 = w3, w2, w1, w0, finish(raw[i])
        h = h * ROLL + w0
        h3 = h3 * ROLL + w0
        if i >= first:
            every3[n3] = h3
            bits = bloom3[h3 >> shift3]
            passed3[n_passed3] = h3
            at3[n_passed3] = n3
            n3 += 1
            n_passed3 += np.int64((bits >> (h3 & _63)) & (bits >> ((h3 >> _6) & _63)) & _1)
        if i >= SHORT - 1:
            h3 -= w2 * _ROLL2
        if i >= SHINGLE - 1:
            every[n] = h
            n += 1
            bits = bloom[h >> shift]
            passed[n_passed] = h
            n_passed += np.int64((bits >> (h & _63)) & (bits >> ((h >> _6) & _63)) & _1)
            h -= w4 * _ROLL4
    count[0], count[1], count[2], count[3] = n, n_passed, n3, n_passed3


@compiled
def _roll_pairs(raw, sieve, count):
    """The pairs of a whole text."""
    bloom, every, passed = sieve.brief.bloom, sieve.brief_scratch.every, sieve.brief_scratch.passed
    shift = np.uint64(64 - int(np.log2(bloom.size)))
    n, n_passed = count[4], count[5]
    before = finish(raw[0])
    for i in range(1, raw.size):
        unit = finish(raw[i])
        h = before * ROLL + unit
        before = unit
        every[n] = h
        n += 1
        bits = bloom[h >> shift]
        passed[n_passed] = h
        n_passed += np.int64((bits >> (h & _63)) & (bits >> ((h >> _6) & _63)) & _1)
    count[4], count[5] = n, n_passed


@compiled
def take(n_raw, record, now, sieve, count, found, n_found):
    """The shingles of a text, of which `sieve.raw` holds so many units: the last two arguments, brought forward.

    Args:
        count: int64 (6,): shingles of the record so far, those in `passed`, the same of short shingles, and of pairs;
            updated.
    """
    raw = sieve.raw
    edited = sieve.short.posting.size > 0
    for a in range(0, n_raw, PIECE):
        if count[1] > PIECE:
            found, n_found = _look_up(count[1], record, now, sieve.sought, sieve.scratch, found, n_found)
            count[1] = 0
        if count[3] > PIECE:
            found, n_found = _look_up(count[3], record, now, sieve.short, sieve.short_scratch, found, n_found)
            count[3] = 0
        piece = raw[max(0, a - SHINGLE + 1) : min(n_raw, a + PIECE)]
        if edited:
            _roll_both(piece, SHINGLE - 1 if a else SHORT - 1, sieve, count)
        else:
            count[0], count[1] = _roll(piece, sieve.sought.bloom, sieve.scratch, count[0], count[1])
    if BRIEFEST <= n_raw <= LONGEST and sieve.brief.posting.size:
        if count[5] > PIECE:
            found, n_found = _look_up(count[5], record, now, sieve.brief, sieve.brief_scratch, found, n_found)
            count[5] = 0
        _roll_pairs(raw[:n_raw], sieve, count)
    return found, n_found


@compiled
def _look_up(n_passed, record, now, sought, scratch, found, n_found):
    """Count shingles of a record for their targets; append those that reach `enough` to `found`, grown if need be.

    A count begins anew where a target's next shingle stands further off than the target reaches: a stretch that holds
    enough is never missed, since it has no such gap.

    Args:
        n_passed: how many of `scratch.passed` the filter let through; overwritten.
        now: the record's epoch << EPOCH_BITS.
        found, n_found: int64 (..., 2): pairs of record and target, and their number.
    """
    slots, passed, home, at, tally = sought.slots, scratch.passed, scratch.home, scratch.at, scratch.tally
    posting, enough, reach = sought.posting, sought.enough, sought.reach
    mask = np.uint64(slots.size - 1)
    placed = at.size > 0
    # in stages: loads that wait for nothing but memory wait together
    for j in range(n_passed):
        home[j] = slots[(passed[j] >> _KEY_SHIFT) & mask]
    n = 0
    for j in range(n_passed):
        passed[n], home[n] = passed[j], home[j]
        if placed:
            at[n] = at[j]
        n += home[j] != 0
    place = _0
    for j in range(n):
        key = passed[j] >> _KEY_SHIFT
        where = home[j]
        slot = key & mask
        while where and where >> _POSTING_BITS != key:
            slot = (slot + _1) & mask
            where = slots[slot]
        if not where:
            continue
        if placed:
            place = np.uint64(at[j])
        p = np.int64(where & _POSTING_MASK) - 1
        last = False
        while not last:
            t = posting[p]
            last = t < 0
            t = ~t if last else t
            p += 1
            before = tally[t]
            count = _1
            if before >= now:
                count = before & _COUNT
                if count == _COUNT:
                    continue
                near = place - (before >> _8 & _PLACE) <= np.uint64(reach[t])
                count = count + _1 if near else _1
            if count >= enough[t]:
                if n_found == found.shape[0]:
                    larger = np.empty((2 * n_found, 2), np.int64)
                    larger[:n_found] = found
                    found = larger
                found[n_found, 0], found[n_found, 1] = record, t + sought.first[0]
                n_found += 1
                count = _COUNT
            tally[t] = now | place << _8 | count
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
    short, brief = sieve.short, sieve.brief
    found, n_found = _look_up(count[1], record, now, sieve.sought, sieve.scratch, found, n_found)
    if count[3]:
        found, n_found = _look_up(count[3], record, now, short, sieve.short_scratch, found, n_found)
    if count[5]:
        found, n_found = _look_up(count[5], record, now, brief, sieve.brief_scratch, found, n_found)
    kept = before
    for k in range(before, n_found):
        t = found[k, 1]
        if t >= brief.first[0]:
            worth = _holds(sieve.brief_scratch.every[: count[4]], t - brief.first[0], brief)
        elif t >= short.first[0]:
            t -= short.first[0]
            target = short.target_hash[short.target_start[t] : short.target_start[t + 1]]
            worth = _within(sieve.short_scratch.every[: count[2]], target, short.reach[t], short.least[t])
        else:
            worth = _holds(sieve.scratch.every[: count[0]], t, sieve.sought)
        if worth:
            found[kept] = found[k]
            kept += 1
    return found, kept


@compiled
def _holds(hashes, t, sought):
    target = sought.target_hash[sought.target_start[t] : sought.target_start[t + 1]]
    return elements(hashes, target, np.empty(0, np.int32)) >= sought.least[t]


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
        int64 array of shape (candidates, 2): record, target (those of short shingles after the others, those of
        pairs last); ordered by record.
    """
    found = np.empty((256, 2), np.int64)
    n_found = 0
    raw = sieve.raw
    count = np.zeros(6, np.int64)
    for r in range(record_start.size - 1):
        now = np.uint64(epoch + r) << _EPOCH_BITS
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
