"""What the sentences of an output do with the options they mention, read where no slot decides."""

from __future__ import annotations

import bisect
import difflib
import re
from dataclasses import dataclass, field, replace

from medbench._answer_words import roles_of
from medbench.reading.clean import clean_text, lower_case
from medbench.reading.extraction import Extraction
from medbench.reading.mentions import NONE, UNKNOWN, Mention, option_mentions

# Kinds of statement, weakest first.
_NAMED, _EVIDENCE, _JUDGED, _ALONE, _STATED = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class _Statement:
    start: int
    end: int
    letters: tuple[str, ...]
    strength: int
    rejects: bool = False
    undecided: bool = False
    reason: str = ""
    label: bool = False
    text: bool = False  # by an option's text
    subject: bool = False  # "B is the answer", which can be said of several options in turn
    supposed: bool = False  # "if she had a fever, the answer would be B"


class Sentences:
    """The sentences of one output."""

    def __init__(
        self, clean: str, letters: tuple[str, ...], texts: dict[str, str], multiple: bool, question: str | None
    ) -> None:
        self.clean, self.letters, self.texts, self.multiple = clean, letters, texts, multiple
        self.question = question

    def read(self) -> Extraction:
        """The option or options that they state."""
        statements = _choice_statements(self.clean, self.letters, self.texts, self.multiple)
        if self.texts and not statements:
            statements = _near_texts(self.clean, self.texts)
        return _decide(self.clean, statements, self.letters, self.multiple)


_SLOT = re.compile(r"(?:\banswer(?: is)?\b|答案(?:是|为)?)\s*[:：]?\s*(?P<said>[^\n.。]{2,200})", re.IGNORECASE)


def _near_texts(clean: str, texts: dict[str, str]) -> list[_Statement]:
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
            return [_Statement(start, end, (ratios[-1][1],), _STATED)]
    return []


# --- statements -------------------------------------------------------------------------------------------------------

# A semicolon between two letters joins them; a dot inside a number or name ends nothing.
_BOUNDARY = re.compile(r"[!?！？。]+|\n+|\.(?=\s|$|[一-鿿])|(?<![A-Z])[;；]|[;；](?!\s*[A-Z]\s*(?:[,.;，。；]|$))")
_LIST_GOES_ON = re.compile(r"\s*\(?[A-J](?:[.．)、]|\s*(?:[,;，；。]|$))")
_LISTED = re.compile(r"[^.。;；,，\n]{1,80}[;；,，]" + _LIST_GOES_ON.pattern)


def _sentences(clean: str, mentions: list[Mention]) -> list[tuple[int, int]]:
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


# Patterns over roles. On the left of a mention, read up to it; on the right, read from it.
_WINDOW = 48  # roles looked at on either side of a mention: longer than any statement, and what keeps time linear
_LEFT_STATED = re.compile(r"(?:A(?:[fHNOTw]{0,8}[=:,])?|[+]O?[wfOA]{0,5}[=:]|O[fHOw+]{0,8}[=:])[fHNO:=,()+?T]*$")
_LEFT_CHOSEN = re.compile(r"C[fHNO:=(]*$")
_LEFT_WRONG_IS = re.compile(r"-(?P<noun>[OAwf]{0,3})[=:][fH:(O]*$")
_LEFT_REJECTED = re.compile(r"(?:[EXN])[fOH(:]*$")
_LEFT_TURNED = re.compile(r"(?<=B)[^L,H]{0,8}[=C][fO(]*$")  # "at first A, but on reflection it is B"
_LEFT_FITS = re.compile(r"[=fHN]*\+(?:[f&]f?)?$")  # "is not consistent with"
_LEFT_EITHER = re.compile(r"R[fHO(]*$")
_GOVERNS = re.compile(r"(?:A[fHNO]{0,6}[=:]|[CXR])[fHO:=(]*$")
_LEFT_SO = re.compile(r"T[,f:OH(=]*$")
_RIGHT_STATED = re.compile(
    r"(?:^|[^.]*?[,(/\-+])?[O)]?[fH,:]*(?P<link>(?:=|N)[=fNHT]*)(?P<how>[+\-]?)(?:[+fO]{0,2}w{0,2}A|(?<=[+])f?O)"
)
_IS_THE_ANSWER = re.compile(r"O?[fH]*=[=f]*\+?[fw]?[AO]")
_RIGHT_JUDGED = re.compile(
    r"[O)]{0,2}(?:\([^()L]{0,16}\))?(?P<link>[f,:(=HN&T]*(?:w{0,3}[fHN]*=[fHN=]*)?)"
    r"(?P<how>[+\-E]|(?<=[:(=)])N(?=$|[.,:)]))"
)
_RIGHT_LURES = re.compile(r"(?:w?O)?[f=H,N]*P")
_ENDS_HERE = re.compile(r"[O)]{0,2}[)]?(?:$|[.,?B(:T])")
_ONLY_FUNCTION = re.compile(r"[f=H:,()O&TRC+AWLB]*")
_JOINS = re.compile(r"O?\)?(?:,|[,/&R]{0,2}[/&R][fH]{0,2})[O(]{0,2}|\)A?\(|\([^.L+\-EN]{0,16}\)[,/&R]{1,2}f?O?")
_DECISION_JOINS = re.compile(r"[,/&R]?[/&R]f?")
_ASIDE = re.compile(r",?[XN][fO(]*L[),]?")  # "C rather than B is", "C, not B, is"


