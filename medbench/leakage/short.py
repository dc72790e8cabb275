"""The test side for edited leaks: which fields are searched for, by which short shingles, and what each unit weighs.

An edit of one unit takes at most three short shingles away. So a record that holds a field with at most `edits_of`
units replaced, dropped or put in holds all but three times as many of its distinct short shingles, and some of any
larger number of them: of each field the rarest so many are entered in the table (as for shingles, see `index`). That is
the bound under which no edited copy is missed; most copies with many more edits are found too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from medbench.leakage.kernel.compare import choose, shingle_sets
from medbench.leakage.kernel.edits import Laid
from medbench.leakage.kernel.text import SHORT, all_shingles, shingle_hashes
from medbench.leakage.targets import Target, table_of
from medbench.leakage.tokens import Tokeniser, Tokens
from medbench.sources.items import Item

WHOLE = 15  # units: a shorter question is common words, and counts with its options beside it only
LEAST = 10  # units of a short question with its options, below which nothing is looked for
HITS = 3  # short shingles from the table that a record must hold before it is looked at closely
SHARE = 0.4  # of a field's short shingles that must stand together before the field is laid over the place
COMMON = 5  # fields beyond the first that hold a phrase and halve its weight
LIGHTEST = 0.15  # weight of a unit that every item holds; one that a single item holds weighs 1
SENTENCE = 5  # units of a sentence that is looked for by itself
_END = re.compile("[.?!;\n]|。|？|！|；".encode())


@dataclass
class Weights:
    """What a unit weighs by itself, and how much lighter the phrases are that several fields share.

    Attributes:
        known, weights: sorted unit hashes of all fields, and what each weighs.
        phrases, common: sorted short shingles that several fields have, and by how much they make their units lighter.
    """

    known: np.ndarray
    weights: np.ndarray
    phrases: np.ndarray
    common: np.ndarray

    def alone(self, unit_hash: np.ndarray) -> np.ndarray:
        """The weight of each unit whatever stands beside it, float64."""
        return looked_up(unit_hash, self.known, self.weights)

    def __call__(self, unit_hash: np.ndarray) -> np.ndarray:
        """The weight of each unit of one text, float64: light where many fields hold it, or the phrase around it.

        The lightest phrase does not count but the heaviest that the unit stands in: a common phrase is a stem ("which
        of the following"), and a rare word that ends one is none of it.
        """
        weight = self.alone(unit_hash)
        if len(unit_hash) < SHORT:
            return weight
        phrase = looked_up(shingle_hashes(unit_hash, SHORT), self.phrases, self.common)
        return weight * sliding_window_view(np.pad(phrase, SHORT - 1), SHORT).max(axis=1)


@dataclass
class Looked:
    """What is looked for by some kind of shingles: the fields, and the arrays of `kernel.table.Sought`."""

    targets: list[Target]
    target_start: np.ndarray
    target_hash: np.ndarray
    least: np.ndarray
    enough: np.ndarray
    reach: np.ndarray
    first: np.ndarray
    bloom: np.ndarray
    slots: np.ndarray
    posting: np.ndarray

    def shingles(self, number: int) -> np.ndarray:
        """The distinct shingles of a field."""
        return self.target_hash[self.target_start[number] : self.target_start[number + 1]]


@dataclass
class Short(Looked):
    """The fields whose edited copies are looked for, by short shingles.

    Attributes:
        weigh: of units.
        laid: what is laid over records.
    """

    weigh: Weights
    laid: Laid

    def weight_of(self, number: int) -> np.ndarray:
        """The weight of each unit of a field (of a question with options, of the question)."""
        return self.laid.weight[slice(*self.laid.query_start[number : number + 2].tolist())]


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
    beyond = np.cumsum([len(target.texts) for target in targets], dtype=np.int64)
    begin = beyond - np.array([len(target.texts) for target in targets], np.int64)
    units = tokens.unit_start[beyond] - tokens.unit_start[begin]
    looked = look_for(
        targets, tokens, begin, beyond, SHORT, first,
        held=lambda sizes: np.maximum(1, sizes - SHORT * edits_of(units)), hits=HITS, reach=reach_of(units),
    )  # fmt: skip
    sizes = np.diff(looked.target_start)
    looked.least = np.minimum(looked.least, np.maximum(2, np.ceil(SHARE * sizes))).astype(np.int32)
    weigh = weights_of(tokens, begin, beyond)
    laid = _laid(targets, items, looked, tokens, begin, weigh, Tokeniser(simplify=simplify))
    fields = {field.name: getattr(looked, field.name) for field in dataclasses.fields(looked)}
    return Short(**fields, weigh=weigh, laid=laid)


def look_for(
    targets: list[Target], tokens: Tokens, begin: np.ndarray, beyond: np.ndarray, size: int, first: int,
    *, held: Callable[[np.ndarray], np.ndarray], hits: int, reach: np.ndarray,
) -> Looked:  # fmt: skip
    """The table of some fields' shingles of `size` units: of each the rarest, as many as the bound needs.

    Args:
        tokens, begin, beyond: the texts of all fields, and which are each one's.
        held: given each field's number of distinct shingles, how many of them a record holds at least.
        hits: how many from the table must come up, where so many are held.
    """
    hashes, start = all_shingles(tokens.unit_hash, tokens.unit_start, size)
    target_hash, target_start = np.empty(len(hashes), np.uint64), np.zeros(len(targets) + 1, np.int64)
    shingle_sets(hashes, start[begin], start[beyond], target_hash, target_start)
    target_hash = target_hash[: target_start[-1]]
    sizes = np.diff(target_start)
    least = held(sizes)
    enough = np.minimum(least, hits)
    chosen = np.zeros(len(target_hash), np.bool_)
    if len(target_hash):
        choose(
            tokens.unit_hash, tokens.unit_start, hashes, start, begin, beyond,
            target_hash, target_start, _commonness(tokens, hashes, start, target_hash, size),
            np.where(sizes > 0, sizes - least + enough, 0), np.zeros(len(targets), np.int64), chosen,
        )  # fmt: skip
    owner = np.repeat(np.arange(len(targets), dtype=np.int32), sizes)
    order = np.argsort(target_hash)
    entered = order[chosen[order]]
    empty = np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.empty(0, np.int32)
    bloom, slots, posting = table_of(target_hash[entered], owner[entered]) if len(entered) else empty
    return Looked(
        targets=targets,
        target_start=target_start,
        target_hash=target_hash,
        least=least.astype(np.int32),
        enough=enough.astype(np.uint8),
        reach=reach.astype(np.int32),
        first=np.array([first], np.int64),
        bloom=bloom,
        slots=slots,
        posting=posting,
    )


def _commonness(tokens: Tokens, hashes: np.ndarray, start: np.ndarray, wanted: np.ndarray, size: int) -> np.ndarray:
    """How common shingles are likely to be in a corpus, for their order alone: the logarithm of how often the fields
    have a shingle, of how often they have its rarer pair, and the mean one of its units.

    Most shingles stand in one field only, and of those the ones of common words come up everywhere.
    """
    total = int(tokens.unit_start[-1])
    _, number, count = np.unique(tokens.unit_hash[:total], return_inverse=True, return_counts=True)
    unit = np.log(count[number])
    pairs = shingle_hashes(tokens.unit_hash[:total], 2)
    _, number, count = np.unique(pairs, return_inverse=True, return_counts=True)
    pair = np.append(np.log(count[number]), 0.0)
    # the first unit of each shingle
    lengths = np.diff(start)
    first = np.repeat(tokens.unit_start[:-1] - start[:-1], lengths) + np.arange(len(hashes))
    value = np.mean([unit[first + k] for k in range(size)], axis=0)
    value += np.min([pair[first + k] for k in range(size - 1)], axis=0)
    known, at, count = np.unique(hashes, return_index=True, return_counts=True)
    return (value[at] + np.log(count))[np.searchsorted(known, wanted)]


def reach_of(units: np.ndarray) -> np.ndarray:
    """Units of a record within which an edited copy of so many units lies: half as many may have been put in."""
    return units + units // 2 + 20


def _fields(items: Sequence[Item], tokenise: Tokeniser) -> list[Target]:
    """Long questions, short ones with their options, answers and explanations; no contexts, which are public."""
    texts = [[item.question, *item.references] for item in items]
    start = tokenise([text.encode("utf-8", "replace") for own in texts for text in own]).unit_start
    sizes = iter(np.diff(start).tolist())
    targets = []
    for number, item in enumerate(items):
        asked = next(sizes)
        if asked >= WHOLE:
            targets.append(Target(number, "question", (item.question,)))
        elif item.options and asked >= SHORT + 1:
            targets.append(Target(number, "question+options", (item.question, *item.options)))
        name = "explanation" if item.options or item.answer else "answer"
        for place, text in enumerate(item.references, 1):
            if next(sizes) >= WHOLE:
                targets.append(Target(number, name if place == 1 else f"{name} {place}", (text,)))
    return targets


def _laid(
    targets: Sequence[Target], items: Sequence[Item], looked: Looked, tokens: Tokens, begin: np.ndarray, weigh: Weights,
    tokenise: Tokeniser,
) -> Laid:  # fmt: skip
    """What is laid over records: each field's first text, its sentences, and the options beside a question.

    Args:
        tokenise: another one than that of `tokens`.
    """
    query, weight, cuts, spelt = [], [], [], []
    for text in begin.tolist():
        units = slice(*tokens.unit_start[text : text + 2].tolist())
        query.append(tokens.unit_hash[units])
        weight.append(weigh(tokens.unit_hash[units]))
        words = ~_characters(tokens.texts[text], tokens.unit_begin[units], tokens.unit_end[units])
        spelt.append(weight[-1][words].sum() / max(weight[-1].sum(), 1e-9))
        cuts.append(sentences(tokens.texts[text], tokens.unit_begin[units], tokens.unit_end[units]))
    beside = [items[t.item].options if t.field.startswith("question") else () for t in targets]
    options = tokenise([option.encode("utf-8", "replace") for group in beside for option in group])
    option = options.unit_hash[: options.unit_start[-1]].copy()
    return Laid(
        target_start=looked.target_start,
        target_hash=looked.target_hash,
        least=looked.least,
        reach=looked.reach,
        query=np.concatenate([np.empty(0, np.uint64), *query]),
        query_start=np.cumsum([0, *map(len, query)], dtype=np.int64),
        weight=np.concatenate([np.empty(0), *weight]),
        cut=np.array([part.stop for parts in cuts for part in parts], np.int64),
        cut_start=np.cumsum([0, *map(len, cuts)], dtype=np.int64),
        option=option,
        option_weight=weigh.alone(option),
        option_start=options.unit_start,
        option_first=np.cumsum([0, *map(len, beside)], dtype=np.int64),
        with_options_only=np.array([t.field == "question+options" for t in targets], np.bool_),
        spelt=np.array(spelt, np.float64),
    )


def _characters(text: bytes, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Which units of a text, that lie at these bytes, are one CJK character: of three bytes, or of four."""
    lead, size = np.frombuffer(text, np.uint8)[begin], end - begin
    return ((size == 3) & (lead >= 0xE3) & (lead < 0xEF)) | ((size == 4) & (lead >= 0xF0))


def sentences(text: bytes, begin: np.ndarray, end: np.ndarray) -> list[range]:
    """The sentences of a text as ranges of units, which lie at these bytes; a short one belongs to the one before."""
    cuts = [0]
    for match in _END.finditer(text):
        k = int(np.searchsorted(begin, match.start()))
        if k < len(begin) and k - cuts[-1] >= SENTENCE and end[k - 1] <= match.start():
            cuts.append(k)
    if len(begin) - cuts[-1] < SENTENCE and len(cuts) > 1:
        cuts.pop()
    return [range(a, b) for a, b in zip(cuts, [*cuts[1:], len(begin)], strict=True)]


def weights_of(tokens: Tokens, begin: np.ndarray, beyond: np.ndarray) -> Weights:
    """What the units of some fields weigh: 1 for what one field in all holds, falling with the logarithm of how many
    hold it.

    Args:
        tokens, begin, beyond: the texts of all fields, and which are each one's.
    """
    units = tokens.unit_hash[: tokens.unit_start[-1]]
    fields = np.repeat(np.arange(len(begin)), tokens.unit_start[beyond] - tokens.unit_start[begin])
    known, number = np.unique(units, return_inverse=True)
    pairs = np.unique(number.astype(np.int64) * max(1, len(begin)) + fields)
    held = np.bincount(pairs // max(1, len(begin)), minlength=len(known))
    weights = np.maximum(LIGHTEST, 1 - np.log(held) / np.log(max(2, len(begin)) + 1))
    hashes, start = all_shingles(tokens.unit_hash, tokens.unit_start, SHORT)
    sets, set_start = np.empty(len(hashes), np.uint64), np.zeros(len(begin) + 1, np.int64)
    shingle_sets(hashes, start[begin], start[beyond], sets, set_start)
    phrases, count = np.unique(sets[: set_start[-1]], return_counts=True)
    shared = count > 1
    return Weights(known, weights, phrases[shared], 1 / (1 + (count[shared] - 1) / COMMON))
