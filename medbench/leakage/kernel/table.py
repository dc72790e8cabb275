"""The table of the shingles that are looked for, and the sieve: which targets come up in a record often enough."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from medbench.leakage.kernel.compiled import compiled, inner
from medbench.leakage.kernel.edits import BRIEFEST, LONGEST
from medbench.leakage.kernel.text import ROLL, SHINGLE, SHORT, finish

# The hash table keeps 36 bits of a shingle's hash beside 28 bits for where its postings begin. Two shingles that agree
# in those are one to it, which costs a comparison and nothing else: what it proposes is compared in full.
POSTING_BITS = 28
_POSTING_BITS, _POSTING_MASK = np.uint64(POSTING_BITS), np.uint64((1 << POSTING_BITS) - 1)
_KEY_SHIFT = np.uint64(POSTING_BITS)
_ROLL2 = np.uint64(pow(int(ROLL), 2, 1 << 64))
_0, _1, _6, _8, _63 = (np.uint64(n) for n in (0, 1, 6, 8, 63))
# A tally: epoch << 40 | where the target's last shingle stood << 8 | how many came up, 255 once reported.
EPOCH_BITS = 40
_EPOCH_BITS, _COUNT, _PLACE = np.uint64(EPOCH_BITS), np.uint64(255), np.uint64((1 << 32) - 1)


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
        passed, home: uint64 (2 * PIECE,).
        at: int32 (2 * PIECE,): where in the record each of `passed` stands; empty where that does not matter.
        tally: uint64 (targets, 2): as above, and beside it the rule, reach << 8 | enough. A count belongs to
            the record whose epoch it carries, so nothing is cleared between records.
    """

    passed: np.ndarray
    home: np.ndarray
    at: np.ndarray
    tally: np.ndarray


class Sieve(NamedTuple):
    """The tables with their scratch space: shingles; short shingles for what was edited; pairs for texts that are short
    questions as a whole.

    Attributes:
        raw: uint64: room for the units of the longest record, as they are read.
        found: int64: room for all targets: those that a record may hold.
        units, text_start: the same for the units of a record's texts (those that have any), and int64 where each text's
            begin.
        every: uint64: room for the shingles of a record.
        bitmap: uint64: room for `sets.mark`.
    """

    raw: np.ndarray
    found: np.ndarray
    units: np.ndarray
    text_start: np.ndarray
    every: np.ndarray
    bitmap: np.ndarray
    sought: Sought
    scratch: Scratch
    short: Sought
    short_scratch: Scratch
    brief: Sought
    brief_scratch: Scratch


PIECE = 1 << 15  # units whose shingles are looked up together
# What is counted of a record: units, texts, of each of the three tables the shingles and those that passed, targets.
UNITS, TEXTS, EXACT, SHORTS, BRIEF, FOUND, COUNTS = 0, 1, 2, 4, 6, 8, 9
SHINGLES, PASSED = 0, 1
IN_EXACT, IN_SHORTS, IN_BRIEF = (np.int64(n + PASSED) for n in (EXACT, SHORTS, BRIEF))  # no literals: see `inner`


@njit(inline="always")
def _passes(h, bloom, shift):
    """1 where the filter lets a hash through. Hashes are always written and kept if they pass: a branch would be
    guessed wrong."""
    bits = bloom[h >> shift]
    return np.int64((bits >> (h & _63)) & (bits >> ((h >> _6) & _63)) & _1)


@inner
def _roll(units, first, bloom, passed, bloom3, passed3, at3, edited, count):
    """Hash the shingles, short ones and pairs of a stretch, and keep in `passed` those that the filters let through.

    A shingle's hash is made of that of the short shingle two units before and that of its last pair.

    Args:
        units: uint64: the stretch, four units before it with it where a text goes on.
        first: the unit of the stretch from which on short shingles end that are new.
        bloom, passed: of shingles, as `Sought` and `Scratch` have them; `bloom3`, `passed3`, `at3` of short ones.
        edited: whether short ones are looked for.
        count: of the record; updated.
    """
    shift = np.uint64(64 - int(np.log2(bloom.size)))
    shift3 = np.uint64(64 - int(np.log2(bloom3.size)) if edited else 0)
    n, n_passed, n3, n_passed3 = count[EXACT], count[EXACT + PASSED], count[SHORTS], count[SHORTS + PASSED]
    u1 = u2 = three1 = three2 = _0
    for i in range(units.size):
        u0 = units[i]
        pair = u1 * ROLL + u0
        three = u2 * _ROLL2 + pair
        if edited and i >= first:
            passed3[n_passed3] = three
            at3[n_passed3] = n3
            n3 += 1
            n_passed3 += _passes(three, bloom3, shift3)
        if i >= SHINGLE - 1:
            five = three2 * _ROLL2 + pair
            passed[n_passed] = five
            n += 1
            n_passed += _passes(five, bloom, shift)
        u2, u1 = u1, u0
        three2, three1 = three1, three
    count[EXACT], count[EXACT + PASSED], count[SHORTS], count[SHORTS + PASSED] = n, n_passed, n3, n_passed3