def _choice_statements(clean: str, letters: tuple[str, ...], texts: dict[str, str], multiple: bool) -> list[_Statement]:
    mentions = option_mentions(clean, letters, texts)
    sentences = _sentences(clean, mentions)
    ends = [end for _, end in sentences]
    found: list[_Statement] = []
    at = 0
    while at < len(mentions):
        number = bisect.bisect_right(ends, mentions[at].start)
        start, end = sentences[number]
        first = at
        while at < len(mentions) and mentions[at].start < end:
            at += 1
        announced = _announced(clean, sentences, number)
        found += _sentence_statements(clean, start, end, mentions[first:at], letters, announced, multiple)
    return found


def _announced(clean: str, sentences: list[tuple[int, int]], number: int) -> bool:
    """Whether the sentence before is only a heading such as "Answer" or "Final answer."."""
    if number == 0:
        return False
    start, end = sentences[number - 1]
    if end - start > 60:
        return False
    return re.fullmatch(r"[f+,(]*A[f=:,)]*[.]?", "".join(roles_of(lower_case(clean), start, end))) is not None


def _sentence_statements(
    clean: str,
    start: int,
    end: int,
    mentions: list[Mention],
    letters: tuple[str, ...],
    announced: bool,
    multiple: bool,
) -> list[_Statement]:
    roles, groups = _roles(clean, start, end, mentions)
    if announced:
        roles, groups = "A:" + roles, {place + 2: group for place, group in groups.items()}
    if roles.endswith("/"):
        roles = roles[:-1] + "."  # the semicolon that ends the sentence
    asks = roles.rstrip(".").endswith("?") and re.match(r"[,f]*(?:[=IN]|H|w?\?)", roles) is not None
    excepts = _EXCEPTS.search(clean, start, end) is not None
    statements: list[_Statement] = []
    for place, group in groups.items():
        if not asks:
            all_but = _all_but(clean, group, letters, multiple) if excepts else None
            statements += [all_but] if all_but else _judge(roles, place, group, statements)
    return statements


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


def _all_but(clean: str, group: _Group, letters: tuple[str, ...], multiple: bool) -> _Statement | None:
    """ "All except D" and "D错，其余都对" are every other letter; "all except D are wrong" is D.

    Where one letter is asked for, the exception is the answer either way.
    """
    start, end = group.mentions[0].start, group.mentions[-1].end
    others = tuple(x for x in letters if x not in group.letters) if multiple else group.letters
    rest = _REST_RIGHT.match(clean, end)
    if rest and group.letters and _WRONG.search(clean, max(0, start - 12), rest.end()):
        return _Statement(start, end, others, _STATED)
    before = _ALL_BUT.search(clean, max(0, start - 48), start)
    if not before or not group.letters or (before.group()[0] == "除" and not _ALL_BUT_ZH.match(clean, end)):
        return None
    kept = group.letters if _WRONG.match(clean, end) else others
    return _Statement(before.start(), end, kept, _STATED)


