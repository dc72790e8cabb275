"""`python -m medbench.reading.checked`: the rule files of reading (and of refusals) checked against their examples.

Every example must read as it says, and every rule and every word must be noticed by an example when it is taken away.
"""

from __future__ import annotations

import importlib
import sys
import time

from medbench.reading.check import MakeReader, Read, failures, unnoticed
from medbench.reading.choice import Engines, read_choice
from medbench.reading.decision import read_decision
from medbench.reading.engine import SentenceEngine, sentence_engine
from medbench.reading.extraction import Extraction
from medbench.reading.rulefile import Example, RuleSet
from medbench.reading.slots.declared import DeclaredSlots, slot_rules
from medbench.reading.tokens import sentence_rules


def value(extraction: Extraction) -> str:
    """A result in the words of the examples: letters, ``abstain`` or ``ambiguous``; ``-A`` where only A is rejected."""
    if extraction.status == "answer":
        return "".join(extraction.letters)
    rejected = "".join(extraction.rejected)
    return f"-{rejected}" if extraction.status == "abstain" and rejected else extraction.status


def slot_reader(rules: RuleSet) -> Read:
    """Reads choices by the slots alone."""
    return _reader(Engines(DeclaredSlots(rules), None))


def sentence_reader(rules: RuleSet) -> Read:
    """Reads choices, and decisions where an example says ``decision: true``, by the sentences alone."""
    return _reader(Engines(DeclaredSlots(RuleSet((), ())), SentenceEngine(rules)))


def _reader(engines: Engines) -> Read:
    def read(example: Example) -> str:
        options = dict(example.options)
        if options.pop("decision", False):
            return value(read_decision(example.text, engines.sentences or sentence_engine()))
        return value(read_choice(example.text, engines=engines, **options)[0])

    return read


def checks() -> list[tuple[str, RuleSet, MakeReader]]:
    """What is checked: a name, its rules, and how a reader is made of them."""
    found: list[tuple[str, RuleSet, MakeReader]] = [
        ("slots", slot_rules(), slot_reader),
        ("sentences", sentence_rules(), sentence_reader),
    ]
    try:
        refusals = importlib.import_module("medbench.refusal.rules")
        found.append(("refusals", refusals.RULES(), refusals.make_reader))
    except (ModuleNotFoundError, AttributeError):  # not yet in this format
        pass
    return found


def main() -> int:
    """Prints what is wrong; 1 if anything is."""
    wrong: list[str] = []
    for name, rules, make in checks():
        start = time.perf_counter()
        found = failures(rules, make) or unnoticed(rules, make)
        words = sum(len(category.words) for category in rules.categories)
        seconds = time.perf_counter() - start
        print(f"{name}: {len(rules.rules)} rules and {words} words, {len(found)} faults, {seconds:.1f} s")
        wrong += found
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
