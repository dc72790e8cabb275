"""Which of an output's statements it is held to: the strongest kind decides, among equals the last."""

from __future__ import annotations

import re

from medbench.reading.extraction import Extraction
from medbench.reading.mentions import NONE, UNKNOWN
from medbench.reading.runon import next_items
from medbench.reading.statements import ALONE, EVIDENCE, JUDGED, NAMED, STATED, Statement

# At the start of a clause: "actually" and 纠正 in the middle of one correct nothing that was said.
CORRECTION = re.compile(
    r"(?:^|[.!?,;…—:)\n。，！？；] *|\b(?:but|no|oh|hmm|and) )"
    r"(?:wait(?=\s*[,.!…—:-]|\s+(?:no|let|actually|i|but|that|the)\b)"
    r"|actually(?=[ ,]{1,2}(?:(?:it|the (?:correct|right|best|final|answer)|i|no|option|let|that|we|my|scratch|wait)\b"
    r"|(?-i:[A-J])\b))"
    r"|correction(?=\s*[:,—-]|\s+(?:the|my)\b)|scratch that"
    r"|on second thoughts?|oops|i made a mistake|let me (?:re\w+|correct))\b"
    r"|(?<![一-鿿])(?:更正|纠正|修正|等等|等一下|(?:我?说|写|选)错了|"
    r"再想想|重新(?:考虑|分析)|不对)"
    r"[，,：:。！… ]"
    r"|[…,;.?—–-] *(?:no+|nope)[,.:;—–-]+ *(?=(?:it's |it is |the answer is |rather )?\(?[A-J]\b)"
    r"|[？?。，,]不[，,。]\s*(?:应该?|而?是|[A-J])",
    re.IGNORECASE,
)
_CORRECTED_WITHIN = 160  # characters after the marker in which a weaker statement takes back a stated answer


_REFUSAL = re.compile(
    r"\bi(?:'m| am) (?:sorry|unable|not able)\b|\bi (?:cannot|can't|can not|won't) (?!decide|tell|be)|\bas an ai\b"
    r"|抱歉|对不起|(?:无法|不能)(?:提供|回答|给出)",
    re.IGNORECASE,
)


def _of_this_item(clean: str, statements: list[Statement], letters: tuple[str, ...]) -> list[Statement]:
    """The statements before the output moves on to another item, where an answer had been given by then."""
    at, stated, labels = 0, False, set[str]()
    for moves_on in next_items(clean, statements[0].end if statements else len(clean)):
        while at < len(statements) and statements[at].start < moves_on:
            if statements[at].label:
                labels.update(statements[at].letters)
            elif statements[at].strength >= ALONE and not statements[at].rejects:
                stated = True
            at += 1
        if stated or 0 < len(labels) < len(letters):
            return statements[:at]
    return statements


_LIST_LETTER = re.compile(r"(?:^|[.\n。;；])\s{0,4}(?:[-•>|(]\s{0,2}){0,2}([A-J])(?=\s?[.:：、)])")


def _listed(clean: str, letters: tuple[str, ...]) -> set[int]:
    """Places of the letters of a list that goes through the options from the first on, and may be cut off."""
    marks = [(letters.index(m[1]), m.start(1)) for m in _LIST_LETTER.finditer(clean) if m[1] in letters]
    found: set[int] = set()
    run: list[int] = []
    for order, place in [*marks, (-1, -1)]:
        if order == len(run):
            run.append(place)
            continue
        if len(run) > 1:
            found.update(run)
        run = [place] if order == 0 else []
    return found


