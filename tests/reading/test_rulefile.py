"""Rule files: what they hold, what is refused with file and row, and whether a lost row is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medbench.errors import MedbenchError
from medbench.reading.check import failures, unnoticed
from medbench.reading.rulefile import Example, RuleSet, load

GOOD = """\
language: en
categories:
  ANSWER:
    words: [answer, key]
    examples:
      - {text: "the {word} is B", expect: "yes"}
fragments:
  IS_IT: "[ANSWER] is"
rules:
  - name: answer_is
    kind: states
    pattern: "the [IS_IT]"
    examples:
      - {text: the key is B, expect: "yes", multiple: true}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    return path


def reader(rules: RuleSet) -> Callable[[Example], str]:
    """The smallest engine: "yes" where any rule's pattern occurs in the text."""
    import re

    patterns = [re.compile(rules.expand(one)) for rule in rules.rules for one in rule.patterns]
    return lambda example: "yes" if any(pattern.search(example.text) for pattern in patterns) else "no"


def test_categories_fragments_rules_and_examples(tmp_path: Path) -> None:
    rules = load(written(tmp_path, GOOD), kinds={"states"})
    assert rules.words("ANSWER") == ["answer", "key"]
    assert rules.expand(rules.rules[0].patterns[0]) == "the (?:(?:answer|key) is)"
    assert rules.rules[0].examples[0].options == {"multiple": True}
    assert [example.text for _, example in rules.all_examples()] == [
        "the key is B", "the answer is B", "the key is B",
    ]  # fmt: skip
    assert failures(rules, reader) == []
    assert unnoticed(rules, reader) == []


def test_a_row_that_no_example_notices_is_named(tmp_path: Path) -> None:
    more = GOOD + (
        "  - name: idle\n    kind: states\n    pattern: the\n"
        "    examples:\n      - {text: the key is B, expect: 'yes'}\n"
    )
    rules = load(written(tmp_path, more), kinds={"states"})
    found = unnoticed(rules, reader)
    assert any("line 15, rule 'idle'" in line for line in found)
    assert any("word 'answer'" in line for line in found)  # "the" alone reads it now
    wrong = load(written(tmp_path, GOOD.replace("the key is B, expect", "a key is B, expect")), kinds={"states"})
    assert failures(wrong, reader) == ["rules.yaml, line 10, rule 'answer_is': 'a key is B' reads 'no', not 'yes'"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[IS_IT]", "[IS_TI]", r"rules.yaml, line 10, rule 'answer_is': unknown category 'IS_TI'. Did you mean IS_IT"),
        ('"[ANSWER] is"', '"[ANSWERS] is"', r"fragment 'IS_IT': unknown category or earlier fragment 'ANSWERS'"),
        ("kind: states", "kind: state", r"line 10, rule 'answer_is': unknown kind 'state'. Did you mean states"),
        ("kind: states", "sort: states", r"line 10, rule 'answer_is': unknown field 'sort'"),
        ("[answer, key]", "[answer, answer]", r"line 4, category ANSWER: the word 'answer' \(en\) is already there"),
        (
            "    examples:\n      - {text: the",
            "    note: no\n    #  {text: the",
            "rule 'answer_is': 'examples' is missing",
        ),
        ("expect: \"yes\", multiple", "multiple", r"rule 'answer_is': an example needs 'text' and 'expect'"),
        ("language: en", "languages: en", "unknown section 'languages'. Did you mean language"),
        ("language: en", "language: [", "is not valid YAML"),
        ('"the [IS_IT]"', "[the]\n    sign: '?'", "sign must be"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_row(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(MedbenchError, match=said):
        load(written(tmp_path, GOOD.replace(old, new)), kinds={"states"})


def test_names_are_unique_across_files(tmp_path: Path) -> None:
    twice = GOOD + GOOD[GOOD.index("  - name") :]
    with pytest.raises(MedbenchError, match="line 15, rule 'answer_is': a rule named 'answer_is' is already there"):
        load(written(tmp_path, twice), kinds={"states"})
    with pytest.raises(MedbenchError, match="cannot be read"):
        load(tmp_path / "none.yaml", kinds={"states"})
