"""MedXpertQA, the text subset: expert-level questions of specialty boards, ten options each.

Zuo et al., "MedXpertQA: Benchmarking Expert-Level Medical Reasoning and Understanding", 2025.
https://arxiv.org/abs/2501.18362

    inspect eval medbench/medxpertqa --model MODEL
    inspect eval tasks/medxpertqa.py --model MODEL -T source=test.jsonl

The published question repeats its options after "Answer Choices:"; they are taken off, or they would stand in the
prompt twice, and in their old order under `-T shuffle_options`.
"""

from __future__ import annotations

import re

from inspect_ai import Task, task

from medbench.benchmark.families import choice_task
from medbench.benchmark.page import CHOICE, About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.sources.items import LETTERS, Item, key_letters, require_options
from medbench.sources.records import Record

# The commit that public harnesses pin (karma, among others); columns and counts as they describe it.
HUB = HubSource(
    repository="TsinghuaC3I/MedXpertQA",
    revision="7e7c465a68eb2b866926bfa59c8c9d17a8daba65",
    split="test",
    data_files="Text/test.jsonl",
    fewshot_split="dev",
    fewshot_files="Text/dev.jsonl",
)
_REPEATED = re.compile(r"\s*Answer Choices:\s*\(A\)(?P<choices>.*)\Z", re.DOTALL)
_LABELS = ("medical_task", "body_system", "question_type")
ABOUT = About(items=2_450, language="en", scores="accuracy", version=1)


@task
@page(
    *CHOICE,
    source="the publisher's `Text/test.jsonl`",
    fewshot="the dev split (5 items)",
)
def medxpertqa(settings: Settings) -> Task:
    """MedXpertQA text, ten options, test split (2,450 items)."""
    loaded = load(HUB, record_to_item, settings, repeats=True)
    return choice_task(loaded, settings, name="medxpertqa", version=ABOUT.version)


def record_to_item(record: Record) -> Item:
    """`question, options {A: ..., J: ...}, label`; `medical_task, body_system, question_type` sort the items."""
    options = record.value("options")
    if not isinstance(options, dict) or sorted(options) != list(LETTERS[: len(options)]):
        raise record.error("options", f"expected an object with the keys A, B, C ... in order, found {options!r:.80}")
    texts = require_options(record, "options", [options[letter] for letter in sorted(options)])
    answer = key_letters(record, "label", record.text("label"), texts)
    if len(answer) != 1:
        raise record.error("label", f"expected one letter, found {''.join(answer)}")
    return Item(
        question=_without_options(record, texts),
        language="en",
        options=texts,
        answer=answer,
        labels=tuple((label, str(record.data[label])) for label in _LABELS if record.data.get(label)),
    )


def _without_options(record: Record, options: tuple[str, ...]) -> str:
    question = record.text("question")
    repeated = _REPEATED.search(question)
    if repeated is None:
        return question
    labels = re.findall(r"\(([A-J])\)", "(A)" + repeated["choices"])
    if not set(LETTERS[: len(options)]) <= set(labels):
        raise record.error("question", f"its 'Answer Choices' name {', '.join(labels)}, not all {len(options)} options")
    stem = question[: repeated.start()].strip()
    if not stem:
        raise record.error("question", "nothing stands before its 'Answer Choices'")
    return stem
