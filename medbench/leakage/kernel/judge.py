"""What the sieve lets through, looked at where its units still lie: which of the targets a record does hold enough of.

All that can be told from units alone is told here, so that no record is parsed and read again for nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medbench.leakage.kernel.compiled import compiled
from medbench.leakage.kernel.edits import Laid, Limits, alike, plausible
from medbench.leakage.kernel.sets import elements, mark, may_hold
from medbench.leakage.kernel.table import BRIEF, EXACT, PASSED, SHORTS, TEXTS, UNITS, look_up
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


@compiled
def finish_record(record, now, sieve, judge, count, found, before, n_found):
    """Look the rest up, and keep of what was found for a record the targets that it may really hold."""
    found, n_found = look_up(count[EXACT + PASSED], record, now, sieve.sought, sieve.scratch, found, n_found)
    if count[SHORTS + PASSED]:
        found, n_found = look_up(count[SHORTS + PASSED], record, now, sieve.short, sieve.short_scratch, found, n_found)
    if count[BRIEF + PASSED]:
        found, n_found = look_up(count[BRIEF + PASSED], record, now, sieve.brief, sieve.brief_scratch, found, n_found)
    if n_found == before:
        return found, n_found
    own = found[before:n_found, 1]
    first_short, first_brief = sieve.short.first[0], sieve.brief.first[0]
    kept = np.zeros(own.size, np.bool_)
    units, text_start = sieve.units[: count[UNITS]], sieve.text_start[: count[TEXTS] + 1]
    _judge(own, 0, first_short, SHINGLE, sieve.sought, units, text_start, sieve, judge, kept)
    _judge(own, first_short, first_brief, SHORT, sieve.short, units, text_start, sieve, judge, kept)
    end = first_brief + sieve.brief.least.size
    _judge(own, first_brief, end, PAIR, sieve.brief, units, text_start, sieve, judge, kept)
    n = before
    for k in range(own.size):
        if kept[k]:
            found[n, 0], found[n, 1] = record, own[k]
            n += 1
    return found, n


@compiled
def _judge(own, first, beyond, size, sought, units, text_start, sieve, judge, kept):
    """Of the targets from `first` up to `beyond`, those of which the record holds enough shingles of `size` units.

    Of short shingles enough must stand together, and the field may really stand there in an edited form; of pairs, some
    text of the record must be the question as a whole.
    """
    hashes, marked = sieve.every[:0], sieve.bitmap[:0]
    for k in range(own.size):
        if own[k] < first or own[k] >= beyond:
            continue
        if not marked.size:  # once a record, and for most records never
            start = np.empty_like(text_start)
            shingles(units, text_start, sieve.every, start, size)
            hashes = sieve.every[: start[-1]]
            marked = mark(hashes, sieve.bitmap)
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