def decide(clean: str, statements: list[Statement], letters: tuple[str, ...], multiple: bool) -> Extraction:
    """What the statements amount to.

    Args:
        clean: the text with its marks made plain.
        statements: in order.
        letters: the options' letters.
        multiple: several may be right.
    """
    statements = _of_this_item(clean, statements, letters)
    repeated = False
    if not multiple:
        # "A, B, C or D" named together are the options over again, not an answer
        kept = [s for s in statements if s.strength != ALONE or len(s.letters) < max(3, len(letters))]
        repeated, statements = len(kept) < len(statements), kept
        listed = _listed(clean, letters)
        kept = [s for s in statements if s.strength != ALONE or s.start not in listed]
        repeated, statements = repeated or len(kept) < len(statements), kept
    labels = {letter for statement in statements if statement.label for letter in statement.letters}
    if len(labels) > 1 and len(labels) == len(letters):
        repeated = True
        statements = [statement for statement in statements if not statement.label]
    actual = [statement for statement in statements if not statement.supposed]
    if any(s.strength >= ALONE and not s.rejects and not s.undecided for s in actual):
        statements = actual
    positive = [statement for statement in statements if not statement.rejects]
    if not positive:
        rejected = tuple(sorted({letter for statement in statements for letter in statement.letters}))
        return Extraction("abstain", reason=_why_none(clean, statements, repeated), rejected=rejected)
    picked = _strongest(positive)
    correction = CORRECTION.search(clean, picked[-1].end)
    if correction:
        later = [statement for statement in statements if statement.start >= correction.start()]
        reach = correction.end() + _CORRECTED_WITHIN
        revised = [s for s in later if not s.rejects and s.strength >= JUDGED and s.start < reach]
        if revised:
            picked = _strongest(revised)
        elif any(statement.rejects and set(statement.letters) & set(picked[-1].letters) for statement in later):
            return Extraction("abstain", reason="only_rejections")
    return _settle(clean, _narrowed(picked, statements, multiple), statements, multiple)


def _narrowed(picked: list[Statement], statements: list[Statement], multiple: bool) -> list[Statement]:
    """ "It is B or D. Of these, D fits better": what is said later of one of several options decides between them."""
    several = next((s for s in reversed(picked) if len(s.letters) > 1), None)
    if multiple or several is None or (picked[-1].strength == STATED and several is not picked[-1]):
        return picked
    later = [s for s in statements if s.start >= several.end and s.strength >= EVIDENCE and len(s.letters) == 1]
    fitting = [s for s in later if not s.rejects and not s.undecided and s.letters[0] in several.letters]
    return fitting if len({s.letters for s in fitting}) == 1 else picked


def _strongest(statements: list[Statement]) -> list[Statement]:
    best = max(statement.strength for statement in statements)
    return [statement for statement in statements if statement.strength == best]


def _settle(clean: str, picked: list[Statement], statements: list[Statement], multiple: bool) -> Extraction:
    strength, last = picked[-1].strength, picked[-1]
    if strength == STATED:
        deciding = [s for s in picked if s.subject] if multiple and last.subject else [last]
    elif strength == ALONE:
        # an option's text in a sentence of its own may be quoted to be discussed; its letter is not
        picked = [statement for statement in picked if not statement.text] or picked
        last = picked[-1]
        deciding = [last]
        for earlier in reversed(picked[:-1]):
            later = deciding[-1]
            if clean.find("\n\n", earlier.end, later.start) != -1 or earlier.label != last.label:
                break
            if CORRECTION.search(clean, earlier.end, later.end):
                break
            deciding.append(earlier)
        deciding.reverse()
    else:
        settled = [statement for statement in picked if not statement.undecided]
        deciding = settled or picked
        rejected = {letter for s in statements if s.rejects for letter in s.letters}
        if strength <= EVIDENCE:
            deciding = [s for s in deciding if not set(s.letters) & rejected]
    if not deciding:
        return Extraction("abstain", reason="only_rejections")
    span = (deciding[0].start, deciding[-1].end)
    found = tuple(sorted({letter for statement in deciding if not statement.reason for letter in statement.letters}))
    if last.reason and all(statement.reason for statement in deciding):
        return Extraction("abstain", span=span, reason=last.reason, rule=last.rule, slot="sentence")
    if any(statement.undecided for statement in deciding) or (len(found) > 1 and not multiple):
        if strength == NAMED:
            return Extraction("abstain", reason="no_answer_found")
        return Extraction("ambiguous", span=span, reason="several_answers", rule=deciding[-1].rule, slot="sentence")
    if strength == NAMED and len(found) > 1:
        return Extraction("abstain", reason="no_answer_found")
    return Extraction("answer", found, span, rule=deciding[-1].rule, slot="sentence")


def _why_none(clean: str, statements: list[Statement], repeated: bool) -> str:
    if _REFUSAL.search(clean):
        return "refused"
    if UNKNOWN.search(clean):
        return "undecided"
    if NONE.search(clean):
        return "none_of_the_options"
    if statements:
        return "only_rejections"
    return "options_repeated" if repeated else "no_answer_found"
