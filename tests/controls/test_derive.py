"""What each control makes of an item, against the published generators restated here."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from medbench.benchmark.controls.derive import (
    NoControl,
    no_labels,
    no_options,
    none_of_these,
    options_only,
    reordered,
    rephrased,
)
from medbench.sources.items import LETTERS, Item
from medbench.sources.records import BadRow, Record
from medbench.tasks.cmexam import record_to_item as cmexam_item
from medbench.tasks.medqa import record_to_item as medqa_item

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PLAIN = Item(question="Which drug?", language="en", options=("aspirin", "heparin", "insulin"), answer=("B",), group="g")


def variants(item: Item) -> list[Item]:
    return [options_only(item), no_options(item), none_of_these(item), no_labels(item), reordered(item, 1)[0]]


def test_a_variant_keeps_id_group_and_key_option() -> None:
    for found in variants(PLAIN):
        assert found.id == PLAIN.id
        assert found.group == "g"
        assert Item.from_metadata(found.to_metadata()).id == PLAIN.id
    assert options_only(PLAIN).question == ""
    assert none_of_these(PLAIN).options == ("aspirin", "None of the other answers", "insulin")
    assert none_of_these(PLAIN).answer == ("B",)
    moved, letters = reordered(PLAIN, 1)
    assert [PLAIN.options[LETTERS.index(letter)] for letter in letters] == list(moved.options)
    assert moved.options[LETTERS.index(moved.answer[0])] == "heparin"
    assert "variant_of" not in PLAIN.to_metadata()


@pytest.mark.parametrize(
    ("control", "changes", "why"),
    [
        (none_of_these, {"options": ("yes", "no"), "answer": ("A",)}, "two options"),
        (none_of_these, {"answer": ("A", "B")}, "several right answers"),
        (none_of_these, {"options": ("a", "b", "none of the above")}, "an option speaks of the others"),
        (no_options, {"answer": ("A", "B")}, "several right answers"),
        (
            no_options,
            {"options": ("a", "b", "all of the above"), "answer": ("C",)},
            "the right option speaks of the others",
        ),
        (no_options, {"question": "Which of these is NOT a drug?"}, "the question asks which option is not so"),
        (no_options, {"question": "下列说法正确的是"}, "the question asks to choose among statements"),
        (no_labels, {"options": ("a", "b", "A and B"), "answer": ("C",)}, "an option names others by their letters"),
        (no_labels, {"options": ("Heparin", "heparin ", "x")}, "two options have the same text"),
        (
            lambda item: reordered(item, 1),
            {"options": ("x", "both"), "answer": ("A",)},
            "no two options may change places",
        ),
    ],
)
def test_an_item_that_cannot_have_a_control_says_why(control, changes, why) -> None:  # type: ignore[no-untyped-def]
    item = Item(
        **{"question": "Which drug?", "language": "en", "options": ("a", "b", "c"), "answer": ("A",), **changes}
    )
    with pytest.raises(NoControl, match=why):
        control(item)


def test_a_rephrased_question_takes_the_place_of_the_first() -> None:
    assert rephrased(PLAIN, "What medicine?").question == "What medicine?"
    for text in (None, " Which  drug? "):
        with pytest.raises(NoControl):
            rephrased(PLAIN, text)


def _medqa() -> list[tuple[dict, Item]]:
    path = DATA / "medqa" / "us_4_options_test.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [(row, medqa_item(Record("medqa", f"line {n}", row))) for n, row in enumerate(rows, 1)]


def med_nota(options: dict[str, str], right: str) -> dict[str, str]:
    """Med-NOTA (som-shahlab/med-nota, create_noto_options), restated: the text under the right letter is replaced."""
    return {letter: "None of the other answers" if letter == right else text for letter, text in options.items()}


def fixed_position(options: dict[str, str], right: str) -> dict[str, str]:
    """ReMedQA (disi-unibo-nlp/remedqa, fixed_pos), restated: the right option changes places with the last."""
    swapped = {right: options["D"], "D": options[right]}
    return {letter: swapped.get(letter, text) for letter, text in options.items()}


def test_none_of_these_is_med_notas_construction_on_every_medqa_item() -> None:
    for row, item in _medqa():
        given = {letter: text.strip() for letter, text in row["options"].items()}  # as its load_data.py does
        expected = med_nota(given, row["answer_idx"])
        found = none_of_these(item)
        assert dict(zip(found.letters, found.options, strict=True)) == expected
        assert found.answer == (row["answer_idx"],)
        assert found.question == row["question"].strip()


def test_remedqas_fixed_position_is_one_of_our_orders() -> None:
    from medbench.benchmark.controls.order import arranged

    for row, item in _medqa()[:300]:
        right = "ABCD".index(row["answer_idx"])
        order = list(range(4))
        order[right], order[3] = order[3], order[right]
        found = arranged(item, order)
        given = {letter: text.strip() for letter, text in row["options"].items()}
        assert dict(zip("ABCD", found.options, strict=True)) == fixed_position(given, row["answer_idx"])
        assert found.answer == ("D",)


def test_every_real_item_has_a_control_or_a_reason() -> None:
    path = DATA / "cmexam" / "val_even.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    items = []
    for number, row in enumerate(csv.DictReader(path.read_text("utf-8").splitlines())):
        try:
            items.append(cmexam_item(Record("cmexam", str(number), row)))
        except BadRow:
            continue
    assert len(items) > 3000
    for item in items:
        for control in (options_only, no_options, none_of_these, no_labels):
            try:
                found = control(item)
            except NoControl:
                continue
            assert found.id == item.id
            assert len(found.options) == len(item.options)
