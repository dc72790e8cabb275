"""What a sentence does with the options it mentions: the named rules, applied within their scope.

The rules (`rules/sentences.yaml`) say what words do; this module says how far they reach: which clause a condition or a
past thought covers, which of several coordinated options a verdict belongs to, and when a label stands for its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from medbench.reading.engine import Fit, SentenceEngine
from medbench.reading.statements import ALONE, EVIDENCE, JUDGED, NAMED, STATED, Group, Statement
from medbench.reading.tokens import CODES, compile_pattern

WINDOW = 48  # words looked at on either side of a mention: longer than any statement, and what keeps time linear

_IF, _LURE, _WORD, _BE, _BUT, _MAYBE, _FUNCTION = (
    CODES[n] for n in ("IF", "LURE", "WORD", "BE", "BUT", "MAYBE", "FUNCTION")
)
_OPEN, _CLOSE, _COMMA, _OPTION, _EXCEPT = (CODES[n] for n in ("OPEN", "CLOSE", "COMMA", "OPTION", "EXCEPT"))
_SPECIAL = {"none": "none_of_the_options", "unknown": "undecided", "outside": "outside_options"}

# "If she had a fever, B": the clause of a condition on the case, up to its comma.
_CONDITION = compile_pattern("[IF] [^COMMA|MENTION]* [WORD] [^COMMA|MENTION]* [COMMA]")
_CONDITION_AFTER = compile_pattern(". [IF] [^CHOOSE]* [WORD] [^CHOOSE]* $")
_CHOICE_FORCED = compile_pattern("[CHOOSE] [^WORD]* [COMMA] $")  # "if I must choose, B" sets no condition
_PAST_THOUGHT = compile_pattern("[FUNCTION]* [LURE] [COMMA] [^BUT|WAIT|MENTION]*")  # "at first, ... B"
_ASIDE = compile_pattern("[COMMA]? [EXCEPT|NOT] [FUNCTION|OPTION|OPEN]* [MENTION] [CLOSE|COMMA]?")  # "C, not B, is"
# "The answer is A, B is wrong": what stands before A speaks of it and not of B.
_GOVERNS = compile_pattern(
    "(?:[ANSWER] [FUNCTION|MAYBE|NOT|OPTION]{0,6} [BE|COLON] | [CHOOSE|EXCEPT|OR])"
    "[FUNCTION|MAYBE|OPTION|COLON|BE|OPEN]* $"
)
# "Hepatitis B is the answer": a letter that belongs to a name may still be what the sentence is about.
_IS_SUBJECT = compile_pattern(
    "[OPTION]? [FUNCTION|MAYBE]* [BE] [BE|FUNCTION]* [RIGHT]? [FUNCTION|OTHER]? [ANSWER|OPTION]"
)
_LINKS_ON = compile_pattern("[BE|COLON|COMMA|OPTION|SO]")  # "the answer: B is correct" names B before it judges it
_NEGATED = compile_pattern("[NOT] [FUNCTION|MAYBE]{0,2} $")  # "I would not choose B"
# "Therefore B." concludes; "therefore B cells multiply" goes on.
_ENDS_HERE = compile_pattern("[OPTION|CLOSE]{0,2} [CLOSE]? (?:$|[STOP|COMMA|ASK|BUT|OPEN|COLON|SO])")
# "So it is B then": no word around the option says anything else.
ONLY_FUNCTION = compile_pattern(
    "[FUNCTION|BE|MAYBE|COLON|COMMA|OPEN|CLOSE|OPTION|AND|SO|OR|CHOOSE|RIGHT|ANSWER|WAIT|MENTION|BUT]*"
)
_SO_BRACKET = compile_pattern("[SO] [COMMA|FUNCTION|COLON|BE|WORD]{1,5} [OPEN] $")  # "hence anticoagulation (B)."
_HEADED = compile_pattern("[WORD]{1,3} [COLON]")  # "Q1: B"
_MARKED = compile_pattern("[COMMA|OPEN]* ([RIGHT|WRONG]) [COMMA] [OPTION|OPEN]*")  # "❌ A"
_TAKES_OVER = compile_pattern("[MENTION] [COMMA]? (?:[BUT] | [BUT] [FUNCTION|BE]{1,3}) $")  # "not A but C"


@dataclass(frozen=True)
class Place:
    """One group of mentions in its sentence.

    Attributes:
        group: the mentions.
        left: codes before it, from where its sentence begins.
        clause: the end of `left`, from the last comma.
        right: codes after it, up to the next option or the end of the sentence (of the line, after a label).
        after: codes after it, further options included.
        ending: the code at which `right` ends.
        supposed: a condition on the case covers it.
        before: what the sentence has said so far.
    """

    group: Group
    left: str
    clause: str
    right: str
    after: str
    ending: str
    supposed: bool
    before: list[Statement] = field(default_factory=list)

    @property
    def label(self) -> bool:
        """Whether it opens a line as a label ("B.")."""
        return self.group.mentions[0].label

    @property
    def named(self) -> bool:
        """Whether the letter belongs to the word before it: "hepatitis B", "维生素C"."""
        return self.left.endswith(_WORD)

    @property
    def bracketed(self) -> bool:
        """Whether it stands in brackets by itself."""
        return self.left.endswith(_OPEN) and self.right.startswith(_CLOSE)

    def state(
        self, strength: int, rule: str, *, rejects: bool = False, undecided: bool = False, label: bool = False
    ) -> list[Statement]:
        """The statement of this strength; none where "none of them" and the like are rejected or only named."""
        kinds = self.group.kinds
        reason = next((_SPECIAL[kind] for kind in ("none", "unknown", "outside") if kind in kinds), "")
        if reason and (rejects or strength < ALONE):
            return []
        return [
            Statement(
                self.group.mentions[0].start,
                self.group.mentions[-1].end,
                self.group.letters,
                strength,
                rejects,
                undecided or (self.group.either and not rejects),
                reason,
                label,
                text=kinds == {"text"},
                supposed=self.supposed,
                rule=rule,
            )
        ]


class Judge:
    """Applies the rules to one group of mentions after another."""

    def __init__(self, engine: SentenceEngine) -> None:
        self.engine = engine

    def judge(self, codes: str, place: int, group: Group, before: list[Statement]) -> list[Statement]:
        """What the sentence does with one group; nothing where it only uses its letters, supposes or recalls it."""
        stop = max(codes.rfind(mark, max(0, place - WINDOW), place) for mark in ".?") + 1
        left = codes[max(stop, place - WINDOW) : place]
        after = codes[place + 1 : place + 1 + WINDOW]
        aside = _ASIDE.match(after)
        label = group.mentions[0].label
        right = after if label else re.split(r"[.L]", after[aside.end() if aside else 0 :], maxsplit=1)[0]
        ending = after[len(right) : len(right) + 1]
        if self.engine.fit("judges", left, right) and left.endswith(_OPEN) != right.startswith(_CLOSE):
            left = _OPEN  # "the first choice (C is wrong)": the verdict in the brackets is all there is
        clause = left[left.rfind(_COMMA) + 1 :]
        dropped = _LURE in clause[clause.rfind(_BUT) + 1 :] or _PAST_THOUGHT.fullmatch(left)
        if _IF in clause or dropped or self.engine.fit("lures", left, right):
            return []
        supposed = supposes(left, "" if label else right)
        if _IF in left:
            left = clause  # the condition is over
        return self._judge(Place(group, left, clause, right, after, ending, supposed, before))

    def _judge(self, place: Place) -> list[Statement]:
        """The first kind of statement that fits."""
        judged = self._verdict(place)
        for found in (
            self._excluded(place, judged),
            self._split(place, judged),
            self._is_answer(place),
            self._odd_one(place),
            self._chosen(place, judged),
            self._weighed(place),
            self._lower_case(place),
            self._supported(place),
            self._rejected(place),
            self._judged(place, judged),
            self._concluded(place),
            self._labelled(place),
            self._alone(place),
        ):
            if found is not None:
                return found
        return self._named(place)

    def _verdict(self, place: Place) -> Fit | None:
        """A verdict that follows ("B is correct"), where it is on the option and not on a word after it."""
        fit = self.engine.fit("judges", place.left, place.right)
        if fit is None or fit.right is None:
            return None
        linked = _BE in fit.link
        if place.named and not linked:
            return None
        followed = place.right[fit.right.end() : fit.right.end() + 1] == _WORD
        if fit.rule.name != "judged_excluded" and not linked and followed:
            return None
        return fit

    def _excluded(self, place: Place, judged: Fit | None) -> list[Statement] | None:
        fit = self.engine.fit("excludes", place.left, "")
        if fit or (place.left.endswith(_EXCEPT) and not judged):
            return place.state(JUDGED, fit.rule.name if fit else "excludes_option", rejects=True)
        return None

    def _split(self, place: Place, judged: Fit | None) -> list[Statement] | None:
        """ "The answer is A, B is wrong", "Unlike A and B, C is correct", "答案为C，A、B均错".

        What follows the comma is the subject of a clause of its own; several letters ("The answers are A, B and C,
        correctly") only if it rejects them.
        """
        group = place.group
        comma = len(group.joins) - 1 - group.joins[::-1].index(",") if "," in group.joins else None
        if comma is None or not (judged or self._subject(place)) or not _GOVERNS.search(place.left):
            return None
        if not ((judged and judged.rejects) or comma == len(group.joins) - 1):
            return None
        head = Group(group.mentions[: comma + 1], group.joins[:comma], group.either)
        own = Group(group.mentions[comma + 1 :], group.joins[comma + 1 :])
        first = self.judge(place.left + "L.", len(place.left), head, place.before)
        return first + self.judge(f".L{place.after}", 1, own, [])

    def _subject(self, place: Place) -> Fit | None:
        if place.named and not _IS_SUBJECT.match(place.right):
            return None
        return self.engine.fit("is_answer", place.left, place.right)

    def _is_answer(self, place: Place) -> list[Statement] | None:
        fit = self._subject(place)
        if fit is None:
            return None
        return [replace(one, subject=True) for one in place.state(STATED, fit.rule.name, rejects=fit.rejects)]

    def _odd_one(self, place: Place) -> list[Statement] | None:
        fit = self.engine.fit("odd_one", place.left, "")
        if fit is None:
            return None
        return place.state(JUDGED, fit.rule.name, rejects=fit.rule.sign == "-" or len(place.group.letters) > 1)

    def _chosen(self, place: Place, judged: Fit | None) -> list[Statement] | None:
        """Named as the answer, or chosen, by what stands before it; unless a verdict of its own follows."""
        answers = self.engine.fit("answers", place.left, "") or self.engine.fit("turns_to", place.left, "")
        chooses = None if answers else self.engine.fit("chooses", place.left, "")
        cue = answers or chooses
        if cue is None:
            return None
        if chooses and judged and judged.rejects and judged.link and set(judged.link) <= {_FUNCTION}:
            return None  # "textbooks mark B as wrong"
        subject = judged is not None and _BE in judged.link and _COMMA not in judged.link
        if judged and not (chooses and not subject) and not _LINKS_ON.search(cue.left[1:]):
            return None
        rejects = cue.rejects
        if chooses and _NEGATED.search(place.left[: len(place.left) - len(cue.left)]):
            rejects = not rejects
        return place.state(STATED, cue.rule.name, rejects=rejects)

    def _weighed(self, place: Place) -> list[Statement] | None:
        """ "Between A and B", "A与B之间"."""
        if len(place.group.letters) < 2:
            return None
        fit = self.engine.fit("weighs", place.left, place.right)
        return place.state(JUDGED, fit.rule.name, undecided=True) if fit else None

    def _lower_case(self, place: Place) -> list[Statement] | None:
        """A letter in lower case counts by itself only."""
        if not place.group.kinds <= {"lower"} or place.label or place.bracketed:
            return None
        if not place.left.strip("O(") and not place.right.strip(")O,:"):
            return place.state(ALONE, "letter_alone")
        return []

    def _supported(self, place: Place) -> list[Statement] | None:
        fit = self.engine.fit("supports", place.left, "")
        return place.state(EVIDENCE, fit.rule.name, rejects=fit.rejects) if fit else None

    def _rejected(self, place: Place) -> list[Statement] | None:
        fit = self.engine.fit("rejects", place.left, "")
        return place.state(JUDGED, fit.rule.name, rejects=True) if fit and not place.named else None

    def _judged(self, place: Place, judged: Fit | None) -> list[Statement] | None:
        if judged:
            # "so B is correct" concludes; "so the face is pale (B is correct)" only judges a clause of the explanation
            so = self.engine.fit("concludes", place.left, "")
            concludes = so is not None and not judged.rejects and not place.right.startswith(_CLOSE)
            return place.state(STATED if concludes else JUDGED, judged.rule.name, rejects=judged.rejects)
        marked = _MARKED.fullmatch(place.left)
        if marked:
            return place.state(JUDGED, "verdict_mark_before", rejects=marked[1] == CODES["WRONG"])
        if takes_over(place.left, place.before):
            return place.state(place.before[-1].strength, "not_that_but_this")
        return None

    def _concluded(self, place: Place) -> list[Statement] | None:
        fit = self.engine.fit("concludes", place.left, "")
        if fit and _ENDS_HERE.match(place.right + place.ending):
            return place.state(STATED, fit.rule.name)
        if place.right + place.ending in (")", ").") and _SO_BRACKET.search(place.left):
            return place.state(STATED, "so_option")
        return None

    def _labelled(self, place: Place) -> list[Statement] | None:
        if not place.label:
            return None
        fit = self.engine.fit("label_judges", "", place.right, anywhere=True)
        if fit:
            return place.state(JUDGED, fit.rule.name, rejects=fit.rejects)
        return place.state(ALONE, "label_alone", label=True)

    def _alone(self, place: Place) -> list[Statement] | None:
        """By itself among function words, or leading its sentence ("B, because ...")."""
        left, clause, right = place.left, place.clause, place.right
        alone = ONLY_FUNCTION.fullmatch(left) or (_WORD not in left and ONLY_FUNCTION.fullmatch(clause))
        alone = alone or _HEADED.fullmatch(left)
        if _BUT in left and _MAYBE in right:
            alone = None  # "although C is possible"
        leads = place.group.kinds == {"letter"} and not left.strip("OTH(:,=") and right[:1] in ",:(f"
        if leads or (alone and ONLY_FUNCTION.fullmatch(right)):
            return place.state(ALONE, "option_alone")
        return None

    def _named(self, place: Place) -> list[Statement]:
        kinds, left, right = place.group.kinds, place.left, place.right
        if "text" in kinds:
            fit = self.engine.fit("fits", left, "")
            if fit:
                return place.state(JUDGED, fit.rule.name, rejects=fit.rejects)
            return place.state(JUDGED if left.endswith((_BE, ":")) else NAMED, "option_text")
        if "letter" in kinds and (place.bracketed or left.endswith(_OPTION) or right.startswith(_OPTION)):
            return place.state(NAMED, "option_named")
        return []


def supposes(left: str, right: str) -> bool:
    """Whether a condition on the case precedes or follows a mention; "if I must choose, B" sets none."""
    before = _CONDITION.search(left)
    if before:
        return _CHOICE_FORCED.search(before.group()) is None
    return _CONDITION_AFTER.search(right) is not None


def takes_over(left: str, before: list[Statement]) -> bool:
    """ "The answer is not A but C": C is stated as A was, the other way round."""
    return bool(before) and before[-1].rejects and _TAKES_OVER.search(left) is not None
