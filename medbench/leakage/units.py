"""Units: what the audit compares. A unit is a word, or one CJK character; case, width and punctuation do not count.

The text is brought to Unicode NFKC and case-folded, characters that are not seen (soft hyphens, zero-width spaces) are
dropped, and everything but letters, marks and numbers separates words. A Han character, hiragana or katakana is a unit
by itself, because Chinese and Japanese are written without spaces.

The work is done character by character through one table (`character_table`), which compiled code can follow over
UTF-8 bytes. That equals NFKC of the whole text except beside combining marks, where neighbours decide: such texts are
composed first (`written.restore`), and so are those with tags, entities and words split at a line's end.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator

import numpy as np

# A table entry is (payload << 2) | kind.
SPECIAL, WORD, SINGLE, EXPANSION = 0, 1, 2, 3
SEPARATOR, SKIP, COMBINING = 0 << 2, 1 << 2, 2 << 2

_SINGLE = re.compile("[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LAST = 0x110000
# Letters that look like a Latin one, small after case folding (Cyrillic, Greek, Latin extensions; after Unicode's
# confusables, UTS #39). Both sides of a comparison are read so; a Greek mu is the u of "ug".
LOOK_ALIKE = dict(
    zip(
        "авекмнорстухіјѕԁһԛԝѵӏгαβεικνορτυχμϲϳɑıɡ",
        "abekmhopctyxijsdhqwvlrabeikvoptuxucjaig",
        strict=True,
    )
)
_ALIKE = str.maketrans(LOOK_ALIKE)
_HYPHENS = (0x00AD, 0x2010, 0x2011)
# Where characters are assigned that are not simply Han: the first two planes, compatibility forms, tags and selectors.
_CODES = (*range(0x20000), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE0200))


@functools.cache
def character_table(simplify: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Code point -> table entry, and the pool of the characters that stand for several.

    Args:
        simplify: map traditional Chinese characters to simplified ones, one by one (OpenCC's character table).

    Returns:
        ``table``, int32 of shape (0x110000,): what each code point becomes; ``pool``, int32: for an expansion at
        position p, ``pool[p]`` entries follow.
    """
    table = np.zeros(_LAST, np.int32)  # unassigned and private code points separate, like punctuation
    pool: list[int] = []
    composing = _composing()
    simpler = simplified() if simplify else {}
    for code in range(0x20000, 0x32000):
        if unicodedata.category(chr(code))[0] == "L":
            table[code] = code << 2 | SINGLE
    changed = _changed()
    for code in _CODES:
        character = chr(code)
        if unicodedata.category(character) in ("Cn", "Co", "Cs"):
            continue
        folded = changed.get(character, character)
        if code in composing or (folded != character and any(ord(c) in composing for c in folded)):
            table[code] = COMBINING
        elif code in _HYPHENS:
            table[code] = COMBINING  # they may split a word at a line's end: `written.restore` looks
        elif len(folded) == 1:
            table[code] = entry(simpler.get(folded, folded))
        elif not folded:
            table[code] = SKIP
        else:
            entries = [entry(simpler.get(c, c)) for c in folded]
            if set(entries) != {SEPARATOR}:
                table[code] = len(pool) << 2 | EXPANSION
                pool += [len(entries), *entries]
    for traditional, simple in simpler.items():
        table[ord(traditional)] = entry(simple)
    return table, np.array(pool or [0], np.int32)


def is_mark(character: str) -> bool:
    """Whether a character composes with what stands before it."""
    return _marks().match(character) is not None


def clusters(text: str) -> Iterator[tuple[str, int, int]]:
    """Runs that normalise independently of their neighbours: a character and the combining marks on it."""
    for match in _cluster_pattern().finditer(text):
        piece = match[0]
        if match.end() - match.start() > 1:  # a format character between base and mark does not part them
            piece = "".join(c for c in piece if entry(c) != SKIP)
        yield piece, match.start(), match.end()


@functools.cache
def _cluster_pattern() -> re.Pattern[str]:
    ignored = _ranges({c for c in _CODES if is_skipped(chr(c))})
    return re.compile(f"(?:.(?:[{ignored}]*{_marks().pattern})+)|.", re.DOTALL)


@functools.cache
def _marks() -> re.Pattern[str]:
    """Characters that compose with what stands before them, or fold into such."""
    folding = {ord(c) for c, folded in _changed().items() if any(ord(part) in _composing() for part in folded)}
    return re.compile(f"[{_ranges(_composing() | folding)}]")


def _ranges(codes: set[int]) -> str:
    """A regular-expression class body for a set of code points."""
    ordered = sorted(codes)
    body, first = [], 0
    for index, code in enumerate(ordered):
        if index + 1 == len(ordered) or ordered[index + 1] != code + 1:
            body.append(f"\\U{ordered[first]:08x}-\\U{code:08x}")
            first = index + 1
    return "".join(body)


@functools.cache
def _composing() -> set[int]:
    """Code points whose normal form depends on what stands before them: marks, and seconds of canonical pairs."""
    found = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))  # Hangul vowels and finals
    for code in _CODES:
        if unicodedata.combining(chr(code)):
            found.add(code)
        pair = unicodedata.decomposition(chr(code))
        if pair and not pair.startswith("<") and " " in pair:
            found.add(int(pair.split()[1], 16))
    return found


@functools.cache
def _changed() -> dict[str, str]:
    """Characters that do not fold to themselves, with what they fold to."""
    candidates = (c for c in map(chr, _CODES) if unicodedata.decomposition(c) or c.casefold() != c or c in LOOK_ALIKE)
    return {c: folded for c in candidates if (folded := fold(c)) != c}


def fold(text: str) -> str:
    """Text without the differences of width, case and look-alike letters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFKC", folded.translate(_ALIKE)) if not folded.isascii() else folded


def entry(character: str) -> int:
    """What one normalised character does to the text."""
    if is_skipped(character):
        return SKIP
    category = unicodedata.category(character)
    code = ord(character)
    if category[0] not in "LMN":
        return SEPARATOR
    return code << 2 | (SINGLE if _SINGLE.match(character) and category[0] == "L" else WORD)


# Unicode's Default_Ignorable_Code_Point outside category Cf: joiners, Hangul fillers, variation selectors.
_IGNORABLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def is_skipped(character: str) -> bool:
    """Whether a character is not seen: format characters, and the others that Unicode says to ignore."""
    return unicodedata.category(character) == "Cf" or _IGNORABLE.match(character) is not None


@functools.cache
def simplified() -> dict[str, str]:
    """Traditional characters with the simplified ones that stand for them."""
    from opencc import OpenCC

    han = [chr(code) for code in range(0x3400, 0xA000)]
    simple = OpenCC("t2s").convert("\n".join(han)).split("\n")
    return {a: b for a, b in zip(han, simple, strict=True) if a != b and len(b) == 1}
