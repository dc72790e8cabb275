"""Several reference texts for one item, and which texts of other items make its floor.

An item's references are one text or several; whatever reads them takes both, and hands them on as a tuple.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar, overload

import numpy as np

from medbench.surface.kernels import jit, mix_bits, table_size

T = TypeVar("T")
References = str | Sequence[str]


@overload
def as_tuple(references: References) -> tuple[str, ...]: ...
@overload
def as_tuple(references: T | Sequence[T]) -> tuple[T, ...]: ...
def as_tuple(references: object) -> tuple[object, ...]:
    """The references of one item as a tuple, whether one was given or several."""
    if isinstance(references, str) or not isinstance(references, Sequence):
        return (references,)  # a text is a sequence of texts, and is meant as one
    return tuple(references)


def closest_length(hyp: int, refs: Iterable[int]) -> int:
    """The reference length that BLEU's brevity penalty takes: the nearest to the prediction's, of two the shorter."""
    return min(refs, key=lambda length: (abs(length - hyp), length))


@jit
def clipped_matches(hyp: np.ndarray, refs: np.ndarray, ends: np.ndarray, order: int) -> np.ndarray:
    """BLEU's clipped counts against several references, for n = 1 to `order`.

    Each n-gram of the hypothesis counts as often as it occurs there, and at most as often as in that reference which
    has it most often (Papineni et al. 2002, section 2.1.1).

    Args:
        hyp: tokens of the hypothesis, non-negative integers below 2**32.
        refs: tokens of the references, one after the other.
        ends: where each reference ends in `refs`.
        order: the largest n.

    Returns:
        int64 array of shape (order,).
    """
    matches = np.zeros(order, np.int64)
    total = len(hyp) + len(refs)
    size = table_size(total)
    keys = np.empty(size, np.uint64)
    slots = np.empty(size, np.int32)
    most = np.empty(total, np.int32)  # in the reference that has most of this n-gram
    here = np.empty(total, np.int32)  # in the text that is read
    reader = np.empty(total, np.int32)  # which text that was
    hyp_prefix = np.zeros(len(hyp), np.uint64)
    ref_prefix = np.zeros(len(refs), np.uint64)
    for n in range(order):
        slots[:] = -1
        used = 0
        start = 0
        for text in range(len(ends) + 1):
            if text < len(ends):
                tokens, prefix, begin, end = refs, ref_prefix, start, ends[text]
                start = end
            else:
                tokens, prefix, begin, end = hyp, hyp_prefix, 0, len(hyp)
            for i in range(begin, end - n):
                key = (prefix[i] << np.uint64(32)) | np.uint64(tokens[i + n])
                slot = np.int64(mix_bits(key) & np.uint64(size - 1))
                while slots[slot] >= 0 and keys[slot] != key:
                    slot = (slot + 1) & (size - 1)
                number = slots[slot]
                if number < 0:
                    number = used
                    used += 1
                    keys[slot], slots[slot] = key, number
                    most[number], here[number], reader[number] = 0, 0, -1
                prefix[i] = np.uint64(number)
                if reader[number] != text:
                    reader[number], here[number] = text, 0
                here[number] += 1
                if text < len(ends):
                    most[number] = max(most[number], here[number])
                else:
                    matches[n] += here[number] <= most[number]
    return matches


def other_references(references: Sequence[References], languages: Sequence[str]) -> list[int | None]:
    """For each item the index of the item whose references stand in for an unrelated answer.

    It is the item before it of the same language that shares no reference with it (before the first comes the last):
    references rotated by one, where no two are alike. None where there is no other. A fixed choice, so that a floor
    can be stored in a log and computed again.
    """
    kin = _kin(references)
    others: list[int | None] = [None] * len(references)
    for language in dict.fromkeys(languages):
        members = [i for i, own in enumerate(languages) if own == language]
        # Twice round: what stands before a neighbour of the same kin stands before this item too.
        for neighbour, i in pairwise(members[-1:] + members * 2):
            others[i] = neighbour if kin[neighbour] != kin[i] else others[neighbour]
    return others


def unrelated(references: Sequence[References], languages: Sequence[str]) -> list[tuple[tuple[int, int], ...]]:
    """For each item, which references of other items its floor is computed against: (item, which of its references).

    As many as the item has itself, because the best of five scores more than the only one: those of its
    `other_references`, and where these are too few, those of the item before that. Empty where there is none.
    """
    kin = _kin(references)
    before = other_references(references, languages)
    counts = [len(as_tuple(own)) for own in references]
    places = []
    for i, wanted in enumerate(counts):
        found: list[tuple[int, int]] = []
        seen: set[int] = set()
        other = before[i]
        while other is not None and other not in seen and len(found) < wanted:
            seen.add(other)
            if kin[other] != kin[i]:
                found += [(other, number) for number in range(counts[other])]
            other = before[other]
        places.append(tuple(found[:wanted]))
    return places


def _kin(references: Sequence[References]) -> list[int]:
    """For each item the number of its group: items that share a reference text, directly or through others."""
    parents = list(range(len(references)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    first: dict[str, int] = {}
    for i, own in enumerate(references):
        for text in as_tuple(own):
            parents[root(i)] = root(first.setdefault(text, i))
    return [root(i) for i in range(len(references))]