@inner
def _roll_pairs(units, bloom, passed, count):
    """The same for the pairs of a whole text."""
    shift = np.uint64(64 - int(np.log2(bloom.size)))
    n_passed = count[BRIEF + PASSED]
    for i in range(1, units.size):
        pair = units[i - 1] * ROLL + units[i]
        passed[n_passed] = pair
        n_passed += _passes(pair, bloom, shift)
    count[BRIEF + PASSED] = n_passed


@inner
def take(n_raw, now, sieve, count):
    """The shingles of a text, of which `sieve.raw` holds so many units: `count`, int64 (COUNTS,), brought forward."""
    if n_raw == 0:
        return
    units = sieve.units[count[UNITS] : count[UNITS] + n_raw]
    for i in range(n_raw):
        units[i] = finish(sieve.raw[i])
    count[UNITS] += n_raw
    count[TEXTS] += 1
    sieve.text_start[count[TEXTS]] = count[UNITS]
    for a in range(0, n_raw, PIECE):
        if count[EXACT + PASSED] > PIECE:
            look_up(IN_EXACT, now, sieve.sought, sieve.scratch, sieve.found, count)
        if count[SHORTS + PASSED] > PIECE:
            look_up(IN_SHORTS, now, sieve.short, sieve.short_scratch, sieve.found, count)
        piece = units[max(0, a - SHINGLE + 1) : min(n_raw, a + PIECE)]
        _roll(
            piece, SHINGLE - 1 if a else SHORT - 1, sieve.sought.bloom, sieve.scratch.passed,
            sieve.short.bloom, sieve.short_scratch.passed, sieve.short_scratch.at, sieve.short.posting.size > 0, count,
        )  # fmt: skip
    if BRIEFEST <= n_raw <= LONGEST and sieve.brief.posting.size:
        if count[BRIEF + PASSED] > PIECE:
            look_up(IN_BRIEF, now, sieve.brief, sieve.brief_scratch, sieve.found, count)
        _roll_pairs(units, sieve.brief.bloom, sieve.brief_scratch.passed, count)


@inner
def look_up(which, now, sought, scratch, found, count):
    """Count shingles of a record for their targets; append those that reach `enough` to `found`: each target once.

    A count begins anew where a target's next shingle stands further off than the target reaches: a stretch that holds
    enough is never missed, since it has no such gap.

    Args:
        which: where in `count` stands how many of `scratch.passed` the filter let through; they are used up.
        now: the record's epoch << EPOCH_BITS.
    """
    n_passed, n_found = count[which], count[FOUND]
    slots, posting, passed, home, at, tally = (
        sought.slots, sought.posting, scratch.passed, scratch.home, scratch.at, scratch.tally,
    )  # fmt: skip
    mask = np.uint64(slots.size - 1)
    placed = at.size > 0
    # In stages: the tables lie in memory that is slow to reach, and loads that wait for nothing else wait together.
    for j in range(n_passed):
        home[j] = slots[(passed[j] >> _KEY_SHIFT) & mask]
    n = 0
    for j in range(n_passed):
        key = passed[j] >> _KEY_SHIFT
        where = home[j]
        slot = key & mask
        while where and where >> _POSTING_BITS != key:
            slot = (slot + _1) & mask
            where = slots[slot]
        home[n] = (where & _POSTING_MASK) - _1
        if placed:
            at[n] = at[j]
        n += where != 0
    for j in range(n):
        passed[j] = np.uint64(np.int64(posting[home[j]]))
    warm = _0
    for j in range(n):
        first = np.int64(passed[j])
        warm ^= tally[~first if first < 0 else first, 0]
    place = _0
    for j in range(n):
        if placed:
            place = np.uint64(at[j])
        p = home[j]
        t = np.int64(passed[j])
        last = False
        while not last:
            last = t < 0
            t = ~t if last else t
            before, rule = tally[t, 0], tally[t, 1]
            times = _1
            if before >= now:
                times = before & _COUNT
                if times != _COUNT and place - (before >> _8 & _PLACE) <= rule >> _8:
                    times += _1
                elif times != _COUNT:
                    times = _1
            if times != _COUNT:
                if times >= rule & _COUNT:
                    found[n_found] = t + sought.first[0]
                    n_found += 1
                    times = _COUNT
                tally[t, 0] = now | place << _8 | times
            if not last:
                p += _1
                t = np.int64(posting[p])
    home[0] = warm  # so that what was loaded ahead of its use is loaded
    count[which], count[FOUND] = 0, n_found


@compiled
def new_tally(enough, reach):
    """`Scratch.tally` before the first record."""
    tally = np.zeros((enough.size, 2), np.uint64)
    for t in range(enough.size):
        tally[t, 1] = np.uint64(reach[t]) << _8 | np.uint64(enough[t])
    return tally