@dataclass
class _Group:
    """Mentions joined into one ("A, C and D", "A or B"), an option's text taken together with its letter."""

    mentions: list[Mention]
    joins: list[str] = field(default_factory=list)  # the roles between one mention and the next
    either: bool = False  # joined by "or" somewhere
    end: int = 0  # where what it holds ends, an option's text after its letter included

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(sorted({letter for mention in self.mentions for letter in mention.letters}))

    @property
    def kinds(self) -> set[str]:
        return {mention.kind for mention in self.mentions}


def _roles(
    clean: str, start: int, end: int, mentions: list[Mention], joins: re.Pattern[str] = _JOINS
) -> tuple[str, dict[int, _Group]]:
    """The sentence as a string of roles with ``L`` for each group of mentions, and the groups by place."""
    lower = lower_case(clean)
    roles: list[str] = []
    groups: dict[int, _Group] = {}
    last: int | None = None
    position = start
    for mention in mentions:
        between = roles_of(lower, position, mention.start)
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
        groups[last] = _Group([mention], end=mention.end)
        roles.append("L")
    roles += roles_of(lower, position, end)
    return "".join(roles), groups


def _absorbs(clean: str, group: _Group, mention: Mention, joint: str) -> bool:
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


def _joined(clean: str, group: _Group, mention: Mention, joint: str, joins: re.Pattern[str]) -> bool:
    last = group.mentions[-1]
    gap = clean[group.end : mention.start]
    if (mention.kind == "lower") != (last.kind == "lower") or (mention.label and "\n" in gap):
        return False
    if joint and mention.letters == last.letters and mention.kind != "text":
        return False  # "between B and D, and D wins"
    if joint:
        return joins.fullmatch(joint) is not None
    return gap.isspace() and "\n" not in gap and {mention.kind, last.kind} <= {"letter", "run", "yes", "no"}


