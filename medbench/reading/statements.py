"""Statements about options, and what makes one: a sentence, and mentions in it that belong together."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from medbench.reading.clean import lower_case
from medbench.reading.engine import SentenceEngine
from medbench.reading.mentions import Mention
from medbench.reading.tokens import compile_pattern

# Kinds of statement, weakest first.
NAMED, EVIDENCE, JUDGED, ALONE, STATED = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Statement:
    """What one sentence does with one option or several joined ones.

    Attributes:
        start: of the mentions.
        end: of them.
        letters: sorted.
        strength: its kind, one of the numbers above.
        rejects: it says that the option is not the answer.
        undecided: several are weighed.
        reason: it states that none, or an unknown or foreign option, is right.
        label: by a label at the start of a line.
        text: by an option's text.
        subject: "B is the answer", which can be said of several options in turn.
        supposed: "if she had a fever, the answer would be B".
        rule: the rule that found it.
    """

    start: int
    end: int
    letters: tuple[str, ...]
    strength: int
    rejects: bool = False
    undecided: bool = False
    reason: str = ""
    label: bool = False
    text: bool = False
    subject: bool = False
    supposed: bool = False
    rule: str = ""


# A semicolon between two letters joins them; a dot inside a number or name ends nothing.
_BOUNDARY = re.compile(r"[!?！？。]+|\n+|\.(?=\s|$|[一-鿿])|(?<![A-Z])[;；]|[;；](?!\s*[A-Z]\s*(?:[,.;，。；]|$))")
_LIST_GOES_ON = re.compile(r"\s*\(?[A-J](?:[.．)、]|\s*(?:[,;，；。]|$))")
_LISTED = re.compile(r"[^.。;；,，\n]{1,80}[;；,，]" + _LIST_GOES_ON.pattern)


def split_sentences(clean: str, mentions: list[Mention]) -> list[tuple[int, int]]:
    """Starts and ends of the sentences, closing marks included; a label's dot and a colon's line break end none."""
    labels = [mention.start for mention in mentions if mention.label]
    starts = [mention.start for mention in mentions]
    sentences, start = [], 0
    for match in _BOUNDARY.finditer(clean):
        mark = match.group()
        inside = bisect.bisect_right(starts, match.start()) - 1
        if inside >= 0 and match.start() < mentions[inside].end:
            continue  # "N. gonorrhoeae" in an option's text
        follows = inside >= 0 and match.start() - mentions[inside].end <= 2  # a mention's own mark, blanks aside
        if follows and mark[0] in ".;；" and not clean[mentions[inside].end : match.start()].strip():
            after = mentions[inside + 1 : inside + 2]
            named = mark[0] == "." and after and after[0].kind == "text" and mentions[inside].kind == "letter"
            if named and not clean[match.end() : after[0].start].strip():
                continue  # "A. aspirin"
            if (_LISTED if mark[0] == "." else _LIST_GOES_ON).match(clean, match.end()):
                continue  # "A. this; C. that"
        if labels and mark[0] != "\n":
            label = bisect.bisect_left(labels, start)
            if label < len(labels) and labels[label] < match.start():
                continue  # the rest of a line that a label opened judges that option
        if mark[0] == "\n" and clean[max(start, match.start() - 8) : match.start()].rstrip()[-1:] in (":", "："):
            continue
        sentences.append((start, match.end()))
        start = match.end()
    if start < len(clean):
        sentences.append((start, len(clean)))
    return sentences


def by_sentence(
    sentences: list[tuple[int, int]], mentions: list[Mention]
) -> Iterator[tuple[int, int, int, list[Mention]]]:
    """Each sentence that mentions something: its number, start and end, and what it mentions."""
    ends = [end for _, end in sentences]
    for number, group in itertools.groupby(mentions, key=lambda one: bisect.bisect_right(ends, one.start)):
        yield number, *sentences[number], list(group)


_HEADING = compile_pattern("[FUNCTION|RIGHT|COMMA|OPEN]* [ANSWER] [FUNCTION|BE|COLON|COMMA|CLOSE]* [STOP]?")
# What joins two options into one group: "A, C and D", "(A) or (B)", "A (heparin), C (warfarin)".
JOINS = compile_pattern(
    "[OPTION]? [CLOSE]? (?:[COMMA] | [COMMA|SLASH|AND|OR]{0,2} [SLASH|AND|OR] [FUNCTION|MAYBE]{0,2}) [OPTION|OPEN]{0,2}"
    "| [CLOSE] [ANSWER]? [OPEN]"
    "| [OPEN] [^STOP|MENTION|RIGHT|WRONG|EXCLUDE|NOT]{0,16} [CLOSE] [COMMA|SLASH|AND|OR]{1,2} [FUNCTION]? [OPTION]?"
)
DECISION_JOINS = compile_pattern("[COMMA|SLASH|AND|OR]? [SLASH|AND|OR] [FUNCTION]?")


def announced(engine: SentenceEngine, clean: str, sentences: list[tuple[int, int]], number: int) -> bool:
    """Whether the sentence before is only a heading such as "Answer" or "Final answer."."""
    if number == 0:
        return False
    start, end = sentences[number - 1]
    if end - start > 60:
        return False
    return _HEADING.fullmatch("".join(engine.codes(lower_case(clean), start, end))) is not None


@dataclass
class Group:
    """Mentions joined into one ("A, C and D", "A or B"), an option's text taken together with its letter."""

    mentions: list[Mention]
    joins: list[str] = field(default_factory=list)  # the codes between one mention and the next
    either: bool = False  # joined by "or" somewhere
    end: int = 0  # where what it holds ends, an option's text after its letter included

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters of all of them, sorted."""
        return tuple(sorted({letter for mention in self.mentions for letter in mention.letters}))

    @property
    def kinds(self) -> set[str]:
        """The kinds of mention (`medbench.reading.mentions.Mention`)."""
        return {mention.kind for mention in self.mentions}


def group_mentions(
    engine: SentenceEngine,
    clean: str,
    start: int,
    end: int,
    mentions: list[Mention],
    joins: re.Pattern[str] = JOINS,
) -> tuple[str, dict[int, Group]]:
    """The sentence as a string of codes with a ``MENTION`` for each group of mentions, and the groups by place."""
    lower = lower_case(clean)
    roles: list[str] = []
    groups: dict[int, Group] = {}
    last: int | None = None
    position = start
    for mention in mentions:
        between = engine.codes(lower, position, mention.start)
        position = mention.end
        joint = "".join(between)
        if last is not None and _absorbs(clean, groups[last], mention, joint):
            roles += [")"] * joint.count("(")
            groups[last].end = mention.end
            continue
        if last is not None and _joined(clean, groups[last], mention, joint, joins):
            groups[last].mentions.append(mention)
            groups[last].end = mention.end
            groups[last].joins.append(joint)
            groups[last].either |= "R" in joint
            continue
        roles += between
        last = len(roles)
        groups[last] = Group([mention], end=mention.end)
        roles.append("L")
    roles += engine.codes(lower, position, end)
    return "".join(roles), groups


def _absorbs(clean: str, group: Group, mention: Mention, joint: str) -> bool:
    """Whether `mention` repeats the group's last option: its text after its letter, or its letter after its text."""
    last = group.mentions[-1]
    gap = clean[last.end : mention.start]
    if len(gap) > 6 or re.search(r"[^,:().]", joint) or "\n" in gap:
        return False
    if mention.kind == "text" and last.kind in ("letter", "lower"):
        return set(last.letters) <= set(mention.letters) or "," not in gap
    if mention.kind == "letter" and last.kind == "text" and "(" in joint:
        group.mentions[-1] = mention
        return True
    return False


def _joined(clean: str, group: Group, mention: Mention, joint: str, joins: re.Pattern[str]) -> bool:
    last = group.mentions[-1]
    gap = clean[group.end : mention.start]
    if (mention.kind == "lower") != (last.kind == "lower") or (mention.label and "\n" in gap):
        return False
    if joint and mention.letters == last.letters and mention.kind != "text":
        return False  # "between B and D, and D wins"
    if joint:
        return joins.fullmatch(joint) is not None
    return gap.isspace() and "\n" not in gap and {mention.kind, last.kind} <= {"letter", "run", "yes", "no"}
