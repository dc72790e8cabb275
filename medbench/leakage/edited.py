"""Edited copies: a field laid over the place of a record that holds its short shingles, and what was changed there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from medbench.leakage import brief
from medbench.leakage.brief import Brief
from medbench.leakage.kernel import edits as kernel
from medbench.leakage.kernel.judge import Judge
from medbench.leakage.short import Short, sentences
from medbench.leakage.tokens import Tokens
from medbench.leakage.units import fold

PLACES = 3  # stretches of a record over which a field is laid
INSERTED = 0.1  # what a unit put in between costs, in units of weight
ALIKE = 0.6  # similarity of spelling from which a unit counts as misspelt, in its share, and not as another one
NUMBER = 0.5  # what another number in its place counts
KEPT = 0.8  # share of a sentence, or an option, from which it counts as kept
LIGHT, ALMOST = 2.5, 0.9  # what weighs less is said by others too, unless nearly all of a field is there
SENTENCES, HEAVY = 0.4, 5.0  # share and weight of the sentences kept from which a field with others dropped counts
EQUAL = 0.35  # share of equal units from which the spelling of the others is looked at
SPELT = 0.2  # share of a field that misspelt units are taken to make up at most, before spelling is looked at
BESIDE = 0.75  # share of the options that makes up for a question of which only `REWORDED` is kept
REWORDED = 0.5
LISTED = 20  # edits named in a finding


class Pairs(NamedTuple):
    """Units of a field and of a stretch that are each other's, ascending; and the weight of the field that is kept."""

    at: np.ndarray
    kept: float
    edits: list[dict[str, Any]]


@dataclass
class Edited:
    """A field that a record holds in an edited form.

    Attributes:
        share: of the field, 0-1, weighted by rarity: what stands there in order, or sentence by sentence.
        weight: of the units that are kept: about how many rare words they are worth.
        options: the share of the options beside it, or None where the item has none.
        text, begin, end: the units of the record: a text of the batch, and units within it.
        item_text, item_begin, item_end: the units of the field: one of its texts, and units within it.
        edits: what was changed: ``kind`` and the words of both sides.
        whole_text: the record's text is the field and nothing else.
    """

    share: float
    text: int
    begin: int
    end: int
    item_text: int
    item_begin: int
    item_end: int
    edits: list[dict[str, Any]] = field(default_factory=list)
    options: float | None = None
    weight: float = 0.0
    whole_text: bool = False

    @property
    def other_numbers(self) -> bool:
        """Whether numbers were changed and nothing else."""
        return bool(self.edits) and all(edit["kind"] == "number" for edit in self.edits)