def _judge(roles: str, place: int, group: _Group, before: list[_Statement]) -> list[_Statement]:
    """What the sentence does with one group of mentions; nothing where it only uses its letters."""
    stop = max(roles.rfind(mark, max(0, place - _WINDOW), place) for mark in ".?") + 1
    left = roles[max(stop, place - _WINDOW) : place]
    after = roles[place + 1 : place + 1 + _WINDOW]
    label = group.mentions[0].label
    aside = _ASIDE.match(after)
    right = after if label else re.split(r"[.L]", after[aside.end() if aside else 0 :], maxsplit=1)[0]
    ending = after[len(right) : len(right) + 1]
    judged = _RIGHT_JUDGED.match(right)
    if judged and left.endswith("(") != right.startswith(")"):
        left = "("  # "the first choice (C is wrong)": the verdict in the brackets is all there is
    names = bool(left) and left[-1] == "w"  # "hepatitis B", "维生素C": the letter belongs to the word before it
    clause = left[left.rfind(",") + 1 :]
    dropped = "P" in clause[clause.rfind("B") + 1 :] or re.fullmatch(r"f*P,[^BWL]*", left) is not None
    if "I" in clause or dropped or _RIGHT_LURES.match(right):
        return []
    supposed = _supposes(left, "" if label else right)
    if "I" in left:
        left = clause  # the condition is over
    letters, kinds = group.letters, group.kinds
    start, end = group.mentions[0].start, group.mentions[-1].end

    def statement(
        strength: int, *, rejects: bool = False, undecided: bool = False, label: bool = False
    ) -> list[_Statement]:
        undecided = undecided or (group.either and not rejects)
        reason = next((_SPECIAL[kind] for kind in ("none", "unknown", "outside") if kind in kinds), "")
        if reason and (rejects or strength < _ALONE):
            return []
        by_text = kinds == {"text"}
        return [
            _Statement(start, end, letters, strength, rejects, undecided, reason, label, by_text, supposed=supposed)
        ]

    stated_right = None if names and not _IS_THE_ANSWER.match(right) else _RIGHT_STATED.match(right)
    if names and judged and "=" not in judged["link"]:
        judged = None
    if judged and judged["how"] != "E" and "=" not in judged["link"] and right[judged.end() : judged.end() + 1] == "w":
        judged = None
    judged_wrong = judged is not None and (judged["how"] != "+") != (judged["link"].count("N") % 2 == 1)
    stated_left = _LEFT_STATED.search(left)
    chosen = _LEFT_CHOSEN.search(left)
    wrong_is = _LEFT_WRONG_IS.search(left)

    if re.search(r"L,?[XN][fO(]*$", left) or (left.endswith("X") and not judged):
        return statement(_JUDGED, rejects=True)
    comma = len(group.joins) - 1 - group.joins[::-1].index(",") if "," in group.joins else None
    if comma is not None and (stated_right or judged) and _GOVERNS.search(left):
        # "The answer is A, B is wrong", "Unlike A and B, C is correct", "答案为C，A、B均错": what follows the comma is
        # the subject of a clause of its own; several letters ("The answers are A, B and C, correctly") if it rejects.
        split = comma + 1 if judged_wrong or comma == len(group.joins) - 1 else 0
    else:
        split = 0
    if split:
        head = _Group(group.mentions[:split], group.joins[: split - 1], group.either)
        own = _Group(group.mentions[split:], group.joins[split:])
        return _judge(left + "L.", len(left), head, before) + _judge(f".L{after}", 1, own, [])
    if stated_right:
        odd = (stated_right["link"].count("N") + (stated_right["how"] == "-")) % 2 == 1
        return [replace(found, subject=True) for found in statement(_STATED, rejects=odd)]
    if wrong_is:
        return statement(_JUDGED, rejects="A" in wrong_is["noun"] or len(letters) > 1)
    if not stated_left and _LEFT_TURNED.search(left):
        stated_left = _LEFT_TURNED.search(left)
    cue = stated_left or chosen
    subject = judged is not None and judged["link"].count("=") > 0 and "," not in judged["link"]
    if cue and (not judged or (cue is chosen and not subject) or re.search(r"[=:,OT]", cue.group()[1:])):
        negations = cue.group().count("N") + bool(cue is chosen and re.search(r"N[fH]{0,2}$", left[: cue.start()]))
        return statement(_STATED, rejects=negations % 2 == 1)
    if len(letters) > 1 and (_LEFT_EITHER.search(left) or right.startswith("R")):  # "between A and B", "A与B之间"
        return statement(_JUDGED, undecided=True)
    if kinds <= {"lower"} and not label and not (left.endswith("(") and right.startswith(")")):
        return statement(_ALONE) if not left.strip("O(") and not right.strip(")O,:") else []
    evidence = re.search(r"(?P<not>N[fH]?)?V[fHO:=(]*$", left)
    if evidence:
        return statement(_EVIDENCE, rejects=evidence["not"] is not None)
    if _LEFT_REJECTED.search(left) and not names:
        return statement(_JUDGED, rejects=True)
    if judged:
        # "so B is correct" concludes; "so the face is pale (B is correct)" only judges a clause of the explanation
        concludes = not judged_wrong and not right.startswith(")") and _LEFT_SO.search(left)
        strength = _STATED if concludes else _JUDGED
        return statement(strength, rejects=judged_wrong)
    marked = re.fullmatch(r"[,(]*([+-]),[O(]*", left)
    if marked:  # "❌ A"
        return statement(_JUDGED, rejects=marked[1] == "-")
    if _inherits(left, before):
        return statement(before[-1].strength)
    if _LEFT_SO.search(left) and _ENDS_HERE.match(right + ending):
        return statement(_STATED)
    if right + ending in (")", ").") and re.search(r"T[,f:=w]{1,5}\($", left):  # "hence anticoagulation (B)."
        return statement(_STATED)
    if label:
        verdict = _LABEL_VERDICT.search(right)
        if verdict:
            wrong = (verdict["how"] != "+") != (verdict["link"].count("N") % 2 == 1)
            return statement(_JUDGED, rejects=wrong)
        return statement(_ALONE, label=True)
    alone_left = _ONLY_FUNCTION.fullmatch(left) or ("w" not in left and _ONLY_FUNCTION.fullmatch(clause))
    alone_left = alone_left or re.fullmatch(r"w{1,3}:", left)  # "Q1: B"
    if "B" in left and "H" in right:
        alone_left = None  # "although C is possible"
    leads = kinds == {"letter"} and not left.strip("OTH(:,=") and right[:1] in ",:(f"  # "B, because ..."
    if leads or (alone_left and _ONLY_FUNCTION.fullmatch(right)):
        return statement(_ALONE)
    if "text" in kinds:
        fitting = _LEFT_FITS.search(left)
        if fitting:
            return statement(_JUDGED, rejects=fitting.group().count("N") % 2 == 1)
        return statement(_JUDGED if left.endswith(("=", ":")) else _NAMED)
    if kinds & {"letter"} and (
        (left.endswith("(") and right.startswith(")")) or left.endswith("O") or right.startswith("O")
    ):
        return statement(_NAMED)
    return []


