"""Options that speak of other options ("all of the above", "both A and C", 以上都是): found by rules that are data.

Such an option means something only beside the others, in their places: `order` keeps it where it is and
rewrites the letters that it names, and controls that take an option away cannot be had of its item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import yaml

from medbench.sources.items import LETTERS, Item

Refers = Literal["above", "others", "letters"]
# A label that the publisher left in the text, and what may close it.
_BEFORE, _AFTER = r"\s*(?:\(?[a-j][.)、．]\s*)?", r"\s*[.。．!]?\s*"
# Full-width letters and brackets, one for one, so that places in the text stay places in the text.
_NARROW = str.maketrans({chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)} | {"\u3000": " "})
_LETTER = re.compile(r"(?<![a-z])[A-J](?![a-z])|(?<![A-Za-z])[a-j](?![A-Za-z])")


@dataclass(frozen=True)
class Rule:
    """One form of words; `examples` must match, `not_` must not."""

    name: str
    refers: Refers
    pattern: re.Pattern[str]
    examples: tuple[str, ...]
    not_: tuple[str, ...]


@dataclass(frozen=True)
class Anchor:
    """What one option says of others.

    Attributes:
        rule: the rule's name.
        refers: ``above``, ``others`` or ``letters``.
        letters: start in the option's text -> the letter named there, in upper case.
    """

    rule: str
    refers: Refers
    letters: Mapping[int, str]


@cache
def rules() -> tuple[Rule, ...]:
    """The rules that ship, in the order in which they are tried."""
    text = (resources.files("medbench.benchmark.controls") / "rules" / "anchors.yaml").read_text("utf-8")
    return tuple(
        Rule(
            row["name"],
            row["refers"],
            # verbose: a pattern may be folded over lines, and a space that counts is written with a backslash
            re.compile(f"{_BEFORE}(?:{row['pattern']}){_AFTER}", re.IGNORECASE | re.VERBOSE),
            tuple(row["examples"]),
            tuple(row["not"]),
        )
        for row in yaml.safe_load(text)
    )


def anchor(text: str, letters: str = LETTERS, own: str = "") -> Anchor | None:
    """What an option's text says of other options; None for an ordinary option.

    Args:
        letters: those of the item's options; naming any other is no reference.
        own: the option's own letter, which it cannot mean.
    """
    narrow = text.translate(_NARROW)
    for rule in rules():
        found = rule.pattern.fullmatch(narrow)
        if found is None:
            continue
        if "letters" not in rule.pattern.groupindex:
            return Anchor(rule.name, rule.refers, {})
        start = found.start("letters")
        named = {start + one.start(): one[0].upper() for one in _LETTER.finditer(found["letters"])}
        if named and set(named.values()) <= set(letters) - set(own) and len(set(named.values())) == len(named):
            return Anchor(rule.name, rule.refers, named)
    return None


def anchors(item: Item) -> dict[int, Anchor]:
    """Position (from 0) -> what the option there says of others; empty where every option stands for itself."""
    found = {position: anchor(text, item.letters, item.letters[position]) for position, text in enumerate(item.options)}
    return {position: one for position, one in found.items() if one is not None}


def renamed(text: str, named: Anchor, moved: Mapping[str, str]) -> str:
    """An option's text with the letters that it names rewritten, in alphabetical order as before.

    Args:
        moved: old letter -> new letter.
    """
    new = sorted(moved[letter] for letter in named.letters.values())
    written = list(text)
    for start, letter in zip(sorted(named.letters), new, strict=True):
        written[start] = _as(written[start], letter)
    return "".join(written)


def _as(old: str, letter: str) -> str:
    """The letter in the width and case of the one that it replaces."""
    wide = ord(old) > 0xFF00
    plain = old.translate(_NARROW)
    letter = letter.lower() if plain.islower() else letter
    return chr(ord(letter) + 0xFEE0) if wide else letter