class Verifier:
    """Lays fields over records; for one index, without state."""

    def __init__(self, short: Short, questions: Brief, threshold: float) -> None:
        self.short, self.brief, self.threshold = short, questions, threshold
        self.limits = kernel.Limits(
            inserted=INSERTED,
            share=threshold,
            spelt=SPELT,
            with_options=REWORDED - SPELT / 2,
            options=REWORDED,
            all_options=BESIDE,
            option=KEPT,
            sentence=KEPT - SPELT,
            sentences=SENTENCES * KEPT,
            heavy=HEAVY * KEPT,
            light=LIGHT * KEPT,
            almost=ALMOST,
        )

    @property
    def judge(self) -> Judge:
        """By what the sieve tells, from units alone, which pairs of record and field are worth a look here."""
        return Judge(self.short.laid, self.limits, PLACES, self.brief.query, self.brief.query_start, brief.SAME)

    def text_of(self, tokens: Tokens, texts: range, number: int) -> int | None:
        """Which text of a record a short question is most of all as a whole, None where it is none."""
        start = tokens.unit_start[texts.start : texts.stop + 1]
        units = tokens.unit_hash[start[0] : start[-1]]
        found = int(kernel.alike(units, start - start[0], self.brief.question(number), brief.SAME))
        return None if found < 0 else texts.start + found

    def whole(self, tokens: Tokens, text: int, number: int, side: Tokens) -> Edited | None:
        """How a text is a short question, or None where it only has the stem of one."""
        region = range(*tokens.unit_start[text : text + 2].tolist())
        weight = self.brief.weight_of(number)
        pairs = lay(tokens, region, side, range(len(weight)), weight)
        share = float(min(1.0, pairs.kept / weight.sum()))
        if share < brief.KEPT or not len(pairs.at):
            return None
        units = tokens.unit_hash[region.start : region.stop]
        same = len(pairs.at) / max(len(units), len(weight))
        if same < brief.SAME_IN_OTHER_WORDS and self.brief.natural(units, pairs.at[:, 1]):
            return None
        return Edited(
            share, text, 0, len(region), 0, 0, len(weight), pairs.edits, weight=float(pairs.kept), whole_text=True
        )

    def __call__(
        self, tokens: Tokens, texts: range, number: int, side: Tokens, options: Tokens | None
    ) -> Edited | None:
        """How a record holds a field, or None where it does not.

        Args:
            tokens: the batch.
            texts: the texts of the record.
            number: the field, by its place in `Short.targets`.
            side: the field's texts.
            options: the item's options.
        """
        first, last = int(tokens.unit_start[texts.start]), int(tokens.unit_start[texts.stop])
        record = tokens.unit_hash[first:last]
        reach = int(self.short.reach[number])
        found = kernel.regions(record, self.short.shingles(number), reach, int(self.short.least[number]), PLACES)
        best: Edited | None = None
        for begin, end in found.tolist():
            region = range(*(first + at for at in kernel.widened(begin, end, reach, len(record))))
            edited = self._laid(tokens, region, number, side, options)
            if edited and (best is None or edited.share > best.share):
                best = edited
        return best

    def _laid(self, tokens: Tokens, region: range, number: int, side: Tokens, options: Tokens | None) -> Edited | None:
        # a short question is nothing without its options
        short = self.short.targets[number].field == "question+options"
        question = range(int(side.unit_start[1 if short else -1]))
        weight = self.short.weight_of(number)
        needed = self.threshold if options is None else REWORDED
        whole = lay(tokens, region, side, question, weight, least=needed * float(weight.sum()))
        share = whole.kept / weight.sum()
        beside = self._beside(tokens, region, options) if options is not None and (short or share >= REWORDED) else None
        enough = share >= (REWORDED if beside is not None and beside >= BESIDE else self.threshold)
        if short:
            enough = enough and beside is not None and beside >= REWORDED
        elif share < KEPT and (by_sentence := self._by_sentence(tokens, region, number, side, weight)):
            if not enough and by_sentence.kept >= max(HEAVY, SENTENCES * weight.sum()):
                enough = True
                whole = lay(tokens, region, side, question, weight)  # all of it, which was not worth it before
            if by_sentence.kept > whole.kept or not len(whole.at):
                whole = by_sentence
            share = whole.kept / weight.sum()
        light = whole.kept < LIGHT and share < ALMOST and not short
        if not enough or light or not len(whole.at):
            return None
        text, begin, end = _most(tokens, region.start + whole.at[:, 1])
        return Edited(
            share=float(min(1.0, share)),
            text=text,
            begin=begin,
            end=end,
            item_text=0,
            item_begin=int(whole.at[:, 0].min()),
            item_end=int(whole.at[:, 0].max()) + 1,
            edits=whole.edits,
            options=beside,
            weight=float(whole.kept),
        )

    def _beside(self, tokens: Tokens, region: range, options: Tokens) -> float:
        """The share of the options that stand in a stretch; at least two must."""
        found, weights = [], []
        weigh = self.short.weigh.alone(options.unit_hash)
        for k in range(len(options.unit_start) - 1):
            wanted = range(int(options.unit_start[k]), int(options.unit_start[k + 1]))
            weight = weigh[wanted.start : wanted.stop]
            kept = lay(tokens, region, options, wanted, weight, spelling=False).kept if len(wanted) else 0.0
            weights.append(weight.sum())
            found.append(len(wanted) > 0 and kept / weight.sum() >= KEPT)
        return float(np.array(weights)[found].sum() / sum(weights)) if sum(found) >= 2 else 0.0

    def _by_sentence(
        self, tokens: Tokens, region: range, number: int, side: Tokens, weight: np.ndarray
    ) -> Pairs | None:
        """The sentences of a field that stand in a stretch, in whatever order; None where they are too little of it."""
        units = tokens.unit_hash[region.start : region.stop]
        if kernel.sentences_kept(units, number, self.short.laid, self.limits) < self.limits.sentences * weight.sum():
            return None
        parts = sentences(side.texts[0], side.unit_begin[: len(weight)], side.unit_end[: len(weight)])
        if len(parts) < 2:
            return None
        at, edits, kept, places = [], [], 0.0, []
        for part in parts:
            pairs = lay(tokens, region, side, part, weight[part.start : part.stop])
            if pairs.kept >= KEPT * weight[part.start : part.stop].sum():
                kept += pairs.kept
                at.append(pairs.at)
                edits += pairs.edits
                places.append((int(pairs.at[0, 1]), part))
            else:
                edits.append({"kind": "sentence dropped", "item": words(side, part.start, part.stop), "corpus": ""})
        if len(at) < 2:
            return None
        order = [place for place, _ in places]
        for k in range(1, len(order)):
            if order[k] < order[k - 1]:
                moved = words(side, places[k][1].start, places[k][1].stop)
                edits.append({"kind": "sentence moved", "item": moved, "corpus": moved})
        return Pairs(np.concatenate(at), kept, edits)


