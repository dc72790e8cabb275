"""CareQA, closed questions in English: entrance examinations of Spain's specialised health training, 2020 to 2024.

Arias-Duart et al., "Automatic Evaluation of Healthcare LLMs Beyond Question-Answering", 2025.
https://arxiv.org/abs/2502.06666

    inspect eval medbench/careqa --model MODEL
    inspect eval tasks/careqa.py --model MODEL -T source=CareQA_en.json
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark.families import choice_task
from medbench.benchmark.page import CHOICE, About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.sources.items import LETTERS, Item, require_options
from medbench.sources.records import Record

# No commit has been verified; the log records which one was read.
HUB = HubSource(
    repository="HPAI-BSC/CareQA",
    revision="main",
    split="test",
    data_files="CareQA_en.json",
)
_LABELS = ("category", "year")
ABOUT = About(items=5_621, language="en", scores="accuracy", version=1)


@task
@page(
    *CHOICE,
    source="the publisher's `CareQA_en.json`",
    revision="the newest",
)
def careqa(settings: Settings) -> Task:
    """CareQA in English, four options, test split (5,621 items)."""
    loaded = load(HUB, record_to_item, settings, repeats=True)
    return choice_task(loaded, settings, name="careqa", version=ABOUT.version)


def record_to_item(record: Record) -> Item:
    """`question, op1..op4, cop` (counted from 1); `category` and `year` sort the items."""
    options = require_options(record, "op1..op4", [record.value(f"op{number}") for number in range(1, 5)])
    number = record.value("cop")
    # 2.0 is what a Parquet column with gaps makes of 2; True would pass for 1
    if isinstance(number, bool) or not isinstance(number, int | float) or number not in range(1, 5):
        raise record.error("cop", f"expected the number of an option (1 to 4), found {number!r}")
    return Item(
        question=record.text("question"),
        language="en",
        options=options,
        answer=(LETTERS[int(number) - 1],),
        labels=tuple((label, str(record.data[label])) for label in _LABELS if record.data.get(label)),
    )
