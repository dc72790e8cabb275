"""CMExam: questions of the Chinese national medical licensing examination, up to five options, with explanations.

Liu et al., "Benchmarking Large Language Models on CMExam - A Comprehensive Chinese Medical Exam Dataset", 2023.
https://arxiv.org/abs/2306.03030

    inspect eval medbench/cmexam --model MODEL
    inspect eval tasks/cmexam.py --model MODEL -T source=val.csv

About 3% of the items have several correct letters. The authors' loader drops them; here they are kept and scored as
sets, with accuracy by type beside the whole. Every prompt allows several letters, so the type is not given away.
"""

from __future__ import annotations

import re
from typing import Any

from inspect_ai import Task, task

from medbench.benchmark.families import choice_task
from medbench.benchmark.page import CHOICE, About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.errors import LeftOut
from medbench.sources.items import LETTERS, Item, key_letters, require_options
from medbench.sources.records import Record

# No commit has been verified; the log records which one was read.
HUB = HubSource(
    repository="fzkuji/CMExam",
    revision="main",
    split="test",
    data_files="test.json",
    fewshot_split="train",
    fewshot_files="train.json",
)
ABOUT = About(items=6_811, language="zh", scores="letter-set accuracy", version=2)


@task
@page(
    *CHOICE,
    source="the original CSV, or the hub's JSON",
    revision="the newest",
    mode="the option letters (items with one answer only)",
    fewshot="the training split",
)
def cmexam(settings: Settings) -> Task:
    """CMExam, test split: accuracy of the letter set, overall and by type."""
    # an example with several letters would show what `mode=logprob` cannot answer
    to_example = single_answer if settings.mode == "logprob" else record_to_item
    loaded = load(HUB, record_to_item, settings, to_example=to_example)
    return choice_task(loaded, settings, name="cmexam", version=ABOUT.version, multiple=True)


def record_to_item(record: Record) -> Item:
    """`Question, Options, Answer, Explanation`; options joined in one string (CSV) or a list of key/value (hub)."""
    options = require_options(record, "Options", _option_texts(record))
    answer = record.text("Answer", empty_ok=True)
    if answer.lower() in ("", "nan"):  # the publisher's own mark of a missing key
        raise LeftOut(record.file, record.row, "Answer", "the publisher gives no key for this question")
    explanation = str(record.data.get("Explanation") or "").strip()
    return Item(
        question=record.text("Question"),
        language="zh",
        options=options,
        answer=key_letters(record, "Answer", answer, options),
        reference="" if explanation.lower() == "nan" else explanation,
    )


def single_answer(record: Record) -> Item:
    """As `record_to_item`; items with several keys, of which no single letter is the answer, are left out."""
    item = record_to_item(record)
    if len(item.answer) > 1:
        raise LeftOut(record.file, record.row, "Answer", "several correct letters; mode=logprob scores one")
    return item


def _option_texts(record: Record) -> list[str]:
    options: Any = record.value("Options")
    if isinstance(options, str):  # "A 原发病\nB 出血部位": a literal backslash and n, or a line break
        lines = [line.strip() for line in re.split(r"\\n|\n", options) if line.strip()]
        pairs = [(line[:1].upper(), line[1:].lstrip(" 　.．、:：")) for line in lines]
    elif isinstance(options, list) and all(isinstance(o, dict) and {"key", "value"} <= set(o) for o in options):
        pairs = [(str(option["key"]).upper(), str(option["value"])) for option in options]
    else:
        raise record.error("Options", f"expected lines 'A text' or a list of key/value, found {options!r:.80}")
    keys = [key for key, _ in pairs]
    if keys and keys == list(
        LETTERS[1 : len(keys) + 1]
    ):  # letters and explanation count from a first option that is gone
        raise LeftOut(record.file, record.row, "Options", "option A is missing in the publisher's file")
    if keys != list(LETTERS[: len(keys)]):
        raise record.error("Options", f"expected options lettered A, B, C ... in order, found {options!r:.80}")
    return [text for _, text in pairs]
