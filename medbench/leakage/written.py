"""What a text went through on its way: tags, entities, words split at a line's end, letters that only look alike.

`restore` undoes it for both sides of a comparison and keeps where each character came from; `changes` names it for a
finding. What one character stands for is in the tables of `units`.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Callable, Sequence

from medbench.leakage.units import (
    LOOK_ALIKE,
    SINGLE,
    SKIP,
    WORD,
    clusters,
    entry,
    fold,
    is_mark,
    is_skipped,
    simplified,
)

_ENTITY = re.compile(r"&(?:amp;)?(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_NAME = r"[A-Za-z][A-Za-z0-9:-]*"
# A tag's attributes have a value or none at all: "<b and c>" is a comparison.
_TAG = re.compile(
    rf"<!--.{{0,2000}}?-->|<!(?i:doctype)[^<>]*>|</?(?P<name>{_NAME})(?:\s[^<>]*=[^<>]*)?\s*/?>", re.DOTALL
)
# Elements within a line: they may stand inside a word ("H<sub>2</sub>O"), the others separate words.
_INLINE = re.compile(
    "a|abbr|b|bd[io]|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|su[bp]|tt|u|var|wbr"
)
_HYPHENS = "-\u00ad\u2010\u2011\u00ac"
_LINE_END = re.compile(rf"(?<=[^\W\d_])[{_HYPHENS}][ \t]*(?:\r\n|\r|\n)[ \t]*(?=[^\W\d_])")
_DASH = re.compile("[\u00ad\u2010\u2011]")


class Written:
    """A text with the place that each character came from.

    Attributes:
        text: the text as it is compared.
        begin, end: of each character, the range of the original characters that it stands for.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.begin: Sequence[int] = range(len(text))
        self.end: Sequence[int] = range(1, len(text) + 1)

    def rewrite(self, pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str]) -> None:
        """Replace every match by what it stands for."""
        pieces: list[str] = []
        begin: list[int] = []
        end: list[int] = []
        at = 0
        for match in pattern.finditer(self.text):
            new = replacement(match)
            if new == match[0]:
                continue
            first, last = match.span()
            pieces += [self.text[at:first], new]
            begin += [*self.begin[at:first], *[self.begin[first]] * len(new)]
            end += [*self.end[at:first], *[self.end[last - 1]] * len(new)]
            at = last
        if at:
            pieces.append(self.text[at:])
            self.begin, self.end = [*begin, *self.begin[at:]], [*end, *self.end[at:]]
            self.text = "".join(pieces)


def restore(text: str) -> Written:
    """The text with entities decoded, tags taken out, split words joined and combining marks composed (NFKC)."""
    written = Written(text)
    if "&" in text:
        written.rewrite(_ENTITY, lambda match: _decoded(match[1]) or match[0])
    if "<" in written.text:
        written.rewrite(_TAG, lambda match: "" if _INLINE.fullmatch((match["name"] or "").lower()) else " ")
    written.rewrite(_LINE_END, lambda match: "")
    written.rewrite(_DASH, lambda match: "" if match[0] == "\u00ad" else "-")
    _compose(written)
    return written


def units(text: str, *, simplify: bool = False) -> list[tuple[str, int, int]]:
    """The units of a text as (unit, start, end), offsets in characters of `text`.

    The plain definition, in terms of whole-string Unicode operations; the compiled tokeniser agrees with it.
    """
    found: list[tuple[str, int, int]] = []
    word: list[str] = []
    start = end = 0
    written = restore(text)
    for piece, begin, stop in zip(written.text, written.begin, written.end, strict=True):
        for character in fold(piece):
            if simplify:
                character = simplified().get(character, character)
            kind = entry(character)
            if kind == SKIP:
                continue
            if kind & 3 == WORD:
                if not word:
                    start = begin
                word.append(character)
                end = stop
                continue
            if word:
                found.append(("".join(word), start, end))
                word.clear()
            if kind & 3 == SINGLE:
                found.append((character, begin, stop))
    if word:
        found.append(("".join(word), start, end))
    return found


def _decoded(name: str) -> str:
    character = html.unescape(f"&{name};")
    if character.endswith(";"):  # no such entity
        return ""
    return " " if character.isspace() else character


def _compose(written: Written) -> None:
    pieces: list[str] = []
    begin: list[int] = []
    end: list[int] = []
    for piece, first, last in clusters(written.text):
        # a character without marks is left to the table
        if len(piece) > 1 or is_mark(piece):
            piece = fold(piece)
        pieces.append(piece)
        begin += [written.begin[first]] * len(piece)
        end += [written.end[last - 1]] * len(piece)
    written.text, written.begin, written.end = "".join(pieces), begin, end


def changes(corpus: str, item: str) -> list[str]:
    """What of the writing, apart from the words, is other in the corpus than in the item."""
    there, here = _traits(corpus), _traits(item)
    found = [name for name in _TRAITS if (name in there) != (name in here)]
    if corpus.islower() != item.islower() or corpus.isupper() != item.isupper():
        found.append("case")
    return found


_TRAITS = (
    "entities",
    "tags",
    "words split at a line's end",
    "look-alike letters",
    "invisible characters",
    "width",
    "combining marks",
)


def _traits(text: str) -> set[str]:
    found: set[str] = set()
    if "&" in text and any(_decoded(match[1]) for match in _ENTITY.finditer(text)):
        found.add("entities")
    if ("<" in text or "&" in text) and _TAG.search(html.unescape(text)):
        found.add("tags")
    if _LINE_END.search(text):
        found.add("words split at a line's end")
    if not text.isascii():
        for character in set(text):
            if not character.isascii():
                found |= _traits_of(character)
    return found


@functools.lru_cache(1 << 16)
def _traits_of(character: str) -> frozenset[str]:
    checks = {
        "look-alike letters": fold(character) in _ALIKE,
        "invisible characters": is_skipped(character),
        "width": unicodedata.east_asian_width(character) in "FH" and fold(character).isascii(),
        "combining marks": unicodedata.combining(character) > 0,
    }
    return frozenset(name for name, holds in checks.items() if holds)


_ALIKE = frozenset(LOOK_ALIKE.values())
