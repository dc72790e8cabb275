"""What an edit leaves: where a record holds many short shingles of a field, and the field laid over that place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medbench.leakage.kernel.compiled import compiled, inner
from medbench.leakage.kernel.sets import SMALLEST, elements, mark, marked
from medbench.leakage.kernel.text import SHORT, shingle_hashes

BRIEFEST, LONGEST = 8, 30  # units of a text that may be a short question as a whole (`brief`)


@compiled
def regions(unit_hash, target_hash, width, least, most):
    """The stretches of a record that hold most different short shingles of a field, best first, none overlapping.

    Args:
        unit_hash: uint64: units of the record.
        target_hash: uint64, sorted: the field's distinct short shingles.
        width: units of a stretch.
        least: different shingles that a stretch must hold.
        most: stretches to return at most.

    Returns:
        int64 (stretches, 2): first and last unit + 1.
    """
    hashes = shingle_hashes(unit_hash, np.int64(SHORT))
    element = np.empty(hashes.size, np.int32)
    elements(hashes, target_hash, element)
    out = np.empty((most, 2), np.int64)
    n = 0
    while n < most:
        held = np.zeros(target_hash.size, np.int64)
        distinct = first = best = best_first = best_last = 0
        for i in range(element.size):
            k = element[i]
            if k < 0:
                continue
            distinct += held[k] == 0
            held[k] += 1
            while first <= i - width + SHORT - 1 or element[first] < 0:
                gone = element[first]
                first += 1
                if gone >= 0:
                    held[gone] -= 1
                    distinct -= held[gone] == 0
            if distinct > best:
                best, best_first, best_last = distinct, first, i
        if best < least:
            break
        out[n, 0], out[n, 1] = best_first, best_last + SHORT
        n += 1
        element[best_first : best_last + 1] = -1
    return out[:n]


@compiled
def fit(query, weight, region, inserted):
    """A field laid over a stretch of a record in order: which unit of it is which of the record's.

    Maximises the weight of equal units, less `inserted` for each unit of the record between the first and the last of
    them. Units of the field that the record lacks cost nothing more than their weight. Exact, by dynamic programming.

    Args:
        query, region: uint64: units of the field and of the stretch.
        weight: float64, of each unit of the field.

    Returns:
        int64 (pairs, 2): positions in the field and in the stretch, ascending; and the maximum.
    """
    n, m = query.size, region.size
    score = np.zeros(m + 1, np.float64)
    step = np.zeros((n + 1, m + 1), np.int8)  # 0: begins here, 1: both, 2: unit of the field lacks, 3: unit inserted
    step[1:, 0] = 2
    for i in range(1, n + 1):
        diagonal = score[0]
        for j in range(1, m + 1):
            above = score[j]
            best, how = above, 2
            if score[j - 1] - inserted > best:
                best, how = score[j - 1] - inserted, 3
            if query[i - 1] == region[j - 1] and diagonal + weight[i - 1] >= best:
                best, how = diagonal + weight[i - 1], 1
            step[i, j] = how
            diagonal = above
            score[j] = best
    j = np.argmax(score)
    total = score[j]
    pairs = np.empty((min(n, m), 2), np.int64)
    k = pairs.shape[0]
    i = n
    while i > 0:
        how = step[i, j]
        if how == 1:
            i -= 1
            j -= 1
            k -= 1
            pairs[k, 0], pairs[k, 1] = i, j
        elif how == 2:
            i -= 1
        elif how == 3:
            j -= 1
        else:
            break
    return pairs[k:], total


@compiled
def distance(a, b):
    """Levenshtein distance of two sequences of code points, an exchange of neighbours counting once."""
    n, m = a.size, b.size
    rows = np.zeros((n + 1, m + 1), np.int64)
    for i in range(n + 1):
        rows[i, 0] = i
    for j in range(m + 1):
        rows[0, j] = j
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            cost = a[i - 1] != b[j - 1]
            best = min(rows[i - 1, j] + 1, rows[i, j - 1] + 1, rows[i - 1, j - 1] + cost)
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, rows[i - 2, j - 2] + 1)
            rows[i, j] = best
    return rows[n, m]


@compiled
def widened(begin, end, reach, size):
    """A stretch with room on both sides for what of a field holds no short shingle of it."""
    wider = max(0, reach - (end - begin)) // 2 + 10
    return max(0, begin - wider), min(size, end + wider)


class Laid(NamedTuple):
    """Fields as they are laid over records.

    Attributes:
        target_start, target_hash, least, reach: as in `table.Sought`, of short shingles.
        query, query_start, weight: the units of each field (of a question with options, the question's), where each
            field's begin, and what each unit weighs.
        cut, cut_start: where each sentence of a field ends, in units from the field's first.
        option, option_weight, option_start: units of all options, what each weighs, and where each option's begin.
        option_first: (fields + 1,): which options stand beside a question.
        with_options_only: bool (fields,): counts with its options beside it only.
        spelt: float64 (fields,): the share of a field, by weight, that can be misspelt; a CJK character is another one.
    """

    target_start: np.ndarray
    target_hash: np.ndarray
    least: np.ndarray
    reach: np.ndarray
    query: np.ndarray
    query_start: np.ndarray
    weight: np.ndarray
    cut: np.ndarray
    cut_start: np.ndarray
    option: np.ndarray
    option_weight: np.ndarray
    option_start: np.ndarray
    option_first: np.ndarray
    with_options_only: np.ndarray
    spelt: np.ndarray


class Limits(NamedTuple):
    """From what share and weight of equal units on a place is looked at closely; `edited.Verifier` says why."""

    inserted: float
    share: float
    spelt: float
    with_options: float
    options: float
    all_options: float
    option: float
    sentence: float
    sentences: float
    heavy: float
    light: float
    almost: float


@inner
def plausible(record, t, laid, limits, most):
    """Whether a field may stand in a record in an edited form, by equal units alone.

    Args:
        record: uint64: its units.
        t: the field.
        laid, limits: see there.
        most: as in `regions`.
    """
    target = laid.target_hash[laid.target_start[t] : laid.target_start[t + 1]]
    reach = np.int64(laid.reach[t])
    found = regions(record, target, reach, np.int64(laid.least[t]), most)
    for k in range(found.shape[0]):
        begin, end = widened(found[k, 0], found[k, 1], reach, record.size)
        if _plausible(record[begin:end], t, laid, limits):
            return True
    return False


@inner
def _plausible(region, t, laid, limits):
    field = laid.query[laid.query_start[t] : laid.query_start[t + 1]]
    weight = laid.weight[laid.query_start[t] : laid.query_start[t + 1]]
    whole = weight.sum()
    bag = _bag(region)
    enough = limits.share - min(limits.spelt, laid.spelt[t])
    kept = _most_kept(field, weight, region, limits.inserted, min(enough, limits.with_options) * whole, bag)
    share = kept / whole
    short = laid.with_options_only[t]
    if kept >= limits.light or share >= limits.almost or short:
        if share >= enough and not short:
            return True
        if share >= limits.with_options and laid.option_first[t + 1] > laid.option_first[t]:
            beside = _options_beside(region, t, laid, limits, bag)
            if beside >= limits.all_options or (short and share >= enough and beside >= limits.options):
                return True
    if short:
        return False
    return _sentences_kept(region, t, laid, limits, bag) >= max(limits.heavy, limits.sentences * whole)


@inner
def _bag(region):
    """The units of a stretch in whatever order, as `sets.mark` has them; room for four times as many and more."""
    return mark(region, np.empty(max(SMALLEST, region.size), np.uint64))


@inner
def _most_kept(query, weight, region, inserted, least, bag):
    """`most_kept`, 0 where what of a query stands in the bag of the stretch at all weighs less than `least`."""
    possible = 0.0
    for i in range(query.size):
        if marked(bag, query[i]):
            possible += weight[i]
    return most_kept(query, weight, region, inserted * weight.mean()) if possible >= least else 0.0


@compiled
def sentences_kept(region, t, laid, limits):
    """The weight of those sentences of a field that stand in a stretch, each by itself, by equal units alone.

    One sentence by itself is none: it stands in order.
    """
    return _sentences_kept(region, t, laid, limits, _bag(region))


@inner
def _sentences_kept(region, t, laid, limits, bag):
    field = laid.query[laid.query_start[t] : laid.query_start[t + 1]]
    weight = laid.weight[laid.query_start[t] : laid.query_start[t + 1]]
    kept = 0.0
    first = n = 0
    for s in range(laid.cut_start[t], laid.cut_start[t + 1]):
        end = laid.cut[s]
        own = weight[first:end]
        least = limits.sentence * own.sum()
        part = _most_kept(field[first:end], own, region, limits.inserted, least, bag)
        if part >= least:
            kept += part
            n += 1
        first = end
    return kept if n > 1 else 0.0


@inner
def _options_beside(region, t, laid, limits, bag):
    """The share of a question's options, by weight, that stand in a stretch; at least two must."""
    whole = held = 0.0
    n = 0
    for o in range(laid.option_first[t], laid.option_first[t + 1]):
        units = laid.option[laid.option_start[o] : laid.option_start[o + 1]]
        if units.size == 0:
            continue
        weight = laid.option_weight[laid.option_start[o] : laid.option_start[o + 1]]
        own = weight.sum()
        whole += own
        if _most_kept(units, weight, region, limits.inserted, limits.option * own, bag) >= limits.option * own:
            held += own
            n += 1
    return held / whole if n >= 2 else 0.0


@compiled
def most_kept(query, weight, region, inserted):
    """The maximum of `fit`, without the way there."""
    score = np.zeros(region.size + 1, np.float64)
    most = 0.0
    for i in range(query.size):
        diagonal = score[0]
        for j in range(1, region.size + 1):
            above = score[j]
            best = max(above, score[j - 1] - inserted)
            if query[i] == region[j - 1]:
                best = max(best, diagonal + weight[i])
            diagonal = above
            score[j] = best
            most = max(most, best)
    return most


@compiled
def alike(units, text_start, question, least):
    """Which text of a record is most of all a short question as a whole, with edits.

    Args:
        units, text_start: uint64: the units of the record's texts, and where each begins, with the end.
        question: uint64: its units.
        least: the share that must be reached: the units that both have in order over those of the longer one.

    Returns:
        The number of the text, -1 for none.
    """
    one = np.ones(question.size)
    found, best = -1, least
    for s in range(text_start.size - 1):
        text = units[text_start[s] : text_start[s + 1]]
        longer = max(text.size, question.size)
        if text.size < BRIEFEST or text.size > LONGEST or min(text.size, question.size) < best * longer:
            continue
        share = most_kept(question, one, text, 0.0) / longer
        if share > best or (share == best and found < 0):
            found, best = s, share
    return found
