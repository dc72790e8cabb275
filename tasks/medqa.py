"""MedQA-US: four-option questions from the United States medical licensing examination.

Jin et al., "What Disease does this Patient Have? A Large-scale Open Domain Question Answering Dataset from Medical
Exams", 2020. https://arxiv.org/abs/2009.13081

    inspect eval medbench/medqa --model MODEL
    inspect eval tasks/medqa.py --model MODEL -T source=us_4_options_test.jsonl
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark.families import choice_task
from medbench.benchmark.page import CHOICE, About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.sources.items import Item, index_letter, key_letters, require_options
from medbench.sources.records import Record

HUB = HubSource(
    repository="GBaker/MedQA-USMLE-4-options",
    revision="0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18",
    split="test",
    fewshot_split="train",
)
ABOUT = About(items=1_273, language="en", scores="accuracy", version=2)


@task
@page(
    *CHOICE,
    source="the publisher's JSONL, or the hub's Parquet",
    fewshot="the training split",
)
def medqa(settings: Settings) -> Task:
    """MedQA-US, four options, test split (1,273 items)."""
    loaded = load(HUB, record_to_item, settings)
    return choice_task(loaded, settings, name="medqa", version=ABOUT.version)


def record_to_item(record: Record) -> Item:
    """`question, options {A: ..., D: ...}, answer_idx`, alike on the hub and in the publisher's files.

    Also `sent1, sent2, ending0 .. ending3, label`, as lm-eval's `medqa_4options` reads it
    (`GBaker/MedQA-USMLE-4-options-hf`).
    """
    if "ending0" in record.data:
        return _with_endings(record)
    options = record.value("options")
    if not isinstance(options, dict) or sorted(options) != ["A", "B", "C", "D"][: len(options)]:
        raise record.error("options", f"expected an object with the keys A, B, C, D, found {options!r:.80}")
    texts = require_options(record, "options", [options[letter] for letter in sorted(options)])
    answer = key_letters(record, "answer_idx", record.text("answer_idx"), texts)
    if len(answer) != 1:
        raise record.error("answer_idx", f"expected one letter, found {''.join(answer)}")
    step = str(record.data.get("meta_info") or "")
    labels = (("meta_info", step),) if step else ()
    return Item(question=record.text("question"), language="en", options=texts, answer=answer, labels=labels)


def _with_endings(record: Record) -> Item:
    texts = require_options(record, "ending0", [record.text(f"ending{n}") for n in range(4)])
    question = " ".join(part for part in (record.text("sent1"), str(record.data.get("sent2") or "").strip()) if part)
    return Item(question=question, language="en", options=texts, answer=(index_letter(record, "label", texts),))
