"""Asking a jury about labelled claims, and once more in the ways that its card needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medbench.claims import checks
from medbench.claims.card import Rounds
from medbench.claims.files import Labelled, Replay, same
from medbench.claims.judges import Judge, Jury, ModelJudge
from medbench.claims.lexical import Lexical, fitted_threshold, held_out, overlap
from medbench.claims.prompt import ORDERS
from medbench.claims.verdicts import ENTAILED, Case, Verdict, majority


@dataclass(frozen=True)
class Asked:
    """What a jury said of labelled claims.

    Attributes:
        verdicts: one per claim.
        rounds: the further rounds.
        how: how the verdicts came about, in a clause; "" where there is nothing to say.
        facts: what the card keeps besides, e.g. the threshold.
    """

    verdicts: list[Verdict]
    rounds: Rounds
    how: str
    facts: dict[str, Any]


def ask(rows: Sequence[Labelled], jury: Jury, *, further: bool = True) -> Asked:
    """Verdicts on labelled claims.

    Args:
        further: whether a model is asked three times more per claim: by another question's answer, again, and with
            texts and labels in the other order. Replayed files give what they hold, the baseline what it says.
    """
    if len(jury.judges) == 1 and isinstance(jury.judges[0], Lexical):
        return _ask_lexical(rows)
    if all(isinstance(judge, Replay) for judge in jury.judges):
        return _replay(rows, jury)
    return asyncio.run(_ask_models(rows, jury, further))


def _ask_lexical(rows: Sequence[Labelled]) -> Asked:
    """The threshold of each claim's verdict is fitted to the other questions, that of the floor to all."""
    fit = [row for row in rows if row.label is not None]
    scores = [overlap(row.case.claim, row.case.answer) for row in fit]
    threshold = fitted_threshold(scores, [row.label == ENTAILED for row in fit])
    by_claim = dict(
        zip(
            (_key(row.case) for row in fit),
            held_out([row.case for row in fit], [row.label == ENTAILED for row in fit]),
            strict=True,
        )
    )
    whole = Lexical(threshold)
    verdicts = [by_claim.get(_key(row.case)) or whole.look_up(row.case) for row in rows]
    floor = [whole.look_up(case) for case in checks.swapped(rows)]
    again = [by_claim.get(_key(row.case)) or whole.look_up(row.case) for row in rows]
    how = "threshold fitted to the other questions"
    return Asked(verdicts, Rounds(floor or None, again), how, {"threshold": round(threshold, 4)})


def _key(case: Case) -> tuple[str, str, str]:
    return same(case.question), same(case.claim), same(case.answer)


def _replay(rows: Sequence[Labelled], jury: Jury) -> Asked:
    cases = [row.case for row in rows]
    swapped = checks.swapped(rows)
    verdicts = [majority([_said(judge, case, 0) for judge in jury.judges], jury.tie) for case in cases]
    floor = [majority([_said(judge, case, 0) for judge in jury.judges], jury.tie) for case in swapped]
    again = [majority([_said(judge, case, 1) for judge in jury.judges], jury.tie) for case in cases]
    other = [majority([_said(judge, case, 0, ORDERS[1]) for judge in jury.judges], jury.tie) for case in cases]
    rounds = Rounds(*(several if any(v.label for v in several) else None for several in (floor, again, other)))
    return Asked(verdicts, rounds, "replayed", {})


def _said(judge: Judge, case: Case, turn: int, order: str = ORDERS[0]) -> Verdict:
    """A replayed judge's verdict on a claim: the first of those in one order of the texts, or a repetition."""
    assert isinstance(judge, Replay)
    rows = [row for row in judge.rows(case) if (row.order or ORDERS[0]) == order]
    if turn == 0 and order == ORDERS[0]:
        return judge.look_up(case)
    return judge.of_row(rows[turn]) if turn < len(rows) else Verdict(None, "missing", judge.name)


async def _ask_models(rows: Sequence[Labelled], jury: Jury, further: bool) -> Asked:
    cases = [row.case for row in rows]
    verdicts = await _all(jury, cases)
    if not further:
        return Asked(verdicts, Rounds(), "", {})
    floor = await _all(jury, checks.swapped(rows))
    again = await _all(jury, cases)
    turned = Jury([_turned(judge) for judge in jury.judges], jury.tie)
    return Asked(verdicts, Rounds(floor or None, again, await _all(turned, cases)), "", {})


async def _all(jury: Jury, cases: Sequence[Case]) -> list[Verdict]:
    return list(await asyncio.gather(*(jury.verdict(case) for case in cases)))


def _turned(judge: Judge) -> Judge:
    return ModelJudge(judge.name, judge.model, ORDERS[1]) if isinstance(judge, ModelJudge) else judge


def kept(rows: Sequence[Labelled], asked: Asked) -> list[dict[str, Any]]:
    """All verdicts as rows of a verdict file: replayed, they give the same card."""
    cases = [row.case for row in rows]
    found = _rows(cases, asked.verdicts, ORDERS[0])
    for cases_of, verdicts, order in (
        (checks.swapped(rows), asked.rounds.floor, ORDERS[0]),
        (cases, asked.rounds.again, ORDERS[0]),
        (cases, asked.rounds.reversed, ORDERS[1]),
    ):
        found += _rows(cases_of, verdicts, order) if verdicts is not None else []
    return found


def _rows(cases: Sequence[Case], verdicts: Sequence[Verdict], order: str) -> list[dict[str, Any]]:
    found = []
    for case, verdict in zip(cases, verdicts, strict=True):
        for one in verdict.jury or (verdict,):
            row = {
                "question": case.question, "claim": case.claim, "importance": case.importance, "answer": case.answer,
                "judge": one.judge, "verdict": one.label, "reason": one.reason, "score": one.score, "order": order,
                "raw": one.raw,
            }  # fmt: skip
            found.append({key: value for key, value in row.items() if value is not None})
    return found
