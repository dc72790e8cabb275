"""A signal beside a copy, added as CONTRIBUTING.md says: one function."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from medbench.leakage import beside
from medbench.leakage.audit import audit
from medbench.sources.items import Item

QUESTION = (
    "A 54-year-old farmer comes to the clinic because of three weeks of burning pain behind the breastbone after large "
    "meals, worse when he lies down at night. Which of the following is the best initial treatment for this patient?"
)
ROW = {
    "question": QUESTION, "answer": "Omeprazole", "answer_idx": "A",
    "options": {"A": "Omeprazole", "B": "Heparin", "C": "Furosemide", "D": "Insulin"},
}  # fmt: skip


def test_a_function_adds_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exam_named(record: beside.Record, item: Item, field: str, region: range) -> beside.Told | None:
        evidence = beside.said_near(record, region, re.compile(r"\bUSMLE\b"))
        return None if evidence is None else beside.Told(field, "exam_named", evidence)

    monkeypatch.setattr(beside, "LOOKS", [exam_named])
    (tmp_path / "items.jsonl").write_text(json.dumps(ROW) + "\n", "utf-8")
    texts = [f"From the USMLE: {QUESTION}", f"From the ward: {QUESTION}"]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    found = audit(str(tmp_path / "corpus.jsonl"), f"medqa={tmp_path / 'items.jsonl'}", out=str(tmp_path / "out"))
    (row,) = [row for row in found if row["signal"] == "exam_named"]
    assert (row["record"], row["corpus_text"]) == (0, "USMLE")
    assert row["severity"] == "likely"
