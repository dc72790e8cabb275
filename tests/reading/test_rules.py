"""The shipped rules: every example reads right, and a deleted row is noticed (`make check-rules` deletes all)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from medbench.cli import cli
from medbench.reading import checked
from medbench.reading.check import Read, failures, unnoticed
from medbench.reading.choice import read_choice
from medbench.reading.rulefile import Example, RuleSet, load
from medbench.reading.tokens import KINDS, sentence_rules


@pytest.mark.parametrize("name", ["slots", "sentences"])
def test_every_example_reads_right(name: str) -> None:
    rules, make = next((rules, make) for known, rules, make in checked.checks() if known == name)
    assert failures(rules, make) == []


def test_an_idle_row_is_refused() -> None:
    rules, make = next((rules, make) for known, rules, make in checked.checks() if known == "sentences")
    rule = next(rule for rule in rules.rules if rule.name == "judged_right")
    twins = (rule, replace(rule, name="judged_right_again"))
    words = rules.categories

    def with_words(some: RuleSet) -> Read:
        return make(RuleSet(words, some.rules, some.fragments))

    assert len(unnoticed(RuleSet((), twins, rules.fragments), with_words)) == 2  # each covers for the other
    assert unnoticed(RuleSet((), twins[:1], rules.fragments), with_words) == []


def test_a_phrase_is_added_by_a_row(tmp_path: Path) -> None:
    """A row in a file beside the shipped ones is all it takes."""
    text = "For fever the whole house stands behind B."
    assert checked.sentence_reader(sentence_rules())(Example(text, "B")) == "abstain"
    path = tmp_path / "mine.yaml"
    path.write_text(
        "language: en\ncategories:\n  CHOOSE:\n    words: [stands behind]\n    examples:\n"
        "      - {text: The fever {word} B., expect: B}\n".replace(
            "{text: The fever {word} B.", "{text: 'It {word} B.'"
        )
    )
    mine = load(path, kinds=KINDS)
    both = RuleSet((*sentence_rules().categories, *mine.categories), sentence_rules().rules, sentence_rules().fragments)
    assert checked.sentence_reader(both)(Example(text, "B")) == "B"
    assert (
        unnoticed(
            RuleSet(mine.categories, ()),
            lambda some: checked.sentence_reader(
                RuleSet(
                    (*sentence_rules().categories, *some.categories), sentence_rules().rules, sentence_rules().fragments
                )
            ),
        )
        == []
    )


def test_explain_shows_the_rule_and_the_span(tmp_path: Path) -> None:
    text = "<think>A?</think>The findings fit A.\n\nAnswer: C\nA is wrong."
    result = CliRunner().invoke(cli, ["explain", text, "--letters", "ABC"])
    assert result.exit_code == 0, result.output
    assert "answer  C" in result.output
    assert "answer_colon" in result.output
    file = tmp_path / "output.txt"
    file.write_text(text, "utf-8")
    assert "answer_colon" in CliRunner().invoke(cli, ["explain", str(file)]).output
    none = CliRunner().invoke(cli, ["explain", "Rest and fluids."])
    assert "no_answer_found" in none.output


def test_the_steps_name_what_was_found_in_order() -> None:
    text = "C. Cefixime\n\nThe answer is C.\n\nThe next question asks about nerves.\nThe answer is A."
    result, steps = read_choice(text, "ABC")
    assert result.letters == ("C",)
    assert [step.what for step in steps] == ["run-on", "leading", "final"]
    assert [step.rule for step in steps if step.decided] == ["answer_is"]
