"""What stands in a slot: a letter, letters joined into a set, or a letter with its option's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from medbench.reading.clean import clean_text
from medbench.reading.mentions import stands_for_option


@dataclass(frozen=True)
class Value:
    """The content of a slot.

    Attributes:
        start: of the first letter.
        end: after the last.
        letters: in the order stated.
        either: joined by "or": several are named and none is settled on.
    """

    start: int
    end: int
    letters: tuple[str, ...]
    either: bool = False


_OPEN = re.compile(
    r"""[\s"'(\[{<:>=_~•|–—-]{0,12}(?:(?:the\ )?(?:option|choice|letter|选项|选择|opción)
    [\s"'(\[{<:>#-]{1,6})?""",
    re.VERBOSE | re.IGNORECASE,
)
_JOINT = re.compile(
    r"[)\]\"' ]{0,3}(?P<joint>[,，、;；/&+]|\band\b|\bor\b|和|与|及|或者?|)[ \"'(\[]{0,3}(?P<or>or\b|and\b)? ?\(?"
)
_CLOSED = re.compile(r"[ \t]{0,3}(?:[.,;:!?)\]}>\"'，。；：！？、）】<|/—–\n\\-]|$)")
# A range and letters without a joint need sentences.
_GOES_ON = re.compile(r" ?(?:到|至|[-–~]|to |through )(?: ?[A-J])(?![A-Za-z])| [A-J](?= [A-J]\b|\s*$)")
# "(A) level, (B) response, (C) motor and (D) sensory function": the options over again.
_LISTED = re.compile(r"\)(?! *(?:,|is|was|because|since|and not|rather|not)\b)(?:[^\n().]{0,60}\([A-J]\)){2,}")
_NAME = re.compile(r"\.[ ]?[a-z]{3,}")  # "H. pylori"


def read_value(
    clean: str, start: int, letters: tuple[str, ...], texts: Mapping[str, str] | None = None
) -> Value | None:
    """The letters that stand at `start`, marks and the word "option" before them passed over; None where none do.

    An option's text that itself begins with a letter ("C. difficile", "B cells") is read whole.
    """
    opened = _OPEN.match(clean, start)
    place = opened.end() if opened else start
    spelled = _spelled_out(clean, place, letters, texts or {})
    if spelled is not None:
        return spelled
    first = _letters_at(clean, place, letters)
    if first is None:
        return None
    end, found = first[0], list(first[1])
    either = False
    began = place
    while len(found) < len(letters):
        joint = _JOINT.match(clean, end)
        if not joint or joint.end() == end:
            break
        more = _letter(clean, joint.end(), letters)
        apart = clean[end : joint.end()]
        if more is None or more in found or "\n" in apart:
            break
        if not joint["joint"] and not joint["or"] and (apart.strip(" ") or not _CLOSED.match(clean, joint.end() + 1)):
            break
        if _NAME.match(clean, joint.end() + 1):
            break
        either = either or "or" in (joint["joint"], joint["or"]) or "或" in joint["joint"]
        found.append(more)
        end = joint.end() + len(more)
    listed = _LISTED.match(clean, end)
    if listed:
        named = [letter for letter in re.findall(r"\(([A-Z])\)", listed.group()) if letter in letters]
        return Value(began, listed.end(), tuple(dict.fromkeys((*found, *named))), either=True)
    if _GOES_ON.match(clean, end) and not _NAME.match(clean, end):
        return None
    return Value(began, end, tuple(found), either)


def _spelled_out(clean: str, place: int, letters: tuple[str, ...], texts: Mapping[str, str]) -> Value | None:
    """The option whose text stands at `place`, where that text begins like a letter."""
    best: Value | None = None
    for letter, text in texts.items():
        plain = clean_text(text).strip(" .")
        if len(plain) > 1 and re.match(r"[A-Za-z](?![A-Za-z0-9])", plain):
            end = place + len(plain)
            whole = clean[place:end].lower() == plain.lower() and not clean[end : end + 1].isalnum()
            if whole and (best is None or end > best.end):
                best = Value(place, end, (letter,))
    return best


@lru_cache(maxsize=64)
def _run(letters: tuple[str, ...]) -> re.Pattern[str]:
    own = "".join(map(re.escape, letters))
    return re.compile(
        rf"[{own}]{{1,{len(letters)}}}(?![A-Za-z0-9_']|-[A-Za-z0-9])|[{own.lower()}](?=[ ]?\)|[ ]?[.。\"']?\s*$|\")"
    )


def _letters_at(clean: str, place: int, letters: tuple[str, ...]) -> tuple[int, tuple[str, ...]] | None:
    match = _run(letters).match(clean, place)
    if not match:
        return None
    word = match.group()
    end = match.end()
    if word not in letters and word.upper() in letters:  # in lower case
        dangling = word == "a" and not clean[end:].strip(" ")
        return None if dangling and clean[place - 1 : place] == " " else (end, (word.upper(),))
    if len(word) > 1:
        return (end, tuple(word)) if len(set(word)) == len(word) and _CLOSED.match(clean, end) else None
    if _NAME.match(clean, end) and not clean[end + 1 : end + 2].isspace():
        return None  # "E.coli"
    if not _CLOSED.match(clean, end) and not stands_for_option(clean, place, end, word):
        return None
    return end, (word,)


def _letter(clean: str, place: int, letters: tuple[str, ...]) -> str | None:
    letter = clean[place : place + 1]
    alone = not re.match(r"[A-Za-z0-9_']|-[A-Za-z0-9]", clean[place + 1 : place + 3])
    if (
        letter in letters
        and alone
        and (_CLOSED.match(clean, place + 1) or stands_for_option(clean, place, place + 1, letter))
    ):
        return letter
    return None
