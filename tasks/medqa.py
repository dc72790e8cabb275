"""MedQA-US: four-option questions from the United States medical licensing examination.

Jin et al., "What Disease does this Patient Have? A Large-scale Open Domain Question Answering Dataset from Medical
Exams", 2020. https://arxiv.org/abs/2009.13081

    inspect eval medbench/medqa --model MODEL
    inspect eval tasks/medqa.py --model MODEL -T source=us_4_options_test.jsonl
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark import HubSource, Mode, PromptLanguage, Settings, fewshot_items, load, told_plainly
from medbench.families import choice_task
from medbench.items import Item, key_letters, require_options
from medbench.records import OnBadRow, Record
from medbench.solvers import ThinkingMode

HUB = HubSource(
    repository="GBaker/MedQA-USMLE-4-options",
    revision="0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18",
    split="test",
    fewshot_split="train",
)


@task
@told_plainly()
def medqa(
    source: str | None = None,
    revision: str | None = None,
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
    """MedQA-US, four options, test split (1,273 items).

    Args:
        source: local file instead of the hub: the publisher's JSONL, or the hub's Parquet.
        revision: commit of the hub data set, instead of the pinned one.
        mode: `generate` an answer, or `logprob` of the option letters as first token.
        shuffle_options: seed of a per-item option order; none keeps the published one.
        fewshot: worked examples before each item, drawn from the training split.
        fewshot_source: local file to draw them from.
        thinking: `on`, `off`, or `default` (as the model does by itself).
        prefilled: true if the chat template opens the think tag in the prompt.
        prompt_language: `en`, `zh`, or `auto` (the item's).
        encoding: of the local file.
        on_bad_row: `error`, or `skip` to leave out and list unusable rows.
    """
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
    loaded = load(HUB, record_to_item, settings)
    examples = fewshot_items(HUB, record_to_item, settings, loaded.items)
    return choice_task(
        loaded, settings, name="medqa", version=2, mode=mode, shuffle_options=shuffle_options, examples=examples
    )


def record_to_item(record: Record) -> Item:
    """`question, options {A: ..., D: ...}, answer_idx`, alike on the hub and in the publisher's files."""
    options = record.value("options")
    if not isinstance(options, dict) or sorted(options) != ["A", "B", "C", "D"][: len(options)]:
        raise record.error("options", f"expected an object with the keys A, B, C, D, found {options!r:.80}")
    texts = require_options(record, "options", [options[letter] for letter in sorted(options)])
    answer = key_letters(record, "answer_idx", record.text("answer_idx"), texts)
    if len(answer) != 1:
        raise record.error("answer_idx", f"expected one letter, found {''.join(answer)}")
    return Item(question=record.text("question"), language="en", options=texts, answer=answer)
