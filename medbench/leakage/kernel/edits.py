"""What an edit leaves: where a record holds many short shingles of a field, and the field laid over that place."""

import numpy as np

from medbench.leakage.kernel.compiled import compiled
from medbench.leakage.kernel.text import SHORT, all_shingles


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
    hashes, _ = all_shingles(unit_hash, np.array([0, unit_hash.size]), SHORT)
    element = np.full(hashes.size, -1, np.int64)
    for i in range(hashes.size):
        k = np.searchsorted(target_hash, hashes[i])
        if k < target_hash.size and target_hash[k] == hashes[i]:
            element[i] = k
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
    rows[:, 0] = np.arange(n + 1)
    rows[0, :] = np.arange(m + 1)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            cost = a[i - 1] != b[j - 1]
            best = min(rows[i - 1, j] + 1, rows[i, j - 1] + 1, rows[i - 1, j - 1] + cost)
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, rows[i - 2, j - 2] + 1)
            rows[i, j] = best
    return rows[n, m]


@compiled
def shares(
    near, unit_hash, unit_start, record_start, target_start, target_hash, least, reach,
    query, query_start, weight, inserted, most,
):  # fmt: skip
    """The share of each field that stands in its record in order, by equal units alone: what is worth a closer look.

    Args:
        near: int64 (candidates, 2): record and field.
        unit_hash, unit_start, record_start: the batch.
        target_start, target_hash, least, reach: as in `table.Sought`.
        query, query_start, weight: the units of each field, and what each weighs.
        inserted: as in `fit`, as a share of the mean weight.
        most: as in `regions`.

    Returns:
        float64 (candidates,).
    """
    out = np.zeros(near.shape[0], np.float64)
    for c in range(near.shape[0]):
        r, t = near[c, 0], near[c, 1]
        record = unit_hash[unit_start[record_start[r]] : unit_start[record_start[r + 1]]]
        field = query[query_start[t] : query_start[t + 1]]
        own = weight[query_start[t] : query_start[t + 1]]
        found = regions(record, target_hash[target_start[t] : target_start[t + 1]], reach[t], least[t], most)
        for k in range(found.shape[0]):
            begin, end = widened(found[k, 0], found[k, 1], reach[t], record.size)
            _, total = fit(field, own, record[begin:end], inserted * own.mean())
            out[c] = max(out[c], total / own.sum())
    return out


@compiled
def widened(begin, end, reach, size):
    """A stretch with room on both sides for what of a field holds no short shingle of it."""
    wider = max(0, reach - (end - begin)) // 2 + 10
    return max(0, begin - wider), min(size, end + wider)
