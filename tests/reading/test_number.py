"""Quantities that outputs state, from written examples."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medbench.answers import extract_number
from medbench.errors import MedbenchError
from medbench.reading.number import quantity_of
from medbench.sources.quantities import Quantity, agrees, parse_key

NUMBERS = [
    ("Answer: 25.238", "25.238"),
    ("Answer: 25.238 mL/min", "25.238"),
    ("**Answer:** 25.2 mL/min/1.73 m²", "25.2"),
    ("**Final Answer: 3**", "3"),
    ("Answer:\n\n-4.5 mEq/L", "-4.5"),
    ("Answer: −4.5", "-4.5"),
    ("Answer: approximately 1,234.5 mg", "1234.5"),
    ("Answer: 1.2 × 10^3 cells", "1200"),
    ("Answer: 4e-2", "0.04"),
    ("Answer: 53.1%", "53.1%"),
    ("Answer: 3 out of 5 points", "3"),
    ("Answer: 3/9", "3"),
    ("Answer: The patient's CHA2DS2-VASc score is 4.", "4"),
    ("Answer: Using the 2021 CKD-EPI equation, the GFR is 55 mL/min.", "55"),
    ("Answer: FIB-4 = 2.31", "2.31"),
    ("Answer: (140 - 87) × 48 / (1.4 × 72) = 25.2", "25.2"),
    ("Answer: 25.2 mL/min, where the adjusted weight is 48 kg", "25.2"),
    ("The weight is 48 kg. Answer: 10\nWait, that is wrong.\nAnswer: 25.2", "25.2"),
    ('{"step_by_step_thinking": "BMI is 18.1", "answer": "25.24"}', "25.24"),
    ("<answer>7</answer> because age over 65 is 1 point", "7"),
    ("The result is \\boxed{6.02}", "6.02"),
    ("We add 1 for age and 1 for sex. The answer is 2.", "2"),
    ("The formula needs the weight of 48 kg. The creatinine clearance is therefore 25.2 mL/min.", "25.2"),
    ("BMI = 48 / (1.63 × 1.63) = 18.07 kg/m²", "18.07"),
    ("25.2", "25.2"),
    ("25.2 mL/min", "25.2"),
    ("答案：25.2", "25.2"),
    ("体重为48公斤，因此答案是18.07。", "18.07"),
    ("So the score is 5 points.", "5"),
    ("### Final Answer\n\n**25.2 mL/min**", "25.2"),
    ("The total score is 1 + 1 + 2 = 4 points.", "4"),
    ("The score is 4, which means a yearly stroke risk of 4.8%.", "4"),
    ("The CrCl is 25.2 mL/min (weight = 48 kg, age = 87).", "25.2"),
    ("Answer: CrCl is 25.2 mL/min, where weight = 48 kg", "25.2"),
    ("Answer: 48 / (1.63 × 1.63) = 18.07", "18.07"),
    ("Using a weight that is 48 kg, the clearance is 25.2 mL/min.", "25.2"),
    ("Answer: (25.2)", "25.2"),
    ("MELD = 3.78 × ln(2) + 11.2 × ln(1.5) + 6.43 = 13.6, rounded: 14", "14"),
    ("Answer: 0.5", "0.5"),
    ("Answer: .5", "0.5"),
    ("Answer: The HAS-BLED score is 3 (1 for age, 1 for hypertension, 1 for alcohol).", "3"),
]
DATES = [
    ("Answer: 06/12/2024", "06/12/2024"),
    ("Answer: 6/2/2024.", "06/02/2024"),
    ("The due date is June 12, 2024.", "06/12/2024"),
    ("Answer: 12 June 2024", "06/12/2024"),
    ("Answer: 2024-06-12", "06/12/2024"),
    ("Her last period began on 09/05/2023, so the answer is 06/11/2024", "06/11/2024"),
]
WEEKS = [
    ("Answer: (17 weeks, 4 days)", "17 weeks 4 days"),
    ("Answer: ('17 weeks', '4 days')", "17 weeks 4 days"),
    ("Answer: 17 weeks and 4 days", "17 weeks 4 days"),
    ("Answer: 17w4d", "17 weeks 4 days"),
    ("Answer: 17+4", "17 weeks 4 days"),
    ("Answer: (17, 4)", "17 weeks 4 days"),
    ("Answer: 17 weeks", "17 weeks 0 days"),
    ("The gestational age is 8 weeks, 0 days.", "8 weeks 0 days"),
]


@pytest.mark.parametrize(
    ("kind", "text", "stated"),
    [("number", *row) for row in NUMBERS] + [("date", *row) for row in DATES] + [("weeks_days", *row) for row in WEEKS],
)
def test_stated(kind: str, text: str, stated: str) -> None:
    found = extract_number(text, kind=kind)
    assert (found.status, found.letters) == ("answer", (stated,))
    assert found.span is not None
    assert found.span[0] < found.span[1] <= len(text)
    assert found.rule
    assert found.slot


@pytest.mark.parametrize(
    ("kind", "text", "status", "reason"),
    [
        ("number", "", "abstain", "no_response"),
        ("number", "I cannot calculate this without the patient's height.", "abstain", "no_answer_found"),
        ("number", "Answer: cannot be calculated", "abstain", "no_answer_found"),
        ("number", "The weight is 48 kg. Answer: unknown", "abstain", "no_answer_found"),
        ("number", "Answer: 24-26 mL/min", "ambiguous", "several_answers"),
        ("number", "Answer: between 24 and 26", "ambiguous", "several_answers"),
        ("number", "Answer: 25 ± 2", "ambiguous", "several_answers"),
        ("date", "Answer: next June", "abstain", "no_answer_found"),
        ("date", "Answer: 13/45/2024", "abstain", "no_answer_found"),
        ("weeks_days", "Answer: second trimester", "abstain", "no_answer_found"),
    ],
)
def test_not_stated(kind: str, text: str, status: str, reason: str) -> None:
    found = extract_number(text, kind=kind)
    assert (found.status, found.reason, found.letters) == (status, reason, ())


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(MedbenchError, match="unknown kind of quantity 'numbr'"):
        extract_number("Answer: 1", kind="numbr")


@pytest.mark.parametrize(
    ("key", "limits", "right", "wrong"),
    [
        ("25.238", (23.976, 26.5), ["23.976", "25", "26.5"], ["23.97", "26.51", "-25"]),
        ("-10", (-10.5, -9.5), ["-9.5", "-10.5"], ["10", "-9.4"]),
        ("-10", (-9.5, -10.5), ["-10"], ["-11"]),  # limits in the order that 95% and 105% of a negative key give
        ("0.531", (0.504, 0.558), ["0.53", "53.1%"], ["53.1"]),
        ("53.1", (50.4, 55.8), ["53.1%", "53.1"], ["0.531", "0.531%"]),
        ("3", None, ["3", "3.4", "2.6"], ["4", "2.4"]),
    ],
)
def test_numbers_count_by_the_benchmarks_own_limits(
    key: str, limits: tuple[float, float] | None, right: list[str], wrong: list[str]
) -> None:
    known = parse_key(key)
    assert known is not None
    assert all(agrees(quantity_of(one, "number"), known, limits) for one in right)
    assert not any(agrees(quantity_of(one, "number"), known, limits) for one in wrong)


def test_dates_and_ages_must_be_the_same_to_the_day() -> None:
    due, age = parse_key("06/12/2024"), parse_key("('17 weeks', '4 days')")
    assert due is not None
    assert age is not None
    assert agrees(quantity_of("06/12/2024", "date"), due, None)
    assert not agrees(quantity_of("06/13/2024", "date"), due, None)
    assert agrees(quantity_of("17 weeks 4 days", "weeks_days"), age, None)
    assert not agrees(quantity_of("17 weeks 5 days", "weeks_days"), age, None)
    assert not agrees(Quantity("number", 17), age, None)
    assert parse_key("unknown") is None
    assert parse_key("nan") is None


@given(st.floats(-1e6, 1e6).map(lambda value: round(value, 3)))
def test_any_number_is_read_as_it_is_written(value: float) -> None:
    found = extract_number(f"I calculated 12 things.\nAnswer: {value:.3f} mg/dL")
    assert quantity_of(found.letters[0], "number").value == pytest.approx(value)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    for kind in ("number", "date", "weeks_days"):
        found = extract_number(text, kind=kind)
        if found.status == "answer":
            quantity_of(found.letters[0], kind)


def published_rule(answer: str, key: str, lower: str, upper: str, output_type: str) -> bool:
    """What MedCalc-Bench's `check_correctness` does with a bare answer, told from reading it."""
    if output_type == "date":
        months = [datetime.strptime(text, "%m/%d/%Y") for text in (answer, key)]
        return months[0] == months[1]
    if output_type == "weeks":
        said, known = (re.findall(r"\d+", text)[:2] for text in (answer, key))
        return [int(number) for number in said] == [int(number) for number in known]
    if output_type == "integer":
        return round(float(answer)) == float(key)
    return float(lower) <= float(answer) <= float(upper)


