"""What the sieve lets through, looked at where its units still lie: which of the targets a record does hold enough of.

All that can be told from units alone is told here, so that no record is parsed and read again for nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medbench.leakage.kernel.compiled import inner
from medbench.leakage.kernel.edits import Laid, Limits, alike, plausible
from medbench.leakage.kernel.sets import elements, mark, may_hold
from medbench.leakage.kernel.table import FOUND, IN_BRIEF, IN_EXACT, IN_SHORTS, TEXTS, UNITS, look_up
from medbench.leakage.kernel.text import PAIR, SHINGLE, SHORT, shingles


class Judge(NamedTuple):
    """By what candidates are judged.

    Attributes:
        laid, limits, places: for edited fields, as `edits.plausible` has them.
        query, query_start, same: for short questions as whole texts, as `edits.alike` has them.
    """

    laid: Laid
    limits: Limits
    places: int
    query: np.ndarray
    query_start: np.ndarray
    same: float


@inner
def finish_record(record, now, sieve, judge, count, found, n_found):
    """Look the rest up, and append of what came up in a record those targets that it may really hold.

    Args:
        found, n_found: int64 (..., 2): pairs of record and target, and their number; returned, grown if need be.
    """
    look_up(IN_EXACT, now, sieve.sought, sieve.scratch, sieve.found, count)
    if count[IN_SHORTS]:
        look_up(IN_SHORTS, now, sieve.short, sieve.short_scratch, sieve.found, count)
    if count[IN_BRIEF]:
        look_up(IN_BRIEF, now, sieve.brief, sieve.brief_scratch, sieve.found, count)
    if count[FOUND] == 0:
        return found, n_found
    own = sieve.found[: count[FOUND]]
    first_short, first_brief = sieve.short.first[0], sieve.brief.first[0]
    kept = np.zeros(own.size, np.bool_)
    units, text_start = sieve.units[: count[UNITS]], sieve.text_start[: count[TEXTS] + 1]
    every, bitmap, none = sieve.every, sieve.bitmap, np.int64(0)
    _judge(own, none, first_short, np.int64(SHINGLE), sieve.sought, units, text_start, every, bitmap, judge, kept)
    _judge(own, first_short, first_brief, np.int64(SHORT), sieve.short, units, text_start, every, bitmap, judge, kept)
    end = first_brief + sieve.brief.least.size
    _judge(own, first_brief, end, np.int64(PAIR), sieve.brief, units, text_start, every, bitmap, judge, kept)
    for k in range(own.size):
        if kept[k]:
            if n_found == found.shape[0]:
                found = _larger(found)
            found[n_found, 0], found[n_found, 1] = record, own[k]
            n_found += 1
    return found, n_found


@inner
def _larger(found):
    """With room for twice as many rows. Rows one by one: numba compiles the text of an error beside each assignment of
    a whole table."""
    larger = np.empty((2 * found.shape[0], 2), np.int64)
    for k in range(found.shape[0]):
        larger[k, 0], larger[k, 1] = found[k, 0], found[k, 1]
    return larger


@inner
def _judge(own, first, beyond, size, sought, units, text_start, every, bitmap, judge, kept):
    """Of the targets from `first` up to `beyond`, those of which the record holds enough shingles of `size` units.

    Of short shingles enough must stand together, and the field may really stand there in an edited form; of pairs, some
    text of the record must be the question as a whole.
    """
    hashes, marked = every[:0], bitmap[:0]
    for k in range(own.size):
        if own[k] < first or own[k] >= beyond:
            continue
        if not marked.size:  # once a record, and for most records never
            start = np.empty_like(text_start)
            shingles(units, text_start, every, start, size)
            hashes = every[: start[-1]]
            marked = mark(hashes, bitmap)
        t = own[k] - first
        target, least = sought.target_hash[sought.target_start[t] : sought.target_start[t + 1]], sought.least[t]
        if not may_hold(marked, target, least):
            continue
        if size == SHORT:
            kept[k] = _within(hashes, target, sought.reach[t], least) and plausible(
                units, t, judge.laid, judge.limits, judge.places
            )
        elif elements(hashes, target, np.empty(0, np.int32)) >= least:
            kept[k] = True
            if size == PAIR:
                question = judge.query[judge.query_start[t] : judge.query_start[t + 1]]
                kept[k] = alike(units, text_start, question, judge.same) >= 0


@inner
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
