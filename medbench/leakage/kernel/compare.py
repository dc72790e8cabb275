"""Records against targets, in full: what they share and where. And which shingles of a target to look for."""

from __future__ import annotations

import numpy as np

from medbench.leakage.kernel.compiled import compiled, inner
from medbench.leakage.kernel.sets import elements, ordered, position
from medbench.leakage.kernel.text import SHINGLE, all_shingles, sequence_hash, shingle_hashes

# Columns of what `compare` returns per candidate.
SHARED, EXACT_TEXT, SPAN_TEXT, SPAN_BEGIN, SPAN_UNITS, CLUSTER_TEXT, CLUSTER_BEGIN, CLUSTER_END = range(8)
COLUMNS = 8
_1, _32 = (np.uint64(n) for n in (1, 32))


@compiled
def shingle_sets(shingle_hash, begin, end, out, out_start):
    """Sorted distinct shingles of ``shingle_hash[begin[t]:end[t]]``: ``out[out_start[t]:out_start[t + 1]]``."""
    n = 0
    for t in range(begin.size):
        out_start[t] = n
        own = ordered(shingle_hash[begin[t] : end[t]])
        for i in range(own.size):
            if i == 0 or own[i] != own[i - 1]:
                out[n] = own[i]
                n += 1
    out_start[begin.size] = n


def choose(
    unit_hash: np.ndarray,
    unit_start: np.ndarray,
    shingle_hash: np.ndarray,
    shingle_start: np.ndarray,
    first_text: np.ndarray,
    beyond_text: np.ndarray,
    target_hash: np.ndarray,
    target_start: np.ndarray,
    frequency: np.ndarray,
    number: np.ndarray,
    spaced: np.ndarray,
    chosen: np.ndarray,
) -> None:
    """Mark in `chosen` the shingles of each target to look for; those are the rare ones where there is a choice.

    Args:
        unit_hash, unit_start: the texts of the test side, from `tokenise`.
        shingle_hash, shingle_start: their shingles.
        first_text, beyond_text: the texts of each target.
        target_hash, target_start: its sorted distinct shingles.
        frequency: of each of those, the number of targets that have it, or another measure of how common it is.
        number: how many to mark at least; 0 leaves the target out.
        spaced: where not 0, one of every so many in a row is marked, and every one that begins with a four-gram that
            the target repeats.
        chosen: bool, as long as `target_hash`, all False.
    """
    frequency = np.asarray(frequency, float)  # one type is compiled
    owner = np.repeat(np.arange(len(target_start) - 1, dtype=np.int32), np.diff(target_start))
    rarest = np.lexsort((frequency, owner))  # within each target, equal ones as they stand
    _choose(
        unit_hash, unit_start, shingle_hash, shingle_start, first_text, beyond_text,
        target_hash, target_start, frequency, rarest, number, spaced, chosen,
    )  # fmt: skip


@compiled
def _choose(
    unit_hash, unit_start, shingle_hash, shingle_start, first_text, beyond_text,
    target_hash, target_start, frequency, rarest, number, spaced, chosen,
):  # fmt: skip
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
            known = ordered(fours[:n])
            for s in range(first_text[t], beyond_text[t]):
                for a in range(shingle_start[s], shingle_start[s + 1]):
                    i = unit_start[s] + a - shingle_start[s]
                    four = sequence_hash(unit_hash[i : i + SHINGLE - 1])
                    at = position(known, four)
                    if at + 1 < n and known[at + 1] == four:
                        chosen[begin + position(own, shingle_hash[a])] = True
                for a in range(shingle_start[s], shingle_start[s + 1], spaced[t]):
                    best = -1
                    for i in range(a, min(a + spaced[t], shingle_start[s + 1])):
                        k = begin + position(own, shingle_hash[i])
                        if best < 0 or frequency[k] < frequency[best]:
                            best = k
                    chosen[best] = True
        left = wanted
        for k in range(begin, end):
            left -= chosen[k]
        if left <= 0:
            continue
        for k in rarest[begin:end]:
            if left > 0 and not chosen[k]:
                chosen[k] = True
                left -= 1


@compiled
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
            hashes, text_at = all_shingles(unit_hash[unit_start[s0] : unit_start[s1]], start, np.int64(SHINGLE))
            element = np.empty(hashes.size, np.int32)
        target = target_hash[target_start[t] : target_start[t + 1]]
        out[c, SHARED] = elements(hashes, target, element)
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


@inner
def _jaccard(hashes, shared, size, threshold):
    """Shared / distinct in either, of hashes and a set of `size`; 0 where that is below the threshold."""
    # shared / (size + d - shared) >= threshold; one more, because the bound is rounded
    most = np.int64(shared / threshold) + shared - size + 1
    if most < shared:
        return 0.0
    distinct = _distinct(hashes, most)
    return shared / (size + distinct - shared) if distinct <= most else 0.0


@inner
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


@compiled
def align(unit_hash, target_hash):
    """First and last position in `target_hash` of shingles that some units hold too; (-1, -1) where none does."""
    first = last = -1
    known = ordered(shingle_hashes(unit_hash, np.int64(SHINGLE)))
    for k in range(target_hash.size):
        at = position(known, target_hash[k])
        if at < known.size and known[at] == target_hash[k]:
            if first < 0:
                first = k
            last = k
    return first, last


@compiled
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
    size = option_start[1:] - option_start[:-1]
    taken = np.zeros(k, np.bool_)
    following = np.full((k, n + 1), -1, np.int64)  # the next start of each option at or after a position
    covered = np.zeros(n, np.bool_)
    for _ in range(k):
        j = -1
        for other in range(k):  # the longest first
            if not taken[other] and (j < 0 or size[other] > size[j]):
                j = other
        taken[j] = True
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


@inner
def _positions(following, begin):
    if begin < 0:
        return np.empty(0, np.int64)
    return following[:, begin].copy()


@compiled
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
