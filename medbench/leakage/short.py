"""The test side for edited leaks: which fields are searched for, by which short shingles, and what each unit weighs.

An edit of one unit takes at most three short shingles away. So a record that holds a field with at most `edits_of`
units replaced, dropped or put in holds all but three times as many of its distinct short shingles, and some of any
larger number of them: of each field the rarest so many are entered in the table (as for shingles, see `index`). That is
the bound under which no edited copy is missed; most copies with many more edits are found too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from medbench.items import Item
from medbench.leakage.kernel.compare import choose, shingle_sets
from medbench.leakage.kernel.text import SHORT, all_shingles, shingle_hashes
from medbench.leakage.targets import Target, frequency_of, table_of
from medbench.leakage.tokens import Tokeniser

WHOLE = 15  # units: a shorter question is common words, and counts with its options beside it only
LEAST = 10  # units of a short question with its options, below which nothing is looked for
HITS = 3  # short shingles from the table that a record must hold before it is looked at closely
SHARE = 0.4  # of a field's short shingles that must stand together before the field is laid over the place
COMMON = 5  # fields beyond the first that hold a phrase and halve its weight
LIGHTEST = 0.15  # weight of a unit that every item holds; one that a single item holds weighs 1


@dataclass
class Short:
    """The fields whose edited copies are looked for; the arrays that are not described are `kernel.table.Sought`'s.

    Attributes:
        targets: the fields.
        known, weights: sorted unit hashes of all fields, and what each weighs.
        query, query_start, weight: the units of each field (of a question with options, the question's), where each
            begins, and what each unit weighs.
        phrases, common: sorted short shingles that several fields have, and by how much they make their units lighter.
    """

    targets: list[Target]
    known: np.ndarray
    weights: np.ndarray
    phrases: np.ndarray
    common: np.ndarray
    query: np.ndarray
    query_start: np.ndarray
    weight: np.ndarray
    target_start: np.ndarray
    target_hash: np.ndarray
    least: np.ndarray
    enough: np.ndarray
    reach: np.ndarray
    first: np.ndarray
    bloom: np.ndarray
    slots: np.ndarray
    posting: np.ndarray

    def weigh(self, unit_hash: np.ndarray) -> np.ndarray:
        """The weight of each unit of one text, float64: light where many fields hold it, or the phrase around it.

        The lightest phrase does not count but the heaviest that the unit stands in: a common phrase is a stem ("which
        of the following"), and a rare word that ends one is none of it.
        """
        weight = looked_up(unit_hash, self.known, self.weights)
        if len(unit_hash) < SHORT:
            return weight
        phrase = looked_up(shingle_hashes(unit_hash, SHORT), self.phrases, self.common)
        return weight * sliding_window_view(np.pad(phrase, SHORT - 1), SHORT).max(axis=1)

    def shingles(self, number: int) -> np.ndarray:
        """The distinct short shingles of a field."""
        return self.target_hash[self.target_start[number] : self.target_start[number + 1]]


def looked_up(wanted: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values of some hashes, 1 for those that are not known."""
    if not len(known):
        return np.ones(len(wanted))
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, values[at], 1.0)


def edits_of(units: np.ndarray) -> np.ndarray:
    """Edited units of a field of so many under which no copy is missed: one in ten, and one at least."""
    return np.maximum(1, units // 10)


def build_short(items: Sequence[Item], threshold: float, first: int, *, simplify: bool) -> Short:
    """The fields of items whose edited copies are looked for; none where the threshold is 0.

    Args:
        first: the number under which the sieve reports the first of them.
    """
    tokenise = Tokeniser(simplify=simplify)
    targets = _fields(items, tokenise) if threshold else []
    tokens = tokenise([text.encode("utf-8", "replace") for target in targets for text in target.texts])
    hashes, start = all_shingles(tokens.unit_hash, tokens.unit_start, SHORT)
    beyond = np.cumsum([len(target.texts) for target in targets], dtype=np.int64)
    begin = beyond - np.array([len(target.texts) for target in targets], np.int64)
    target_hash, target_start = np.empty(len(hashes), np.uint64), np.zeros(len(targets) + 1, np.int64)
    shingle_sets(hashes, start[begin], start[beyond], target_hash, target_start)
    target_hash = target_hash[: target_start[-1]]
    sizes = np.diff(target_start)
    units = tokens.unit_start[beyond] - tokens.unit_start[begin]
    held = np.maximum(1, sizes - SHORT * edits_of(units))
    enough = np.minimum(held, HITS)
    owner = np.repeat(np.arange(len(targets), dtype=np.int32), sizes)
    chosen = np.zeros(len(target_hash), np.bool_)
    order = np.argsort(target_hash)
    if len(order):
        frequency, _ = frequency_of(target_hash, order, np.zeros(len(owner), np.bool_))
        choose(
            tokens.unit_hash, tokens.unit_start, hashes, start, begin, beyond,
            target_hash, target_start, frequency, np.where(sizes > 0, sizes - held + enough, 0),
            np.zeros(len(targets), np.int64), chosen,
        )  # fmt: skip
    first_texts = [slice(*tokens.unit_start[text : text + 2].tolist()) for text in begin.tolist()]
    phrases, count = _shared(target_hash[order])
    entered = order[chosen[order]]
    empty = np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.empty(0, np.int32)
    bloom, slots, posting = table_of(target_hash[entered], owner[entered]) if len(entered) else empty
    known, weights = _weights(tokens.unit_hash[: tokens.unit_start[-1]], tokens.unit_start, begin, beyond)
    short = Short(
        query=np.concatenate([np.empty(0, np.uint64), *(tokens.unit_hash[unit] for unit in first_texts)]),
        query_start=np.concatenate([[0], np.cumsum([unit.stop - unit.start for unit in first_texts], dtype=np.int64)]),
        weight=np.empty(0),
        targets=targets,
        known=known,
        weights=weights,
        phrases=phrases,
        common=1 / (1 + (count - 1) / COMMON),
        target_start=target_start,
        target_hash=target_hash,
        least=np.minimum(held, np.maximum(2, np.ceil(SHARE * sizes))).astype(np.int32),
        enough=enough.astype(np.uint8),
        reach=reach_of(units).astype(np.int32),
        first=np.array([first], np.int64),
        bloom=bloom,
        slots=slots,
        posting=posting,
    )
    weights_of = [short.weigh(tokens.unit_hash[unit]) for unit in first_texts]
    return dataclasses.replace(short, weight=np.concatenate([short.weight, *weights_of]))


def reach_of(units: np.ndarray) -> np.ndarray:
    """Units of a record within which an edited copy of so many units lies: half as many may have been put in."""
    return units + units // 2 + 20


def _fields(items: Sequence[Item], tokenise: Tokeniser) -> list[Target]:
    """Long questions, short ones with their options, answers and explanations; no contexts, which are public."""
    texts = [item.question for item in items] + [item.reference for item in items]
    start = tokenise([text.encode("utf-8", "replace") for text in texts]).unit_start
    size = np.diff(start).tolist()
    targets = []
    for number, item in enumerate(items):
        if size[number] >= WHOLE:
            targets.append(Target(number, "question", (item.question,)))
        elif item.options and size[number] >= SHORT + 1:
            targets.append(Target(number, "question+options", (item.question, *item.options)))
        if size[len(items) + number] >= WHOLE:
            field = "explanation" if item.options or item.answer else "answer"
            targets.append(Target(number, field, (item.reference,)))
    return targets


def _weights(
    unit_hash: np.ndarray, unit_start: np.ndarray, begin: np.ndarray, beyond: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Units with their weights: 1 for what one field in all holds, falling with the logarithm of how many hold it."""
    fields = np.repeat(np.arange(len(begin)), unit_start[beyond] - unit_start[begin])
    known, number = np.unique(unit_hash, return_inverse=True)
    pairs = np.unique(number.astype(np.int64) * max(1, len(begin)) + fields)
    count = np.bincount(pairs // max(1, len(begin)), minlength=len(known))
    weights = 1 - np.log(count) / np.log(max(2, len(begin)) + 1)
    return known, np.maximum(LIGHTEST, weights)


def _shared(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The short shingles that several fields have, and how many have each."""
    phrases, count = np.unique(ordered, return_counts=True)
    return phrases[count > 1], count[count > 1]
