"""Test items: what a benchmark asks, apart from how it is prompted.

An item's id is derived from its content, so that logs, audits, imported predictions and later runs join on it
whatever file, order or option shuffling they came from.
"""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medbench.errors import LeftOut, MedbenchError
from medbench.sources.records import BadRows, Record

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DECISIONS = ("yes", "no", "maybe")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One test item.

    Attributes:
        question: the question as the model is to see it, without options.
        language: ``en`` or ``zh``: the language of the question, and of the prompt around it.
        options: option texts in the order they are shown; empty where there is no choice.
        answer: the key: option letters, one of ``yes``, ``no``, ``maybe``, or a quantity as text; empty for free text.
        context: what the question is to be answered from (an abstract), or "".
        reference: reference text: the answer of a free-text item, the explanation of a multiple-choice one, or "".
        more_references: further texts that count as the reference as well; empty where there is one.
        source: where the row was read, e.g. ``us_4_options_test.jsonl, line 3``; not part of the identity.
        group: items that share a group are not independent (several questions on one case), or "".
        labels: how the data set sorts it, (name, value) each, e.g. ``(("subject", "anatomy"),)``; not part of the
            identity.
        limits: the lowest and highest number that count as the key; None where it must be met exactly.
        variant_of: id of the item that this one is a variant of (under a control), whose id it keeps; or "".
    """

    question: str
    language: str
    options: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    context: str = ""
    reference: str = ""
    more_references: tuple[str, ...] = ()
    source: str = field(default="", compare=False)
    group: str = field(default="", compare=False)
    labels: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    limits: tuple[float, float] | None = None
    variant_of: str = field(default="", compare=False)

    @functools.cached_property
    def id(self) -> str:
        """16 hex digits of the SHA-256 of the normalised content.

        Question, context and options (order-free) identify an item; the reference takes part only where there are no
        options and no key, because explanations get revised and free-text questions repeat; several references in any
        order. A variant has the id of the item that it was made from.
        """
        if self.variant_of:
            return self.variant_of
        free_text = not self.options and not self.answer
        references = sorted(_normal(text) for text in self.references)
        content: list[Any] = [
            _normal(self.question),
            _normal(self.context),
            sorted(_normal(option) for option in self.options),
            (references if self.more_references else _normal(self.reference)) if free_text else "",
        ]
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def references(self) -> tuple[str, ...]:
        """All reference texts; empty where there is none."""
        return tuple(text for text in (self.reference, *self.more_references) if text)

    @property
    def letters(self) -> str:
        """The letters of the options in use, e.g. ``ABCD``."""
        return LETTERS[: len(self.options)]

    def to_metadata(self) -> dict[str, Any]:
        """Plain values for `Sample.metadata["item"]`; `from_metadata` is its inverse."""
        values = asdict(self) | {"labels": dict(self.labels)}
        for name in ("labels", "limits", "variant_of", "more_references"):  # logs of plain items stay as they were
            if not values[name]:
                del values[name]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @staticmethod
    def from_metadata(values: dict[str, Any]) -> Item:
        """The item kept in a log's sample metadata."""
        known = {key: values[key] for key in Item.__dataclass_fields__ if key in values}
        for key in ("options", "answer", "more_references"):
            known[key] = tuple(known.get(key) or ())
        known["labels"] = tuple((known.get("labels") or {}).items())
        known["limits"] = tuple(known["limits"]) if known.get("limits") else None
        return Item(**known)


_REPEAT = "~"


def repeat_id(item_id: str, number: int) -> str:
    """The id of a sample that holds an item's output number `number` (from 2), where repetitions are uneven."""
    return f"{item_id}{_REPEAT}{number}"


def asked_id(sample_id: str) -> str:
    """The id of the item that a sample asks; findings and other logs know it under this one."""
    item_id, _, number = sample_id.rpartition(_REPEAT)
    return item_id if item_id and number.isdigit() else sample_id


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def key_letters(record: Record, column: str, answer: str, options: Sequence[str]) -> tuple[str, ...]:
    """The answer key as sorted letters.

    Raises:
        BadRow: the key is empty, names a letter twice, or one that no option has.
    """
    letters = tuple(sorted(character for character in answer.upper() if character not in " ,;、，"))
    allowed = LETTERS[: len(options)]
    if not letters:
        raise record.error(column, "empty; expected the letter of the correct option")
    wrong = [letter for letter in letters if letter not in allowed]
    if wrong or len(set(letters)) != len(letters):
        raise record.error(column, f"answer {answer!r} does not name options among {', '.join(allowed)}, each once")
    return letters


def index_letter(record: Record, column: str, options: Sequence[str]) -> str:
    """The letter of the option whose 0-based index a column holds.

    Raises:
        BadRow: it holds no whole number, or one outside the options.
    """
    index = record.data.get(column)
    # 2.0 is what a Parquet column with gaps makes of 2; True would pass for 1
    if isinstance(index, int | float) and not isinstance(index, bool) and index in range(len(options)):
        return LETTERS[int(index)]
    raise record.error(column, f"expected the index of an option (0 to {len(options) - 1}), found {index!r}")


def checked(items: Iterable[tuple[Record, Item]], bad_rows: BadRows, *, repeats: bool = False) -> list[Item]:
    """The items, with rows that repeat another one's content handed to `bad_rows`: ids must be unique in a log.

    With `repeats` the publisher may repeat items, which no user can mend: they are left out and listed.
    """
    kept: dict[str, tuple[Record, Item]] = {}
    for record, item in items:
        if item.id in kept:
            first = kept[item.id][0]
            key = "" if kept[item.id][1].answer == item.answer else ", with another key"
            problem = f"the same item as {first.row} of {first.file} (id {item.id}){key}"
            bad_rows.add(LeftOut(record.file, record.row, None, problem) if repeats else record.error(None, problem))
        else:
            kept[item.id] = (record, item)
    return [item for _, item in kept.values()]


def require_options(record: Record, column: str, options: object) -> tuple[str, ...]:
    """Option texts: a list of at least two, none empty, at most 26.

    Raises:
        BadRow: one of these does not hold.
    """
    if not isinstance(options, list | tuple):
        raise record.error(column, f"expected a list of options, found {options!r:.80}")
    texts = tuple(str(option).strip() for option in options)
    if not 2 <= len(texts) <= len(LETTERS):
        raise record.error(column, f"expected 2 to {len(LETTERS)} options, found {len(texts)}")
    if not all(texts):
        raise record.error(column, f"option {LETTERS[texts.index('')]} is empty")
    return texts


def describe(items: Sequence[Item]) -> dict[str, Any]:
    """Counts for a log's metadata: items, languages, options per item, multi-answer items; and a hash over all ids.

    Raises:
        MedbenchError: there are no items.
    """
    if not items:
        raise MedbenchError("no usable items: every row was left out.")
    digest = hashlib.sha256("\n".join(sorted(item.id for item in items)).encode()).hexdigest()
    return {
        "items": len(items),
        "items_sha256": digest,
        "languages": dict(Counter(item.language for item in items)),
        "options": {str(count): n for count, n in sorted(Counter(len(item.options) for item in items).items())},
        "multiple_answers": sum(len(item.answer) > 1 for item in items),
    }


def instruction_item(record: Record, *, language: str) -> Item:
    """A free-text item from an instruction-tuning row: `instruction`, `input` (may be empty), `output`."""
    parts = (record.text("instruction"), record.text("input", empty_ok=True) if record.data.get("input") else "")
    return Item(question="\n".join(part for part in parts if part), language=language, reference=record.text("output"))
