"""Answers that are declared: a field of a record, a tag, a box, a line that begins with "Answer:", "the answer is"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from medbench.reading.clean import lower_case
from medbench.reading.rulefile import Rule, RuleSet, load
from medbench.reading.slots.slot import Slot
from medbench.reading.slots.value import Value, read_value

KINDS = ("record", "final", "odd", "conclusion")
FILES = ("slots.yaml", "slots.zh.yaml", "languages.yaml")


_OPTION = r"(?<![\w'])(?P<option>[a-z])(?![\w'])"
# The record's end, or its next field.
_CLOSED = re.compile(r"[^\n]{0,400}(?:[}<\]]|,\s*\w+\s*:)|\s*(?:[}\]]|$)")
_ONLY_IF = re.compile(r"[)\]]?,? (?:only (?:if|in|when|for)|if|unless|when)\b")  # "the answer is A only in adults"
_LABEL = re.compile(r"[)\]]?[ ]?(?:[.:),，、-] ?(?=\S)|$)")  # "B. Ciprofloxacin", "C, amoxicillin"


@cache
def slot_rules() -> RuleSet:
    """The rules that ship with medbench."""
    folder = files("medbench.reading") / "rules"
    return load(*(str(folder / name) for name in FILES), kinds=KINDS)


class DeclaredSlots:
    """Finds declared answers by a set of rules."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules: list[tuple[Rule, re.Pattern[str]]] = [
            (rule, re.compile(rules.expand(pattern).replace("{option}", _OPTION)))
            for rule in rules.rules
            for pattern in rule.patterns
        ]

    def find(self, clean: str, letters: tuple[str, ...], texts: Mapping[str, str]) -> list[Slot]:
        """All of them, in order; of two at one place the first rule's."""
        lower = lower_case(clean)
        found: dict[int, Slot] = {}
        for rule, pattern in self._rules:
            for match in pattern.finditer(lower):
                value = self._value(clean, match, letters, texts)
                if value is None or value.start in found:
                    continue
                if rule.kind != "record" and (
                    _ONLY_IF.match(lower, value.end) or not _stands_free(lower, match.start())
                ):
                    continue
                if rule.kind == "record" and not _CLOSED.match(clean, value.end):
                    continue
                if (
                    rule.kind == "conclusion"
                    and "option" not in match.re.groupindex
                    and not _LABEL.match(clean, value.end)
                ):
                    continue
                found[value.start] = Slot(value.start, value.end, value.letters, rule.kind, rule.name, value.either)
        return [found[place] for place in sorted(found)]

    @staticmethod
    def _value(clean: str, match: re.Match[str], letters: tuple[str, ...], texts: Mapping[str, str]) -> Value | None:
        """What stands after the match, or where the pattern itself has the option."""
        if "option" not in match.re.groupindex:
            return read_value(clean, match.end(), letters, texts)
        start, end = match.span("option")
        return Value(start, end, (clean[start:end],)) if clean[start:end] in letters else None


# What takes back, supposes or only reports what its sentence says.
_BOUND = re.compile(
    r"\b(?:if|had|were|unless|whether|suppose|supposing|assuming|thought|initially|students|tempt\w*|might|may|could"
    r"|cannot|can't|not|isn't|never|previous|earlier|incorrect|wrong|other|before|first|instead|example|format)\b"
    r"|如果|假如|假设|倘若|若|起初|最初|以为|错误|不是|不正确|误选|之前|除"
)
_SENTENCE_START = re.compile(r"[.!?。！？\n;；:：]")
_REACH = 160  # characters before a cue that can bind it


def _stands_free(lower: str, cue: int) -> bool:
    """Whether nothing before the cue in its sentence takes the statement back or makes it depend on something."""
    before = lower[max(0, cue - _REACH) : cue]
    start = 0
    for match in _SENTENCE_START.finditer(before):
        start = match.end()
    return _BOUND.search(before, start) is None


@cache
def declared_slots() -> DeclaredSlots:
    """The finder with the rules that ship with medbench."""
    return DeclaredSlots(slot_rules())
