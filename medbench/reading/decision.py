"""Which of yes, no and maybe an output states, in English and Chinese."""

from __future__ import annotations

import re
from dataclasses import replace

from medbench.reading.clean import clean_text, lower_case
from medbench.reading.decide import decide
from medbench.reading.engine import SentenceEngine, sentence_engine
from medbench.reading.extraction import Extraction
from medbench.reading.judge import ONLY_FUNCTION, WINDOW, supposes, takes_over
from medbench.reading.mentions import Mention, likeliest
from medbench.reading.statements import (
    ALONE,
    DECISION_JOINS,
    JUDGED,
    STATED,
    Group,
    Statement,
    announced,
    by_sentence,
    group_mentions,
    split_sentences,
)
from medbench.reading.tokens import CODES

_FREE = r"(?:(?<![一-鿿])|(?<=答案[是为])|(?<=结论[是为])|(?<=当然)|(?<=肯定)|(?<=一定))"  # no part of another word
_STOPS = r"(?=\s*(?:[，。；：！）,.;:!)}\]<—–…\n]|\((?:[pn]\b|\d)|\d+(?:\.\d+)?\s?%|$))"
_DECISION = re.compile(
    rf"""(?<![a-z])(?=[acdeilmnpuy不未无难视因尚也或可否是并没错肯对能会有正需既])(?:  # rules most places out at once
      (?P<maybe>maybe|perhaps|possibly|uncertain|unclear|inconclusive|indeterminate|equivocal|undetermined
        |not\ necessarily|not\ (?:yet\ )?(?:clear|certain|established)|it\ depends
        |(?:cannot|can't|can\ not|could\ not)\ be\ determined
        |(?:insufficient|not\ enough)\ (?:evidence|information|data))\b
    | (?P<both>\byes\ and\ no\b|既是[又也]不是|是或否)
    | (?P<yes>yes|yeah|yep|yup|affirmative)\b(?!-)
    # Before a noun "no" is a determiner ("no difference"); "No. 5" is a number.
    | (?P<no>nope|(?:probably|likely|definitely|certainly|absolutely)\ not{_STOPS}
        |no(?!\.\s*\d)(?:{_STOPS}|(?=\s+(?:-|(?:to\ (?:the|this)|it|there|they|this|that|he|she|we|i
        |and|or|but|because|since|as|is|in|for|from|based|according)\b)))|negative(?=[\s.]*$))(?!\w|-\w)
    | (?P<zh_maybe>不一定|未必|不(?:能|太)?确定|无法(?:确定|判断)|难以(?:确定|判断)|视情况而定|因人而异
        |尚(?:不|无|未)(?:清楚|明确|定论|确定)|(?:也许|或许|可能|不好说)(?:是的?|不是)?吧?{_STOPS})
    | (?P<zh_no>(?<=答案是)否|(?<=回答是)否|(?<=结论是)否|否定的?|(?<!是)否(?!则|认)|不是的?{_STOPS}
        |{_FREE}(?:不(?:能|会|可以|对|正确|需要|行|可能|应该|建议)?|没有|并非如此|并不是?|错误?|无){_STOPS})
    | (?P<zh_yes>肯定的|(?<!不)(?:是的|(?<!答案)(?<!回答)(?<!结论)是{_STOPS})
        |{_FREE}(?:对的?|能|会|可以|有|正确|需要|没错|可行){_STOPS}))
    """,
    re.VERBOSE,
)
# The three named in a row are the options over again, not an answer: "yes/no/maybe", "A) Yes B) No C) Maybe".
_ONE = r"(?:yes|no|maybe|是|否|可能|也许|不确定|不一定)"
_DECISIONS = {"yes": "yes", "是": "yes", "no": "no", "否": "no"}
_SEPARATOR = r"[\"'`*]*(?:[\s,/|、，;；()*\[\]-]|\bor\b|\band\b|或者?|和|还是|(?<![a-z0-9])[a-c1-3][).:．、])+[\"'`*]*"
_BOTH = r"(?P<both>yes\s*(?:/|or)\s*no|是\s*[/或]\s*否)(?=\s*[:：])"
_ALL_THREE = re.compile(
    rf"{_BOTH}|(?<![a-z一-鿿])(?:[a-c1-3][).:．、]\s*)?{_ONE}(?:{_SEPARATOR}{_ONE}){{2}}(?![a-z])", re.IGNORECASE
)
# "It is unclear whether"; in "possibly with less pain" and "the mechanism is unclear" the question itself is not meant.
_LEFT_OPEN = re.compile(
    r"\b(?:it|this|that|answer|question|evidence|data|results?|findings|abstract|study)"
    r"(?: (?:is|are|was|were|remains?|seems?|appears?|still|yet|as|currently|very|quite|therefore|thus)){0,3} $",
    re.IGNORECASE,
)


