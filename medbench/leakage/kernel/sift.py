"""The sieve over texts that were read already."""

from __future__ import annotations

import numpy as np

from medbench.leakage.kernel.compiled import compiled
from medbench.leakage.kernel.judge import finish_record
from medbench.leakage.kernel.table import COUNTS, EPOCH_BITS, EXACT, SHINGLES, take
from medbench.leakage.kernel.text import SEED, read

_EPOCH_BITS, _0 = np.uint64(EPOCH_BITS), np.uint64(0)


@compiled
def sift(
    buffer, text_start, record_start, ascii_table, table, pool, sieve, judge, epoch, record_shingles, marked
):  # fmt: skip
    """Targets of which a record holds enough to be compared with them in full.

    Args:
        buffer: uint8, valid UTF-8, and three more bytes.
        text_start, record_start: int64, see `kernel`.
        ascii_table: uint64 (128,): what each ASCII character becomes in a word, 0 where it separates.
        table, pool: from `units.character_table`.
        sieve, judge: `table.Sieve` and `judge.Judge`.
        epoch: the number of records counted in the tallies before, plus one; at most 2**24 less the records here.
        record_shingles: int64 (records,): filled with each record's number of shingles.
        marked: bool (records,): set where a text needs `written.restore` first; what is found here does not count.

    Returns:
        int64 array of shape (candidates, 2): record, target (those of short shingles after the others, those of
        pairs last); ordered by record.
    """
    found = np.empty((256, 2), np.int64)
    n_found = np.int64(0)  # a literal would have every function that takes it compiled once more
    raw = sieve.raw
    count = np.zeros(COUNTS, np.int64)
    for r in range(record_start.size - 1):
        now = np.uint64(epoch + r) << _EPOCH_BITS
        count[:] = 0
        for s in range(record_start[r], record_start[r + 1]):
            begin, end = np.uint64(text_start[s]), np.uint64(text_start[s + 1])
            _, units, h, inside, mark = read(buffer, begin, end, ascii_table, table, pool, raw, _0, SEED, _0)
            raw[units] = h
            marked[r] |= mark
            take(np.int64(units + inside), now, sieve, count)
        record_shingles[r] = count[EXACT + SHINGLES]
        found, n_found = finish_record(r, now, sieve, judge, count, found, n_found)
    return found[:n_found]