_CONDITION = re.compile(r"I[^,L]*w[^,L]*,")


def _supposes(left: str, right: str) -> bool:
    """Whether a condition on the case precedes or follows a mention; "if I must choose, B" sets none."""
    before = _CONDITION.search(left)
    if before:
        return re.search(r"C[^w]*,$", before.group()) is None
    return re.search(r".I[^C]*w[^C]*$", right) is not None


_SPECIAL = {"none": "none_of_the_options", "unknown": "undecided", "outside": "outside_options"}
_LABEL_VERDICT = re.compile(r"(?:(?<!O)[=:,.(][fH]*|^[fH]*)(?P<link>[=fHN,]*)(?P<how>[+\-E]|N(?=[.,:]|$))(?!w)")


def _inherits(left: str, before: list[_Statement]) -> bool:
    """ "The answer is not A but C": C is stated as A was, the other way round."""
    return bool(before) and before[-1].rejects and re.search(r"L,?(?:B|B[f=]{1,3})$", left) is not None


# At the start of a clause: "actually" and 纠正 in the middle of one correct nothing that was said.
CORRECTION = re.compile(
    r"(?:^|[.!?,;…—:)\n。，！？；] *|\b(?:but|no|oh|hmm|and) )(?:wait|actually|correction|scratch that"
    r"|on second thoughts?|oops|i made a mistake|let me (?:re\w+|correct))\b"
    r"|(?<![一-鿿])(?:更正|纠正|修正|等等|等一下|(?:我?说|写|选)错了|"
    r"再想想|重新(?:考虑|分析)|不对)"
    r"[，,：:。！… ]"
    r"|(?:…|\.\.+|[,;.?—–-]) *(?:no+|nope)[,.:;—–-]+ *(?=(?:it's |it is |the answer is |rather )?\(?[A-J]\b)"
    r"|[？?。，,]不[，,。]\s*(?:应该?|而?是|[A-J])",
    re.IGNORECASE,
)
_CORRECTED_WITHIN = 160  # characters after the marker in which a weaker statement takes back a stated answer


_REFUSAL = re.compile(
    r"\bi(?:'m| am) (?:sorry|unable|not able)\b|\bi (?:cannot|can't|can not|won't) (?!decide|tell|be)|\bas an ai\b"
    r"|抱歉|对不起|(?:无法|不能)(?:提供|回答|给出)",
    re.IGNORECASE,
)


# How a base model goes on after its answer: with a question of its own, or another turn.
_NEXT_ITEM = re.compile(
    r"^[ \t#*>-]*(?:(?:Question|Q|Problem|题目|问题|例题)[ \t]*\d*[ \t]*[:：]"
    r"|(?:Human|User|用户|Instruction)[ \t]*[:：]"
    r"|<\|(?:im_start|start_header_id)\|>[ \t]*user)",
    re.MULTILINE | re.IGNORECASE,
)


def _of_this_item(clean: str, statements: list[_Statement], letters: tuple[str, ...]) -> list[_Statement]:
    """The statements before the output moves on to another item, where an answer had been given by then."""
    at, stated, labels = 0, False, set[str]()
    for moves_on in _NEXT_ITEM.finditer(clean, statements[0].end if statements else len(clean)):
        while at < len(statements) and statements[at].start < moves_on.start():
            if statements[at].label:
                labels.update(statements[at].letters)
            elif statements[at].strength >= _ALONE and not statements[at].rejects:
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


