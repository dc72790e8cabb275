"""What of an item is searched for, and the table in which its shingles are entered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench.errors import MedbenchError
from medbench.leakage.kernel.table import POSTING_BITS, fill_table
from medbench.sources.items import Item


@dataclass(frozen=True)
class Target:
    """One field of one item as it is searched for: one or more texts, the order of which does not matter."""

    item: int
    field: str
    texts: tuple[str, ...]


def targets_of(item: Item, number: int) -> list[Target]:
    """What of an item is searched for. A field of two parts ("question+options") follows the two.

    A question with options is the set of all their shingles, in any order of the options. Further references are fields
    of their own (``answer 2``).
    """
    fields: list[tuple[str, tuple[str, ...]]] = [("question", (item.question,))]
    if item.options:
        fields += [("options", item.options), ("question+options", (item.question, *item.options))]
    elif item.reference and not item.answer:
        fields += [("answer", (item.reference,)), ("question+answer", (item.question, item.reference))]
    if item.reference and (item.options or item.answer):
        fields.append(("explanation", (item.reference,)))
    name = "explanation" if item.options or item.answer else "answer"
    fields += [(f"{name} {number}", (text,)) for number, text in enumerate(item.references[1:], 2)]
    if item.context:
        fields.append(("context", (item.context,)))
    return [Target(number, field, texts) for field, texts in fields]


def frequency_of(target_hash: np.ndarray, order: np.ndarray, in_pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """Of each target's shingles, how many targets have it, fields of two parts not counted; how many differ."""
    ordered = target_hash[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.add.reduceat((~in_pairs[order]).astype(np.int32), starts)
    frequency = np.empty(len(order), np.int32)
    frequency[order] = np.repeat(counts, np.diff(np.append(starts, len(order))))
    return frequency, len(starts)


def table_of(hashes: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bitmap filter, the hash table and the postings of (shingle, target) pairs, ordered by shingle."""
    if len(hashes) >= 1 << POSTING_BITS:
        raise MedbenchError(
            f"the test items have {len(hashes):,} shingles to look for, and an audit holds at most "
            f"{(1 << POSTING_BITS) - 1:,}; audit them in several runs."
        )
    keys = hashes >> np.uint64(POSTING_BITS)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    keys, posting = keys[first], owner.copy()
    last = np.append(first[1:], len(owner)) - 1
    posting[last] = ~posting[last]
    # Some 13 bits a shingle. A filter that lets fewer pass no longer fits the processor's second-level cache, and is
    # slower.
    bloom = np.zeros(1 << max(6, round(np.log2(len(keys) / 5))), np.uint64)
    slots = np.zeros(1 << int(np.ceil(np.log2(len(keys) / 0.7 + 1))), np.uint64)  # at most 70 % full
    fill_table(keys, first, hashes, bloom, slots)
    return bloom, slots, posting
