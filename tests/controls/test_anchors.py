"""Options that speak of others: every rule by its own examples, and what becomes of such options when others move."""

from __future__ import annotations

import random

import pytest

from medbench.benchmark.controls.anchors import Rule, anchor, anchors, renamed, rules
from medbench.benchmark.controls.order import another_order, arranged, movable, shuffled
from medbench.sources.items import Item


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_a_rule_matches_its_examples_and_not_the_others(rule: Rule) -> None:
    for text in rule.examples:
        assert rule.pattern.fullmatch(text), text
        found = anchor(text, "ABCDE")
        assert found is not None, text
        assert bool(found.letters) == ("letters" in rule.pattern.groupindex), text
    for text in rule.not_:
        assert not rule.pattern.fullmatch(text), text


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_every_rule_is_needed(rule: Rule) -> None:
    """Without it some example of its own is an ordinary option, or means something else."""
    left = [other for other in rules() if other is not rule]
    assert any(not any(other.pattern.fullmatch(text) for other in left) for text in rule.examples)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("Both A and C", "AC"),
        ("(a) & (b)", "AB"),
        ("A＋B＋C", "ABC"),
        ("all of the above except D", "D"),
        ("BD皆非", "BD"),
    ],
)
def test_letters_are_found(text: str, letters: str) -> None:
    found = anchor(text, "ABCDE", "E")
    assert found is not None
    assert "".join(sorted(found.letters.values())) == letters


def test_letters_that_no_option_has_or_its_own_are_no_reference() -> None:
    assert anchor("A and F", "ABCD") is None
    assert anchor("Both C and D", "ABCD", "D") is None
    assert anchor("Vitamin A", "ABCD") is None
    assert anchor("None", "ABCD") is None


def test_letters_are_rewritten_in_their_own_case_and_width() -> None:
    moved = {"A": "C", "B": "A", "C": "B", "D": "D"}
    for text, new in (
        ("Both A and C", "Both B and C"),
        ("a, b", "a, c"),
        ("Ａ＋Ｂ", "Ａ＋Ｃ"),
        ("All but D", "All but D"),
    ):
        found = anchor(text, "ABCD")
        assert (renamed(text, found, moved) if found else text) == new


def item(*options: str, answer: str = "A") -> Item:
    return Item(question="Which?", language="en", options=options, answer=tuple(answer))


def test_above_parts_the_list_and_the_others_keep_their_place() -> None:
    assert movable(item("a1", "a2", "Both of the above", "a4", "a5")) == [[0, 1], [3, 4]]
    assert movable(item("a1", "a2", "none of these", "a4")) == [[0, 1, 3]]
    assert movable(item("a1", "a2", "a3", "Both A and B")) == [[0, 1, 2]]


def meaning(of: Item) -> dict[str, frozenset[str] | str]:
    """What each option says, by texts that do not depend on places."""
    found: dict[str, frozenset[str] | str] = {}
    anchored = anchors(of)
    for place, text in enumerate(of.options):
        if place not in anchored:
            found[text] = text
        elif anchored[place].letters:
            named = anchored[place].letters.values()
            found[f"letters {place}"] = frozenset(of.options[of.letters.index(letter)] for letter in named)
        else:
            above = [f"letters {at}" if at in anchored else of.options[at] for at in range(place)]
            found[f"above {place}"] = frozenset(above)
    return found


@pytest.mark.parametrize("seed", range(30))
def test_moved_options_mean_what_they_meant(seed: int) -> None:
    original = item("w", "x", "y", "A and C", "All of the above", answer="D")
    moved = shuffled(original, seed)
    assert meaning(moved) == meaning(original)
    assert moved.answer == ("D",)
    assert moved.id == original.id


def test_an_order_without_anchors_is_the_one_that_it_always_was() -> None:
    """Published scores under `shuffle_options` stay: the draw is one shuffle of all places, seeded by seed and id."""
    original = item("w", "x", "y", "z", answer="B")
    order = list(range(4))
    random.Random(f"7:{original.id}").shuffle(order)
    assert shuffled(original, 7).options == tuple(original.options[old] for old in order)
    assert shuffled(original, None) is original


def test_orders_differ_from_one_another_and_from_the_published_one() -> None:
    four = item("w", "x", "y", "z")
    orders = [tuple(another_order(four, number) or ()) for number in range(1, 24)]
    assert len(set(orders)) == 23
    assert (0, 1, 2, 3) not in orders
    assert tuple(another_order(four, 24) or ()) == orders[0]
    assert another_order(item("x", "all of the above"), 1) is None
    assert another_order(item("x", "y"), 1) == another_order(item("x", "y"), 2) == [1, 0]


def test_the_key_moves_with_its_option() -> None:
    moved = arranged(item("w", "x", "y", "z", answer="AD"), [3, 2, 1, 0])
    assert (moved.options, moved.answer) == (("z", "y", "x", "w"), ("A", "D"))
    assert arranged(item("w", "x", "y", "z", answer="A"), [1, 2, 3, 0]).answer == ("D",)
