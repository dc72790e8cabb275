"""Rates that a judge counted, corrected by the human labels of some claims (`stats.ppi_rate`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medbench import stats
from medbench.claims import scores
from medbench.claims.files import Labelled, Replay, VerdictFile, same
from medbench.claims.verdicts import CONTRADICTED, ENTAILED, MUST_HAVE, Case, majority
from medbench.errors import MedbenchError

# name -> (label that is counted, whether only must-have claims count), as `medbench.claims.scores` has them.
RATES = {"comprehensiveness": (ENTAILED, True), "contradicted": (CONTRADICTED, False)}


@dataclass(frozen=True)
class Judged:
    """One answer with the verdicts on its claims."""

    question: str
    answer: str
    claims: scores.Judged


@dataclass(frozen=True)
class Corrected:
    """One rate: the judge's, the labels' own and the corrected one.

    Attributes:
        rate: see `medbench.stats.Powered`; means over answers of the share of their claims.
        labels: labelled claims that count.
        labelled, unlabelled: answers with and without labels.
        questions: that the labelled answers belong to.
    """

    rate: stats.Powered
    labels: int
    labelled: int
    unlabelled: int
    questions: int


def answers_of_log(path: str) -> tuple[str, list[Judged]]:
    """(candidate, judged answers) of an eval log of `medbench/kqa`.

    Raises:
        MedbenchError: the log holds no verdicts on claims.
    """
    from inspect_ai.log import read_eval_log

    log = read_eval_log(path)
    found = []
    for sample in log.samples or []:
        for score in (sample.scores or {}).values():
            rows = ((score.metadata or {}).get("verdicts") or {}).get("answer")
            if rows:
                question = str((sample.metadata.get("item") or {}).get("question"))
                found.append(Judged(question, str(score.answer or ""), [scores.from_record(row) for row in rows]))
    if not found:
        raise MedbenchError(f"{path} holds no verdicts on claims; expected a log of medbench/kqa.")
    told = (log.eval.metadata or {}).get("medbench") or {}
    return str(told.get("candidate") or log.eval.model), found


def answers_of_file(file: VerdictFile, judges: Sequence[str] = (), tie: str = "unscored") -> list[Judged]:
    """The answers of a verdict file with their verdicts.

    Args:
        judges: those of the file whose majority counts; all where none is named.
        tie: see `majority`.

    Raises:
        MedbenchError: rows do not say which answer they judge.
    """
    if not file.has_answers():
        raise MedbenchError(f"{file.path}: some verdicts name no answer; each needs its answer here.")
    jury = [Replay(file, name) for name in judges or file.judges]
    by_answer: dict[tuple[str, str], dict[str, Case]] = defaultdict(dict)
    for row in file.rows:
        by_answer[row.case.question, row.case.answer].setdefault(same(row.case.claim), row.case)
    found = []
    for (question, answer), claims in by_answer.items():
        judged = [(case, majority([one.look_up(case) for one in jury], tie)) for case in claims.values()]
        found.append(Judged(question, answer, judged))
    return found


def match(
    answers: Sequence[Judged], labels: Sequence[Labelled], source: str | Path
) -> tuple[dict[int, dict[str, str]], list[str]]:
    """Which claims of which answers have a human label.

    Returns:
        answer's index -> claim -> label, and a line for every label that belongs to no answer or was not settled.

    Raises:
        MedbenchError: no label belongs to any of the answers.
    """
    where = {(same(a.question), same(a.answer)): number for number, a in enumerate(answers)}
    claims = [{same(case.claim) for case, _ in a.claims} for a in answers]
    questions = {question for question, _ in where}
    found: dict[int, dict[str, str]] = defaultdict(dict)
    lines = []
    for row in labels:
        number = where.get((same(row.case.question), same(row.case.answer)))
        if number is None:
            known = same(row.case.question) in questions
            lines.append(
                f"{row.where}: {'labels another answer' if known else 'no judged answer'} to {row.case.question!r:.60}"
            )
        elif same(row.case.claim) not in claims[number]:
            lines.append(f"{row.where}: not a judged claim: {row.case.claim!r:.60}")
        elif row.label is None:
            lines.append(f"{row.where}: people are divided, or said nothing")
        else:
            found[number][same(row.case.claim)] = row.label
    if not found:
        raise MedbenchError(
            f"{source}: none of its {len(labels)} labels belongs to a judged claim; the first: {lines[0]}. Labels join "
            "by question, claim and answer."
        )
    return dict(found), lines


def corrected(
    answers: Sequence[Judged], labels: dict[int, dict[str, str]], confidence: float = 0.95
) -> dict[str, Corrected]:
    """Both rates of one candidate, by name."""
    return {name: _corrected(answers, labels, *of, confidence) for name, of in RATES.items()}


def _corrected(
    answers: Sequence[Judged], labels: dict[int, dict[str, str]], label: str, must_only: bool, confidence: float
) -> Corrected:
    people, judge, runs, here = [], [], [], []
    others, there = [], []
    for number, answer in enumerate(answers):
        counted = [
            (c, v) for c, v in answer.claims if v.label is not None and (c.importance == MUST_HAVE or not must_only)
        ]
        known = [(labels[number][same(c.claim)], v) for c, v in counted if same(c.claim) in labels.get(number, {})]
        if known:
            people.append(sum(said == label for said, _ in known) / len(known))
            judge.append(sum(v.label == label for _, v in known) / len(known))
            runs.append(len(known))
            here.append(same(answer.question))
        elif counted:
            others.append(sum(v.label == label for _, v in counted) / len(counted))
            there.append(same(answer.question))
    rate = stats.ppi_rate(
        people, judge, others, clusters=here, unlabelled_clusters=there, runs=runs or 1, confidence=confidence
    )
    return Corrected(rate, sum(runs), len(people), len(others), len(set(here)))


def as_dict(found: Corrected) -> dict[str, Any]:
    """For JSON."""
    rate = found.rate
    return {
        "corrected": [rate.estimate, rate.low, rate.high],
        "labels_alone": list(rate.labels_alone),
        "judge_alone": rate.judge_alone,
        "lam": rate.lam,
        "labels": found.labels,
        "labelled_answers": found.labelled,
        "unlabelled_answers": found.unlabelled,
        "questions": found.questions,
    }
