"""What an output states as its answer: labelled phrasings, invariants, real explanations, and linear time."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medbench.answers import Extraction, extract_choice, extract_decision
from medbench.errors import MedbenchError

DATA = Path(__file__).parent / "data"
CMEXAM = Path(__file__).parents[3] / "shared/data/cmexam/val_even.csv"


def phrasings(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"{name}_phrasings.jsonl").read_text("utf-8").splitlines()]


def verdict(extraction: Extraction) -> str:
    return "".join(extraction.letters) if extraction.status == "answer" else extraction.status


@pytest.mark.parametrize("row", phrasings("choice"), ids=lambda row: row["text"][:40])
def test_choice_phrasing(row: dict) -> None:
    options = {key: value for key, value in row.items() if key not in ("text", "expect")}
    extraction = extract_choice(row["text"], **options)
    assert verdict(extraction) == row["expect"]
    check_shape(row["text"], extraction)


@pytest.mark.parametrize("row", phrasings("decision"), ids=lambda row: row["text"][:40])
def test_decision_phrasing(row: dict) -> None:
    extraction = extract_decision(row["text"])
    assert verdict(extraction) == row["expect"]
    check_shape(row["text"], extraction)


def check_shape(text: str, extraction: Extraction) -> None:
    assert (extraction.status == "answer") == bool(extraction.letters) == (not extraction.reason)
    assert list(extraction.letters) == sorted(set(extraction.letters))
    if extraction.span:
        start, end = extraction.span
        assert 0 <= start < end <= len(text)
    if extraction.status == "answer":
        assert extraction.span


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_response"),
        ("The patient needs rest.", "no_answer_found"),
        ("I'm sorry, I cannot help with that.", "refused"),
        ("I don't know.", "undecided"),
        ("None of the above.", "none_of_the_options"),
        ("The answer is F.", "outside_options"),
        ("A is wrong.", "only_rejections"),
        ("A. Heparin\nB. Aspirin\nC. Warfarin\nD. Alteplase", "options_repeated"),
        ("The answer is A or B.", "several_answers"),
        ("A and B are correct.", "several_answers"),
    ],
)
def test_reason(text: str, reason: str) -> None:
    assert extract_choice(text).reason == reason


def test_the_span_holds_the_answer() -> None:
    text = "**Reasoning.** A is wrong.\n\nThe answer is $\\boxed{\\text{Ｃ}}$."
    extraction = extract_choice(text)
    assert extraction.letters == ("C",)
    assert text[slice(*extraction.span)] == "Ｃ"


def test_options_may_be_a_mapping() -> None:
    assert extract_choice("It is aspirin.", "AB", choices={"A": "Heparin", "B": "Aspirin"}).letters == ("B",)
    assert extract_choice("5 mg", "AB", choices={"B": "5 mg"}).letters == ("B",)
    assert extract_choice("The answer is 5.", "AB", choices=[4, 5]).letters == ("B",)
    with pytest.raises(MedbenchError, match="5 option texts for 4 letters"):
        extract_choice("A", choices=["a", "b", "c", "d", "e"])


WORDS = [
    *"ABCDE", "a", "is", "the answer", "not", " ", ", ", ". ", "\n", "correct", "wrong", "选", "答案是", "错", "对",
    "、", "or", "and", "yes", "no", "maybe", "是", "否", "(", ")", "**", "\\boxed{", "}", "aspirin", "İ", "ﬁ", "B.",
    "None", "除", "都对",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=25).map("".join)


@given(TEXTS, st.booleans())
def test_any_text_gives_a_result_that_holds_together(text: str, multiple: bool) -> None:
    for extraction in (
        extract_choice(text, "ABCDE", multiple=multiple),
        extract_choice(text, "ABCD", choices=["aspirin", "heparin", "no", "5"], multiple=multiple),
        extract_decision(text),
    ):
        check_shape(text, extraction)
    single = extract_choice(text, "ABCDE")
    assert len(single.letters) <= 1
    assert set(single.letters) <= set("ABCDE")


@given(TEXTS, st.sampled_from("ABCD"))
def test_a_final_statement_decides(text: str, letter: str) -> None:
    assert extract_choice(f"{text}\n\nThe correct answer is {letter}.").letters == (letter,)
    assert extract_choice(f"{text}\n\n综上所述，答案是{letter}。").letters == (letter,)
    assert extract_decision(f"{text}\n\nThe answer is no.").letters == ("no",)


@pytest.mark.skipif(not CMEXAM.exists(), reason="real exam items (../shared/data/cmexam) are not here")
def test_real_explanations_agree_with_their_key() -> None:
    """Explanations that judge their options ("（A错）") state the key; figures are floors under those measured."""
    answered = agree = 0
    with CMEXAM.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = row["Answer"].strip()
            extraction = extract_choice(row["Explanation"], "ABCDE", multiple=len(key) > 1)
            answered += extraction.status == "answer"
            agree += "".join(extraction.letters) == key
    assert answered >= 2_450
    assert agree >= 0.99 * answered


TEMPLATES = [
    "{text}",
    "The correct answer is {text}.",
    "The answer is {letter} {text}",
    "**{letter}. {text}**",
    "{options}\n\nAnswer: {letter}",
    "Not {other}. The answer is {text}.",
    "{text} is the best choice because it fits the findings.",
    "{letter}\n\n{other} is wrong because it is not indicated.",
    "{other} is unlikely here. The most likely answer is {text}.",
    "正确答案：{text}",
    '{{"answer": "{text}"}}',
    "{letter}. {text}\n\nExplanation: {other} would be used in other patients.",
    "Answer: {letter}\n\nQuestion: Which of these is a vitamin?\n{options}\nAnswer: A",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_real_options_stated_by_letter_or_text(template: str, shared_data: Path) -> None:
    """One of the 1,273 MedQA items has options that are each other's letters; the rest must be read without a slip."""
    slips = 0
    for line in (shared_data / "medqa" / "us_4_options_test.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        letter, options = row["answer_idx"], row["options"]
        other = next(text for key, text in options.items() if key != letter)
        listed = "\n".join(f"{key}. {text}" for key, text in options.items())
        said = template.format(letter=letter, text=options[letter], other=other, options=listed)
        slips += extract_choice(said, "ABCD", choices=options).letters != (letter,)
    assert slips <= 1


PIECES = ["A, ", "A or ", "(A) ", "the answer is A ", "A\n", "A. x\n", "答案是A，", "A对，", "yes, ", "no ",
          "all except A ",
          "A ", "(A)(B)", "除A，其余", "yes/no/", "~~A~~ ", "Question: A\n", "...no, ", "A. aspirin; ",
          "((((", "aspirin ", "A;", "a b c d ", "除A", ".", " ", "wait ", "none ", "'", "\\"]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_time_is_linear(piece: str) -> None:
    """Ten times the text takes ten times as long, not a hundred times; of several runs the least, because of noise."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        start = time.process_time()
        extract_choice(text, choices=["aspirin", "heparin", "warfarin", "x"], multiple=True)
        extract_decision(text)
        return time.process_time() - start

    small = min(seconds(8_000) for _ in range(3))
    assert any(seconds(80_000) < 40 * max(small, 0.005) for _ in range(3))


def test_letters_of_other_kinds() -> None:
    assert extract_choice("The answer is B.", "abcd").letters == ("b",)
    assert extract_choice("the answer is c", "abcd").letters == ("c",)
    assert extract_choice("Options 1 and 3", "1234", multiple=True).letters == ("1", "3")
    assert extract_choice("I think it is B.", "ABCDEFGHI").letters == ("B",)
    assert extract_choice("The answer is I.", "ABCDEFGHI").letters == ("I",)


def test_no_letters_at_all_is_named() -> None:
    with pytest.raises(MedbenchError, match="letters is empty"):
        extract_choice("B", "")
