"""The leaderboard of free text judged claim by claim, with who judged and what that judge's card says."""

from __future__ import annotations

from typing import Any

from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.page import Cell, Column
from medbench.reports.rows import TaskTable

KEY = "comprehensiveness/answer"
_BESIDE = (
    ("comprehensiveness_floor/answer", "Floor", "rate", "the same answers by other questions' claims"),
    ("contradicted/answer", "Contradicted", "rate", "share of all claims that the answer contradicts; lower is better"),
    ("hallucination_rate/answer", "Per answer", "number", "claims contradicted per answer, K-QA's hallucination rate"),
    ("claims_judged/answer", "Judged", "rate", "share of claims with a verdict"),
)  # fmt: skip


def columns_of(analysis: Analysis, task: str, estimate: Estimate) -> tuple[list[Column], dict[str, dict[str, Cell]]]:
    """The columns beside comprehensiveness, and their cells by candidate."""
    columns: list[Column] = []
    cells: dict[str, dict[str, Cell]] = {name: {} for name in estimate.candidates}
    for key, title, unit, text in _BESIDE:
        other = analysis.estimators[task].estimate(key)
        if other is None:
            continue
        columns.append(Column(title, unit, text))
        for name in estimate.candidates:
            cells[name][title] = other.intervals[other.index(name)] if name in other.candidates else None
    return columns, cells


def note_of(table: TaskTable) -> str:
    """Who judged, and what is known of that judge."""
    said = dict.fromkeys(_about(run.provenance.get("metadata") or {}) for runs in table.runs.values() for run in runs)
    return " ".join(filter(None, said))


def _about(metadata: dict[str, Any]) -> str:
    told = metadata.get("benchmark") or {}
    if not told.get("judge"):
        return ""
    line = told.get("judge_line")
    if line:
        return f"Judged by {told['judge']}. Its card: {line}"
    return (
        f"Judged by {told['judge']}, of whom no card was named: how far its verdicts agree with people's is not known "
        "here (`medbench judge calibrate`, then -T calibration=CARD)."
    )
