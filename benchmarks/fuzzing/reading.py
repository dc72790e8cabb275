"""Reading fuzzed: traces, choices, decisions, quantities, other harnesses' rules, refusals, judges' verdicts."""

from __future__ import annotations

import random
from collections import Counter

from fuzzing import texts
from fuzzing.case import Case, Surface, require


def surfaces() -> list[Surface]:
    """The surfaces of this module."""
    return [
        Surface("trace", 110_000, _text, _trace, least=300),
        Surface("choice", 40_000, _choice_case, _choice, least=300),
        Surface("decision", 50_000, _text, _decision, least=300),
        Surface("number", 440_000, _text, _number, least=300),
        Surface("extractors", 60_000, _text, _extractors, least=300),
        Surface("refusal", 30_000, _refusal_case, _refusal, least=300),
    ]


def _text(rng: random.Random) -> Case:
    kind = rng.choice(("number", "date", "weeks_days"))
    return {"text": texts.text(rng), "flag": rng.random() < 0.3, "kind": kind, "deep": rng.random() < 0.1}


def _within(inner: str, outer: str) -> bool:
    """Whether the characters of `inner` stand in `outer` in this order."""
    rest = iter(outer)
    return all(character in rest for character in inner)


def _trace(case: Case) -> None:
    from medbench import thinking

    text, prefilled = case["text"], case["flag"]
    views = thinking.views(text, prefilled=prefilled)
    thought = thinking.split(text, prefilled=prefilled)
    require(tuple(views) == thinking.VIEWS, "the views are not the five that there are")
    require(views["raw"] == text, "raw is not the text")
    require((views["answer"], views["trace"]) == (thought.answer, thought.trace), "split and views disagree")
    require(thought.status in ("absent", "closed", "unterminated", "orphan_close"), f"status {thought.status!r}")
    require(len(thought.trace) + len(thought.answer) <= len(text), "more is read than was written")
    require(thought.status != "unterminated" or not thought.answer, "an answer after a trace that never ends")
    require(thought.status != "absent" or (thought.answer == text and not thought.trace), "absent, and yet a trace")
    if case["deep"]:  # character by character, which takes longer than the reading itself
        for name in ("lenient", "answer", "trace"):
            require(_within(views[name], text), f"{name} holds what the text does not")
        require(_within(views["untagged"].replace("\n", ""), text.replace("\n", "")), "untagged invents characters")
        apart = Counter(thought.trace) + Counter(thought.answer)
        require(not apart - Counter(text), "a character is both trace and answer")
        require(views == thinking.views(text, prefilled=prefilled), "read twice, read otherwise")
        share = thinking.statistics(text, prefilled=prefilled).share
        require(0 <= share <= 1, f"share {share}")
        thinking.mentions(text, prefilled=prefilled)


_OPTIONS = (
    ["aspirin", "heparin", "warfarin", "none of the above", "C. difficile"],
    ["阿司匹林", "肝素", "以上都不对", "维生素B12", "A和B"],
    ["A", "B", "C", "D", "E"],
    ["", " ", ".", "yes", "no"],
)
_QUESTIONS = (None, "Which is NOT so?", "Which drug is best?", "下列哪项是错误的", "")


def _choice_case(rng: random.Random) -> Case:
    letters = rng.choice(("ABCD", "ABCDE", "AB", "abcd", "1234", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A"))
    options = list(rng.choice(_OPTIONS))[: len(letters)]
    if rng.random() < 0.2:
        options = [texts.word(rng) for _ in options]
    return {
        "text": texts.text(rng),
        "letters": letters,
        "choices": None if rng.random() < 0.4 else options,
        "multiple": rng.random() < 0.3,
        "question": rng.choice(_QUESTIONS) if rng.random() < 0.9 else texts.text(rng, 300),
        "form": rng.choice((None, None, "line_last", "line_first", "letter", "json")),
        "truncated": rng.random() < 0.2,
        "deep": rng.random() < 0.1,
    }


def _choice(case: Case) -> None:
    from medbench.reading.choice import read_choice

    options = {name: case[name] for name in ("choices", "multiple", "question", "form", "truncated")}
    text, letters = case["text"], case["letters"]
    found, steps = read_choice(text, letters, **options)
    _extraction(found, text, set(letters))
    require(case["multiple"] or len(found.letters) <= 1, f"several letters where one is asked for: {found.letters}")
    for step in steps:
        require(0 <= step.start <= step.end <= len(text), f"step {step.rule} lies outside of the text")
    if case["deep"]:
        require((found, steps) == read_choice(text, letters, **options), "read twice, read otherwise")


def _extraction(found: object, text: str, allowed: set[str]) -> None:
    from medbench.reading.extraction import Extraction

    assert isinstance(found, Extraction)
    require(found.status in ("answer", "abstain", "ambiguous"), f"status {found.status!r}")
    require(set(found.letters) <= allowed, f"letters {found.letters} are no options")
    require(list(found.letters) == sorted(set(found.letters)), f"letters {found.letters} are not sorted")
    require(bool(found.letters) == (found.status == "answer"), f"{found.status} with letters {found.letters}")
    require(found.status == "answer" or found.reason, f"{found.status} without a reason")
    if found.span is not None:
        require(0 <= found.span[0] <= found.span[1] <= len(text), f"span {found.span} of {len(text)} characters")


def _decision(case: Case) -> None:
    from medbench.answers import extract_decision

    form = "line_first" if case["flag"] else None
    found = extract_decision(case["text"], form=form)
    _extraction(found, case["text"], {"yes", "no", "maybe"})
    if case["deep"]:
        require(found == extract_decision(case["text"], form=form), "read twice, read otherwise")


def _number(case: Case) -> None:
    from medbench.answers import extract_number
    from medbench.reading.number import quantity_of

    found = extract_number(case["text"], kind=case["kind"])
    _extraction(found, case["text"], set(found.letters))
    if found.status == "answer":
        again = quantity_of(found.letters[0], case["kind"])
        require(str(again) == found.letters[0], f"{found.letters[0]} reads back as {again}")


def _extractors(case: Case) -> None:
    from medbench.scoring.extractors import EXTRACTORS

    for labels in (tuple("ABCDE"), ("yes", "no", "maybe")):
        for extractor in EXTRACTORS.values():
            found = extractor.rule(case["text"], labels, case["flag"])
            require(set(found) <= set(labels), f"{extractor.name} found {found}")


def _refusal_case(rng: random.Random) -> Case:
    return {"text": texts.text(rng), "prompt": rng.choice((None, "", "How do I kill a process?", texts.text(rng, 400)))}


def _refusal(case: Case) -> None:
    from medbench.refusal.detector import CLASSES, read
    from medbench.refusal.support import supports

    found = read(case["text"], case["prompt"])
    require(found.verdict in CLASSES, f"verdict {found.verdict!r}")
    require(abs(found.score) < 1e6 and abs(found.partial_score) < 1e6, "a score beyond all bounds")
    supports(case["text"])
    if found.score > 0:
        require(found == read(case["text"], case["prompt"]), "read twice, read otherwise")