def lay(
    tokens: Tokens, region: range, side: Tokens, part: range, weight: np.ndarray, *,
    spelling: bool = True, least: float = 0.0,
) -> Pairs:  # fmt: skip
    """A part of a field laid over a stretch of the batch: equal units first, and what lies between them by spelling.

    Args:
        least: the weight that must be kept to matter: once it is out of reach, spelling is not looked at further.
    """
    units = tokens.unit_hash[region.start : region.stop]
    at, net = kernel.fit(side.unit_hash[part.start : part.stop], weight, units, INSERTED * float(weight.mean()))
    kept = float(net)
    edits: list[dict[str, Any]] = []
    if spelling and kept >= EQUAL * weight.sum():
        gaps = _gaps(at, len(weight), len(units))
        # what stands in the place of some units is worth no more than these
        most = [float(weight[a:b].sum()) if d > c else 0.0 for a, b, c, d in gaps]
        left = sum(most)
        if gaps and kept + left >= least:
            wanted, found = _words(side, part.start, part.stop), _words(tokens, region.start, region.stop)
        for (a, b, c, d), worth in zip(gaps, most, strict=True):
            if kept + left < least * (1 - 1e-9):
                break
            credit, edit = _edit(wanted[a:b], found[c:d], weight[a:b])
            kept += credit
            left -= worth
            edits += edit
    return Pairs(at + np.array([part.start, 0]), kept, edits)


def _gaps(at: np.ndarray, units: int, region: int) -> list[tuple[int, int, int, int]]:
    """What lies between the pairs: units a to b of the field, c to d of the stretch. Before the first pair and after
    the last, as many units of the stretch as the field has there."""
    first, last = at[0].tolist(), at[-1].tolist()
    gaps = [(0, first[0], max(0, first[1] - first[0]), first[1])] if first[0] else []
    for (a, c), (b, d) in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
        if b > a + 1 or d > c + 1:
            gaps.append((a + 1, b, c + 1, d))
    rest = units - last[0] - 1
    if rest:
        gaps.append((last[0] + 1, units, last[1] + 1, min(region, last[1] + 1 + rest)))
    return gaps


