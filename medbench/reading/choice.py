"""Which option, or with `multiple` which set of options, an output states as its answer.

Structure before sentences. The text is cleaned, what runs on into another item is cut off, and the slots are looked
for, strongest first: the form that the prompt asked for, a declared answer, a leading one. What stands in a rationale
never outranks a slot; only an explicit revision after it ("wait", 更正) does. Where no slot decides, the sentences are
read: a conclusion in prose, then options judged one by one. Where no single answer (or set) is stated, the result is
``abstain`` or ``ambiguous`` with a reason; it is never a guess. `docs/reading.md` has the table with examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from medbench.errors import MedbenchError, unknown
from medbench.reading.clean import clean_text
from medbench.reading.decide import CORRECTION
from medbench.reading.engine import SentenceEngine, sentence_engine
from medbench.reading.extraction import Extraction
from medbench.reading.runon import cut_run_on
from medbench.reading.sentences import Sentences
from medbench.reading.slots.declared import DeclaredSlots, declared_slots
from medbench.reading.slots.leading import find_leading, more_labels
from medbench.reading.slots.slot import Slot

# The form that a prompt asks for: an answer line at the end or at the start, the letter and nothing else, or JSON.
Form = Literal["line_last", "line_first", "letter", "json"]
FORMS = ("line_last", "line_first", "letter", "json")


@dataclass(frozen=True)
class Step:
    """One thing that was found while reading, for `medbench explain`.

    Attributes:
        what: the stage: ``run-on``, a slot's name, ``revision`` or ``sentences``.
        rule: the rule's name.
        start: of the characters it stands for.
        end: of them.
        letters: what they state.
        decided: whether the result came from it.
    """

    what: str
    rule: str
    start: int
    end: int
    letters: tuple[str, ...] = ()
    decided: bool = False


def extract_choice(
    text: str,
    letters: str | Sequence[str] = "ABCD",
    *,
    choices: Sequence[str] | Mapping[str, str] | None = None,
    multiple: bool = False,
    question: str | None = None,
    form: Form | None = None,
    truncated: bool = False,
) -> Extraction:
    """The option, or with `multiple` the set of options, that `text` states as its answer.

    Args:
        text: the output, or one view of it.
        letters: the options' letters (or digits), in order; given in lower case, they are returned so.
        choices: the options' texts in the same order (or by letter); a text may be stated instead of its letter.
        multiple: the item can have several correct letters; without it, stating several is ``ambiguous``.
        question: the item's stem. Where it asks which option is *not* so, the option judged wrong is the answer.
        form: the form that the prompt asked for, one of `FORMS`.
        truncated: the output ended at the token limit, so that its last letter may be the start of a word.

    Raises:
        MedbenchError: there are no letters, more `choices` than `letters`, or an unknown `form`.
    """
    return read_choice(
        text, letters, choices=choices, multiple=multiple, question=question, form=form, truncated=truncated
    )[0]


def read_choice(
    text: str,
    letters: str | Sequence[str] = "ABCD",
    *,
    choices: Sequence[str] | Mapping[str, str] | None = None,
    multiple: bool = False,
    question: str | None = None,
    form: Form | None = None,
    truncated: bool = False,
    engines: Engines | None = None,
) -> tuple[Extraction, list[Step]]:
    """As `extract_choice`, with the steps that led there, and by other rules than those that ship if `engines`."""
    given = tuple(letters)
    upper = tuple(letter.upper() for letter in given)
    if not upper:
        raise MedbenchError('letters is empty: name the options, e.g. letters="ABCD".')
    if form is not None and form not in FORMS:
        raise unknown("form", form, FORMS)
    texts = _option_texts(given, choices)
    clean = _without_stub(clean_text(text)) if truncated else clean_text(text)
    if not clean.strip():
        return Extraction("abstain", reason="no_response"), []
    result, steps = _Reader(clean, upper, texts, multiple, question, form, engines or shipped()).read()
    if given != upper:
        result = replace(result, letters=tuple(sorted(given[upper.index(letter)] for letter in result.letters)))
    return result, steps


def _option_texts(letters: tuple[str, ...], choices: Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    """The options' texts by letter in upper case; an option without a text is left out."""
    if choices is None:
        return {}
    if isinstance(choices, Mapping):
        choices = [choices.get(letter) for letter in letters]  # type: ignore[misc]
    if len(choices) > len(letters):
        raise MedbenchError(
            f"{len(choices)} option texts for {len(letters)} letters ({''.join(letters)}): give one letter for each."
        )
    pairs = zip(letters, choices, strict=False)
    return {letter.upper(): str(text) for letter, text in pairs if text is not None}


_ODD_STEM = re.compile(
    r"\b(?:not|except|least|false|incorrect|untrue|wrong|never|exception)\b"
    r"|不(?:包括|属于|正确|符合|是|恰当|宜|应|会|能)|错误|除外|除了|例外|无关",
    re.IGNORECASE,
)


def asks_for_the_odd_one(question: str | None) -> bool:
    """Whether a stem asks which option is not so ("which is NOT", "least likely", 错误的是)."""
    if not question:
        return False
    # its last sentence asks; a vignette before it may say "not" of anything
    asked = [part for part in re.split(r"(?<=[.!?。！？])\s+|\n", question.strip()) if part.strip()]
    return _ODD_STEM.search(asked[-1] if asked else question) is not None


_STUB = re.compile(r"(?<=\s)\(?[A-Za-z]\s*$")


