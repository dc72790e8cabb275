"""What stands beside a choice item's field in a record: its options, and the key."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from medbench.leakage.corpus import Batch
from medbench.leakage.kernel import compare
from medbench.leakage.places import SHOWN, Place, corpus_evidence, place_of, region_around
from medbench.leakage.tokens import Tokens
from medbench.sources.items import LETTERS, Item

# Fields of which options and answer are looked for where they are found, the most telling first.
_ANCHORS = ("question+options", "question", "options", "explanation")


class Told(NamedTuple):
    """A finding to be: its field and signal, and the evidence."""

    field: str
    signal: str
    evidence: dict[str, Any]


class Record(NamedTuple):
    """A record of a batch."""

    batch: Batch
    tokens: Tokens
    number: int

    @property
    def texts(self) -> range:
        """Its texts, by their number in the batch."""
        return range(*self.batch.record_start[self.number : self.number + 2])


def beside(
    record: Record, item: Item, places: Mapping[str, Place], options: Tokens, near: int, *, loose: bool
) -> list[Told]:
    """Option set and answer near the fields of a choice item that a record holds.

    Args:
        places: where the record holds each field.
        options: the item's.
        near: units around a field within which they count.
        loose: the options are no leak by themselves (`severity.loose_options`).
    """
    batch, tokens, number = record
    anchor = next((name for name in _ANCHORS if name in places), None)
    if anchor is None or (anchor == "options" and loose):
        return []
    base = "question" if anchor.startswith("question") else anchor
    place = places[anchor]
    region = region_around(batch, tokens, number, place, near)
    begin, end, at = compare.option_window(
        tokens.unit_hash[region.start : region.stop], options.unit_hash, options.unit_start
    )
    # labels, and what an explanation says about each, take room between the options
    listed = begin >= 0 and end - begin <= 2 * len(options.unit_hash) + 12 * len(item.options)
    found = []
    if listed:
        order = np.argsort(at, kind="stable").tolist()
        field = "question+options" if base == "question" else base if base == "options" else f"{base}+options"
        evidence = {
            **corpus_evidence(batch, tokens, place_of(tokens, region.start + begin, region.start + end)),
            "item_span": [0, len("\n".join(item.options))],
            "item_text": "\n".join(item.options)[:SHOWN],
            "permuted": order != sorted(order),
        }
        found.append(Told(field, "option_set", evidence))
    elif base == "options":  # one long option alone is a phrase, not a set
        return []
    shown = [LETTERS[order.index(k)] for k in range(len(order))] if listed else list(item.letters)
    skip = (region.start + begin, region.start + end) if listed and base != "explanation" else None
    answer = _answer(record, item, options, shown, region, place, skip)
    if answer is not None:
        found.append(Told(f"{base}+answer", "answer_nearby", answer))
    return found + [told for look in LOOKS if (told := look(record, item, base, region)) is not None]


# What else is looked for near a copy: (record, item, the field that was found, units around it) -> a finding, or None.
Look = Callable[[Record, Item, str, range], Told | None]
LOOKS: list[Look] = []


def looks_near(look: Look) -> Look:
    """Have `look` called for every choice item of which a record holds a field."""
    LOOKS.append(look)
    return look


def said_near(record: Record, region: range, pattern: re.Pattern[str]) -> dict[str, Any] | None:
    """The evidence of the first match of a pattern in the region, of the record's side alone."""
    batch, tokens, _ = record
    for text in record.texts:
        a, b = int(tokens.unit_start[text]), int(tokens.unit_start[text + 1])
        first, last = max(a, region.start), min(b, region.stop)
        if first >= last:
            continue
        begin, end = (
            tokens.characters(text, first - a, first - a + 1)[0],
            tokens.characters(text, last - a - 1, last - a)[1],
        )
        if match := pattern.search(batch.text(text), begin, end):
            return {
                "corpus_field": batch.name(text),
                "corpus_span": [match.start(), match.end()],
                "corpus_text": match[0][:SHOWN],
                "item_span": [0, 0],
                "item_text": "",
            }
    return None


def other_option_near(record: Record, item: Item, options: Tokens, place: Place, near: int) -> bool:
    """Whether an option that is not the key stands near a place, and not in it: a statement of the fact names the key
    too."""
    batch, tokens, number = record
    region = region_around(batch, tokens, number, place, near)
    base = int(tokens.unit_start[place.text])
    for k, letter in enumerate(item.letters):
        wanted = options.unit_hash[options.unit_start[k] : options.unit_start[k + 1]]
        if letter in item.answer or not len(wanted):
            continue
        at = compare.occurrences(tokens.unit_hash[region.start : region.stop], wanted) + region.start - base
        if ((at >= place.end) | (at + len(wanted) <= place.begin)).any():
            return True
    return False


