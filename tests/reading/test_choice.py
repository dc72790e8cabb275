"""Structure before sentences: precedence, revisions, run-on, cut-off, stems that are negated, and bad input."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from medbench.answers import extract_choice, extract_decision
from medbench.errors import MedbenchError

DRUGS = ["Ceftriaxone", "Ciprofloxacin", "Amoxicillin", "Cefixime", "Cefotaxime"]


def read(text: str, letters: str = "ABCDE", **options: Any) -> str:
    found = extract_choice(text, letters, **options)
    return "".join(found.letters) if found.status == "answer" else found.status


def test_the_shared_cases(shared_data: Path) -> None:
    path = shared_data / "cases" / "reading.jsonl"
    wrong = []
    for case in map(json.loads, path.read_text("utf-8").splitlines()):
        if case["function"] == "extract_choice":
            found = extract_choice(case["input"], case["letters"], choices=case.get("choices"))
            if "".join(found.letters) != (case["expected"] or ""):
                wrong.append(case["input"])
    assert wrong == []


def test_real_outputs_state_what_their_structure_says(shared_data: Path) -> None:
    """Outputs of 18 models; eight of the labels are wrong (docs/reading.md lists them)."""
    equal = wrong = n = 0
    for row in map(json.loads, (shared_data / "outputs" / "outputs.jsonl").read_text("utf-8").splitlines()):
        found = extract_choice(row["text"], row["letters"], choices=row["choices"], question=row["question"])
        n += 1
        equal += "".join(found.letters) == row["stated"]
        wrong += bool(found.letters) and "".join(found.letters) != row["stated"]
    assert equal >= 0.997 * n
    assert wrong <= 0.0005 * n


@pytest.mark.parametrize(
    ("text", "slot", "letters"),
    [
        ('{"reason": "A is old", "answer": "C"}', "record", "C"),
        ('{\n  "thinking": "The answer is A",\n  "answer_choice": "C"\n}', "record", "C"),
        ("C. Amoxicillin\n\nSo the answer is D.", "final", "D"),
        ("The answer is C. Note: the answer is A only in adults.", "final", "C"),
        ("C. Amoxicillin\n\nRationale: option E is for later. A is not correct.", "leading", "C"),
        ("The drug of choice is C. Amoxicillin.", "conclusion", "C"),
        ("A is wrong. C is correct. D is wrong.", "sentence", "C"),
    ],
)
def test_precedence(text: str, slot: str, letters: str) -> None:
    found = extract_choice(text, "ABCDE", choices=DRUGS)
    assert (found.slot, "".join(found.letters)) == (slot, letters)


def test_only_an_explicit_revision_changes_a_slot() -> None:
    assert read("C. Amoxicillin\n\nA. Ceftriaxone is the best of the others.") == "C"
    assert read("Answer: C\n\nWait, no, the correct answer is A.") == "A"
    assert read("答案：C\n更正：答案是A。") == "A"
    assert read("The answer is C.\nActually, the drug is given by vein, so B is right for others.") == "C"
    assert read("C. Amoxicillin\n\nCorrection of the deficit comes first. Wait and see is right: B is correct.") == "C"


def test_the_form_asked_for_comes_first() -> None:
    text = "答案：C\n解析：虽然病因是感染性，但答案是D的说法也常见。"
    assert read(text, form="line_first") == "C"
    assert read("Answer: C\nExplanation: for children the answer is A.", form="line_first") == "C"
    assert read("Answer: C\nExplanation: for children the answer is A.", form="line_last") == "A"
    assert extract_decision("Answer: no\nExplanation: some say the answer is yes.", form="line_first").letters == (
        "no",
    )
    with pytest.raises(MedbenchError, match=r"unknown form 'line_frst'\. Did you mean line_first"):
        extract_choice("C", form="line_frst")  # type: ignore[arg-type]


def test_a_negated_stem_asks_for_the_odd_one() -> None:
    said = "A is right, B is right, C is right, E is right; the wrong one is D."
    assert read(said, question="Which statement is NOT true?") == "D"
    judged = "A is correct. B is correct. C is incorrect because of the dose. E is correct."
    assert read(judged, question="All of the following are true EXCEPT:") == "C"
    assert read("A项正确。B项正确。C项错误。D项正确。", question="下列不正确的是") == "C"
    assert read(judged, question="Which is true?") == "ambiguous"
    assert read("错误的是D，其余均正确", multiple=True, question="下列说法错误的是") == "D"
    assert read("错误的是D，其余均正确", multiple=True) == "ABCE"


def test_what_belongs_to_another_item_is_cut_off() -> None:
    text = "The answer is B.\n\nWhich nerve is it?\nA. Ventral\nB. Dorsal\nC. Buccal\nD. Lingual\nThe answer is C."
    assert read(text, choices=DRUGS) == "B"
    assert read("Answer: B\n\nQuestion: Which nerve?\nAnswer: C") == "B"


def test_where_the_output_was_cut_off_a_dangling_letter_is_none() -> None:
    assert read("The most likely answer is C", truncated=True) == "abstain"
    assert read("The most likely answer is C") == "C"
    assert read("Answer: C", truncated=True) == "C"
    assert read("The best choice is a") == "abstain"


@pytest.mark.parametrize("text", ["", "   \n", "\x00"])
def test_nothing_at_all(text: str) -> None:
    assert extract_choice(text).status == "abstain"
    assert extract_decision(text).status == "abstain"


def test_odd_options_are_no_obstacle() -> None:
    assert read("The answer is B.", "AB", choices=["a\x00b", "c\x00"]) == "B"
    assert read("c\x00", "AB", choices=["a\x00b", "c\x00"]) in ("B", "abstain")
    assert read("Start insulin and metformin", "AB", choices=["Start insulin", "Start insulin and metformin"]) == "B"
    assert read("answer: b", "abcd") == "b"
    assert read("The answer is C.", "ABC", choices=["", "", ""]) == "C"
    with pytest.raises(MedbenchError, match="3 option texts for 2 letters"):
        extract_choice("A", "AB", choices=["x", "y", "z"])


def seconds(piece: str, size: int) -> float:
    text = (piece * (size // len(piece) + 1))[:size]
    start = time.process_time()
    extract_choice(text, "ABCDE", choices=DRUGS, question="Which?")
    return time.process_time() - start


@pytest.mark.parametrize("piece", ["A", " ", "\n", "(", "{", "A. ", "answer: ", "\\boxed{", "答案", '"answer": "'])
def test_time_is_linear_in_length(piece: str) -> None:
    small = min(seconds(piece, 20_000) for _ in range(2))
    assert min(seconds(piece, 200_000) for _ in range(2)) < 40 * max(small, 0.01)


def test_a_megabyte_of_one_character() -> None:
    assert max(seconds(piece, 1_000_000) for piece in "Ax \n") < 60


def test_a_likely_letter_that_is_no_option_is_no_answer() -> None:
    found = extract_choice("A: 10%, F: 80%", "ABCD")
    assert (found.status, found.reason) == ("abstain", "outside_options")
    assert extract_choice("F: 10%, B: 80%", "ABCD").letters == ("B",)


def test_an_options_text_of_control_characters() -> None:
    assert extract_choice(".", "AB", choices=["\0", "\1"]).status == "abstain"
    assert extract_choice("100mg is right.", "AB", choices=["100 mg", "5 mg"]).letters == ("A",)
