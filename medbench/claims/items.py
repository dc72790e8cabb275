"""Items with the claims that a good answer makes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medbench.claims.verdicts import MUST_HAVE, NICE_TO_HAVE, Case
from medbench.errors import LeftOut
from medbench.sources.items import Item
from medbench.sources.records import Record

_HAN = re.compile("[\u3400-\u9fff]")


@dataclass(frozen=True, kw_only=True)
class ClaimItem(Item):
    """A free-text item with its claims; they travel in `Sample.metadata["item"]` and take no part in the id.

    Attributes:
        must_have: claims without which an answer is incomplete.
        nice_to_have: further true claims; only contradicting them counts.
    """

    must_have: tuple[str, ...] = ()
    nice_to_have: tuple[str, ...] = ()


def record_to_claims(record: Record) -> ClaimItem:
    """K-QA's row: `Question, Must_have, Nice_to_have, Free_form_answer` (lists of texts; further columns are ignored).

    An empty reference answer has surface scores of 0; its claims are judged like any other's. The language is Chinese
    where the question holds a Chinese character, else English.

    Raises:
        BadRow: a column is missing or holds something else.
        LeftOut: the row has no must-have claim, so that its comprehensiveness is undefined.
    """
    must = _claims(record, "Must_have")
    nice = _claims(record, "Nice_to_have") if record.data.get("Nice_to_have") is not None else ()
    if not must:
        raise LeftOut(record.file, record.row, "Must_have", "no must-have claim: its comprehensiveness is undefined")
    question = record.text("Question")
    return ClaimItem(
        question=question,
        language="zh" if _HAN.search(question) else "en",
        reference=record.text("Free_form_answer", empty_ok=True),
        must_have=must,
        nice_to_have=nice,
    )


def _claims(record: Record, column: str) -> tuple[str, ...]:
    found = record.value(column)
    if not isinstance(found, list) or not all(isinstance(claim, str) for claim in found):
        raise record.error(column, f"expected a list of claims as texts, found {found!r:.80}")
    claims = tuple(claim.strip() for claim in found)
    if not all(claims):
        raise record.error(column, f"claim {claims.index('') + 1} is empty")
    return claims


def cases(item: Mapping[str, Any], answer: str) -> list[Case]:
    """The claims of an item in a log's metadata, must-have ones first, against an answer."""
    must, nice = (item.get("must_have") or ()), (item.get("nice_to_have") or ())
    return [
        Case(item["question"], claim, answer, importance)
        for importance, claims in ((MUST_HAVE, must), (NICE_TO_HAVE, nice))
        for claim in claims
    ]


def other_items(items: Sequence[ClaimItem]) -> list[ClaimItem | None]:
    """For each item the next one of the same language, whose claims its answer is judged by for the floor.

    None where a language has a single item. The order is the ids', so it does not depend on the file's.
    """
    ordered = sorted(range(len(items)), key=lambda index: items[index].id)
    others: list[ClaimItem | None] = [None] * len(items)
    for language in {item.language for item in items}:
        ring = [index for index in ordered if items[index].language == language]
        for here, after in zip(ring, ring[1:] + ring[:1], strict=True):
            others[here] = items[after] if after != here else None
    return others
