"""From claim items to an Inspect task, with its jury, its verdict file, and what of that file speaks of no item."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.dataset import Sample

from medbench.benchmark import prompts
from medbench.benchmark.task import Loaded, Settings, benchmark_task, floor_references, to_sample, user_file
from medbench.claims import card
from medbench.claims.files import listed, listed_words, read_verdicts, unmatched
from medbench.claims.items import ClaimItem, other_items
from medbench.claims.judges import jury_of
from medbench.claims.lexical import NAME as LEXICAL
from medbench.claims.scorer import claim_entailment
from medbench.files.manifest import sha256_file
from medbench.refusal.scorer import declined
from medbench.scoring.overlap import surface_overlap
from medbench.scoring.trace import trace_statistics
from medbench.sources.records import BadRows, Record, read_records

logger = logging.getLogger(__name__)
# Columns of a file with one claim a row, such as K-QA's physicians' labels.
_LONG = ("question", "claim", "importance", "reference_answer")


def claims_task(
    loaded: Loaded,
    settings: Settings,
    *,
    name: str,
    version: int,
    judge: str | Sequence[str] | None = None,
    verdicts: str | None = None,
    tie: str = "unscored",
    views: str | Sequence[str] = "answer",
    floor: bool | None = None,
    calibration: str | None = None,
) -> Task:
    """Free-text answers judged claim by claim, with surface scores, refusals and traces beside.

    Args:
        loaded: items that are `ClaimItem`s.
        judge, verdicts, tie, views, floor: see `claim_entailment`.
        calibration: the judge's card, whose line reports print; None takes the shipped one for `lexical`.

    Raises:
        MedbenchError: no such judge, or a verdict file that speaks of none of these items.
    """
    items = [item for item in loaded.items if isinstance(item, ClaimItem)]
    assert len(items) == len(loaded.items)
    jury = jury_of(judge, None if verdicts is None else user_file(verdicts), tie)
    if jury.name == LEXICAL:
        logger.warning(
            "%s: judged by words in common (`lexical`), which finds no contradiction. Name a model with "
            "-T judge=PROVIDER/MODEL, or a file with -T verdicts=FILE.",
            name,
        )
    samples = [
        _sample(item, other, reference, settings)
        for item, other, reference in zip(items, other_items(items), floor_references(items), strict=True)
    ]
    judged: dict[str, Any] = {
        "judge": jury.name,
        "judges": [one.name for one in jury.judges],
        "judge_line": _card_line(jury.name, calibration),
        "tie": tie,
        "claims": _counts(items),
    }
    if verdicts is not None:
        judged["verdicts"] = _about_file(verdicts, items)
    return benchmark_task(
        loaded,
        samples,
        name=name,
        version=version,
        settings=settings,
        scorers=[
            claim_entailment(judge, verdicts, tie, views, floor),
            surface_overlap(),
            declined(),
            trace_statistics(),
        ],
        headline="claim_entailment.comprehensiveness/answer",
        extra=judged,
    )


def _sample(item: ClaimItem, other: ClaimItem | None, reference: tuple[str, ...], settings: Settings) -> Sample:
    sample = to_sample(item, prompts.plain, item.reference, settings, floor_reference=reference)
    if other is not None:
        parts = {"question": other.question, "must_have": other.must_have, "nice_to_have": other.nice_to_have}
        sample.metadata = {
            **(sample.metadata or {}),
            "floor_item": {k: v if k == "question" else list(v) for k, v in parts.items()},
        }
    return sample


def _card_line(judge: str, calibration: str | None) -> str | None:
    if calibration is not None:
        return card.line(card.load(user_file(calibration)))
    return card.line(card.lexical_card()) if judge == LEXICAL else None


def _counts(items: Sequence[ClaimItem]) -> dict[str, int]:
    return {
        "must_have": sum(len(item.must_have) for item in items),
        "nice_to_have": sum(len(item.nice_to_have) for item in items),
    }


def _about_file(verdicts: str, items: Sequence[ClaimItem]) -> dict[str, Any]:
    """What a log says of its verdict file: rows that speak of no item, unknown labels, claims it says nothing of."""
    path = user_file(verdicts)
    file = read_verdicts(path)
    lines = unmatched(file, [item.to_metadata() for item in items])
    if lines:
        logger.warning("%s: %d of %d verdicts speak of no claim of these items; the first: %s", verdicts, len(lines),
                       len(file.rows), lines[0])  # fmt: skip
    if file.strange:
        logger.warning("%s: unknown labels, which judge nothing: %s", verdicts, listed_words(file.strange))
    return {
        "file": str(verdicts),
        "sha256": sha256_file(path),
        "rows": len(file.rows),
        "judges": file.judges,
        "unknown_labels": dict(file.strange),
        "unmatched": len(lines),
        "unmatched_rows": listed(lines),
        "names_answers": file.has_answers(),
    }


def read_claim_rows(
    source: str | Path, *, bad_rows: BadRows | None = None, encoding: str = "utf-8"
) -> Iterator[Record]:
    """K-QA's rows from its own JSON lines, or from a file with one claim a row.

    The latter has `question, claim, importance, reference_answer` (further columns are ignored): K-QA's file of
    physicians' labels with the reference answers. Its rows of one question become one row of K-QA's.

    Raises:
        BadRow: two reference answers to one question, or another importance.
    """
    records: Iterable[Record] = read_records(source, bad_rows=bad_rows, encoding=encoding)
    rows = iter(records)
    first = next(rows, None)
    if first is None:
        return
    if not set(_LONG) <= set(first.data):
        yield first
        yield from rows
        return
    grouped: dict[str, dict[str, Any]] = {}
    where: dict[str, Record] = {}
    for record in (first, *rows):
        question = record.text("question")
        reference = record.text("reference_answer", empty_ok=True)
        row = grouped.setdefault(
            question, {"Question": question, "Free_form_answer": reference, "Must_have": [], "Nice_to_have": []}
        )
        where.setdefault(question, record)
        if row["Free_form_answer"] != reference:
            raise record.error("reference_answer", f"differs from that of {where[question].row}, the same question")
        importance = record.text("importance")
        if importance not in ("Must_have", "Nice_to_have"):
            raise record.error("importance", f"expected Must_have or Nice_to_have, found {importance!r}")
        claim = record.text("claim")
        if claim not in row[importance]:  # a claim stands once per model that was judged
            row[importance].append(claim)
    for question, row in grouped.items():
        yield dataclasses.replace(where[question], data=row)
