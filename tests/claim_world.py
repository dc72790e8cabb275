"""A small world of two questions, written as K-QA writes them, and ways to run the task over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ITEMS = [
    {
        "Question": "Can I take ibuprofen with aspirin?",
        "Must_have": ["Ibuprofen weakens the effect of aspirin.", "Together they raise the risk of bleeding."],
        "Nice_to_have": ["Paracetamol is an alternative."],
        "Free_form_answer": "Better not: ibuprofen weakens aspirin and both raise the risk of bleeding.",
        "Sources": "", "ICD_10_diag": "",
    },
    {
        "Question": "How long does bronchitis last?",
        "Must_have": ["Acute bronchitis lasts about three weeks."],
        "Nice_to_have": [],
        "Free_form_answer": "About three weeks.",
        "Sources": "", "ICD_10_diag": "",
    },
]  # fmt: skip
ANSWERS = {
    ITEMS[0]["Question"]: "Ibuprofen can weaken the effect of aspirin. Paracetamol is no alternative.",
    ITEMS[1]["Question"]: "Acute bronchitis lasts about three weeks in most adults.",
}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def said(**labels: str | None) -> list[dict[str, Any]]:
    """Verdict rows over all four claims: a, b (must-have), c (nice-to-have) of the first question, d of the second."""
    rows = []
    for item in ITEMS:
        for claim in (*item["Must_have"], *item["Nice_to_have"]):
            name = "abcd"[len(rows)]
            row = {"question": item["Question"], "claim": claim, "answer": ANSWERS[str(item["Question"])]}
            rows.append(row | ({"verdict": labels[name]} if name in labels else {"verdict": ""}))
    return rows
