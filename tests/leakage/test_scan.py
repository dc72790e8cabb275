"""Findings against brute force over plain Python sets, and planted leaks."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medbench.leakage import formats
from medbench.leakage.corpus import Batch
from medbench.leakage.formats import Unreadable, json_line
from medbench.leakage.index import Thresholds, build
from medbench.leakage.scan import Scanner
from medbench.leakage.short import WHOLE
from medbench.leakage.written import units
from medbench.sources.items import Item

SHINGLE = 5


def scan(items: list[Item], records: list[Any], **thresholds: Any) -> list[dict[str, Any]]:
    batch = Batch("corpus.jsonl")
    for number, record in enumerate(records):
        batch.add(number, record)
    findings, _ = Scanner(build([("items", items)], Thresholds(**thresholds))).scan(batch)
    return findings


def shingle_set(*texts: str) -> set[tuple[str, ...]]:
    found = set()
    for text in texts:
        words = [unit for unit, _, _ in units(text)]
        found |= {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}
    return found


def question(text: str, *, options: tuple[str, ...] = (), answer: tuple[str, ...] = (), **rest: str) -> Item:
    return Item(question=text, language="en", options=options, answer=answer, **rest)


# Few distinct words, so that records share much and shingles repeat.
WORDS = st.lists(st.sampled_from(["fever", "cough", "血", "压", "x", "Ⅲ"]), max_size=24).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
@example(
    ["cough cough cough fever cough fever fever fever"], [("", "fever cough cough cough fever cough fever fever cough")]
)
@settings(max_examples=150)
def test_jaccard_and_containment_equal_all_pairs(questions: list[str], pairs: list[tuple[str, str]]) -> None:
    items = list({item.id: item for item in map(question, questions) if shingle_set(item.question)}.values())
    if not items:
        return
    records = [{"a": a, "b": b} for a, b in pairs]
    long = {item.id for item in items if len(units(item.question)) >= WHOLE}  # of shorter ones a part is no finding
    expected: dict[tuple[str, int, str], float] = {}
    for item in items:
        wanted = shingle_set(item.question)
        for number, (a, b) in enumerate(pairs):
            texts = [shingle_set(a), shingle_set(b), shingle_set(a, b)]
            jaccard = max(len(wanted & text) / len(wanted | text) for text in texts)
            contained = len(wanted & texts[2]) / len(wanted)
            if jaccard > 0.5:
                expected[item.id, number, "jaccard"] = jaccard
            if contained >= 0.6 and item.id in long:
                expected[item.id, number, "containment"] = contained
    found = scan(items, records, jaccard=0.5, containment=0.6, contained_units=8)
    assert {
        (f["item_id"], f["record"], f["signal"]): f["score"]
        for f in found
        if f["signal"] == "jaccard" or (f["signal"] == "containment" and f["item_id"] in long)
    } == pytest.approx(expected)


def test_boundary_of_the_threshold_is_strict_and_one_means_equal_sets() -> None:
    eight = "a b c d e f g h"  # 4 shingles
    item = question(eight)
    nine = {"text": eight + " i"}  # 4 of 5 shingles: Jaccard 0.8 exactly
    assert [f for f in scan([item], [nine], jaccard=0.8) if f["signal"] == "jaccard"] == []
    assert [f["score"] for f in scan([item], [nine], jaccard=0.79) if f["signal"] == "jaccard"] == [0.8]
    assert [f["score"] for f in scan([item], [{"text": eight}], jaccard=1.0) if f["signal"] == "jaccard"] == [1.0]


STEM = "A 45-year-old man has crushing chest pain radiating to the left arm for two hours. What is the next step?"
OPTIONS = ("Aspirin and urgent coronary angiography", "Reassurance", "Chest radiograph in one week", "Antacids")


def by_signal(findings: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(f["field"], f["signal"]) for f in findings}


def test_question_copied_inside_a_long_document_has_low_jaccard_and_is_found() -> None:
    rng = random.Random(7)
    filler = " ".join(f"w{rng.randrange(10_000)}" for _ in range(2000))
    text = f"{filler} {STEM.upper().replace(' ', '  ')} {filler[::-1]}"
    (finding,) = scan([question(STEM)], [{"text": text}])
    assert (finding["signal"], finding["score"]) == ("containment", 1.0)
    begin, end = finding["corpus_span"]
    assert text[begin:end] == finding["corpus_text"] == STEM.upper().replace(" ", "  ")[:-1]
    assert finding["item_text"] == STEM[:-1]
    assert finding["item_span"] == [0, len(STEM) - 1]


def test_options_are_found_in_any_order_and_the_key_follows_them() -> None:
    item = question(STEM, options=OPTIONS, answer=("A",))
    shown = "\n".join(f"{letter}. {OPTIONS[k]}" for letter, k in zip("ABCD", (2, 3, 0, 1), strict=True))
    rows = scan([item], [{"instruction": f"{STEM}\n{shown}", "output": "The answer is C."}])
    assert {("question", "containment"), ("question+options", "option_set"), ("question+answer", "answer_nearby")} <= (
        by_signal(rows)
    )
    (options,) = [f for f in rows if f["signal"] == "option_set"]
    assert options["permuted"] is True
    assert options["corpus_text"].startswith(OPTIONS[2])
    (answer,) = [f for f in rows if f["signal"] == "answer_nearby"]
    assert (answer["corpus_field"], answer["corpus_text"]) == ("output", "answer is C")
    # the same letter under the published order names another option
    wrong = scan([item], [{"instruction": f"{STEM}\n{shown}", "output": "The answer is A."}])
    assert "answer_nearby" not in {f["signal"] for f in wrong}


@pytest.mark.parametrize(
    "said",
    [
        "Answer: C",
        "The correct option is (C).",
        "**Answer:** C",
        "Option C is correct.",
        r"so \boxed{C}",
        "<answer>C</answer>",
        "answer: c",
        "正确答案是选项C",
        "【答案】Ｃ",
        "本题选C。",
        "综上，故选C",
    ],
)
def test_a_key_is_read_in_the_ways_in_which_it_is_given(said: str) -> None:
    item = question(STEM, options=OPTIONS, answer=("C",))
    (answer,) = [f for f in scan([item], [{"text": f"{STEM}\n{said}"}]) if f["signal"] == "answer_nearby"]
    assert answer["corpus_text"] in said


def test_the_answer_to_the_next_question_is_none_of_this_one() -> None:
    item = question(STEM, options=OPTIONS, answer=("C",))
    text = f"{STEM}\nAnswer: B\nWhich bone of the body is the longest?\nAnswer: C"
    assert "answer_nearby" not in {f["signal"] for f in scan([item], [{"text": text}])}
    far = f"{STEM} " + "word " * 300 + "Answer: C"
    assert "answer_nearby" not in {f["signal"] for f in scan([item], [{"text": far}])}
    assert "answer_nearby" in {f["signal"] for f in scan([item], [{"text": far}], near=400)}


def test_a_field_named_answer_counts_wherever_it_stands() -> None:
    item = question(STEM, options=OPTIONS, answer=("C",))
    options = [{"key": letter, "value": text} for letter, text in zip("ABCD", OPTIONS, strict=True)]
    for record in (
        {"answer": "C", "options": options, "question": STEM},
        {"question": STEM, "answer_idx": "C", "options": options},
    ):
        (answer,) = [f for f in scan([item], [record]) if f["signal"] == "answer_nearby"]
        assert (answer["corpus_field"].split("_")[0], answer["corpus_text"]) == ("answer", "C")
    wrong = {"answer": "B", "options": options, "question": STEM}
    assert "answer_nearby" not in {f["signal"] for f in scan([item], [wrong])}


@pytest.mark.parametrize(
    "said", ["Please answer a few questions.", "That is correct. A man of 30 asks", "The answer is a matter of taste"]
)
def test_an_article_is_no_key(said: str) -> None:
    item = question(STEM, options=OPTIONS, answer=("A",))
    assert "answer_nearby" not in {f["signal"] for f in scan([item], [{"text": f"{STEM}\n{said}"}])}


def test_question_alone_is_not_reported_with_options_or_answer() -> None:
    item = question(STEM, options=OPTIONS, answer=("A",))
    assert {f["field"] for f in scan([item], [{"text": STEM}])} == {"question"}
    listed = STEM + " " + "; ".join(OPTIONS)
    assert "answer_nearby" not in {f["signal"] for f in scan([item], [{"text": listed}])}


def test_public_context_is_told_apart_from_the_question() -> None:
    context = "We studied four hundred patients with septic shock over ten years in two large hospitals."
    item = question(STEM, context=context, answer=("yes",))
    assert {f["field"] for f in scan([item], [{"abstract": context}])} == {"context"}


def test_free_text_item_with_its_answer() -> None:
    item = question(
        "我有高血压这两天女婿来的时候给我拿了些党参泡水喝", reference="高血压病人可以口服党参的，党参有降血脂的作用。"
    )
    row = {"instruction": item.question, "input": "", "output": item.reference}
    assert by_signal(scan([item], [row])) == {
        (field, signal)
        for field in ("question", "answer", "question+answer")
        for signal in ("exact", "jaccard", "containment")
    } - {("question+answer", "exact")}


def test_longest_shared_span_reports_a_long_passage_of_a_longer_context() -> None:
    words = [f"w{k}" for k in range(200)]
    item = question("Does it work?", context=" ".join(words), answer=("no",))
    (finding,) = scan([item], [{"text": "before " + " ".join(words[40:100]) + " after"}], span=50)
    assert (finding["field"], finding["signal"], finding["score"]) == ("context", "span", 60 / 200)
    assert finding["corpus_text"] == finding["item_text"] == " ".join(words[40:100])


def test_combining_marks_and_width_do_not_hide_a_copy() -> None:
    item = question("La fièvre aiguë d'un patient âgé né à Genève")
    disguised = "LA FIE\u0300VRE AIGUE\u0308 D'UN PATIENT A\u0302GE\u0301 NE\u0301 A\u0300 GENE\u0300VE!"
    (finding, *_) = scan([item], [{"text": "» " + disguised}])
    assert finding["score"] == 1.0
    assert finding["corpus_text"] == disguised[:-1]


def test_option_inside_a_longer_option_does_not_count_twice() -> None:
    item = question(STEM, options=("fever", "yellow fever", "dengue"), answer=("A",))
    assert "option_set" not in {f["signal"] for f in scan([item], [{"text": STEM + " yellow fever, dengue"}])}
    assert "option_set" in {f["signal"] for f in scan([item], [{"text": STEM + " yellow fever, dengue, fever"}])}


# Lines of JSON as files hold them: mostly whole, some broken, with everything that a second reader must agree on.
STRINGS = st.text(st.sampled_from('aé字血\u0301\ud83d\U0001f600\ufdfa"\\/\n\t\x00\u2028 ,.Ⅲ'), max_size=12) | WORDS
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('abé"'), inner, max_size=3),
    max_leaves=6,
)
TOKENS = r'{ } [ ] : , " \ \u00e9 \ud83d \ud83d\ude00 \ufdfa "a" "b": 1 01 - 1. 2e+3 true nul {} [[]] {"a":1,"a":"x"}'
PIECES = st.sampled_from([*TOKENS.split(), " ", "\t", "\x0b", "\r", "\x00", "字", "e\u0301"])
LINES = st.lists(
    st.builds(
        lambda value, ascii: json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass"),
        VALUES,
        st.booleans(),
    )
    | st.lists(PIECES, max_size=8).map(lambda parts: "".join(parts).encode())
    | st.binary(max_size=6).map(lambda b: b'{"a": "' + b.replace(b"\n", b"") + b'"}'),
    max_size=6,
)


@given(LINES)
@settings(max_examples=600)
def test_lines_scanned_as_they_lie_give_what_parsed_records_give(lines: list[bytes]) -> None:
    index = build(
        [("items", [question("fever cough x fever 血 压"), question("Ⅲ Ⅲ x x 字 a")])], Thresholds(contained_units=5)
    )
    bad: list[Unreadable] = []
    parsed = [json_line(line) for line in lines if line and not line.isspace()]
    batch = Batch("corpus.jsonl")
    for number, value in enumerate(parsed, 7):
        if isinstance(value, Unreadable):
            bad.append(replace(value, record=number))
        else:
            batch.add(number, value)
    findings, short = Scanner(index).scan(batch)
    found = Scanner(index).scan_lines(b"\n".join(lines), 7, "corpus.jsonl")
    assert found == (findings, short, bad, len(parsed), batch.size)


def test_only_lines_that_hold_something_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(formats, "json_line", lambda line: parsed.append(line) or json.loads(line))
    plain = [{"text": "nothing \n of \u00e9 the kind", "n": [1, -2.5e3, True, None, {}]}, {"text": STEM}]
    content = "\n".join(json.dumps(row) for row in plain).encode()
    found = Scanner(build([("items", [question(STEM)])], Thresholds())).scan_lines(content, 0, "corpus.jsonl")
    assert {row["record"] for row in found.findings} == {1}
    assert found.records == 2
    assert parsed == [content.split(b"\n")[1]]
