"""One batch of records against the frozen index: what may be there. Pure: batch and index in, findings out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from medbench.leakage import corpus
from medbench.leakage.corpus import Batch
from medbench.leakage.explain import Explainer, order
from medbench.leakage.formats import Unreadable
from medbench.leakage.index import Index
from medbench.leakage.kernel import json_lines, table
from medbench.leakage.kernel.sets import SMALLEST
from medbench.leakage.kernel.sift import sift
from medbench.leakage.tokens import UNITS_PER_BYTE, Tokeniser
from medbench.leakage.written import restore

EPOCHS = 1 << 24  # records between two clearings of a tally
KEPT = 4 << 20  # bytes: space for a longer record is given back


class Scanned(NamedTuple):
    """What the records of some lines gave.

    Attributes:
        findings: as `Scanner.scan` has them.
        short: records too short to be checked.
        unreadable: records that could not be read.
        records: number of all records.
        size: bytes of text.
    """

    findings: list[dict[str, Any]]
    short: list[int]
    unreadable: list[Unreadable]
    records: int
    size: int


class Scanner:
    """The index with the scratch space of one worker. Results do not depend on what was scanned before."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._tokenise = Tokeniser(simplify=index.simplify)
        self._explained = Explainer(index)
        self._judge = self._explained.judge
        looked = (index, index.short, index.brief)
        sought = [table.Sought(**{name: getattr(one, name) for name in table.Sought._fields}) for one in looked]
        home, at = np.empty(2 * table.PIECE, np.uint64), np.empty(2 * table.PIECE, np.int32)
        scratch = [
            table.Scratch(
                passed=np.empty(2 * table.PIECE, np.uint64),
                home=home,
                at=at if one is index.short else at[:0],
                tally=table.new_tally(one.enough, one.reach),
            )
            for one in looked
        ]
        none = np.empty(0, np.uint64)
        sieve = table.Sieve(
            none, np.empty(sum(len(one.enough) for one in looked), np.int64), none, none, none, none,
            sought[0], scratch[0], sought[1], scratch[1], sought[2], scratch[2],
        )  # fmt: skip
        self._sieve = _with_room(sieve, 0)
        self._epoch = 1

    def scan(self, batch: Batch) -> tuple[list[dict[str, Any]], list[int]]:
        """Findings of a batch, ordered by record, item, field and signal; and the records too short to be checked.

        A finding's `record` counts from the start of the shard; spans are character offsets.
        """
        candidates, short = self._candidates(batch)
        return self._explained(batch, candidates), short

    def scan_lines(self, content: bytes, first: int, file: str) -> Scanned:
        """The same for lines of JSON as they lie in a file, of which only those are parsed that hold something.

        Args:
            content: whole lines.
            first: the number of the first record in them.
            file: the corpus file.
        """
        buffer = np.frombuffer(content + b"\n\0\0\0", np.uint8)
        end = np.flatnonzero(buffer == ord("\n"))
        begin = np.concatenate([[0], end[:-1] + 1])
        kind, shingles, size = np.empty(len(end), np.uint8), np.zeros(len(end), np.int64), np.zeros(len(end), np.int64)
        sieve, epoch = self._room(int((end - begin).max()), len(end))
        found = json_lines.sift_lines(
            buffer, begin, end, self._tokenise.json_table, self._tokenise.table, self._tokenise.pool,
            sieve, self._judge, epoch, kind, shingles, size,
        )  # fmt: skip
        del buffer, sieve  # a long line's take much room
        number = first - 1 + np.cumsum(kind != json_lines.BLANK)
        unreadable: list[Unreadable] = []

        def parse(lines: np.ndarray) -> Batch:
            parts = (content[a:b] for a, b in zip(begin[lines].tolist(), end[lines].tolist(), strict=True))
            return corpus.parse(parts, number[lines].tolist(), file, unreadable)

        lines, found[:, 0] = np.unique(found[:, 0], return_inverse=True)
        findings = self._explained(parse(lines), found) if len(lines) else []
        short = number[(kind == json_lines.PLAIN) & (shingles == 0)].tolist()
        records = int((kind != json_lines.BLANK).sum())
        others = parse(np.flatnonzero(kind == json_lines.OTHER))
        if others.numbers:
            more, also_short = self.scan(others)
            findings = sorted(findings + more, key=order)
            short = sorted(short + also_short)
        return Scanned(findings, short, unreadable, records, int(size.sum()) + others.size)

    def _candidates(self, batch: Batch) -> tuple[np.ndarray, list[int]]:
        """(record of the batch, target) pairs worth comparing, int64 (candidates, 2); and the records too short."""
        candidates, shingles, marked = self._sift(batch.texts, batch.record_start, self._tokenise.ascii_table)
        if marked.any():  # once more, restored
            records = np.flatnonzero(marked)
            part = batch.part(records.tolist())
            texts = [restore(text.decode()).text.encode() for text in part.texts]
            again, shingles[records], _ = self._sift(texts, part.record_start, self._tokenise.restored_table)
            again[:, 0] = records[again[:, 0]]
            candidates = np.concatenate([candidates[~marked[candidates[:, 0]]], again])
            candidates = candidates[np.argsort(candidates[:, 0], kind="stable")]
        return candidates, [batch.numbers[r] for r in np.flatnonzero(shingles == 0).tolist()]

    def _sift(
        self, texts: list[bytes], record_start: list[int], ascii_table: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`sift` of texts: its candidates, each record's number of shingles, which records to restore first."""
        start = np.array(record_start, np.int64)
        text_start = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=text_start[1:])
        records = len(start) - 1
        sieve, epoch = self._room(int(np.diff(text_start[start]).max(initial=0)), records)
        shingles, marked = np.empty(records, np.int64), np.zeros(records, np.bool_)
        candidates = sift(
            np.frombuffer(b"".join([*texts, bytes(3)]), np.uint8), text_start, start,
            ascii_table, self._tokenise.table, self._tokenise.pool,
            sieve, self._judge, epoch, shingles, marked,
        )  # fmt: skip
        return candidates, shingles, marked

    def _room(self, longest: int, records: int) -> tuple[table.Sieve, int]:
        """Scratch space for records of up to `longest` bytes, and the epoch of the first of so many."""
        units = UNITS_PER_BYTE * longest + 16
        sieve = self._sieve
        if len(sieve.raw) < units:
            sieve = _with_room(sieve, units)
            if longest <= KEPT:
                self._sieve = sieve
        if self._epoch + records >= EPOCHS:
            for scratch in (sieve.scratch, sieve.short_scratch, sieve.brief_scratch):
                scratch.tally[:, 0] = 0
            self._epoch = 1
        self._epoch += records
        return sieve, self._epoch - records


def _with_room(sieve: table.Sieve, units: int) -> table.Sieve:
    """A sieve with space for records of up to so many units."""
    return sieve._replace(
        raw=np.empty(units, np.uint64),
        units=np.empty(units, np.uint64),
        text_start=np.zeros(units + 1, np.int64),
        every=np.empty(units, np.uint64),
        bitmap=np.empty(units // 2 + SMALLEST, np.uint64),
    )
