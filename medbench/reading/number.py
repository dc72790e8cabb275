"""Which quantity an output states: a number with or without its unit, a date, or weeks and days."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from medbench.errors import unknown
from medbench.reading.clean import clean_text
from medbench.reading.extraction import Extraction
from medbench.sources.quantities import KINDS, Kind, Quantity, find_date, find_weeks_days

# Where an output's form says that its answer stands, strongest first; quotes and Markdown are blanks by now.
_SLOTS: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (slot, rule, re.compile(pattern, re.IGNORECASE))
    for slot, rule, pattern in (
        ("record", "answer_tag", r"<(?:answer|final_answer|ans|答案)>(?P<value>.*?)(?=</|\n|$)"),
        ("record", "json_field", r"[{,]\s*(?:final_?answer|answer)\s*:\s*(?P<value>[^}\n]*)"),
        ("record", "boxed", r"\\boxed\s*\{(?P<value>[^\n]*)"),
        (
            "final",
            "answer_colon",
            r"(?<![\w'])(?:answers?|ans)(?: (?:value|score))?\s{0,3}[:=]\s*(?P<value>[^\n]*)",
        ),
        (
            "final",
            "answer_heading",
            r"(?:^|\n)[^\w\n]{0,6}(?:(?:the|final|my) ){0,2}(?:answer|result)\s{0,3}\n\s*(?P<value>[^\n]*)",
        ),
        (
            "final",
            "answer_is",
            r"(?<![\w'])answer(?: (?:to|for) [^.\n]{0,60}?)? (?:is|=|equals|would be)\s*(?P<value>[^\n]*)",
        ),
        ("final", "zh_answer", r"(?:答案|结果)\s*(?:[:是为]|约为|等于)\s*(?P<value>[^\n]*)"),
    )
)
# What stands right before a value that a sentence states: the end of a calculation, a verb or colon, or only a link.
_APPROXIMATELY = r"(?:approximately|about|roughly|around|approx\.?|a total of|equal to|now)"
_EQUATION, _COPULA, _LINK = (
    re.compile(rf"(?:{cue})\s*(?:{_APPROXIMATELY}\s*|[~≈(\[{{]\s*){{0,2}}$", re.IGNORECASE)
    for cue in (
        r"[=≈~]",
        rf"\b(?:is|are|was|equals?|would be|{_APPROXIMATELY})|:|等于|[是为约]",
        r"\b(?:of|to|at|be)",
    )
)
# Between two numbers: the first belongs to a calculation that ends in the second.
_OPERATOR = re.compile(r"[+×x*/÷−–-]")
_APART = re.compile(r"[,;，；]|\b(?:where|with|for|if|using|based|since|because|so|and)\b", re.IGNORECASE)
_CONCLUDES = re.compile(r"(?:\b(?:is|equals?|was|would be)\b|[=≈]|等于|[是为])", re.IGNORECASE)
_BEGIN = re.compile(
    r"[\s(\[{<>=~≈|_:,+-]*(?:(?:approximately|about|roughly|around|approx\.?|a total of|score of)\s*)?", re.I
)
_DIGITS = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<!\d)\.\d+")
_POWER = re.compile(
    r"\s?(?:[x×·]|\\times)\s?10\s?\^?\s?\{?\s?(?P<power>[-−–]?\s?\d{1,2})|[eE](?P<e>[-+−]?\d{1,2})(?![\w.])"
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_RANGE = re.compile(r"\s?(?:[-–—~至到]|to|and)\s?\d|\s?±", re.IGNORECASE)
_OUT_OF = re.compile(r"\s?(?:/\s?\d|out of\b|of \d)")
_LINES = 400  # characters of an output that is nothing but a value
_LONGEST = 2000  # characters of a slot that are looked at: a value stands near its beginning


@dataclass(frozen=True)
class _Number:
    """A number as written, with its place."""

    start: int
    end: int
    quantity: Quantity
    range_: bool


def extract_number(text: str, *, kind: Kind = "number") -> Extraction:
    """The quantity that `text` states as its answer.

    A field, a tag or a box outranks "Answer: ..." and "the answer is ...", of which the last counts; without any, the
    last sentence that states a quantity ("The clearance is 25.2 mL/min.", "= 25.2") does, and an output that is nothing
    but one quantity. Within such a place a number after "is", "=" or "approximately" is the value, the last of them
    where a calculation is written out; numbers of a name (FIB-4), a unit (1.73 m2) or a fraction's denominator are not.

    Args:
        text: the output, or one view of it.
        kind: what is asked for: ``number``, ``date`` or ``weeks_days``.

    Returns:
        `letters` holds the quantity in one canonical form (``25.2``, ``53.1%``, ``06/12/2024``, ``17 weeks 4 days``).
        ``abstain`` with ``no_response`` or ``no_answer_found``; ``ambiguous`` with ``several_answers`` where a place
        holds several numbers or a range and settles on none.

    Raises:
        MedbenchError: an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("kind of quantity", str(kind), KINDS)
    clean = clean_text(text)
    if not clean.strip():
        return Extraction("abstain", reason="no_response")
    undecided: Extraction | None = None
    for slot, rule, start, end in _places(clean):
        read = _read(clean, start, end, kind)
        if isinstance(read, Extraction):
            undecided = undecided or read
            continue
        if read is not None:
            quantity, span = read
            return Extraction("answer", (str(quantity),), span, rule=rule, slot=slot)
        if slot in ("record", "final") and clean[start:end].strip(" .{}<>/"):
            # what stands in the slot is no such quantity, and nothing weaker outranks it
            return undecided or Extraction("abstain", reason="no_answer_found", rule=rule, slot=slot)
    return undecided or Extraction("abstain", reason="no_answer_found")


