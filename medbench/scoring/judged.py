"""What a scorer judges of a sample, and the score of what an output states: shared by all scorers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from inspect_ai.scorer import Score
from inspect_ai.solver import TaskState

from medbench import thinking
from medbench.answers import Extraction
from medbench.scoring.transcript import raw_text
from medbench.sources.items import Item

_NAN = float("nan")
Judged = TypeVar("Judged")


def judged_item(state: TaskState) -> Item:
    """The item behind a sample, from its metadata."""
    return Item.from_metadata(state.metadata["item"])


def judged_text(state: TaskState) -> tuple[str, bool]:
    """The generation as it was made, and whether the prompt already held the opening think tag."""
    output = (state.output.metadata or {}).get("prefilled_think")
    prefilled = state.metadata.get("prefilled", False) if output is None else output
    return raw_text(state.output), bool(prefilled)


def judged_views(state: TaskState) -> dict[str, str]:
    """The views of a sample's generation."""
    text, prefilled = judged_text(state)
    return thinking.views(text, prefilled=prefilled)


def extraction_score(
    extractions: Mapping[str, Extraction],
    gold: tuple[str, ...],
    by_type: bool,
    right: Callable[[tuple[str, ...]], bool] | None = None,
) -> Score:
    """The score of what an output states under each view, against the key.

    Args:
        extractions: by view.
        gold: the key.
        by_type: also ``accuracy_single/answer`` and ``accuracy_multiple/answer``.
        right: whether what is stated counts as the key; None for being the key itself.
    """
    value: dict[str, float] = {}
    for view, extraction in extractions.items():
        answered = extraction.status == "answer"
        correct = float(answered and (right(extraction.letters) if right else extraction.letters == tuple(gold)))
        value[f"accuracy/{view}"] = correct
        value[f"answered/{view}"] = float(answered)
    if by_type:
        correct = value["accuracy/answer"]
        value["accuracy_single/answer"] = correct if len(gold) == 1 else _NAN
        value["accuracy_multiple/answer"] = correct if len(gold) > 1 else _NAN
    head = extractions["answer"]
    joint = "" if all(len(letter) == 1 for letter in (*head.letters, *gold)) else ", "
    said = joint.join(head.letters)
    explanation = f"answer view: {said or 'no answer'} (key {joint.join(gold)})"
    if head.rule:
        explanation = f"{explanation}, read by rule {head.rule} ({head.slot})"
    return Score(
        value=value,
        answer=said or None,
        explanation=explanation if head.status == "answer" else f"{explanation}: {head.status}, {head.reason}",
        reason=None if head.status == "answer" else _inspect_reason(head),
        metadata={
            "gold": list(gold),
            "extraction": {view: _extraction_record(extraction) for view, extraction in extractions.items()},
        },
    )


def _extraction_record(extraction: Extraction) -> dict[str, Any]:
    return {
        "status": extraction.status,
        "letters": list(extraction.letters),
        "span": list(extraction.span) if extraction.span else None,
        "reason": extraction.reason,
        "rule": extraction.rule,
        "slot": extraction.slot,
    }


def _inspect_reason(extraction: Extraction) -> str:
    """Inspect's own word where there is one, else ours."""
    known = {"no_response": "no_response", "refused": "refusal"}
    return known.get(extraction.reason, "invalid_response_format")


def ordered_views(state: TaskState) -> list[tuple[str, str]]:
    """The views of a sample's generation, in the order in which they are shown."""
    views = judged_views(state)
    return [(view, views[view]) for view in thinking.VIEWS]


def once_per_text(judge: Callable[[str], Judged]) -> Callable[[str], Judged]:
    """Without a trace all views are the same text: judge it once."""
    seen: dict[str, Judged] = {}

    def judged(text: str) -> Judged:
        if text not in seen:
            seen[text] = judge(text)
        return seen[text]

    return judged
