"""MedMCQA: four-option questions from Indian medical entrance examinations.

Pal et al., "MedMCQA: A Large-scale Multi-Subject Multi-Choice Dataset for Medical domain Question Answering", 2022.
https://arxiv.org/abs/2203.14371

    inspect eval medbench/medmcqa --model MODEL
"""

from __future__ import annotations

from collections.abc import Iterable

from inspect_ai import Task, task

from medbench.benchmark.families import choice_task
from medbench.benchmark.page import CHOICE, About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.errors import LeftOut, MedbenchError
from medbench.sources.items import Item, index_letter, require_options
from medbench.sources.records import BadRows, Record, read_records

HUB = HubSource(
    repository="openlifescienceai/medmcqa",
    revision="91c6572c454088bf71b679ad90aa8dffcd0d5868",
    split="validation",
    fewshot_split="train",
)
ABOUT = About(items=4_183, language="en", scores="accuracy", version=2)


@task
@page(
    *CHOICE,
    source="the publisher's `dev.json` (`cop` counts from 1), or the hub's Parquet (from 0)",
    fewshot="the training split",
)
def medmcqa(settings: Settings) -> Task:
    """MedMCQA, validation split (4,183 items; the test split has no public key)."""
    loaded = load(HUB, record_to_item, settings, read=read_counted_from_zero)
    return choice_task(loaded, settings, name="medmcqa", version=ABOUT.version)


def read_counted_from_zero(
    source: str, *, bad_rows: BadRows | None = None, encoding: str = "utf-8"
) -> Iterable[Record]:
    """Local rows with `cop` counted from 0, as on the hub; the publisher's own files count from 1.

    Which of the two a file does shows in its values: 0 occurs only in one, 4 only in the other.
    """
    records = list(read_records(source, bad_rows=bad_rows, encoding=encoding))
    values = {record.data["cop"] for record in records if isinstance(record.data.get("cop"), int | float)}
    if 0 in values and 4 in values:
        raise MedbenchError(f"{source}: 'cop' holds both 0 and 4, so it counts neither from 0 nor from 1.")
    if 4 in values:
        for record in records:
            if isinstance(record.data.get("cop"), int | float):
                record.data["cop"] -= 1
    elif 0 not in values and len(records) < 20 and values & {1, 2, 3}:
        raise MedbenchError(
            f"{source}: with {len(records)} rows and neither 0 nor 4 in 'cop' it cannot be told whether options are "
            "counted from 0 or from 1; use a longer file."
        )
    return records


def record_to_item(record: Record) -> Item:
    """`question, opa..opd, cop` (0-3), `exp` (explanation, may be missing)."""
    options = require_options(record, "opa..opd", [record.value(f"op{letter}") for letter in "abcd"])
    if record.data.get("cop") == -1:
        raise LeftOut(record.file, record.row, "cop", "the test split's key is not public")
    return Item(
        question=record.text("question"),
        language="en",
        options=options,
        answer=(index_letter(record, "cop", options),),
        reference=str(record.data.get("exp") or "").strip(),
        labels=(("subject", str(record.data["subject_name"])),) if record.data.get("subject_name") else (),
    )