def quantity_of(stated: str, kind: Kind) -> Quantity:
    """The quantity behind the canonical form that `extract_number` gives."""
    if kind == "number":
        return Quantity("number", float(stated.removesuffix("%")), stated.endswith("%"))
    found = find_date(stated) if kind == "date" else find_weeks_days(stated)
    assert found is not None
    return found[0]


def _places(clean: str) -> Iterator[tuple[str, str, int, int]]:
    """Slot, rule, start and end of where the answer may stand, strongest first, the last of a kind before others."""
    for strength in ("record", "final"):
        found = [
            (match.start("value"), slot, rule, match.end("value"))
            for slot, rule, pattern in _SLOTS
            if slot == strength
            for match in pattern.finditer(clean)
        ]
        for start, slot, rule, end in sorted(found, reverse=True):
            if clean[start:end].strip() or rule != "answer_colon":
                yield slot, rule, start, end
                continue
            following = re.compile(r"\s*(?P<value>[^\n]*)").match(clean, end)  # "Answer:" and the value below it
            if following:
                yield slot, rule, following.start("value"), following.end("value")
    begin = len(clean) - len(clean.lstrip())
    if "\n" not in clean.strip() and len(clean.strip()) <= _LINES and not _CONCLUDES.search(clean):
        yield "leading", "alone", begin, len(clean.rstrip())
    for start, end in reversed(_sentences(clean)):
        if _CONCLUDES.search(clean, start, end) and re.search(r"\d", clean[start:end]):
            yield "sentence", "states_value", start, end
            return


_END = re.compile(r"(?<=[.。;；!?])(?=\s)|\n")


def _sentences(clean: str) -> list[tuple[int, int]]:
    cuts = [0, *(match.end() for match in _END.finditer(clean)), len(clean)]
    return [(start, end) for start, end in itertools.pairwise(cuts) if clean[start:end].strip()]


def _read(clean: str, start: int, end: int, kind: Kind) -> tuple[Quantity, tuple[int, int]] | Extraction | None:
    """The quantity in one place, ``ambiguous``, or None where there is none."""
    end = min(end, start + _LONGEST)
    if kind != "number":
        found = (find_date if kind == "date" else find_weeks_days)(clean[start:end])
        return None if found is None else (found[0], (start + found[1][0], start + found[1][1]))
    numbers = list(_numbers(clean, start, end))
    if not numbers:
        return None
    picked = _picked(clean, start, end, _outside_brackets(clean, start, numbers))
    if picked is None or picked.range_:
        return Extraction("ambiguous", reason="several_answers")
    return picked.quantity, (picked.start, picked.end)


def _picked(clean: str, start: int, end: int, numbers: list[_Number]) -> _Number | None:
    """The number that is the value; None where several stand there and nothing tells."""

    def after(cue: re.Pattern[str]) -> list[_Number]:
        return [number for number in numbers if cue.search(clean, max(start, number.start - 40), number.start)]

    ends, stated = after(_EQUATION), after(_COPULA)
    begin = _BEGIN.match(clean, start, end)
    if begin and numbers[0].start <= begin.end():
        stated = numbers[:1]  # "25.2 mL/min, where the weight is 48 kg"
    if stated:
        continued = [one for one in ends if one.start > stated[-1].start and _goes_on(clean, stated[-1], one)]
        return continued[-1] if continued else stated[-1]
    found = ends or after(_LINK)
    if found:
        return found[-1]
    return numbers[0] if len({number.quantity for number in numbers}) == 1 else None


def _goes_on(clean: str, first: _Number, last: _Number) -> bool:
    between = clean[first.end : last.start]
    return _OPERATOR.search(between) is not None and _APART.search(between) is None


def _outside_brackets(clean: str, start: int, numbers: list[_Number]) -> list[_Number]:
    """The numbers that do not stand in brackets, where there are any: "3 (1 for age, 2 for a stroke)"."""
    outside = [one for one in numbers if clean.count("(", start, one.start) <= clean.count(")", start, one.start)]
    return outside or numbers


def _numbers(clean: str, start: int, end: int) -> Iterator[_Number]:
    """The numbers that may be a value, in order."""
    place = start
    while match := _DIGITS.search(clean, place, end):
        place = match.end()
        begin, sign = match.start(), 1.0
        before = clean[max(0, begin - 2) : begin]
        if before[-1:] in ("-", "−", "–"):
            if before[:1].isalpha():
                continue  # FIB-4
            if not (before[:1].isdigit() or before[:1] == ")"):
                begin, sign = begin - 1, -1.0
            elif len(before) == 2 and before[0].isdigit():
                continue  # the end of a range
        elif (before[-1:].isalpha() and before[-1:].isascii()) or before[-1:] in ("_", "^"):
            continue  # H2, 10^9
        elif before[-1:] == "/":
            continue  # a unit, or what a fraction is of
        if _ORDINAL.match(clean, match.end()):
            continue
        value = float(match.group().replace(",", "")) * sign
        power = _POWER.match(clean, match.end())
        if power:
            exponent = (power["power"] or power["e"]).replace("−", "-").replace("–", "-").replace(" ", "")
            value, place = value * 10 ** int(exponent), power.end()
        percent = clean[place : place + 2].lstrip()[:1] == "%"
        out_of = _OUT_OF.match(clean, place)
        is_range = not out_of and _RANGE.match(clean, place) is not None
        if out_of:
            rest = re.compile(r"[^\d\n]*\d+(?:\.\d+)?").match(clean, place, end)
            place = rest.end() if rest else place
        yield _Number(begin, match.end(), Quantity("number", value, percent), is_range)
