"""How far a finding can be trusted by itself, and which ones are none. docs/leakage.md has the rates on real text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from medbench.leakage.brief import LONGEST as BRIEF
from medbench.leakage.short import WHOLE
from medbench.leakage.units import fold
from medbench.sources.items import Item

SIGNALS = ("exact", "jaccard", "containment", "span", "edited")  # each of which may tell of a copy
CERTAIN, LIKELY, LOOK = "certain", "likely", "look at it"
LONG_LIST = 25  # units of all options of an item; a shorter list is found in prose too ("protein, fat, vitamins ...")
_WORD = re.compile(r"[^\W_]")


def severity(row: Mapping[str, Any], units: int) -> str:
    """How likely a finding is a copy of the item: ``certain``, ``likely`` or ``look at it``.

    Args:
        row: a finding with its evidence.
        units: of the field.
    """
    field, signal, score = str(row["field"]), str(row["signal"]), float(row["score"])
    if row.get("bare"):  # as in a text that states the fact: it holds the stem, and the key after it
        return LOOK
    if field.startswith("question"):
        if signal in ("exact", "jaccard", "option_set", "answer_nearby"):
            return CERTAIN if units >= WHOLE or signal != "exact" else LIKELY
        if signal == "containment":
            return CERTAIN if score >= 0.9 and units >= WHOLE else LIKELY
        if signal == "edited":
            if row.get("options_beside", 0.0) >= 0.75:
                return CERTAIN
            # in a short one, another word may make it another question ("a dry cough", "a headache")
            if units <= BRIEF and any(edit["kind"] == "word" for edit in row["edits"]):
                return LOOK
            if row.get("whole_text"):
                return LIKELY if score >= 0.75 else LOOK
            if score >= 0.85 and row["weight"] >= 5:
                return CERTAIN
            return LIKELY if score >= 0.75 or row["weight"] >= 10 else LOOK
        return LIKELY if score >= 0.5 else LOOK
    # answers and explanations share phrases with any text on their subject
    if signal in ("exact", "jaccard"):
        return CERTAIN if units >= 2 * WHOLE else LIKELY
    if signal in ("containment", "edited") and score >= 0.85 and units >= 2 * WHOLE:
        return LIKELY
    return LOOK


def missed_by(rows: Sequence[dict[str, Any]], *, looked_for_edited: bool) -> None:
    """Say in each finding of some records how that item in that record would have gone unseen.

    ``missed_by``: the signals that, each by itself, do not tell of it. ``edited`` is looked for only where none but
    ``span`` does: elsewhere nothing is said of it. ``only``: the one signal that does, or None.
    """
    told: dict[tuple[int, str], set[str]] = {}
    for row in rows:
        told.setdefault((row["record"], row["item_id"]), set()).add(row["signal"])
    for row in rows:
        found = told[row["record"], row["item_id"]]
        row["missed_by"] = [signal for signal in SIGNALS[:-1] if signal not in found]
        if looked_for_edited and not found & {"exact", "jaccard", "containment", "edited"}:
            row["missed_by"].append("edited")
        copies = [signal for signal in SIGNALS if signal in found]
        row["only"] = copies[0] if len(copies) == 1 else None


def loose_options(items: Sequence[Item], units: Sequence[int]) -> frozenset[int]:
    """Items whose options are no leak by themselves: lists that several items share, and short ones.

    Args:
        units: of the options of each item.
    """
    lists = [frozenset(" ".join(fold(option).split()) for option in item.options) for item in items]
    shared = Counter(lists)
    return frozenset(k for k, one in enumerate(lists) if one and (shared[one] > 1 or units[k] < LONG_LIST))


def stands_alone(text: str, begin: int, end: int) -> bool:
    """Whether a stretch of a text is a sentence or a line of its own: no word goes on before or after it."""
    before, after = text[:begin].rstrip(" \t"), text[end:].lstrip(" \t")
    return not (before and _WORD.match(before[-1])) and not (after and _WORD.match(after[0]))