def _edit(wanted: list[str], found: list[str], weight: np.ndarray) -> tuple[float, list[dict[str, Any]]]:
    """How much of the weight of some units those that stand in their place are worth, and what was done to them."""
    a, b = "".join(wanted), "".join(found)
    if a != b and (parts := _pairing(wanted, found)):
        each = [_edit(wanted[i:j], found[k:m], weight[i:j]) for i, j, k, m in parts]
        return sum(credit for credit, _ in each), [edit for _, edits in each for edit in edits]
    if a == b:
        kind, credit = "split or joined", float(weight.sum())
    elif not found:
        kind, credit = "dropped", 0.0
    elif not wanted:
        kind, credit = "added", 0.0
    elif a[0].isdigit() and b[0].isdigit() and len(found) == len(wanted):
        same = re.sub(r"\d", "", a) == re.sub(r"\d", "", b)
        kind, credit = ("number", NUMBER * float(weight.sum())) if same else ("word", 0.0)
    else:
        similar = _similarity(a, b)
        kind, credit = ("spelling", similar * float(weight.sum())) if similar >= ALIKE else ("word", 0.0)
    return credit, [{"kind": kind, "item": _joined(wanted), "corpus": _joined(found)}]


def _pairing(wanted: list[str], found: list[str]) -> list[tuple[int, int, int, int]]:
    """Units that stand for one another, as ranges of both sides; empty where all are better taken together."""
    if len(wanted) == len(found) > 1:
        return [(k, k + 1, k, k + 1) for k in range(len(wanted))]
    if len(wanted) * len(found) < 2 or len(wanted) * len(found) > 40:
        return []
    if _similarity("".join(wanted), "".join(found)) >= ALIKE:  # a word in two parts
        return []
    at = max(
        ((_similarity(a, b), -i, -k) for i, a in enumerate(wanted) for k, b in enumerate(found)), default=(0.0, 0, 0)
    )
    if at[0] < ALIKE:
        return []
    i, k = -at[1], -at[2]
    parts = [(0, i, 0, k), (i, i + 1, k, k + 1), (i + 1, len(wanted), k + 1, len(found))]
    return [part for part in parts if part[1] > part[0] or part[3] > part[2]]


def _similarity(a: str, b: str) -> float:
    """1 less the edits over the longer one's length; 0 where that is out of the question."""
    longer, shorter = max(len(a), len(b)), min(len(a), len(b))
    if shorter < ALIKE * longer or longer > 300 or shorter < 3:
        return 0.0
    codes = [np.frombuffer(text.encode("utf-32-le"), np.uint32) for text in (a, b)]
    return 1 - int(kernel.distance(*codes)) / longer


def words(tokens: Tokens, begin: int, end: int) -> str:
    """Some units of a batch in words."""
    return _joined(_words(tokens, begin, end))


def _words(tokens: Tokens, begin: int, end: int) -> list[str]:
    found: list[str] = []
    text = int(np.searchsorted(tokens.unit_start, begin, side="right")) - 1
    while begin < end:
        stop = min(end, int(tokens.unit_start[text + 1]))
        bounds = zip(tokens.unit_begin[begin:stop].tolist(), tokens.unit_end[begin:stop].tolist(), strict=True)
        found += [_folded(tokens.texts[text][first:last]) for first, last in bounds]
        begin, text = stop, text + 1
    return found


@lru_cache(maxsize=1 << 16)  # the same words come up again and again
def _folded(word: bytes) -> str:
    return fold(word.decode())


def _joined(parts: Sequence[str]) -> str:
    return "".join(part if not part.isascii() else f" {part} " for part in parts).replace("  ", " ").strip()[:200]


def _most(tokens: Tokens, units: np.ndarray) -> tuple[int, int, int]:
    """The text that holds most of some units of a batch, and the first and last of them, from its start."""
    texts = np.searchsorted(tokens.unit_start, units, side="right") - 1
    text = Counter(texts.tolist()).most_common(1)[0][0]
    inside = units[texts == text] - int(tokens.unit_start[text])
    return int(text), int(inside.min()), int(inside.max()) + 1
