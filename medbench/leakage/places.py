"""Where in a batch something stands, and the text of both sides there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from medbench.leakage.corpus import Batch
from medbench.leakage.kernel.text import SHINGLE
from medbench.leakage.tokens import Tokens

SHOWN = 400  # characters of evidence kept on each side; the offsets are complete


class Place(NamedTuple):
    """Units `begin` up to `end` of one text of a batch."""

    text: int
    begin: int
    end: int


def region_around(batch: Batch, tokens: Tokens, record: int, place: Place, near: int) -> range:
    """Units of the batch at most `near` away from a place, within its record."""
    first = int(tokens.unit_start[batch.record_start[record]])
    last = int(tokens.unit_start[batch.record_start[record + 1]])
    base = int(tokens.unit_start[place.text])
    return range(max(first, base + place.begin - near), min(last, base + place.end + near))


def place_of(tokens: Tokens, first: int, last: int) -> Place:
    """Units of the batch as a place; what lies beyond the text of the first unit is cut off."""
    text = int(np.searchsorted(tokens.unit_start, first, side="right")) - 1
    base = int(tokens.unit_start[text])
    return Place(text, first - base, min(last, int(tokens.unit_start[text + 1])) - base)


def corpus_evidence(batch: Batch, tokens: Tokens, place: Place) -> dict[str, Any]:
    """Where in the record a place is, in characters, and the text there."""
    begin, end = tokens.characters(*place)
    return {
        "corpus_field": batch.name(place.text),
        "corpus_span": [begin, end],
        "corpus_text": batch.text(place.text)[begin : min(end, begin + SHOWN)],
    }


def item_evidence(texts: tuple[str, ...], tokens: Tokens, start: np.ndarray, first: int, last: int) -> dict[str, Any]:
    """Where shingles `first` to `last` of a target lie, in its texts joined by line feeds."""
    joined = "\n".join(texts)
    before = [0]
    for text in texts:
        before.append(before[-1] + len(text) + 1)
    a = int(np.searchsorted(start, first, side="right")) - 1
    b = int(np.searchsorted(start, last, side="right")) - 1
    begin = before[a] + tokens.characters(a, first - int(start[a]), first - int(start[a]) + SHINGLE)[0]
    end = before[b] + tokens.characters(b, last - int(start[b]), last - int(start[b]) + SHINGLE)[1]
    return {"item_span": [begin, end], "item_text": joined[begin : min(end, begin + SHOWN)]}
