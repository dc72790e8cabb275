"""The small engine that says which named rules fit an option in its sentence.

A rule's pattern is words on the left of ``{option}``, words on its right, or both. The left part must end at the
option, the right part begins there. Of several rules of a kind that fit, the one whose match lies widest on the left,
or ends first on the right, is taken. Which kinds are tried, and in what scope, is `medbench.reading.judge`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from medbench.reading.rulefile import Rule, RuleSet
from medbench.reading.tokens import CODES, KINDS, Lexicon, compile_pattern, sentence_rules

_NOT = CODES["NOT"]


@dataclass(frozen=True)
class Fit:
    """A rule that fits.

    Attributes:
        rule: the rule.
        left: what its left part matched, as codes; "" if it has none.
        right: the match of its right part, or None if it has none.
        link: the codes in which negations count.
    """

    rule: Rule
    left: str
    right: re.Match[str] | None
    link: str

    @property
    def rejects(self) -> bool:
        """Whether the option is said not to be so: by the rule's sign, turned by every negation in its link."""
        return (self.rule.sign == "-") != (self.link.count(_NOT) % 2 == 1)


class SentenceEngine:
    """A set of rules, compiled once, with its lexicon."""

    def __init__(self, rules: RuleSet, lexicon: Lexicon | None = None) -> None:
        self.lexicon = lexicon or Lexicon(rules)
        self._sides: dict[str, list[tuple[Rule, re.Pattern[str] | None, re.Pattern[str] | None]]]
        self._sides = {kind: [] for kind in KINDS}
        for rule in rules.rules:
            for pattern in rule.patterns:
                before, _, after = rules.inline(pattern).partition("{option}")
                left = compile_pattern(f"(?:{before})$") if before.strip() else None
                right = compile_pattern(after) if after.strip() else None
                self._sides[rule.kind].append((rule, left, right))

    def codes(self, text: str, start: int, end: int) -> list[str]:
        """The codes of a stretch of text in lower case."""
        return self.lexicon.codes(text, start, end)

    def fit(self, kind: str, left: str, right: str, *, anywhere: bool = False) -> Fit | None:
        """The rule of a kind that fits best, or None.

        Args:
            kind: one of `KINDS`.
            left: codes before the option, back to where its clause begins.
            right: codes after it.
            anywhere: the right part may begin further on.
        """
        best: tuple[int, Fit] | None = None
        for rule, before, after in self._sides[kind]:
            found = before.search(left) if before else None
            follows = (after.search(right) if anywhere else after.match(right)) if after else None
            if (before and not found) or (after and not follows):
                continue
            said = follows or found
            assert said is not None
            link = said["link"] if "link" in said.re.groupindex else said.group()
            place = said.start("link") if "link" in said.re.groupindex else said.start()
            order = (follows.end() if follows else 0) + place
            if best is None or order < best[0]:
                best = (order, Fit(rule, found.group() if found else "", follows, link))
        return best[1] if best else None


@cache
def sentence_engine() -> SentenceEngine:
    """The engine with the rules that ship with medbench."""
    return SentenceEngine(sentence_rules())
