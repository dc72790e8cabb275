"""Other harnesses' rules, on what they were written for and on what they are known to misread."""

from __future__ import annotations

import re
import time

import pytest

from medbench.answers import extract_choice
from medbench.errors import MedbenchError
from medbench.scoring.extractors import EXTRACTORS, extract

DECISION = ("yes", "no", "maybe")


def found(text: str, labels: str | tuple[str, ...] = "ABCD", *, multiple: bool = False) -> dict[str, str]:
    return {name: "".join(extract(name, text, labels, multiple=multiple).letters) for name in EXTRACTORS}


@pytest.mark.parametrize(
    ("text", "lm_eval", "inspect", "simple_evals", "mmlu_pro", "opencompass"),
    [
        ("Reasoning about C.\nThe answer is (B).", "B", "", "", "B", ""),
        ("it fits C\nANSWER: B", "", "B", "B", "B", "C"),
        ("Answer: A\nOn reflection:\nANSWER: D", "", "D", "A", "A", "A"),
        ("**Answer:** $\\boxed{C}$", "", "", "C", "C", "A"),
        ("The answer is A? No. Answer: B.", "A", "B", "B", "A", ""),
        ("vitamin D and then C", "", "", "", "C", "D"),
        ("B", "", "", "", "B", "B"),
        ("答案：B，因为A不对", "", "", "B", "B", "B"),
        ("I cannot say.", "", "", "", "", ""),
        ("", "", "", "", "", ""),
    ],
)
def test_each_rule_reads_as_its_harness_does(
    text: str, lm_eval: str, inspect: str, simple_evals: str, mmlu_pro: str, opencompass: str
) -> None:
    assert found(text) == {
        "lm-eval": lm_eval,
        "inspect": inspect,
        "simple-evals": simple_evals,
        "mmlu-pro": mmlu_pro,
        "opencompass": opencompass,
    }


@pytest.mark.parametrize(
    "text",
    [
        "The answer is (B).",
        "answer is A, no: the answer is C",
        "Answer: D",
        "so C\nthen B and D.",
        "x A.\ny",
        "The Answer is B",
        "a. Answer: A Answer: C\nAnswer: B",
    ],
)
def test_mmlu_pro_equals_its_published_steps(text: str) -> None:
    """The three patterns of the authors' script, run one after the other over the letters A-J."""
    expected = None
    for pattern, flags in (
        (r"answer is \(?([A-J])\)?", 0),
        (r".*[aA]nswer:\s*([A-J])", 0),
        (r"(\b[A-J]\b)(?!.*\b[A-J]\b)", re.DOTALL),
    ):
        match = re.search(pattern, text, flags)
        if match:
            expected = match.group(1)
            break
    assert extract("mmlu-pro", text, "ABCDEFGHIJ").letters == (() if expected is None else (expected,))


def test_several_letters_where_several_may_be_right() -> None:
    assert found("ANSWER: A, C", multiple=True)["inspect"] == "AC"
    assert found("选ACD", multiple=True)["opencompass"] == "ACD"
    assert found("ANSWER: A, C")["inspect"] == ""
    assert found("选ACD")["opencompass"] == "A"


def test_words_are_read_by_the_same_patterns() -> None:
    assert found("Maybe at first, but the answer is Yes.", DECISION) == {
        "lm-eval": "yes",
        "inspect": "",
        "simple-evals": "",
        "mmlu-pro": "yes",
        "opencompass": "maybe",
    }
    assert found("Nothing is known. Answer: no", DECISION)["simple-evals"] == "no"
    assert found("Unknown, perhaps no", DECISION)["mmlu-pro"] == "no"


def test_an_option_stated_by_its_text_is_read_by_medbench_alone() -> None:
    options = ["aspirin", "warfarin", "heparin", "none"]
    assert extract_choice("Give heparin.", "ABCD", choices=options).letters == ("C",)
    assert set(found("Give heparin.").values()) == {""}


def test_reasons_and_errors() -> None:
    assert extract("lm-eval", " ").reason == "no_response"
    assert extract("lm-eval", "B").reason == "no_answer_found"
    with pytest.raises(MedbenchError, match="inspect"):
        extract("inspct", "B")
    with pytest.raises(MedbenchError, match="labels is empty"):
        extract("inspect", "B", "")


@pytest.mark.parametrize("unit", ["answer: ", "A B C ", "Answer is (", "ANSWER : x,", "nswer:", "** a $ a "])
def test_a_long_text_takes_no_quadratic_time(unit: str) -> None:
    """Half a megabyte without a line break took hours where a pattern began with ``.*``."""
    found("ANSWER: A")
    text = unit * (500_000 // len(unit)) + "answer"
    started = time.process_time()
    found(text)
    assert time.process_time() - started < 10
