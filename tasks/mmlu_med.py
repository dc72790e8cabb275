"""MMLU, the six medical subjects.

Hendrycks et al., "Measuring Massive Multitask Language Understanding", 2021. https://arxiv.org/abs/2009.03300
The six subjects are those of Singhal et al., "Large language models encode clinical knowledge", 2022.

    inspect eval medbench/mmlu_med --model MODEL
    inspect eval medbench/mmlu_med --model MODEL -T subjects=anatomy,medical_genetics
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inspect_ai import Task, task

from medbench.benchmark.families import choice_task
from medbench.benchmark.page import CHOICE, About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.errors import LeftOut, unknown
from medbench.sources.items import LETTERS, Item, index_letter, require_options
from medbench.sources.records import BadRows, Record, read_records

SUBJECTS = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
)
HUB = HubSource(
    repository="cais/mmlu",
    revision="c30699e8356da336a370243923dbaf21066bb9fe",
    name="all",
    split="test",
    fewshot_split="dev",
)
ABOUT = About(items=1_089, language="en", scores="accuracy", version=2)


@task
@page(
    *CHOICE,
    source="the hub's Parquet, or one of the publisher's CSV files without header",
    fewshot="the dev split",
)
def mmlu_med(
    settings: Settings,
    subjects: str | list[str] = list(SUBJECTS),  # noqa: B006 - Inspect shows the default; it is never changed
) -> Task:
    """The medical subjects of MMLU, test split (1,089 items).

    Args:
        subjects: which of the six to run; rows of other subjects are passed over.
    """
    wanted = tuple(subjects.split(",")) if isinstance(subjects, str) else tuple(subjects)
    for subject in wanted:
        if subject not in SUBJECTS:
            raise unknown("MMLU subject", subject, SUBJECTS)

    def to_item(record: Record) -> Item:
        return record_to_item(record, wanted)

    loaded = load(HUB, to_item, settings, read=read_publisher)
    return choice_task(loaded, settings, name="mmlu_med", version=ABOUT.version)


def read_publisher(source: str, *, bad_rows: BadRows | None = None, encoding: str = "utf-8") -> Iterable[Record]:
    """Rows of a local file; the publisher's CSV has no header: question, four options, letter."""
    subject = Path(source).name.partition(".")[0].removesuffix("_test").removesuffix("_dev").removesuffix("_val")
    columns = ("question", *"ABCD", "letter")
    for record in read_records(source, bad_rows=bad_rows, encoding=encoding, columns=columns):
        if "letter" not in record.data:
            yield record
            continue
        row = record.data
        answer = LETTERS.find(row["letter"]) if row["letter"] else -1
        data = {"question": row["question"], "subject": subject, "choices": [row[x] for x in "ABCD"], "answer": answer}
        yield Record(record.file, record.row, data)


def record_to_item(record: Record, subjects: tuple[str, ...] = SUBJECTS) -> Item:
    """`question, subject, choices, answer` (0-3)."""
    subject = record.text("subject")
    if subject not in subjects:
        raise LeftOut(record.file, record.row, "subject", f"{subject!r} is not among the subjects asked for")
    options = require_options(record, "choices", record.value("choices"))
    return Item(
        question=record.text("question"),
        language="en",
        options=options,
        answer=(index_letter(record, "answer", options),),
        labels=(("subject", subject),),
    )
