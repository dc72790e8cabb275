"""What each cue control makes of one item: pure functions, each giving an item that keeps the original's id.

An item that cannot have a control raises `NoControl`, with the reason in words that are the same for all such items.
"""

from __future__ import annotations

import dataclasses
import re

from medbench.benchmark.controls.anchors import anchors
from medbench.benchmark.controls.order import another_order, arranged
from medbench.errors import MedbenchError
from medbench.reading.choice import asks_for_the_odd_one
from medbench.sources.items import LETTERS, Item

# Med-NOTA's words (Bedi et al., JAMA Netw Open 2025;8(8):e2526021). In Chinese without 以上, since it need not be last,
# and without 不正确, which a question for the wrong statement would turn round.
NONE_OF_THESE = {"en": "None of the other answers", "zh": "其他选项都不是"}
# Stems that ask to choose among statements, which nobody can answer without seeing them.
_NEEDS_OPTIONS = re.compile(
    r"\bwhich (?:one )?of the (?:following|above)\b[^?]*\b(?:statements?|is (?:true|correct)|are (?:true|correct))\b"
    r"|\b(?:following|true|correct) statements?\b|\ball of the following\b"
    r"|(?:下列|以下|下述|哪)[^。？]*(?:说法|叙述|描述|陈述|论述|正确|符合)|正确的(?:是|为|有)|^[^，。]*，?正确的$",
    re.IGNORECASE,
)


class NoControl(MedbenchError):
    """An item cannot have a control; the text says why."""


def options_only(item: Item) -> Item:
    """The options without the question (and without a context)."""
    return _variant(item, question="", context="")


def no_options(item: Item) -> Item:
    """The question alone; the open answer is matched with the options' texts, which stay with the item for that.

    Raises:
        NoControl: several right answers; a stem or a key that means nothing without the options.
    """
    _require_one_answer(item)
    if LETTERS.index(item.answer[0]) in anchors(item):
        raise NoControl("the right option speaks of the others")
    if asks_for_the_odd_one(item.question):
        raise NoControl("the question asks which option is not so")
    if _NEEDS_OPTIONS.search(item.question):
        raise NoControl("the question asks to choose among statements")
    return _variant(item)


def none_of_these(item: Item) -> Item:
    """The right option replaced by "None of the other answers", in its place: the key stays the same letter.

    The construction of Med-NOTA. Whether none of the others is right after all takes a clinician to say: in that study
    68 of 100 items passed.

    Raises:
        NoControl: several right answers, two options, or an option that speaks of others.
    """
    _require_one_answer(item)
    if len(item.options) < 3:
        raise NoControl("two options")
    if anchors(item):
        raise NoControl("an option speaks of the others")
    right = LETTERS.index(item.answer[0])
    words = NONE_OF_THESE[item.language]
    return _variant(item, options=(*item.options[:right], words, *item.options[right + 1 :]))


def no_labels(item: Item) -> Item:
    """The options without letters, to be answered with an option's text.

    Raises:
        NoControl: an option names others by their letters, or two options have the same text.
    """
    if any(found.letters for found in anchors(item).values()):
        raise NoControl("an option names others by their letters")
    if len({" ".join(text.split()).casefold() for text in item.options}) < len(item.options):
        raise NoControl("two options have the same text")
    return _variant(item)


def reordered(item: Item, number: int) -> tuple[Item, str]:
    """The options in the `number`-th (from 1) of the item's seeded orders.

    Returns:
        the item, and the original's letter of the option at each new place (``CABD``).

    Raises:
        NoControl: no two options may change places.
    """
    order = another_order(item, number)
    if order is None:
        raise NoControl("no two options may change places")
    return arranged(item, order), "".join(LETTERS[old] for old in order)


def rephrased(item: Item, question: str | None) -> Item:
    """The item with another wording of its question.

    Raises:
        NoControl: there is none, or it is the question as it was.
    """
    if question is None:
        raise NoControl("the file has no rephrased question for it")
    if " ".join(question.split()) == " ".join(item.question.split()):
        raise NoControl("its rephrased question is the question as it was")
    return _variant(item, question=question)


def _variant(item: Item, **changes: object) -> Item:
    return dataclasses.replace(item, **changes, variant_of=item.id)  # type: ignore[arg-type]


def _require_one_answer(item: Item) -> None:
    if len(item.answer) != 1:
        raise NoControl("several right answers")
