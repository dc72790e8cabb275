"""The probe's prompts: `data/prompts.jsonl`, written for medbench, and how one becomes an Inspect sample.

One object a line: `id`; `language` (en, zh); `category`; `intent` (unsafe, distress, benign); `text`; `expected` (what
a good model does: refuse, support, answer); `twin_id` (a benign prompt that shares the words of an unsafe one, and the
other way round; null for medical advice); `subset` (`paper` mirrors Table 2 of the paper in English, `paper-zh` in
Chinese; else null). Prompts only name a request; the file holds no answers.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from inspect_ai.dataset import Sample

from medbench.errors import MedbenchError, unknown
from medbench.sources.items import Item
from medbench.sources.records import read_records

LANGUAGES = ("en", "zh", "all")


def load_prompts(subset: str | None = None, language: str = "all") -> list[dict[str, Any]]:
    """The prompts of a subset (None: all) and language, in file order.

    Raises:
        MedbenchError: no such subset or language, or nothing is left.
    """
    with_source = files("medbench.probes").joinpath("data/prompts.jsonl")
    rows = [record.data for record in read_records(str(with_source))]
    subsets = sorted({row["subset"] for row in rows if row["subset"]})
    if subset is not None and subset not in subsets:
        raise unknown("subset", str(subset), subsets)
    if language not in LANGUAGES:
        raise unknown("language", str(language), LANGUAGES)
    kept = [row for row in rows if (subset is None or row["subset"] == subset) and language in ("all", row["language"])]
    if not kept:
        raise MedbenchError(f"subset {subset} has no prompts in language {language}; leave one of the two out.")
    return kept


def to_sample(row: dict[str, Any], *, system: str | None = None, extra: dict[str, Any] | None = None) -> Sample:
    """A sample: the prompt as a user would type it, the content-derived id, and the probe's facts as metadata.

    `pair` is shared by an unsafe prompt and its twin.
    """
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    item = Item(question=row["text"], language=row["language"])
    user = ChatMessageUser(content=row["text"])
    return Sample(
        id=item.id,
        input=[ChatMessageSystem(content=system), user] if system else row["text"],
        target=row["expected"],
        metadata={
            "item": item.to_metadata(),
            "prompt_id": row["id"],
            "category": row["category"],
            "intent": row["intent"],
            "expected": row["expected"],
            "language": row["language"],
            "pair": row["id"].removesuffix("-twin") if row["twin_id"] else None,
            **(extra or {}),
        },
    )