def _decide(clean: str, statements: list[_Statement], letters: tuple[str, ...], multiple: bool) -> Extraction:
    statements = _of_this_item(clean, statements, letters)
    repeated = False
    if not multiple:
        # "A, B, C or D" named together are the options over again, not an answer
        kept = [s for s in statements if s.strength != _ALONE or len(s.letters) < max(3, len(letters))]
        repeated, statements = len(kept) < len(statements), kept
        listed = _listed(clean, letters)
        kept = [s for s in statements if s.strength != _ALONE or s.start not in listed]
        repeated, statements = repeated or len(kept) < len(statements), kept
    labels = {letter for statement in statements if statement.label for letter in statement.letters}
    if len(labels) > 1 and len(labels) == len(letters):
        repeated = True
        statements = [statement for statement in statements if not statement.label]
    actual = [statement for statement in statements if not statement.supposed]
    if any(s.strength >= _ALONE and not s.rejects and not s.undecided for s in actual):
        statements = actual
    positive = [statement for statement in statements if not statement.rejects]
    if not positive:
        return Extraction("abstain", reason=_why_none(clean, statements, repeated))
    picked = _strongest(positive)
    correction = CORRECTION.search(clean, picked[-1].end)
    if correction:
        later = [statement for statement in statements if statement.start >= correction.start()]
        reach = correction.end() + _CORRECTED_WITHIN
        revised = [s for s in later if not s.rejects and s.strength >= _JUDGED and s.start < reach]
        if revised:
            picked = _strongest(revised)
        elif any(statement.rejects and set(statement.letters) & set(picked[-1].letters) for statement in later):
            return Extraction("abstain", reason="only_rejections")
    return _settle(clean, _narrowed(picked, statements, multiple), statements, multiple)


def _narrowed(picked: list[_Statement], statements: list[_Statement], multiple: bool) -> list[_Statement]:
    """ "It is B or D. Of these, D fits better": what is said later of one of several options decides between them."""
    several = next((s for s in reversed(picked) if len(s.letters) > 1), None)
    if multiple or several is None or (picked[-1].strength == _STATED and several is not picked[-1]):
        return picked
    later = [s for s in statements if s.start >= several.end and s.strength >= _EVIDENCE and len(s.letters) == 1]
    fitting = [s for s in later if not s.rejects and not s.undecided and s.letters[0] in several.letters]
    return fitting if len({s.letters for s in fitting}) == 1 else picked


def _strongest(statements: list[_Statement]) -> list[_Statement]:
    best = max(statement.strength for statement in statements)
    return [statement for statement in statements if statement.strength == best]


def _settle(clean: str, picked: list[_Statement], statements: list[_Statement], multiple: bool) -> Extraction:
    strength, last = picked[-1].strength, picked[-1]
    if strength == _STATED:
        deciding = [s for s in picked if s.subject] if multiple and last.subject else [last]
    elif strength == _ALONE:
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
        if strength <= _EVIDENCE:
            deciding = [s for s in deciding if not set(s.letters) & rejected]
    if not deciding:
        return Extraction("abstain", reason="only_rejections")
    span = (deciding[0].start, deciding[-1].end)
    found = tuple(sorted({letter for statement in deciding if not statement.reason for letter in statement.letters}))
    if last.reason and all(statement.reason for statement in deciding):
        return Extraction("abstain", span=span, reason=last.reason)
    if any(statement.undecided for statement in deciding) or (len(found) > 1 and not multiple):
        if strength == _NAMED:
            return Extraction("abstain", reason="no_answer_found")
        return Extraction("ambiguous", span=span, reason="several_answers")
    if strength == _NAMED and len(found) > 1:
        return Extraction("abstain", reason="no_answer_found")
    return Extraction("answer", found, span)


def _why_none(clean: str, statements: list[_Statement], repeated: bool) -> str:
    if _REFUSAL.search(clean):
        return "refused"
    if UNKNOWN.search(clean):
        return "undecided"
    if NONE.search(clean):
        return "none_of_the_options"
    if statements:
        return "only_rejections"
    return "options_repeated" if repeated else "no_answer_found"
