"""`make check-rules`: is every row of the rule files and every word of their categories noticed by an example?

Each rule and each word is taken away in turn, and the examples that stand with it are read again: where all of them
still read right, the row does nothing that anyone wrote down, and it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from medbench.reading.rulefile import Example, RuleSet

# A reader made from a set of rules: what an example reads as.
Read = Callable[[Example], str]
MakeReader = Callable[[RuleSet], Read]


def failures(rules: RuleSet, make: MakeReader) -> list[str]:
    """Examples that do not read as they say, each with file and row."""
    read = make(rules)
    found = []
    for where, example in rules.all_examples():
        value = read(example)
        if value != example.expect:
            found.append(f"{where}: {example.text!r} reads {value!r}, not {example.expect!r}")
    return found


def unnoticed(rules: RuleSet, make: MakeReader) -> list[str]:
    """Rules and words whose loss none of their examples notices, each with file and row."""
    found = []
    for rule in rules.rules:
        if not _noticed(rule.examples, make(rules.without_rule(rule.name))):
            found.append(f"{rule.where}: no example notices when this rule is deleted; add one, or delete the rule")
    for category in rules.categories:
        for entry in category.words:
            if not _noticed(category.examples_of(entry), make(rules.without_word(category, entry))):
                found.append(
                    f"{category.file}, line {entry.line}, category {category.name}: no example notices when the word "
                    f"{entry.word!r} is deleted; give it one ({{word: {entry.word}, examples: [...]}}), or delete it"
                )
    return found


def _noticed(examples: Iterable[Example], read: Read) -> bool:
    return any(read(example) != example.expect for example in examples)
