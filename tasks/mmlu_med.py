"""MMLU, the six medical subjects.

Hendrycks et al., "Measuring Massive Multitask Language Understanding", 2021. https://arxiv.org/abs/2009.03300
The six subjects are those of Singhal et al., "Large language models encode clinical knowledge", 2022.

    inspect eval medbench/mmlu_med --model MODEL
    inspect eval medbench/mmlu_med --model MODEL -T subjects=anatomy,medical_genetics
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inspect_ai import Task, task

from medbench.benchmark import HubSource, Mode, PromptLanguage, Settings, fewshot_items, load, told_plainly
from medbench.errors import LeftOut, unknown
from medbench.families import choice_task
from medbench.items import LETTERS, Item, index_letter, require_options
from medbench.records import OnBadRow, Record, read_records
from medbench.solvers import ThinkingMode

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


@task
@told_plainly()
def mmlu_med(
    source: str | None = None,
    revision: str | None = None,
    subjects: str | list[str] = list(SUBJECTS),  # noqa: B006 - Inspect shows the default; it is never changed
    mode: Mode = "generate",
    shuffle_options: int | None = None,
    fewshot: int = 0,
    fewshot_source: str | None = None,
    thinking: ThinkingMode = "default",
    prefilled: bool | None = None,
    prompt_language: PromptLanguage = "auto",
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "error",
) -> Task:
    """The medical subjects of MMLU, test split (1,089 items).

    Args:
        source: local file instead of the hub: the hub's Parquet, or one of the publisher's CSV files without header.
        revision: commit of the hub data set, instead of the pinned one.
        subjects: which of the six to run; rows of other subjects are passed over.
        mode: `generate` an answer, or `logprob` of the option letters as first token.
        shuffle_options: seed of a per-item option order; none keeps the published one.
        fewshot: worked examples before each item, drawn from the dev split.
        fewshot_source: local file to draw them from.
        thinking: `on`, `off`, or `default` (as the model does by itself).
        prefilled: true if the chat template opens the think tag in the prompt.
        prompt_language: `en`, `zh`, or `auto` (the item's).
        encoding: of the local file.
        on_bad_row: `error`, or `skip` to leave out and list unusable rows.
    """
    wanted = tuple(subjects.split(",")) if isinstance(subjects, str) else tuple(subjects)
    for subject in wanted:
        if subject not in SUBJECTS:
            raise unknown("MMLU subject", subject, SUBJECTS)
    settings = Settings(
        source=source,
        revision=revision,
        encoding=encoding,
        on_bad_row=on_bad_row,
        thinking=thinking,
        prefilled=prefilled,
        prompt_language=prompt_language,
        fewshot=fewshot,
        fewshot_source=fewshot_source,
    )

    def to_item(record: Record) -> Item:
        return record_to_item(record, wanted)

    loaded = load(HUB, to_item, settings, read=read_publisher)
    examples = fewshot_items(HUB, to_item, settings, loaded.items, read=read_publisher)
    return choice_task(
        loaded, settings, name="mmlu_med", version=2, mode=mode, shuffle_options=shuffle_options, examples=examples
    )


def read_publisher(source: str, **options: Any) -> Iterable[Record]:
    """Rows of a local file; the publisher's CSV has no header: question, four options, letter."""
    subject = Path(source).name.partition(".")[0].removesuffix("_test").removesuffix("_dev").removesuffix("_val")
    for record in read_records(source, columns=("question", *"ABCD", "letter"), **options):
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
    choices = record.value("choices")
    options = require_options(record, "choices", choices if isinstance(choices, (list, tuple)) else [])
    return Item(
        question=record.text("question"),
        language="en",
        options=options,
        answer=(index_letter(record, "answer", options),),
    )
