"""Texts as units, with the way back to the characters of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench.leakage.kernel.text import STOP, tokenise
from medbench.leakage.units import WORD, character_table
from medbench.leakage.written import Written, restore

UNITS_PER_BYTE = 2  # at most: U+FDFA stands for a phrase, 4 words in 3 bytes


@dataclass
class Tokens:
    """Texts as units. Offsets are bytes within a text (of its restored form where `composed` has it)."""

    texts: list[bytes]
    unit_hash: np.ndarray
    unit_begin: np.ndarray
    unit_end: np.ndarray
    unit_start: np.ndarray
    composed: dict[int, Written]

    def part(self, begin: int, end: int) -> Tokens:
        """Texts `begin` up to `end`; the arrays are views."""
        start = self.unit_start[begin : end + 1]
        units = slice(int(start[0]), int(start[-1]))
        arrays = (self.unit_hash[units], self.unit_begin[units], self.unit_end[units])
        composed = {text - begin: offsets for text, offsets in self.composed.items() if begin <= text < end}
        return Tokens(self.texts[begin:end], *arrays, start - start[0], composed)

    def characters(self, text: int, begin: int, end: int) -> tuple[int, int]:
        """Character offsets, in the original text, of the units from `begin` up to `end` of a text."""
        base = int(self.unit_start[text])
        first, last = int(self.unit_begin[base + begin]), int(self.unit_end[base + end - 1])
        start = len(self.texts[text][:first].decode())
        stop = start + len(self.texts[text][first:last].decode())
        if text in self.composed:
            written = self.composed[text]
            return written.begin[start], written.end[stop - 1]
        return start, stop


class Tokeniser:
    """Texts to units, reusing its arrays from call to call: a result is valid until the next call."""

    def __init__(self, *, simplify: bool = False) -> None:
        self.table, self.pool = character_table(simplify)
        first = self.table[:128]
        self.ascii_table = np.where(first & 3 == WORD, first >> 2, 0).astype(np.uint64)
        self.restored_table = self.ascii_table.copy()
        self.ascii_table[[*b"&<-"]] = STOP  # what `text.split` looks at
        self.json_table = self.ascii_table.copy()
        self.json_table[[*range(32), *b'"\\']] = STOP
        self._room = 0
        self._reserve(1 << 16)

    def _reserve(self, size: int) -> None:
        if size > self._room:
            self._room = size
            self._hash = np.empty(size, np.uint64)
            self._begin, self._end = np.empty(size, np.int32), np.empty(size, np.int32)

    def __call__(self, texts: Sequence[bytes]) -> Tokens:
        """Tokenise UTF-8 texts."""
        texts = list(texts)
        start, marked = self._run(texts)
        composed: dict[int, Written] = {}
        if marked.any():
            for index in np.flatnonzero(marked).tolist():
                composed[index] = restore(texts[index].decode())
                texts[index] = composed[index].text.encode()
            start, _ = self._run(texts)
        return Tokens(texts, self._hash, self._begin, self._end, start, composed)

    def _run(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        buffer = np.frombuffer(b"".join(texts), np.uint8)
        text_start = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=text_start[1:])
        self._reserve(buffer.size * UNITS_PER_BYTE + 16)
        unit_start = np.empty(len(texts) + 1, np.int64)
        marked = np.zeros(len(texts), np.bool_)
        tokenise(
            buffer, text_start, self.table, self.pool, self._hash, self._begin, self._end, unit_start, marked
        )  # fmt: skip
        return unit_start, marked