def extract_decision(text: str, *, form: str | None = None) -> Extraction:
    """Whether `text` answers yes, no or maybe, in English or Chinese.

    A decision is stated ("the answer is no"), stands alone or leads its sentence ("Yes, because ..."); "no" before a
    noun ("no significant difference") is none. "Not necessarily", "cannot be determined" and the like are ``maybe``,
    also in the middle of a sentence when nothing stronger is said; "I don't know" is ``abstain``.

    Args:
        text: the output, or one view of it.
        form: the form that the prompt asked for; with ``line_first`` a decision in the first line stands.
    """
    engine = sentence_engine()
    if form == "line_first":
        first = _FIRST_LINE.match(clean_text(text))
        found = read_decision(text[: first.end()], engine) if first else None
        if found is not None and found.status == "answer":
            return found
    return read_decision(text, engine)


_FIRST_LINE = re.compile(r"\s*\S[^\n]*(?:(?<=[:：])\s*\n[^\n]*)?")  # with the line after a bare "Answer:"


def read_decision(text: str, engine: SentenceEngine) -> Extraction:
    """As `extract_decision`, by the words and rules of `engine`."""
    clean = clean_text(text)
    if not clean.strip():
        return Extraction("abstain", reason="no_response")
    text, clean = clean, _ALL_THREE.sub(_blank_if_all_three, clean)
    mentions = []
    for match in _DECISION.finditer(lower_case(clean)):
        kind = match.lastgroup or ""
        mentions.append(Mention(match.start(), match.end(), (kind.removeprefix("zh_"),), kind))
    mentions = likeliest(clean, mentions)
    sentences = split_sentences(clean, [])
    statements: list[Statement] = []
    for number, start, end, named in by_sentence(sentences, mentions):
        if clean[start:end].rstrip()[-1:] in ("?", "？"):
            continue
        roles, groups = group_mentions(engine, clean, start, end, named, DECISION_JOINS)
        if announced(engine, clean, sentences, number):
            roles, groups = "A:" + roles, {place + 2: group for place, group in groups.items()}
        for place, group in groups.items():
            statements += _judge_decision(engine, clean, roles, place, group, statements)
    result = decide(clean, statements, ("yes", "no", "maybe"), multiple=False)
    if result.reason == "no_answer_found" and clean != text:
        return replace(result, reason="options_repeated")
    return result


def _blank_if_all_three(match: re.Match[str]) -> str:
    said = {_DECISIONS.get(word, "maybe") for word in re.findall(_ONE, match.group().lower())}
    return " " * len(match.group()) if len(said) == 3 or match["both"] else match.group()


def _judge_decision(
    engine: SentenceEngine, clean: str, roles: str, place: int, group: Group, before: list[Statement]
) -> list[Statement]:
    stop = max(roles.rfind(mark, max(0, place - WINDOW), place) for mark in ".?") + 1
    left = roles[max(stop, place - WINDOW) : place]
    if left.endswith("w)"):
        left = left[:-2].removesuffix("(")  # "(B) no"
    clause = left[left.rfind(",") + 1 :]
    if "I" in clause or "P" in left[left.rfind("B") + 1 :]:
        return []
    start, end, letters = group.mentions[0].start, group.mentions[-1].end, group.letters
    undecided = len(letters) > 1 or "both" in group.kinds
    after = roles[place + 1 : place + 1 + WINDOW]
    supposed = supposes(left, "") or after.startswith("I")  # "the answer would be yes if"

    def statement(strength: int, rejects: bool = False) -> list[Statement]:
        return [Statement(start, end, letters, strength, rejects, undecided, supposed=supposed)]

    stated = next((fit for kind in ("answers", "chooses", "concludes") if (fit := engine.fit(kind, left, ""))), None)
    if stated:
        return statement(STATED, rejects=stated.left.count(CODES["NOT"]) % 2 == 1)
    if re.search(r"N[fH=]*$", left):
        return statement(JUDGED, rejects=True)
    if takes_over(left, before):
        return statement(before[-1].strength)
    ends = re.match(r"[)]?[.]?$", after[:3]) is not None
    bracketed = left.endswith("(") and ends and after.startswith(")")  # "it was safe (yes)"
    # "yes in adults, no in children", "yes for some but no for others"
    divided = bool(before) and re.search(r"L(?:f[fw]{1,6})?[,/B&.]{1,2}$", left) is not None and after.startswith("f")
    if (
        bracketed
        or divided
        or (ends and re.fullmatch(r"[^L]*[,=]|[fwT]{1,4}:", left))
        or ("L" not in left and ONLY_FUNCTION.fullmatch(left))
    ):
        return statement(ALONE)
    if "zh_maybe" in group.kinds or ("maybe" in group.kinds and _LEFT_OPEN.search(clean, max(0, start - 48), start)):
        return statement(JUDGED)
    return []
