"""What a judge does that has nothing to do with what people say: floor, length, order, repetition.

All take judged cases as plain values. Questions are the clusters everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from medbench import stats
from medbench.claims.files import Labelled
from medbench.claims.verdicts import CONTRADICTED, ENTAILED, Case, Verdict
from medbench.stats import Interval
from medbench.stats.means import clustered_error


class Floor(NamedTuple):
    """What a judge gives answers to other questions: shares of the claims with a verdict, 0-1, and how many."""

    entailed: Interval
    contradicted: Interval
    n: int


class Slope(NamedTuple):
    """How far "entailed" rises with an answer's length where people say the same: change of its rate per doubling."""

    per_doubling: Interval
    n: int


class Consistency(NamedTuple):
    """Share of claims judged alike twice, 0-1, with kappa of the two rounds."""

    same: Interval
    kappa: Interval
    n: int


def swapped(rows: Sequence[Labelled]) -> list[Case]:
    """Every claim with the answer to another question: each question gets the next one's first answer.

    Empty where there is a single question.
    """
    answers: dict[str, str] = {}
    for row in rows:
        answers.setdefault(row.case.question, row.case.answer)
    questions = sorted(answers)
    if len(questions) < 2:
        return []
    after = dict(zip(questions, questions[1:] + questions[:1], strict=True))
    claims = {(row.case.question, row.case.claim): row.case for row in rows}
    return [Case(c.question, c.claim, answers[after[c.question]], c.importance) for c in claims.values()]


def floor(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> Floor | None:
    """The floor from verdicts on `swapped` cases; None where none of them has a verdict."""
    known = [(case, verdict.label) for case, verdict in zip(cases, verdicts, strict=True) if verdict.label is not None]
    if not known:
        return None
    questions = [case.question for case, _ in known]
    shares = [stats.rate([float(label == name) for _, label in known], questions) for name in (ENTAILED, CONTRADICTED)]
    return Floor(shares[0], shares[1], len(known))


def length_slope(rows: Sequence[Labelled], verdicts: Sequence[Verdict], confidence: float = 0.95) -> Slope | None:
    """How far a judge's "entailed" depends on the answer's length, at equal human label.

    Least squares of the verdict (1 entailed, 0 not) on log2 of the answer's words, both less their means among claims
    with the same human label; t interval over questions, the cluster-robust error of Liang and Zeger (1986). 0.1 says
    that twice the length adds 10 points. None for fewer than three questions, or answers of one length.
    """
    known = [(r, v) for r, v in zip(rows, verdicts, strict=True) if r.label is not None and v.label is not None]
    questions = np.array([row.case.question for row, _ in known])
    if len(np.unique(questions)) < 3:
        return None
    labels = np.array([row.label for row, _ in known])
    x = _within(np.log2([max(1, len(row.case.answer.split())) for row, _ in known]), labels)
    y = _within(np.array([float(verdict.label == ENTAILED) for _, verdict in known]), labels)
    spread = float(x @ x)
    if spread < 1e-9:
        return None
    slope = float(x @ y) / spread
    error, groups = clustered_error(x * (y - slope * x), questions)
    half = float(scipy.special.stdtrit(groups - 1, (1 + confidence) / 2)) * error * len(x) / spread
    return Slope(Interval(slope, slope - half, slope + half), len(x))


def _within(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    out = np.asarray(values, dtype=float).copy()
    for label in np.unique(labels):
        out[labels == label] -= out[labels == label].mean()
    return out


def consistency(cases: Sequence[Case], first: Sequence[Verdict], second: Sequence[Verdict]) -> Consistency | None:
    """How often two rounds of the same judge agree, among claims with a verdict in both; None where there are none."""
    known = [
        (case.question, a.label, b.label)
        for case, a, b in zip(cases, first, second, strict=True)
        if a.label is not None and b.label is not None
    ]
    if not known:
        return None
    questions = [question for question, _, _ in known]
    one, two = [a for _, a, _ in known], [b for _, _, b in known]
    same = stats.rate([float(a == b) for a, b in zip(one, two, strict=True)], questions)
    return Consistency(same, stats.cohen_kappa(one, two, clusters=questions), len(known))