def _answer(
    record: Record,
    item: Item,
    options: Tokens,
    shown: list[str],
    region: range,
    place: Place,
    skip: tuple[int, int] | None,
) -> dict[str, Any] | None:
    """Evidence that the key is given in the region: a letter declared as the answer, or the text of the option.

    Args:
        shown: the letter under which the record shows each option, if it keeps the usual order of letters.
        skip: units of the list of options: naming the right one among all of them gives nothing away.
    """
    batch, tokens, _ = record
    letters = [shown[item.letters.index(a)] for a in item.answer if a in item.letters]
    if not letters:
        return None
    after = int(tokens.unit_start[place.text]) + place.end
    after = max(after, skip[1]) if skip else after
    declared = _declaration(record, place, region, after)
    if declared is not None and _letters(declared[1]) == sorted(letters):
        text, match = declared
        return {
            "corpus_field": batch.name(text),
            "corpus_span": [match.start(), match.end()],
            "corpus_text": match[0][:SHOWN],
            "item_span": [0, len("".join(item.answer))],
            "item_text": "".join(item.answer),
        }
    for letter in item.answer:
        j = item.letters.index(letter)
        wanted = options.unit_hash[options.unit_start[j] : options.unit_start[j + 1]]
        for at in compare.occurrences(tokens.unit_hash[region.start : region.stop], wanted).tolist():
            first = region.start + at
            if skip and skip[0] <= first < skip[1]:
                continue
            return {
                **corpus_evidence(batch, tokens, place_of(tokens, first, first + len(wanted))),
                "item_span": [0, len(item.options[j])],
                "item_text": item.options[j][:SHOWN],
            }
    return None


def _declaration(record: Record, place: Place, region: range, after: int) -> tuple[int, re.Match[str]] | None:
    """The text and the place in it where letters are given as the answer: in a field of that name, which may stand
    anywhere in the record, else first after unit `after` within the region. Later ones answer other questions."""
    batch, tokens, number = record
    for text, name in enumerate(batch.names(number), record.texts.start):
        if text != place.text and _ANSWER_FIELD.search(name) and (match := _BARE.match(batch.text(text))):
            return text, match
    for text in record.texts:
        a, b = int(tokens.unit_start[text]), int(tokens.unit_start[text + 1])
        if (b <= after and text != place.text) or a >= region.stop:
            continue
        source = batch.text(text)
        begin = tokens.characters(text, max(0, after - a - 1), max(1, after - a))[1] if a < after <= b else 0
        end = tokens.characters(text, region.stop - a - 1, region.stop - a)[1] if region.stop < b else len(source)
        match = _declared(source, begin, end)
        if match:
            return text, match
    return None


def _declared(text: str, begin: int, end: int) -> re.Match[str] | None:
    """The first place of `text[begin:end]` where letters are given as the answer."""
    found = [pattern.search(text, begin, end) for pattern in _DECLARATIONS]
    return min((match for match in found if match), key=lambda match: match.start(), default=None) or (
        _BARE.match(text, begin, end)
    )


def _letters(match: re.Match[str]) -> list[str]:
    """The letters that a declaration gives, in order."""
    return sorted(set(re.findall("[A-J]", unicodedata.normalize("NFKC", match["letters"]).upper())))


_LETTER = "[A-JＡ-Ｊ]"
_LIST = rf"(?P<letters>{_LETTER}(?:\s*(?:,|、|，|;|and|和|&)?\s*{_LETTER})*)(?![A-Za-z])"
_SAID = (
    r"(?i:\b(?:answer|correct\s+(?:option|choice|response)|correct(?=\s*[:：])|ans(?:\.|\b)|key)"
    r"|答案|正确选项|(?:[本此该]题|故|应该?|因此|所以)选|选择)"
    r"(?i:\s*(?:is|was|为|是|应为|应选|选项?|option|choice|[:：=(（【】\[\])*>-]))*"
)
_DECLARATIONS = [
    re.compile(_SAID + r"\s*" + _LIST),
    re.compile(_SAID + r"(?<=[:：=(（【】\[])\s*(?i:" + _LIST + ")"),  # a small letter may be a word: "answer a few"
    re.compile(r"\\boxed\{(?:\\text\{)?" + _LIST + r"\}"),
    re.compile(
        r"(?:\b[Oo]ption|\b[Cc]hoice|^|[.!?\n])\s*[(]?" + _LIST + r"[)]?\s+(?:is|are)\s+(?:the\s+)?(?:correct|right)\b"
    ),
    re.compile(r"[(（]\s*" + _LIST + r"\s*(?:正确|对)\s*[)）]"),
    re.compile(_LIST + r"\s*(?:项|选项)?(?:是)?(?:正确|对)(?:的|。|，|;|；|$)"),
]
_ANSWER_FIELD = re.compile(r"answer|label|correct|gold|solution|答案", re.IGNORECASE)
# The whole rest of the text is the letter, with or without its option: "C", "C. 出血量"
_BARE = re.compile(r"\s*[(（]?" + _LIST + r"\s*(?:[.．、:：)）]|$)")
