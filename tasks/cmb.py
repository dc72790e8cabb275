"""CMB-Exam: Chinese medical examinations of physicians, nurses, pharmacists, technicians and students.

Wang et al., "CMB: A Comprehensive Medical Benchmark in Chinese", 2023. https://arxiv.org/abs/2308.08833

    inspect eval medbench/cmb --model MODEL
    inspect eval medbench/cmb --model MODEL -T answers=CMB-test-choice-answer.json
    inspect eval tasks/cmb.py --model MODEL -T source=CMB-val-merge.json

The keys of the test split (11,200 items) are a file of their own in the publisher's GitHub repository,
`data/CMB-test-choice-answer.json`: without it the validation split is asked, 280 items with keys and explanations.
Items with several correct letters are scored as sets, and every prompt allows several letters, as in `medbench/cmexam`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_ai import Task, task

from medbench.benchmark.families import choice_task
from medbench.benchmark.page import CHOICE, About, page
from medbench.benchmark.task import HubSource, Settings, load, user_file
from medbench.errors import LeftOut, MedbenchError
from medbench.sources.items import LETTERS, Item, key_letters, require_options
from medbench.sources.records import Record, read_records

# No commit has been verified; the log records which one was read. Raw files: the loading script no longer runs.
HUB = HubSource(
    repository="FreedomIntelligence/CMB",
    revision="main",
    split="validation",
    data_files="CMB-Exam/CMB-val/CMB-val-merge.json",
    fewshot_split="train",
    fewshot_files="CMB-Exam/CMB-train/CMB-train-merge.json",
)
TEST = HubSource(
    repository="FreedomIntelligence/CMB",
    revision="main",
    split="test",
    data_files="CMB-Exam/CMB-test/CMB-test-choice-question-merge.json",
    fewshot_split="validation",
    fewshot_files="CMB-Exam/CMB-val/CMB-val-merge.json",
)
_LABELS = ("exam_type", "exam_class")
# What an answer must share with its question: the two files are joined by a running number alone.
_SHARED = ("exam_type", "exam_class", "exam_subject", "question_type")
ABOUT = About(items=280, language="zh", scores="letter-set accuracy", version=1)


@task
@page(
    *CHOICE,
    source="the publisher's JSON",
    revision="the newest",
    mode="the option letters (items with one answer only)",
    fewshot="the validation split for the test split, the training split for others",
)
def cmb(settings: Settings, answers: str | None = None) -> Task:
    """CMB-Exam, validation split (280 items), or with `answers` the test split (11,200 items).

    Args:
        answers: the publisher's file with the keys of the test split, joined by `id`.
    """
    keys = None if answers is None else read_keys(user_file(answers))

    def to_item(record: Record) -> Item:
        return record_to_item(record, keys)

    def to_example(record: Record) -> Item:
        item = record_to_item(record)
        if settings.mode == "logprob" and len(item.answer) > 1:
            raise LeftOut(record.file, record.row, "answer", "several correct letters; mode=logprob scores one")
        return item

    loaded = load(HUB if keys is None else TEST, to_item, settings, to_example=to_example, repeats=True)
    return choice_task(loaded, settings, name="cmb", version=ABOUT.version, multiple=True)


def read_keys(file: str) -> dict[int, Record]:
    """The publisher's answers by the number of their question.

    Raises:
        MedbenchError: the file cannot be read, or an answer has no number or one that another has.
    """
    keys: dict[int, Record] = {}
    for record in read_records(file):
        number = record.value("id")
        if not isinstance(number, int) or number in keys:
            twice = number in keys if isinstance(number, int) else False
            raise record.error("id", f"{number} occurs twice" if twice else f"expected a number, found {number!r}")
        keys[number] = record
    if not keys:
        raise MedbenchError(f"{file} holds no answers.")
    return keys


def record_to_item(record: Record, keys: Mapping[int, Record] | None = None) -> Item:
    """`question, option {A: ..., F: ...}, answer`; unused option slots are blank or null."""
    options = record.value("option")
    if not isinstance(options, dict) or sorted(options) != list(LETTERS[: len(options)]):
        raise record.error("option", f"expected an object with the keys A, B, C ... in order, found {options!r:.80}")
    used = [letter for letter in sorted(options) if str(options[letter] or "").strip()]
    texts = require_options(record, "option", [options[letter] for letter in used])
    stated = key_letters(record, "answer", _key(record, keys), list(options))
    blank = [letter for letter in stated if letter not in used]
    if blank:
        raise record.error("answer", f"names option {blank[0]}, which is blank")
    return Item(
        question=record.text("question"),
        language="zh",
        options=texts,
        answer=tuple(LETTERS[used.index(letter)] for letter in stated),
        reference=str(record.data.get("explanation") or "").strip(),
        labels=tuple((label, str(record.data[label])) for label in _LABELS if record.data.get(label)),
    )


def _key(record: Record, keys: Mapping[int, Record] | None) -> str:
    if "answer" in record.data or keys is None:
        if "answer" not in record.data:
            raise record.error(
                "answer",
                "missing; the keys of the test split are a file of their own: -T answers=CMB-test-choice-answer.json",
            )
        return record.text("answer")
    number: Any = record.value("id")
    found = keys.get(number)
    if found is None:
        raise record.error("id", f"{_name(keys)} has no answer with the id {number!r} ({len(keys)} others)")
    for column in _SHARED:
        if column in found.data and found.data[column] != record.data.get(column):
            raise record.error(
                column, f"is {record.data.get(column)!r}, but {_name(keys)} says {found.data[column]!r} of id {number}"
            )
    return found.text("answer")


def _name(keys: Mapping[int, Record]) -> str:
    return Path(next(iter(keys.values())).file).name