def _without_stub(clean: str) -> str:
    """A letter on which a cut-off output ends may be the first of a word, unless it is all there is of its line."""
    stub = _STUB.search(clean)
    if stub is None or not clean[: stub.start()].strip() or clean[: stub.start()].rstrip(" ")[-1:] in ":：\n":
        return clean
    return clean[: stub.start()]


@dataclass(frozen=True)
class Engines:
    """The compiled rules that an output is read by; `medbench.reading.check` takes one away at a time.

    Without `sentences` only slots are read.
    """

    slots: DeclaredSlots
    sentences: SentenceEngine | None


@cache
def shipped() -> Engines:
    """The rules that ship with medbench."""
    return Engines(declared_slots(), sentence_engine())


class _Reader:
    """One output, read stage by stage."""

    def __init__(
        self,
        clean: str,
        letters: tuple[str, ...],
        texts: dict[str, str],
        multiple: bool,
        question: str | None,
        form: str | None,
        engines: Engines,
    ) -> None:
        self.clean, self.letters, self.texts, self.multiple = clean, letters, texts, multiple
        self.question, self.form, self.engines = question, form, engines
        self.steps: list[Step] = []

    def read(self) -> tuple[Extraction, list[Step]]:
        slots = self.engines.slots.find(self.clean, self.letters, self.texts)
        leading = find_leading(self.clean, self.letters, self.texts, self.multiple)
        slots = self._before_run_on(slots, leading)
        for slot in [*([leading] if leading else []), *slots]:
            self.steps.append(Step(slot.slot, slot.rule, slot.start, slot.end, tuple(sorted(slot.letters))))
        chosen = self._strongest(slots, leading)
        if chosen is not None and chosen.either and len(chosen.letters) > 2 and not self.multiple:
            span = (chosen.start, chosen.end)
            return Extraction("ambiguous", (), span, "several_answers", chosen.rule, chosen.slot), self.steps
        single = chosen is not None and len(chosen.letters) == 1
        if chosen is not None and (single or (self.multiple and not chosen.either)) and not self._revised(chosen):
            return self._decided(chosen)
        return self._sentences()

    def _before_run_on(self, slots: list[Slot], leading: Slot | None) -> list[Slot]:
        """Cuts the text where it goes on to another item after its first answer; the slots of what is kept."""
        firsts = [slot.end for slot in (*slots, *([leading] if leading else ()))]
        if not firsts:
            return slots
        end = cut_run_on(self.clean, min(firsts), self.texts)
        if end < len(self.clean):
            self.steps.append(Step("run-on", "next_item", end, len(self.clean)))
            self.clean = self.clean[:end]
        return [slot for slot in slots if slot.start < end]

    def _strongest(self, slots: list[Slot], leading: Slot | None) -> Slot | None:
        """By precedence: the asked form, then a declared answer (the last), then the leading one."""
        records = [slot for slot in slots if slot.slot == "record"]
        if self.form in ("line_first", "letter") and (leading or slots):
            firsts = sorted([*slots, *([leading] if leading else [])], key=lambda slot: slot.start)
            if self._line_start(firsts[0]):
                return None if self.multiple and self._adds_up(firsts[:1]) else firsts[0]
        finals = [slot for slot in slots if slot.slot == "final"]
        # a record's other fields may say "the answer is" as well; what follows the record is said after it
        if records and not any(self._after(records[-1], slot) for slot in finals):
            finals = records
        if not finals and (not self.multiple or asks_for_the_odd_one(self.question)):
            finals = [slot for slot in slots if slot.slot == "odd"]
        if finals:
            return None if self.multiple and self._adds_up(finals) else finals[-1]
        if leading:
            return leading
        conclusions = [slot for slot in slots if slot.slot == "conclusion"]
        return conclusions[-1] if len({slot.letters for slot in conclusions}) == 1 else None

    def _after(self, record: Slot, slot: Slot) -> bool:
        return slot.start > record.end and re.search(r"\}|</", self.clean[record.end : slot.start]) is not None

    def _adds_up(self, finals: list[Slot]) -> bool:
        """Whether several slots, or labels that follow one, make up the set together, which the sentences tell."""
        last = finals[-1]
        more = len(last.letters) == 1 and more_labels(self.clean, last.end, last.letters[0], self.letters, True)
        return more or len({slot.letters for slot in finals}) > 1

    def _line_start(self, slot: Slot) -> bool:
        """Whether nothing but the words of its own line stands before a slot."""
        return "\n" not in self.clean[: slot.start].strip() and slot.start < 40

    def _revised(self, slot: Slot) -> bool:
        """Whether an explicit revision follows a slot; then the sentences decide."""
        marker = CORRECTION.search(self.clean, slot.end)
        if marker is None:
            return False
        self.steps.append(Step("revision", "correction_marker", marker.start(), marker.end()))
        return True

    def _decided(self, slot: Slot) -> tuple[Extraction, list[Step]]:
        letters = tuple(sorted(slot.letters))
        self.steps = [
            replace(step, decided=True) if (step.start, step.rule) == (slot.start, slot.rule) else step
            for step in self.steps
        ]
        return Extraction("answer", letters, (slot.start, slot.end), rule=slot.rule, slot=slot.slot), self.steps

    def _sentences(self) -> tuple[Extraction, list[Step]]:
        if self.engines.sentences is None:
            return Extraction("abstain", reason="no_answer_found"), self.steps
        result = Sentences(self.engines.sentences, self.clean, self.letters, self.texts, self.multiple).read(
            odd=asks_for_the_odd_one(self.question)
        )
        if result.span:
            self.steps.append(Step("sentences", result.rule, *result.span, result.letters, decided=True))
        return result, self.steps
