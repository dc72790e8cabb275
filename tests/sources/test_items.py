from __future__ import annotations

import pytest

from medbench.errors import BadRow, MedbenchError
from medbench.sources.items import Item, checked, describe, key_letters, require_options
from medbench.sources.records import BadRows, Record

ROW = Record("f.csv", "line 2", {})


def test_the_id_follows_content_not_order_or_layout() -> None:
    item = Item(question="Which  drug?\n", language="en", options=("aspirin", "heparin"), answer=("A",))
    shuffled = Item(question="Which drug?", language="en", options=("heparin", "aspirin"), answer=("B",), source="x")
    assert item.id == shuffled.id
    assert len(item.id) == 16
    assert item.id != Item(question="Which drug?", language="en", options=("heparin", "warfarin"), answer=("B",)).id
    assert item.id != Item(question="Which drug?", language="en", options=item.options, context="An abstract.").id


def test_explanations_do_not_identify_a_choice_but_references_do_a_free_text_item() -> None:
    first = Item(question="Q", language="en", options=("a", "b"), answer=("A",), reference="because")
    assert first.id == Item(question="Q", language="en", options=("a", "b"), answer=("A",), reference="revised").id
    assert Item(question="Q", language="en", reference="x").id != Item(question="Q", language="en", reference="y").id


def test_metadata_round_trip() -> None:
    options = ("甲", "乙")
    item = Item(question="问", language="zh", options=options, answer=("A", "B"), reference="解析", source="f, line 2")
    again = Item.from_metadata(item.to_metadata())
    assert (again, again.id, again.source) == (item, item.id, item.source)


def test_keys() -> None:
    assert key_letters(ROW, "Answer", "DBA", ["w", "x", "y", "z"]) == ("A", "B", "D")
    assert key_letters(ROW, "Answer", "a, c", ["w", "x", "y"]) == ("A", "C")
    for wrong in ("E", "AA", "nan", "1"):
        with pytest.raises(BadRow, match="field 'Answer'"):
            key_letters(ROW, "Answer", wrong, ["w", "x"])
    with pytest.raises(BadRow, match="empty"):
        key_letters(ROW, "Answer", " ", ["w", "x"])


def test_options() -> None:
    assert require_options(ROW, "options", [" a", 2]) == ("a", "2")
    with pytest.raises(BadRow, match="option B is empty"):
        require_options(ROW, "options", ["a", " "])
    with pytest.raises(BadRow, match="2 to 26 options, found 1"):
        require_options(ROW, "options", ["a"])
    for wrong in ("ab", {"A": "a", "B": "b"}, 2):
        with pytest.raises(BadRow, match="expected a list of options, found"):
            require_options(ROW, "options", wrong)


def test_repeated_items_are_named() -> None:
    item = Item(question="Q", language="en", reference="r")
    pairs = [(Record("f", "line 1", {}), item), (Record("f", "line 9", {}), item)]
    with pytest.raises(BadRow, match="line 9: the same item as line 1 of f"):
        checked(pairs, BadRows())
    bad = BadRows("skip")
    assert checked(pairs, bad) == [item]
    assert len(bad.rows) == 1
    with pytest.raises(MedbenchError, match="no usable items"):
        describe([])
