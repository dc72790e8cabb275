"""K-QA's two scores of one answer, from the verdicts on its claims.

Comprehensiveness is the share of must-have claims that the answer entails. The hallucination rate is the number of
claims, must-have and nice-to-have, that it contradicts, and over answers their mean: it is no share (Manes et al.
2024, section 4; `evaluation/metrics.py` of Itaymanes/K-QA). `contradicted` is the share of claims (1 less what that
script calls precision).

A claim without a verdict is no wrong claim: it is left out of both sides, and the hallucination rate is scaled to all
claims. What it could have changed stands beside (`least`, `most`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from medbench.claims.verdicts import CONTRADICTED, ENTAILED, MUST_HAVE, Case, Verdict

_NAN = float("nan")
Judged = Sequence[tuple[Case, Verdict]]


def comprehensiveness(judged: Judged) -> float:
    """Share of the must-have claims with a verdict that are entailed, 0-1; NaN where none has a verdict."""
    return _share([verdict.label for case, verdict in judged if case.importance == MUST_HAVE], ENTAILED)


def contradicted(judged: Judged) -> float:
    """Share of all claims with a verdict that are contradicted, 0-1; NaN where none has one."""
    return _share([verdict.label for _, verdict in judged], CONTRADICTED)


def hallucination_rate(judged: Judged) -> float:
    """Claims contradicted: a count, scaled to all claims where some have no verdict; NaN where none has one."""
    return contradicted(judged) * len(judged)


def claims_judged(judged: Judged) -> float:
    """Share of the claims that have a verdict, 0-1."""
    return sum(verdict.label is not None for _, verdict in judged) / len(judged) if judged else _NAN


SCORES = {
    "comprehensiveness": comprehensiveness,
    "hallucination_rate": hallucination_rate,
    "contradicted": contradicted,
    "claims_judged": claims_judged,
}
# What an answer earns by another question's claims.
FLOORS = ("comprehensiveness", "contradicted")


def bounds(judged: Judged) -> dict[str, tuple[float, float]]:
    """Comprehensiveness and hallucination rate if every claim without a verdict had the worst or the best one."""
    must = [verdict.label for case, verdict in judged if case.importance == MUST_HAVE]
    labels = [verdict.label for _, verdict in judged]
    entailed, against = must.count(ENTAILED), labels.count(CONTRADICTED)
    return {
        "comprehensiveness": (entailed / len(must), (entailed + must.count(None)) / len(must))
        if must
        else (_NAN, _NAN),
        "hallucination_rate": (float(against), float(against + labels.count(None))),
    }


def as_record(case: Case, verdict: Verdict) -> dict[str, object]:
    """A verdict as a row of a verdict file, less question and answer, for `Score.metadata`."""
    row: dict[str, object] = {"claim": case.claim, "importance": case.importance, "verdict": verdict.label}
    if verdict.reason:
        row["reason"] = verdict.reason
    if verdict.score is not None:
        row["score"] = verdict.score
    if verdict.raw:
        row["raw"] = verdict.raw
    if verdict.jury:
        row["jury"] = [{"judge": one.judge, **as_record(case, one)} for one in verdict.jury]
        for one in row["jury"]:  # type: ignore[attr-defined]
            one.pop("claim"), one.pop("importance")
    return row


def from_record(row: Mapping[str, object]) -> tuple[Case, Verdict]:
    """`as_record` back, without question, answer and jury."""
    case = Case("", str(row["claim"]), "", str(row["importance"]))
    label = row.get("verdict")
    reason = str(row.get("reason") or "")
    return case, Verdict(None if label is None else str(label), reason if label is None else "")


def _share(labels: Sequence[str | None], wanted: str) -> float:
    known = [label for label in labels if label is not None]
    return known.count(wanted) / len(known) if known else math.nan
