"""Tables of predictions: LLaMA-Factory's `generated_predictions.jsonl`, columns of any name, and bare outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medbench.errors import NoColumn, unknown
from medbench.predictions.prediction import Prediction, raw_text, text_row, user_turn
from medbench.sources.records import Record

# What a column of a table may hold, and what it is called where the user does not say.
COLUMNS = ("prediction", "id", "prompt", "question", "reference", "model")


def llamafactory(record: Record) -> Prediction:
    """`prompt`, `predict`, `label`, as `do_predict` and `vllm_infer.py` write them."""
    prompt = raw_text(record, "prompt") if "prompt" in record.data else None
    label = raw_text(record, "label")
    row = text_row(user_turn(prompt), label) if prompt else None
    return Prediction(record, raw_text(record, "predict"), prompt, label, row)


def columns(record: Record) -> Prediction:
    """`prediction`; optional `id` (medbench's item id), `prompt`, `question`, `reference`."""
    prompt = raw_text(record, "prompt") if record.data.get("prompt") else None
    question = raw_text(record, "question") if record.data.get("question") else prompt
    label = raw_text(record, "reference") if record.data.get("reference") else None
    row = text_row(question or "", label)
    item_id = str(record.data.get("id") or "") or None
    return Prediction(record, raw_text(record, "prediction"), prompt or question, label, row, item_id)


def plain(record: Record) -> Prediction:
    """`prompt`, `output`, and nothing to judge the output by."""
    return Prediction(record, raw_text(record, "output"), raw_text(record, "prompt"))


def renamed(record: Record, named: Mapping[str, str]) -> Record:
    """The row with the columns that the user named under the names of `COLUMNS`; its other columns stay.

    Args:
        named: part -> the column that holds it, e.g. ``{"prediction": "模型输出"}``.

    Raises:
        NoColumn: the row has no such column, with the nearest names.
    """
    data: dict[str, Any] = {name: value for name, value in record.data.items() if name not in named}
    for part, column in named.items():
        if column not in record.data:
            raise NoColumn(record.file, record.row, None, str(unknown(f"column for {part}", column, record.data)))
        data[part] = record.data[column]
    return Record(record.file, record.row, data)
