"""What the sentences of an output do with the options they mention, read where no slot decides."""

from __future__ import annotations

import difflib
import re

from medbench.reading.clean import clean_text, lower_case
from medbench.reading.decide import decide
from medbench.reading.engine import SentenceEngine
from medbench.reading.extraction import Extraction
from medbench.reading.judge import Judge
from medbench.reading.mentions import Mention, option_mentions
from medbench.reading.statements import (
    JUDGED,
    STATED,
    Group,
    Statement,
    announced,
    by_sentence,
    group_mentions,
    split_sentences,
)
from medbench.reading.tokens import compile_pattern

# "Is it A?", "Would A do?", "Why would anyone choose B?"
_ASKS = compile_pattern("[COMMA|FUNCTION]* (?:[BE|IF|NOT] | [MAYBE] | [OTHER]? [ASK])")
_WH = re.compile(r"\s*(?:why|which|what|how|when|who)\b", re.IGNORECASE)


class Sentences:
    """The sentences of one output."""

    def __init__(
        self, engine: SentenceEngine, clean: str, letters: tuple[str, ...], texts: dict[str, str], multiple: bool
    ) -> None:
        self.engine, self.judge = engine, Judge(engine)
        self.clean, self.letters, self.texts, self.multiple = clean, letters, texts, multiple

    def read(self, *, odd: bool = False) -> Extraction:
        """The option or options that they state; with `odd` the stem asks which option is not so."""
        statements = self.statements()
        if odd and not self.multiple:
            found = _the_odd_one(statements)
            if found is not None:
                return found
        if self.texts and not statements:
            statements = near_texts(self.clean, self.texts)
        return decide(self.clean, statements, self.letters, self.multiple)

    def statements(self) -> list[Statement]:
        """All statements, in order."""
        mentions = option_mentions(self.clean, self.letters, self.texts)
        sentences = split_sentences(self.clean, mentions)
        found: list[Statement] = []
        for number, start, end, named in by_sentence(sentences, mentions):
            heading = announced(self.engine, self.clean, sentences, number)
            found += self._sentence(start, end, named, heading)
        return found

    def _sentence(self, start: int, end: int, mentions: list[Mention], heading: bool) -> list[Statement]:
        codes, groups = group_mentions(self.engine, self.clean, start, end, mentions)
        if heading:
            codes, groups = "A:" + codes, {place + 2: group for place, group in groups.items()}
        if codes.endswith("/"):
            codes = codes[:-1] + "."  # the semicolon that ends the sentence
        if codes.rstrip(".").endswith("?") and (_ASKS.match(codes) or _WH.match(self.clean, start, end)):
            return []
        excepts = _EXCEPTS.search(self.clean, start, end) is not None
        statements: list[Statement] = []
        for place, group in groups.items():
            all_but = _all_but(self.clean, group, self.letters, self.multiple) if excepts else None
            statements += [all_but] if all_but else self.judge.judge(codes, place, group, statements)
        return statements


_SLOT = re.compile(r"(?:\banswer(?: is)?\b|答案(?:是|为)?)\s*[:：]?\s*(?P<said>[^\n.。]{2,200})", re.IGNORECASE)


def near_texts(clean: str, texts: dict[str, str]) -> list[Statement]:
    """An option's text with small edits ("Asprin"), where it is the whole output or what a stated answer says.

    Accepted above 0.85 of `difflib`'s ratio, which takes one or two slips in a word of eight letters, and only when
    no other option comes within 0.1 of it.
    """
    slots = [match.span("said") for match in _SLOT.finditer(clean)][-1:]
    if not slots and len(clean) <= 200:
        slots = [(0, len(clean))]
    for start, end in slots:
        said = lower_case(clean[start:end]).strip(" .。,，;；\n")
        ratios = sorted(
            (
                difflib.SequenceMatcher(None, said, lower_case(clean_text(text)).strip(" .。"), autojunk=False).ratio(),
                letter,
            )
            for letter, text in texts.items()
        )
        if ratios and ratios[-1][0] > 0.85 and (len(ratios) == 1 or ratios[-1][0] - ratios[-2][0] > 0.1):
            return [Statement(start, end, (ratios[-1][1],), STATED, rule="near_text")]
    return []


def _the_odd_one(statements: list[Statement]) -> Extraction | None:
    """The one option judged wrong where two or more are judged right and none is named as the answer."""
    judged = [one for one in statements if one.strength == JUDGED and not one.undecided]
    wrong = {letter for one in judged if one.rejects for letter in one.letters}
    right = {letter for one in judged if not one.rejects for letter in one.letters}
    if len(wrong) != 1 or len(right - wrong) < 2 or any(one.strength > JUDGED for one in statements):
        return None
    last = [one for one in judged if one.rejects][-1]
    return Extraction("answer", tuple(wrong), (last.start, last.end), rule="one_judged_wrong", slot="sentence")


_EXCEPTS = re.compile(r"除|其余|其他|except|excluding|but|rest|other", re.IGNORECASE)  # what the patterns below need
_ALL_BUT = re.compile(
    r"(?:\b(?:all|everything)\b[^.,;\n]{0,30}\b(?:except|but|excluding)(?: for)?(?: options?)?|除了?(?:选项)?)[\s(]*$",
    re.IGNORECASE,
)
_ALL_BUT_ZH = re.compile(r"项?(?:之外|以外|外)?[，, ]*(?:其余|其他|剩余)?(?:各项|选项|的)?(?:都|均|全|皆)")
_WRONG = re.compile(
    r"[^.;。；\n]{0,12}(?:wrong|incorrect|false|ruled out|excluded|eliminated|错|不对|不正确|排除)", re.IGNORECASE
)


_REST_RIGHT = re.compile(
    r"[^.。\n]{0,24}?[,，;； ](?:其余|其他|the rest|(?:all )?(?:the )?others?)(?:选项|各项| options?)?"
    r"(?:都|均|全|是| are| is)*(?: all)? ?(?:正确|对|correct|true|right)",
    re.IGNORECASE,
)


def _all_but(clean: str, group: Group, letters: tuple[str, ...], multiple: bool) -> Statement | None:
    """ "All except D" and "D错，其余都对" are every other letter; "all except D are wrong" is D.

    Where one letter is asked for, the exception is the answer either way.
    """
    start, end = group.mentions[0].start, group.mentions[-1].end
    others = tuple(x for x in letters if x not in group.letters) if multiple else group.letters
    rest = _REST_RIGHT.match(clean, end)
    if rest and others and group.letters and _WRONG.search(clean, max(0, start - 12), rest.end()):
        return Statement(start, end, others, STATED, rule="rest_is_right")
    before = _ALL_BUT.search(clean, max(0, start - 48), start)
    if not before or not group.letters or (before.group()[0] == "除" and not _ALL_BUT_ZH.match(clean, end)):
        return None
    kept = group.letters if _WRONG.match(clean, end) else others
    if not kept:
        return None  # "all except A" of one option
    return Statement(before.start(), end, kept, STATED, rule="all_but")
