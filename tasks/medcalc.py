"""MedCalc-Bench: medical calculators applied to patient notes; the answer is a number, a date, or weeks and days.

Khandekar et al., "MedCalc-Bench: Evaluating Large Language Models for Medical Calculations", 2024.
https://arxiv.org/abs/2406.12036

    inspect eval medbench/medcalc --model MODEL
    inspect eval tasks/medcalc.py --model MODEL -T source=test_data.csv

An answer counts as in the publisher's `evaluation/evaluate.py`: decimals within the row's own limits (5% around the
key), whole numbers when they equal the key after rounding, dates and gestational ages to the day
(`medbench.sources.quantities.agrees`). What cannot be read is counted apart from what is wrong. Rows of one note share
it as their context.
"""

from __future__ import annotations

from typing import Any

from inspect_ai import Task, task

from medbench.benchmark.families import quantity_task
from medbench.benchmark.page import About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.errors import LeftOut
from medbench.sources.items import Item
from medbench.sources.quantities import Quantity, parse_key
from medbench.sources.records import Record

# Version 1.2 corrects keys of 1.0. No commit has been verified; the log records which one was read.
HUB = HubSource(
    repository="ncbi/MedCalc-Bench-v1.2",
    revision="main",
    split="test",
    fewshot_split="train",
)
# Column -> name under which the report sorts by it.
_LABELS = {"Category": "category", "Output Type": "output_type"}
ABOUT = About(items=1_100, language="en", scores="accuracy within limits", version=1)


@task
@page(
    "revision",
    "fewshot",
    "fewshot_source",
    "prompt_language",
    source="the publisher's CSV, or the hub's Parquet",
    revision="the newest",
    fewshot="the training split",
)
def medcalc(settings: Settings) -> Task:
    """MedCalc-Bench, test split (1,100 items in version 1.2; 1,047 in 1.0)."""
    loaded = load(HUB, record_to_item, settings, repeats=True)
    return quantity_task(loaded, settings, name="medcalc", version=ABOUT.version)


def record_to_item(record: Record) -> Item:
    """`Patient Note, Question, Ground Truth Answer, Lower Limit, Upper Limit, Output Type`."""
    stated = str(record.value("Ground Truth Answer")).strip()
    key = parse_key(stated)
    if key is None:
        raise record.error("Ground Truth Answer", f"expected a number, a date, or weeks and days, found {stated!r:.60}")
    return Item(
        question=record.text("Question"),
        language="en",
        answer=(str(key),),
        context=record.text("Patient Note"),
        limits=_limits(record, key),
        labels=tuple((label, str(record.data[column])) for column, label in _LABELS.items() if record.data.get(column)),
    )


def _limits(record: Record, key: Quantity) -> tuple[float, float] | None:
    """The limits of a decimal; None where the answer must be the key itself."""
    if key.kind != "number":
        return None
    kind = record.text("Output Type").lower()
    if kind == "integer":
        if key.value != round(key.value):
            raise LeftOut(
                record.file, record.row, "Ground Truth Answer", f"{key} is no whole number, and no answer can equal it"
            )
        return None
    if kind != "decimal":
        raise record.error("Output Type", f"is {kind!r} for the number {key}; expected decimal or integer")
    limits = []
    for column in ("Lower Limit", "Upper Limit"):
        try:
            limit: Any = record.value(column)
            limits.append(float(limit))
        except (TypeError, ValueError):
            raise record.error(column, f"expected a number, found {record.data[column]!r:.60}") from None
    low, high = sorted(limits)  # 95% of a negative key is the larger one
    if not low <= key.value <= high:
        raise LeftOut(record.file, record.row, "Lower Limit", f"{low:g} to {high:g} do not hold the key {key}")
    return low, high