@given(st.integers(-400, 4000), st.integers(-450, 4500), st.sampled_from([1, 10, 100]))
def test_decimals_and_integers_count_as_the_publisher_counts_them(key: int, stated: int, places: int) -> None:
    known, said = key / places, stated / places
    low, high = sorted((round(known * 0.95, 3), round(known * 1.05, 3)))
    found = extract_number(f"Answer: {said}")
    parsed = parse_key(str(known))
    assert parsed is not None
    quantity = quantity_of(found.letters[0], "number")
    assert agrees(quantity, parsed, (low, high)) == published_rule(
        str(said), str(known), str(low), str(high), "decimal"
    )
    whole = parse_key(str(key))
    assert whole is not None
    assert agrees(quantity, whole, None) == published_rule(str(said), str(key), "", "", "integer")


@given(st.dates(date(1990, 1, 1), date(2030, 1, 1)), st.integers(-2, 2))
def test_dates_count_as_the_publisher_counts_them(key: date, days: int) -> None:
    said, known = ((key + timedelta(days=shift)).strftime("%m/%d/%Y") for shift in (days, 0))
    parsed = parse_key(known)
    assert parsed is not None
    stated = quantity_of(extract_number(f"Answer: {said}", kind="date").letters[0], "date")
    assert agrees(stated, parsed, None) == published_rule(said, known, known, known, "date")


@given(st.integers(0, 42), st.integers(0, 6), st.integers(0, 42), st.integers(0, 6))
def test_weeks_and_days_count_as_the_publisher_counts_them(weeks: int, days: int, more: int, others: int) -> None:
    said, known = f"({weeks} weeks, {days} days)", f"('{more} weeks', '{others} days')"
    parsed = parse_key(known)
    assert parsed is not None
    stated = quantity_of(extract_number(f"Answer: {said}", kind="weeks_days").letters[0], "weeks_days")
    assert agrees(stated, parsed, None) == published_rule(said, known, "", "", "weeks")
